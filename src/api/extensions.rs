//! Extension traits: short names for the primitives on a transaction.

use std::future::Future;
use std::time::Duration;

use super::op::Op;
use super::transaction::Transaction;
use crate::base::error::Result;
use crate::base::event::Event;
use crate::base::state::State;
use crate::base::trace::TraceType;
use crate::base::value::Value;
use crate::base::version::Version;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Transaction {}
}

/// Key-value pairs of the transaction's run.
pub trait KVStoreExt: sealed::Sealed {
    /// See [`RunKv::get`](crate::primitives::RunKv::get).
    fn kv_get(&self, key: impl AsRef<str>) -> Op<Option<Value>>;
    /// See [`RunKv::put`](crate::primitives::RunKv::put).
    fn kv_put(&self, key: impl AsRef<str>, value: impl Into<Value>) -> Op<()>;
    /// See [`RunKv::put_with_ttl`](crate::primitives::RunKv::put_with_ttl).
    fn kv_put_with_ttl(&self, key: impl AsRef<str>, value: impl Into<Value>, ttl: Duration) -> Op<()>;
    /// See [`RunKv::delete`](crate::primitives::RunKv::delete).
    fn kv_delete(&self, key: impl AsRef<str>) -> Op<bool>;
    /// See [`RunKv::exists`](crate::primitives::RunKv::exists).
    fn kv_exists(&self, key: impl AsRef<str>) -> Op<bool>;
    /// See [`RunKv::list`](crate::primitives::RunKv::list).
    fn kv_list(&self, prefix: Option<&str>) -> Op<Vec<String>>;
}

impl KVStoreExt for Transaction {
    fn kv_get(&self, key: impl AsRef<str>) -> Op<Option<Value>> {
        self.kv().get(key)
    }

    fn kv_put(&self, key: impl AsRef<str>, value: impl Into<Value>) -> Op<()> {
        self.kv().put(key, value)
    }

    fn kv_put_with_ttl(&self, key: impl AsRef<str>, value: impl Into<Value>, ttl: Duration) -> Op<()> {
        self.kv().put_with_ttl(key, value, ttl)
    }

    fn kv_delete(&self, key: impl AsRef<str>) -> Op<bool> {
        self.kv().delete(key)
    }

    fn kv_exists(&self, key: impl AsRef<str>) -> Op<bool> {
        self.kv().exists(key)
    }

    fn kv_list(&self, prefix: Option<&str>) -> Op<Vec<String>> {
        self.kv().list(prefix)
    }
}

/// The event log of the transaction's run.
pub trait EventLogExt: sealed::Sealed {
    /// Appends an event; the sequence it will have. See [`RunEvents::append`](crate::primitives::RunEvents::append).
    fn event_append(&self, event_type: impl AsRef<str>, payload: impl Into<Value>) -> Op<u64>;
    /// See [`RunEvents::read`](crate::primitives::RunEvents::read).
    fn event_read(&self, sequence: u64) -> Op<Option<Event>>;
    /// See [`RunEvents::len`](crate::primitives::RunEvents::len).
    fn event_len(&self) -> Op<u64>;
}

impl EventLogExt for Transaction {
    fn event_append(&self, event_type: impl AsRef<str>, payload: impl Into<Value>) -> Op<u64> {
        self.events().append(event_type, payload).then(|(sequence, _)| Ok(sequence))
    }

    fn event_read(&self, sequence: u64) -> Op<Option<Event>> {
        self.events().read(sequence)
    }

    fn event_len(&self) -> Op<u64> {
        self.events().len()
    }
}

/// The state cells of the transaction's run.
pub trait StateCellExt: sealed::Sealed {
    /// See [`RunStates::read`](crate::primitives::RunStates::read).
    fn state_read(&self, name: impl AsRef<str>) -> Op<Option<State>>;
    /// See [`RunStates::init`](crate::primitives::RunStates::init).
    fn state_init(&self, name: impl AsRef<str>, value: impl Into<Value>) -> Op<u64>;
    /// See [`RunStates::cas`](crate::primitives::RunStates::cas).
    fn state_cas(&self, name: impl AsRef<str>, expected: u64, value: impl Into<Value>) -> Op<u64>;
    /// See [`RunStates::set`](crate::primitives::RunStates::set).
    fn state_set(&self, name: impl AsRef<str>, value: impl Into<Value>) -> Op<u64>;
    /// See [`RunStates::transition`](crate::primitives::RunStates::transition).
    fn state_transition<T, F>(&self, name: impl AsRef<str>, f: F) -> impl Future<Output = Result<(T, u64)>> + Send
    where
        F: FnMut(&State) -> Result<(Value, T)> + Send,
        T: Send;
}

impl StateCellExt for Transaction {
    fn state_read(&self, name: impl AsRef<str>) -> Op<Option<State>> {
        self.states().read(name)
    }

    fn state_init(&self, name: impl AsRef<str>, value: impl Into<Value>) -> Op<u64> {
        self.states().init(name, value)
    }

    fn state_cas(&self, name: impl AsRef<str>, expected: u64, value: impl Into<Value>) -> Op<u64> {
        self.states().cas(name, expected, value)
    }

    fn state_set(&self, name: impl AsRef<str>, value: impl Into<Value>) -> Op<u64> {
        self.states().set(name, value)
    }

