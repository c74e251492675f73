//! The keeper: one thread per database for what is slow and rare.
//!
//! - It makes segments ahead of need and extends the clock's reservation.
//! - It ends the database: flush, stop and join the shards, write the last manifest, give the directory back.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::channel::oneshot;

use super::checkpoints::{Checkpoints, SnapshotInfo, delete};
use super::clock::{Clock, RESERVATION};
use super::engine::Health;
use super::files::Files;
use super::mailbox::{Mailbox, Message};
use super::metrics::DiskMetrics;
use super::reply::{Gone, reply_slot};
use crate::base::error::{Error, Result};
use crate::base::kill_point::{KillPoint, hastened, kill_point};
use crate::disk::directory::Directory;
use crate::disk::opening::{add_segment, seal};
use crate::disk::snapshotting::Taken;
use crate::format::manifest::Manifest;
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::shard::input::Request;

/// When the reservation is tried again that could not be extended.
const RETRY: Duration = Duration::from_secs(1);

/// What the keeper is asked.
#[derive(Debug)]
pub(crate) enum Task {
    /// Make a segment and tell the shard.
    PrepareSegment { shard: u32, index: u32, capacity: u64 },
    /// Take a snapshot.
    Checkpoint { done: oneshot::Sender<Result<SnapshotInfo>> },
    /// A snapshot was taken, or could not be.
    Snapshotted { result: Result<Option<Taken>> },
    /// Say which snapshots there are, the oldest first.
    ListSnapshots { done: oneshot::Sender<Result<Vec<SnapshotInfo>>> },
    /// Say what the manifest names.
    CopyManifest { done: oneshot::Sender<Result<Option<Manifest>>> },
    /// Say what is on disk.
    AskMetrics { done: oneshot::Sender<Result<DiskMetrics>> },
    /// Delete a snapshot.
    DeleteSnapshot { id: u64, done: oneshot::Sender<Result<()>> },
    /// End the database.
    Close { done: oneshot::Sender<Result<()>> },
}

/// What is on disk, if anything is.
pub(crate) struct Disk {
    pub(crate) directory: Arc<Directory<Files>>,
    pub(crate) manifest: Manifest,
    pub(crate) strict: bool,
    pub(crate) read_only: bool,
}

/// What the keeper looks after.
pub(crate) struct Keeper {
    pub(crate) mailboxes: Vec<Mailbox>,
    pub(crate) threads: Vec<JoinHandle<()>>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) health: Arc<Health>,
    pub(crate) disk: Option<Disk>,
    pub(crate) checkpoints: Checkpoints,
    /// For those who work for the keeper.
    pub(crate) own_tasks: Sender<Task>,
    /// Last, so that it is closed when the directory has been given back. A channel that drops what is in it with its
    /// receiver (flume's does not): whoever asks too late must hear of it.
    pub(crate) tasks: Receiver<Task>,
}

