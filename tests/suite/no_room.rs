//! No room: limits and full disks refuse writes with an error that says what to do, reads go on, nothing acknowledged is
//! lost, and writes go on when there is room again. Children have the limits, as root and as an unprivileged user.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::mount::on_small_disks;
use crate::support::seccomp::refuse;
use crate::support::{BUFFERED, as_nobody, directory, on_tokio, open, output_of, part, part_of, spawn_part};
use in_mem::DatabaseHealth;
use in_mem::prelude::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const RUN: RunId = RunId::from_bytes([1; 16]);
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Lowers or raises the soft limit of this process.
fn limit(resource: Resource, soft: Option<u64>) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: soft, maximum }).expect("a soft limit can be changed");
}

fn unlimited(resource: Resource) {
    limit(resource, getrlimit(resource).maximum);
}

/// Plays the part of a child if this process is one; otherwise starts it, and a second one as an unprivileged user if
/// this one may do that.
fn in_a_child<F: Future<Output = ()>>(test: &str, body: impl FnOnce(PathBuf) -> F) {
    if let Some((_, path)) = part() {
        return on_tokio(body(path));
    }
    let own = directory();
    output_of(spawn_part(test, "child", own.path()));
    let other = directory();
    match as_nobody(part_of(test, "nobody", other.path()), other.path()) {
        Ok(child) => drop(output_of(child)),
        Err(why) => println!("not tried as an unprivileged user: {why}"),
    }
}

/// What was written, and must be there.
#[derive(Default)]
struct Acknowledged(BTreeMap<String, usize>);

impl Acknowledged {
    async fn put(&mut self, database: &Database, key: String, bytes: usize) -> Result<()> {
        database.kv().put(RUN, key.as_str(), vec![7_u8; bytes]).await?;
        self.0.insert(key, bytes);
        Ok(())
    }

    /// Writes until it is refused, and says why.
    async fn fill(&mut self, database: &Database, start: &str, bytes: usize) -> Error {
        for number in 0..10_000 {
            if let Err(error) = self.put(database, format!("{start}-{number}"), bytes).await {
                return error;
            }
        }
        panic!("it is never full");
    }

