//! Transactions: one snapshot, own writes, all or nothing, and what conflicts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{directory, in_memory, on_tokio, open, sharded};
use futures::StreamExt;
use in_mem::Conflict;
use in_mem::prelude::*;

/// Commits, and says what it conflicted with.
async fn conflict(transaction: OpenTransaction) -> Option<Conflict> {
    match transaction.commit().await.unwrap() {
        CommitOutcome::Committed(_) => None,
        CommitOutcome::Conflicted(conflict) => Some(conflict),
        other => panic!("another outcome: {other:?}"),
    }
}

const fn at_most(max_retries: u32) -> TransactionOptions {
    TransactionOptions { durability: None, max_retries, timeout: None, read_only: false, label: None }
}

#[test]
fn a_transaction_reads_its_own_writes_in_every_primitive() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        run.kv().put_many([("a", 1), ("b", 2)]).await.unwrap();
        run.events().append("old", 1).await.unwrap();
        let parent = run.traces().record("root".into(), vec!["old".into()], Value::Null).await.unwrap();
        let done = run.transaction(async |txn| {
            txn.kv_put("c", 3).await?;
            assert!(txn.kv_delete("a").await?);
            assert!(!txn.kv_delete("a").await?);
            assert_eq!((txn.kv_get("a").await?, txn.kv_get("c").await?), (None, Some(3.into())));
            assert_eq!(txn.kv_list(None).await?, ["b", "c"]);
            assert_eq!(txn.kv().get_many(["c", "a", "b"]).await?, [Some(3.into()), None, Some(2.into())]);
            assert_eq!(txn.kv().delete_many(["b", "x"]).await?, 1);
            assert_eq!(txn.kv().count(None).await?, 1);
            assert_eq!(txn.event_append("new", 2).await?, 1);
            assert_eq!(txn.events().append_many([("new", 3), ("other", 4)]).await?, 2..4);
            assert_eq!((txn.event_len().await?, txn.event_read(3).await?.unwrap().event_type.as_str()), (4, "other"));
            assert_eq!(txn.events().read_by_type("new").await?.len(), 2);
            assert_eq!(txn.events().event_types().await?, ["new", "old", "other"]);
            assert_eq!(txn.events().head().await?.unwrap().sequence, 3);
            assert!(txn.events().verify_chain().await?.is_valid);
            assert_eq!(txn.events().stream(0).count().await, 4);
            assert_eq!(txn.state_init("s", 1).await?, 1);
            assert_eq!(txn.state_set("s", 2).await?, 2);
            assert_eq!(txn.state_cas("s", 2, 3).await?, 3);
            assert_eq!(txn.states().increment("s", 4).await?, 7);
            assert_eq!(txn.state_transition("s", |state| Ok((Value::Null, state.version))).await?, (4, 5));
            assert_eq!(txn.state_read("s").await?.unwrap().version, 5);
            assert_eq!(txn.states().list().await?, ["s"]);
            let child = txn.trace_record_child(&parent, "step", Value::Null).await?;
            let leaf = txn.traces().record_child(&child, "leaf".into(), vec!["new".into()], Value::Null).await?;
            assert_eq!(txn.traces().query_by_tag("new").await?[0].id, leaf);
            assert_eq!(txn.traces().query_by_type("Custom:step").await?[0].id, child);
            assert_eq!(txn.traces().get_tree(&parent).await?.unwrap().children[0].children[0].trace.id, leaf);
            assert_eq!((txn.traces().count().await?, txn.traces().get_roots().await?.len()), (3, 1));
            assert_eq!(txn.traces().stream().count().await, 3);
            Ok(txn.run_id())
        });
        assert_eq!(done.await.unwrap(), run.id());
        assert_eq!(run.kv().list(None).await.unwrap(), ["c"]);
        assert_eq!(run.events().len().await.unwrap(), 4);
        assert!(run.events().verify_chain().await.unwrap().is_valid);
        assert_eq!(run.states().read("s").await.unwrap().unwrap().version, 5);
        assert_eq!(run.traces().count().await.unwrap(), 3);
    });
}

