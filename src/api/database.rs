//! The database.

use std::borrow::Borrow;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};

use super::builder::{DatabaseBuilder, on_thread};
use super::event_log::EventLog;
use super::json_store::JsonStore;
use super::kv_store::KVStore;
use super::local_run::{LocalRun, spawn_on};
use super::op::Op;
use super::run_handle::RunHandle;
use super::run_index::{self, RunIndex, RunRef};
use super::state_cell::StateCell;
use super::trace_store::TraceStore;
use super::transaction::{MultiTransaction, OpenTransaction, ReadView, Transaction, TransactionOptions};
use crate::base::error::{Error, Result};
use crate::base::options::{Driver, DurabilityMode, Partitioning};
use crate::base::run::{RunMetadata, RunOptions, RunStatus};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::disk::recovery::RecoveryReport;
use crate::disk::salvage::SalvageReport;
use crate::format::FORMAT_VERSION;
use crate::primitive::command::RunFilter;
use crate::runtime::engine::{Engine, Health};
use crate::runtime::metrics::{Metrics, metrics};
use crate::runtime::salvage::salvage;
use crate::shard::input::Request;

/// An open database. A cheap handle: clones share the same shards. Dropping the last one closes it, best effort;
/// [`close`](Self::close) says whether that went well.
#[derive(Clone, Debug)]
pub struct Database {
    engine: Arc<Engine>,
}

/// What is known about an open database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseInfo {
    /// The directory; `None` if the database is in memory only.
    pub path: Option<PathBuf>,
    /// When commits are acknowledged.
    pub durability: DurabilityMode,
    /// How keys are spread over the shards.
    pub partitioning: Partitioning,
    /// How many shards there are.
    pub shards: usize,
    /// What runs them.
    pub driver: Driver,
    /// Why that.
    pub driver_reason: String,
    /// The version of the on-disk format.
    pub format_version: u32,
    /// About how many bytes of memory is taken by everything that is kept.
    pub memory_bytes: u64,
    /// How many may be.
    pub memory_limit: Option<u64>,
    /// Whether it works.
    pub health: DatabaseHealth,
}

/// Whether a database works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatabaseHealth {
    /// It does.
    Healthy,
    /// It is closed.
    Closed,
    /// A shard has failed; the text says why. Reopen the database.
    Failed(String),
    /// A shard could not write its log; the text names the file and says why. Nothing is written there any more (in
    /// `Buffered` mode nowhere), what was acknowledged can be read. Reopen the database.
    Poisoned(String),
    /// A shard cannot make the next segment of its log; the text names the file and says why. What the current one has
    /// no room for is refused, and accepted again when there is room.
    Short(String),
}

impl Database {
    pub(crate) const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    pub(crate) const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Opens a database in `Strict` mode: what is acknowledged is on disk. The directory is made if it is not there.
    ///
    /// # Errors
    /// Those of [`DatabaseBuilder::open`].
    ///
    /// # Cancel safety
    /// A database that was being opened is closed again.
    pub fn open(path: impl AsRef<Path>) -> Op<Self> {
        Self::builder().path(path).open()
    }

    /// Opens a database in the given mode.
    ///
    /// # Errors
    /// Those of [`DatabaseBuilder::open`].
    ///
    /// # Cancel safety
    /// A database that was being opened is closed again.
    pub fn open_with_mode(path: impl AsRef<Path>, mode: DurabilityMode) -> Op<Self> {
        Self::builder().path(path).durability(mode).open()
    }

    /// Opens a database that writes nothing and ends with the process.
    ///
    /// # Errors
    /// `RuntimeUnavailable` if its threads cannot be started.
    ///
    /// # Cancel safety
    /// A database that was being opened is closed again.
    pub fn open_in_memory() -> Op<Self> {
        Self::builder().durability(DurabilityMode::InMemory).open()
    }

    /// Begins to collect what a database is opened with.
    pub const fn builder() -> DatabaseBuilder {
        DatabaseBuilder::new()
    }

