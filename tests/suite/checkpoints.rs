//! Checkpoints: snapshots of the whole database that recovery starts from, and the log that they replace.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{directory, on_tokio, part, segments, spawn_part};
use in_mem::prelude::*;
use in_mem::{DatabaseBuilder, Error, HistoryRetention, Partitioning, SnapshotConfig};

const RUN: RunId = RunId::from_bytes([9; 16]);
const NEVER: SnapshotConfig = SnapshotConfig { log_bytes: None, interval: None, on_close: false };

fn builder(path: &Path, shards: usize) -> DatabaseBuilder {
    Database::builder().path(path).durability(MODE).shards(shards).snapshots(NEVER)
}

const MODE: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 5, max_pending_writes: 100_000 };

async fn open(path: &Path, shards: usize) -> Database {
    builder(path, shards).open().await.expect("it opens")
}

/// Writes something in several runs, over the shards.
async fn write(database: &Database, round: i64) {
    for run in (1..9).map(|byte| RunId::from_bytes([byte; 16])) {
        for key in 0..20 {
            database.kv().put(run, format!("key-{key}"), round * 100 + key).await.expect("it is written");
        }
        database.events().append(run, "round", round).await.expect("it is appended");
        database.states().set(run, "round", round).await.expect("it is set");
    }
    let both = [RunId::from_bytes([1; 16]), RunId::from_bytes([2; 16])];
    let put = |transaction: MultiTransaction| async move {
        for run in both {
            transaction.run(run).kv_put("both", round).await?;
        }
        Ok(())
    };
    database.transaction_across(both, put).await.expect("it is committed");
}

async fn contents(database: &Database) -> String {
    let mut all = Vec::new();
    for run in (1..9).map(|byte| RunId::from_bytes([byte; 16])) {
        all.push((
            database.kv().list_with_values(run, None).await.expect("listed"),
            database.kv().history(run, "key-3").await.expect("read"),
            database.events().read_by_type(run, "round").await.expect("read"),
            database.states().read(run, "round").await.expect("read"),
        ));
    }
    format!("{all:?}")
}

fn snapshots(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path.join("snapshots")).expect("it is listed");
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.expect("it is listed").path()).collect();
    all.sort();
    all
}

fn bytes_in(path: &Path) -> u64 {
    let length = |path: &PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    segments(path).iter().chain(&snapshots(path)).map(length).sum()
}

/// Whether any file has these bytes in it.
fn holds(path: &Path, marker: &str) -> bool {
    let files = [segments(path), snapshots(path), vec![path.join("MANIFEST")]].concat();
    let has = |file: &PathBuf| {
        let bytes = std::fs::read(file).expect("it is read");
        bytes.windows(marker.len()).any(|window| window == marker.as_bytes())
    };
    files.iter().any(has)
}

#[test]
fn recovery_starts_from_the_newest_snapshot_and_the_log_before_the_one_before_is_gone() {
    on_tokio(async {
        let root = directory();
        let database = open(root.path(), 2).await;
        write(&database, 1).await;
        let first = database.checkpoint().await.expect("it is taken");
        write(&database, 2).await;
        let second = database.checkpoint().await.expect("it is taken");
        write(&database, 3).await;
        let third = database.checkpoint().await.expect("it is taken");
        assert!(
            first.id < second.id && second.version < third.version && third.keys >= second.keys && first.keys > 160
        );
        assert_eq!(database.list_snapshots().await.expect("listed"), [second.clone(), third.clone()]);
        assert_eq!(snapshots(root.path()).len(), 4, "two files each");
        let names: Vec<PathBuf> = segments(root.path());
        assert!(names.iter().all(|name| !name.ends_with("00000001-0000-000000.log")), "{names:?}");
        write(&database, 4).await;
        let expected = contents(&database).await;
        database.close().await.expect("it closes");
        for shards in [2, 3, 1, 2] {
            let database = open(root.path(), shards).await;
            let report = database.last_recovery();
            assert_eq!(report.snapshot, Some(third.version));
            assert!(report.damaged_snapshots.is_empty());
            assert!(contents(&database).await == expected, "{shards} shards");
            database.close().await.expect("it closes");
        }
    });
}

