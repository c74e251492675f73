//! Snapshots while transactions over several shards go on, step by step, as the keeper takes them.

use super::super::checkpoints::install;
use super::super::names::Inode;
use super::world::{What, World};
use crate::base::error::Result;
use crate::disk::directory::Directory;
use crate::disk::snapshotting::{Answered, Snapshotting};
use crate::primitive::output::Reply;

impl World {
    /// Some of the time a snapshot begins.
    pub(super) fn may_begin_snapshot(&mut self) {
        if self.plan.is_none() && self.taking.is_none() && self.rng.below(100_000) < self.swarm.snapshots {
            self.begin_snapshot();
        }
    }

    /// The keeper begins a snapshot, unless one is being taken or the database closes.
    pub(super) fn begin_snapshot(&mut self) {
        let is_under_way = self.requests.values().any(|asked| asked.what == What::Snapshot);
        let is_busy = is_under_way || self.closing.is_under_way();
        let Some(manifest) = self.manifest.as_ref().filter(|_| !is_busy) else { return };
        let rng = &mut self.rng;
        let rotates = rng.chance(500);
        let snapshotting = Snapshotting::new(manifest, manifest.last_snapshot + 1, rotates, || rng.next());
        self.go_on_with(snapshotting);
    }

    fn go_on_with(&mut self, snapshotting: Snapshotting<Inode>) {
        let Some((shard, request)) = snapshotting.next() else { return self.install(snapshotting) };
        self.taking = Some(snapshotting);
        self.ask_as_keeper(shard as usize, What::Snapshot, request);
    }

    /// A shard has answered the keeper, who is taking a snapshot or has given one up.
    pub(super) fn snapshot_answered(&mut self, result: Result<Reply>) {
        let Some(mut snapshotting) = self.taking.take() else { return };
        let answered = result.and_then(|reply| snapshotting.answered(&Directory::new(&self.disk), reply));
        if self.disk.is_dead() {
            return;
        }
        match answered {
            Ok(Answered::WentOn | Answered::Wait) => self.go_on_with(snapshotting),
            Err(error) => {
                self.note(format_args!("no snapshot: {error}"));
                let end = snapshotting.end();
                (0..self.nodes.len()).for_each(|shard| self.ask_as_keeper(shard, What::Snapshot, end.clone()));
            }
        }
    }

    fn install(&mut self, snapshotting: Snapshotting<Inode>) {
        let Some(manifest) = &mut self.manifest else { return };
        if let Some(installed) = install(&self.disk, manifest, snapshotting.finish().record) {
            self.stats.snapshots += u64::from(installed.is_ok());
            self.note(format_args!("snapshot installed: {installed:?}"));
        }
    }
}