    /// Copies what is provably intact in a damaged directory into a new one, and reports what is missing.
    ///
    /// `from` is read and never written to; nobody may have it open. `to` must not exist or be empty; it is a database of
    /// its own afterwards. Every record whose checksum holds is taken, also behind damage, and a transaction over several
    /// shards whole or not at all. What stood in a damaged place is lost, deletes included: what they took away is there
    /// again. What was forgotten of a run's past before is not known as forgotten any more: a view of the past, or a replay,
    /// shows what there is.
    ///
    /// # Errors
    /// `InvalidOperation` if there is nothing of a database in `from`, or if there is something in `to`; `Locked`; `Io` if
    /// the new directory cannot be written.
    ///
    /// # Cancel safety
    /// The salvage goes on; its report is lost.
    pub fn salvage(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Op<SalvageReport> {
        let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
        Op::steps(on_thread("in-mem-salvage", move || salvage(&from, &to)))
    }

    /// Completes when everything acknowledged so far is on disk.
    ///
    /// # Errors
    /// `Unavailable` if a write has failed: reopen the database.
    ///
    /// # Cancel safety
    /// The flush goes on; its result is lost.
    pub fn flush(&self) -> Op<()> {
        let engine = self.engine.clone();
        Op::steps(async move {
            try_join_all((0..engine.shards()).map(|shard| engine.request(shard, Request::Flush))).await?;
            Ok(())
        })
    }

    /// Flushes, stops and joins the shards, and gives the directory back. Other handles get `Unavailable` from then on.
    ///
    /// # Errors
    /// `Unavailable` if something acknowledged in `Buffered` mode could not be written.
    ///
    /// # Cancel safety
    /// Once polled, the database closes whether or not the future is dropped.
    pub fn close(&self) -> Op<()> {
        let engine = self.engine.clone();
        Op::steps(async move { engine.close().await })
    }

    /// When commits are acknowledged.
    #[must_use]
    pub fn durability(&self) -> DurabilityMode {
        self.engine.setup().mode
    }

    /// What is known about the open database.
    #[must_use]
    pub fn info(&self) -> DatabaseInfo {
        let setup = self.engine.setup();
        let health = match self.engine.failed() {
            Some(reason) => DatabaseHealth::Failed(reason),
            None => state_of(self.engine.health()),
        };
        DatabaseInfo {
            path: setup.path.clone(),
            durability: setup.mode,
            partitioning: setup.layout.partitioning,
            shards: setup.layout.shards,
            driver: setup.driver,
            driver_reason: setup.driver_reason.clone(),
            format_version: FORMAT_VERSION,
            memory_bytes: setup.usage.total(),
            memory_limit: setup.usage.limit(),
            health,
        }
    }

    /// What the database has done since it was opened, and what it holds. Costs one request to each shard, which goes past
    /// those that wait.
    ///
    /// ```
    /// # use in_mem::prelude::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let db = Database::open_in_memory().await?;
    /// let run = db.start_run(RunOptions::default()).await?;
    /// let before = db.metrics().await?;
    /// run.kv().put("goal", "fix the bug").await?;
    /// let after = db.metrics().await?;
    /// assert_eq!(after.total.writes, before.total.writes + 1);
    /// # Ok::<(), Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn metrics(&self) -> Op<Metrics> {
        Op::steps(metrics(self.engine.clone()))
    }

    /// What opening the database found on disk.
    #[must_use]
    pub fn last_recovery(&self) -> &RecoveryReport {
        &self.engine.setup().recovery
    }

    /// Begins a run: a new id, active, its name the text of the id. If it cannot be registered, the run's first write
    /// returns that error.
    pub fn begin_run(&self) -> BeginRun {
        let run = RunId::new();
        let options = RunOptions { id: Some(run), ..RunOptions::default() };
        BeginRun { run, engine: self.engine.clone(), registering: run_index::create(self.engine.clone(), options) }
    }

