//! How often an operation asks for memory, and for how many bytes: on the shard, where everything it takes is counted, and from
//! a thread, where only what the caller takes is, not the shard.
//!
//! In memory, one shard, values of 100 bytes, history off; the mean of `COUNT` operations. Key and value are made before.
//!
//! Prediction, before the first measurement: on the shard a get takes one (the key is longer than 16 bytes), a put that
//! overwrites three (key, value, revision), an append eight (three trees), the transaction forty; from a thread a call takes
//! one for its reply and one for its key.

#![allow(missing_docs, reason = "a program of its own")]

use std::hint::black_box;

use allocation_counter::{AllocationInfo, measure};
use futures::FutureExt;
use futures::executor::block_on;
use in_mem::HistoryRetention;
use in_mem::prelude::*;

const COUNT: u64 = 10_000;
const OPERATIONS: [&str; 4] = ["get", "put", "append", "transaction"];

async fn operate(run: &RunHandle, operation: &str, key: &str, value: Value) -> Result<()> {
    match operation {
        "get" => drop(black_box(run.kv().get(key).await?)),
        "put" => run.kv().put(key, value).await?,
        "append" => drop(black_box(run.events().append("step", value).await?)),
        _ => {
            let body = async |txn: Transaction| {
                txn.kv_put(key, value.clone()).await?;
                txn.event_append("step", value.clone()).await?;
                txn.state_set("counter", 1).await?;
                txn.trace_record("thought", value.clone()).await?;
                Ok(())
            };
            run.transaction(body).await?;
        }
    }
    Ok(())
}

/// Every operation `COUNT` times, each in whatever way `wait` has to see it through.
fn count(
    run: &RunHandle,
    operation: &str,
    wait: impl Fn(&RunHandle, &str, &str, Value) -> Result<()>,
) -> Result<(u64, u64)> {
    let mut total = AllocationInfo::default();
    for number in 0..COUNT {
        let (key, value) = (format!("a-key-of-some-length-{:06}", number % 1_000), Value::from("x".repeat(100)));
        let mut result = Ok(());
        total += measure(|| result = wait(run, operation, &key, value));
        result?;
    }
    Ok((total.count_total, total.bytes_total))
}

fn on_shard(run: &RunHandle, operation: &str, key: &str, value: Value) -> Result<()> {
    let waited = || Err(Error::Other("on the shard nothing waits".into()));
    operate(run, operation, key, value).now_or_never().unwrap_or_else(waited)
}

fn from_thread(run: &RunHandle, operation: &str, key: &str, value: Value) -> Result<()> {
    block_on(operate(run, operation, key, value))
}

#[expect(clippy::cast_precision_loss, reason = "there are fewer than that")]
fn row((count, bytes): (u64, u64)) -> String {
    format!("{:.1} | {:.0}", count as f64 / COUNT as f64, bytes as f64 / COUNT as f64)
}

async fn compare() -> Result<()> {
    let database = Database::builder().shards(1).history(HistoryRetention::Off).open().await?;
    let run = database.run(RunId::new());
    println!("| allocations of | on the shard | bytes | by the caller, from a thread | bytes |\n|---|---|---|---|---|");
    for operation in OPERATIONS {
        // The first of each make room for what grows.
        let counting = move |local: LocalRun| async move {
            count(&local, "put", on_shard)?;
            count(&local, operation, on_shard)?;
            count(&local, operation, on_shard)
        };
        let shard = database.spawn_on(run.id(), counting).await?;
        println!("| {operation} | {} | {} |", row(shard), row(count(&run, operation, from_thread)?));
    }
    database.close().await
}

fn main() -> Result<()> {
    tokio::runtime::Builder::new_current_thread().build()?.block_on(compare())
}
