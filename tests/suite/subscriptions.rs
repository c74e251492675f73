//! Subscriptions: every committed change once and in order, from any place that history reaches, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use crate::support::{MODES, directory, in_memory, on_tokio, open, output_of, part, spawn_part};
use futures::{FutureExt, StreamExt};
use in_mem::prelude::*;
use in_mem::{HistoryRetention, Partitioning, serde_json};

/// The next so many items.
async fn take<T: Debug>(subscription: &mut Subscription<T>, count: usize) -> Vec<T> {
    let mut items = Vec::new();
    while items.len() < count {
        items.push(subscription.next().await.unwrap().unwrap());
    }
    items
}

/// Whether there is nothing to take now, nor soon.
async fn is_quiet<T: Debug>(subscription: &mut Subscription<T>) -> bool {
    tokio::time::timeout(Duration::from_millis(20), subscription.next()).await.is_err()
}

async fn layout(shards: usize, partitioning: Partitioning) -> Database {
    Database::builder()
        .durability(DurabilityMode::InMemory)
        .shards(shards)
        .partitioning(partitioning)
        .open()
        .await
        .unwrap()
}

#[test]
fn events_come_from_any_sequence_and_then_live() {
    on_tokio(async {
        for mode in MODES {
            let directory = directory();
            let database = open(directory.path(), mode, 2).await;
            let run = database.start_run(RunOptions::default()).await.unwrap();
            for number in 0..3000 {
                run.events().append("early", number).await.unwrap();
                if mode == DurabilityMode::Strict && number > 20 {
                    break;
                }
            }
            let len = run.events().len().await.unwrap();
            let mut all = run.events().subscribe(0).await.unwrap();
            let mut tail = run.events().subscribe(len - 2).await.unwrap();
            run.events().append("late", Value::Null).await.unwrap();
            let events = take(&mut all, usize::try_from(len).unwrap() + 1).await;
            assert_eq!(events, run.events().read_range(0, u64::MAX).await.unwrap());
            assert_eq!(take(&mut tail, 3).await, events[events.len() - 3..]);
            assert_eq!((all.cursor(), tail.cursor()), (len + 1, len + 1));
            assert!(is_quiet(&mut all).await);
            let (later, appended) = tokio::join!(take(&mut all, 1), run.events().append("more", 1));
            assert_eq!(later[0].sequence, appended.unwrap().0);
        }
    });
}

