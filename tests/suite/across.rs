//! Transactions across runs, on one shard or several: all or nothing, in every primitive, as durable as was asked for.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::placement::{run_on, shard_of_run};
use crate::support::{BUFFERED, MODES, directory, on_tokio, open, part, sharded, spawn_part};
use futures::future::try_join_all;
use in_mem::prelude::*;

const FROM: RunId = RunId::from_bytes([7; 16]);
const TO: RunId = RunId::from_bytes([8; 16]);
/// Nothing is flushed before somebody asks for it.
const LAZY: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 3_600_000, max_pending_writes: 1_000_000 };

const fn durably(mode: DurabilityMode) -> TransactionOptions {
    TransactionOptions { durability: Some(mode), max_retries: 64, timeout: None, read_only: false, label: None }
}

/// Moves one of everything from a run to another.
async fn move_one(txn: &MultiTransaction, from: RunId, to: RunId) -> Result<()> {
    let (from, to) = (txn.run(from), txn.run(to));
    let thing = from.kv_get("thing").await?.ok_or_else(|| Error::other("there is no thing"))?;
    assert!(from.kv_delete("thing").await?);
    to.kv_put("thing", thing).await?;
    from.states().increment("things", -1).await?;
    to.states().increment("things", 1).await?;
    let sent = from.event_append("sent", to.run_id().to_string()).await?;
    let received = to.event_append("received", from.run_id().to_string()).await?;
    from.trace_record("sent", sent).await?;
    to.trace_record("received", received).await?;
    assert_eq!((from.kv_get("thing").await?, to.kv_exists("thing").await?), (None, true), "own writes are seen");
    assert_eq!(to.events().head().await?.unwrap().event_type, "received");
    Ok(())
}

/// How many of everything a run has: pairs, what its cell says, events, traces.
async fn held(view: &Transaction) -> Result<(u64, i64, u64, u64)> {
    let cell = view.state_read("things").await?.and_then(|state| state.value.as_i64());
    Ok((view.kv().count(None).await?, cell.unwrap_or(0), view.event_len().await?, view.traces().count().await?))
}

async fn check_moved(database: &Database, from: RunId, to: RunId) {
    let view = database.snapshot_now(from).await.unwrap();
    assert_eq!(held(&view).await.unwrap(), (0, 0, 1, 1));
    assert_eq!(held(&view.run(to)).await.unwrap(), (1, 1, 1, 1));
    assert_eq!(view.run(to).event_read(0).await.unwrap().unwrap().payload, from.to_string().into());
    for run in [from, to] {
        assert!(database.events().verify_chain(run).await.unwrap().is_valid);
    }
}

#[test]
fn something_moves_between_two_runs_at_once_or_not_at_all() {
    on_tokio(async {
        for mode in MODES {
            let directory = directory();
            let database = open(directory.path(), mode, 2).await;
            for homes in [[0, 0], [0, 1], [1, 0]] {
                let [from, to] = homes.map(|home| run_on(home, 2));
                database
                    .transaction(from, async |txn| {
                        txn.kv_put("thing", "a thing").await?;
                        txn.state_set("things", 1).await
                    })
                    .await
                    .unwrap();
                let failed = database.transaction_across([from, to], async |txn| {
                    move_one(&txn, from, to).await?;
                    Err::<(), _>(Error::other("changed its mind"))
                });
                assert!(matches!(failed.await, Err(Error::Other(_))));
                let view = database.snapshot_now(to).await.unwrap();
                assert_eq!(held(&view).await.unwrap(), (0, 0, 0, 0));
                assert_eq!(held(&view.run(from)).await.unwrap(), (1, 1, 0, 0));
                let moved = database.transaction_across([from, to], async |txn| move_one(&txn, from, to).await);
                moved.await.unwrap();
                check_moved(&database, from, to).await;
                let again = database.transaction_across([from, to], async |txn| move_one(&txn, from, to).await);
                assert!(matches!(again.await, Err(Error::Other(_))), "it is no longer there");
                if mode != DurabilityMode::InMemory {
                    database.flush().await.unwrap();
                }
            }
            database.close().await.unwrap();
        }
    });
}

