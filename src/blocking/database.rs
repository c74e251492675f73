//! The database.

use std::borrow::Borrow;
use std::future::{Future, ready};
use std::path::Path;
use std::sync::Arc;

use super::builder::DatabaseBuilder;
use super::replay::ReplayView;
use super::run_handle::RunHandle;
use super::stores::{EventLog, JsonStore, KVStore, RunIndex, StateCell, TraceStore};
use super::transaction::{MultiTransaction, OpenTransaction, ReadView, Transaction};
use super::wait::{block_on, check_thread, wait};
use crate::api::database::DatabaseInfo;
use crate::api::diff::RunDiff;
use crate::api::lineage::{Lineage, LineageOptions};
use crate::api::local_run::LocalRun;
use crate::api::transaction::TransactionOptions;
use crate::api::verify_run::ReplayVerification;
use crate::api::{database, transaction};
use crate::base::error::{Error, Result};
use crate::base::options::DurabilityMode;
use crate::base::primitive::Primitive;
use crate::base::run::{RunOptions, RunStatus};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::disk::recovery::RecoveryReport;
use crate::disk::salvage::SalvageReport;
use crate::disk::verification::VerifyReport;
use crate::runtime::backup::BackupReport;
use crate::runtime::checkpoints::SnapshotInfo;
use crate::runtime::metrics::Metrics;

twin! {
    /// An open database. A cheap handle: clones share the same shards.
    database::Database {
        waits flush() -> ();
        waits close() -> ();
        gives durability() -> DurabilityMode;
        gives info() -> DatabaseInfo;
        gives last_recovery() -> &RecoveryReport;
        waits metrics() -> Metrics;
        waits begin_run_with(options: RunOptions) -> RunId;
        waits start_run(options: RunOptions) -> RunHandle;
        waits end_run(run: impl Borrow<RunId>) -> ();
        waits abort_run(run: impl Borrow<RunId>, reason: impl Into<String>) -> ();
        waits run_status(run: impl Borrow<RunId>) -> Option<RunStatus>;
        waits orphaned_runs() -> Vec<RunId>;
        gives run(run: impl Borrow<RunId>) -> RunHandle;
        gives shard_of(run: impl Borrow<RunId>) -> usize;
        gives kv() -> KVStore;
        gives events() -> EventLog;
        gives states() -> StateCell;
        gives traces() -> TraceStore;
        gives json() -> JsonStore;
        gives runs() -> RunIndex;
        waits snapshot_now(run: impl Borrow<RunId>) -> ReadView;
        waits snapshot_at(run: impl Borrow<RunId>, version: Version) -> ReadView;
        waits begin_transaction(run: impl Borrow<RunId>) -> OpenTransaction;
        waits spawn_on[
            T: Send + 'static,
            F: FnOnce(LocalRun) -> Fut + Send + 'static,
            Fut: Future<Output = Result<T>> + 'static
        ](run: impl Borrow<RunId>, f: F) -> T;
        waits replay_run(run: impl Borrow<RunId>) -> ReplayView;
        waits replay_run_until(run: impl Borrow<RunId>, version: Version) -> ReplayView;
        waits diff_runs(a: impl Borrow<RunId>, b: impl Borrow<RunId>) -> RunDiff;
        waits verify_run(run: impl Borrow<RunId>) -> ReplayVerification;
        waits explain(run: impl Borrow<RunId>, primitive: Primitive, key: impl AsRef<str>, version: Version) -> Lineage;
        waits explain_with(
            run: impl Borrow<RunId>,
            primitive: Primitive,
            key: impl AsRef<str>,
            version: Version,
            options: LineageOptions
        ) -> Lineage;
        waits fork_run(run: impl Borrow<RunId>, at: Option<Version>, name: impl AsRef<str>) -> RunHandle;
        waits checkpoint() -> SnapshotInfo;
        waits list_snapshots() -> Vec<SnapshotInfo>;
        waits delete_snapshot(id: u64) -> ();
        waits backup(path: impl AsRef<Path>) -> BackupReport;
        waits verify() -> VerifyReport;
    }
}

