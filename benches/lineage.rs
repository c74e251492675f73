//! What it costs to keep what commits read: a transaction that reads four keys and writes four others, and a blind put, with
//! lineage off and on, all history kept, on the shard; and how many bytes a commit takes in the log and in memory.
//!
//! Prediction, before the first measurement (two shared cores): in memory the transaction takes 9 µs, with lineage 10.5 µs: four
//! lookups that find what is in the cache, a sorted set of four, three allocations. The blind put 1.5 µs, with lineage 2.1 µs,
//! because it is tracked as a transaction is: an overlay and what it read. `Buffered` adds the same. In the log a commit of
//! four reads of one run takes 17 bytes for the run, 4 for the set, and for each read 12 and the name: 109 bytes with names of 10.
//! In memory 48, and for each read 64 and the name: 344.

#![allow(missing_docs, reason = "the macro of criterion makes a public function")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use in_mem::SnapshotConfig;
use in_mem::prelude::*;
use tokio::runtime::Runtime;

const KEYS: u64 = 10_000;
const COUNTED: u64 = 20_000;
const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 100_000 };

#[derive(Clone, Copy, Debug)]
enum Operation {
    Transaction,
    Put,
}

fn value() -> Value {
    "x".repeat(100).into()
}

async fn operate(run: &RunHandle, operation: Operation, number: u64) -> Result<()> {
    let key = |offset: u64| format!("key-{:06}", (number.wrapping_mul(48_271) + offset) % KEYS);
    match operation {
        Operation::Put => run.kv().put(key(0), value()).await,
        Operation::Transaction => {
            let body = |txn: Transaction| async move {
                for offset in 0..4 {
                    black_box(txn.kv_get(key(offset)).await?);
                }
                for offset in 4..8 {
                    txn.kv_put(key(offset), value()).await?;
                }
                Ok(())
            };
            run.transaction(body).await
        }
    }
}

async fn repeat(run: &RunHandle, operation: Operation, count: u64) -> Result<Duration> {
    let start = Instant::now();
    for number in 0..count {
        operate(run, operation, number).await?;
    }
    Ok(start.elapsed())
}

fn open(runtime: &Runtime, directory: &Path, mode: DurabilityMode, lineage: bool) -> (Database, RunHandle) {
    runtime.block_on(async {
        let never = SnapshotConfig { log_bytes: None, interval: None, on_close: false };
        let builder = Database::builder().durability(mode).shards(1).lineage(lineage).snapshots(never);
        let database = builder.path(directory).open().await.expect("the database opens");
        let run = database.start_run(RunOptions::default()).await.expect("the run begins");
        let pairs = (0..KEYS).map(|number| (format!("key-{number:06}"), value()));
        run.kv().put_many(pairs).await.expect("the keys are written");
        (database, run)
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts")
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory is made")
}

/// How many bytes the log and the memory grow by with each transaction.
fn bytes_per_commit(lineage: bool) -> (u64, u64) {
    let (runtime, directory) = (runtime(), directory());
    let measure = |count: u64| {
        let path = directory.path().join(count.to_string());
        let (database, run) = open(&runtime, &path, BUFFERED, lineage);
        let task = move |local: LocalRun| async move { repeat(&local, Operation::Transaction, count).await };
        runtime.block_on(database.spawn_on(run.id(), task)).expect("the operations succeed");
        let memory = database.info().memory_bytes;
        runtime.block_on(database.close()).expect("the database closes");
        let files = std::fs::read_dir(path.join("log")).expect("the log is listed");
        let log: u64 = files.map(|file| file.and_then(|file| file.metadata()).expect("it is there").len()).sum();
        (log, memory)
    };
    let (none, all) = (measure(0), measure(COUNTED));
    ((all.0 - none.0) / COUNTED, (all.1 - none.1) / COUNTED)
}

fn benches(criterion: &mut Criterion) {
    println!("| bytes per commit | lineage off | on |\n|---|---|---|");
    let (off, on) = (bytes_per_commit(false), bytes_per_commit(true));
    println!("| in the log | {} | {} |\n| of memory, as they are counted | {} | {} |", off.0, on.0, off.1, on.1);
    for (mode, name) in [(DurabilityMode::InMemory, "InMemory"), (BUFFERED, "Buffered")] {
        let mut group = criterion.benchmark_group(format!("lineage/{name}"));
        for (operation, label) in [(Operation::Transaction, "4 reads + 4 writes"), (Operation::Put, "put")] {
            for lineage in [false, true] {
                let (runtime, directory) = (runtime(), directory());
                let (database, run) = open(&runtime, directory.path(), mode, lineage);
                group.bench_function(format!("{label}/{}", if lineage { "on" } else { "off" }), |bencher| {
                    bencher.iter_custom(|count| {
                        let task = move |local: LocalRun| async move { repeat(&local, operation, count).await };
                        runtime.block_on(database.spawn_on(run.id(), task)).expect("the operations succeed")
                    });
                });
                runtime.block_on(database.close()).expect("the database closes");
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = lineage;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = benches
}
criterion_main!(lineage);