#[test]
fn what_moved_is_still_there_when_the_database_is_opened_again() {
    on_tokio(async {
        for mode in [BUFFERED, DurabilityMode::Strict] {
            let directory = directory();
            let database = open(directory.path(), mode, 2).await;
            let (from, to) = (run_on(0, 2), run_on(1, 2));
            database.kv().put(from, "thing", 1).await.unwrap();
            database.states().set(from, "things", 1).await.unwrap();
            database.transaction_across([from, to], async |txn| move_one(&txn, from, to).await).await.unwrap();
            database.close().await.unwrap();
            for shards in [2, 3, 1, 2] {
                let database = open(directory.path(), mode, shards).await;
                check_moved(&database, from, to).await;
                database.close().await.unwrap();
            }
        }
    });
}

#[test]
fn nobody_sees_a_move_half_done() {
    on_tokio(async {
        let database = sharded(2).await;
        let (a, b) = (run_on(0, 2), run_on(1, 2));
        database.kv().put(a, "balance", 100).await.unwrap();
        database.kv().put(b, "balance", 0).await.unwrap();
        let balance = async |run: &Transaction| run.kv().get_as::<i64>("balance").await.map(Option::unwrap_or_default);
        let movers = (0..4).map(|mover| {
            let database = database.clone();
            tokio::spawn(async move {
                for step in 0..20_i64 {
                    let (from, to) = if (step + mover) % 2 == 0 { (a, b) } else { (b, a) };
                    let options = TransactionOptions { max_retries: u32::MAX, ..TransactionOptions::default() };
                    let moved = database.transaction_across_with([from, to], options, async |txn| {
                        let (left, right) = (txn.run(from), txn.run(to));
                        let (gives, takes) = (balance(&left).await?, balance(&right).await?);
                        left.kv_put("balance", gives - step).await?;
                        right.kv_put("balance", takes + step).await
                    });
                    moved.await?;
                }
                Ok::<(), Error>(())
            })
        });
        let watchers = (0..2).map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    let view = database.snapshot_now(a).await?;
                    assert_eq!(balance(&view).await? + balance(&view.run(b)).await?, 100);
                    let calls = AtomicU32::new(0);
                    let sum = database.transaction_across([b, a], async |txn| {
                        calls.fetch_add(1, Ordering::Relaxed);
                        Ok(balance(&txn.run(a)).await? + balance(&txn.run(b)).await?)
                    });
                    assert_eq!((sum.await?, calls.into_inner()), (100, 1), "who only reads is called once");
                }
                Ok(())
            })
        });
        for task in movers.chain(watchers).collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_transaction_across_runs_can_be_made_on_a_shard_and_without_a_runtime() {
    let (database, runs) = futures::executor::block_on(async {
        let database = sharded(2).await;
        let runs = [run_on(0, 2), run_on(1, 2)];
        for run in runs {
            let inside = database.clone();
            let done = database.spawn_on(run, move |local| async move {
                for _ in 0..50 {
                    let options = TransactionOptions { max_retries: u32::MAX, ..TransactionOptions::default() };
                    let both = inside.transaction_across_with(runs, options, async |txn| {
                        for run in runs {
                            txn.run(run).states().increment("s", 1).await?;
                        }
                        Ok(())
                    });
                    both.await?;
                }
                local.states().read("s").await
            });
            assert!(done.await.unwrap().is_some());
        }
        (database, runs)
    });
    on_tokio(async {
        let view = database.snapshot_now(runs[0]).await.unwrap();
        for run in runs {
            assert_eq!(view.run(run).state_read("s").await.unwrap().unwrap().value, 100.into());
        }
    });
}

