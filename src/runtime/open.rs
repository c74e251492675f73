//! Opening: from options to a running engine.
//!
//! - Order: what the machine allows, the directory and its lock, recovery, the threads.
//! - Runs on a thread of its own, so that `open` blocks nobody's executor. All other threads come from it, so that none
//!   of them can be ended by the signal of a file that grows too large.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::checkpoints::Checkpoints;
use super::clock::Clock;
use super::driver::{Chosen, choose};
use super::engine::{Engine, Health, Parts, Setup, next_engine_id};
use super::files::Files;
use super::keeper::{Disk, Keeper, Task};
use super::mailbox::mailbox;
use super::reading::read;
use super::recovery::{Recovered, recover};
use super::shard_thread::ShardThread;
use super::snapshotting::Snapshotter;
use super::usage::Usage;
use super::{spin, sys};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::base::options::{Driver, DurabilityMode, HistoryPolicy, HistoryRetention, Partitioning, SnapshotConfig};
use crate::base::version::Version;
use crate::disk::directory::{Directory, segment_name};
use crate::disk::recovery::{Plan, RecoveryReport};
use crate::format::segment::SegmentId;
use crate::shard::machine::{Shard, ShardConfig};
use crate::shard::route::Layout;
use crate::store::memory::Memory;

/// What a database is opened with.
#[derive(Clone, Debug)]
pub(crate) struct OpenOptions {
    pub(crate) path: Option<PathBuf>,
    pub(crate) mode: DurabilityMode,
    pub(crate) shards: Option<usize>,
    pub(crate) partitioning: Partitioning,
    pub(crate) driver: Driver,
    pub(crate) pin_cores: Option<bool>,
    pub(crate) spin: Option<Duration>,
    pub(crate) history: HistoryRetention,
    pub(crate) history_of_ended_runs: Option<HistoryRetention>,
    /// Whether it is kept what commits read.
    pub(crate) lineage: bool,
    pub(crate) read_only: bool,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) snapshots: SnapshotConfig,
}

/// Opens a database; blocks while it does.
///
/// # Errors
/// See `DatabaseBuilder::open`.
pub(crate) fn open(options: &OpenOptions) -> Result<Engine> {
    let shards = check(options)?;
    let (chosen, driver_reason) = choose(options.driver, shards)?;
    let driver = chosen.driver();
    tracing::info!(?driver, reason = driver_reason, "the driver of the shards is chosen");
    chosen.prepare()?;
    sys::block_file_size_signal();
    let path = options.path.clone().filter(|_| options.mode != DurabilityMode::InMemory);
    let ended = options.history_of_ended_runs.unwrap_or(options.history);
    let history = HistoryPolicy { active: options.history, ended, lineage: options.lineage };
    let layout = Layout { shards, partitioning: options.partitioning };
    let Opened { layout, memories, clock, disk, recovery } = match &path {
        None => {
            let memories = (0..shards).map(|_| Memory::new(history)).collect();
            let recovery = RecoveryReport { created: true, ..Default::default() };
            Opened { layout, memories, clock: Clock::start_after(Version::ZERO), disk: None, recovery }
        }
        Some(path) if options.read_only => {
            let (layout, recovered) = read(path, options.shards.map(|_| layout), history)?;
            Opened::of(layout, recovered, Directory::new(Files::beside(path)), options)
        }
        Some(path) => {
            let directory = Directory::new(Files::open(path)?);
            let plan = Plan { layout, history, read_only: false, beside: false };
            Opened::of(layout, recover(&directory, plan)?, directory, options)
        }
    };
    let used = memories.iter().map(|memory| memory.footprint() as u64);
    let usage = Arc::new(Usage::new(options.memory_limit, used));
    let (mode, read_only) = (options.mode, options.read_only);
    let setup = Setup { path, mode, read_only, layout, driver, driver_reason, recovery, usage };
    start(options, setup, memories, Arc::new(clock), disk, chosen)
}

/// What the engine starts with.
struct Opened {
    layout: Layout,
    memories: Vec<Memory>,
    clock: Clock,
    disk: Option<Disk>,
    recovery: RecoveryReport,
}

impl Opened {
    fn of(layout: Layout, recovered: Recovered, directory: Directory<Files>, options: &OpenOptions) -> Self {
        let Recovered { memories, manifest, clock, report } = recovered;
        let (strict, read_only) = (options.mode == DurabilityMode::Strict, options.read_only);
        let disk = Disk { directory: Arc::new(directory), manifest, strict, read_only };
        Self { layout, memories, clock, disk: Some(disk), recovery: report }
    }
}