// What is made without a handle.
impl Database {
    #[doc = see!(database::Database::open)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        wait(database::Database::open(path)).map(Into::into)
    }

    #[doc = see!(database::Database::open_with_mode)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn open_with_mode(path: impl AsRef<Path>, mode: DurabilityMode) -> Result<Self> {
        wait(database::Database::open_with_mode(path, mode)).map(Into::into)
    }

    #[doc = see!(database::Database::open_in_memory)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn open_in_memory() -> Result<Self> {
        wait(database::Database::open_in_memory()).map(Into::into)
    }

    #[doc = see!(database::Database::builder)]
    pub fn builder() -> DatabaseBuilder {
        database::Database::builder().into()
    }

    #[doc = see!(database::Database::salvage)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn salvage(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<SalvageReport> {
        wait(database::Database::salvage(from, to))
    }
}

// What takes more than waiting.
impl Database {
    #[doc = see!(database::Database::begin_run)]
    ///
    /// On a thread that runs a shard it is not registered, which the run's first write says.
    #[must_use]
    pub fn begin_run(&self) -> RunId {
        let beginning = self.inner.begin_run();
        match check_thread() {
            Ok(()) => block_on(beginning),
            Err(error) => beginning.refused(error),
        }
    }

    #[doc = see!(database::Database::transaction)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn transaction<T, F>(&self, run: impl Borrow<RunId>, f: F) -> Result<T>
    where
        F: FnMut(Transaction) -> Result<T>,
    {
        self.transaction_with(run, TransactionOptions::default(), f)
    }

    #[doc = see!(database::Database::transaction_with)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn transaction_with<T, F>(&self, run: impl Borrow<RunId>, options: TransactionOptions, f: F) -> Result<T>
    where
        F: FnMut(Transaction) -> Result<T>,
    {
        self.transact(*run.borrow(), options, f)
    }

    #[doc = see!(database::Database::try_transaction)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn try_transaction<T, E, F>(&self, run: impl Borrow<RunId>, f: F) -> Result<T, E>
    where
        F: FnMut(Transaction) -> Result<T, E>,
        E: From<Error>,
    {
        self.transact(*run.borrow(), TransactionOptions::default(), f)
    }

    fn transact<T, E, F>(&self, run: RunId, options: TransactionOptions, mut f: F) -> Result<T, E>
    where
        F: FnMut(Transaction) -> Result<T, E>,
        E: From<Error>,
    {
        let engine = self.inner.engine().clone();
        wait(transaction::run(engine, run, options, |transaction| ready(f(transaction.into()))))
    }

    #[doc = see!(database::Database::transaction_across)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn transaction_across<T, F>(&self, runs: impl IntoIterator<Item = impl Borrow<RunId>>, f: F) -> Result<T>
    where
        F: FnMut(MultiTransaction) -> Result<T>,
    {
        self.transaction_across_with(runs, TransactionOptions::default(), f)
    }

    #[doc = see!(database::Database::transaction_across_with)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn transaction_across_with<T, F>(
        &self,
        runs: impl IntoIterator<Item = impl Borrow<RunId>>,
        options: TransactionOptions,
        mut f: F,
    ) -> Result<T>
    where
        F: FnMut(MultiTransaction) -> Result<T>,
    {
        let (engine, runs) = (self.inner.engine().clone(), runs.into_iter().map(|run| *run.borrow()).collect());
        wait(transaction::run_across(engine, runs, options, |transaction| ready(f(transaction.into()))))
    }
}

impl From<Arc<Database>> for Database {
    fn from(database: Arc<Database>) -> Self {
        (*database).clone()
    }
}

impl From<&Arc<Database>> for Database {
    fn from(database: &Arc<Database>) -> Self {
        (**database).clone()
    }
}

impl From<&Database> for Database {
    fn from(database: &Database) -> Self {
        database.clone()
    }
}