#[test]
fn the_short_names_do_what_the_long_ones_do() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let ids = run.transaction(async |txn| {
            txn.kv_put_with_ttl("short", 1, Duration::ZERO).await?;
            txn.kv_put_with_ttl("long", 1, Duration::MAX).await?;
            assert!(txn.kv_exists("long").await?);
            let data = TraceType::Thought { content: "so".into(), confidence: None };
            let first = txn.trace_record(data, "more").await?;
            let second = txn.trace_record_with("plan", vec!["tag".into()], Value::Null).await?;
            let third = txn.trace_record_child(&first, String::from("step"), Value::Null).await?;
            Ok([first, second, third])
        });
        let ids = ids.await.unwrap();
        assert_eq!(run.kv().list(None).await.unwrap(), ["long"]);
        let traces = run.traces();
        let first = traces.get(&ids[0]).await.unwrap().unwrap();
        assert_eq!((first.trace_type.kind().as_str(), first.metadata), ("Thought", "more".into()));
        let second = traces.get(&ids[1]).await.unwrap().unwrap();
        assert_eq!(second.trace_type, TraceType::Custom { name: "plan".into(), data: Value::Null });
        assert_eq!(second.tags, ["tag"]);
        assert_eq!(traces.get_children(&ids[0]).await.unwrap()[0].id, ids[2]);
    });
}

#[test]
fn an_error_rolls_everything_back() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let root = run.traces().record("root".into(), vec![], Value::Null).await.unwrap();
        let calls = AtomicU32::new(0);
        let failed = run.transaction(async |txn| {
            calls.fetch_add(1, Ordering::Relaxed);
            txn.kv_put("k", 1).await?;
            txn.event_append("e", 1).await?;
            txn.state_set("s", 1).await?;
            txn.trace_record_child(&root, "t", Value::Null).await?;
            Err::<(), _>(Error::other("changed its mind"))
        });
        let failed = failed.await;
        assert!(matches!(&failed, Err(Error::Other(error)) if error.to_string() == "changed its mind"), "{failed:?}");
        assert_eq!(calls.into_inner(), 1, "an error of the closure is not tried again");
        assert!(!run.kv().exists("k").await.unwrap());
        assert!(run.events().is_empty().await.unwrap());
        assert!(!run.states().exists("s").await.unwrap());
        assert_eq!(run.traces().count().await.unwrap(), 1);
        assert!(run.traces().get_children(&root).await.unwrap().is_empty());
    });
}

#[test]
fn an_operation_that_is_refused_leaves_the_transaction_as_it_was() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let done = run.transaction(async |txn| {
            txn.state_init("s", 1).await?;
            assert!(matches!(txn.state_init("s", 2).await, Err(Error::AlreadyExists(_))));
            assert!(matches!(txn.state_cas("s", 9, 2).await, Err(Error::VersionMismatch { expected: 9, actual: 1 })));
            assert!(matches!(txn.kv_put("", 1).await, Err(Error::InvalidOperation(_))));
            assert!(matches!(txn.trace_record_child("x", "t", 1).await, Err(Error::KeyNotFound(_))));
            assert!(matches!(txn.events().append_expected(5, "e", 1).await, Err(Error::VersionMismatch { .. })));
            txn.kv_put("k", 1).await
        });
        done.await.unwrap();
        assert!(run.kv().exists("k").await.unwrap());
        assert_eq!(run.states().read("s").await.unwrap().unwrap().value, 1.into());
    });
}