#[test]
fn a_damaged_snapshot_is_replaced_by_the_one_before_and_the_log() {
    on_tokio(async {
        for (shards, partitioning) in [(2, Partitioning::ByRun), (3, Partitioning::ByKey)] {
            let root = directory();
            let database = open(root.path(), 2).await;
            for round in 1..4 {
                write(&database, round).await;
                database.checkpoint().await.expect("it is taken");
            }
            write(&database, 4).await;
            let expected = contents(&database).await;
            let [older, newer] = &database.list_snapshots().await.expect("listed")[..] else { panic!("two are kept") };
            database.close().await.expect("it closes");
            let newest = snapshots(root.path()).pop().expect("there is one");
            let mut bytes = std::fs::read(&newest).expect("it is read");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&newest, bytes).expect("it is written");
            let reopen = || builder(root.path(), shards).partitioning(partitioning).open();
            let database = reopen().await.expect("it opens");
            let report = database.last_recovery();
            assert_eq!(report.snapshot, Some(older.version));
            let [damage] = &report.damaged_snapshots[..] else { panic!("one is damaged: {report:?}") };
            assert!(damage.contains(newest.file_name().unwrap().to_str().unwrap()), "{damage}");
            assert!(contents(&database).await == expected);
            let again = database.checkpoint().await.expect("it is taken");
            assert!(again.id > newer.id);
            database.close().await.expect("it closes");
            let database = reopen().await.expect("it opens");
            assert!(database.last_recovery().damaged_snapshots.is_empty());
            assert!(contents(&database).await == expected);
            database.close().await.expect("it closes");
            for file in snapshots(root.path()) {
                std::fs::write(file, "nothing").expect("it is written");
            }
            let error = reopen().await.expect_err("nothing is left to start from");
            assert!(matches!(&error, Error::Corruption(what) if what.contains("snapshots")), "{error}");
        }
    });
}

#[test]
fn a_snapshot_is_deleted_unless_it_is_all_there_is() {
    on_tokio(async {
        let root = directory();
        let database = open(root.path(), 2).await;
        write(&database, 1).await;
        let only = database.checkpoint().await.expect("it is taken");
        let unknown = database.delete_snapshot(only.id + 7).await.expect_err("there is none");
        assert!(matches!(unknown, Error::InvalidOperation(_)), "{unknown}");
        database.delete_snapshot(only.id).await.expect("the log goes back to the beginning");
        assert_eq!(snapshots(root.path()), [] as [PathBuf; 0]);
        let mut last = Vec::new();
        for round in 2..5 {
            write(&database, round).await;
            last.push(database.checkpoint().await.expect("it is taken"));
        }
        database.delete_snapshot(last[2].id).await.expect("the one before is there");
        let error = database.delete_snapshot(last[1].id).await.expect_err("it is all there is");
        assert!(matches!(error, Error::InvalidOperation(_)), "{error}");
        let expected = contents(&database).await;
        database.close().await.expect("it closes");
        let database = open(root.path(), 2).await;
        assert_eq!(database.last_recovery().snapshot, Some(last[1].version));
        assert!(contents(&database).await == expected);
        let next = database.checkpoint().await.expect("it is taken");
        assert!(next.id > last[2].id, "no id is given twice");
    });
}

#[test]
fn snapshots_are_taken_when_the_log_is_long_when_it_is_time_and_at_the_end() {
    on_tokio(async {
        let root = directory();
        let long = SnapshotConfig { log_bytes: Some(1 << 20), ..NEVER };
        let database = builder(root.path(), 1).snapshots(long).open().await.expect("it opens");
        let value = "x".repeat(100_000);
        for number in 0..400 {
            database.kv().put(RUN, format!("{}", number % 3), value.as_str()).await.expect("it is written");
            if number > 40 && database.list_snapshots().await.expect("listed").len() == 2 {
                break;
            }
        }
        assert_eq!(database.list_snapshots().await.expect("listed").len(), 2);
        database.close().await.expect("it closes");

        let timed = SnapshotConfig { interval: Some(Duration::from_millis(20)), ..NEVER };
        let database = builder(root.path(), 1).snapshots(timed).open().await.expect("it opens");
        tokio::time::sleep(Duration::from_millis(120)).await;
        let before = database.list_snapshots().await.expect("listed");
        tokio::time::sleep(Duration::from_millis(120)).await;
        assert_eq!(database.list_snapshots().await.expect("listed"), before, "nothing was written");
        let newest = before.last().expect("there is one").id;
        database.kv().put(RUN, "key", 1).await.expect("it is written");
        while database.list_snapshots().await.expect("listed").last().is_none_or(|last| last.id == newest) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        database.close().await.expect("it closes");

        let last = SnapshotConfig { on_close: true, ..NEVER };
        let database = builder(root.path(), 1).snapshots(last).open().await.expect("it opens");
        database.kv().put(RUN, "key", 2).await.expect("it is written");
        let before = database.list_snapshots().await.expect("listed").last().expect("there is one").id;
        database.close().await.expect("it closes");
        let database = open(root.path(), 1).await;
        assert!(database.list_snapshots().await.expect("listed").last().expect("there is one").id > before);
        assert_eq!(database.last_recovery().records, 0, "nothing is behind it");
        assert_eq!(database.kv().get(RUN, "key").await.expect("it is read"), Some(2.into()));
    });
}

