//! Transactions by closure and by hand, and views of one snapshot.

use std::borrow::Borrow;
use std::ops::Deref;

use super::stores::{RunEvents, RunJson, RunKv, RunStates, RunTraces};
use super::wait::wait;
use crate::api::transaction;
use crate::api::transaction::CommitOutcome;
use crate::base::error::Result;
use crate::base::run_id::RunId;
use crate::base::version::Version;

twin! {
    /// A transaction as its closure sees it.
    transaction::Transaction {
        gives run_id() -> RunId;
        gives kv() -> RunKv;
        gives events() -> RunEvents;
        gives states() -> RunStates;
        gives traces() -> RunTraces;
        gives json() -> RunJson;
    }
}

twin! {
    /// A transaction across runs as its closure sees it.
    transaction::MultiTransaction {
        gives run(run: impl Borrow<RunId>) -> Transaction;
        gives runs() -> &[RunId];
    }
}

/// A run at one version.
///
#[doc = twin_of!(transaction::ReadView)]
#[derive(Clone, Debug)]
pub struct ReadView {
    inner: transaction::ReadView,
    transaction: Transaction,
}

impl From<transaction::ReadView> for ReadView {
    fn from(inner: transaction::ReadView) -> Self {
        let transaction = Transaction { inner: (*inner).clone() };
        Self { inner, transaction }
    }
}

impl ReadView {
    #[doc = see!(transaction::ReadView::version)]
    #[must_use]
    pub const fn version(&self) -> Version {
        self.inner.version()
    }

    #[doc = see!(transaction::ReadView::run)]
    #[must_use]
    pub fn run(&self, run: impl Borrow<RunId>) -> Self {
        self.inner.run(run).into()
    }
}

impl Deref for ReadView {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

/// A transaction that is committed by hand. Dropping it aborts it.
///
#[doc = twin_of!(transaction::OpenTransaction)]
#[derive(Debug)]
#[must_use = "dropping an open transaction aborts it"]
pub struct OpenTransaction {
    inner: transaction::OpenTransaction,
    transaction: Transaction,
}

impl From<transaction::OpenTransaction> for OpenTransaction {
    fn from(inner: transaction::OpenTransaction) -> Self {
        let transaction = Transaction { inner: (*inner).clone() };
        Self { inner, transaction }
    }
}

impl OpenTransaction {
    #[doc = see!(transaction::OpenTransaction::commit)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn commit(self) -> Result<CommitOutcome> {
        wait(self.inner.commit())
    }

    #[doc = see!(transaction::OpenTransaction::abort)]
    pub fn abort(self) {
        self.inner.abort();
    }
}

impl Deref for OpenTransaction {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}