    /// Everything is there, and nothing else is.
    async fn assert_there(&self, database: &Database) {
        let found = database.kv().list_with_values(RUN, None).await.expect("reads go on");
        let found = found.into_iter().map(|(key, value)| (key, value.as_bytes().map_or(0, <[u8]>::len)));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), self.0);
    }

    /// Writes go on, by themselves and soon.
    async fn assert_resumes(&mut self, database: &Database, key: &str, bytes: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = self.put(database, key.into(), bytes).await {
            assert!(Instant::now() < deadline, "writes do not go on: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Another shard may not have tried again yet.
        while database.info().health != DatabaseHealth::Healthy {
            assert!(Instant::now() < deadline, "it is not well: {:?}", database.info().health);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[track_caller]
fn assert_refused(error: &Error, kind: Option<ErrorKind>, advice: &str) {
    let Error::Io(inner) = error else { panic!("{error:?}") };
    assert!(kind.is_none_or(|kind| inner.kind() == kind), "{inner:?}");
    let text = error.to_string();
    for part in [advice, "left no trace", "writes go on when there is room", "file="] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

const DURABLE: [DurabilityMode; 2] = [DurabilityMode::Strict, BUFFERED];

#[test]
fn a_limit_of_file_sizes_refuses_writes_until_it_is_raised() {
    in_a_child("no_room::a_limit_of_file_sizes_refuses_writes_until_it_is_raised", |path| async move {
        for (number, mode) in DURABLE.into_iter().enumerate() {
            let path = path.join(number.to_string());
            let mut acknowledged = Acknowledged::default();
            limit(Resource::Fsize, Some(512 << 10));
            let database = open(&path, mode, 2).await;
            let refused = acknowledged.put(&database, "first".into(), 10).await.expect_err("no segment can be made");
            assert_refused(&refused, Some(ErrorKind::FileTooLarge), "ulimit -f");
            assert!(matches!(database.info().health, DatabaseHealth::Short(why) if why.contains("ulimit -f")));
            acknowledged.assert_there(&database).await;
            unlimited(Resource::Fsize);
            acknowledged.assert_resumes(&database, "first", 10).await;
            database.close().await.expect("it closes in good order");
            acknowledged.assert_there(&open(&path, mode, 1).await).await;
        }
    });
}

#[test]
fn below_a_limit_of_file_sizes_segments_stay_small_and_the_database_grows() {
    in_a_child("no_room::below_a_limit_of_file_sizes_segments_stay_small_and_the_database_grows", |path| async move {
        let mut acknowledged = Acknowledged::default();
        limit(Resource::Fsize, Some(3 << 20));
        let database = open(&path, DurabilityMode::Strict, 1).await;
        for number in 0..30 {
            acknowledged.put(&database, number.to_string(), 400 * KIB).await.expect("there is room");
        }
        let large = acknowledged.put(&database, "large".into(), 4 * MIB).await.expect_err("no segment is so large");
        assert_refused(&large, Some(ErrorKind::FileTooLarge), "ulimit -f");
        acknowledged.put(&database, "small".into(), 10).await.expect("there is room");
        acknowledged.assert_there(&database).await;
        database.close().await.expect("it closes in good order");
        acknowledged.assert_there(&open(&path, DurabilityMode::Strict, 1).await).await;
    });
}

#[test]
fn a_write_that_fails_stops_all_further_ones_and_is_reported_with_its_reason() {
    in_a_child(
        "no_room::a_write_that_fails_stops_all_further_ones_and_is_reported_with_its_reason",
        |path| async move {
            for (number, mode) in DURABLE.into_iter().enumerate() {
                let path = path.join(number.to_string());
                let database = open(&path, mode, 1).await;
                let mut acknowledged = Acknowledged::default();
                acknowledged.put(&database, "before".into(), 100).await.expect("it is written");
                database.flush().await.expect("it is on disk");
                // Behind the segment's making: the device refuses what it had taken, as a broken one does.
                limit(Resource::Fsize, Some(8 << 10));
                let fails = async {
                    database.kv().put(RUN, "during", 1).await?;
                    database.flush().await
                };
                let failed = fails.await.expect_err("it is not written");
                let fits = if mode == DurabilityMode::Strict {
                    matches!(failed, Error::CommitUnknown(_))
                } else {
                    matches!(failed, Error::Unavailable(_))
                };
                assert!(fits, "{failed:?}");
                let refused = database.kv().put(RUN, "after", 1).await.expect_err("nothing is written any more");
                assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
                for text in [failed.to_string(), refused.to_string()] {
                    assert!(text.contains("reopen the database") && text.contains("os error 27"), "{text}");
                    assert!(text.contains(".log"), "the file is named: {text}");
                }
                let health = database.info().health;
                assert!(matches!(&health, DatabaseHealth::Poisoned(why) if why.contains("os error 27")), "{health:?}");
                let before = database.kv().get(RUN, "before").await.expect("reads go on");
                assert_eq!(before, Some(vec![7_u8; 100].into()));
                if mode == DurabilityMode::Strict {
                    assert_eq!(database.kv().get(RUN, "during").await.expect("reads go on"), None);
                }
                unlimited(Resource::Fsize);
                let refused = database.kv().put(RUN, "later", 1).await;
                assert!(matches!(refused, Err(Error::Unavailable(_))), "what was poisoned stays so: {refused:?}");
                assert!(matches!(database.close().await, Err(Error::Unavailable(_))));
                let database = open(&path, mode, 1).await;
                let found = database.kv().list(RUN, None).await.expect("it is read");
                assert!(found == ["before"] || found == ["before", "during"], "{found:?}");
                acknowledged.put(&database, "again".into(), 10).await.expect("writes go on");
            }
        },
    );
}

fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").expect("the process knows its files").count() as u64 - 1
}

#[test]
fn too_few_files_refuse_writes_until_there_are_more() {
    in_a_child("no_room::too_few_files_refuse_writes_until_there_are_more", |path| async move {
        let database = open(&path, DurabilityMode::Strict, 1).await;
        let mut acknowledged = Acknowledged::default();
        acknowledged.put(&database, "before".into(), 10).await.expect("it is written");
        limit(Resource::Nofile, Some(3));
        let refused = acknowledged.fill(&database, "many", 100 * KIB).await;
        assert_refused(&refused, None, "ulimit -n");
        unlimited(Resource::Nofile);
        acknowledged.assert_there(&database).await;
        acknowledged.assert_resumes(&database, "after", 100 * KIB).await;
        database.close().await.expect("it closes in good order");
        acknowledged.assert_there(&open(&path, DurabilityMode::Strict, 2).await).await;
    });
}

#[test]
fn opening_with_too_few_files_is_an_error_that_says_so() {
    in_a_child("no_room::opening_with_too_few_files_is_an_error_that_says_so", |path| async move {
        let mut refused = 0;
        for more in 0..60 {
            limit(Resource::Nofile, Some(open_files() + more));
            let opened = Database::builder().path(&path).shards(2).open().await;
            unlimited(Resource::Nofile);
            match opened {
                Ok(database) => {
                    database.kv().put(RUN, "key", 1).await.expect("it is written");
                    database.close().await.expect("it closes");
                }
                Err(error @ (Error::Io(_) | Error::RuntimeUnavailable(_))) => {
                    refused += 1;
                    assert!(error.to_string().contains("ulimit -n"), "{more} more: {error}");
                }
                Err(error) => panic!("{more} more: {error}"),
            }
        }
        assert!(refused > 0);
        open(&path, DurabilityMode::Strict, 1).await.kv().get(RUN, "key").await.expect("it is read");
    });
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    on_small_disks("no_room::a_full_disk_refuses_writes_until_there_is_room", 48, |mount| {
        for mode in DURABLE {
            on_tokio(async {
                let path = mount.path().join("database");
                let database = open(&path, mode, 2).await;
                let mut acknowledged = Acknowledged::default();
                acknowledged.put(&database, "before".into(), 10).await.expect("there is room");
                mount.use_up(3 << 20);
                let refused = acknowledged.fill(&database, "many", 100 * KIB).await;
                assert_refused(&refused, Some(ErrorKind::StorageFull), "make room");
                let large = acknowledged.put(&database, "large".into(), 10 * MIB).await.expect_err("there is no room");
                assert_refused(&large, Some(ErrorKind::StorageFull), "make room");
                let run = RunId::from_bytes([2; 16]);
                let transaction = database.transaction_across([RUN, run], async |txn| {
                    txn.run(RUN).kv_put("left", vec![7_u8; 200 * KIB]).await?;
                    txn.run(run).kv_put("right", vec![7_u8; 200 * KIB]).await
                });
                let refused = transaction.await.expect_err("there is no room");
                assert_refused(&refused, Some(ErrorKind::StorageFull), "make room");
                assert_eq!(database.kv().count(run, None).await.expect("reads go on"), 0);
                acknowledged.assert_there(&database).await;
                mount.make_room();
                acknowledged.assert_resumes(&database, "after", 100 * KIB).await;
                acknowledged.assert_resumes(&database, "large", 10 * MIB).await;
                database.close().await.expect("it closes in good order");
                acknowledged.assert_there(&open(&path, mode, 1).await).await;
                std::fs::remove_dir_all(&path).expect("it is removed");
            });
        }
    });
}

#[test]
fn a_database_on_a_full_disk_loses_nothing_when_it_is_closed_there_or_opened() {
    let test = "no_room::a_database_on_a_full_disk_loses_nothing_when_it_is_closed_there_or_opened";
    on_small_disks(test, 32, |mount| {
        on_tokio(async {
            let path = mount.path().join("database");
            let mut acknowledged = Acknowledged::default();
            let database = open(&path, DurabilityMode::Strict, 1).await;
            for number in 0..20 {
                acknowledged.put(&database, number.to_string(), 10 * KIB).await.expect("there is room");
            }
            mount.use_up_all();
            let closed = database.close().await;
            println!("closed on a full disk: {closed:?}");
            assert!(matches!(closed, Ok(()) | Err(Error::Io(_))), "{closed:?}");
            match Database::open(&path).await {
                Ok(database) => acknowledged.assert_there(&database).await,
                Err(Error::Io(error)) => {
                    assert!(error.to_string().contains("make room"), "{error}");
                    let reader = Database::builder().path(&path).read_only(true).open().await.expect("it can be read");
                    acknowledged.assert_there(&reader).await;
                }
                Err(error) => panic!("{error}"),
            }
            mount.make_room();
            let database = open(&path, DurabilityMode::Strict, 2).await;
            acknowledged.assert_there(&database).await;
            acknowledged.assert_resumes(&database, "after", 100).await;
        });
    });
}

#[test]
fn a_snapshot_that_has_no_room_leaves_none_of_itself_and_is_taken_when_there_is_some() {
    let test = "no_room::a_snapshot_that_has_no_room_leaves_none_of_itself_and_is_taken_when_there_is_some";
    on_small_disks(test, 48, |mount| {
        on_tokio(async {
            let path = mount.path().join("database");
            let database = open(&path, DurabilityMode::Strict, 1).await;
            let mut acknowledged = Acknowledged::default();
            for number in 0..30 {
                acknowledged.put(&database, number.to_string(), 200 * KIB).await.expect("there is room");
            }
            let first = database.checkpoint().await.expect("there is room");
            mount.use_up(1 << 20);
            for _ in 0..3 {
                let refused = database.checkpoint().await.expect_err("there is no room");
                let Error::Io(error) = &refused else { panic!("{refused}") };
                assert!(error.kind() == ErrorKind::StorageFull && error.to_string().contains("make room"), "{error}");
            }
            assert_eq!(database.list_snapshots().await.expect("listed").last(), Some(&first));
            let files = std::fs::read_dir(path.join("snapshots")).expect("it is listed").count();
            assert_eq!(files, 1, "what was written of the others is gone");
            acknowledged.assert_there(&database).await;
            mount.make_room();
            assert!(database.checkpoint().await.expect("there is room").version > first.version);
            acknowledged.assert_resumes(&database, "after", 100 * KIB).await;
            database.close().await.expect("it closes in good order");
            acknowledged.assert_there(&open(&path, DurabilityMode::Strict, 2).await).await;
        });
    });
}

#[test]
fn a_backup_onto_a_full_or_read_only_disk_is_refused_and_the_database_goes_on() {
    let test = "no_room::a_backup_onto_a_full_or_read_only_disk_is_refused_and_the_database_goes_on";
    on_small_disks(test, 32, |mount| {
        on_tokio(async {
            let database = open(&mount.elsewhere().join("database"), DurabilityMode::Strict, 2).await;
            let mut acknowledged = Acknowledged::default();
            for number in 0..40 {
                acknowledged.put(&database, number.to_string(), 100 * KIB).await.expect("there is room");
            }
            let copy = mount.path().join("copy");
            let left = || std::fs::remove_dir_all(&copy).expect("what is left is removed");
            for but in [Some(3 << 20), Some(64 << 10), None] {
                but.map_or_else(|| mount.use_up_all(), |but| mount.use_up(but));
                let refused = database.backup(&copy).await.expect_err("there is no room");
                assert!(matches!(&refused, Error::Io(error) if error.kind() == ErrorKind::StorageFull), "{refused}");
                let message = refused.to_string();
                assert!(message.contains("make room") && message.contains("file="), "{message}");
                mount.make_room();
                if copy.exists() {
                    let opened = Database::open(&copy).await.expect_err("it is not whole");
                    assert!(matches!(opened, Error::Corruption(_)), "{opened}");
                    left();
                }
                acknowledged.put(&database, "more".into(), 100 * KIB).await.expect("the database goes on");
            }
            mount.remount("ro");
            let refused = database.backup(&copy).await.expect_err("nothing can be written");
            assert!(matches!(&refused, Error::Io(error) if error.kind() == ErrorKind::ReadOnlyFilesystem), "{refused}");
            assert!(refused.to_string().contains("mount it writable"), "{refused}");
            mount.remount("rw");
            acknowledged.assert_there(&database).await;
            assert_eq!(database.info().health, DatabaseHealth::Healthy);
            database.backup(&copy).await.expect("there is room");
            acknowledged.assert_there(&open(&copy, DurabilityMode::Strict, 1).await).await;
            left();
            database.close().await.expect("it closes in good order");
        });
    });
}

#[test]
fn a_read_only_file_system_can_be_read_and_says_what_to_do_when_written() {
    let test = "no_room::a_read_only_file_system_can_be_read_and_says_what_to_do_when_written";
    on_small_disks(test, 32, |mount| {
        on_tokio(async {
            let path = mount.path().join("database");
            let mut acknowledged = Acknowledged::default();
            let database = open(&path, DurabilityMode::Strict, 1).await;
            acknowledged.put(&database, "key".into(), 10).await.expect("it is written");
            database.close().await.expect("it closes");
            for has_lock in [true, false] {
                if !has_lock {
                    mount.remount("rw");
                    std::fs::remove_file(path.join("LOCK")).expect("the lock's file is there");
                }
                mount.remount("ro");
                let refused = Database::open(&path).await.expect_err("nothing can be written");
                assert!(
                    matches!(&refused, Error::Io(error) if error.kind() == ErrorKind::ReadOnlyFilesystem),
                    "{refused}"
                );
                assert!(refused.to_string().contains("read_only(true)"), "{refused}");
                let reader = Database::builder().path(&path).read_only(true).open().await.expect("it can be read");
                acknowledged.assert_there(&reader).await;
                let refused = reader.kv().put(RUN, "more", 1).await;
                assert!(matches!(refused, Err(Error::InvalidOperation(_))), "{refused:?}");
            }
            let elsewhere = Database::open(mount.path().join("new")).await.expect_err("nothing can be made");
            assert!(elsewhere.to_string().contains("mount it writable"), "{elsewhere}");
        });
    });
}

#[test]
fn a_quota_refuses_writes_and_nothing_is_lost() {
    for (number, mode) in DURABLE.into_iter().enumerate() {
        if let Some((part, path)) = part() {
            if part != number.to_string() {
                continue;
            }
            on_tokio(async {
                let database = open(&path, mode, 2).await;
                let mut acknowledged = Acknowledged::default();
                acknowledged.put(&database, "before".into(), 10).await.expect("there is room");
                database.flush().await.expect("every shard has a segment");
                // As the kernel answers whoever asks for more room than his quota gives.
                refuse(libc::SYS_fallocate, libc::EDQUOT);
                let refused = acknowledged.fill(&database, "many", 100 * KIB).await;
                assert_refused(&refused, Some(ErrorKind::QuotaExceeded), "the quota is used up, make room or raise it");
                let health = database.info().health;
                assert!(matches!(&health, DatabaseHealth::Short(why) if why.contains("quota")), "{health:?}");
                acknowledged.assert_there(&database).await;
                println!("\nacknowledged {}", acknowledged.0.len());
                database.close().await.expect("it closes in good order");
            });
            continue;
        }
        let directory = directory();
        let test = "no_room::a_quota_refuses_writes_and_nothing_is_lost";
        let printed = output_of(spawn_part(test, &number.to_string(), directory.path()));
        let acknowledged = printed.lines().find_map(|line| line.strip_prefix("acknowledged "));
        let acknowledged: u64 = acknowledged.expect("it says how many").parse().expect("it is a number");
        on_tokio(async {
            let database = open(directory.path(), mode, 1).await;
            assert_eq!(database.kv().count(RUN, None).await.expect("it is read"), acknowledged);
            database.kv().put(RUN, "after", vec![7_u8; MIB]).await.expect("there is room");
        });
    }
}

#[test]
fn what_this_user_may_not_do_is_an_error_that_says_so() {
    let test = "no_room::what_this_user_may_not_do_is_an_error_that_says_so";
    if let Some((part, path)) = part() {
        return on_tokio(async {
            if part == "nobody" {
                let refused = Database::open(path.join("closed")).await.expect_err("the directory is somebody else's");
                assert!(
                    matches!(&refused, Error::Io(error) if error.kind() == ErrorKind::PermissionDenied),
                    "{refused}"
                );
                assert!(refused.to_string().contains("change the owner or the mode"), "{refused}");
                let refused = Database::open(path.join("readable")).await.expect_err("it can only be read");
                assert!(refused.to_string().contains("change the owner or the mode"), "{refused}");
                let reader = Database::builder().path(path.join("readable")).read_only(true);
                let reader = reader.open().await.expect("it can be read");
                assert_eq!(reader.kv().get(RUN, "key").await.expect("it is read"), Some(1.into()));
            }
            let file = path.join("file");
            std::fs::write(&file, "no database").expect("a file is written");
            let refused = Database::open(&file).await.expect_err("this is no directory");
            assert!(matches!(&refused, Error::Io(error) if error.kind() == ErrorKind::NotADirectory), "{refused}");
            assert!(refused.to_string().contains("give another path"), "{refused}");
        });
    }
    let own = directory();
    output_of(spawn_part(test, "child", own.path()));
    let other = directory();
    on_tokio(async {
        let database = open(&other.path().join("readable"), DurabilityMode::Strict, 1).await;
        database.kv().put(RUN, "key", 1).await.expect("it is written");
        database.close().await.expect("it closes");
    });
    let closed = other.path().join("closed");
    std::fs::create_dir(&closed).expect("a directory is made");
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("it is ours");
    match as_nobody(part_of(test, "nobody", other.path()), other.path()) {
        Ok(child) => drop(output_of(child)),
        Err(why) => println!("not tried as an unprivileged user: {why}"),
    }
}

#[test]
fn a_directory_in_memory_works_or_says_why() {
    let shared = Path::new("/dev/shm");
    let Ok(directory) = tempfile::tempdir_in(shared) else {
        println!("skipped: nothing can be made in {}", shared.display());
        return;
    };
    on_tokio(async {
        let mut acknowledged = Acknowledged::default();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        for number in 0..20 {
            acknowledged.put(&database, number.to_string(), 100 * KIB).await.expect("it is written");
        }
        database.close().await.expect("it closes");
        acknowledged.assert_there(&open(directory.path(), DurabilityMode::Strict, 1).await).await;
    });
}
