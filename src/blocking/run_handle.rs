//! A handle to one run.

use super::database::Database;
use super::stores::{RunEvents, RunJson, RunKv, RunStates, RunTraces};
use super::transaction::Transaction;
use super::wait::wait;
use crate::api::run_handle;
use crate::base::error::Result;
use crate::base::run_id::RunId;

twin! {
    /// A run: its primitives without repeating its id.
    run_handle::RunHandle {
        gives id() -> RunId;
        gives kv() -> RunKv;
        gives events() -> RunEvents;
        gives states() -> RunStates;
        gives traces() -> RunTraces;
        gives json() -> RunJson;
        waits end() -> ();
        waits fail(reason: impl Into<String>) -> ();
    }
}

impl RunHandle {
    #[doc = see!(run_handle::RunHandle::transaction)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn transaction<T, F>(&self, f: F) -> Result<T>
    where
        F: FnMut(Transaction) -> Result<T>,
    {
        Database::from(self.inner.database().clone()).transaction(self.id(), f)
    }
}
