//! Where `io_uring` is refused: a process that runs all of it on plain threads, dies, and is recovered there.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;

use crate::support::placement::run_on;
use crate::support::seccomp::refuse_io_uring;
use crate::support::steps::{Setting, Steps, acknowledged, check, write};
use crate::support::{MODES, directory, on_tokio, output_of, part, spawn_part};
use in_mem::prelude::*;
use in_mem::{Driver, Partitioning};

const SHARDS: usize = 2;
const SETTING: Setting =
    Setting { mode: DurabilityMode::Strict, partitioning: Partitioning::ByRun, shards: SHARDS, driver: Driver::Auto };

async fn open(path: &Path, mode: DurabilityMode) -> Database {
    let database = crate::support::open(path, mode, SHARDS).await;
    assert_eq!(database.info().driver, Driver::Threads);
    assert!(database.info().driver_reason.starts_with("io_uring is "), "{}", database.info().driver_reason);
    database
}

/// Every primitive, from outside.
async fn write_everything(run: &RunHandle) {
    run.kv().put_many((0..600).map(|number| (format!("key-{number:03}"), number))).await.unwrap();
    run.events().append("tool_call", 1).await.unwrap();
    run.states().init("phase", "planning").await.unwrap();
    run.traces().record("thought".into(), vec![], Value::Null).await.unwrap();
    run.json().create("doc", serde_json::json!({"a": {"b": [1, 2]}})).await.unwrap();
}

async fn assert_everything(database: &Database, run: RunId) {
    assert_eq!(database.kv().count(run, None).await.unwrap(), 600);
    assert_eq!(database.kv().get(run, "key-007").await.unwrap(), Some(7.into()));
    assert_eq!(database.events().len(run).await.unwrap(), 1);
    assert!(database.events().verify_chain(run).await.unwrap().is_valid);
    assert_eq!(database.states().read(run, "phase").await.unwrap().unwrap().value, "planning".into());
    assert_eq!(database.json().get(run, "doc", "a.b[1]").await.unwrap(), Some(serde_json::json!(2)));
    assert!(database.verify_run(run).await.unwrap().is_valid);
}

/// Moves money between runs of both shards from several tasks, and from a future on a shard.
async fn transact(database: &Database) {
    let runs = [run_on(0, SHARDS), run_on(1, SHARDS)];
    let pay = async |database: &Database, from: RunId, to: RunId| {
        let paid = database.transaction_across([from, to], async |txn| {
            let left = txn.run(from).kv().get_as::<i64>("money").await?.unwrap_or(0);
            let there = txn.run(to).kv().get_as::<i64>("money").await?.unwrap_or(0);
            txn.run(from).kv_put("money", left - 1).await?;
            txn.run(to).kv_put("money", there + 2).await
        });
        paid.await
    };
    let tasks = (0..4).map(|task| {
        let database = database.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                pay(&database, runs[task % 2], runs[1 - task % 2]).await.unwrap();
            }
        })
    });
    futures::future::try_join_all(tasks).await.unwrap();
    let other = database.clone();
    let on_shard = database.spawn_on(runs[0], move |local| async move {
        for _ in 0..10 {
            pay(&other, runs[0], runs[1]).await?;
        }
        local.kv().put("local", std::thread::current().name().unwrap_or_default()).await
    });
    on_shard.await.unwrap();
    let money = |run| database.kv().get_as::<i64>(run, "money");
    assert_eq!(money(runs[0]).await.unwrap().unwrap() + money(runs[1]).await.unwrap().unwrap(), 50);
    assert_eq!(database.kv().get(runs[0], "local").await.unwrap(), Some("in-mem-0".into()));
}

#[test]
fn all_of_it_works_there_and_is_there_afterwards() {
    let test = "without_io_uring::all_of_it_works_there_and_is_there_afterwards";
    if let Some((_, path)) = part() {
        refuse_io_uring();
        return on_tokio(async {
            for (number, mode) in MODES.into_iter().enumerate() {
                let path = path.join(number.to_string());
                let database = open(&path, mode).await;
                let run = database.start_run(RunOptions::default()).await.unwrap();
                write_everything(&run).await;
                transact(&database).await;
                assert_everything(&database, run.id()).await;
                if mode == DurabilityMode::InMemory {
                    continue;
                }
                database.checkpoint().await.unwrap();
                run.kv().put("behind the snapshot", true).await.unwrap();
                run.kv().delete("behind the snapshot").await.unwrap();
                database.verify().await.unwrap();
                database.backup(path.join("backup")).await.unwrap();
                database.close().await.unwrap();
                for path in [&path, &path.join("backup")] {
                    let database = open(path, mode).await;
                    assert_everything(&database, run.id()).await;
                    database.close().await.unwrap();
                }
            }
            println!("all of it");
        });
    }
    let directory = directory();
    let printed = output_of(spawn_part(test, "child", directory.path()));
    assert!(printed.contains("all of it"), "{printed}");
}

/// What a writer had acknowledged when it was killed, after so many steps.
fn kill_behind(steps: usize, mut child: Child) -> Steps {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut told = Steps::new();
    for (count, (writer, step)) in lines.filter_map(|line| acknowledged(&line)).enumerate() {
        told.insert(writer, step);
        if count == steps {
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success());
    told
}

#[test]
fn what_was_acknowledged_there_survives_a_kill() {
    let test = "without_io_uring::what_was_acknowledged_there_survives_a_kill";
    if let Some((_, path)) = part() {
        refuse_io_uring();
        return on_tokio(async { write(&open(&path, SETTING.mode).await, u32::MAX).await });
    }
    let directory = directory();
    let mut found = Steps::new();
    for kill in 1..=5 {
        let told = kill_behind(kill * 13, spawn_part(test, "writer", directory.path()));
        assert!(!told.is_empty());
        found = on_tokio(check(directory.path(), SETTING, &told, &found));
    }
}
