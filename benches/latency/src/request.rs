//! What a caller asks for, made before the clock starts.

use std::future::ready;
use std::hint::black_box;

use futures::TryStreamExt;
use in_mem::blocking;
use in_mem::prelude::*;

use crate::case::{Items, Operation, Setup};

/// About how many bytes are written at once to fill a database.
const BATCH_BYTES: usize = 100_000;
/// The type of every event.
pub(crate) const EVENT: &str = "step";

pub(crate) fn key(number: u64) -> String {
    format!("key-{number:08}")
}

pub(crate) struct Request {
    operation: Operation,
    key: String,
    value: Value,
    /// The version of the state cell.
    version: u64,
}

impl Request {
    /// The keys come in a scattered order, each once before the first comes again.
    pub(crate) fn new(operation: Operation, number: u64, setup: &Setup) -> Self {
        let mut key = key(number.wrapping_mul(48_271) % setup.count);
        match operation {
            Operation::List => key.truncate(key.len() - 1),
            Operation::Scan => key.truncate(key.len() - 3),
            _ => {}
        }
        let is_read =
            matches!(operation, Operation::Get | Operation::List | Operation::Scan | Operation::Len | Operation::Head);
        let value = if is_read { Value::Null } else { "x".repeat(setup.value_bytes).into() };
        Self { operation, key, value, version: 1 + number / setup.count }
    }

    pub(crate) async fn ask(self, database: &Database, run: &RunHandle, pair: [RunId; 2]) -> Result<()> {
        let Self { operation, key, value, version } = self;
        match operation {
            Operation::Get => assert!(run.kv().get(key).await?.is_some(), "it is there"),
            Operation::Put => run.kv().put(key, value).await?,
            Operation::List => drop(black_box(run.kv().list(Some(&key)).await?)),
            Operation::Scan => {
                let options = ScanOptions { prefix: Some(key), ..ScanOptions::default() };
                let look = |pair| {
                    black_box(pair);
                    ready(Ok(()))
                };
                run.kv().scan(options).try_for_each(look).await?;
            }
            Operation::Append => drop(black_box(run.events().append(EVENT, value).await?)),
            Operation::Len => drop(black_box(run.events().len().await?)),
            Operation::Head => assert!(run.events().head().await?.is_some(), "it is there"),
            Operation::Cas => drop(black_box(run.states().cas(key, version, value).await?)),
            Operation::Transaction => {
                let body = async |txn: Transaction| {
                    txn.kv_put(&key, value.clone()).await?;
                    txn.event_append(EVENT, value.clone()).await?;
                    txn.state_set("counter", 1).await?;
                    txn.trace_record("thought", value.clone()).await?;
                    Ok(())
                };
                run.transaction(body).await?;
            }
            Operation::Across => {
                let body = async |txn: MultiTransaction| {
                    txn.run(pair[0]).kv_put(&key, value.clone()).await?;
                    txn.run(pair[1]).kv_put(&key, value.clone()).await
                };
                database.transaction_across(pair, body).await?;
            }
        }
        Ok(())
    }

    /// The same through the blocking interface, as far as threads are asked to.
    pub(crate) fn ask_blocking(self, run: &blocking::RunHandle) -> Result<()> {
        use in_mem::blocking::primitives::{EventLogExt, KVStoreExt, StateCellExt, TraceStoreExt};
        let Self { operation, key, value, .. } = self;
        match operation {
            Operation::Get => assert!(run.kv().get(key)?.is_some(), "it is there"),
            Operation::Put => run.kv().put(key, value)?,
            Operation::Append => drop(black_box(run.events().append(EVENT, value)?)),
            Operation::Transaction => run.transaction(|txn| {
                txn.kv_put(&key, value.clone())?;
                txn.event_append(EVENT, value.clone())?;
                txn.state_set("counter", 1)?;
                txn.trace_record("thought", value.clone())?;
                Ok(())
            })?,
            other => return Err(Error::InvalidOperation(format!("no thread asks for {other:?}"))),
        }
        Ok(())
    }
}

/// Writes everything that a run is to hold.
pub(crate) async fn fill(run: &RunHandle, setup: &Setup) -> Result<()> {
    let value = || Value::from("x".repeat(setup.value_bytes));
    let batch = (BATCH_BYTES / setup.value_bytes).clamp(1, 1_000) as u64;
    let mut from = 0;
    while from < setup.count {
        let numbers = from..(from + batch).min(setup.count);
        from = numbers.end;
        match setup.items {
            Items::Pairs => run.kv().put_many(numbers.map(|number| (key(number), value()))).await?,
            Items::Events => {
                run.events().append_many(numbers.map(|_| (EVENT, value()))).await?;
            }
            Items::Cells => {
                let body = async |txn: Transaction| {
                    for number in numbers.clone() {
                        txn.state_set(key(number), value()).await?;
                    }
                    Ok(())
                };
                run.transaction(body).await?;
            }
        }
    }
    Ok(())
}
