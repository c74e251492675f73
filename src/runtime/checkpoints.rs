//! Checkpoints: when snapshots are taken; each counts as soon as it is whole.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::channel::oneshot;

use super::keeper::{Disk, Task};
use super::metrics::DiskMetrics;
use super::snapshotting::{Occasion, Snapshotter};
use crate::base::error::{Error, Result};
use crate::base::options::SnapshotConfig;
use crate::base::version::Version;
use crate::disk::opening::{install_snapshot, remove_snapshot};
use crate::disk::snapshotting::Taken;
use crate::format::manifest::{Manifest, SnapshotRecord};

/// How long after a failure the next snapshot is taken unless somebody asks for it.
const RETRY: Duration = Duration::from_secs(10);

/// A snapshot of the whole database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Names it: 1, 2, 3 ... in the order taken.
    pub id: u64,
    /// Everything that was committed at or below this version is in it, and nothing else.
    pub version: Version,
    /// How many keys it holds, those of indexes included.
    pub keys: u64,
    /// How many bytes its files take.
    pub bytes: u64,
}

impl From<&SnapshotRecord> for SnapshotInfo {
    fn from(record: &SnapshotRecord) -> Self {
        Self { id: record.number, version: record.version, keys: record.keys, bytes: record.bytes }
    }
}

/// Who waits for a snapshot.
type Asker = oneshot::Sender<Result<SnapshotInfo>>;

/// A snapshot that is being taken.
struct Running {
    thread: JoinHandle<()>,
    askers: Vec<Asker>,
    /// What had been logged when it began.
    logged: u64,
    began: Instant,
}

/// When the next snapshot is due, and the one that is being taken.
pub(crate) struct Checkpoints {
    config: SnapshotConfig,
    snapshotter: Snapshotter,
    /// About how many bytes of log there are behind the newest snapshot.
    logged: u64,
    /// How many records this opening had logged when the newest snapshot began.
    records: u64,
    running: Option<Running>,
    /// They asked after the one that is being taken began.
    askers: Vec<Asker>,
    not_before: Option<Instant>,
    next: Option<Instant>,
    taken: u64,
    failed: u64,
    last_took: Option<Duration>,
    is_closing: bool,
}

impl Checkpoints {
    pub(crate) fn new(config: SnapshotConfig, snapshotter: Snapshotter, disk: Option<&Disk>) -> Self {
        let next = config.interval.and_then(|interval| Instant::now().checked_add(interval));
        let logged = disk.map_or(0, |disk| disk.manifest.log_bytes());
        Self {
            config,
            snapshotter,
            logged,
            records: 0,
            running: None,
            askers: Vec::new(),
            not_before: None,
            next,
            taken: 0,
            failed: 0,
            last_took: None,
            is_closing: false,
        }
    }

    /// Somebody wants a snapshot of everything that is committed now.
    pub(crate) fn ask(&mut self, disk: Option<&Disk>, tasks: &Sender<Task>, asker: Asker) {
        let refused = match disk {
            None => Some("the database has no directory for a snapshot"),
            Some(disk) if disk.read_only => Some("the database is open read-only"),
            Some(_) => None,
        };
        if let Some(refused) = refused {
            let _ = asker.send(Err(Error::InvalidOperation(refused.into())));
            return;
        }
        if self.is_closing {
            let _ = asker.send(Err(closed()));
            return;
        }
        self.askers.push(asker);
        if let Some(disk) = disk.filter(|_| self.running.is_none()) {
            self.begin(disk, tasks, Occasion::Asked);
        }
    }

    /// A segment was made: the log grows by so many bytes.
    pub(crate) fn grown(&mut self, bytes: u64) {
        self.logged += bytes;
    }

    /// When to look again whether one is due.
    pub(crate) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Begins a snapshot if one is due.
    pub(crate) fn begin_if_due(&mut self, disk: &Disk, tasks: &Sender<Task>) {
        let now = Instant::now();
        let is_time = self.next.is_some_and(|next| next <= now);
        if is_time {
            self.next = self.config.interval.and_then(|interval| now.checked_add(interval));
        }
        if disk.read_only || self.is_closing || self.running.is_some() || self.not_before.is_some_and(|at| now < at) {
            return;
        }
        let live = disk.manifest.snapshots.last().map_or(0, |newest| newest.bytes);
        let is_long = self.config.log_bytes.is_some_and(|bytes| self.logged >= bytes.max(live / 2));
        if is_long || is_time {
            let why = if is_long { Occasion::Size } else { Occasion::Time { records: self.records } };
            self.begin(disk, tasks, why);
        }
    }

    /// Nobody gets one any more; the one that is being taken is given up unless the database is to have a last one.
    pub(crate) fn close(&mut self) {
        self.is_closing = true;
        answer(std::mem::take(&mut self.askers), Err(closed()));
        if !self.config.on_close {
            self.snapshotter.cancel();
        }
    }

