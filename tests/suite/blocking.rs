//! The blocking API, from plain threads.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::support::{BUFFERED, directory, on_tokio};
use in_mem::blocking::prelude::*;
use in_mem::blocking::{DatabaseBuilder, DatabaseHealth, json_patch, serde_json};
use serde_json::json;
use static_assertions::{assert_impl_all, assert_not_impl_any};

// As cheap to share as the handles that they wait for.
assert_impl_all!(Database: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(DatabaseBuilder: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(RunHandle: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(KVStore: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(RunKv: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(Transaction: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(OpenTransaction: std::fmt::Debug, Send, Sync);
assert_not_impl_any!(OpenTransaction: Clone);
assert_impl_all!(Scan: std::fmt::Debug, Send, Iterator<Item = Result<(String, Value)>>);
assert_impl_all!(EventStream: Send, Iterator<Item = Result<Event>>);

fn in_memory() -> (Database, RunHandle) {
    let database = Database::builder().shards(2).open().unwrap();
    let run = database.start_run(RunOptions::default()).unwrap();
    (database, run)
}

#[test]
fn every_primitive_works_without_a_runtime() {
    let (database, run) = in_memory();
    let id = run.id();

    run.kv().put_many([("a", 1), ("b", 2)]).unwrap();
    run.kv().put_as("c", &[1, 2]).unwrap();
    assert_eq!(database.kv().get_many(id, ["b", "none"]).unwrap(), [Some(2.into()), None]);
    assert_eq!(database.kv().get_as::<Vec<u8>>(&id, "c").unwrap(), Some(vec![1, 2]));
    assert!(run.kv().delete("c").unwrap());

    assert_eq!(run.events().append("seen", Value::Null).unwrap().0, 0);
    assert_eq!(database.events().append_many(id, [("x", 1), ("y", 2)]).unwrap(), 1..3);
    assert!(run.events().verify_chain().unwrap().is_valid);

    assert_eq!(run.states().init("cell", 1).unwrap(), 1);
    let mut calls = 0;
    let changed = database.states().transition(id, "cell", |state| {
        calls += 1;
        Ok((Value::from(state.value.as_i64().unwrap() + 1), "changed"))
    });
    assert_eq!(changed.unwrap(), ("changed", 2));
    assert_eq!(calls, 1);
    assert_eq!(run.states().increment("cell", 40).unwrap(), 42);

    let root = run.traces().record("thought".into(), vec!["tag".into()], Value::Null).unwrap();
    database.traces().record_child(id, &root, "action".into(), vec![], Value::Null).unwrap();
    assert_eq!(run.traces().get_tree(&root).unwrap().unwrap().children.len(), 1);

    run.json().create("plan", json!({"steps": []})).unwrap();
    database.json().array_push(id, "plan", "/steps", "read").unwrap();
    let patch: json_patch::Patch =
        serde_json::from_value(json!([{"op": "add", "path": "/done", "value": false}])).unwrap();
    run.json().patch("plan", patch).unwrap();
    assert_eq!(run.json().get("plan", "").unwrap(), Some(json!({"steps": ["read"], "done": false})));

    let named = database.runs().create_run("agent").unwrap();
    assert_eq!(database.runs().get_run("agent").unwrap().unwrap().run_id, named.run_id);
    run.end().unwrap();
    assert_eq!(database.run_status(id).unwrap(), Some(RunStatus::Completed));
    assert!(matches!(run.kv().put("late", 1), Err(Error::InvalidOperation(_))));
    assert!(matches!(run.kv().get(""), Err(Error::InvalidOperation(_))), "what is refused at the door is refused");
    database.close().unwrap();
}

#[test]
fn handles_are_made_of_a_database_however_it_is_held() {
    let (database, run) = in_memory();
    let shared = Arc::new(database.clone());
    let stores = [KVStore::new(database.clone()), KVStore::new(&database), KVStore::new(&shared), KVStore::new(shared)];
    for (number, store) in stores.iter().enumerate() {
        assert_eq!(store.count(run.id(), None).unwrap(), number as u64);
        store.put(run.id(), number.to_string(), number).unwrap();
    }
}

#[test]
fn an_asynchronous_handle_becomes_a_blocking_one() {
    on_tokio(async {
        let database = in_mem::Database::open_in_memory().await.unwrap();
        let run = database.begin_run().await;
        let blocking = Database::from(database.clone());
        let thread = thread::spawn(move || blocking.kv().put(run, "from", "a thread"));
        thread.join().unwrap().unwrap();
        assert_eq!(database.kv().get(run, "from").await.unwrap(), Some("a thread".into()));
    });
}

#[test]
fn streams_are_iterators() {
    let (_database, run) = in_memory();
    run.kv().put_many((0..600).map(|number| (format!("key-{number:03}"), number))).unwrap();
    run.events().append_many((0..300).map(|number| ("e", number))).unwrap();
    run.traces().record("t".into(), vec![], Value::Null).unwrap();

    let mut scan = run.kv().scan(ScanOptions { limit: Some(400), ..ScanOptions::default() });
    assert_eq!(scan.cursor(), None);
    assert_eq!(scan.next().unwrap().unwrap(), ("key-000".to_owned(), 0.into()));
    run.kv().delete("key-399").unwrap();
    let pairs: Vec<_> = scan.by_ref().collect::<Result<_>>().unwrap();
    assert_eq!((pairs.len(), &*pairs[398].0), (399, "key-399"), "at one snapshot");
    assert!(scan.next().is_none());
    let rest = ScanOptions { cursor: scan.cursor(), ..ScanOptions::default() };
    assert_eq!(run.kv().scan(rest).count(), 200);

    let events: Vec<Event> = run.events().stream(10).map(Result::unwrap).collect();
    assert_eq!((events.len(), events[0].sequence), (290, 10));
    assert_eq!(run.traces().stream().count(), 1);
}

#[test]
fn transactions_of_many_threads_conflict_and_run_again() {
    const THREADS: u32 = 8;
    const ROUNDS: u32 = 25;
    let (database, run) = in_memory();
    let id = run.id();
    run.kv().put("balance", 0).unwrap();
    let attempts = AtomicU32::new(0);
    let all_have_read = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut is_first = true;
                for _ in 0..ROUNDS {
                    let options = TransactionOptions { max_retries: u32::MAX, ..TransactionOptions::default() };
                    let added = database.transaction_with(id, options, |txn| {
                        attempts.fetch_add(1, Ordering::Relaxed);
                        let balance = txn.kv_get("balance")?.and_then(|balance| balance.as_i64()).unwrap();
                        if std::mem::take(&mut is_first) {
                            all_have_read.wait();
                        }
                        txn.kv_put("balance", balance + 1)?;
                        txn.event_append("added", balance)
                    });
                    added.unwrap();
                }
            });
        }
    });
    assert_eq!(run.kv().get("balance").unwrap(), Some(i64::from(THREADS * ROUNDS).into()));
    let seen: Vec<_> = run.events().stream(0).map(|event| event.unwrap().payload.as_i64().unwrap()).collect();
    assert_eq!(seen, (0..i64::from(THREADS * ROUNDS)).collect::<Vec<_>>(), "one after the other");
    assert!(attempts.into_inner() >= THREADS * (ROUNDS + 1) - 1, "of the first attempts, one has won");
}

#[test]
fn a_lost_transaction_runs_again_and_one_that_may_not_says_what_won() {
    let (database, run) = in_memory();
    run.kv().put("key", 0).unwrap();
    let mut attempts = 0;
    let won = run.transaction(|txn| {
        attempts += 1;
        let read = txn.kv_get("key")?;
        if attempts == 1 {
            run.kv().put("key", 1)?;
        }
        txn.kv_put("copy", read.clone())?;
        Ok(read)
    });
    assert_eq!((won.unwrap(), attempts), (Some(1.into()), 2));

    let once = TransactionOptions { max_retries: 0, ..TransactionOptions::default() };
    let lost = database.transaction_with(run.id(), once, |txn| {
        txn.kv_get("key")?;
        run.kv().put("key", 2)?;
        txn.kv_put("copy", 2)
    });
    assert!(matches!(lost, Err(Error::TransactionConflict(_))));
    assert_eq!(run.kv().get("copy").unwrap(), Some(1.into()));
}

#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error("the budget is used up")]
    Broke,
    #[error(transparent)]
    Database(#[from] Error),
}

#[test]
fn transactions_of_every_kind() {
    let (database, run) = in_memory();
    let (a, b) = (run.id(), database.begin_run());

    // What is around a closure may be bound to this thread.
    let calls = Rc::new(Cell::new(0));
    let kept = run.transaction(|txn| {
        calls.set(calls.get() + 1);
        txn.state_set("cell", 1)?;
        txn.state_transition("cell", |state| Ok((Value::from(state.version), ())))?;
        txn.trace_record("thought", Value::Null)?;
        txn.json_create("doc", json!({}))?;
        assert_eq!(txn.kv().count(None)?, 0);
        Ok(calls.clone())
    });
    assert_eq!(kept.unwrap().get(), 1);

    let failed = run.transaction(|txn| {
        txn.kv_put("rolled", "back")?;
        Err::<(), _>(Error::other(AgentError::Broke))
    });
    assert!(matches!(failed, Err(Error::Other(_))));
    let broke = database.try_transaction::<(), AgentError, _>(a, |txn| {
        txn.kv_put("rolled", "back")?;
        Err(AgentError::Broke)
    });
    assert!(matches!(broke, Err(AgentError::Broke)));
    assert!(!run.kv().exists("rolled").unwrap());

    let across = database.transaction_across([a, b], |txn| {
        assert_eq!(txn.runs(), [a, b]);
        txn.run(a).kv_put("both", 1)?;
        txn.run(b).kv_put("both", 1)
    });
    across.unwrap();
    assert!(database.kv().exists(b, "both").unwrap());
    let added = database.kv().transaction(a, |kv: KVTransaction| {
        kv.put("alone", 1)?;
        kv.count(None)
    });
    assert_eq!(added.unwrap(), 2);

    let by_hand = database.begin_transaction(a).unwrap();
    by_hand.kv_put("by hand", 1).unwrap();
    assert!(!run.kv().exists("by hand").unwrap());
    let view = database.snapshot_now(a).unwrap();
    assert!(matches!(by_hand.commit().unwrap(), CommitOutcome::Committed(_)));
    assert!(run.kv().exists("by hand").unwrap() && !view.kv().exists("by hand").unwrap());
    assert!(view.run(b).kv_exists("both").unwrap() && view.version() > Version::default());
    assert!(matches!(view.kv_put("key", 1), Err(Error::InvalidOperation(_))));
    let dropped = database.begin_transaction(a).unwrap();
    dropped.kv_put("dropped", 1).unwrap();
    let handle = dropped.kv();
    drop(dropped);
    assert!(matches!(handle.put("dropped", 2), Err(Error::InvalidOperation(_))));
    database.begin_transaction(a).unwrap().abort();
}

#[test]
fn runs_are_replayed_forked_and_compared() {
    let (database, run) = in_memory();
    run.kv().put("key", 1).unwrap();
    let version = run.kv().get_versioned("key").unwrap().unwrap().version;
    run.kv().put("key", 2).unwrap();
    let fork = database.fork_run(run.id(), Some(version), "fork").unwrap();
    assert_eq!(fork.kv().get("key").unwrap(), Some(1.into()));
    let view = database.replay_run(run.id()).unwrap();
    let then = database.replay_run_until(run.id(), version).unwrap();
    assert_eq!((view.kv().get("key").unwrap(), then.kv().get("key").unwrap()), (Some(2.into()), Some(1.into())));
    assert_eq!((view.steps().len(), then.steps().len()), (3, 2));
    assert!(!view.diff(&then).is_empty() && view.digest().unwrap() != then.digest().unwrap());
    assert!(!database.diff_runs(run.id(), fork.id()).unwrap().is_empty());
    assert!(database.verify_run(run.id()).unwrap().is_valid);
    assert_eq!(database.snapshot_at(run.id(), version).unwrap().kv_get("key").unwrap(), Some(1.into()));
}

#[test]
fn what_was_written_is_there_after_closing_and_after_dropping() {
    let directory = directory();
    let run = {
        let database = Database::open_with_mode(directory.path(), BUFFERED).unwrap();
        let run = database.begin_run();
        database.kv().put(run, "closed", 1).unwrap();
        assert!(matches!(Database::open(directory.path()), Err(Error::Locked { .. })));
        database.close().unwrap();
        assert_eq!(database.info().health, DatabaseHealth::Closed);
        assert!(matches!(database.kv().get(run, "closed"), Err(Error::Unavailable(_))));
        run
    };
    let database = Database::open_with_mode(directory.path(), BUFFERED).unwrap();
    database.kv().put(run, "dropped", 1).unwrap();
    let other = database.clone();
    drop(database);
    other.kv().put(run, "by another handle", 1).unwrap();
    drop(other);
    let database = Database::builder().path(directory.path()).read_only(true).open().unwrap();
    assert_eq!(database.kv().count(run, None).unwrap(), 3);
    assert_eq!(database.orphaned_runs().unwrap(), [run]);
    database.flush().unwrap();
}

#[test]
fn a_database_is_maintained() {
    let [directory, copies] = [directory(), directory()];
    let database = Database::open(directory.path()).unwrap();
    let run = database.begin_run();
    database.kv().put(run, "key", 1).unwrap();
    let snapshot = database.checkpoint().unwrap();
    assert_eq!(database.list_snapshots().unwrap(), [snapshot]);
    assert!(database.verify().unwrap().problems.is_empty());
    database.backup(copies.path().join("backup")).unwrap();
    database.close().unwrap();
    Database::salvage(directory.path(), copies.path().join("salvage")).unwrap();
    for copy in ["backup", "salvage"] {
        let copy = Database::open(copies.path().join(copy)).unwrap();
        assert_eq!(copy.kv().get(run, "key").unwrap(), Some(1.into()));
    }
}

/// Everything is refused there, on any shard, with what to do instead; nothing hangs.
#[test]
fn a_call_on_a_shards_thread_is_refused() {
    let (database, run) = in_memory();
    let (id, other) = (run.id(), database.clone());
    run.kv().put("key", 1).unwrap();
    let refused = |error: &Error| matches!(error, Error::InvalidOperation(reason) if reason.contains("spawn_on"));
    let begun = database.spawn_on(id, move |local| async move {
        assert!(refused(&run.kv().put("key", 2).unwrap_err()));
        assert!(refused(&Database::open_in_memory().unwrap_err()));
        assert!(refused(&other.transaction(id, |txn| txn.kv_put("key", 2)).unwrap_err()));
        assert!(refused(&other.begin_transaction(id).unwrap_err()));
        assert!(refused(&other.close().unwrap_err()));
        let items: Vec<_> = run.kv().scan(ScanOptions::default()).collect();
        assert!(matches!(&items[..], [Err(error)] if refused(error)), "an error, and then nothing");
        let begun = other.begin_run();
        assert_eq!(local.kv().get("key").await?, Some(1.into()), "the shard goes on");
        Ok(begun)
    });
    let begun = begun.unwrap();
    assert!(refused(&database.kv().put(begun, "key", 1).unwrap_err()), "the run was not registered");
    assert_eq!(database.run_status(begun).unwrap(), None);
    assert_eq!(database.kv().get(id, "key").unwrap(), Some(1.into()));
}

/// A transaction's closure is called inside of a wait, and waits itself; so may the whole of it inside of another's.
#[test]
fn a_call_works_inside_of_whatever_its_thread_runs() {
    let (database, run) = in_memory();
    let nested = run.transaction(|outer| {
        outer.kv_put("outer", 1)?;
        database.transaction(run.id(), |inner| inner.kv_put("inner", 1))?;
        outer.kv_get("outer")
    });
    assert_eq!(nested.unwrap(), Some(1.into()));
    futures::executor::block_on(async { run.kv().put("executor", 1) }).unwrap();
    smol::block_on(async { run.kv().put("smol", 1) }).unwrap();
    on_tokio(async { run.kv().put("tokio", 1) }).unwrap();
    assert_eq!(run.kv().count(None).unwrap(), 5);
}

#[test]
fn a_panic_in_a_closure_hurts_nobody_else() {
    let (database, run) = in_memory();
    let id = run.id();
    let inner = database.clone();
    let panicked = thread::spawn(move || {
        inner.transaction(id, |txn| {
            txn.kv_put("key", 1)?;
            assert!(txn.kv_get("key")?.is_none(), "as planned");
            Ok(())
        })
    });
    assert!(panicked.join().is_err());
    assert_eq!(database.kv().count(id, None).unwrap(), 0);
    database.close().unwrap();
}