#[test]
fn what_was_written_before_a_close_is_in_the_last_snapshot() {
    on_tokio(async {
        let root = directory();
        let last = SnapshotConfig { on_close: true, ..NEVER };
        let database = builder(root.path(), 1).snapshots(last).open().await.expect("it opens");
        database.kv().put(RUN, "key", 1).await.expect("it is written");
        database.checkpoint().await.expect("it is taken");
        let before = database.checkpoint().await.expect("it is taken");
        database.kv().put(RUN, "key", 2).await.expect("it is written");
        database.close().await.expect("it closes");
        let database = open(root.path(), 1).await;
        let newest = database.list_snapshots().await.expect("listed").pop().expect("there is one");
        assert!(newest.id > before.id);
        assert_eq!(database.last_recovery().records, 0, "nothing is behind it");
    });
}

#[test]
fn a_close_comes_to_its_end_though_everybody_wants_snapshots() {
    on_tokio(async {
        for on_close in [false, true] {
            let root = directory();
            let config = SnapshotConfig { on_close, interval: Some(Duration::MAX), ..NEVER };
            let database = builder(root.path(), 2).snapshots(config).open().await.expect("it opens");
            write(&database, 1).await;
            let askers: Vec<_> = (0..3)
                .map(|_| {
                    let database = database.clone();
                    tokio::spawn(async move { while database.checkpoint().await.is_ok() {} })
                })
                .collect();
            tokio::time::sleep(Duration::from_millis(50)).await;
            tokio::time::timeout(Duration::from_secs(60), database.close()).await.expect("it ends").expect("it closes");
            for asker in askers {
                asker.await.expect("it hears that the database is closed");
            }
        }
    });
}

/// The last batch before a checkpoint is lost. The snapshot has what was in it, and knows that it was durable.
#[test]
fn a_log_that_ends_before_what_a_snapshot_knows_to_be_durable_is_corrupt() {
    on_tokio(async {
        let root = directory();
        let database = open(root.path(), 1).await;
        write(&database, 1).await;
        database.checkpoint().await.expect("it is taken");
        database.kv().put(RUN, "acknowledged", 7).await.expect("it is written");
        database.checkpoint().await.expect("it is taken");
        let copy = directory();
        for file in [segments(root.path()), snapshots(root.path()), vec![root.path().join("MANIFEST")]].concat() {
            let to = copy.path().join(file.strip_prefix(root.path()).expect("it is below"));
            std::fs::create_dir_all(to.parent().expect("it is in a directory")).expect("it is made");
            std::fs::copy(&file, to).expect("it is copied");
        }
        let last_block = |bytes: &[u8]| {
            let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
            (used.saturating_sub(1)) / 4096 * 4096
        };
        let mut files = segments(copy.path());
        files.sort();
        let lost = files.iter().rev().find(|file| last_block(&std::fs::read(file).expect("it is read")) > 0);
        let lost = lost.expect("something was written");
        let mut bytes = std::fs::read(lost).expect("it is read");
        let at = last_block(&bytes);
        bytes[at..at + 4096].fill(0);
        std::fs::write(lost, bytes).expect("it is written");
        let error = builder(copy.path(), 1).open().await.expect_err("a batch is gone");
        assert!(matches!(&error, Error::Corruption(what) if what.contains("durable")), "{error}");
        database.close().await.expect("it closes");
    });
}

#[test]
fn in_memory_and_read_only_there_is_nothing_to_take() {
    on_tokio(async {
        let database = Database::open_in_memory().await.expect("it opens");
        assert!(matches!(database.checkpoint().await, Err(Error::InvalidOperation(_))));
        assert_eq!(database.list_snapshots().await.expect("listed"), []);
        let root = directory();
        open(root.path(), 1).await.close().await.expect("it closes");
        let database = builder(root.path(), 1).read_only(true).open().await.expect("it opens");
        assert!(matches!(database.checkpoint().await, Err(Error::InvalidOperation(_))));
        assert!(matches!(database.delete_snapshot(1).await, Err(Error::InvalidOperation(_))));
    });
}

