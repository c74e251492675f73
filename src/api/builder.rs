//! The builder: what a database is opened with.

use std::future::IntoFuture;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;

use super::database::Database;
use super::op::Op;
use crate::base::error::{Error, Result};
use crate::base::options::{Driver, DurabilityMode, HistoryRetention, Partitioning, SnapshotConfig};
use crate::runtime::open::{OpenOptions, open};
use crate::runtime::spin;

/// Collects what a database is opened with; see [`Database::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct DatabaseBuilder {
    options: OpenOptions,
    durability: Option<DurabilityMode>,
}

impl DatabaseBuilder {
    pub(crate) const fn new() -> Self {
        let options = OpenOptions {
            path: None,
            mode: DurabilityMode::Strict,
            shards: None,
            partitioning: Partitioning::ByRun,
            driver: Driver::Auto,
            pin_cores: None,
            spin: Some(spin::WINDOW),
            history: HistoryRetention::Forever,
            history_of_ended_runs: None,
            lineage: false,
            read_only: false,
            memory_limit: None,
            snapshots: SnapshotConfig { log_bytes: Some(32 << 20), interval: None, on_close: false },
        };
        Self { options, durability: None }
    }

    /// The directory; made if it is not there. Without one the database is `InMemory`.
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.options.path = Some(PathBuf::from(path.as_ref()));
        self
    }

    /// When a commit is acknowledged. Default: `Strict` with a path, `InMemory` without.
    pub const fn durability(mut self, mode: DurabilityMode) -> Self {
        self.durability = Some(mode);
        self
    }

    /// How many shards, 1 to 1024. Default: half of the cores, at least one. A database can be opened with another
    /// number each time.
    pub const fn shards(mut self, shards: usize) -> Self {
        self.options.shards = Some(shards);
        self
    }

    /// How keys are spread over the shards. Default: by run.
    pub const fn partitioning(mut self, partitioning: Partitioning) -> Self {
        self.options.partitioning = partitioning;
        self
    }

    /// What runs the shards. Default: `io_uring` where this machine allows it, plain threads elsewhere.
    pub const fn driver(mut self, driver: Driver) -> Self {
        self.options.driver = driver;
        self
    }

    /// Whether each shard stays on a core of its own. Default: where there are at least four cores and twice as many
    /// as shards.
    pub const fn pin_cores(mut self, pin: bool) -> Self {
        self.options.pin_cores = Some(pin);
        self
    }

    /// How long a caller and a shard look for each other before they sleep; `None` never spins. Default: 40 µs where
    /// there is more than one core, and only while no more threads are at work than there are cores.
    pub const fn spin(mut self, window: Option<Duration>) -> Self {
        self.options.spin = window;
        self
    }

    /// How much of the past of a run is kept, if [it does not say so itself](crate::RunOptions::history): the old versions
    /// of its key-value pairs, state cells, JSON documents, and metadata. Default: all.
    pub const fn history(mut self, history: HistoryRetention) -> Self {
        self.options.history = history;
        self
    }

    /// The same for runs that have ended: from its end on, less may be kept of a run. Default: as for all.
    pub const fn history_of_ended_runs(mut self, history: HistoryRetention) -> Self {
        self.options.history_of_ended_runs = Some(history);
        self
    }

    /// Whether it is kept of every commit what it read, so that [`explain`](Database::explain) can say what a value was based
    /// on; of runs all of whose [history](Self::history) is kept. Default: no.
    ///
    /// It takes memory and room in the log: about 15 bytes and the key for each read, on top of that about 64 in memory. A
    /// database that is opened without it forgets what was kept.
    pub const fn lineage(mut self, lineage: bool) -> Self {
        self.options.lineage = lineage;
        self
    }

    /// Whether every write is refused, and nothing in the directory is changed. Nothing is locked either, once the database is
    /// open: another process may open it to write, or may be writing already.
    ///
    /// Beside a process that writes, what is shown is how its files were a moment before it was opened: a transaction is there
    /// whole or not at all, and never without what it depends on. It stays so: open it again to see more. What that process
    /// holds in memory only is not there: all of an `InMemory` database, of a `Buffered` one what it has not flushed. The layout
    /// is the database's own, unless a number of [shards](Self::shards) is given.
    pub const fn read_only(mut self, read_only: bool) -> Self {
        self.options.read_only = read_only;
        self
    }

    /// About how many bytes of memory everything that is kept may take, old versions and what open transactions have
    /// written included, on all shards together. Default: no limit.
    ///
    /// A write that grows beyond it is refused with [`Error::OutOfMemory`] and leaves no trace; reads, deletes and
    /// overwrites that do not grow go on. Nothing is evicted. A database that is larger already opens all the same. While
    /// history keeps old versions, deletes and overwrites free nothing: give a [history](Self::history) that forgets, or
    /// delete runs.
    pub const fn memory_limit(mut self, bytes: u64) -> Self {
        self.options.memory_limit = Some(bytes);
        self
    }

    /// When snapshots are taken. Default: when the log has grown by 32 MiB, and by half of the last snapshot.
    pub const fn snapshots(mut self, config: SnapshotConfig) -> Self {
        self.options.snapshots = config;
        self
    }

    /// Opens the database.
    ///
    /// # Errors
    /// `Locked` if it is open elsewhere, unless both or this one only read; `Corruption` with file and offset, `Io`, `RuntimeUnavailable` if
    /// [the driver](Self::driver) cannot run here, `InvalidOperation` for options that make no sense.
    ///
    /// # Cancel safety
    /// A database that was being opened is closed again.
    pub fn open(mut self) -> Op<Database> {
        let default = if self.options.path.is_some() { DurabilityMode::Strict } else { DurabilityMode::InMemory };
        self.options.mode = self.durability.unwrap_or(default);
        Op::steps(open_on_thread(self.options))
    }
}

impl IntoFuture for DatabaseBuilder {
    type Output = Result<Database>;
    type IntoFuture = Op<Database>;

    fn into_future(self) -> Self::IntoFuture {
        self.open()
    }
}

async fn open_on_thread(options: OpenOptions) -> Result<Database> {
    let engine = on_thread("in-mem-open", move || open(&options)).await?;
    Ok(Database::new(Arc::new(engine)))
}

/// Work that reads files and may take long runs on a thread of its own, so that nobody's executor is blocked.
pub(crate) async fn on_thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    let work = move || {
        let _ = sender.send(work());
    };
    std::thread::Builder::new().name(name.into()).spawn(work)?;
    receiver.await.map_err(|_| Error::Unavailable(format!("a thread panicked: name={name}")))?
}