fn check(options: &OpenOptions) -> Result<usize> {
    if options.path.is_none() && options.mode != DurabilityMode::InMemory {
        return Err(Error::InvalidOperation("a durable database needs a path, or open it InMemory".into()));
    }
    if options.path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        return Err(Error::InvalidOperation("the path is empty, use \".\" for the current directory".into()));
    }
    let shards = options.shards.unwrap_or_else(default_shards);
    if shards == 0 {
        return Err(Error::InvalidOperation("a database needs at least one shard".into()));
    }
    if shards > limits::SHARDS {
        return Err(Error::limit("shards", limits::SHARDS, shards));
    }
    Ok(shards)
}

/// Half of the cores: the callers need the others. At least one.
fn default_shards() -> usize {
    (spin::cores() / 2).max(1)
}

/// Cores to pin shards to, if there are enough of them for the shards and as many callers.
fn cores_to_pin(asked: Option<bool>, shards: usize) -> Vec<Option<usize>> {
    let cpus = sys::allowed_cpus();
    let enough = cpus.len() >= 4 && cpus.len() >= 2 * shards;
    if !asked.unwrap_or(enough) || cpus.is_empty() {
        return vec![None; shards];
    }
    // From the top: the lowest core usually takes the interrupts.
    cpus.iter().rev().cycle().take(shards).copied().map(Some).collect()
}

fn start(
    options: &OpenOptions,
    setup: Setup,
    memories: Vec<Memory>,
    clock: Arc<Clock>,
    disk: Option<Disk>,
    chosen: Chosen,
) -> Result<Engine> {
    let id = next_engine_id();
    let health = Arc::new(Health::default());
    let (keeper, tasks) = std::sync::mpsc::channel::<Task>();
    let incarnation = disk.as_ref().map_or(0, |disk| disk.manifest.incarnation);
    let shards = setup.layout.shards;
    let cores = cores_to_pin(options.pin_cores, shards);
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..shards).map(|_| mailbox()).unzip();
    let shard_threads = memories.into_iter().zip(inboxes).enumerate().map(|(number, (memory, inbox))| {
        let shard = u32::try_from(number).unwrap_or(u32::MAX);
        let shards = u32::try_from(shards).unwrap_or(u32::MAX);
        let config = ShardConfig { incarnation, shard, shards, mode: setup.mode, read_only: options.read_only };
        let path = setup.path.clone().unwrap_or_default();
        let mut new_shard = Shard::new(config, memory, clock.start());
        new_shard.limit_memory(setup.usage.limit());
        ShardThread {
            engine: id,
            number,
            shard: new_shard,
            usage: setup.usage.clone(),
            inbox,
            peers: mailboxes.clone(),
            clock: clock.clone(),
            health: health.clone(),
            keeper: keeper.clone(),
            spin: options.spin,
            core: cores[number],
            log_path: Box::new(move |index| path.join(segment_name(SegmentId { incarnation, shard, index }))),
        }
    });
    let (threads, failure) = start_all(shard_threads, chosen);
    let snapshotter = Snapshotter::new(mailboxes.clone(), health.clone());
    let keeper_state = Keeper {
        tasks,
        own_tasks: keeper.clone(),
        mailboxes: mailboxes.clone(),
        threads,
        clock: clock.clone(),
        health: health.clone(),
        checkpoints: Checkpoints::new(options.snapshots, snapshotter.clone(), disk.as_ref()),
        disk,
    };
    let keeper_thread = std::thread::Builder::new().name("in-mem-keeper".into()).spawn(move || keeper_state.run())?;
    let engine = Engine::new(Parts {
        id,
        setup,
        mailboxes,
        clock,
        health,
        spin: options.spin,
        snapshotter,
        keeper,
        keeper_thread,
    });
    match failure {
        // Dropping the engine stops the shards that did start.
        Some(error) => Err(error),
        None => Ok(engine),
    }
}

/// Starts the shards' threads, and waits until each has begun. Returns those that were started, and why another was not.
fn start_all(all: impl Iterator<Item = ShardThread>, chosen: Chosen) -> (Vec<JoinHandle<()>>, Option<Error>) {
    let (mut threads, mut starting, mut failure) = (Vec::new(), Vec::new(), None);
    for thread in all {
        match thread.start(move |thread, started| chosen.run(thread, started)) {
            Ok((thread, started)) => {
                threads.push(thread);
                starting.push(started);
            }
            Err(error) => failure = Some(error),
        }
    }
    for started in starting {
        match futures::executor::block_on(started) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failure = Some(error),
            Err(_) => failure = Some(Error::RuntimeUnavailable("a shard's thread ended before it began".into())),
        }
    }
    (threads, failure)
}
