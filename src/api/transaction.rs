//! Transactions within one run and across runs, by closure and by hand, and views of one snapshot.

use std::borrow::Borrow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::event_log::RunEvents;
use super::json_store::RunJson;
use super::kv_store::RunKv;
use super::op::Op;
use super::scope::Scope;
use super::state_cell::RunStates;
use super::trace_store::RunTraces;
use super::transacting::{Bounds, RETRIES, Transacting, until_it_wins};
use crate::base::error::{Conflict, Error, Result};
use crate::base::options::DurabilityMode;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::runtime::engine::Engine;
use crate::shard::input::Acknowledge;

/// The bounds of a transaction. The default: the database's durability, 64 retries, no timeout, reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionOptions {
    /// When this transaction is acknowledged, if not as the database's mode says: `Strict` waits until it is on disk,
    /// `Buffered` and `InMemory` until it is visible. How it is logged does not change: only whether the caller waits. A
    /// transaction over several shards of a `Strict` database is visible only when it is on disk.
    /// A database that keeps nothing on disk refuses `Strict` and `Buffered`.
    pub durability: Option<DurabilityMode>,
    /// How often the closure is called again after a conflict.
    pub max_retries: u32,
    /// How long all attempts together may take; checked between attempts.
    pub timeout: Option<Duration>,
    /// Whether writes are refused. A transaction that only reads never conflicts, said or not.
    pub read_only: bool,
    /// A name for logs.
    pub label: Option<String>,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self { durability: None, max_retries: RETRIES, timeout: None, read_only: false, label: None }
    }
}

impl TransactionOptions {
    fn bounds(&self, engine: &Engine) -> Result<Bounds> {
        let keeps_nothing = engine.setup().mode == DurabilityMode::InMemory;
        let acknowledge = match self.durability {
            None => Acknowledge::AsUsual,
            Some(DurabilityMode::InMemory) => Acknowledge::Visible,
            Some(_) if keeps_nothing => {
                let reason = "the database keeps nothing on disk: open it Buffered or Strict to commit durably";
                return Err(Error::InvalidOperation(reason.into()));
            }
            Some(DurabilityMode::Buffered { .. }) => Acknowledge::Visible,
            Some(DurabilityMode::Strict) => Acknowledge::Durable,
        };
        let timeout = self.timeout;
        Ok(Bounds { retries: self.max_retries, timeout, acknowledge, label: self.label.clone() })
    }
}

/// A transaction as its closure sees it: a cheap handle whose operations read one snapshot, see the transaction's own
/// writes, and take effect together when the closure returns `Ok`.
#[derive(Clone, Debug)]
pub struct Transaction {
    scope: Scope,
}

impl Transaction {
    /// The run.
    #[must_use]
    pub const fn run_id(&self) -> RunId {
        self.scope.run()
    }

    /// The run's key-value pairs.
    #[must_use]
    pub fn kv(&self) -> RunKv {
        RunKv::new(self.scope.clone())
    }

    /// The run's event log.
    #[must_use]
    pub fn events(&self) -> RunEvents {
        RunEvents::new(self.scope.clone())
    }

    /// The run's state cells.
    #[must_use]
    pub fn states(&self) -> RunStates {
        RunStates::new(self.scope.clone())
    }

    /// The run's traces.
    #[must_use]
    pub fn traces(&self) -> RunTraces {
        RunTraces::new(self.scope.clone())
    }

    /// The run's JSON documents.
    #[must_use]
    pub fn json(&self) -> RunJson {
        RunJson::new(self.scope.clone())
    }
}

/// A transaction across runs as its closure sees it: a cheap handle.
#[derive(Clone, Debug)]
pub struct MultiTransaction {
    scope: Scope,
    runs: Arc<[RunId]>,
}

impl MultiTransaction {
    /// The transaction in one of its runs. Operations in a run that was not named when it began are refused with
    /// `InvalidOperation`.
    #[must_use]
    pub fn run(&self, run: impl Borrow<RunId>) -> Transaction {
        let run = *run.borrow();
        let scope = self.scope.for_run(run);
        let scope =
            if self.runs.contains(&run) { scope } else { scope.refused("the run is not one of the transaction") };
        Transaction { scope }
    }

    /// The runs it was begun with.
    #[must_use]
    pub fn runs(&self) -> &[RunId] {
        &self.runs
    }
}