    /// Begins a run with a name, a parent, tags or metadata.
    ///
    /// # Errors
    /// `AlreadyExists` if the id or the name is taken, `InvalidOperation` if the run was deleted.
    ///
    /// # Cancel safety
    /// Begun or not, never half.
    pub fn begin_run_with(&self, options: RunOptions) -> Op<RunId> {
        run_index::create(self.engine.clone(), options).then(|metadata| Ok(metadata.run_id))
    }

    /// Begins a run and gives a handle to it.
    ///
    /// # Errors
    /// Those of [`begin_run_with`](Self::begin_run_with).
    ///
    /// # Cancel safety
    /// Begun or not, never half.
    pub fn start_run(&self, options: RunOptions) -> Op<RunHandle> {
        let database = self.clone();
        self.begin_run_with(options).then(move |run| Ok(database.run(run)))
    }

    /// Ends a run well. It takes no more writes.
    ///
    /// # Errors
    /// `KeyNotFound` if it was never begun, `InvalidStatusTransition` if it has ended.
    ///
    /// # Cancel safety
    /// Ended or not, never half.
    pub fn end_run(&self, run: impl Borrow<RunId>) -> Op<()> {
        self.set_status(run.borrow(), RunStatus::Completed, None)
    }

    /// Ends a run with an error. It takes no more writes.
    ///
    /// # Errors
    /// `KeyNotFound` if it was never begun, `InvalidStatusTransition` if it has ended.
    ///
    /// # Cancel safety
    /// Ended or not, never half.
    pub fn abort_run(&self, run: impl Borrow<RunId>, reason: impl Into<String>) -> Op<()> {
        self.set_status(run.borrow(), RunStatus::Failed, Some(reason.into()))
    }

    fn set_status(&self, run: &RunId, to: RunStatus, error: Option<String>) -> Op<()> {
        run_index::update_status(self.engine.clone(), RunRef::Id(*run), to, error).then(|_| Ok(()))
    }

