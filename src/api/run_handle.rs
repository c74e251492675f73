//! A handle to one run.

use std::borrow::Borrow;
use std::future::Future;

use futures::future::BoxFuture;

use super::database::Database;
use super::event_log::RunEvents;
use super::json_store::RunJson;
use super::kv_store::RunKv;
use super::op::Op;
use super::scope::Scope;
use super::state_cell::RunStates;
use super::trace_store::RunTraces;
use super::transaction::Transaction;
use crate::base::error::Result;
use crate::base::run_id::RunId;

/// A run: its five primitives without repeating its id.
#[derive(Clone, Debug)]
pub struct RunHandle {
    database: Database,
    run: RunId,
}

impl RunHandle {
    pub(crate) fn new(database: &Database, run: impl Borrow<RunId>) -> Self {
        Self { database: database.clone(), run: *run.borrow() }
    }

    pub(crate) const fn database(&self) -> &Database {
        &self.database
    }

    fn scope(&self) -> Scope {
        Scope::of_run(self.database.engine(), self.run)
    }

    /// The run's id.
    #[must_use]
    pub const fn id(&self) -> RunId {
        self.run
    }

    /// The run's key-value pairs.
    #[must_use]
    pub fn kv(&self) -> RunKv {
        RunKv::new(self.scope())
    }

    /// The run's event log.
    #[must_use]
    pub fn events(&self) -> RunEvents {
        RunEvents::new(self.scope())
    }

    /// The run's state cells.
    #[must_use]
    pub fn states(&self) -> RunStates {
        RunStates::new(self.scope())
    }

    /// The run's traces.
    #[must_use]
    pub fn traces(&self) -> RunTraces {
        RunTraces::new(self.scope())
    }

    /// The run's JSON documents.
    #[must_use]
    pub fn json(&self) -> RunJson {
        RunJson::new(self.scope())
    }

    /// Runs a transaction in the run. See [`Database::transaction`].
    ///
    /// # Errors
    /// Those of [`Database::transaction`].
    ///
    /// # Cancel safety
    /// Committed or not, never half.
    pub fn transaction<'f, T, F, Fut>(&self, f: F) -> BoxFuture<'f, Result<T>>
    where
        F: FnMut(Transaction) -> Fut + Send + 'f,
        Fut: Future<Output = Result<T>> + Send + 'f,
        T: Send + 'f,
    {
        self.database.transaction(self.run, f)
    }

    /// Ends the run well. See [`Database::end_run`].
    ///
    /// # Errors
    /// Those of [`Database::end_run`].
    ///
    /// # Cancel safety
    /// Ended or not, never half.
    pub fn end(&self) -> Op<()> {
        self.database.end_run(self.run)
    }

    /// Ends the run with an error. See [`Database::abort_run`].
    ///
    /// # Errors
    /// Those of [`Database::abort_run`].
    ///
    /// # Cancel safety
    /// Ended or not, never half.
    pub fn fail(&self, reason: impl Into<String>) -> Op<()> {
        self.database.abort_run(self.run, reason)
    }
}
