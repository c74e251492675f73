//! Routes: which shard owns what.
//!
//! - The owner depends on the partition key and the layout alone.
//! - A run's events, traces and metadata are on its home. `ByKey` spreads its key-value pairs, state cells and JSON
//!   documents; what every shard must know of the run then (that it has ended, that it was deleted) is written on every
//!   shard.

use crate::base::key::{Space, key_slot, name_slot, run_slot};
use crate::base::options::Partitioning;
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};

/// How keys are spread over shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shards: usize,
    pub(crate) partitioning: Partitioning,
}

#[expect(clippy::cast_possible_truncation, reason = "a slot is below 4096")]
impl Layout {
    /// Whether all of a run is on one shard, in this layout and in another one that is partitioned so.
    pub(crate) fn keeps_runs_whole(self, before: Partitioning) -> bool {
        [self.partitioning, before].iter().all(|kind| *kind == Partitioning::ByRun)
    }

    /// The home of a run.
    pub(crate) fn shard_of_run(self, run: &RunId) -> usize {
        run_slot(run) as usize % self.shards
    }

    /// The shard that owns a run's name.
    pub(crate) fn shard_of_name(self, name: &str) -> usize {
        name_slot(name) as usize % self.shards
    }

    /// The shard that owns a key.
    pub(crate) fn shard_of_key(self, run: &RunId, space: Space, name: &[u8]) -> usize {
        match space {
            Space::RunName => self.shard_of_name(&String::from_utf8_lossy(name)),
            Space::Kv | Space::State | Space::Json if self.partitioning == Partitioning::ByKey => {
                key_slot(run, space, name) as usize % self.shards
            }
            _ => self.shard_of_run(run),
        }
    }

    /// Whether a shard may own anything of a run.
    pub(crate) fn may_own(self, shard: usize, run: &RunId) -> bool {
        self.partitioning == Partitioning::ByKey || *run == RunId::DIRECTORY || self.shard_of_run(run) == shard
    }

    /// What a shard of this layout takes over of a write that shard `source` of `sources` has logged.
    pub(crate) fn taken_over(self, shard: usize, write: Write, (source, sources): (usize, usize)) -> Option<Write> {
        let by_key = self.partitioning == Partitioning::ByKey;
        match &write {
            // Of those that were logged on every shard, the one of the run's home counts.
            Write::DeleteRun { run } | Write::Put { run, space: Space::RunHistory, .. } => {
                let was_home = run_slot(run) % sources as u64 == source as u64;
                (was_home && (by_key || self.shard_of_run(run) == shard)).then_some(write)
            }
            Write::Put { run, space: Space::Run, name, stored, .. } => {
                let is_home = self.shard_of_run(run) == shard;
                match stored {
                    Stored::Run(_) if is_home => Some(write),
                    Stored::Run(metadata) if by_key && metadata.status.is_ended() => Some(Write::Put {
                        run: *run,
                        space: Space::Run,
                        name: name.clone(),
                        stored: Stored::RunEnded(metadata.status),
                        expires: None,
                    }),
                    // The home knows it from the metadata, and tells the others of this layout.
                    _ => None,
                }
            }
            Write::Put { run, space, name, .. } | Write::Delete { run, space, name } => {
                (self.shard_of_key(run, *space, name) == shard).then_some(write)
            }
            Write::EditJson { run, name, .. } => (self.shard_of_key(run, Space::Json, name) == shard).then_some(write),
        }
    }
}
