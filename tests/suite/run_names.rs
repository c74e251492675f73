//! Names of runs over several shards: unique, and there exactly as long as their run is.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use crate::support::placement::{name_on, run_on};
use crate::support::{BUFFERED, directory, on_tokio, part, spawn_part};
use in_mem::Partitioning;
use in_mem::prelude::*;

const KILLS: usize = 12;
const NAMES: usize = 6;

async fn open(path: &Path, mode: DurabilityMode, partitioning: Partitioning) -> Database {
    Database::builder().path(path).durability(mode).shards(2).partitioning(partitioning).open().await.unwrap()
}

#[test]
fn of_many_who_take_a_name_at_once_one_gets_it() {
    on_tokio(async {
        for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
            let database = Database::builder().shards(4).partitioning(partitioning).open().await.unwrap();
            for (round, home) in (0..4).cycle().take(16).enumerate() {
                let name = name_on(&format!("agent-{round}"), home, 4);
                let takers = (0..12).map(|taker| {
                    let id = run_on(taker % 4, 4);
                    let options = RunOptions { id: Some(id), name: Some(name.clone()), ..RunOptions::default() };
                    let (database, name) = (database.clone(), name.clone());
                    tokio::spawn(async move {
                        if taker % 2 == 0 {
                            database.begin_run_with(options).await
                        } else {
                            database.runs().create_run(name).await.map(|run| run.run_id)
                        }
                    })
                });
                let mut winners = Vec::new();
                for taker in takers.collect::<Vec<_>>() {
                    match taker.await.unwrap() {
                        Ok(run) => winners.push(run),
                        Err(Error::AlreadyExists(told)) => assert!(told.contains(&name), "{told}"),
                        Err(other) => panic!("{other}"),
                    }
                }
                assert_eq!(winners.len(), 1, "name={name}");
                let found = database.runs().get_run(name.as_str()).await.unwrap().unwrap();
                assert_eq!((found.run_id, found.name), (winners[0], name));
            }
            assert_eq!(database.runs().count().await.unwrap(), 16, "who lost has made nothing");
            assert_eq!(database.runs().list_runs().await.unwrap().len(), 16);
        }
    });
}

#[test]
fn a_name_is_free_as_soon_as_its_run_is_deleted() {
    on_tokio(async {
        for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
            let directory = directory();
            let database = open(directory.path(), DurabilityMode::Strict, partitioning).await;
            for (name_home, run_home) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let name = name_on("agent", name_home, 2);
                let mut before = None;
                for round in 0..3 {
                    let id = run_on(run_home, 2);
                    let options = RunOptions { id: Some(id), name: Some(name.clone()), ..RunOptions::default() };
                    let run = database.start_run(options).await.unwrap();
                    run.kv().put("round", round).await.unwrap();
                    let taken = database.runs().create_run(&name).await;
                    assert!(matches!(taken, Err(Error::AlreadyExists(_))), "{taken:?}");
                    if round % 2 == 0 {
                        database.runs().delete_run(name.as_str()).await.unwrap();
                    } else {
                        database.runs().delete_run(id).await.unwrap();
                    }
                    assert!(!database.runs().exists(name.as_str()).await.unwrap());
                    assert!(!database.runs().exists(id).await.unwrap());
                    let again = database.runs().delete_run(name.as_str()).await;
                    assert!(matches!(again, Err(Error::KeyNotFound(_))), "{again:?}");
                    let late = run.kv().put("late", 1).await;
                    assert!(matches!(late, Err(Error::InvalidOperation(_))), "{late:?}");
                    assert_ne!(before.replace(id), Some(id));
                }
                database.runs().create_run(&name).await.unwrap();
                database.runs().delete_run(name.as_str()).await.unwrap();
            }
            assert_eq!(database.runs().count().await.unwrap(), 0);
            database.close().await.unwrap();
        }
    });
}