#[test]
fn a_conflict_names_the_run_the_key_and_the_version_that_won() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        run.kv().put("k", 1).await.unwrap();
        let transaction = database.begin_transaction(run.id()).await.unwrap();
        assert_eq!(transaction.kv_get("k").await.unwrap(), Some(1.into()));
        transaction.kv_put("other", 1).await.unwrap();
        run.kv().put("k", 2).await.unwrap();
        let winner = run.kv().get_versioned("k").await.unwrap().map(|found| found.version);
        assert!(winner.is_some());
        let expected = Conflict { run: run.id(), primitive: "kv", key: "k".into(), winner };
        assert_eq!(conflict(transaction).await, Some(expected.clone()));
        assert!(!run.kv().exists("other").await.unwrap(), "nothing of it was written");
        let error = Error::TransactionConflict(expected);
        assert!(error.is_conflict() && error.is_retryable());
        let message = error.to_string();
        let parts = [run.id().to_string(), "\"k\"".into(), winner.unwrap().to_string()];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    });
}

#[test]
fn a_commit_has_the_version_of_what_it_wrote() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let transaction = database.begin_transaction(run.id()).await.unwrap();
        transaction.kv_put("a", 1).await.unwrap();
        transaction.kv_put("b", 2).await.unwrap();
        let CommitOutcome::Committed(version) = transaction.commit().await.unwrap() else { panic!("no conflict here") };
        for key in ["a", "b"] {
            assert_eq!(run.kv().get_versioned(key).await.unwrap().unwrap().version, version);
        }
        let nothing = database.begin_transaction(run.id()).await.unwrap();
        assert_eq!(nothing.commit().await.unwrap(), CommitOutcome::Committed(Version::default()));
    });
}

/// What a transaction reads, what somebody else writes meanwhile, and whether the two collide.
async fn collide<T>(
    read: impl AsyncFn(&Transaction) -> Result<T>,
    write: impl AsyncFn(&RunHandle) -> Result<()>,
) -> Option<String> {
    let (database, run) = in_memory().await;
    run.kv().put_many([("a", 1), ("b1", 1), ("b2", 1)]).await.unwrap();
    run.events().append("e", 1).await.unwrap();
    run.states().set("s", 1).await.unwrap();
    run.traces().record("t".into(), vec!["tag".into()], Value::Null).await.unwrap();
    let transaction = database.begin_transaction(run.id()).await.unwrap();
    read(&transaction).await.unwrap();
    transaction.kv_put("mine", 1).await.unwrap();
    write(&run).await.unwrap();
    let conflict = conflict(transaction).await;
    assert_eq!(run.kv().exists("mine").await.unwrap(), conflict.is_none());
    conflict.map(|conflict| {
        assert_eq!(conflict.run, run.id());
        format!("{} {}", conflict.primitive, conflict.key)
    })
}

