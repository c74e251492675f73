//! Routes: which shard owns what.
//!
//! - The owner depends on the partition key and the number of shards alone.

use crate::base::key::{Space, name_slot, run_slot};
use crate::base::run_id::RunId;
use crate::base::stored::Write;

/// The shard that owns a run.
#[expect(clippy::cast_possible_truncation, reason = "a slot is below 4096")]
pub(crate) fn shard_of_run(run: &RunId, shards: usize) -> usize {
    run_slot(run) as usize % shards
}

/// The shard that owns a run's name.
#[expect(clippy::cast_possible_truncation, reason = "a slot is below 4096")]
pub(crate) fn shard_of_name(name: &str, shards: usize) -> usize {
    name_slot(name) as usize % shards
}

/// The shard that owns what a write changes.
pub(crate) fn shard_of_write(write: &Write, shards: usize) -> usize {
    match write {
        Write::Put { space: Space::RunName, name, .. } | Write::Delete { space: Space::RunName, name, .. } => {
            shard_of_name(&String::from_utf8_lossy(name), shards)
        }
        write => shard_of_run(&write.run(), shards),
    }
}