#[test]
fn those_who_make_and_those_who_delete_agree() {
    on_tokio(async {
        let database = Database::builder().shards(2).open().await.unwrap();
        let tasks = (0..6).map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                let (mut made, mut deleted) = (0, 0);
                for _ in 0..30 {
                    match database.runs().create_run("the one").await {
                        Ok(_) => made += 1,
                        Err(Error::AlreadyExists(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                    match database.runs().delete_run("the one").await {
                        Ok(()) => deleted += 1,
                        Err(Error::KeyNotFound(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                (made, deleted)
            })
        });
        let (mut made, mut deleted) = (0, 0);
        for task in tasks.collect::<Vec<_>>() {
            let (more_made, more_deleted) = task.await.unwrap();
            made += more_made;
            deleted += more_deleted;
        }
        let left = database.runs().count().await.unwrap();
        assert_eq!(made, deleted + left, "every run was deleted once at most");
        assert_eq!(database.runs().exists("the one").await.unwrap(), left == 1);
    });
}

/// Makes named runs and deletes them for ever.
async fn make_and_delete(path: &Path, mode: DurabilityMode) {
    let database = open(path, mode, Partitioning::ByKey).await;
    let mut out = std::io::stdout().lock();
    for round in 0_u64.. {
        for name in (0..NAMES).map(|number| format!("agent-{number}")) {
            if !database.runs().exists(name.as_str()).await.unwrap() {
                let run =
                    database.start_run(RunOptions { name: Some(name.clone()), ..RunOptions::default() }).await.unwrap();
                run.kv().put_many((0..6).map(|key| (format!("{key}"), round))).await.unwrap();
            } else if round % 2 == 1 {
                database.runs().delete_run(name.as_str()).await.unwrap();
            }
        }
        writeln!(out, "acknowledged {round}").and_then(|()| out.flush()).unwrap();
    }
}

/// A name leads to its run, a run has its name, and what is gone left nothing.
async fn check_names(path: &Path, mode: DurabilityMode) {
    let database = open(path, mode, Partitioning::ByKey).await;
    let listed = database.runs().list_runs().await.unwrap();
    assert_eq!(database.runs().count().await.unwrap(), listed.len() as u64);
    for run in &listed {
        let named = database.runs().get_run(run.name.as_str()).await.unwrap();
        assert_eq!(named.as_ref(), Some(run));
        let keys = database.kv().count(run.run_id, None).await.unwrap();
        assert!(keys == 0 || keys == 6, "put_many is atomic over shards: keys={keys}");
    }
    for name in (0..NAMES).map(|number| format!("agent-{number}")) {
        let is_listed = listed.iter().any(|run| run.name == name);
        assert_eq!(database.runs().exists(name.as_str()).await.unwrap(), is_listed, "name={name}");
        let taken = database.runs().create_run(&name).await;
        assert_eq!(taken.is_ok(), !is_listed, "a name without a run is free: name={name} {taken:?}");
        if !is_listed {
            database.runs().delete_run(name.as_str()).await.unwrap();
        }
    }
    database.close().await.unwrap();
}

fn survive(test: &str, mode: DurabilityMode) {
    if let Some((_, path)) = part() {
        return on_tokio(make_and_delete(&path, mode));
    }
    let directory = directory();
    for kill in 0..KILLS {
        let mut child = spawn_part(test, "writer", directory.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        // Killed in the middle of what comes after that.
        let rounds = lines.filter(|line| line.contains("acknowledged")).take(1 + kill % 4).count();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(rounds, 1 + kill % 4, "the writer gets that far");
        on_tokio(check_names(directory.path(), mode));
    }
}

#[test]
fn a_run_and_its_name_go_together_though_the_process_is_killed_in_strict_mode() {
    survive(
        "run_names::a_run_and_its_name_go_together_though_the_process_is_killed_in_strict_mode",
        DurabilityMode::Strict,
    );
}

#[test]
fn a_run_and_its_name_go_together_though_the_process_is_killed_in_buffered_mode() {
    survive("run_names::a_run_and_its_name_go_together_though_the_process_is_killed_in_buffered_mode", BUFFERED);
}