    /// The status of a run; `None` if it was never begun, or deleted.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn run_status(&self, run: impl Borrow<RunId>) -> Op<Option<RunStatus>> {
        let metadata = run_index::get(self.engine.clone(), RunRef::Id(*run.borrow()));
        metadata.then(|metadata| Ok(metadata.map(|metadata| metadata.status)))
    }

    /// The runs that were active when the last process that had the database open ended, and whose status and metadata
    /// nobody has changed since, oldest first.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn orphaned_runs(&self) -> Op<Vec<RunId>> {
        let opened_at = self.engine.clock().start().as_micros();
        let active = run_index::list(self.engine.clone(), RunFilter::Status(RunStatus::Active));
        active.then(move |runs: Vec<RunMetadata>| {
            let orphaned = runs.into_iter().filter(|run| run.updated_at < opened_at);
            Ok(orphaned.map(|run| run.run_id).collect())
        })
    }

    /// A handle to a run: the same operations without repeating the id.
    pub fn run(&self, run: impl Borrow<RunId>) -> RunHandle {
        RunHandle::new(self, run)
    }

    /// The number of the shard that is a run's home, from 0: where [`spawn_on`](Self::spawn_on) runs, and where the run's
    /// events, traces and metadata are. A transaction within one shard needs no messages between shards.
    #[must_use]
    pub fn shard_of(&self, run: impl Borrow<RunId>) -> usize {
        self.engine.shard_of(run.borrow())
    }

    /// The key-value pairs.
    #[must_use]
    pub fn kv(&self) -> KVStore {
        KVStore::new(self)
    }

    /// The event logs.
    #[must_use]
    pub fn events(&self) -> EventLog {
        EventLog::new(self)
    }

    /// The state cells.
    #[must_use]
    pub fn states(&self) -> StateCell {
        StateCell::new(self)
    }

    /// The traces.
    #[must_use]
    pub fn traces(&self) -> TraceStore {
        TraceStore::new(self)
    }

    /// The JSON documents.
    #[must_use]
    pub fn json(&self) -> JsonStore {
        JsonStore::new(self)
    }

    /// The runs.
    #[must_use]
    pub fn runs(&self) -> RunIndex {
        RunIndex::new(self)
    }

    /// Runs a transaction: everything the closure does commits at once or not at all, as if nobody else were there.
    ///
    /// After a conflict the closure is called again, up to a bound: clone what it moves, change nothing outside of it.
    /// Only operations on the handle it is given belong to the transaction; a write through another handle takes effect
    /// at once, and conflicts with this one if it had read the same. An `Err` rolls everything back and is returned. The closure may be `async |transaction| { .. }` or `|transaction| async move { .. }`.
    ///
    /// # Errors
    /// What the closure returns, `TransactionConflict` when it lost too often, `CommitUnknown`, `Unavailable`.
    ///
    /// # Cancel safety
    /// Committed or not, never half.
    pub fn transaction<'f, T, F, Fut>(&self, run: impl Borrow<RunId>, f: F) -> BoxFuture<'f, Result<T>>
    where
        F: FnMut(Transaction) -> Fut + Send + 'f,
        Fut: Future<Output = Result<T>> + Send + 'f,
        T: Send + 'f,
    {
        self.transaction_with(run, TransactionOptions::default(), f)
    }

    /// Runs a transaction with other than the usual bounds. See [`transaction`](Self::transaction).
    ///
    /// # Errors
    /// Those of [`transaction`](Self::transaction); `Timeout`; `InvalidOperation` for a write in a read-only one.
    ///
    /// # Cancel safety
    /// Committed or not, never half.
    pub fn transaction_with<'f, T, F, Fut>(
        &self,
        run: impl Borrow<RunId>,
        options: TransactionOptions,
        f: F,
    ) -> BoxFuture<'f, Result<T>>
    where
        F: FnMut(Transaction) -> Fut + Send + 'f,
        Fut: Future<Output = Result<T>> + Send + 'f,
        T: Send + 'f,
    {
        super::transaction::run(self.engine.clone(), *run.borrow(), options, f).boxed()
    }

    /// Runs a transaction across runs, wherever they live: it commits everywhere at once or nowhere. See
    /// [`transaction`](Self::transaction); the closure is given a [`MultiTransaction`], whose `run` gives one of the runs.
    ///
    /// # Errors
    /// Those of [`transaction`](Self::transaction); `InvalidOperation` for an operation in another run.
    ///
    /// # Cancel safety
    /// Committed or not, never half.
    pub fn transaction_across<'f, T, F, Fut>(
        &self,
        runs: impl IntoIterator<Item = impl Borrow<RunId>>,
        f: F,
    ) -> BoxFuture<'f, Result<T>>
    where
        F: FnMut(MultiTransaction) -> Fut + Send + 'f,
        Fut: Future<Output = Result<T>> + Send + 'f,
        T: Send + 'f,
    {
        self.transaction_across_with(runs, TransactionOptions::default(), f)
    }

    /// Runs a transaction across runs with other than the usual bounds.
    ///
    /// # Errors
    /// Those of [`transaction_across`](Self::transaction_across) and [`transaction_with`](Self::transaction_with).
    ///
    /// # Cancel safety
    /// Committed or not, never half.
    pub fn transaction_across_with<'f, T, F, Fut>(
        &self,
        runs: impl IntoIterator<Item = impl Borrow<RunId>>,
        options: TransactionOptions,
        f: F,
    ) -> BoxFuture<'f, Result<T>>
    where
        F: FnMut(MultiTransaction) -> Fut + Send + 'f,
        Fut: Future<Output = Result<T>> + Send + 'f,
        T: Send + 'f,
    {
        let runs = runs.into_iter().map(|run| *run.borrow()).collect();
        super::transaction::run_across(self.engine.clone(), runs, options, f).boxed()
    }

    /// A view of a run as it is now: everything read through it shows this moment, whatever is committed meanwhile.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only. Dropping the view releases its snapshot; one that is idle for a minute is given up.
    pub fn snapshot_now(&self, run: impl Borrow<RunId>) -> Op<ReadView> {
        ReadView::open(self.engine.clone(), *run.borrow(), None)
    }

    /// A view of a run as it was at a version, as far as its history is kept.
    ///
    /// # Errors
    /// `InvalidOperation` for a version in the future; reads through the view return it if what was current then is no
    /// longer kept. `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only. Dropping the view releases its snapshot; one that is idle for a minute is given up.
    pub fn snapshot_at(&self, run: impl Borrow<RunId>, version: Version) -> Op<ReadView> {
        ReadView::open(self.engine.clone(), *run.borrow(), Some(version))
    }

    /// Runs a transaction whose closure returns an error type of its own.
    ///
    /// # Errors
    /// What the closure returns; those of [`transaction`](Self::transaction), converted.
    ///
    /// # Cancel safety
    /// Committed or not, never half.
    pub fn try_transaction<'f, T, E, F, Fut>(&self, run: impl Borrow<RunId>, f: F) -> BoxFuture<'f, Result<T, E>>
    where
        F: FnMut(Transaction) -> Fut + Send + 'f,
        Fut: Future<Output = Result<T, E>> + Send + 'f,
        T: Send + 'f,
        E: From<Error> + Send + 'f,
    {
        super::transaction::run(self.engine.clone(), *run.borrow(), TransactionOptions::default(), f).boxed()
    }

    /// Begins a transaction that is committed by hand.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub fn begin_transaction(&self, run: impl Borrow<RunId>) -> Op<OpenTransaction> {
        if let Some(reason) = self.engine.failed() {
            return Op::done(Err(Error::Unavailable(reason)));
        }
        if self.engine.health().is_closed() {
            return Op::done(Err(Error::Unavailable("the database is closed".into())));
        }
        Op::done(Ok(OpenTransaction::begin(&self.engine, *run.borrow())))
    }

    /// Runs a closure's future on the shard that owns a run. There, operations on that run are function calls.
    ///
    /// It must not block: the shard does nothing else meanwhile. Timers and sockets of tokio do not work there; those of
    /// glommio do.
    ///
    /// # Errors
    /// What the future returns, `Other` if it panicked, `Unavailable` if the database closes or its shard fails before it has ended.
    ///
    /// # Cancel safety
    /// The future goes on to its end; its result is lost.
    pub fn spawn_on<T, F, Fut>(&self, run: impl Borrow<RunId>, f: F) -> Op<T>
    where
        F: FnOnce(LocalRun) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + 'static,
        T: Send + 'static,
    {
        spawn_on(self, *run.borrow(), f)
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

/// The beginning of a run; see [`Database::begin_run`].
#[derive(Debug)]
#[must_use = "a run begins when this is awaited"]
pub struct BeginRun {
    run: RunId,
    engine: Arc<Engine>,
    registering: Op<RunMetadata>,
}

impl BeginRun {
    /// The run, without registering it: its first write says why.
    pub(crate) fn refused(self, error: Error) -> RunId {
        self.engine.remember_unregistered(self.run, error);
        self.run
    }
}

impl Future for BeginRun {
    type Output = RunId;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<RunId> {
        if let Err(error) = futures::ready!(Pin::new(&mut self.registering).poll(context)) {
            self.engine.remember_unregistered(self.run, error);
        }
        Poll::Ready(self.run)
    }
}

fn state_of(health: &Health) -> DatabaseHealth {
    if health.is_closed() {
        return DatabaseHealth::Closed;
    }
    if let Some(reason) = health.poisoned() {
        return DatabaseHealth::Poisoned(reason.clone());
    }
    health.shortage().map_or(DatabaseHealth::Healthy, DatabaseHealth::Short)
}
