//! Processes killed with SIGKILL in the middle of transactions over two shards: each is there whole or not at all, and
//! never without what it had seen.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use in_mem::Partitioning;
use in_mem::prelude::*;
use support::placement::shard_of_run;
use support::{BUFFERED, directory, kills, on_tokio, part, spawn_part};

const WRITERS: i64 = 4;
/// What is in all accounts together.
const MONEY: i64 = 1000;

async fn open(path: &Path, mode: DurabilityMode, partitioning: Partitioning) -> Database {
    Database::builder().path(path).durability(mode).shards(2).partitioning(partitioning).open().await.unwrap()
}

/// A run on each shard.
fn runs() -> [RunId; 2] {
    let run = |home| {
        let mut runs = (1..=u8::MAX).map(|byte| RunId::from_bytes([byte; 16]));
        runs.find(|run| shard_of_run(*run, 2) == home).unwrap()
    };
    [run(0), run(1)]
}

fn step_of(writer: i64) -> String {
    format!("step-{writer}")
}

async fn number(run: &Transaction, key: &str) -> Result<i64> {
    Ok(run.kv().get_as(key).await?.unwrap_or(0))
}

/// One step: the writer's number in both runs, what it has seen of another writer, and money from one run to the other.
async fn step(txn: &MultiTransaction, writer: i64) -> Result<i64> {
    let [here, there] = runs().map(|run| txn.run(run));
    let next = number(&here, &step_of(writer)).await? + 1;
    let other = (writer + 1 + next % (WRITERS - 1)) % WRITERS;
    let seen = number(if next % 2 == 0 { &here } else { &there }, &step_of(other)).await?;
    let saw = format!("saw-{writer}-{other}");
    here.kv_put(&saw, seen).await?;
    for run in [&here, &there] {
        run.kv_put(step_of(writer), next).await?;
        run.event_append(step_of(writer), next).await?;
    }
    let amount = next % 7 - 3;
    let (left, right) = (number(&here, "money").await?, number(&there, "money").await?);
    here.kv_put("money", left - amount).await?;
    there.kv_put("money", right + amount).await?;
    Ok(next)
}

/// Steps for ever, and says after each that was acknowledged who took it.
async fn write_for_ever(path: &Path, mode: DurabilityMode, partitioning: Partitioning) {
    let database = open(path, mode, partitioning).await;
    if !database.kv().exists(runs()[0], "money").await.unwrap() {
        let opened = database.transaction_across(runs(), async |txn| {
            txn.run(runs()[0]).kv_put("money", MONEY).await?;
            txn.run(runs()[1]).kv_put("money", 0).await
        });
        opened.await.unwrap();
    }
    let writers = (0..WRITERS).map(|writer| {
        let database = database.clone();
        tokio::spawn(async move {
            loop {
                let options = TransactionOptions { max_retries: u32::MAX, ..TransactionOptions::default() };
                let done = database.transaction_across_with(runs(), options, async |txn| step(&txn, writer).await);
                let step = done.await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {writer} {step}").and_then(|()| out.flush()).unwrap();
            }
        })
    });
    futures::future::join_all(writers.collect::<Vec<_>>()).await;
}

/// Checks what is there against what was acknowledged. Returns how many steps there are.
async fn check(
    path: &Path,
    mode: DurabilityMode,
    partitioning: Partitioning,
    acknowledged: &BTreeMap<i64, i64>,
) -> i64 {
    let database = open(path, mode, partitioning).await;
    let view = database.snapshot_now(runs()[0]).await.unwrap();
    let [here, there] = runs().map(|run| view.run(run));
    let mut steps = BTreeMap::new();
    for writer in 0..WRITERS {
        let step = number(&here, &step_of(writer)).await.unwrap();
        assert_eq!(number(&there, &step_of(writer)).await.unwrap(), step, "all or nothing: writer={writer}");
        for run in [&here, &there] {
            let events = run.events().read_by_type(step_of(writer)).await.unwrap();
            let told: Vec<i64> = events.iter().filter_map(|event| event.payload.as_i64()).collect();
            assert_eq!(told, (1..=step).collect::<Vec<_>>(), "every step once, in order: writer={writer}");
        }
        let last = acknowledged.get(&writer).copied().unwrap_or(0);
        assert!(step >= last || mode != DurabilityMode::Strict, "writer={writer} acknowledged={last} found={step}");
        steps.insert(writer, step);
    }
    for writer in 0..WRITERS {
        for (other, step) in &steps {
            let seen = number(&here, &format!("saw-{writer}-{other}")).await.unwrap();
            assert!(seen <= *step, "never without what it had seen: writer={writer} other={other} {seen} {step}");
        }
    }
    let money = number(&here, "money").await.unwrap() + number(&there, "money").await.unwrap();
    assert!(money == MONEY || (money == 0 && mode != DurabilityMode::Strict), "money={money}");
    for run in runs() {
        assert!(database.events().verify_chain(run).await.unwrap().is_valid);
    }
    database.close().await.unwrap();
    steps.into_values().sum()
}

fn survive(test: &str, mode: DurabilityMode, partitioning: Partitioning) {
    if let Some((_, path)) = part() {
        return on_tokio(write_for_ever(&path, mode, partitioning));
    }
    let directory = directory();
    let mut steps = 0;
    for kill in 0..kills(8) {
        let mut child = spawn_part(test, "writer", directory.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut acknowledged = BTreeMap::new();
        let mut left = 1 + kill * 37 % 90;
        for line in lines {
            let Some((writer, step)) = line.strip_prefix("acknowledged ").and_then(|line| line.split_once(' ')) else {
                continue;
            };
            let Ok(step) = step.parse::<i64>() else { continue };
            acknowledged.insert(writer.parse::<i64>().unwrap(), step);
            // Killed in the middle of what comes next; what it still says after that counts as well.
            left = left.saturating_sub(1);
            if left == 0 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert_eq!(left, 0, "the writers get that far");
        steps = on_tokio(check(directory.path(), mode, partitioning, &acknowledged));
    }
    println!("{} kills, {steps} steps", kills(8));
    assert!(steps > 0, "something must have been written");
}

#[test]
fn strict_transactions_over_two_runs_survive() {
    survive("strict_transactions_over_two_runs_survive", DurabilityMode::Strict, Partitioning::ByRun);
}

#[test]
fn buffered_transactions_over_two_runs_are_a_prefix() {
    survive("buffered_transactions_over_two_runs_are_a_prefix", BUFFERED, Partitioning::ByRun);
}

#[test]
fn strict_transactions_over_spread_keys_survive() {
    survive("strict_transactions_over_spread_keys_survive", DurabilityMode::Strict, Partitioning::ByKey);
}

#[test]
fn buffered_transactions_over_spread_keys_are_a_prefix() {
    survive("buffered_transactions_over_spread_keys_are_a_prefix", BUFFERED, Partitioning::ByKey);
}