#[test]
fn what_was_read_and_changed_conflicts_and_what_was_not_does_not() {
    on_tokio(async {
        let put = async |run: &RunHandle| run.kv().put("a", 2).await;
        assert_eq!(collide(async |txn| txn.kv_get("a").await, put).await.as_deref(), Some("kv a"));
        assert_eq!(collide(async |txn| txn.kv_exists("a").await, put).await.as_deref(), Some("kv a"));
        assert_eq!(collide(async |txn| txn.kv().get_versioned("a").await, put).await.as_deref(), Some("kv a"));
        assert_eq!(collide(async |txn| txn.kv().get_many(["b1", "a"]).await, put).await.as_deref(), Some("kv a"));
        assert_eq!(collide(async |txn| txn.kv().history("a").await, put).await.as_deref(), Some("kv a"));
        assert_eq!(collide(async |txn| txn.kv_get("b1").await, put).await, None);
        let same = async |run: &RunHandle| run.kv().put("a", 1).await;
        assert_eq!(collide(async |txn| txn.kv_get("a").await, same).await.as_deref(), Some("kv a"));
        let delete = async |run: &RunHandle| run.kv().delete("a").await.map(drop);
        assert_eq!(collide(async |txn| txn.kv_get("a").await, delete).await.as_deref(), Some("kv a"));
        let set = async |run: &RunHandle| run.states().set("s", 2).await.map(drop);
        assert_eq!(collide(async |txn| txn.state_read("s").await, set).await.as_deref(), Some("states s"));
        assert_eq!(collide(async |txn| txn.state_set("s", 2).await, set).await.as_deref(), Some("states s"));
        assert_eq!(collide(async |txn| txn.kv_get("a").await, set).await, None);
        let append = async |run: &RunHandle| run.events().append("e", 2).await.map(drop);
        assert!(collide(async |txn| txn.event_len().await, append).await.is_some());
        assert!(collide(async |txn| txn.event_append("e", 3).await, append).await.is_some());
        assert!(collide(async |txn| txn.events().read_by_type("e").await, append).await.is_some());
        assert_eq!(collide(async |txn| txn.events().read_by_type("f").await, append).await, None);
        assert_eq!(collide(async |txn| txn.event_read(0).await, append).await, None, "an event never changes");
        assert!(collide(async |txn| txn.event_read(1).await, append).await.is_some(), "this one was not there yet");
        let record = async |run: &RunHandle| {
            let recorded = run.traces().record("t".into(), vec!["tag".into()], Value::Null).await;
            recorded.map(drop)
        };
        assert!(collide(async |txn| txn.traces().query_by_tag("tag").await, record).await.is_some());
        assert_eq!(collide(async |txn| txn.traces().query_by_tag("other").await, record).await, None);
        assert!(collide(async |txn| txn.traces().count().await, record).await.is_some());
        assert_eq!(collide(async |txn| txn.trace_record("t", Value::Null).await, record).await, None);
    });
}

#[test]
fn what_was_absent_or_an_empty_range_conflicts_when_it_is_filled() {
    on_tokio(async {
        let fill = async |run: &RunHandle| run.kv().put("c1", 1).await;
        let found = |conflict: Option<String>| assert_eq!(conflict.as_deref(), Some("kv c1"));
        found(collide(async |txn| txn.kv_get("c1").await, fill).await);
        found(collide(async |txn| txn.kv_delete("c1").await, fill).await);
        found(collide(async |txn| txn.kv().get_many_map(["c1", "c2"]).await, fill).await);
        found(collide(async |txn| txn.kv_list(Some("c")).await, fill).await);
        found(collide(async |txn| txn.kv().count(None).await, fill).await);
        found(collide(async |txn| txn.kv().list_with_values(Some("c")).await, fill).await);
        let range = ScanOptions { start: Some("c".into()), end: Some("d".into()), ..ScanOptions::default() };
        let scan = async |txn: &Transaction| Ok(txn.kv().scan(range.clone()).count().await);
        found(collide(scan, fill).await);
        assert_eq!(collide(async |txn| txn.kv_list(Some("b")).await, fill).await, None);
        assert_eq!(collide(async |txn| txn.kv_get("c2").await, fill).await, None);
        let gone = async |run: &RunHandle| run.kv().delete("b1").await.map(drop);
        let conflict = collide(async |txn| txn.kv_list(Some("b")).await, gone).await;
        assert_eq!(conflict.as_deref(), Some("kv b1"), "a range that lost something conflicts too");
        let cell = async |run: &RunHandle| run.states().set("new", 1).await.map(drop);
        assert_eq!(collide(async |txn| txn.states().list().await, cell).await.as_deref(), Some("states new"));
        assert_eq!(collide(async |txn| txn.state_read("new").await, cell).await.as_deref(), Some("states new"));
    });
}

#[test]
fn a_run_that_ends_or_is_deleted_meanwhile_takes_the_commit_no_more() {
    on_tokio(async {
        let end = async |run: &RunHandle| run.end().await;
        let conflict = collide(async |txn| txn.kv_put("blind", 1).await, end).await;
        assert!(conflict.is_some_and(|conflict| conflict.starts_with("runs")));
        let (database, run) = in_memory().await;
        let transaction = database.begin_transaction(run.id()).await.unwrap();
        transaction.kv_put("k", 1).await.unwrap();
        database.runs().delete_run(run.id()).await.unwrap();
        assert!(matches!(transaction.commit().await.unwrap(), CommitOutcome::Conflicted(_)));
        let again = run.transaction(async |txn| txn.kv_put("k", 1).await).await;
        assert!(matches!(again, Err(Error::InvalidOperation(_))), "{again:?}");
    });
}

