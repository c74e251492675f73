//! How often transactions run again when 64 tasks fight over 4 keys on two shards.
//!
//! Every transaction reads two of the keys, mostly on different shards, and writes both. What is counted is how often its
//! closure was called; the sum of all counters says that nothing was lost. Retries are bounded by the default (64).
//!
//! Prediction, before the first measurement: of two transactions that overlap one loses, and at most four cannot overlap,
//! so that with 64 tasks on a current-thread runtime most take a few calls: median 2 or 3, 99th percentile below 20.

#![allow(missing_docs, reason = "a program of its own")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;
use in_mem::prelude::*;

const TASKS: usize = 64;
const TRANSACTIONS: usize = 100;
const KEYS: usize = 4;

/// Four counters: two in each of two runs on different shards.
#[derive(Clone, Copy)]
struct Counter {
    run: RunId,
    name: &'static str,
}

async fn add(txn: &MultiTransaction, counter: Counter) -> Result<()> {
    let kv = txn.run(counter.run).kv();
    let before = kv.get(counter.name).await?.and_then(|value| value.as_i64()).unwrap_or(0);
    kv.put(counter.name, before + 1).await
}

async fn fight(database: Database, counters: [Counter; KEYS], task: usize) -> Result<Vec<u64>> {
    let mut calls_of = Vec::new();
    for number in 0..TRANSACTIONS {
        let calls = AtomicU64::new(0);
        let first = (task + number) % KEYS;
        let second = (first + 1 + number / KEYS % (KEYS - 1)) % KEYS;
        let [first, second] = [first, second].map(|at| counters[at]);
        let body = async |txn: MultiTransaction| {
            calls.fetch_add(1, Ordering::Relaxed);
            add(&txn, first).await?;
            add(&txn, second).await
        };
        database.transaction_across([first.run, second.run], body).await?;
        calls_of.push(calls.into_inner());
    }
    Ok(calls_of)
}

async fn measure(mode: DurabilityMode, name: &str) -> Result<()> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let builder = Database::builder().durability(mode).shards(2).history(in_mem::HistoryRetention::Off);
    let database = builder.path(directory.path()).open().await?;
    let a = RunId::new();
    let elsewhere = |run: &RunId| database.shard_of(run) != database.shard_of(a);
    let b = std::iter::repeat_with(RunId::new).find(elsewhere).unwrap_or(a);
    let counters = [(a, "x"), (b, "x"), (a, "y"), (b, "y")].map(|(run, name)| Counter { run, name });
    let started = Instant::now();
    let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(fight(database.clone(), counters, task))).collect();
    let mut calls: Histogram<u64> = Histogram::new(3).map_err(Error::other)?;
    for task in tasks {
        for count in task.await.map_err(Error::other)?? {
            calls.record(count).map_err(Error::other)?;
        }
    }
    let took = started.elapsed();
    let mut sum = 0;
    for counter in counters {
        sum += database.kv().get(counter.run, counter.name).await?.and_then(|value| value.as_i64()).unwrap_or(0);
    }
    assert_eq!(usize::try_from(sum).ok(), Some(2 * TASKS * TRANSACTIONS), "no increment is lost");
    let at = |quantile: f64| calls.value_at_quantile(quantile);
    println!(
        "| {name} | {:.2} | {} | {} | {} | {} | {} |",
        calls.mean(),
        at(0.5),
        at(0.9),
        at(0.99),
        calls.max(),
        u128::from(calls.len()) * 1_000_000 / took.as_micros()
    );
    database.close().await
}

fn main() -> Result<()> {
    println!("| mode | mean | median | 90 % | 99 % | most | transactions/s |");
    println!("|---|---|---|---|---|---|---|");
    let buffered = DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 100_000 };
    let modes = [(DurabilityMode::InMemory, "InMemory"), (buffered, "Buffered"), (DurabilityMode::Strict, "Strict")];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for (mode, name) in modes {
        runtime.block_on(measure(mode, name))?;
    }
    Ok(())
}
