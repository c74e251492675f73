//! What a transaction over two runs costs: both on one shard, and on two, in three modes.
//!
//! Two shards, one caller at a time, two puts of 100 bytes per transaction, one in each run; `read` reads both at one
//! snapshot instead. `raw device` is the floor of `Strict` in the same run: one aligned 4 KiB write made durable.
//!
//! Prediction, before the first measurement (two shared cores): in memory, one shard 12 µs (three round trips between
//! two spinning threads), two shards 60 µs and more, because three threads share two cores and one message between shards
//! must wake a parked one; `Strict` on one shard the raw device and 20 µs; on two shards the two parts are written at the
//! same time, so one flush of latency: the raw device and 100 µs, where writing one after the other would take twice the
//! device.

#![allow(missing_docs, reason = "the macro of criterion makes a public function")]

mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use in_mem::prelude::*;
use support::bench_raw_device;
use tokio::runtime::Runtime;

fn value() -> Value {
    "x".repeat(100).into()
}

/// Two runs, on one shard or on two.
fn runs(database: &Database, on_one_shard: bool) -> [RunId; 2] {
    let first = RunId::new();
    let is_placed = |run: &RunId| (database.shard_of(run) == database.shard_of(first)) == on_one_shard;
    let second = std::iter::repeat_with(RunId::new).find(is_placed).expect("a run is on every shard");
    [first, second]
}

async fn write(database: &Database, [a, b]: [RunId; 2]) -> Result<()> {
    let body = async |txn: MultiTransaction| {
        txn.run(a).kv_put("key", value()).await?;
        txn.run(b).kv_put("key", value()).await
    };
    database.transaction_across([a, b], body).await
}

async fn read(database: &Database, [a, b]: [RunId; 2]) -> Result<()> {
    let view = database.snapshot_now(a).await?;
    black_box(view.kv_get("key").await?);
    black_box(view.run(b).kv_get("key").await?);
    Ok(())
}

fn bench_mode(criterion: &mut Criterion, mode: DurabilityMode, name: &str) {
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory is made");
    let builder = Database::builder().durability(mode).shards(2).history(in_mem::HistoryRetention::Off);
    let database = runtime.block_on(builder.path(directory.path()).open()).expect("the database opens");
    let mut group = criterion.benchmark_group(format!("across/{name}"));
    for (on_one_shard, label) in [(true, "one shard"), (false, "two shards")] {
        let runs = runs(&database, on_one_shard);
        group.bench_function(format!("{label}/write"), |bencher| {
            bencher.iter(|| runtime.block_on(write(&database, runs)).expect("the transaction commits"));
        });
        group.bench_function(format!("{label}/read"), |bencher| {
            bencher.iter(|| runtime.block_on(read(&database, runs)).expect("the view is read"));
        });
    }
    if mode == DurabilityMode::Strict {
        bench_raw_device(&mut group, directory.path());
    }
    group.finish();
    runtime.block_on(database.close()).expect("the database closes");
}

fn benches(criterion: &mut Criterion) {
    let buffered = DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 100_000 };
    for (mode, name) in
        [(DurabilityMode::InMemory, "InMemory"), (buffered, "Buffered"), (DurabilityMode::Strict, "Strict")]
    {
        bench_mode(criterion, mode, name);
    }
}

criterion_group! {
    name = commit;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = benches
}
criterion_main!(commit);