#[test]
fn blind_writes_never_conflict() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let first = database.begin_transaction(run.id()).await.unwrap();
        let second = database.begin_transaction(run.id()).await.unwrap();
        for (transaction, value) in [(&first, 1), (&second, 2)] {
            transaction.kv_put("k", value).await.unwrap();
            transaction.kv().put_many([("l", value)]).await.unwrap();
            transaction.trace_record("t", value).await.unwrap();
        }
        run.kv().put("k", 3).await.unwrap();
        assert_eq!(conflict(second).await, None);
        assert_eq!(conflict(first).await, None);
        assert_eq!(run.kv().get("k").await.unwrap(), Some(1.into()), "the later commit counts");
        assert_eq!(run.traces().count().await.unwrap(), 2);
    });
}

#[test]
fn a_transaction_that_only_reads_never_aborts_and_sees_one_snapshot() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        run.kv().put_many((0..600).map(|number| (format!("key-{number:03}"), 1))).await.unwrap();
        run.events().append("e", 1).await.unwrap();
        let transaction = database.begin_transaction(run.id()).await.unwrap();
        assert_eq!(transaction.kv_get("key-000").await.unwrap(), Some(1.into()));
        run.kv().put_many((0..600).map(|number| (format!("key-{number:03}"), 2))).await.unwrap();
        run.kv().put("new", 2).await.unwrap();
        run.kv().delete("key-001").await.unwrap();
        run.events().append("e", 2).await.unwrap();
        run.states().set("s", 2).await.unwrap();
        run.traces().record("t".into(), vec![], Value::Null).await.unwrap();
        assert_eq!(transaction.kv_get("key-001").await.unwrap(), Some(1.into()));
        assert_eq!(transaction.kv_get("new").await.unwrap(), None);
        let pairs: Vec<_> = transaction.kv().scan(ScanOptions::default()).map(Result::unwrap).collect().await;
        assert!(pairs.len() == 600 && pairs.iter().all(|(_, value)| *value == 1.into()));
        assert_eq!(transaction.event_len().await.unwrap(), 1);
        assert_eq!(transaction.event_read(1).await.unwrap(), None);
        assert_eq!(transaction.state_read("s").await.unwrap(), None);
        assert_eq!(transaction.traces().count().await.unwrap(), 0);
        assert_eq!(transaction.kv().history("key-001").await.unwrap().len(), 1);
        assert_eq!(conflict(transaction).await, None);
        let calls = AtomicU32::new(0);
        let read = run.transaction(async |txn| {
            calls.fetch_add(1, Ordering::Relaxed);
            let before = txn.kv_get("new").await?;
            run.kv().put("new", 3).await?;
            assert_eq!(txn.kv_get("new").await?, before);
            Ok(before)
        });
        assert_eq!(read.await.unwrap(), Some(2.into()));
        assert_eq!(calls.into_inner(), 1);
    });
}

#[test]
fn a_transaction_that_is_dropped_or_aborted_leaves_nothing_and_holds_nothing_up() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let dropped = database.begin_transaction(run.id()).await.unwrap();
        dropped.kv_put("k", 1).await.unwrap();
        drop(dropped);
        let aborted = database.begin_transaction(run.id()).await.unwrap();
        aborted.kv_put("k", 1).await.unwrap();
        let handle = (*aborted).clone();
        aborted.abort();
        assert!(matches!(handle.kv_get("k").await, Err(Error::InvalidOperation(_))));
        assert!(!run.kv().exists("k").await.unwrap());
        database.close().await.unwrap();
        let late = database.begin_transaction(run.id()).await;
        let late = match late {
            Err(error) => error,
            Ok(transaction) => transaction.kv_put("k", 1).await.unwrap_err(),
        };
        assert!(matches!(late, Error::Unavailable(_)), "{late:?}");
    });
}

