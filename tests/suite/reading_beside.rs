//! A database is opened to read it while another process writes to it: what is seen is one moment, each transaction whole, and
//! nothing is written or held up.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::support::{MODES, directory, files, on_tokio, open, part, spawn_part};
use in_mem::prelude::*;
use in_mem::{Driver, SnapshotConfig};

const SHARDS: usize = 4;
const ACCOUNTS: i64 = 8;
const EACH: i64 = 1_000;
const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 5, max_pending_writes: 64 };

/// Accounts are runs of their own, spread over the shards. So are the two ends of a chain: the one that follows is never ahead.
fn account(number: i64) -> RunId {
    RunId::from_bytes([0x10 + u8::try_from(number).unwrap(); 16])
}

fn chain(shard: usize) -> RunId {
    RunId::from_bytes([0x80 + u8::try_from(shard).unwrap(); 16])
}

/// Moves money between runs on several shards, and counts on one shard after the other: each count follows from the one before.
async fn write(path: &Path, mode: DurabilityMode, driver: Driver) {
    // Snapshots all the time, so that files go away under whoever reads them.
    let snapshots = SnapshotConfig { log_bytes: Some(256 << 10), interval: None, on_close: false };
    let database = Database::builder().path(path).durability(mode).shards(SHARDS).driver(driver).snapshots(snapshots);
    let database = database.open().await.unwrap();
    let accounts: Vec<RunId> = (0..ACCOUNTS).map(account).collect();
    database
        .transaction_across(&accounts, async |txn| {
            for run in txn.runs() {
                if txn.run(run).kv_get("balance").await?.is_none() {
                    txn.run(run).kv_put("balance", EACH).await?;
                }
            }
            Ok(())
        })
        .await
        .unwrap();
    println!("writing");
    let movers = (0..4_i64).map(|mover| {
        let database = database.clone();
        tokio::spawn(async move {
            for step in 0.. {
                let (from, to) = (account((mover + step) % ACCOUNTS), account((mover + step * 3 + 1) % ACCOUNTS));
                if from != to {
                    let moved = database.transaction_across([from, to], async |txn: MultiTransaction| {
                        for (run, by) in [(from, -1), (to, 1)] {
                            let balance = txn.run(run).kv_get("balance").await?.unwrap().as_i64().unwrap();
                            txn.run(run).kv_put("balance", balance + by).await?;
                        }
                        Ok(())
                    });
                    let result: Result<()> = moved.await;
                    assert!(result.as_ref().is_err_and(Error::is_conflict) || result.is_ok(), "{result:?}");
                }
            }
        })
    });
    let movers: Vec<_> = movers.collect();
    for count in 1_i64.. {
        for shard in 0..SHARDS {
            database.kv().put(chain(shard), "count", count).await.unwrap();
        }
        assert!(!movers.iter().any(tokio::task::JoinHandle::is_finished), "a mover has failed");
    }
}

/// What one opening shows, which must be one moment.
async fn look(path: &Path) -> (i64, Vec<i64>) {
    let database = Database::builder().path(path).read_only(true).driver(Driver::Threads).open().await.unwrap();
    assert_eq!(database.info().shards, SHARDS, "in the layout that it has");
    assert!(database.last_recovery().writer.as_ref().is_some_and(|writer| writer.contains("process")));
    let mut sum = 0;
    for number in 0..ACCOUNTS {
        sum += database.kv().get(account(number), "balance").await.unwrap().map_or(0, |value| value.as_i64().unwrap());
    }
    let mut counts = Vec::new();
    for shard in 0..SHARDS {
        counts.push(database.kv().get(chain(shard), "count").await.unwrap().map_or(0, |value| value.as_i64().unwrap()));
    }
    let refused = database.kv().put(chain(0), "count", -1).await;
    assert!(matches!(refused, Err(Error::InvalidOperation(_))), "{refused:?}");
    database.close().await.unwrap();
    (sum, counts)
}

/// Waits until the child writes; it is killed when dropped.
struct Writer(Child);

