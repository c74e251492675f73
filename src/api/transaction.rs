//! Transactions within one run.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event_log::RunEvents;
use super::kv_store::RunKv;
use super::op::Op;
use super::scope::{Scope, Transacting};
use super::state_cell::RunStates;
use super::trace_store::RunTraces;
use super::turn::let_others_run;
use crate::base::error::{Conflict, Error, Result};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::runtime::engine::Engine;

/// The bounds of a transaction. The default: 64 retries, no timeout, reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionOptions {
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
        Self { max_retries: 64, timeout: None, read_only: false, label: None }
    }
}

/// A transaction as its closure sees it: a cheap handle whose operations read one snapshot, see the transaction's own
/// writes, and take effect together when the closure returns `Ok`.
#[derive(Clone, Debug)]
pub struct Transaction {
    scope: Scope,
}

impl Transaction {
    fn begin(engine: &Arc<Engine>, run: RunId, read_only: bool) -> (Self, Arc<Transacting>) {
        let transacting = Arc::new(Transacting::begin(engine.clone(), &run));
        let scope = Scope::of_transaction(engine.clone(), run, transacting.clone()).read_only(read_only);
        (Self { scope }, transacting)
    }

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
        let (transaction, transacting) = Transaction::begin(engine, run, false);
        Self { transaction, transacting }
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
            let Some(commit) = self.transacting.commit() else {
                return Err(Error::InvalidOperation("the transaction has ended".into()));
            };
            match commit.await {
                Ok(reply) => Ok(CommitOutcome::Committed(reply.version.unwrap_or_default())),
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

impl std::ops::Deref for OpenTransaction {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

/// Runs a closure as a transaction, again after each conflict, up to the bounds.
pub(crate) async fn run<T, E, F, Fut>(
    engine: Arc<Engine>,
    run: RunId,
    options: TransactionOptions,
    mut f: F,
) -> Result<T, E>
where
    F: FnMut(Transaction) -> Fut + Send,
    Fut: Future<Output = Result<T, E>> + Send,
    T: Send,
    E: From<Error> + Send,
{
    let started = Instant::now();
    let mut attempt = 0;
    loop {
        let (transaction, transacting) = Transaction::begin(&engine, run, options.read_only);
        let value = match f(transaction).await {
            Ok(value) => value,
            Err(error) => {
                transacting.abort();
                return Err(error);
            }
        };
        let Some(commit) = transacting.commit() else {
            return Err(Error::InvalidOperation("the transaction has ended".into()).into());
        };
        match commit.await {
            Ok(_) => return Ok(value),
            Err(Error::TransactionConflict(conflict)) => {
                if attempt >= options.max_retries {
                    return Err(Error::TransactionConflict(conflict).into());
                }
                if let Some(timeout) = options.timeout.filter(|timeout| started.elapsed() >= *timeout) {
                    return Err(Error::Timeout(timeout).into());
                }
                let label = options.label.as_deref().unwrap_or("");
                tracing::debug!(label, attempt, %conflict, "a transaction lost and runs again");
                back_off(attempt, engine.clock().unique_number()).await;
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets others go first: the more often a transaction lost, the longer on average. `jitter` is any number that differs
/// between those who wait. Needs no timer, and so no particular runtime.
async fn back_off(attempt: u32, jitter: u64) {
    let mixed = (jitter ^ (jitter >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let turns = mixed % (2_u64 << attempt.min(12));
    for _ in 0..turns {
        let_others_run().await;
    }
}