#[test]
fn a_fixed_set_of_keys_takes_bounded_room_however_often_it_is_overwritten() {
    on_tokio(async {
        let root = directory();
        let often = SnapshotConfig { log_bytes: Some(4 << 20), ..NEVER };
        let builder = builder(root.path(), 1).snapshots(often).history(HistoryRetention::Off);
        let database = builder.open().await.expect("it opens");
        let live = 64 * 16_000;
        // What two snapshots replace, the segment that it begins in, the last one and the next one.
        let log = 2 * (4 << 20) + 3 * (16 << 20);
        for round in 0..3 {
            // 32 MB of log each time.
            for number in 0..2_000 {
                let value = "x".repeat(16_000);
                database.kv().put(RUN, format!("{}", number % 64), value).await.expect("it is written");
            }
            let started = Instant::now();
            while bytes_in(root.path()) > 3 * live + log {
                assert!(started.elapsed() < Duration::from_secs(60), "{round}: {} bytes", bytes_in(root.path()));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        database.close().await.expect("it closes");
    });
}

#[test]
fn every_byte_of_a_deleted_run_is_gone_after_two_checkpoints() {
    on_tokio(async {
        let marker = "the marker that must go";
        let root = directory();
        let database = open(root.path(), 2).await;
        write(&database, 1).await;
        let run = database.begin_run().await;
        database.kv().put(run, "key", marker).await.expect("it is written");
        database.kv().put(run, "key", format!("again {marker}")).await.expect("it is written");
        database.events().append(run, "kind", marker).await.expect("it is appended");
        database.checkpoint().await.expect("it is taken");
        assert!(holds(root.path(), marker));
        database.runs().delete_run(run).await.expect("it is deleted");
        for _ in 0..2 {
            database.checkpoint().await.expect("it is taken");
        }
        assert!(!holds(root.path(), marker), "a byte of it is there");
        let expected = contents(&database).await;
        database.close().await.expect("it closes");
        assert!(contents(&open(root.path(), 2).await).await == expected);
    });
}

/// What a process does that is killed while it opens, or that ends without closing.
async fn play(part: &str, path: &Path) -> ! {
    let (part, shards) = part.split_once(' ').expect("a part and a number of shards");
    let shards: usize = shards.parse().expect("a number");
    let partitioning = if shards.is_multiple_of(2) { Partitioning::ByRun } else { Partitioning::ByKey };
    println!("opening");
    let database = builder(path, shards).partitioning(partitioning).open().await.expect("it opens");
    if part == "write" {
        for round in 1..6 {
            write(&database, round).await;
            if round < 5 {
                database.checkpoint().await.expect("it is taken");
            }
        }
        database.flush().await.expect("it is flushed");
        println!("contents {}", contents(&database).await);
    }
    println!("opened");
    std::process::exit(77)
}

#[test]
fn whoever_is_killed_while_it_opens_with_more_or_fewer_shards_leaves_everything_as_it_was() {
    const TEST: &str =
        "checkpoints::whoever_is_killed_while_it_opens_with_more_or_fewer_shards_leaves_everything_as_it_was";
    if let Some((part, path)) = part() {
        on_tokio(play(&part, &path));
    }
    let root = directory();
    let output = spawn_part(TEST, "write 2", root.path()).wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(77), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = said.lines().find_map(|line| line.strip_prefix("contents ")).expect("it says what is there");
    let (mut killed, mut opened) = (0, 0);
    let mut takes = Duration::ZERO;
    for (attempt, shards) in (0_u32..40).zip([3, 1, 2, 4, 5].into_iter().cycle()) {
        let mut child = spawn_part(TEST, &format!("open {shards}"), root.path());
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        lines.find(|line| line.ends_with("opening")).expect("it begins");
        let begun = Instant::now();
        // The first is let be.
        if attempt > 0 {
            std::thread::sleep(takes * (attempt * 37 % 100) / 100);
            child.kill().expect("it is killed, unless it has ended");
        }
        let has_opened = lines.any(|line| line == "opened");
        let status = child.wait().expect("it ends");
        assert!(status.signal() == Some(9) || (has_opened && status.code() == Some(77)), "{status}");
        if has_opened {
            takes = begun.elapsed();
        }
        *(if has_opened { &mut opened } else { &mut killed }) += 1;
        if (attempt + 1).is_multiple_of(6) {
            on_tokio(async {
                let database = open(root.path(), shards).await;
                let report = database.last_recovery();
                assert!(report.snapshot.is_some() && report.damaged_snapshots.is_empty(), "{report:?}");
                assert!(contents(&database).await == expected, "{shards} shards after {attempt} attempts");
                drop(database);
            });
        }
    }
    println!("{killed} killed while they opened, {opened} had opened");
    assert!(killed > 10, "{killed} killed, {opened} opened");
}