#[test]
fn a_handle_that_outlives_its_transaction_is_refused() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let kept = run.transaction(|txn| async move {
            txn.kv_put("k", 1).await?;
            Ok(txn)
        });
        let kept = kept.await.unwrap();
        let open = database.begin_transaction(run.id()).await.unwrap();
        let (handle, late) = ((*open).clone(), open.kv_put("late", 1));
        assert_eq!(conflict(open).await, None);
        for refused in [kept.kv_put("k", 2).await, handle.kv_put("k", 2).await, late.await] {
            assert!(matches!(refused, Err(Error::InvalidOperation(_))), "{refused:?}");
        }
        assert!(matches!(kept.kv_get("k").await, Err(Error::InvalidOperation(_))));
        let mut scan = kept.kv().scan(ScanOptions::default());
        assert!(matches!(scan.next().await, Some(Err(Error::InvalidOperation(_)))));
        assert!(scan.next().await.is_none());
        assert_eq!(run.kv().list_with_values(None).await.unwrap(), [("k".into(), 1.into())]);
    });
}

/// A transaction that somebody else always gets in the way of. Returns its result and how often it was called.
async fn never_wins(options: TransactionOptions) -> (Result<()>, u32) {
    let (database, run) = in_memory().await;
    let calls = AtomicU32::new(0);
    let result = database.transaction_with(run.id(), options, async |txn| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        txn.kv_get("k").await?;
        run.kv().put("k", call).await?;
        txn.kv_put("mine", 1).await
    });
    let result = result.await;
    assert!(!run.kv().exists("mine").await.unwrap());
    (result, calls.into_inner())
}

#[test]
fn a_transaction_is_tried_again_up_to_its_bounds() {
    on_tokio(async {
        for retries in [0, 1, 7] {
            let (result, calls) = never_wins(at_most(retries)).await;
            assert!(matches!(&result, Err(error) if error.is_conflict()), "{result:?}");
            assert_eq!(calls, retries + 1);
        }
        let timeout = Some(Duration::ZERO);
        let (result, calls) = never_wins(TransactionOptions { timeout, ..at_most(u32::MAX) }).await;
        assert!(matches!(result, Err(Error::Timeout(Duration::ZERO))), "{result:?}");
        assert_eq!(calls, 1, "the time is looked at between attempts");
        let timeout = Some(Duration::from_millis(30));
        let (result, calls) = never_wins(TransactionOptions { timeout, ..at_most(u32::MAX) }).await;
        assert!(matches!(result, Err(Error::Timeout(_))), "{result:?}");
        assert!(calls > 1);
        let (database, run) = in_memory().await;
        let calls = AtomicU32::new(0);
        let won = database.transaction(run.id(), async |txn| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            txn.kv_get("k").await?;
            if call < 3 {
                run.kv().put("k", call).await?;
            }
            txn.kv_put("mine", call).await
        });
        won.await.unwrap();
        assert_eq!((calls.into_inner(), run.kv().get("mine").await.unwrap()), (4, Some(3.into())));
    });
}

#[test]
fn a_read_only_transaction_refuses_writes() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        run.kv().put("k", 1).await.unwrap();
        let options = TransactionOptions { read_only: true, label: Some("look".into()), ..at_most(0) };
        let refused = database.transaction_with(run.id(), options.clone(), async |txn| {
            for result in [
                txn.kv_put("k", 2).await,
                txn.kv_delete("k").await.map(drop),
                txn.event_append("e", 1).await.map(drop),
                txn.state_set("s", 1).await.map(drop),
                txn.states().increment("s", 1).await.map(drop),
                txn.trace_record("t", 1).await.map(drop),
            ] {
                assert!(matches!(result, Err(Error::InvalidOperation(_))), "{result:?}");
            }
            txn.kv_get("k").await
        });
        assert_eq!(refused.await.unwrap(), Some(1.into()));
    });
}