    fn state_transition<T, F>(&self, name: impl AsRef<str>, f: F) -> impl Future<Output = Result<(T, u64)>> + Send
    where
        F: FnMut(&State) -> Result<(Value, T)> + Send,
        T: Send,
    {
        self.states().transition(name, f)
    }
}

/// The traces of the transaction's run.
pub trait TraceStoreExt: sealed::Sealed {
    /// Records a trace with metadata and no tags. See [`RunTraces::record`](crate::primitives::RunTraces::record).
    fn trace_record(&self, trace_type: impl Into<TraceType>, metadata: impl Into<Value>) -> Op<String>;
    /// Records a trace below another one. See [`RunTraces::record_child`](crate::primitives::RunTraces::record_child).
    fn trace_record_child(
        &self,
        parent: impl AsRef<str>,
        trace_type: impl Into<TraceType>,
        metadata: impl Into<Value>,
    ) -> Op<String>;
    /// Records a trace with tags. See [`RunTraces::record`](crate::primitives::RunTraces::record).
    fn trace_record_with(
        &self,
        trace_type: impl Into<TraceType>,
        tags: Vec<String>,
        metadata: impl Into<Value>,
    ) -> Op<String>;
}

impl TraceStoreExt for Transaction {
    fn trace_record(&self, trace_type: impl Into<TraceType>, metadata: impl Into<Value>) -> Op<String> {
        self.traces().record(trace_type.into(), Vec::new(), metadata)
    }

    fn trace_record_child(
        &self,
        parent: impl AsRef<str>,
        trace_type: impl Into<TraceType>,
        metadata: impl Into<Value>,
    ) -> Op<String> {
        self.traces().record_child(parent, trace_type.into(), Vec::new(), metadata)
    }

    fn trace_record_with(
        &self,
        trace_type: impl Into<TraceType>,
        tags: Vec<String>,
        metadata: impl Into<Value>,
    ) -> Op<String> {
        self.traces().record(trace_type.into(), tags, metadata)
    }
}

/// The JSON documents of the transaction's run.
pub trait JsonStoreExt: sealed::Sealed {
    /// See [`RunJson::get`](crate::primitives::RunJson::get).
    fn json_get(&self, key: impl AsRef<str>, path: impl AsRef<str>) -> Op<Option<serde_json::Value>>;
    /// See [`RunJson::create`](crate::primitives::RunJson::create).
    fn json_create(&self, key: impl AsRef<str>, document: impl Into<serde_json::Value>) -> Op<Version>;
    /// See [`RunJson::set`](crate::primitives::RunJson::set).
    fn json_set(&self, key: impl AsRef<str>, path: impl AsRef<str>, value: impl Into<serde_json::Value>)
    -> Op<Version>;
    /// See [`RunJson::delete`](crate::primitives::RunJson::delete).
    fn json_delete(&self, key: impl AsRef<str>) -> Op<bool>;
    /// See [`RunJson::delete_at`](crate::primitives::RunJson::delete_at).
    fn json_delete_at(&self, key: impl AsRef<str>, path: impl AsRef<str>) -> Op<bool>;
    /// See [`RunJson::merge`](crate::primitives::RunJson::merge).
    fn json_merge(&self, key: impl AsRef<str>, patch: impl Into<serde_json::Value>) -> Op<Version>;
    /// See [`RunJson::patch`](crate::primitives::RunJson::patch).
    fn json_patch(&self, key: impl AsRef<str>, patch: json_patch::Patch) -> Op<Version>;
    /// See [`RunJson::array_push`](crate::primitives::RunJson::array_push).
    fn json_array_push(
        &self,
        key: impl AsRef<str>,
        path: impl AsRef<str>,
        value: impl Into<serde_json::Value>,
    ) -> Op<Version>;
    /// See [`RunJson::exists`](crate::primitives::RunJson::exists).
    fn json_exists(&self, key: impl AsRef<str>) -> Op<bool>;
}

impl JsonStoreExt for Transaction {
    fn json_get(&self, key: impl AsRef<str>, path: impl AsRef<str>) -> Op<Option<serde_json::Value>> {
        self.json().get(key, path)
    }

    fn json_create(&self, key: impl AsRef<str>, document: impl Into<serde_json::Value>) -> Op<Version> {
        self.json().create(key, document)
    }

    fn json_set(
        &self,
        key: impl AsRef<str>,
        path: impl AsRef<str>,
        value: impl Into<serde_json::Value>,
    ) -> Op<Version> {
        self.json().set(key, path, value)
    }

    fn json_delete(&self, key: impl AsRef<str>) -> Op<bool> {
        self.json().delete(key)
    }

    fn json_delete_at(&self, key: impl AsRef<str>, path: impl AsRef<str>) -> Op<bool> {
        self.json().delete_at(key, path)
    }

    fn json_merge(&self, key: impl AsRef<str>, patch: impl Into<serde_json::Value>) -> Op<Version> {
        self.json().merge(key, patch)
    }

    fn json_patch(&self, key: impl AsRef<str>, patch: json_patch::Patch) -> Op<Version> {
        self.json().patch(key, patch)
    }

    fn json_array_push(
        &self,
        key: impl AsRef<str>,
        path: impl AsRef<str>,
        value: impl Into<serde_json::Value>,
    ) -> Op<Version> {
        self.json().array_push(key, path, value)
    }

    fn json_exists(&self, key: impl AsRef<str>) -> Op<bool> {
        self.json().exists(key)
    }
}