    /// Takes the last one, if the database is to have one and anything was written.
    pub(crate) fn take_last(&mut self, disk: &Disk, tasks: &Sender<Task>) {
        if self.config.on_close && !disk.read_only {
            self.begin(disk, tasks, Occasion::Time { records: self.records });
        }
    }

    /// Whether one is being taken.
    pub(crate) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn begin(&mut self, disk: &Disk, tasks: &Sender<Task>, why: Occasion) {
        let (snapshotter, directory) = (self.snapshotter.clone(), disk.directory.clone());
        let (manifest, tasks) = (disk.manifest.clone(), tasks.clone());
        let take = move || {
            let _span = tracing::info_span!("snapshot", id = manifest.last_snapshot + 1).entered();
            let take = || snapshotter.take(&directory, &manifest, manifest.last_snapshot + 1, why);
            let result = std::panic::catch_unwind(AssertUnwindSafe(take));
            let panicked = |_| Err(Error::Unavailable("the thread that takes a snapshot panicked".into()));
            let result = result.unwrap_or_else(panicked);
            let _ = tasks.send(Task::Snapshotted { result });
        };
        let askers = std::mem::take(&mut self.askers);
        match std::thread::Builder::new().name("in-mem-snapshot".into()).spawn(take) {
            Ok(thread) => self.running = Some(Running { thread, askers, logged: self.logged, began: Instant::now() }),
            Err(error) => answer(askers, Err(error.into())),
        }
    }

    /// The one that was being taken has ended.
    pub(crate) fn ended(&mut self, disk: &mut Disk, tasks: &Sender<Task>, result: Result<Option<Taken>>) {
        let Some(running) = self.running.take() else { return };
        let _ = running.thread.join();
        let result = result.and_then(|taken| taken.map(|taken| self.install(disk, taken)).transpose());
        clean_up(disk.directory.remove_unnamed_snapshots(&disk.manifest));
        clean_up(disk.directory.remove_obsolete(&disk.manifest));
        match result.transpose() {
            // Nothing was written since the last one, and nobody but the clock wanted one.
            None => {}
            Some(Ok(info)) => {
                self.logged -= running.logged;
                self.not_before = None;
                let took = running.began.elapsed();
                (self.taken, self.last_took) = (self.taken + 1, Some(took));
                let (id, keys, bytes) = (info.id, info.keys, info.bytes);
                tracing::info!(id, version = %info.version, keys, bytes, ?took, "a snapshot was taken");
                answer(running.askers, Ok(info));
            }
            Some(Err(error)) => {
                self.not_before = Some(Instant::now() + RETRY);
                self.failed += 1;
                tracing::warn!(%error, "no snapshot could be taken, the log grows");
                answer(running.askers, Err(error));
            }
        }
        if !self.askers.is_empty() {
            self.begin(disk, tasks, Occasion::Asked);
        }
    }

    /// What is on disk, and what came of the snapshots so far.
    pub(crate) fn metrics(&self, disk: Option<&Disk>) -> DiskMetrics {
        let manifest = disk.map(|disk| &disk.manifest);
        DiskMetrics {
            segments: manifest.map_or(0, Manifest::count_segments),
            snapshots: manifest.map_or(0, |manifest| manifest.snapshots.len() as u64),
            last_snapshot: manifest.and_then(|manifest| manifest.snapshots.last()).map(SnapshotInfo::from),
            snapshots_taken: self.taken,
            snapshots_failed: self.failed,
            last_snapshot_took: self.last_took,
        }
    }

    fn install(&mut self, disk: &mut Disk, taken: Taken) -> Result<SnapshotInfo> {
        let info = SnapshotInfo::from(&taken.record);
        install_snapshot(&disk.directory, &mut disk.manifest, taken.record)?;
        self.records = taken.records;
        Ok(info)
    }
}

/// Removes a snapshot that somebody names.
///
/// # Errors
/// `InvalidOperation` if there is none, or if nothing else can be recovered from; `Io`.
pub(crate) fn delete(disk: Option<&mut Disk>, id: u64) -> Result<()> {
    let Some(disk) = disk.filter(|disk| !disk.read_only) else {
        return Err(Error::InvalidOperation("nothing can be deleted here: in memory only, or open read-only".into()));
    };
    remove_snapshot(&disk.directory, &mut disk.manifest, id)?;
    clean_up(disk.directory.remove_obsolete(&disk.manifest));
    Ok(())
}

/// What is not removed now is when the database is opened again.
fn clean_up(removed: Result<()>) {
    if let Err(error) = removed {
        tracing::warn!(%error, "what is not needed any more cannot be removed");
    }
}

fn closed() -> Error {
    Error::Unavailable("the database is closed".into())
}

fn answer(askers: Vec<Asker>, result: Result<SnapshotInfo>) {
    let same = result.as_ref().map(Clone::clone).map_err(ToString::to_string);
    let mut askers = askers.into_iter();
    if let Some(first) = askers.next() {
        let _ = first.send(result);
    }
    for other in askers {
        let _ = other.send(same.clone().map_err(Error::Unavailable));
    }
}