#[test]
fn an_operation_in_a_run_that_was_not_named_is_refused() {
    on_tokio(async {
        let database = sharded(2).await;
        let (a, b, other) = (run_on(0, 2), run_on(1, 2), run_on(1, 2));
        database.kv().put(other, "k", 1).await.unwrap();
        let done = database.transaction_across([a, b, a], async |txn| {
            assert_eq!(txn.runs().iter().filter(|run| **run == b).count(), 1);
            let stranger = txn.run(other);
            for refused in [
                stranger.kv_get("k").await.map(drop),
                stranger.kv_put("k", 2).await,
                stranger.event_append("e", 1).await.map(drop),
                stranger.state_set("s", 1).await.map(drop),
                stranger.trace_record("t", 1).await.map(drop),
                stranger.kv().count(None).await.map(drop),
            ] {
                let told = format!("{refused:?}");
                assert!(
                    matches!(refused, Err(Error::InvalidOperation(_))) && told.contains(&other.to_string()),
                    "{told}"
                );
            }
            txn.run(a).kv_put("k", 3).await?;
            txn.run(b).kv_put("k", 3).await
        });
        done.await.unwrap();
        for (run, value) in [(a, 3), (b, 3), (other, 1)] {
            assert_eq!(database.kv().get(run, "k").await.unwrap(), Some(value.into()));
        }
        let nothing = database.transaction_across(Vec::<RunId>::new(), async |txn| {
            assert!(txn.runs().is_empty());
            txn.run(a).kv_put("k", 4).await
        });
        assert!(matches!(nothing.await, Err(Error::InvalidOperation(_))));
        database.transaction_across([&a, &b], async |_| Ok(())).await.unwrap();
    });
}

#[test]
fn the_bounds_hold_across_runs() {
    on_tokio(async {
        let database = sharded(2).await;
        let (a, b) = (run_on(0, 2), run_on(1, 2));
        for (max_retries, timeout, calls_expected) in [(0, None, 1), (5, None, 6), (u32::MAX, Some(Duration::ZERO), 1)]
        {
            let options = TransactionOptions { max_retries, timeout, ..TransactionOptions::default() };
            let calls = AtomicU32::new(0);
            let lost = database.transaction_across_with([a, b], options, async |txn| {
                txn.run(b).kv_get("k").await?;
                database.kv().put(b, "k", calls.fetch_add(1, Ordering::Relaxed)).await?;
                txn.run(a).kv_put("k", 1).await
            });
            let lost = lost.await.unwrap_err();
            assert_eq!(lost.is_conflict(), timeout.is_none(), "{lost}");
            assert_eq!(matches!(lost, Error::Timeout(_)), timeout.is_some(), "{lost}");
            if let Error::TransactionConflict(conflict) = lost {
                assert_eq!((conflict.run, conflict.primitive, conflict.key.as_str()), (b, "kv", "k"));
                assert!(conflict.winner.is_some());
            }
            assert_eq!(calls.into_inner(), calls_expected);
            assert!(!database.kv().exists(a, "k").await.unwrap());
        }
        let options = TransactionOptions { read_only: true, ..TransactionOptions::default() };
        let refused = database.transaction_across_with([a, b], options, async |txn| {
            assert!(txn.run(b).kv_exists("k").await?);
            txn.run(a).kv_put("k", 1).await
        });
        assert!(matches!(refused.await, Err(Error::InvalidOperation(_))));
    });
}

#[test]
fn a_run_that_has_ended_or_is_gone_takes_no_part() {
    on_tokio(async {
        let database = sharded(2).await;
        let alive = run_on(0, 2);
        for delete in [false, true] {
            let gone = run_on(1, 2);
            database.begin_run_with(RunOptions { id: Some(gone), ..RunOptions::default() }).await.unwrap();
            let meanwhile = database.transaction_across([alive, gone], async |txn| {
                txn.run(alive).kv_put("k", 1).await?;
                txn.run(gone).kv_put("k", 1).await?;
                if delete { database.runs().delete_run(gone).await } else { database.end_run(gone).await.or(Ok(())) }
            });
            let refused = meanwhile.await.unwrap_err();
            assert!(matches!(refused, Error::InvalidOperation(_)), "{refused}");
            assert!(!database.kv().exists(alive, "k").await.unwrap(), "all or nothing");
            let late = database.transaction_across([alive, gone], async |txn| {
                txn.run(alive).kv_put("k", 1).await?;
                txn.run(gone).kv_put("k", 1).await
            });
            assert!(matches!(late.await, Err(Error::InvalidOperation(_))));
            assert!(!database.kv().exists(alive, "k").await.unwrap(), "all or nothing");
        }
    });
}

