//! Signatures: what the types promise, so that operations can be spawned, joined, selected and stored.
#![allow(clippy::needless_borrows_for_generic_args, reason = "what may be given either way is given either way")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{in_memory, on_tokio};
use futures::{Stream, StreamExt};
use in_mem::prelude::*;
use in_mem::{
    BackupReport, BeginRun, Change, Conflict, DatabaseBuilder, DatabaseHealth, DatabaseInfo, DiffEntry, DiskMetrics,
    Divergence, Driver, HistoryRetention, Lineage, LineageOptions, Metric, MetricKind, Metrics, Op, Origin,
    Partitioning, Primitive, Read, RecoveryReport, ReplayVerification, ReplayView, RunDiff, SalvageReport,
    ShardMetrics, SnapshotInfo, Step, Text, VerifyProblem, VerifyReport, json_patch, serde_json,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use static_assertions::assert_impl_all;
use tokio::task::JoinSet;

type Hash32 = [u8; 32];

// Handles are cheap to share.
assert_impl_all!(Database: Clone, Debug, Send, Sync);
assert_impl_all!(DatabaseBuilder: Clone, Debug, Send, Sync);
assert_impl_all!(RunHandle: Clone, Debug, Send, Sync);
assert_impl_all!(LocalRun: Clone, Debug, Send, Sync);
assert_impl_all!(KVStore: Clone, Debug, Send, Sync);
assert_impl_all!(EventLog: Clone, Debug, Send, Sync);
assert_impl_all!(StateCell: Clone, Debug, Send, Sync);
assert_impl_all!(TraceStore: Clone, Debug, Send, Sync);
assert_impl_all!(RunIndex: Clone, Debug, Send, Sync);
assert_impl_all!(JsonStore: Clone, Debug, Send, Sync);
assert_impl_all!(RunJson: Clone, Debug, Send, Sync);
assert_impl_all!(RunKv: Clone, Debug, Send, Sync);
assert_impl_all!(KVTransaction: Clone, Debug, Send, Sync);
assert_impl_all!(RunEvents: Clone, Debug, Send, Sync);
assert_impl_all!(RunStates: Clone, Debug, Send, Sync);
assert_impl_all!(RunTraces: Clone, Debug, Send, Sync);
assert_impl_all!(Transaction: Clone, Debug, Send, Sync);
assert_impl_all!(OpenTransaction: Debug, Send, Sync);
assert_impl_all!(ReplayView: Clone, Debug, Send, Sync);

// Data is data.
assert_impl_all!(Value: Clone, Debug, PartialEq, Default, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(Text: Clone, Debug, Ord, Hash, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(RunId: Copy, Debug, Ord, Hash, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(Version: Copy, Debug, Ord, Hash, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(Versioned<Value>: Clone, Debug, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(Event: Clone, Debug, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(ChainVerification: Clone, Debug, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(State: Clone, Debug, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(TraceType: Clone, Debug, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(Trace: Clone, Debug, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(TraceTree: Clone, Debug, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(RunMetadata: Clone, Debug, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(RunStatus: Copy, Debug, Ord, Hash, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(DurabilityMode: Copy, Debug, Default, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(Partitioning: Copy, Debug, Default, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(HistoryRetention: Copy, Debug, Default, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(Driver: Copy, Debug, Default, PartialEq, Send, Sync);
assert_impl_all!(RunRef: Clone, Debug, Eq, Hash, Send, Sync);

assert_impl_all!(Cursor: Clone, Debug, Eq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(KvChange: Clone, Debug, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(JsonChange: Clone, Debug, PartialEq, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(RunChange: Clone, Debug, PartialEq, Send, Sync, Serialize, DeserializeOwned);

// Options have defaults, outcomes can be looked at.
assert_impl_all!(RunOptions: Clone, Debug, PartialEq, Default, Send, Sync);
assert_impl_all!(ScanOptions: Clone, Debug, PartialEq, Default, Send, Sync);
assert_impl_all!(TransactionOptions: Clone, Debug, PartialEq, Default, Send, Sync);
assert_impl_all!(CommitOutcome: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(Conflict: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(DatabaseInfo: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(DatabaseHealth: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(RecoveryReport: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(SnapshotInfo: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(Metrics: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(DiskMetrics: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(ShardMetrics: Clone, Debug, PartialEq, Default, Send, Sync);
assert_impl_all!(Metric: Copy, Debug, PartialEq, Send, Sync);
assert_impl_all!(MetricKind: Copy, Debug, Eq, Hash, Send, Sync);
assert_impl_all!(BackupReport: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(VerifyReport: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(VerifyProblem: Clone, Debug, std::fmt::Display, PartialEq, Send, Sync);
assert_impl_all!(SalvageReport: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(Step: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(Change: Clone, Debug, PartialEq, Send, Sync);
assert_impl_all!(Lineage: Clone, Debug, std::fmt::Display, Eq, Send, Sync, Serialize);
assert_impl_all!(LineageOptions: Copy, Debug, Default, Eq, Send, Sync);
assert_impl_all!(Origin: Clone, Debug, Eq, Send, Sync, Serialize);
assert_impl_all!(Primitive: Copy, Debug, std::fmt::Display, Ord, Hash, Send, Sync, Serialize, DeserializeOwned);
assert_impl_all!(Read: Clone, Debug, Eq, Send, Sync, Serialize);
assert_impl_all!(RunDiff: Clone, Debug, std::fmt::Display, PartialEq, Send, Sync, Serialize);
assert_impl_all!(DiffEntry: Clone, Debug, PartialEq, Send, Sync, Serialize);
assert_impl_all!(Divergence: Clone, Debug, std::fmt::Display, PartialEq, Send, Sync);
assert_impl_all!(Error: std::error::Error, Send, Sync);

// Streams and the beginning of a run are named types.
assert_impl_all!(Scan: Stream<Item = Result<(String, Value)>>, Debug, Send, Unpin);
assert_impl_all!(EventStream: Stream<Item = Result<Event>>, Debug, Send, Unpin);
assert_impl_all!(TraceStream: Stream<Item = Result<Trace>>, Debug, Send, Unpin);
assert_impl_all!(Subscription<KvChange>: Stream<Item = Result<KvChange>>, Debug, Send, Unpin);
assert_impl_all!(Subscription<Event>: Stream<Item = Result<Event>>, Debug, Send, Unpin);
assert_impl_all!(BeginRun: Future<Output = RunId>, Debug, Send, Unpin);

const fn is_static<T: 'static>() {}
const _: () = {
    is_static::<Scan>();
    is_static::<EventStream>();
    is_static::<TraceStream>();
    is_static::<Subscription<RunChange>>();
    is_static::<BeginRun>();
    is_static::<Error>();
};

/// Takes an operation that gives a `T`, and drops it without a poll.
fn op<T>(op: Op<T>)
where
    Op<T>: Future<Output = Result<T>> + Debug + Send + Unpin + 'static,
{
    assert!(!format!("{op:?}").is_empty());
    drop(op);
}

/// Takes a wait, which can be spawned, and drops it without a poll.
fn is_spawned(wait: impl Future<Output = Result<State>> + Debug + Send + Unpin + 'static) {
    drop(wait);
}

fn every_kv_operation(kv: &RunKv, store: &KVStore, run: &RunId) {
    op::<Option<Value>>(kv.get("k"));
    op::<Option<u8>>(kv.get_as("k"));
    op::<Option<Versioned<Value>>>(kv.get_versioned("k"));
    op::<Vec<Versioned<Option<Value>>>>(kv.history("k"));
    op::<Vec<Option<Value>>>(kv.get_many(["k"]));
    op::<HashMap<String, Value>>(kv.get_many_map(["k"]));
    op::<bool>(kv.exists("k"));
    op::<()>(kv.put("k", 1));
    op::<()>(kv.put_with_ttl("k", 1, Duration::ZERO));
    op::<()>(kv.put_as("k", &1));
    op::<()>(kv.put_many([("k", 1)]));
    op::<bool>(kv.delete("k"));
    op::<u64>(kv.delete_many(["k"]));
    op::<Version>(kv.compare_and_put("k", None, 1));
    op::<Vec<String>>(kv.list(None));
    op::<Vec<(String, Value)>>(kv.list_with_values(None));
    op::<u64>(kv.count(None));
    drop(kv.scan(ScanOptions::default()));
    op::<Option<Value>>(store.get(run, "k"));
    op::<Option<u8>>(store.get_as(run, "k"));
    op::<Option<Versioned<Value>>>(store.get_versioned(run, "k"));
    op::<Vec<Versioned<Option<Value>>>>(store.history(run, "k"));
    op::<Vec<Option<Value>>>(store.get_many(run, ["k"]));
    op::<HashMap<String, Value>>(store.get_many_map(run, ["k"]));
    op::<bool>(store.exists(run, "k"));
    op::<()>(store.put(run, "k", 1));
    op::<()>(store.put_with_ttl(run, "k", 1, Duration::ZERO));
    op::<()>(store.put_as(run, "k", &1));
    op::<()>(store.put_many(run, [("k", 1)]));
    op::<bool>(store.delete(run, "k"));
    op::<u64>(store.delete_many(run, ["k"]));
    op::<Version>(store.compare_and_put(run, "k", None, 1));
    op::<Vec<String>>(store.list(run, None));
    op::<Vec<(String, Value)>>(store.list_with_values(run, None));
    op::<u64>(store.count(run, None));
    drop(store.scan(run, ScanOptions::default()));
    op::<Subscription<KvChange>>(kv.watch(Some("k")));
    op::<Subscription<KvChange>>(kv.watch_from(None, Cursor::from(Version::default())));
    op::<Subscription<KvChange>>(store.watch(run, None));
    op::<Subscription<KvChange>>(store.watch_from(run, Some("k"), Cursor::from(Version::default())));
}

fn every_json_operation(json: &RunJson, store: &JsonStore, run: &RunId) {
    op::<Version>(json.create("k", 1));
    op::<Option<serde_json::Value>>(json.get("k", "a"));
    op::<Option<u8>>(json.get_as("k", "a"));
    op::<Version>(json.set("k", "a", 1));
    op::<bool>(json.delete_at("k", "a"));
    op::<bool>(json.delete("k"));
    op::<bool>(json.exists("k"));
    op::<Option<Version>>(json.version("k"));
    op::<Version>(json.cas("k", Version::default(), "a", 1));
    op::<Version>(json.patch("k", json_patch::Patch::default()));
    op::<Version>(json.merge("k", 1));
    op::<Version>(json.array_push("k", "a", 1));
    op::<Vec<String>>(json.list(None));
    op::<Vec<serde_json::Value>>(json.query("k", "$"));
    op::<Version>(store.create(run, "k", 1));
    op::<Option<serde_json::Value>>(store.get(run, "k", "a"));
    op::<Option<u8>>(store.get_as(run, "k", "a"));
    op::<Version>(store.set(run, "k", "a", 1));
    op::<bool>(store.delete_at(run, "k", "a"));
    op::<bool>(store.delete(run, "k"));
    op::<bool>(store.exists(run, "k"));
    op::<Option<Version>>(store.version(run, "k"));
    op::<Version>(store.cas(run, "k", Version::default(), "a", 1));
    op::<Version>(store.patch(run, "k", json_patch::Patch::default()));
    op::<Version>(store.merge(run, "k", 1));
    op::<Version>(store.array_push(run, "k", "a", 1));
    op::<Vec<String>>(store.list(run, None));
    op::<Vec<serde_json::Value>>(store.query(run, "k", "$"));
    op::<Subscription<JsonChange>>(json.watch(None));
    op::<Subscription<JsonChange>>(json.watch_from(None, Cursor::from(Version::default())));
    op::<Subscription<JsonChange>>(store.watch(run, None));
    op::<Subscription<JsonChange>>(store.watch_from(run, None, Cursor::from(Version::default())));
}

fn every_event_operation(events: &RunEvents, log: &EventLog, run: &RunId) {
    op::<(u64, Hash32)>(events.append("t", 1));
    op::<(u64, Hash32)>(events.append_expected(0, "t", 1));
    op::<Range<u64>>(events.append_many([("t", 1)]));
    op::<Option<Event>>(events.read(0));
    op::<Vec<Event>>(events.read_range(0, 1));
    op::<Option<Event>>(events.head());
    op::<u64>(events.len());
    op::<bool>(events.is_empty());
    op::<Vec<Event>>(events.read_by_type("t"));
    op::<Vec<Event>>(events.read_by_time(0..1));
    op::<Vec<String>>(events.event_types());
    op::<ChainVerification>(events.verify_chain());
    drop(events.stream(0));
    op::<(u64, Hash32)>(log.append(run, "t", 1));
    op::<(u64, Hash32)>(log.append_expected(run, 0, "t", 1));
    op::<Range<u64>>(log.append_many(run, [("t", 1)]));
    op::<Option<Event>>(log.read(run, 0));
    op::<Vec<Event>>(log.read_range(run, 0, 1));
    op::<Option<Event>>(log.head(run));
    op::<u64>(log.len(run));
    op::<bool>(log.is_empty(run));
    op::<Vec<Event>>(log.read_by_type(run, "t"));
    op::<Vec<Event>>(log.read_by_time(run, 0..1));
    op::<Vec<String>>(log.event_types(run));
    op::<ChainVerification>(log.verify_chain(run));
    drop(log.stream(run, 0));
    op::<Subscription<Event>>(events.subscribe(0));
    op::<Subscription<Event>>(log.subscribe(run, 0));
}

fn every_state_operation(states: &RunStates, cells: &StateCell, run: &RunId) {
    op::<u64>(states.init("c", 1));
    op::<Option<State>>(states.read("c"));
    op::<u64>(states.set("c", 1));
    op::<u64>(states.cas("c", 0, 1));
    op::<i64>(states.increment("c", 1));
    op::<bool>(states.delete("c"));
    op::<bool>(states.exists("c"));
    op::<Vec<String>>(states.list());
    op::<Subscription<State>>(states.watch("c"));
    op::<Subscription<State>>(states.watch_from("c", Cursor::from(Version::default())));
    op::<Subscription<State>>(cells.watch(run, "c"));
    op::<Subscription<State>>(cells.watch_from(run, "c", Cursor::from(Version::default())));
    is_spawned(states.wait_for("c", |_| true));
    is_spawned(cells.wait_for(run, "c", |_| true));
    op::<u64>(cells.init(run, "c", 1));
    op::<Option<State>>(cells.read(run, "c"));
    op::<u64>(cells.set(run, "c", 1));
    op::<u64>(cells.cas(run, "c", 0, 1));
    op::<i64>(cells.increment(run, "c", 1));
    op::<bool>(cells.delete(run, "c"));
    op::<bool>(cells.exists(run, "c"));
    op::<Vec<String>>(cells.list(run));
}

fn every_trace_operation(traces: &RunTraces, store: &TraceStore, run: &RunId) {
    op::<String>(traces.record("t".into(), vec![], Value::Null));
    op::<String>(traces.record_child("p", "t".into(), vec![], Value::Null));
    op::<Option<Trace>>(traces.get("i"));
    op::<Vec<Trace>>(traces.query_by_type("Custom"));
    op::<Vec<Trace>>(traces.query_by_tag("tag"));
    op::<Vec<Trace>>(traces.query_by_time(0..1));
    op::<Vec<Trace>>(traces.get_children("i"));
    op::<Option<TraceTree>>(traces.get_tree("i"));
    op::<Vec<Trace>>(traces.get_roots());
    op::<u64>(traces.count());
    drop(traces.stream());
    op::<String>(store.record(run, "t".into(), vec![], Value::Null));
    op::<String>(store.record_child(run, "p", "t".into(), vec![], Value::Null));
    op::<Option<Trace>>(store.get(run, "i"));
    op::<Vec<Trace>>(store.query_by_type(run, "Custom"));
    op::<Vec<Trace>>(store.query_by_tag(run, "tag"));
    op::<Vec<Trace>>(store.query_by_time(run, 0..1));
    op::<Vec<Trace>>(store.get_children(run, "i"));
    op::<Option<TraceTree>>(store.get_tree(run, "i"));
    op::<Vec<Trace>>(store.get_roots(run));
    op::<u64>(store.count(run));
    drop(store.stream(run));
}

fn every_run_operation(database: &Database, runs: &RunIndex, run: &RunId) {
    op::<RunMetadata>(runs.create_run("n"));
    op::<RunMetadata>(runs.create_run_with_options("n", None, vec![], Value::Null));
    op::<Option<RunMetadata>>(runs.get_run("n"));
    op::<bool>(runs.exists(run));
    op::<Vec<RunMetadata>>(runs.list_runs());
    op::<u64>(runs.count());
    op::<Vec<RunMetadata>>(runs.children(*run));
    op::<RunMetadata>(runs.update_status(run, RunStatus::Paused));
    op::<RunMetadata>(runs.complete_run(run));
    op::<RunMetadata>(runs.fail_run(run, "why"));
    op::<RunMetadata>(runs.pause_run(run));
    op::<RunMetadata>(runs.resume_run(run));
    op::<RunMetadata>(runs.cancel_run(run));
    op::<RunMetadata>(runs.archive_run(run));
    op::<RunMetadata>(runs.add_tags(run, vec![]));
    op::<RunMetadata>(runs.remove_tags(run, vec![]));
    op::<RunMetadata>(runs.update_metadata(run, Value::Null));
    op::<Vec<RunMetadata>>(runs.query_by_status(RunStatus::Active));
    op::<Vec<RunMetadata>>(runs.query_by_tag("tag"));
    op::<()>(runs.delete_run(run));
    op::<Subscription<RunChange>>(runs.watch(None));
    op::<Subscription<RunChange>>(runs.watch_from(Some(RunStatus::Failed), Cursor::from(Version::default())));
    op::<Database>(Database::open("/nowhere"));
    op::<Database>(Database::open_with_mode("/nowhere", DurabilityMode::Strict));
    op::<Database>(Database::open_in_memory());
    op::<Database>(Database::builder().open());
    op::<()>(database.flush());
    op::<SnapshotInfo>(database.checkpoint());
    op::<Vec<SnapshotInfo>>(database.list_snapshots());
    op::<()>(database.delete_snapshot(1));
    op::<BackupReport>(database.backup("path"));
    op::<VerifyReport>(database.verify());
    op::<Metrics>(database.metrics());
    op::<SalvageReport>(Database::salvage("from", "to"));
    op::<()>(database.close());
    op::<RunId>(database.begin_run_with(RunOptions::default()));
    op::<RunHandle>(database.start_run(RunOptions::default()));
    op::<()>(database.end_run(run));
    op::<()>(database.abort_run(run, "why"));
    op::<Option<RunStatus>>(database.run_status(run));
    op::<Vec<RunId>>(database.orphaned_runs());
    op::<ReplayView>(database.replay_run(run));
    op::<ReplayView>(database.replay_run_until(run, Version::from(0)));
    op::<RunDiff>(database.diff_runs(run, *run));
    op::<ReplayVerification>(database.verify_run(run));
    op::<Lineage>(database.explain(run, Primitive::Kv, "k", Version::from(0)));
    op::<Lineage>(database.explain_with(
        *run,
        Primitive::Kv,
        String::new(),
        Version::from(0),
        LineageOptions::default(),
    ));
    op::<RunHandle>(database.fork_run(run, None, "child"));
    op::<RunHandle>(database.fork_run(*run, Some(Version::from(0)), String::from("child")));
    op::<OpenTransaction>(database.begin_transaction(run));
    op::<u8>(database.spawn_on(run, |_: LocalRun| async { Ok(1) }));
    drop(database.begin_run());
    op::<()>(database.run(run).end());
    op::<()>(database.run(run).fail("why"));
}

#[test]
fn every_operation_is_a_value_that_does_nothing_before_it_is_awaited() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let id = run.id();
        every_kv_operation(&run.kv(), &database.kv(), &id);
        every_json_operation(&run.json(), &database.json(), &id);
        every_event_operation(&run.events(), &database.events(), &id);
        every_state_operation(&run.states(), &database.states(), &id);
        every_trace_operation(&run.traces(), &database.traces(), &id);
        every_run_operation(&database, &database.runs(), &id);
        assert_eq!(run.kv().count(None).await.unwrap(), 0);
        assert!(run.json().list(None).await.unwrap().is_empty());
        assert!(run.events().is_empty().await.unwrap());
        assert!(run.states().list().await.unwrap().is_empty());
        assert_eq!(run.traces().count().await.unwrap(), 0);
        let runs = database.runs().list_runs().await.unwrap();
        assert_eq!(runs.iter().map(|run| (run.run_id, run.status)).collect::<Vec<_>>(), [(id, RunStatus::Active)]);
    });
}

#[test]
fn operations_can_be_spawned_joined_selected_and_kept_in_a_set() {
    on_tokio(async {
        let (database, handle) = in_memory().await;
        let (kv, run) = (database.kv(), handle.id());
        tokio::spawn(kv.put(run, "spawned", 1)).await.unwrap().unwrap();
        let (put, sequence) = tokio::join!(kv.put(run, "joined", 2), handle.events().append("joined", Value::Null));
        assert_eq!((put.unwrap(), sequence.unwrap().0), ((), 0));
        let mut put = kv.put(run, "selected", 3);
        tokio::select! {
            result = &mut put => result.unwrap(),
            () = std::future::pending() => {}
        }
        let mut set = JoinSet::new();
        for number in 0..10 {
            set.spawn(kv.put(run, format!("set-{number}"), number));
        }
        while let Some(joined) = set.join_next().await {
            joined.unwrap().unwrap();
        }
        assert_eq!(kv.count(run, None).await.unwrap(), 13);
    });
}

#[test]
fn an_operation_outlives_the_handle_the_id_and_the_key_it_was_made_of() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let run = database.begin_run().await;
        let handle = database.run(run);
        let (put, scan) = {
            let (handle, id, key) = (handle, run, String::from("k"));
            (handle.kv().put(&key, 1), database.kv().scan(id, ScanOptions::default()))
        };
        put.await.unwrap();
        let found: Vec<_> = scan.map(Result::unwrap).collect().await;
        assert_eq!(found, [("k".to_owned(), Value::from(1))]);
    });
}

#[test]
fn an_operation_outlives_the_database_it_was_made_of() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let put = run.kv().put("k", 1);
        drop((database, run));
        put.await.unwrap();
    });
}

#[test]
fn primitives_are_made_of_a_database_however_it_is_held() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let shared = Arc::new(database.clone());
        let stores = [
            KVStore::new(database.clone()),
            KVStore::new(&database),
            KVStore::new(shared.clone()),
            KVStore::new(&shared),
            database.kv(),
        ];
        for (number, store) in stores.iter().enumerate() {
            assert_eq!(store.count(run.id(), None).await.unwrap(), number as u64);
            store.put(run.id(), number.to_string(), number).await.unwrap();
        }
        assert!(EventLog::new(&shared).is_empty(run.id()).await.unwrap());
        assert!(StateCell::new(&shared).list(run.id()).await.unwrap().is_empty());
        assert_eq!(TraceStore::new(&shared).count(run.id()).await.unwrap(), 0);
        assert_eq!(RunIndex::new(&shared).count().await.unwrap(), 1);
    });
}

#[test]
fn keys_are_any_text_and_runs_are_given_by_value_or_by_reference() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let (kv, id, key) = (database.kv(), run.id(), String::from("key"));
        kv.put(id, "key", 1).await.unwrap();
        kv.put(&id, &key, "text").await.unwrap();
        kv.put(id, key.clone(), key.clone()).await.unwrap();
        kv.put(&id, Text::from("key"), vec![1.5, 2.5]).await.unwrap();
        kv.put(id, "key", None::<bool>).await.unwrap();
        let names = vec![key.clone()];
        kv.put_many(&id, [(key.as_str(), 1), ("other", 2)]).await.unwrap();
        kv.put_many(id, HashMap::from([(key.clone(), Value::Null)])).await.unwrap();
        assert_eq!(kv.get_many(id, &names).await.unwrap(), [Some(Value::Null)]);
        assert_eq!(kv.get_many(&id, ["other", "none"]).await.unwrap(), [Some(2.into()), None]);
        assert_eq!(kv.get_many(&id, names).await.unwrap().len(), 1);
        let runs = database.runs();
        for which in [RunRef::from(id), RunRef::from(&id), id.to_string().into(), id.to_string().as_str().into()] {
            assert!(runs.exists(which).await.unwrap());
        }
    });
}

#[test]
fn a_transaction_whose_closure_borrows_can_be_spawned() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let id = run.id();
        let (key, other) = (String::from("key"), String::from("other"));
        let task = tokio::spawn(async move {
            let first = database.transaction(id, async |txn| {
                txn.kv_put(&key, 1).await?;
                txn.event_append("seen", key.len()).await
            });
            let sequence = first.await?;
            let second = run.transaction(|txn| async move { txn.state_set("counter", 1).await });
            let version = second.await?;
            let third = database.transaction(id, move |txn| {
                let other = other.clone();
                async move { txn.kv_put(other, 2).await }
            });
            third.await?;
            let kv = database.kv();
            let fourth = kv.transaction(&id, |txn: KVTransaction| async move {
                txn.put("fourth", 4).await?;
                txn.count(None).await
            });
            Ok::<_, Error>((sequence, version, fourth.await?))
        });
        assert_eq!(task.await.unwrap().unwrap(), (0, 1, 3));
    });
}

#[test]
fn transactions_and_transitions_can_be_spawned_as_they_are() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let id = run.id();
        let spawned = tokio::spawn(database.transaction(id, |txn| async move { txn.kv_put("a", 1).await }));
        spawned.await.unwrap().unwrap();
        let options =
            TransactionOptions { durability: None, max_retries: 3, timeout: None, read_only: true, label: None };
        let spawned = tokio::spawn(database.transaction_with(id, options, |txn| async move { txn.kv_get("a").await }));
        assert_eq!(spawned.await.unwrap().unwrap(), Some(1.into()));
        let next = |state: &State| Ok((Value::from(state.version), state.version));
        let spawned = tokio::spawn(run.states().transition_or_init("cell", 0, next));
        assert_eq!(spawned.await.unwrap().unwrap(), (0, 1));
        let spawned = tokio::spawn(database.states().transition(id, "cell", next));
        assert_eq!(spawned.await.unwrap().unwrap(), (1, 2));
    });
}

#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error("the budget is used up")]
    Broke,
    #[error(transparent)]
    Database(#[from] Error),
}

#[test]
fn a_transaction_may_end_with_an_error_of_the_callers_own() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let id = run.id();
        let task = tokio::spawn(async move {
            let broke = database.try_transaction::<(), AgentError, _, _>(id, async |txn| {
                txn.kv_put("spent", 1).await?;
                Err(AgentError::Broke)
            });
            assert!(matches!(broke.await, Err(AgentError::Broke)));
            let refused =
                database.try_transaction::<(), AgentError, _, _>(id, async |txn| Ok(txn.kv_put("", 1).await?));
            assert!(matches!(refused.await, Err(AgentError::Database(Error::InvalidOperation(_)))));
            let passed = database.transaction(id, async |_| Err::<(), _>(Error::other(AgentError::Broke)));
            assert!(matches!(passed.await, Err(Error::Other(error)) if error.is::<AgentError>()));
            database.kv().count(id, None).await
        });
        assert_eq!(task.await.unwrap().unwrap(), 0, "all of it was rolled back");
    });
}

#[test]
fn options_can_be_written_out_in_full() {
    let options = ScanOptions { prefix: None, start: None, end: None, reverse: false, limit: None, cursor: None };
    assert_eq!(options, ScanOptions::default());
    let options = RunOptions { id: None, name: None, parent: None, tags: vec![], metadata: Value::Null, history: None };
    assert_eq!(options, RunOptions::default());
    assert_eq!(DurabilityMode::default(), DurabilityMode::Strict);
}

#[test]
fn everything_that_is_held_can_be_shown() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let open = database.begin_transaction(run.id()).await.unwrap();
        let local = database.spawn_on(run.id(), |local| async move { Ok(format!("{local:?}")) }).await.unwrap();
        let shown = [
            format!("{database:?}"),
            format!("{:?}", Database::builder()),
            format!("{run:?}"),
            format!("{open:?}"),
            format!("{:?}", database.begin_run()),
            format!("{:?}", run.kv().scan(ScanOptions::default())),
            format!("{:?}", run.states().transition("c", |state| Ok((state.value.clone(), ())))),
            local,
        ];
        assert!(shown.iter().all(|shown| !shown.is_empty()));
        open.abort();
    });
}
