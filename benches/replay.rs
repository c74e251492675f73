//! What it costs to replay a run among many others, and what the digests of its commits cost those who write.
//!
//! One shard, in memory. `replay`: a run of 10,000 commits over all primitives, alone in a database, then in one with 1,000,000
//! commits of 1,000 other runs in between; each replayed and proven in turn. `digests`: puts of 100 bytes with all history, with
//! digests (`Forever`) and without (`Commits` of a number that is never reached), in turn. Medians of `ROUNDS`.
//!
//! Prediction, before the first measurement (two shared cores): a replay reads the records of its run only, the same number of
//! bytes in both databases, in 20 ms, and up to twice that among the others, because what it reads is then in no cache. A digest is
//! one hash over 200 bytes, four blocks of SHA-256 without instructions for it: 1 µs a put; with BLAKE3, 0.3 µs.

#![allow(missing_docs, reason = "a program of its own")]

use std::time::{Duration, Instant};

use in_mem::HistoryRetention;
use in_mem::prelude::*;

const ROUNDS: usize = 9;
const COMMITS: u64 = 10_000;
const OTHERS: u64 = 1_000_000;
const OTHER_RUNS: u64 = 1_000;
const PUTS: u32 = 200_000;
const RUN: RunId = RunId::from_bytes([255; 16]);

fn median<T: Copy + Ord>(mut all: Vec<T>) -> T {
    all.sort_unstable();
    all[all.len() / 2]
}

async fn in_memory(history: HistoryRetention) -> Result<Database> {
    Database::builder().shards(1).history(history).open().await
}

/// A commit of the run that is replayed: of every primitive in turn.
async fn commit(local: &LocalRun, number: u64) -> Result<()> {
    match number % 5 {
        0 => local.kv().put(format!("key-{}", number % 1_000), number).await,
        1 => local.events().append("observed", number).await.map(|_| ()),
        2 => local.states().set(format!("cell-{}", number % 100), number).await.map(|_| ()),
        3 => local.traces().record("thought".into(), vec![], number).await.map(|_| ()),
        _ => local.json().set("document", format!("/m{}", number % 100), number).await.map(|_| ()),
    }
}

/// A database in which the run's commits stand among those of others, evenly.
async fn filled(others: u64) -> Result<Database> {
    let database = in_memory(HistoryRetention::Forever).await?;
    let per_commit = others / COMMITS;
    let make = |local: LocalRun| async move { local.json().create("document", serde_json::json!({})).await };
    database.spawn_on(RUN, make).await?;
    for number in 1..COMMITS {
        database.spawn_on(RUN, move |local: LocalRun| async move { commit(&local, number).await }).await?;
        let other = RunId::from_bytes(u128::from(number % OTHER_RUNS + 1).to_be_bytes());
        let write = move |local: LocalRun| async move {
            for key in 0..per_commit {
                local.kv().put(format!("key-{number}-{key}"), "x".repeat(100)).await?;
            }
            Ok(())
        };
        database.spawn_on(other, write).await?;
    }
    Ok(database)
}

async fn replay() -> Result<()> {
    let databases = [("alone", filled(0).await?), ("among 1,000,000 other commits", filled(OTHERS).await?)];
    let mut took = [const { Vec::new() }; 2];
    let mut proved = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (at, (_, database)) in databases.iter().enumerate() {
            let started = Instant::now();
            let view = database.replay_run(RUN).await?;
            took[at].push(started.elapsed());
            assert_eq!(view.steps().len() as u64, COMMITS, "every commit is a step");
            drop(view);
            let started = Instant::now();
            assert!(database.verify_run(RUN).await?.is_valid, "it is proven");
            proved[at].push(started.elapsed());
        }
    }
    println!("| a run of {COMMITS} commits | records read | bytes read | of all in memory | replay | proof |");
    println!("|---|---|---|---|---|---|");
    for ((name, database), (took, proved)) in databases.iter().zip(took.into_iter().zip(proved)) {
        let view = database.replay_run(RUN).await?;
        let all = database.info().memory_bytes;
        println!(
            "| {name} | {} | {} KB | {} MB | {:.1} ms | {:.1} ms |",
            view.records(),
            view.bytes() / 1_000,
            all / 1_000_000,
            median(took).as_secs_f64() * 1e3,
            median(proved).as_secs_f64() * 1e3
        );
    }
    Ok(())
}

async fn puts(database: &Database, round: u64) -> Result<Duration> {
    let run = RunId::from_bytes(u128::from(round + 1).to_be_bytes());
    let write = |local: LocalRun| async move {
        let (keys, value): (Vec<String>, _) = ((0..PUTS).map(|key| format!("key-{key:07}")).collect(), "x".repeat(100));
        let value = Value::from(value);
        let started = Instant::now();
        for key in &keys {
            local.kv().put(key, value.clone()).await?;
        }
        Ok(started.elapsed())
    };
    database.spawn_on(run, write).await
}

async fn digests() -> Result<()> {
    let mut took = [const { Vec::new() }; 2];
    for round in 0..ROUNDS as u64 {
        for (at, history) in [HistoryRetention::Commits(u64::MAX), HistoryRetention::Forever].into_iter().enumerate() {
            let database = in_memory(history).await?;
            took[at].push(puts(&database, round).await?);
            database.close().await?;
        }
    }
    let [without, with] = took.map(|took| median(took).as_secs_f64() * 1e6 / f64::from(PUTS));
    println!("| a put on the shard | time |\n|---|---|");
    println!("| without digests | {without:.2} µs |\n| with digests | {with:.2} µs, {:.2} more |", with - without);
    Ok(())
}

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        if is_asked("digests") {
            digests().await?;
        }
        if is_asked("replay") {
            replay().await?;
        }
        Ok(())
    })
}