#[test]
fn pairs_come_in_the_order_of_their_commits_whoever_writes_them() {
    on_tokio(async {
        for (shards, partitioning) in [(1, Partitioning::ByRun), (3, Partitioning::ByRun), (3, Partitioning::ByKey)] {
            let database = layout(shards, partitioning).await;
            let run = database.start_run(RunOptions::default()).await.unwrap();
            run.kv().put("w-0", "before").await.unwrap();
            let mut all = run.kv().watch(Some("w-")).await.unwrap();
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let run = run.clone();
                    tokio::spawn(async move {
                        for number in 0..100 {
                            let key = format!("w-{}", (writer * 7 + number) % 20);
                            if number % 10 == 0 {
                                run.kv().delete(&key).await.unwrap();
                            } else if number % 3 == 0 {
                                // On several shards, if keys are.
                                run.kv().put_many([(key.as_str(), number), ("w-x", number)]).await.unwrap();
                            } else {
                                run.kv().put(&key, number).await.unwrap();
                            }
                            run.kv().put("other", number).await.unwrap();
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
            run.kv().put("w-end", 1).await.unwrap();
            let mut told: Vec<KvChange> = Vec::new();
            while told.last().is_none_or(|last| last.key != "w-end") {
                told.extend(take(&mut all, 1).await);
            }
            assert!(told.is_sorted_by(|a, b| (a.version, &a.key) < (b.version, &b.key)), "in order, each once");
            let mut by_key: BTreeMap<String, Vec<(Version, Option<Value>)>> = BTreeMap::new();
            for change in told {
                by_key.entry(change.key).or_default().push((change.version, change.value));
            }
            for (key, told) in by_key {
                let history = run.kv().history(&key).await.unwrap();
                let history: Vec<_> = history.into_iter().map(|old| (old.version, old.value)).collect();
                let skipped = usize::from(key == "w-0");
                assert_eq!(told, history[skipped..], "key={key}");
            }
            assert!(is_quiet(&mut all).await);
        }
    });
}

#[test]
fn a_cursor_goes_on_in_the_next_process_and_in_another_layout() {
    on_tokio(async {
        let directory = directory();
        let by_key = |shards: usize| {
            Database::builder().path(directory.path()).shards(shards).partitioning(Partitioning::ByKey).open()
        };
        let (kept, events, run) = {
            let database = by_key(3).await.unwrap();
            let run = database.start_run(RunOptions::default()).await.unwrap();
            let mut changes = run.kv().watch(None).await.unwrap();
            let mut events = run.events().subscribe(0).await.unwrap();
            run.kv().put_many([("a", 1), ("b", 2), ("c", 3)]).await.unwrap();
            run.kv().put("d", 4).await.unwrap();
            run.events().append_many([("x", 1), ("y", 2)]).await.unwrap();
            // In the middle of a commit.
            assert_eq!(take(&mut changes, 2).await[1].key, "b");
            assert_eq!(take(&mut events, 1).await[0].sequence, 0);
            run.kv().delete("a").await.unwrap();
            let kept = serde_json::to_string(&changes.cursor()).unwrap();
            database.close().await.unwrap();
            (kept, events.cursor(), run.id())
        };
        let database = by_key(2).await.unwrap();
        let run = database.run(run);
        let cursor: Cursor = serde_json::from_str(&kept).unwrap();
        let mut changes = run.kv().watch_from(None, cursor).await.unwrap();
        run.kv().put("e", 5).await.unwrap();
        let told = take(&mut changes, 4).await;
        let shown: Vec<_> = told.iter().map(|change| (change.key.as_str(), change.value.clone())).collect();
        let expected = [("c", Some(3)), ("d", Some(4)), ("a", None), ("e", Some(5))];
        assert_eq!(shown, expected.map(|(key, value)| (key, value.map(Value::from))));
        let mut events = run.events().subscribe(events).await.unwrap();
        assert_eq!(take(&mut events, 1).await[0].sequence, 1);
        let future = Cursor::from(Version::from(u64::MAX));
        assert!(matches!(run.kv().watch_from(None, future).await, Err(Error::InvalidOperation(_))));
    });
}

#[test]
fn who_is_slow_catches_up_from_history_or_is_told_that_it_is_gone() {
    on_tokio(async {
        let database = layout(1, Partitioning::ByRun).await;
        for history in [HistoryRetention::Forever, HistoryRetention::Off] {
            let options = RunOptions { history: Some(history), ..RunOptions::default() };
            let run = database.start_run(options).await.unwrap();
            let mut slow = run.kv().watch(None).await.unwrap();
            for round in 0..50 {
                run.kv().put_many((0..100).map(|key| (format!("{key:02}"), round))).await.unwrap();
            }
            if history == HistoryRetention::Forever {
                let told = take(&mut slow, 5000).await;
                assert!(told.is_sorted_by(|a, b| (a.version, &a.key) < (b.version, &b.key)));
                assert!(is_quiet(&mut slow).await);
                run.kv().put("live", 1).await.unwrap();
                assert_eq!(take(&mut slow, 1).await[0].key, "live");
                continue;
            }
            let error = slow.next().await.unwrap().unwrap_err();
            let Error::NotKept { version, kept_from } = error else { panic!("{error}") };
            assert!(version < kept_from);
            assert!(slow.next().await.is_none(), "it has ended");
            let mut anew = run.kv().watch(None).await.unwrap();
            run.kv().put("live", 1).await.unwrap();
            assert_eq!(take(&mut anew, 1).await[0].key, "live");
        }
    });
}

#[test]
fn a_cell_is_watched_from_its_current_state_on_and_each_state_is_tested_once() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        run.states().set("n", 0).await.unwrap();
        run.states().set("n", 0).await.unwrap();
        let mut cell = run.states().watch("n").await.unwrap();
        let mut tested = Vec::new();
        let waiting = run.states().wait_for("n", |state| {
            tested.push(state.version);
            state.value.as_i64() == Some(400)
        });
        let writers = futures::future::join_all((0..4).map(|_| {
            let run = run.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    run.states().increment("n", 1).await.unwrap();
                }
            })
        }));
        let (found, _) = tokio::join!(waiting, writers);
        assert_eq!(found.unwrap().version, 402);
        let from = tested[0];
        assert_eq!(tested, (from..=402).collect::<Vec<_>>());
        let before = cell.cursor();
        let seen = take(&mut cell, 401).await;
        assert_eq!(seen.iter().map(|state| state.version).collect::<Vec<_>>(), (2..=402).collect::<Vec<_>>());
        assert_eq!(take(&mut run.states().watch_from("n", before).await.unwrap(), 401).await, seen);
        run.states().delete("n").await.unwrap();
        assert!(is_quiet(&mut cell).await, "that it is deleted is not told");
        run.states().set("n", 7).await.unwrap();
        assert_eq!(take(&mut cell, 1).await[0].version, 403);
        let mut absent = run.states().watch("absent").await.unwrap();
        assert!(is_quiet(&mut absent).await);
        database.close().await.unwrap();
    });
}

