//! Damaged files: a torn tail is cut, anything else is reported with its place, nothing is ever silently shorter.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::{directory, on_tokio, open, segments, spawn_part};
use in_mem::prelude::*;

const RUN: RunId = RunId::from_bytes([9; 16]);

async fn append(path: &Path, count: u64) {
    let database = open(path, DurabilityMode::Strict, 1).await;
    for _ in 0..count {
        database.events().append(RUN, "step", "payload").await.expect("the event is appended");
    }
    database.close().await.expect("the database closes");
}

/// Appends in a child process that dies without closing anything.
fn append_and_die(test: &str, path: &Path) {
    let output = spawn_part(test, "writer", path).wait_with_output().expect("the child ends");
    assert_eq!(output.status.code(), Some(77), "{}", String::from_utf8_lossy(&output.stderr));
}

fn play_writer(count: u64) -> bool {
    let Some((_, path)) = crate::support::part() else { return false };
    on_tokio(async {
        let database = open(&path, DurabilityMode::Strict, 1).await;
        for _ in 0..count {
            database.events().append(RUN, "step", "payload").await.expect("the event is appended");
        }
        std::process::exit(77);
    })
}

fn flip(file: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("the file opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("the byte is read");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("the byte is written");
}

async fn events(path: &Path) -> Result<u64> {
    let database = Database::open(path).await?;
    let count = database.events().len(RUN).await?;
    assert!(database.events().verify_chain(RUN).await?.is_valid);
    database.close().await?;
    Ok(count)
}

fn assert_names_the_place(result: Result<u64>, file: &Path) {
    let error = result.expect_err("a damaged database does not open");
    let message = error.to_string();
    assert!(matches!(error, Error::Corruption(_)), "{message}");
    let name = file.file_name().and_then(|name| name.to_str()).expect("the file has a name");
    assert!(message.contains(name) && message.contains("offset="), "{message}");
}

#[test]
fn a_flipped_byte_in_the_middle_of_a_closed_log_is_refused_with_its_place() {
    on_tokio(async {
        let directory = directory();
        append(directory.path(), 20).await;
        let file = segments(directory.path()).pop().expect("there is a segment");
        flip(&file, 4096 * 8 + 100);
        assert_names_the_place(events(directory.path()).await, &file);
        flip(&file, 4096 * 8 + 100);
        assert_eq!(events(directory.path()).await.expect("mended, it opens"), 20);
    });
}

#[test]
fn a_flipped_byte_after_a_crash_is_refused_with_its_place() {
    if play_writer(20) {
        return;
    }
    let directory = directory();
    append_and_die("corruption::a_flipped_byte_after_a_crash_is_refused_with_its_place", directory.path());
    let file = segments(directory.path()).pop().expect("there is a segment");
    flip(&file, 4096 * 8 + 100);
    assert_names_the_place(on_tokio(events(directory.path())), &file);
}

#[test]
fn appending_after_a_torn_tail_and_reopening_twice_loses_nothing() {
    if play_writer(10) {
        return;
    }
    let directory = directory();
    append_and_die("corruption::appending_after_a_torn_tail_and_reopening_twice_loses_nothing", directory.path());
    // The last batch of the dead process is torn: its first sector never reached the disk, a later one did.
    let file = segments(directory.path()).pop().expect("there is a segment");
    let torn = OpenOptions::new().write(true).open(&file).expect("the file opens");
    torn.write_all_at(&[0xee; 300], 4096 * 11 + 512).expect("the garbage is written");
    on_tokio(async {
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        assert_eq!(database.last_recovery().torn_tails, 1);
        assert_eq!(database.events().len(RUN).await.expect("the length is read"), 10);
        database.close().await.expect("the database closes");
        append(directory.path(), 10).await;
        for _ in 0..2 {
            assert_eq!(events(directory.path()).await.expect("the database opens"), 20);
        }
    });
}

#[test]
fn a_damaged_or_missing_manifest_is_refused() {
    on_tokio(async {
        let directory = directory();
        append(directory.path(), 3).await;
        let manifest = directory.path().join("MANIFEST");
        flip(&manifest, 40);
        assert_names_the_place(events(directory.path()).await, &manifest);
        flip(&manifest, 40);
        std::fs::remove_file(&manifest).expect("the manifest is removed");
        let error = events(directory.path()).await.expect_err("a log without a manifest does not open");
        assert!(matches!(error, Error::Corruption(_)), "{error}");
    });
}

#[test]
fn a_missing_segment_is_refused() {
    on_tokio(async {
        let directory = directory();
        append(directory.path(), 3).await;
        append(directory.path(), 3).await;
        let first = segments(directory.path()).remove(0);
        std::fs::remove_file(&first).expect("the segment is removed");
        let error = events(directory.path()).await.expect_err("a database without a part of it does not open");
        assert!(error.to_string().contains("cannot read"), "{error}");
    });
}

#[test]
fn a_flipped_byte_in_the_very_last_batch_of_a_dead_process_is_refused() {
    if play_writer(10) {
        return;
    }
    let directory = directory();
    append_and_die("corruption::a_flipped_byte_in_the_very_last_batch_of_a_dead_process_is_refused", directory.path());
    let file = segments(directory.path()).pop().expect("there is a segment");
    flip(&file, 4096 * 10 + 100);
    assert_names_the_place(on_tokio(events(directory.path())), &file);
}

/// A copy of a database, so that each damage meets the same files.
fn copy(path: &Path) -> tempfile::TempDir {
    let copy = directory();
    std::fs::create_dir(copy.path().join("log")).expect("the directory is made");
    let manifest = Path::new("MANIFEST").to_path_buf();
    let logs = segments(path).into_iter().map(|file| file.strip_prefix(path).expect("it is below").to_path_buf());
    for file in logs.chain([manifest]) {
        std::fs::copy(path.join(&file), copy.path().join(&file)).expect("the file is copied");
    }
    copy
}

// Every byte and every length are tried below the threads, in src/api/every_byte.rs. Here a sample is opened.

#[test]
fn a_log_that_is_cut_off_anywhere_is_refused_with_its_place() {
    if play_writer(6) {
        return;
    }
    let dead = directory();
    append_and_die("corruption::a_log_that_is_cut_off_anywhere_is_refused_with_its_place", dead.path());
    on_tokio(async {
        let closed = directory();
        append(closed.path(), 6).await;
        for original in [dead.path(), closed.path()] {
            // Where batches end and inside them; at the end of each, nothing else tells that there was another.
            for length in [0, 63, 4096, 4096 * 2, 4096 * 4, 4096 * 4 + 100, 4096 * 6] {
                let copy = copy(original);
                let file = segments(copy.path()).pop().expect("there is a segment");
                let cut = OpenOptions::new().write(true).open(&file).expect("the file opens");
                cut.set_len(length).expect("the file is cut off");
                assert_names_the_place(events(copy.path()).await, &file);
            }
        }
    });
}

#[test]
fn a_flipped_byte_anywhere_loses_nothing_or_is_refused_with_its_place() {
    if play_writer(6) {
        return;
    }
    let dead = directory();
    append_and_die("corruption::a_flipped_byte_anywhere_loses_nothing_or_is_refused_with_its_place", dead.path());
    on_tokio(async {
        for at in (0..4096 * 8).step_by(1531).chain([8, 4096 * 2 + 4, 4096 * 6 + 63]) {
            let copy = copy(dead.path());
            let file = segments(copy.path()).pop().expect("there is a segment");
            flip(&file, at);
            match events(copy.path()).await {
                Ok(first) => {
                    let second = events(copy.path()).await.expect("what was opened is opened again");
                    assert_eq!((first, second), (6, 6), "flipped byte {at}");
                }
                refused => assert_names_the_place(refused, &file),
            }
        }
    });
}
