//! Views: one moment over several runs and shards, now or in the past, whatever is committed meanwhile.

use std::sync::mpsc;

use crate::support::placement::run_on;
use crate::support::{BUFFERED, MODES, directory, on_tokio, open, sharded};
use futures::StreamExt;
use in_mem::prelude::*;
use in_mem::{HistoryRetention, Partitioning};

/// What the checker of `tests/suite/history.rs` found first: a shard read its clock once for a batch of requests. A request
/// that had come while those before it were handled then read in the past, without what another shard had acknowledged
/// before it was sent. Here the first request of the batch takes until all of that has happened.
#[test]
fn a_snapshot_is_above_everything_that_was_acknowledged_before_it_was_asked_for() {
    on_tokio(async {
        let database = sharded(2).await;
        let (here, there) = (run_on(0, 2), run_on(1, 2));
        for round in 0..5 {
            let (entered, is_entered) = mpsc::channel();
            let (leave, may_leave) = mpsc::channel::<()>();
            let busy = tokio::spawn(database.spawn_on(here, move |_| {
                entered.send(()).unwrap();
                may_leave.recv().unwrap();
                async { Ok(()) }
            }));
            tokio::task::spawn_blocking(move || is_entered.recv().unwrap()).await.unwrap();
            database.kv().put(there, "k", round).await.unwrap();
            let mut view = database.snapshot_now(here);
            let mut first = Box::pin(database.transaction_across([here, there], async |txn| {
                txn.run(here).kv_get("k").await?;
                txn.run(there).kv_get("k").await
            }));
            assert!(futures::poll!(&mut view).is_pending(), "asked for, and not answered");
            assert!(futures::poll!(&mut first).is_pending(), "asked for, and not answered");
            leave.send(()).unwrap();
            let view = view.await.unwrap();
            assert_eq!(view.run(there).kv_get("k").await.unwrap(), Some(round.into()));
            assert_eq!(first.await.unwrap(), Some(round.into()));
            busy.await.unwrap().unwrap();
        }
    });
}

/// Everything that a view shows of a run, as text.
async fn look(view: &Transaction) -> String {
    let pairs: Vec<_> = view.kv().scan(ScanOptions::default()).map(Result::unwrap).collect().await;
    let events: Vec<_> = view.events().stream(0).map(Result::unwrap).collect().await;
    let cells = view.states().list().await.unwrap();
    let cell = view.state_read("s").await.unwrap();
    let traces: Vec<_> = view.traces().stream().map(Result::unwrap).collect().await;
    let counted = view.kv().count(None).await.unwrap();
    format!("{pairs:?} {counted} {events:?} {cells:?} {cell:?} {traces:?}")
}

/// Writes something in every primitive.
async fn write(run: &RunHandle, number: u64) {
    run.kv().put_many([("k".into(), number), (format!("k-{number}"), number)]).await.unwrap();
    run.events().append("e", number).await.unwrap();
    run.states().set("s", number).await.unwrap();
    run.states().set(format!("s-{number}"), number).await.unwrap();
    run.traces().record("t".into(), vec!["tag".into()], number).await.unwrap();
}

#[test]
fn a_view_does_not_change_while_others_write() {
    on_tokio(async {
        for mode in MODES {
            for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
                let directory = directory();
                let builder = Database::builder().path(directory.path()).durability(mode).shards(2);
                let database = builder.partitioning(partitioning).open().await.unwrap();
                let runs = [run_on(0, 2), run_on(1, 2), run_on(1, 2)];
                for run in runs {
                    write(&database.run(run), 0).await;
                }
                let view = database.snapshot_now(runs[0]).await.unwrap();
                assert!(view.version() > Version::default());
                let mut before = Vec::new();
                for number in 1..4 {
                    for run in runs {
                        write(&database.run(run), number).await;
                    }
                    database.kv().delete(runs[2], "k").await.unwrap();
                    let mut shown = Vec::new();
                    for run in runs {
                        assert_eq!(view.run(run).kv_get("k").await.unwrap(), Some(0.into()), "{mode:?}");
                        shown.push(look(&view.run(run)).await);
                    }
                    before = if before.is_empty() {
                        shown
                    } else {
                        assert_eq!(before, shown);
                        before
                    };
                }
                assert_eq!(view.run(runs[1]).version(), view.version());
                assert_eq!(database.kv().get(runs[1], "k").await.unwrap(), Some(3.into()));
                let now = database.snapshot_now(runs[0]).await.unwrap();
                assert!(now.version() > view.version());
                assert_eq!(now.kv().count(Some("k-")).await.unwrap(), 4);
                database.close().await.unwrap();
            }
        }
    });
}