/// A run at one version: what is read through it is what was current then, whatever is committed meanwhile. Writes are
/// refused.
#[derive(Clone, Debug)]
pub struct ReadView {
    transaction: Transaction,
    version: Version,
}

impl ReadView {
    /// Fixes the snapshot.
    pub(crate) fn open(engine: Arc<Engine>, run: RunId, version: Option<Version>) -> Op<Self> {
        Op::steps(async move {
            let transacting = Arc::new(Transacting::new(engine.clone()));
            let version = transacting.begin(engine.shard_of(&run), version).await?;
            let scope = Scope::of_transaction(engine, run, transacting).read_only(true);
            Ok(Self { transaction: Transaction { scope }, version })
        })
    }

    /// The version that is read.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Another run at the same version.
    #[must_use]
    pub fn run(&self, run: impl Borrow<RunId>) -> Self {
        let scope = self.transaction.scope.for_run(*run.borrow());
        Self { transaction: Transaction { scope }, version: self.version }
    }
}

impl std::ops::Deref for ReadView {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a conflict means that nothing was committed"]
#[non_exhaustive]
pub enum CommitOutcome {
    /// It is committed, at this version; one that wrote nothing has version 0.
    Committed(Version),
    /// Somebody else committed what it had read. Nothing was written; begin again.
    Conflicted(Conflict),
}

/// A transaction that is committed by hand. Dropping it aborts it.
#[derive(Debug)]
#[must_use = "dropping an open transaction aborts it"]
pub struct OpenTransaction {
    transaction: Transaction,
    transacting: Arc<Transacting>,
}

impl OpenTransaction {
    pub(crate) fn begin(engine: &Arc<Engine>, run: RunId) -> Self {
        let transacting = Arc::new(Transacting::new(engine.clone()));
        let scope = Scope::of_transaction(engine.clone(), run, transacting.clone());
        Self { transaction: Transaction { scope }, transacting }
    }

    /// Commits. Operations made through clones of the handle are refused from then on.
    ///
    /// # Errors
    /// `Timeout` if the transaction was idle for too long and is forgotten, `CommitUnknown`, `Unavailable`.
    ///
    /// # Cancel safety
    /// Committed or not, never half.
    pub fn commit(self) -> Op<CommitOutcome> {
        // Ended when it is polled: dropped before that, the transaction is aborted as if it had been dropped itself.
        Op::steps(async move {
            match self.transacting.commit(Acknowledge::AsUsual).await {
                Ok(version) => Ok(CommitOutcome::Committed(version)),
                Err(Error::TransactionConflict(conflict)) => Ok(CommitOutcome::Conflicted(conflict)),
                Err(error) => Err(error),
            }
        })
    }

    /// Aborts: nothing was ever written.
    pub fn abort(self) {
        self.transacting.abort();
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        // Handles that it has given out may live on; they are refused from now on.
        self.transacting.abort();
    }
}

impl std::ops::Deref for OpenTransaction {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

/// Runs a closure as a transaction within one run.
pub(crate) async fn run<T, E, F, Fut>(
    engine: Arc<Engine>,
    run: RunId,
    options: TransactionOptions,
    mut f: F,
) -> Result<T, E>
where
    F: FnMut(Transaction) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: From<Error>,
{
    run_in_scope(engine, run, options, |scope| f(Transaction { scope })).await
}

/// Runs a closure as a transaction across runs.
pub(crate) async fn run_across<T, E, F, Fut>(
    engine: Arc<Engine>,
    runs: Vec<RunId>,
    options: TransactionOptions,
    mut f: F,
) -> Result<T, E>
where
    F: FnMut(MultiTransaction) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: From<Error>,
{
    let runs: Arc<[RunId]> = runs.into();
    run_in_scope(engine, RunId::DIRECTORY, options, |scope| f(MultiTransaction { scope, runs: runs.clone() })).await
}

async fn run_in_scope<T, E, F, Fut>(
    engine: Arc<Engine>,
    run: RunId,
    options: TransactionOptions,
    mut f: F,
) -> Result<T, E>
where
    F: FnMut(Scope) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: From<Error>,
{
    let bounds = options.bounds(&engine)?;
    until_it_wins(engine.clone(), bounds, |transacting| {
        f(Scope::of_transaction(engine.clone(), run, transacting).read_only(options.read_only))
    })
    .await
}
