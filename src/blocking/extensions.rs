//! Extension traits: short names for the primitives on a transaction.

use std::time::Duration;

use super::transaction::Transaction;
use super::wait::wait;
use crate::api::extensions;
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

/// A trait of short names, and what waits for its asynchronous twin. The rows are those of `twin!`.
macro_rules! extension {
    ($(#[$meta:meta])* extensions::$trait:ident {
        $(waits $name:ident $([$($generics:tt)*])? ($($arg:ident: $arg_type:ty),* $(,)?) -> $out:ty;)*
    }) => {
        $(#[$meta])*
        ///
        #[doc = twin_of!(extensions::$trait)]
        pub trait $trait: sealed::Sealed {
            $(
                #[doc = see!(extensions::$trait::$name)]
                ///
                /// # Errors
                /// The same.
                fn $name $(<$($generics)*>)? (&self, $($arg: $arg_type),*) -> Result<$out>;
            )*
        }

        impl $trait for Transaction {
            $(
                fn $name $(<$($generics)*>)? (&self, $($arg: $arg_type),*) -> Result<$out> {
                    wait(extensions::$trait::$name(&self.inner, $($arg),*))
                }
            )*
        }
    };
}

extension! {
    /// Key-value pairs of the transaction's run.
    extensions::KVStoreExt {
        waits kv_get(key: impl AsRef<str>) -> Option<Value>;
        waits kv_put(key: impl AsRef<str>, value: impl Into<Value>) -> ();
        waits kv_put_with_ttl(key: impl AsRef<str>, value: impl Into<Value>, ttl: Duration) -> ();
        waits kv_delete(key: impl AsRef<str>) -> bool;
        waits kv_exists(key: impl AsRef<str>) -> bool;
        waits kv_list(prefix: Option<&str>) -> Vec<String>;
    }
}

extension! {
    /// The event log of the transaction's run.
    extensions::EventLogExt {
        waits event_append(event_type: impl AsRef<str>, payload: impl Into<Value>) -> u64;
        waits event_read(sequence: u64) -> Option<Event>;
        waits event_len() -> u64;
    }
}

extension! {
    /// The state cells of the transaction's run.
    extensions::StateCellExt {
        waits state_read(name: impl AsRef<str>) -> Option<State>;
        waits state_init(name: impl AsRef<str>, value: impl Into<Value>) -> u64;
        waits state_cas(name: impl AsRef<str>, expected: u64, value: impl Into<Value>) -> u64;
        waits state_set(name: impl AsRef<str>, value: impl Into<Value>) -> u64;
        waits state_transition[T: Send, F: FnMut(&State) -> Result<(Value, T)> + Send](
            name: impl AsRef<str>,
            f: F,
        ) -> (T, u64);
    }
}

extension! {
    /// The traces of the transaction's run.
    extensions::TraceStoreExt {
        waits trace_record(trace_type: impl Into<TraceType>, metadata: impl Into<Value>) -> String;
        waits trace_record_child(
            parent: impl AsRef<str>,
            trace_type: impl Into<TraceType>,
            metadata: impl Into<Value>,
        ) -> String;
        waits trace_record_with(
            trace_type: impl Into<TraceType>,
            tags: Vec<String>,
            metadata: impl Into<Value>,
        ) -> String;
    }
}

extension! {
    /// The JSON documents of the transaction's run.
    extensions::JsonStoreExt {
        waits json_get(key: impl AsRef<str>, path: impl AsRef<str>) -> Option<serde_json::Value>;
        waits json_create(key: impl AsRef<str>, document: impl Into<serde_json::Value>) -> Version;
        waits json_set(key: impl AsRef<str>, path: impl AsRef<str>, value: impl Into<serde_json::Value>) -> Version;
        waits json_delete(key: impl AsRef<str>) -> bool;
        waits json_delete_at(key: impl AsRef<str>, path: impl AsRef<str>) -> bool;
        waits json_merge(key: impl AsRef<str>, patch: impl Into<serde_json::Value>) -> Version;
        waits json_patch(key: impl AsRef<str>, patch: json_patch::Patch) -> Version;
        waits json_array_push(
            key: impl AsRef<str>,
            path: impl AsRef<str>,
            value: impl Into<serde_json::Value>,
        ) -> Version;
        waits json_exists(key: impl AsRef<str>) -> bool;
    }
}