#[test]
fn a_database_in_memory_refuses_to_commit_durably() {
    on_tokio(async {
        let database = sharded(2).await;
        let (a, b) = (run_on(0, 2), run_on(1, 2));
        for mode in [DurabilityMode::Strict, BUFFERED] {
            let refused = database.transaction_across_with([a, b], durably(mode), async |txn| {
                txn.run(a).kv_put("k", 1).await?;
                txn.run(b).kv_put("k", 1).await
            });
            assert!(matches!(refused.await, Err(Error::InvalidOperation(_))));
            let refused = database.transaction_with(a, durably(mode), async |txn| txn.kv_put("k", 1).await);
            assert!(matches!(refused.await, Err(Error::InvalidOperation(_))));
        }
        assert!(!database.kv().exists(a, "k").await.unwrap());
        let options = durably(DurabilityMode::InMemory);
        database.transaction_with(a, options, async |txn| txn.kv_put("k", 1).await).await.unwrap();
    });
}

#[test]
fn a_commit_that_does_not_wait_is_visible_at_once_and_durable_after_a_flush() {
    on_tokio(async {
        for mode in [BUFFERED, DurabilityMode::Strict] {
            let directory = directory();
            let database = open(directory.path(), mode, 2).await;
            let (a, b) = (run_on(0, 2), run_on(1, 2));
            for no_wait in [DurabilityMode::InMemory, BUFFERED] {
                let commits = (0..20).map(|number| {
                    database.transaction_across_with([a, b], durably(no_wait), move |txn| async move {
                        txn.run(a).kv_put(format!("{number}"), 1).await?;
                        txn.run(b).kv_put(format!("{number}"), 1).await
                    })
                });
                try_join_all(commits).await.unwrap();
                database.transaction_with(a, durably(no_wait), async |txn| txn.kv_put("one", 1).await).await.unwrap();
                for (run, count) in [(a, 21), (b, 20)] {
                    assert_eq!(database.kv().count(run, None).await.unwrap(), count);
                }
            }
            database.flush().await.unwrap();
            // What another opening would find is what is in the directory now.
            let copy = self::directory();
            copy_all(directory.path(), copy.path());
            let reopened = open(copy.path(), mode, 2).await;
            for (run, count) in [(a, 21), (b, 20)] {
                assert_eq!(reopened.kv().count(run, None).await.unwrap(), count);
            }
            reopened.close().await.unwrap();
            database.close().await.unwrap();
        }
    });
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Writes in a database that flushes nothing by itself: first as usual, then strictly, then as usual; waits to be killed.
async fn write_and_wait(path: &Path, across: bool) {
    let database = open(path, LAZY, 2).await;
    for run in [FROM, TO] {
        database.kv().put(run, "before", 1).await.unwrap();
    }
    let strictly = durably(DurabilityMode::Strict);
    if across {
        let done = database.transaction_across_with([FROM, TO], strictly, async |txn| {
            txn.run(FROM).kv_put("strict", 1).await?;
            txn.run(TO).kv_put("strict", 1).await
        });
        done.await.unwrap();
    } else {
        database.transaction_with(FROM, strictly, async |txn| txn.kv_put("strict", 1).await).await.unwrap();
    }
    for run in [FROM, TO] {
        database.kv().put(run, "after", 1).await.unwrap();
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "acknowledged").and_then(|()| out.flush()).unwrap();
    std::future::pending::<()>().await;
}

fn survive(test: &str, across: bool) {
    if let Some((_, path)) = part() {
        return on_tokio(write_and_wait(&path, across));
    }
    assert_ne!(shard_of_run(FROM, 2), shard_of_run(TO, 2));
    let directory = directory();
    let mut child = spawn_part(test, "writer", directory.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with("acknowledged")), "the writer gets that far");
    child.kill().unwrap();
    child.wait().unwrap();
    on_tokio(async {
        let database = open(directory.path(), LAZY, 2).await;
        let found = async |run, key: &str| database.kv().exists(run, key).await.unwrap();
        assert!(found(FROM, "strict").await);
        assert_eq!(found(TO, "strict").await, across);
        assert!(found(FROM, "before").await && found(TO, "before").await, "and everything before it, on every shard");
        assert!(found(FROM, "after").await || !found(TO, "after").await, "a prefix, in the order of the commits");
        database.close().await.unwrap();
    });
}

#[test]
fn a_strict_commit_across_runs_in_a_buffered_database_survives_a_kill() {
    survive("across::a_strict_commit_across_runs_in_a_buffered_database_survives_a_kill", true);
}

#[test]
fn a_strict_commit_in_one_run_of_a_buffered_database_survives_a_kill() {
    survive("across::a_strict_commit_in_one_run_of_a_buffered_database_survives_a_kill", false);
}