#[test]
fn a_counter_that_is_read_and_written_by_many_transactions_counts_everyone() {
    on_tokio(async {
        let directory = directory();
        for database in [sharded(2).await, open(directory.path(), DurabilityMode::Strict, 2).await] {
            let run = database.begin_run().await;
            let tasks = (0..8).map(|_| {
                let database = database.clone();
                tokio::spawn(async move {
                    for _ in 0..10 {
                        let count = database.transaction_with(run, at_most(u32::MAX), async |txn| {
                            let count = txn.kv_get("count").await?.and_then(|value| value.as_i64()).unwrap_or(0);
                            txn.kv_put("count", count + 1).await
                        });
                        count.await.unwrap();
                    }
                })
            });
            futures::future::try_join_all(tasks).await.unwrap();
            assert_eq!(database.kv().get(run, "count").await.unwrap(), Some(80.into()));
        }
    });
}

#[test]
fn a_pair_that_expires_while_it_is_looked_at_conflicts() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let transaction = loop {
            run.kv().put_with_ttl("k", 1, Duration::from_millis(50)).await.unwrap();
            let transaction = database.begin_transaction(run.id()).await.unwrap();
            if transaction.kv_exists("k").await.unwrap() {
                break transaction;
            }
        };
        transaction.kv_put("seen", 1).await.unwrap();
        while run.kv().exists("k").await.unwrap() {
            tokio::task::yield_now().await;
        }
        assert!(transaction.kv_exists("k").await.unwrap(), "the snapshot does not change");
        assert!(matches!(transaction.commit().await.unwrap(), CommitOutcome::Conflicted(_)));
    });
}

#[test]
fn operations_of_one_transaction_can_be_made_at_the_same_time() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let done = run.transaction(async |txn| {
            let puts = (0..100).map(|number| txn.kv_put(format!("key-{number}"), number));
            futures::future::try_join_all(puts).await?;
            let (count, sequence) = futures::try_join!(txn.kv().count(None), txn.event_append("e", 1))?;
            Ok((count, sequence))
        });
        assert_eq!(done.await.unwrap(), (100, 0));
        assert_eq!(run.kv().count(None).await.unwrap(), 100);
    });
}

#[test]
fn an_operation_dropped_on_its_way_does_not_lose_the_others() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let done = run.transaction(async |txn| {
            txn.kv_put("a", 1).await?;
            let mut dropped = Box::pin(txn.kv_put("dropped", 1));
            let _ = futures::poll!(&mut dropped);
            drop(dropped);
            drop(txn.kv_put("never polled", 1));
            txn.kv_put("b", 1).await
        });
        done.await.unwrap();
        assert_eq!(run.kv().list(None).await.unwrap(), ["a", "b", "dropped"], "what was sent happens");
    });
}

#[test]
fn a_panic_in_the_closure_aborts_the_transaction() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let id = run.id();
        let task = tokio::spawn(database.transaction(id, |txn| async move {
            txn.kv_put("k", 1).await?;
            assert!(!txn.kv_exists("k").await?, "planned by the test");
            Ok(())
        }));
        assert!(task.await.unwrap_err().is_panic());
        assert!(!run.kv().exists("k").await.unwrap());
        run.transaction(async |txn| txn.kv_put("k", 2).await).await.unwrap();
    });
}

#[test]
fn a_transaction_that_is_dropped_is_aborted_though_its_handles_live_on() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let open = database.begin_transaction(run.id()).await.unwrap();
        let kv = open.kv();
        kv.put("k", 1).await.unwrap();
        drop(open);
        assert!(matches!(kv.put("k", 2).await, Err(Error::InvalidOperation(_))));
        assert_eq!(run.kv().get("k").await.unwrap(), None);
    });
}
