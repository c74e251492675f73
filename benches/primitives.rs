//! What one call costs: get, put, append, a four-primitive transaction, and get and set in JSON documents, on the shard
//! and from tokio, in three modes. JSON get stays within 3 times get, set within 5 times put.
//!
//! 100,000 keys, values of 100 bytes, one shard, one caller at a time. `raw device` is the floor of `Strict` in the same
//! run: one aligned 4 KiB write made durable through `io_uring` in a pre-zeroed file of the same file system, in two ways.
//!
//! Prediction, before the first measurement (two shared cores): on the shard get 0.6 µs (two hash and tree lookups,
//! 100 ns each, one clock reading of 30 ns, copies and queues), put 1.2 µs (the same, plus a pushed revision), append
//! 2.5 µs (SHA-256 of 250 bytes is about 0.5 µs, three trees); from tokio 1 µs more for the round trip between two
//! spinning threads; `Buffered` 0.3 µs more for encoding and checksum; `Strict` the raw device and 10 µs.

#![allow(missing_docs, reason = "the macro of criterion makes a public function")]

mod support;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use in_mem::prelude::*;
use support::bench_raw_device;
use tokio::runtime::Runtime;

const KEYS: u64 = 100_000;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Get,
    Put,
    Append,
    Transaction,
    JsonGet,
    JsonSet,
}

const OPERATIONS: [(Operation, &str); 6] = [
    (Operation::Get, "get"),
    (Operation::Put, "put"),
    (Operation::Append, "append"),
    (Operation::Transaction, "kv+event+state+trace"),
    (Operation::JsonGet, "json get"),
    (Operation::JsonSet, "json set"),
];

fn text() -> String {
    "x".repeat(100)
}

fn value() -> Value {
    text().into()
}

/// A small document, which holds what a pair holds.
fn document() -> serde_json::Value {
    serde_json::json!({"id": 7, "done": false, "state": {"step": 1, "text": text()}})
}

async fn operate(run: &RunHandle, operation: Operation, number: u64) -> Result<()> {
    // Multiplication by an odd number walks all keys in a scattered order.
    let key = format!("key-{:06}", number.wrapping_mul(48_271) % KEYS);
    match operation {
        Operation::Get => {
            black_box(run.kv().get(&key).await?);
        }
        Operation::Put => run.kv().put(&key, value()).await?,
        Operation::Append => {
            black_box(run.events().append("step", value()).await?);
        }
        Operation::JsonGet => {
            black_box(run.json().get(&key, "state.text").await?);
        }
        Operation::JsonSet => {
            run.json().set(&key, "state.text", text()).await?;
        }
        Operation::Transaction => {
            let body = |txn: Transaction| {
                let key = key.clone();
                async move {
                    txn.kv_put(&key, value()).await?;
                    txn.event_append("step", value()).await?;
                    txn.state_set("counter", 1).await?;
                    txn.trace_record("thought", value()).await?;
                    Ok(())
                }
            };
            run.transaction(body).await?;
        }
    }
    Ok(())
}

async fn repeat(run: &RunHandle, operation: Operation, count: u64) -> Result<Duration> {
    let start = Instant::now();
    for number in 0..count {
        operate(run, operation, number).await?;
    }
    Ok(start.elapsed())
}

async fn fill(run: &RunHandle) -> Result<()> {
    for chunk in 0..KEYS / 1000 {
        let pairs = (chunk * 1000..(chunk + 1) * 1000).map(|number| (format!("key-{number:06}"), value()));
        run.kv().put_many(pairs).await?;
    }
    for number in 0..KEYS {
        run.json().create(format!("key-{number:06}"), document()).await?;
    }
    Ok(())
}

fn open(runtime: &Runtime, directory: &Path, mode: DurabilityMode) -> (Database, RunHandle) {
    runtime.block_on(async {
        // The past is not kept: a bench overwrites the same keys millions of times.
        let builder = Database::builder().durability(mode).shards(1).history(in_mem::HistoryRetention::Off);
        let database = builder.path(directory).open().await.expect("the database opens");
        let run = database.start_run(RunOptions::default()).await.expect("the run begins");
        fill(&run).await.expect("the keys are written");
        (database, run)
    })
}

fn modes() -> [(DurabilityMode, &'static str); 3] {
    let buffered = DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 100_000 };
    [(DurabilityMode::InMemory, "InMemory"), (buffered, "Buffered"), (DurabilityMode::Strict, "Strict")]
}

fn bench_mode(criterion: &mut Criterion, mode: DurabilityMode, name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory is made");
    let (database, run) = open(&runtime, directory.path(), mode);
    let mut group = criterion.benchmark_group(name);
    for (operation, label) in OPERATIONS {
        group.bench_function(format!("shard/{label}"), |bencher| {
            bencher.iter_custom(|count| {
                let task = move |local: LocalRun| async move { repeat(&local, operation, count).await };
                runtime.block_on(database.spawn_on(run.id(), task)).expect("the operations succeed")
            });
        });
        group.bench_function(format!("tokio/{label}"), |bencher| {
            bencher
                .iter_custom(|count| runtime.block_on(repeat(&run, operation, count)).expect("the operations succeed"));
        });
    }
    if mode == DurabilityMode::Strict {
        bench_raw_device(&mut group, directory.path());
    }
    group.finish();
    runtime.block_on(database.close()).expect("the database closes");
}

fn benches(criterion: &mut Criterion) {
    for (mode, name) in modes() {
        bench_mode(criterion, mode, name);
    }
}

criterion_group! {
    name = primitives;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = benches
}
criterion_main!(primitives);