#[test]
fn what_is_known_about_runs_is_told_by_status() {
    on_tokio(async {
        let database = layout(3, Partitioning::ByRun).await;
        let runs = database.runs();
        let start = runs.watch(None).await.unwrap().cursor();
        let mut failed = runs.watch(Some(RunStatus::Failed)).await.unwrap();
        let mut all = runs.watch(None).await.unwrap();
        for number in 0..30 {
            let name = format!("run-{number}");
            runs.create_run(&name).await.unwrap();
            if number % 3 == 0 {
                runs.fail_run(&name, "why").await.unwrap();
            }
        }
        let told = take(&mut all, 40).await;
        assert!(told.is_sorted_by(|a, b| a.version < b.version));
        let expected: Vec<_> = told.iter().filter(|one| one.metadata.status == RunStatus::Failed).cloned().collect();
        assert_eq!((take(&mut failed, 10).await, expected.len()), (expected.clone(), 10));
        assert!(is_quiet(&mut failed).await);
        assert_eq!(take(&mut runs.watch_from(None, start.clone()).await.unwrap(), 40).await, told);
        assert_eq!(take(&mut runs.watch_from(Some(RunStatus::Failed), start).await.unwrap(), 10).await, expected);
    });
}

#[test]
fn documents_are_told_as_a_whole() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let mut documents = run.json().watch(Some("plan")).await.unwrap();
        run.json().create("plan", serde_json::json!({"steps": [1]})).await.unwrap();
        run.json().create("other", serde_json::json!({})).await.unwrap();
        run.json().array_push("plan", "steps", 2).await.unwrap();
        run.json().delete("plan").await.unwrap();
        let told: Vec<_> = take(&mut documents, 3).await.into_iter().map(|change| change.value).collect();
        let expected = [Some(serde_json::json!({"steps": [1]})), Some(serde_json::json!({"steps": [1, 2]})), None];
        assert_eq!(told, expected);
    });
}

#[test]
fn it_ends_with_its_run_and_with_the_database() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        let run = database.start_run(RunOptions::default()).await.unwrap();
        let mut pairs = run.kv().watch(None).await.unwrap();
        let mut events = run.events().subscribe(0).await.unwrap();
        let waiting = tokio::spawn(run.states().wait_for("never", |_| true));
        run.kv().put("a", 1).await.unwrap();
        tokio::task::yield_now().await;
        database.runs().delete_run(run.id()).await.unwrap();
        assert_eq!(take(&mut pairs, 1).await[0].key, "a");
        assert!(pairs.next().await.is_none() && events.next().await.is_none() && pairs.next().await.is_none());
        assert!(matches!(waiting.await.unwrap(), Err(Error::KeyNotFound(_))));
        assert!(run.kv().watch(None).await.unwrap().next().await.is_none(), "there was one");
        let from_start = Cursor::from(Version::default());
        assert!(run.kv().watch_from(None, from_start).await.unwrap().next().await.is_none_or(|told| told.is_ok()));

        let other = database.start_run(RunOptions::default()).await.unwrap();
        let mut closed = other.kv().watch(None).await.unwrap();
        let waiting = tokio::spawn(async move { closed.next().await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        database.close().await.unwrap();
        assert!(matches!(waiting.await.unwrap(), Some(Err(Error::Unavailable(_)))));
        assert!(matches!(other.kv().watch(None).await, Err(Error::Unavailable(_))));
        drop((database, run, other));

        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        let run = database.start_run(RunOptions::default()).await.unwrap();
        let mut left = run.kv().watch(None).await.unwrap();
        let polled = tokio::spawn(async move { (left.next().await, left.next().await) });
        let mut unpolled = run.kv().watch(None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop((database, run));
        let (last, behind) = polled.await.unwrap();
        assert!(matches!(last, Some(Err(Error::Unavailable(_)))), "it keeps no database open");
        assert!(behind.is_none());
        assert!(matches!(unpolled.next().await, Some(Err(Error::Unavailable(_)))));
        drop(open(directory.path(), DurabilityMode::Strict, 2).await);
    });
}