impl Keeper {
    /// The thread's body.
    pub(crate) fn run(mut self) {
        let interval = hastened(RESERVATION / 2);
        let mut extend_at = Instant::now() + interval;
        loop {
            let task = if self.disk.as_ref().is_some_and(|disk| !disk.read_only) {
                let next = self.checkpoints.next().map_or(extend_at, |next| next.min(extend_at));
                self.tasks.recv_timeout(next.saturating_duration_since(Instant::now()))
            } else {
                self.tasks.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match task {
                Ok(Task::Close { done }) => {
                    let result = self.close();
                    if let Err(error) = &result {
                        tracing::error!(%error, "the database did not close in good order");
                    }
                    let _ = done.send(result);
                    return;
                }
                Ok(task) => {
                    self.serve(task);
                    self.begin_snapshot_if_due();
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < extend_at => self.begin_snapshot_if_due(),
                Err(RecvTimeoutError::Timeout) => {
                    let wait = if self.extend_reservation() { interval } else { RETRY };
                    extend_at = Instant::now() + wait;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let _ = self.close();
                    return;
                }
            }
        }
    }

    fn serve(&mut self, task: Task) {
        match task {
            Task::PrepareSegment { shard, index, capacity } => self.prepare(shard, index, capacity),
            Task::Checkpoint { done } => self.checkpoints.ask(self.disk.as_ref(), &self.own_tasks, done),
            Task::Snapshotted { result } => {
                if let Some(disk) = &mut self.disk {
                    self.checkpoints.ended(disk, &self.own_tasks, result);
                }
            }
            Task::ListSnapshots { done } => {
                let snapshots = self.disk.iter().flat_map(|disk| &disk.manifest.snapshots);
                let _ = done.send(Ok(snapshots.map(SnapshotInfo::from).collect()));
            }
            Task::CopyManifest { done } => {
                let _ = done.send(Ok(self.disk.as_ref().map(|disk| disk.manifest.clone())));
            }
            Task::AskMetrics { done } => {
                let _ = done.send(Ok(self.checkpoints.metrics(self.disk.as_ref())));
            }
            Task::DeleteSnapshot { id, done } => {
                let _ = done.send(delete(self.disk.as_mut(), id));
            }
            // It has been told, and goes on.
            Task::Close { .. } => {}
        }
    }

    fn begin_snapshot_if_due(&mut self) {
        if let Some(disk) = &self.disk {
            self.checkpoints.begin_if_due(disk, &self.own_tasks);
        }
    }

    fn prepare(&mut self, shard: u32, index: u32, capacity: u64) {
        let message = match self.create_segment(shard, index, capacity) {
            Ok(salt) => {
                self.checkpoints.grown(capacity);
                Message::SegmentReady { index, capacity, salt }
            }
            Err(error) => Message::SegmentFailed { index, reason: error.into() },
        };
        if let Some(mailbox) = self.mailboxes.get(shard as usize) {
            mailbox.send_urgent(message);
        }
    }

    fn create_segment(&mut self, shard: u32, index: u32, capacity: u64) -> Result<u64> {
        let Some(disk) = &mut self.disk else {
            return Err(Error::InvalidOperation("the database has no directory".into()));
        };
        let salt = uuid::Uuid::new_v4().as_u64_pair().1;
        let id = SegmentId { incarnation: disk.manifest.incarnation, shard, index };
        let header = SegmentHeader { id, database: disk.manifest.database, salt, capacity, strict: disk.strict };
        add_segment(&disk.directory, &mut disk.manifest, &header)?;
        Ok(salt)
    }

    /// Whether that worked. If not, time goes on up to the old reservation, and a second later this is tried again.
    fn extend_reservation(&mut self) -> bool {
        let Some(disk) = &mut self.disk else { return true };
        kill_point(KillPoint::ReservationDue);
        let reserved = self.clock.last().after(RESERVATION);
        match disk.directory.change_manifest(&mut disk.manifest, |next| next.clock_reserved = reserved) {
            Ok(()) => {
                kill_point(KillPoint::ReservationSaved);
                self.clock.reserve(reserved);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the clock's reservation cannot be extended");
                false
            }
        }
    }

    /// First every shard ends what is under way, then everything is made durable, then all stop: a transaction over
    /// several shards needs all of them to its end.
    fn close(&mut self) -> Result<()> {
        self.checkpoints.close();
        self.wait_for_snapshot();
        if let Some(disk) = &self.disk {
            self.checkpoints.take_last(disk, &self.own_tasks);
        }
        self.wait_for_snapshot();
        let mut first_error = self.health.failed().map(Error::Unavailable);
        let everybody = 0..self.mailboxes.len();
        self.health.close();
        kill_point(KillPoint::ClosingBegun);
        for (request, shards) in [(Request::Close, everybody.clone()), (Request::Flush, everybody.clone())] {
            if let Err(error) = self.ask(&request, shards) {
                first_error.get_or_insert(error);
            }
        }
        kill_point(KillPoint::ClosingFlushed);
        if let Err(error) = self.ask(&Request::Stop, everybody) {
            first_error.get_or_insert(error);
        }
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            self.serve_while_closing();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                first_error.get_or_insert(Error::Unavailable("a shard's thread panicked".into()));
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        self.seal()
    }

    fn wait_for_snapshot(&mut self) {
        while self.checkpoints.is_running() {
            self.serve_while_closing();
        }
    }

    /// Asks shards, and waits until all have answered or one has failed.
    fn ask(&mut self, request: &Request, shards: std::ops::Range<usize>) -> Result<()> {
        let mut asked = Vec::new();
        for mailbox in &self.mailboxes[shards] {
            let (reply, receiver) = reply_slot();
            if mailbox.send_urgent(Message::Request { request: request.clone(), reply }) {
                asked.push(receiver);
            }
        }
        let health = self.health.clone();
        let gone = || Error::Unavailable(health.failed().unwrap_or_else(|| "a shard stopped early".into()));
        let mut result = Ok(());
        for receiver in asked {
            loop {
                match receiver.try_recv() {
                    Ok(Some(answer)) => {
                        result = result.and(answer.map(drop));
                        break;
                    }
                    Ok(None) if self.health.failed().is_none() => self.serve_while_closing(),
                    // Whoever waits for a shard that has failed waits for ever.
                    Ok(None) | Err(Gone) => return result.and(Err(gone())),
                }
            }
        }
        result
    }

    /// A shard that waits for a segment needs this thread once more, and so does a snapshot that is being taken.
    fn serve_while_closing(&mut self) {
        if let Ok(task) = self.tasks.recv_timeout(Duration::from_millis(1)) {
            self.serve(task);
        }
    }

    /// Writes into the manifest how far every segment counts, and gives back the room that was not used.
    fn seal(&mut self) -> Result<()> {
        let Some(disk) = self.disk.take() else { return Ok(()) };
        if disk.read_only {
            return Ok(());
        }
        seal(&disk.directory, &disk.manifest, self.clock.last())
    }
}
