//! Reclamation: what nobody can read any more gives its memory back, however long a process runs.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{BUFFERED, directory, on_tokio, output_of, part, spawn_part};
use in_mem::HistoryRetention;
use in_mem::prelude::*;

const TEST: &str = "reclamation::memory_stays_flat_over_millions_of_overwrites_expiries_and_deleted_runs";
const RUN: RunId = RunId::from_bytes([9; 16]);
const KEYS: usize = 1_000;
/// Rounds, each of which overwrites every key.
const ROUNDS: usize = if cfg!(debug_assertions) { 120 } else { 2_000 };
/// New keys that expire, and runs that are deleted, in every round.
const EXPIRING: usize = 20;
const DELETED: usize = 4;
const SHARDS: usize = 2;

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("it is read");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4096
}

async fn round(database: &Database, round: usize) {
    let value = vec![u8::try_from(round % 256).expect("a byte"); 100];
    let pairs = (0..KEYS).map(|key| (format!("key-{key}"), Value::from(value.clone())));
    database.kv().put_many(RUN, pairs).await.expect("they are overwritten");
    database.states().set(RUN, "cell", value.clone()).await.expect("it is set");
    let soon = Duration::from_millis(1);
    for key in 0..EXPIRING {
        database.kv().put_with_ttl(RUN, format!("soon-{round}-{key}"), value.clone(), soon).await.expect("it is put");
    }
    for _ in 0..DELETED {
        let run = database.start_run(RunOptions::default()).await.expect("it begins");
        run.kv().put_many((0..20).map(|key| (format!("key-{key}"), value.clone()))).await.expect("they are put");
        run.events().append("kind", value.clone()).await.expect("it is appended");
        run.traces().record("kind".into(), vec!["tag".into()], value.clone()).await.expect("it is recorded");
        run.states().set("cell", 1).await.expect("it is set");
        database.runs().delete_run(run.id()).await.expect("it is deleted");
    }
}

async fn measure(mode: DurabilityMode, path: &Path) {
    let builder = Database::builder().durability(mode).shards(SHARDS).history(HistoryRetention::Off);
    let database = builder.path(path).open().await.expect("it opens");
    let (mut before, warm) = ((0, 0), ROUNDS / 3);
    for number in 0..ROUNDS {
        round(&database, number).await;
        if number == warm {
            before = (resident(), database.info().memory_bytes);
        }
    }
    // Each shard remembers which runs were deleted.
    let tombstones = (ROUNDS * DELETED * SHARDS * 64) as u64;
    let most = before.1 + tombstones + 100_000;
    let begun = Instant::now();
    while database.info().memory_bytes >= most {
        assert!(begun.elapsed() < Duration::from_secs(30), "by its own count: {before:?} {:?}", database.info());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = (resident(), database.info().memory_bytes);
    println!("{before:?} {after:?}");
    assert!(after.0 < before.0 + 2 * tombstones + (16 << 20), "resident: {before:?} {after:?}");
    database.close().await.expect("it closes");
}

#[test]
fn memory_stays_flat_over_millions_of_overwrites_expiries_and_deleted_runs() {
    if let Some((mode, path)) = part() {
        return on_tokio(measure(if mode == "buffered" { BUFFERED } else { DurabilityMode::InMemory }, &path));
    }
    for mode in ["memory", "buffered"] {
        let root = directory();
        println!("{mode} {}", output_of(spawn_part(TEST, mode, &root.path().join("database"))));
    }
}
