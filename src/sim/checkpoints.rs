//! Snapshots: the keeper takes one at some moment, and one step after the other everything else goes on.

use std::collections::BTreeSet;

use super::disk::Disk;
use super::names::Inode;
use super::world::{Event, World};
use crate::base::error::Result;
use crate::base::options::DurabilityMode;
use crate::disk::directory::Directory;
use crate::disk::opening;
use crate::disk::snapshotting::{Answered, Snapshotting};
use crate::format::manifest::{Manifest, SnapshotRecord};
use crate::primitive::output::Reply;
use crate::shard::input::{Input, Request, RequestId};

/// A snapshot that is being taken.
#[derive(Default)]
pub(super) struct Taking {
    snapshotting: Option<Snapshotting<Inode>>,
    /// What its next step waits for.
    waits_for: Option<RequestId>,
    /// What was asked for this one or one that was given up, and not answered.
    asked: BTreeSet<RequestId>,
}

impl World {
    /// Whether a request is not for the oracle.
    pub(super) fn is_of_snapshot(&self, id: RequestId) -> bool {
        self.taking.asked.contains(&id)
    }

    /// The keeper begins a snapshot, unless one is being taken.
    pub(super) fn begin_snapshot(&mut self) {
        let Some(manifest) = self.manifest.as_ref().filter(|_| self.taking.snapshotting.is_none()) else { return };
        let rng = &mut self.rng;
        let rotates = rng.chance(500);
        self.taking.snapshotting =
            Some(Snapshotting::new(manifest, manifest.last_snapshot + 1, rotates, || rng.next()));
        self.ask_for_snapshot();
    }

    fn ask_for_snapshot(&mut self) {
        let Some(snapshotting) = &self.taking.snapshotting else { return };
        match snapshotting.next() {
            Some((shard, request)) => {
                self.ask_of_snapshot(shard as usize, request);
                self.taking.waits_for = Some(self.requests);
            }
            None => self.install_snapshot(),
        }
    }

    fn ask_of_snapshot(&mut self, shard: usize, request: Request) {
        if self.nodes[shard].is_stopped {
            return;
        }
        self.requests += 1;
        self.taking.asked.insert(self.requests);
        self.tell(shard, Input::Request { id: self.requests, request });
    }

    /// A shard has answered what it was asked for a snapshot.
    pub(super) fn snapshot_answered(&mut self, shard: usize, id: RequestId, result: Result<Reply>) {
        self.taking.asked.remove(&id);
        if self.taking.waits_for.take_if(|waits_for| *waits_for == id).is_none() {
            return;
        }
        let Some(mut snapshotting) = self.taking.snapshotting.take() else { return };
        if let Some(at) = result.as_ref().ok().and_then(|reply| reply.snapshot) {
            // Whoever takes it reads there.
            self.oracle.ledgers[shard].serve(at);
        }
        let answered = result.and_then(|reply| snapshotting.answered(&Directory::new(&self.disk), reply));
        if self.disk.is_dead() {
            return;
        }
        match answered {
            Ok(answered) => {
                self.taking.snapshotting = Some(snapshotting);
                let pause = if answered == Answered::Wait { 1_000_000 } else { 10_000 };
                let after = self.rng.below(pause);
                self.schedule(self.now + after, Event::Snapshot);
            }
            Err(error) => {
                self.trace.note(self.now, format_args!("no snapshot: {error}"));
                let end = snapshotting.end();
                (0..self.nodes.len()).for_each(|shard| self.ask_of_snapshot(shard, end.clone()));
            }
        }
    }

    /// The next step of the snapshot.
    pub(super) fn go_on_with_snapshot(&mut self) {
        if self.taking.waits_for.is_none() {
            self.ask_for_snapshot();
        }
    }

    fn install_snapshot(&mut self) {
        let (Some(snapshotting), Some(manifest)) = (self.taking.snapshotting.take(), &mut self.manifest) else {
            return;
        };
        let record = snapshotting.finish().record;
        let version = record.version;
        if let Some(installed) = install(&self.disk, manifest, record) {
            self.trace.note(self.now, format_args!("snapshot {version}, {installed:?}"));
            self.stats.snapshots += u64::from(installed.is_ok());
        }
    }

    /// Some of the time a snapshot begins.
    pub(super) fn may_begin_snapshot(&mut self) {
        let is_on_disk = self.swarm.mode != DurabilityMode::InMemory;
        if is_on_disk && self.taking.snapshotting.is_none() && self.rng.below(100_000) < self.swarm.snapshots {
            self.begin_snapshot();
        }
    }
}

/// Makes a snapshot what recovery starts from, and removes what it replaces; `None` if the process dies meanwhile.
pub(super) fn install(disk: &Disk, manifest: &mut Manifest, record: SnapshotRecord) -> Option<Result<()>> {
    let directory = Directory::new(disk);
    let installed = opening::install_snapshot(&directory, manifest, record);
    let removed = if disk.is_dead() { Ok(()) } else { directory.remove_obsolete(manifest) };
    if disk.is_dead() {
        return None;
    }
    for error in installed.as_ref().err().into_iter().chain(removed.as_ref().err()) {
        assert!(disk.was_reached(), "a snapshot fails for a reason: {error}");
    }
    Some(installed)
}
