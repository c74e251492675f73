//! Verification: a running database is checked, files and event logs, while others go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{BUFFERED, MODES, directory, on_tokio, segments};
use in_mem::prelude::*;
use in_mem::{Partitioning, SnapshotConfig, VerifyProblem};

const NEVER: SnapshotConfig = SnapshotConfig { log_bytes: None, interval: None, on_close: false };

async fn open(path: &Path, mode: DurabilityMode, partitioning: Partitioning) -> Database {
    let builder = Database::builder().path(path).durability(mode).shards(2).partitioning(partitioning);
    builder.snapshots(NEVER).open().await.expect("it opens")
}

fn runs() -> impl Iterator<Item = RunId> {
    (1..7).map(|byte| RunId::from_bytes([byte; 16]))
}

async fn write(database: &Database, round: i64) {
    for run in runs() {
        for key in 0..4 {
            database.kv().put(run, format!("key-{key}"), vec![7_u8; 4_000]).await.expect("it is written");
        }
        database.events().append(run, "round", round).await.expect("it is appended");
    }
}

#[test]
fn a_sound_database_has_no_problems_while_writers_and_checkpoints_go_on() {
    on_tokio(async {
        for (mode, partitioning) in
            MODES.into_iter().zip([Partitioning::ByRun, Partitioning::ByKey, Partitioning::ByRun])
        {
            let root = directory();
            let database = open(root.path(), mode, partitioning).await;
            write(&database, 0).await;
            let stop = Arc::new(AtomicBool::new(false));
            let others: Vec<_> = (0..3)
                .map(|number| {
                    let (database, stop) = (database.clone(), Arc::clone(&stop));
                    tokio::spawn(async move {
                        for round in 0.. {
                            if stop.load(Ordering::Relaxed) {
                                return;
                            }
                            match (number, mode) {
                                (0, BUFFERED | DurabilityMode::Strict) => {
                                    database.checkpoint().await.expect("it is taken");
                                    if round % 3 == 0 {
                                        let newest = database.list_snapshots().await.expect("listed");
                                        let newest = newest.last().expect("there is one").id;
                                        let _ = database.delete_snapshot(newest).await;
                                    }
                                }
                                (0, _) => return,
                                _ => write(&database, round).await,
                            }
                        }
                    })
                })
                .collect();
            let (mut segments, mut records, mut snapshot_files) = (0, 0, 0);
            let is_in_memory = mode == DurabilityMode::InMemory;
            let mut verified = 0;
            // The writers may be slow: until there was something to verify.
            while verified < 15 || !is_in_memory && (records == 0 || segments <= 2 || snapshot_files < 2) {
                verified += 1;
                let report = database.verify().await.expect("it is verified");
                assert!(report.is_sound(), "{mode:?} {report:?}");
                assert_eq!(report.event_logs, 6);
                records = report.records.max(records);
                segments = report.segments.max(segments);
                snapshot_files = report.snapshot_files.max(snapshot_files);
            }
            assert_eq!(records > 0, !is_in_memory);
            stop.store(true, Ordering::Relaxed);
            for other in others {
                other.await.expect("it ends well");
            }
            database.close().await.expect("it closes");
            assert!(matches!(database.verify().await, Err(Error::Unavailable(_))));
            if mode != DurabilityMode::InMemory {
                let reader = Database::builder().path(root.path()).shards(3).read_only(true);
                let report = reader.open().await.expect("it opens").verify().await.expect("it is verified");
                assert!(report.is_sound() && report.event_logs == 6 && report.snapshot_files >= 2, "{report:?}");
            }
        }
    });
}

fn files(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path.join("snapshots")).expect("it is listed");
    let snapshots = entries.map(|entry| entry.expect("it is listed").path());
    // A segment that is there ahead of need is not looked at.
    let is_used = |file: &PathBuf| {
        let bytes = std::fs::read(file).expect("it is read");
        bytes.get(4096).is_some_and(|_| bytes[4096..].iter().any(|byte| *byte != 0))
    };
    let log = segments(path).into_iter().filter(is_used);
    snapshots.chain(log).chain([path.join("MANIFEST")]).collect()
}

#[test]
fn whatever_is_damaged_or_missing_is_named() {
    on_tokio(async {
        let root = directory();
        let database = open(root.path(), DurabilityMode::Strict, Partitioning::ByRun).await;
        write(&database, 1).await;
        database.checkpoint().await.expect("it is taken");
        write(&database, 2).await;
        database.close().await.expect("it closes");
        let database = open(root.path(), DurabilityMode::Strict, Partitioning::ByRun).await;
        write(&database, 3).await;
        database.checkpoint().await.expect("it is taken");
        write(&database, 4).await;
        let sound = database.verify().await.expect("it is verified");
        assert!(sound.is_sound(), "{sound:?}");
        let files = files(root.path());
        // An older and a newer snapshot, sealed segments, finished ones and those that are written, each of two shards.
        assert_eq!((sound.snapshot_files, files.len() as u64), (4, sound.segments + 5), "{files:?}");
        for file in &files {
            let whole = std::fs::read(file).expect("it is read");
            let is_log = file.extension().is_some_and(|extension| extension == "log");
            let behind_header = if is_log { 4096 + 50 } else { whole.len() - 10 };
            for at in [10, behind_header] {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x10;
                overwrite(file, at, damaged[at]);
                assert_named(&database, file, if at == 10 { 0 } else { at }, "").await;
                overwrite(file, at, whole[at]);
            }
            let away = root.path().join("away");
            std::fs::rename(file, &away).expect("it is moved");
            assert_named(&database, file, 0, "missing").await;
            std::fs::rename(&away, file).expect("it is moved");
        }
        // What behind it was durable is named too: nothing but zeros is left of the last batch.
        let last = files.iter().rfind(|file| file.to_string_lossy().contains("00000002-0000-")).expect("there is one");
        let whole = std::fs::read(last).expect("it is read");
        let end = whole.iter().rposition(|byte| *byte != 0).expect("something is in it");
        for (at, byte) in (end / 4096 * 4096..=end).zip(std::iter::repeat(0)) {
            overwrite(last, at, byte);
        }
        assert_named(&database, last, end, "ends early").await;
        for (at, byte) in (end / 4096 * 4096..).zip(&whole[end / 4096 * 4096..=end]) {
            overwrite(last, at, *byte);
        }
        assert_eq!(database.verify().await.expect("it is verified"), sound);
        database.close().await.expect("it closes");
    });
}

fn overwrite(file: &Path, at: usize, byte: u8) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(file).expect("it opens");
    file.write_all_at(&[byte], at as u64).expect("it is written");
}

/// One problem, in this file, at or before this offset.
async fn assert_named(database: &Database, damaged: &Path, at: usize, how: &str) {
    let report = database.verify().await.expect("it is verified");
    let [VerifyProblem::File { file, offset, what }] = &report.problems[..] else {
        panic!("{}: {report:?}", damaged.display())
    };
    assert!(file == damaged && *offset <= at as u64 && what.contains(how), "{} {at}: {report:?}", damaged.display());
}
