//! The primitives, for the whole database and for one run.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use json_patch::Patch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::blocking_stream::{EventStream, Scan, Subscription, TraceStream};
use super::database::Database;
use super::transaction::Transaction;
use super::wait::wait;
use crate::api::run_index::RunRef;
use crate::api::scan::ScanOptions;
use crate::api::watching::{JsonChange, KvChange, RunChange};
use crate::api::{event_log, json_store, kv_store, run_index, state_cell, trace_store};
use crate::base::cursor::Cursor;
use crate::base::error::Result;
use crate::base::event::{ChainVerification, Event};
use crate::base::run::{RunMetadata, RunStatus};
use crate::base::run_id::RunId;
use crate::base::state::State;
use crate::base::trace::{Trace, TraceTree, TraceType};
use crate::base::value::Value;
use crate::base::version::{Version, Versioned};

primitive! {
    /// Key-value pairs of every run.
    kv_store::KVStore,
    /// The key-value pairs of one run.
    RunKv {
        waits get(key: impl AsRef<str>) -> Option<Value>;
        waits get_as[T: DeserializeOwned + Send + 'static](key: impl AsRef<str>) -> Option<T>;
        waits get_versioned(key: impl AsRef<str>) -> Option<Versioned<Value>>;
        waits history(key: impl AsRef<str>) -> Vec<Versioned<Option<Value>>>;
        waits get_many[K: AsRef<str>](keys: impl IntoIterator<Item = K>) -> Vec<Option<Value>>;
        waits get_many_map[K: AsRef<str>](keys: impl IntoIterator<Item = K>) -> HashMap<String, Value>;
        waits exists(key: impl AsRef<str>) -> bool;
        waits put(key: impl AsRef<str>, value: impl Into<Value>) -> ();
        waits put_with_ttl(key: impl AsRef<str>, value: impl Into<Value>, ttl: Duration) -> ();
        waits put_as[T: Serialize](key: impl AsRef<str>, value: &T) -> ();
        waits put_many[K: AsRef<str>, V: Into<Value>](pairs: impl IntoIterator<Item = (K, V)>) -> ();
        waits delete(key: impl AsRef<str>) -> bool;
        waits delete_many[K: AsRef<str>](keys: impl IntoIterator<Item = K>) -> u64;
        waits compare_and_put(key: impl AsRef<str>, expected: Option<Version>, value: impl Into<Value>) -> Version;
        waits list(prefix: Option<&str>) -> Vec<String>;
        waits list_with_values(prefix: Option<&str>) -> Vec<(String, Value)>;
        waits count(prefix: Option<&str>) -> u64;
        gives scan(options: ScanOptions) -> Scan;
        waits watch(prefix: Option<&str>) -> Subscription<KvChange>;
        waits watch_from(prefix: Option<&str>, cursor: Cursor) -> Subscription<KvChange>;
    }
}

primitive! {
    /// The event logs of every run.
    event_log::EventLog,
    /// The event log of one run.
    RunEvents {
        waits append(event_type: impl AsRef<str>, payload: impl Into<Value>) -> (u64, [u8; 32]);
        waits append_expected(
            expected_len: u64,
            event_type: impl AsRef<str>,
            payload: impl Into<Value>,
        ) -> (u64, [u8; 32]);
        waits append_many[K: AsRef<str>, V: Into<Value>](events: impl IntoIterator<Item = (K, V)>) -> Range<u64>;
        waits read(sequence: u64) -> Option<Event>;
        waits read_range(start: u64, end: u64) -> Vec<Event>;
        waits head() -> Option<Event>;
        waits len() -> u64;
        waits is_empty() -> bool;
        waits read_by_type(event_type: impl AsRef<str>) -> Vec<Event>;
        waits read_by_time(range: Range<i64>) -> Vec<Event>;
        waits event_types() -> Vec<String>;
        gives stream(from: u64) -> EventStream;
        waits subscribe(from: u64) -> Subscription<Event>;
        waits verify_chain() -> ChainVerification;
    }
}

primitive! {
    /// The state cells of every run.
    state_cell::StateCell,
    /// The state cells of one run.
    RunStates {
        waits init(name: impl AsRef<str>, value: impl Into<Value>) -> u64;
        waits read(name: impl AsRef<str>) -> Option<State>;
        waits set(name: impl AsRef<str>, value: impl Into<Value>) -> u64;
        waits cas(name: impl AsRef<str>, expected: u64, value: impl Into<Value>) -> u64;
        waits transition[T: Send, F: FnMut(&State) -> Result<(Value, T)> + Send](
            name: impl AsRef<str>,
            f: F,
        ) -> (T, u64);
        waits transition_or_init[T: Send, F: FnMut(&State) -> Result<(Value, T)> + Send](
            name: impl AsRef<str>,
            initial: impl Into<Value>,
            f: F,
        ) -> (T, u64);
        waits increment(name: impl AsRef<str>, by: i64) -> i64;
        waits delete(name: impl AsRef<str>) -> bool;
        waits exists(name: impl AsRef<str>) -> bool;
        waits list() -> Vec<String>;
        waits watch(name: impl AsRef<str>) -> Subscription<State>;
        waits watch_from(name: impl AsRef<str>, cursor: Cursor) -> Subscription<State>;
        waits wait_for[F: FnMut(&State) -> bool + Send](name: impl AsRef<str>, predicate: F) -> State;
    }
}

primitive! {
    /// The traces of every run.
    trace_store::TraceStore,
    /// The traces of one run.
    RunTraces {
        waits record(trace_type: TraceType, tags: Vec<String>, metadata: impl Into<Value>) -> String;
        waits record_child(
            parent_id: impl AsRef<str>,
            trace_type: TraceType,
            tags: Vec<String>,
            metadata: impl Into<Value>,
        ) -> String;
        waits get(id: impl AsRef<str>) -> Option<Trace>;
        waits query_by_type(kind: impl AsRef<str>) -> Vec<Trace>;
        waits query_by_tag(tag: impl AsRef<str>) -> Vec<Trace>;
        waits query_by_time(range: Range<i64>) -> Vec<Trace>;
        waits get_children(id: impl AsRef<str>) -> Vec<Trace>;
        waits get_tree(id: impl AsRef<str>) -> Option<TraceTree>;
        waits get_roots() -> Vec<Trace>;
        waits count() -> u64;
        gives stream() -> TraceStream;
    }
}

primitive! {
    /// The JSON documents of every run.
    json_store::JsonStore,
    /// The JSON documents of one run.
    RunJson {
        waits create(key: impl AsRef<str>, document: impl Into<serde_json::Value>) -> Version;
        waits get(key: impl AsRef<str>, path: impl AsRef<str>) -> Option<serde_json::Value>;
        waits get_as[T: DeserializeOwned + Send + 'static](key: impl AsRef<str>, path: impl AsRef<str>) -> Option<T>;
        waits set(key: impl AsRef<str>, path: impl AsRef<str>, value: impl Into<serde_json::Value>) -> Version;
        waits delete_at(key: impl AsRef<str>, path: impl AsRef<str>) -> bool;
        waits delete(key: impl AsRef<str>) -> bool;
        waits exists(key: impl AsRef<str>) -> bool;
        waits version(key: impl AsRef<str>) -> Option<Version>;
        waits cas(
            key: impl AsRef<str>,
            expected: Version,
            path: impl AsRef<str>,
            value: impl Into<serde_json::Value>,
        ) -> Version;
        waits patch(key: impl AsRef<str>, patch: Patch) -> Version;
        waits merge(key: impl AsRef<str>, patch: impl Into<serde_json::Value>) -> Version;
        waits array_push(key: impl AsRef<str>, path: impl AsRef<str>, value: impl Into<serde_json::Value>) -> Version;
        waits list(prefix: Option<&str>) -> Vec<String>;
        waits query(key: impl AsRef<str>, query: impl AsRef<str>) -> Vec<serde_json::Value>;
        waits watch(prefix: Option<&str>) -> Subscription<JsonChange>;
        waits watch_from(prefix: Option<&str>, cursor: Cursor) -> Subscription<JsonChange>;
    }
}

twin! {
    /// The runs of a database.
    run_index::RunIndex {
        waits create_run(name: impl AsRef<str>) -> RunMetadata;
        waits create_run_with_options(
            name: impl AsRef<str>,
            parent: Option<&str>,
            tags: Vec<String>,
            metadata: impl Into<Value>,
        ) -> RunMetadata;
        waits get_run(which: impl Into<RunRef>) -> Option<RunMetadata>;
        waits exists(which: impl Into<RunRef>) -> bool;
        waits list_runs() -> Vec<RunMetadata>;
        waits count() -> u64;
        waits children(which: impl Into<RunRef>) -> Vec<RunMetadata>;
        waits update_status(which: impl Into<RunRef>, to: RunStatus) -> RunMetadata;
        waits complete_run(which: impl Into<RunRef>) -> RunMetadata;
        waits fail_run(which: impl Into<RunRef>, error: impl Into<String>) -> RunMetadata;
        waits pause_run(which: impl Into<RunRef>) -> RunMetadata;
        waits resume_run(which: impl Into<RunRef>) -> RunMetadata;
        waits cancel_run(which: impl Into<RunRef>) -> RunMetadata;
        waits archive_run(which: impl Into<RunRef>) -> RunMetadata;
        waits add_tags(which: impl Into<RunRef>, tags: Vec<String>) -> RunMetadata;
        waits remove_tags(which: impl Into<RunRef>, tags: Vec<String>) -> RunMetadata;
        waits update_metadata(which: impl Into<RunRef>, metadata: impl Into<Value>) -> RunMetadata;
        waits query_by_status(status: RunStatus) -> Vec<RunMetadata>;
        waits query_by_tag(tag: impl AsRef<str>) -> Vec<RunMetadata>;
        waits delete_run(which: impl Into<RunRef>) -> ();
        waits watch(status: Option<RunStatus>) -> Subscription<RunChange>;
        waits watch_from(status: Option<RunStatus>, cursor: Cursor) -> Subscription<RunChange>;
    }
}

store!(run_index::RunIndex);

/// The key-value pairs of one run within a transaction, as `KVStore::transaction` hands them out.
pub type KVTransaction = RunKv;

impl KVStore {
    #[doc = see!(kv_store::KVStore::transaction)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn transaction<T, F>(&self, run: impl Borrow<RunId>, mut f: F) -> Result<T>
    where
        F: FnMut(KVTransaction) -> Result<T>,
    {
        Database::from(self.inner.database().clone()).transaction(run, |transaction: Transaction| f(transaction.kv()))
    }
}