#[test]
fn a_view_of_the_past_shows_what_was_current_then_in_every_run() {
    on_tokio(async {
        let directory = directory();
        for mode in [DurabilityMode::InMemory, BUFFERED] {
            let database = open(directory.path(), mode, 2).await;
            let (a, b) = (run_on(0, 2), run_on(1, 2));
            let mut versions = Vec::new();
            for number in 0..5 {
                let both = database.transaction_across([a, b], async |txn| {
                    txn.run(a).kv_put("k", number).await?;
                    txn.run(b).kv_put("k", -number).await?;
                    txn.run(b).kv_put(format!("k-{number}"), number).await
                });
                both.await.unwrap();
                let stored = database.kv().get_versioned(a, "k").await.unwrap().unwrap();
                let other = database.kv().get_versioned(b, "k").await.unwrap().unwrap();
                assert_eq!(stored.version, other.version, "one commit has one version everywhere");
                versions.push(stored.version);
            }
            database.kv().delete(a, "k").await.unwrap();
            for (number, version) in (0_i64..).zip(versions.clone()) {
                let view = database.snapshot_at(a, version).await.unwrap();
                assert_eq!(view.version(), version);
                assert_eq!(view.kv_get("k").await.unwrap(), Some(number.into()));
                assert_eq!(view.run(b).kv_get("k").await.unwrap(), Some((-number).into()));
                assert_eq!(view.run(b).kv().count(Some("k-")).await.unwrap().cast_signed(), number + 1);
                let before = database.snapshot_at(b, Version::from(version.get() - 1)).await.unwrap();
                let expected = (number > 0).then(|| Value::from(1 - number));
                assert_eq!(before.kv_get("k").await.unwrap(), expected);
            }
            assert!(versions.is_sorted_by(|a, b| a < b));
            database.close().await.unwrap();
        }
    });
}

#[test]
fn the_future_is_refused_and_so_are_writes() {
    on_tokio(async {
        let database = sharded(2).await;
        let (a, b) = (run_on(0, 2), run_on(1, 2));
        database.kv().put(a, "k", 1).await.unwrap();
        let now = database.snapshot_now(a).await.unwrap();
        for future in [now.version().get() + 3_600_000_000_000, u64::MAX] {
            let refused = database.snapshot_at(b, Version::from(future)).await;
            assert!(matches!(refused, Err(Error::InvalidOperation(_))), "{refused:?}");
        }
        for view in [now.clone(), now.run(b)] {
            for refused in [
                view.kv_put("k", 2).await,
                view.kv_delete("k").await.map(drop),
                view.event_append("e", 1).await.map(drop),
                view.state_set("s", 1).await.map(drop),
                view.trace_record("t", 1).await.map(drop),
                view.kv().put_many([("k", 2), ("l", 2)]).await,
            ] {
                assert!(matches!(refused, Err(Error::InvalidOperation(_))), "{refused:?}");
            }
        }
        assert_eq!(now.kv_get("k").await.unwrap(), Some(1.into()), "and the view is as it was");
        database.kv().put(a, "k", 2).await.unwrap();
        database.kv().put(b, "k", 2).await.unwrap();
    });
}

#[test]
fn what_is_no_longer_kept_is_refused_and_never_shown_wrong() {
    on_tokio(async {
        for history in [HistoryRetention::Off, HistoryRetention::Commits(2), HistoryRetention::Forever] {
            let database = Database::builder().shards(2).history(history).open().await.unwrap();
            let (a, b) = (run_on(0, 2), run_on(1, 2));
            let mut versions = Vec::new();
            for number in 0..40_i64 {
                let both = database.transaction_across([a, b], async |txn| {
                    txn.run(a).kv_put("k", number).await?;
                    txn.run(b).kv_put("k", number).await?;
                    txn.run(b).state_set("s", number).await?;
                    txn.run(b).event_append("e", number).await
                });
                both.await.unwrap();
                versions.push(database.kv().get_versioned(b, "k").await.unwrap().unwrap().version);
            }
            for (number, version) in (0..).zip(versions) {
                let view = database.snapshot_at(a, version).await.unwrap();
                for (run, is_kept) in [(a, history == HistoryRetention::Forever), (b, false)] {
                    match view.run(run).kv_get("k").await {
                        Ok(found) => assert_eq!(found, Some(Value::from(number)), "{history:?}"),
                        Err(refused) => {
                            assert!(matches!(refused, Error::InvalidOperation(_)) && !is_kept, "{history:?} {refused}");
                        }
                    }
                }
                let view = database.snapshot_at(b, version).await.unwrap();
                match view.state_read("s").await {
                    Ok(found) => assert_eq!(found.map(|state| state.value), Some(number.into()), "{history:?}"),
                    Err(refused) => assert!(matches!(refused, Error::InvalidOperation(_)), "{refused}"),
                }
                match database.snapshot_at(b, version).await.unwrap().event_len().await {
                    Ok(found) => assert_eq!(found.cast_signed(), number + 1, "{history:?}"),
                    Err(refused) => assert!(matches!(refused, Error::InvalidOperation(_)), "{refused}"),
                }
            }
        }
    });
}