#[test]
fn a_next_that_is_dropped_loses_nothing() {
    on_tokio(async {
        let database = layout(2, Partitioning::ByKey).await;
        let run = database.start_run(RunOptions::default()).await.unwrap();
        let mut changes = run.kv().watch(None).await.unwrap();
        let writer = {
            let run = run.clone();
            tokio::spawn(async move {
                for number in 0..500 {
                    run.kv().put(format!("{number:03}"), number).await.unwrap();
                }
            })
        };
        let mut told = Vec::new();
        while told.len() < 500 {
            // Dropped after one poll, or after a while.
            if let Some(change) = changes.next().now_or_never() {
                told.push(change.unwrap().unwrap());
            } else if let Ok(change) = tokio::time::timeout(Duration::from_micros(50), changes.next()).await {
                told.push(change.unwrap().unwrap());
            }
        }
        assert!(told.iter().map(|change| change.key.parse::<usize>().unwrap()).eq(0..500));
        writer.await.unwrap();
    });
}

#[test]
fn a_run_is_subscribed_to_and_not_a_view_of_it_and_on_its_shard_too() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let refused = run.transaction(|txn| async move { txn.kv().watch(None).await.map(drop) }).await;
        assert!(matches!(refused, Err(Error::InvalidOperation(_))));
        let seen = database
            .spawn_on(run.id(), |local: LocalRun| async move {
                let mut changes = local.kv().watch(None).await?;
                local.kv().put("a", 1).await?;
                local.kv().put("b", 2).await?;
                let first = changes.next().await.unwrap()?;
                let second = changes.next().await.unwrap()?;
                let nothing = changes.next().now_or_never().is_none();
                local.kv().put("c", 3).await?;
                Ok((first.key, second.key, nothing, changes.next().await.unwrap()?.key))
            })
            .await
            .unwrap();
        assert_eq!(seen, ("a".into(), "b".into(), true, "c".into()));
    });
}

#[test]
fn the_blocking_twins_are_iterators() {
    use in_mem::blocking;
    let database = blocking::Database::open_in_memory().unwrap();
    let run = database.start_run(RunOptions::default()).unwrap();
    let mut changes = run.kv().watch(None).unwrap();
    run.kv().put("a", 1).unwrap();
    let change = changes.next().unwrap().unwrap();
    assert_eq!(changes.cursor().version(), change.version);
    let other = run.clone();
    let thread = std::thread::spawn(move || other.states().wait_for("go", |state| state.value == Value::from(true)));
    run.states().set("go", false).unwrap();
    run.states().set("go", true).unwrap();
    assert_eq!(thread.join().unwrap().unwrap().value, Value::from(true));
    run.events().append("x", 1).unwrap();
    assert_eq!(run.events().subscribe(0).unwrap().next().unwrap().unwrap().sequence, 0);
    database.close().unwrap();
    assert!(changes.next().unwrap().is_err());
    assert!(changes.next().is_none());
}

/// What this process has in memory, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn changes_without_end_that_nobody_takes_use_no_memory() {
    if let Some((part, _)) = part() {
        assert_eq!(part, "writes");
        return on_tokio(async {
            let database = Database::builder()
                .durability(DurabilityMode::InMemory)
                .history(HistoryRetention::Off)
                .shards(1)
                .open()
                .await
                .unwrap();
            let run = database.start_run(RunOptions::default()).await.unwrap();
            let write = async |round: i64| {
                let pairs = (0..10_000).map(|key| (format!("key-{key}"), round));
                run.kv().put_many(pairs).await.unwrap();
            };
            let (mut pairs, mut cell) = (run.kv().watch(None).await.unwrap(), run.states().watch("n").await.unwrap());
            for round in 0..5 {
                write(round).await;
            }
            let before = resident();
            let rounds = if cfg!(debug_assertions) { 40 } else { 100 };
            for round in 0..rounds {
                write(round).await;
                run.states().set("n", "x".repeat(100_000)).await.unwrap();
            }
            let grown = resident().saturating_sub(before);
            assert!(grown < 32 << 20, "grown={grown}");
            assert!(matches!(pairs.next().await, Some(Err(Error::NotKept { .. }))));
            assert!(cell.next().await.is_some());
        });
    }
    let directory = directory();
    let name = "subscriptions::changes_without_end_that_nobody_takes_use_no_memory";
    output_of(spawn_part(name, "writes", directory.path()));
}
