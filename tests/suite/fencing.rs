//! The writes of a process that was killed: nobody reads a log before they have ended.
//!
//! `a_killed_process_is_waited_for_until_its_last_write_has_landed` needs root, cgroup v1 with `blkio` and a disk to
//! throttle: `cargo test --test suite fencing:: -- --ignored --nocapture`. On Linux only: the writes are those of its
//! kernel.
#![cfg(target_os = "linux")]

use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{directory, on_tokio, open, part, part_of, segments, spawn_part};
use in_mem::prelude::*;

const RUN: RunId = RunId::from_bytes([1; 16]);

async fn write_and_say_so(path: &Path) -> Database {
    let database = open(path, DurabilityMode::Strict, 1).await;
    database.kv().put(RUN, "key", 1).await.expect("the key is written");
    println!("written");
    database
}

/// A directory whose last process died; the lock of its segment is held as the kernel does while a write is under way.
fn killed(test: &str) -> (tempfile::TempDir, File) {
    let directory = directory();
    let child = spawn_part(test, "writer", directory.path());
    assert!(!child.wait_with_output().expect("the child ends").status.success());
    let segment = File::open(&segments(directory.path())[0]).expect("the segment opens");
    segment.lock().expect("no write is under way any more");
    (directory, segment)
}

async fn read(path: &Path, read_only: bool) -> Result<Option<Value>> {
    let database = Database::builder().path(path).shards(1).read_only(read_only).open().await?;
    let found = database.kv().get(RUN, "key").await;
    database.close().await?;
    found
}

#[test]
fn a_segment_is_locked_as_long_as_it_is_written() {
    on_tokio(async {
        let directory = directory();
        let database = write_and_say_so(directory.path()).await;
        let segment = File::open(&segments(directory.path())[0]).expect("the segment opens");
        assert!(matches!(segment.try_lock_shared(), Err(TryLockError::WouldBlock)));
        database.close().await.expect("the database closes");
        segment.try_lock().expect("the segment is free");
    });
}

#[test]
fn an_opening_waits_for_a_write_that_is_under_way() {
    let test = "fencing::an_opening_waits_for_a_write_that_is_under_way";
    if let Some((_, path)) = part() {
        on_tokio(async { std::mem::forget(write_and_say_so(&path).await) });
        std::process::abort();
    }
    let (directory, segment) = killed(test);
    let path = directory.path().to_owned();
    let opening = std::thread::spawn(move || on_tokio(read(&path, false)));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!opening.is_finished(), "it waits");
    segment.unlock().expect("the segment is unlocked");
    let found = opening.join().expect("the opening ends").expect("it opens");
    assert_eq!(found, Some(1.into()));
}

#[test]
fn an_opening_that_waits_too_long_says_for_what() {
    let test = "fencing::an_opening_that_waits_too_long_says_for_what";
    if let Some((_, path)) = part() {
        on_tokio(async { std::mem::forget(write_and_say_so(&path).await) });
        std::process::abort();
    }
    let (directory, segment) = killed(test);
    let late = on_tokio(read(directory.path(), true)).expect_err("a write is under way");
    assert!(matches!(&late, Error::Locked { path, .. } if path == directory.path()), "{late}");
    let said = late.to_string();
    assert!(said.contains("was killed") && said.contains("log/00000001-0000-000000.log"), "{said}");
    drop(segment);
    let found = on_tokio(read(directory.path(), false)).expect("it opens");
    assert_eq!(found, Some(1.into()));
}

/// Where groups of processes are throttled.
const GROUPS: &str = "/sys/fs/cgroup/blkio";

/// The first write of a kilobyte takes a second, so that of a block takes four.
fn throttle(process: u32, path: &Path) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let group = Path::new(GROUPS).join(format!("in-mem-fencing-{process}"));
    std::fs::create_dir(&group).expect("a group is made, as root");
    let device = std::fs::metadata(path).expect("the directory is there").dev();
    let limit = format!("{}:{} 1024", libc::major(device), libc::minor(device));
    std::fs::write(group.join("blkio.throttle.write_bps_device"), limit).expect("a limit is set");
    std::fs::write(group.join("cgroup.procs"), process.to_string()).expect("the process is moved");
    group
}

/// The lock on the directory is free at once. That on the segment is not, and the opening finds the write that landed.
#[test]
#[ignore = "needs root and cgroup v1: cargo test --test suite fencing:: -- --ignored --nocapture"]
fn a_killed_process_is_waited_for_until_its_last_write_has_landed() {
    let test = "fencing::a_killed_process_is_waited_for_until_its_last_write_has_landed";
    if let Some((_, path)) = part() {
        return on_tokio(async {
            let database = write_and_say_so(&path).await;
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).expect("the parent says when");
            let _write = database.kv().put(RUN, "key", 2).await;
        });
    }
    let directory = directory();
    let mut child = part_of(test, "writer", directory.path()).stdin(Stdio::piped()).spawn().expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("the child's output")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("written"))), "the child writes");
    let group = throttle(child.id(), directory.path());
    drop(child.stdin.take());
    std::thread::sleep(Duration::from_millis(500));
    child.kill().expect("the child is killed");
    let killed = Instant::now();
    let lock = File::open(directory.path().join("LOCK")).expect("the lock is there");
    lock.lock().expect("the directory is free");
    println!("the directory is free after {:?}", killed.elapsed());
    lock.unlock().expect("it is unlocked");
    let segment = &segments(directory.path())[0];
    let before = std::fs::read(segment).expect("the segment is read");
    let found = on_tokio(read(directory.path(), true)).expect("it opens");
    println!("opened after {:?}, and found {found:?}", killed.elapsed());
    let after = std::fs::read(segment).expect("the segment is read");
    println!("the segment changed meanwhile: {}", before != after);
    child.wait().expect("the child has ended");
    std::fs::remove_dir(group).expect("the group is removed");
    assert!(before != after && found == Some(2.into()), "the write landed behind the kill and was waited for");
}