impl Writer {
    fn start(test: &str, part: &str, path: &Path) -> Self {
        let mut child = spawn_part(test, part, path);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("writing"))), "the child writes");
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_beside(test: &str, mode: DurabilityMode) {
    if let Some((part, path)) = part() {
        let driver = if part == "on threads" { Driver::Threads } else { Driver::Auto };
        return on_tokio(write(&path, mode, driver));
    }
    for part in ["writer", "on threads"] {
        let directory = directory();
        let mut writer = Writer::start(test, part, directory.path());
        let begun = Instant::now();
        let (mut looks, mut last, mut first) = (0, vec![0; SHARDS], None);
        while begun.elapsed() < Duration::from_secs(2) || looks < 10 || first == Some(last[0]) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{looks} looks, and nothing was seen to grow");
            let (sum, counts) = on_tokio(look(directory.path()));
            assert!(sum == ACCOUNTS * EACH || (sum == 0 && mode != DurabilityMode::Strict), "look {looks}: {sum}");
            assert!(counts.is_sorted_by(|before, after| before >= after), "look {looks}: {counts:?}");
            assert!(counts[0] - counts[SHARDS - 1] <= 1, "look {looks}: {counts:?}");
            assert!(last.iter().zip(&counts).all(|(last, now)| last <= now), "look {looks}: {last:?} {counts:?}");
            first.get_or_insert(counts[0]);
            last = counts;
            looks += 1;
        }
        assert!(writer.0.try_wait().unwrap().is_none(), "the writer goes on");
        let snapshots = std::fs::read_dir(directory.path().join("snapshots")).unwrap();
        let newest = snapshots.map(|entry| entry.unwrap().file_name()).max();
        println!("{part}: {looks} looks, newest snapshot {newest:?}, counts {first:?} to {last:?}");
    }
}

#[test]
fn a_strict_writer_is_seen_at_one_moment() {
    read_beside("reading_beside::a_strict_writer_is_seen_at_one_moment", DurabilityMode::Strict);
}

#[test]
fn a_buffered_writer_is_seen_at_one_moment() {
    read_beside("reading_beside::a_buffered_writer_is_seen_at_one_moment", BUFFERED);
}

async fn reader(path: &Path) -> Result<Database> {
    Database::builder().path(path).read_only(true).driver(Driver::Threads).open().await
}

#[test]
fn what_was_acknowledged_is_seen_and_nothing_is_written() {
    on_tokio(async {
        for mode in MODES.into_iter().filter(|mode| *mode != DurabilityMode::InMemory) {
            let directory = directory();
            let database = open(directory.path(), mode, 2).await;
            // The other shard is never written to: it holds nothing back.
            let run = chain(0);
            for number in 0..20 {
                database.kv().put(run, "number", number).await.unwrap();
                database.flush().await.unwrap();
                let before = files(directory.path());
                let reader = reader(directory.path()).await.unwrap();
                assert_eq!(reader.kv().get(run, "number").await.unwrap(), Some(number.into()), "{mode:?}");
                assert!(reader.verify().await.unwrap().is_sound());
                assert_eq!(before, files(directory.path()), "{mode:?}");
            }
        }
    });
}

/// What a reader has opened stays as it was, and can still be verified, when the files it was read from are gone.
#[test]
fn a_view_outlives_its_files() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        database.kv().put(chain(0), "number", 1).await.unwrap();
        let reader = reader(directory.path()).await.unwrap();
        for number in 2..5 {
            database.kv().put(chain(0), "number", number).await.unwrap();
            database.checkpoint().await.unwrap();
        }
        assert_eq!(reader.kv().get(chain(0), "number").await.unwrap(), Some(1.into()));
        let report = reader.verify().await.unwrap();
        assert!(report.is_sound(), "{report:?}");
        database.close().await.unwrap();
        open(directory.path(), DurabilityMode::Strict, 1).await.close().await.unwrap();
        assert_eq!(reader.kv().get(chain(0), "number").await.unwrap(), Some(1.into()));
    });
}

#[test]
fn a_writer_waits_until_a_reader_has_read() {
    on_tokio(async {
        let directory = directory();
        open(directory.path(), DurabilityMode::Strict, 1).await.close().await.unwrap();
        let lock = File::open(directory.path().join("LOCK")).unwrap();
        lock.lock_shared().unwrap();
        let path = directory.path().to_owned();
        let opening = tokio::spawn(async move { open(&path, DurabilityMode::Strict, 1).await });
        assert!(reader(directory.path()).await.unwrap().last_recovery().writer.is_none(), "readers share");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!opening.is_finished(), "it waits");
        lock.unlock().unwrap();
        opening.await.unwrap().close().await.unwrap();
    });
}

#[test]
fn damage_beside_a_writer_is_told() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        for number in 0..3 {
            database.kv().put(chain(0), "number", number).await.unwrap();
        }
        let segment = &crate::support::segments(directory.path())[0];
        let mut bytes = std::fs::read(segment).unwrap();
        bytes[4096 + 70] ^= 1;
        std::fs::write(segment, bytes).unwrap();
        let told = reader(directory.path()).await.expect_err("a record is damaged");
        assert!(matches!(&told, Error::Corruption(what) if what.contains(segment.to_str().unwrap())), "{told}");
    });
}
