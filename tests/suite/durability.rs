//! The three modes, opening and closing.

use std::time::Duration;

use crate::support::{BUFFERED, directory, on_tokio, open};
use in_mem::prelude::*;

const RUN: RunId = RunId::from_bytes([5; 16]);

#[test]
fn what_was_written_is_there_after_closing_and_opening_again() {
    on_tokio(async {
        for mode in [BUFFERED, DurabilityMode::Strict] {
            let directory = directory();
            for round in 0..3_u64 {
                let database = open(directory.path(), mode, 2).await;
                assert_eq!(database.events().len(RUN).await.unwrap(), round, "{mode:?}");
                database.events().append(RUN, "round", round).await.unwrap();
                database.kv().put(RUN, "round", round).await.unwrap();
                database.close().await.unwrap();
            }
        }
    });
}

#[test]
fn dropping_the_last_handle_flushes_and_gives_the_directory_back() {
    on_tokio(async {
        let directory = directory();
        let slow = DurabilityMode::Buffered { flush_interval_ms: 3_600_000, max_pending_writes: 1_000_000 };
        let database = open(directory.path(), slow, 1).await;
        database.kv().put(RUN, "key", 1).await.unwrap();
        drop(database);
        let database = open(directory.path(), slow, 1).await;
        assert_eq!(database.kv().get(RUN, "key").await.unwrap(), Some(1.into()));
    });
}

#[test]
fn an_idle_buffered_database_flushes_its_tail_within_the_interval() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), BUFFERED, 1).await;
        database.kv().put(RUN, "marker", "find-me-on-disk").await.unwrap();
        let on_disk = || {
            let bytes = crate::support::segments(directory.path()).pop().map(|file| std::fs::read(file).unwrap());
            bytes.is_some_and(|bytes| bytes.windows(15).any(|window| window == b"find-me-on-disk"))
        };
        // Nothing else happens to the database; only time passes.
        for _ in 0..1000 {
            if on_disk() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the tail was never flushed");
    });
}

#[test]
fn in_memory_touches_no_disk() {
    on_tokio(async {
        let directory = directory();
        let path = directory.path().join("never");
        let database = Database::open_with_mode(&path, DurabilityMode::InMemory).await.unwrap();
        database.kv().put(RUN, "key", 1).await.unwrap();
        database.flush().await.unwrap();
        database.close().await.unwrap();
        assert!(!path.exists());
    });
}

#[test]
fn opening_with_another_number_of_shards_moves_everything_and_loses_nothing() {
    on_tokio(async {
        let directory = directory();
        let runs: Vec<RunId> = (0..20).map(|_| RunId::new()).collect();
        for (round, shards) in (0_u64..).zip([1, 4, 3, 1, 2]) {
            let database = open(directory.path(), DurabilityMode::Strict, shards).await;
            for run in &runs {
                assert_eq!(database.events().len(run).await.unwrap(), round);
                let name = format!("run-{run}");
                if round == 0 {
                    let options = RunOptions { id: Some(*run), name: Some(name.clone()), ..Default::default() };
                    database.begin_run_with(options).await.unwrap();
                }
                assert_eq!(database.runs().get_run(name).await.unwrap().map(|found| found.run_id), Some(*run));
                database.events().append(run, "round", round).await.unwrap();
                assert!(database.events().verify_chain(run).await.unwrap().is_valid);
            }
            assert_eq!(database.runs().count().await.unwrap(), 20);
            database.close().await.unwrap();
        }
    });
}

#[test]
fn flush_makes_buffered_writes_durable() {
    on_tokio(async {
        let directory = directory();
        let slow = DurabilityMode::Buffered { flush_interval_ms: 3_600_000, max_pending_writes: 1_000_000 };
        let database = open(directory.path(), slow, 2).await;
        database.kv().put(RUN, "marker", "find-me-on-disk").await.unwrap();
        database.flush().await.unwrap();
        let found = crate::support::segments(directory.path())
            .iter()
            .any(|file| std::fs::read(file).unwrap().windows(15).any(|window| window == b"find-me-on-disk"));
        assert!(found);
    });
}

#[test]
fn two_databases_live_in_one_process_and_know_nothing_of_each_other() {
    on_tokio(async {
        let (first, second) = (directory(), directory());
        let a = open(first.path(), DurabilityMode::Strict, 2).await;
        let b = open(second.path(), BUFFERED, 2).await;
        a.kv().put(RUN, "key", "a").await.unwrap();
        b.kv().put(RUN, "key", "b").await.unwrap();
        assert_eq!(a.kv().get(RUN, "key").await.unwrap(), Some("a".into()));
        a.close().await.unwrap();
        assert_eq!(b.kv().get(RUN, "key").await.unwrap(), Some("b".into()));
    });
}

#[test]
fn a_closed_database_answers_unavailable_on_every_handle() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        let (kv, clone) = (database.kv(), database.clone());
        database.close().await.unwrap();
        assert!(matches!(kv.get(RUN, "key").await, Err(Error::Unavailable(_))));
        assert!(matches!(kv.put(RUN, "key", 1).await, Err(Error::Unavailable(_))));
        clone.close().await.unwrap();
        open(directory.path(), DurabilityMode::Strict, 2).await;
    });
}

#[test]
fn time_never_goes_back_over_restarts() {
    on_tokio(async {
        let directory = directory();
        let mut last = Version::default();
        for _ in 0..5 {
            let database = open(directory.path(), DurabilityMode::Strict, 1).await;
            database.kv().put(RUN, "key", 1).await.unwrap();
            let version = database.kv().get_versioned(RUN, "key").await.unwrap().unwrap().version;
            assert!(version > last);
            last = version;
        }
    });
}

#[test]
fn many_large_values_at_once_wait_for_room_and_none_is_lost() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        // Together more than a shard stages, and before its first segment is there.
        let value = "x".repeat(12 << 20);
        let puts = (0..7).map(|number| database.kv().put(RUN, format!("key-{number}"), value.as_str()));
        futures::future::try_join_all(puts).await.unwrap();
        assert_eq!(database.kv().count(RUN, None).await.unwrap(), 7);
        database.close().await.unwrap();
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        assert_eq!(database.kv().count(RUN, None).await.unwrap(), 7);
    });
}

#[test]
fn a_commit_that_is_dropped_before_it_is_polled_commits_nothing_and_leaves_nothing() {
    on_tokio(async {
        let (database, run) = crate::support::in_memory().await;
        let transaction = database.begin_transaction(run.id()).await.unwrap();
        transaction.kv().put("key", 1).await.unwrap();
        drop(transaction.commit());
        assert_eq!(run.kv().get("key").await.unwrap(), None);
    });
}

#[test]
fn an_empty_path_is_refused_and_leaves_nothing_behind() {
    let error = on_tokio(async { Database::open("").await }).unwrap_err();
    assert!(matches!(&error, Error::InvalidOperation(reason) if reason.contains("the path is empty")), "{error}");
}

#[test]
fn closing_many_times_at_once_answers_everybody() {
    on_tokio(async {
        for round in 0..10 {
            let directory = directory();
            let database = open(directory.path(), DurabilityMode::Strict, 1).await;
            database.kv().put(RUN, "key", round).await.unwrap();
            let closers = (0..40).map(|closer| {
                let database = database.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_micros(closer * 250)).await;
                    database.close().await
                })
            });
            for closed in futures::future::join_all(closers).await {
                closed.unwrap().unwrap();
            }
        }
    });
}
