//! The budget: how much memory may be used, and who is refused when it is.
//!
//! - What counts is `store::footprint` of everything that is kept, and the weight of what open transactions have written.
//! - The limit is for all shards together. What the others use comes from outside, a little late: while several write at
//!   the same moment they may go past the limit by what they write then.
//! - An overwrite replaces what its key holds, which goes when no reader needs it. As long as a reader keeps one replaced
//!   revision of a key, every further overwrite of it grows.
//! - What grows is refused, before it is logged; what is derived from a write is not foreseen, so that the last one may
//!   go past the limit too. Deletes are never refused, nor are overwrites that do not grow, reads and recovery.
//! - Nothing is evicted.

use super::machine::Shard;
use crate::base::error::{Error, Result};
use crate::base::json::edit::Edit;
use crate::base::key::Space;
use crate::base::stored::Write;
use crate::base::version::Version;
use crate::primitive::index;

/// What may be used, and what is used elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    limit: Option<u64>,
    elsewhere: u64,
}

impl Shard {
    /// Sets the limit of all shards together, in bytes.
    pub(crate) const fn limit_memory(&mut self, limit: Option<u64>) {
        self.budget.limit = limit;
    }

    /// Says how many bytes the other shards use.
    pub(crate) const fn set_memory_elsewhere(&mut self, bytes: u64) {
        self.budget.elsewhere = bytes;
    }

    /// How many bytes this shard uses.
    pub(crate) fn memory_used(&self) -> u64 {
        (self.memory.footprint().bytes + self.transactions.weight()) as u64
    }

    /// Whether these writes have room.
    pub(super) fn check_growth(&self, writes: &[Write]) -> Result<()> {
        let Some(limit) = self.budget.limit else { return Ok(()) };
        let horizon = self.horizon();
        let growth: usize = writes.iter().map(|write| self.growth(write, horizon)).sum();
        let used = self.memory.footprint().bytes as u64 + self.budget.elsewhere;
        if growth > 0 && used + growth as u64 > limit { Err(Error::OutOfMemory { limit }) } else { Ok(()) }
    }

    fn growth(&self, write: &Write, horizon: Version) -> usize {
        match write {
            Write::Put { run, space, name, stored, .. } => self.memory.growth(run, *space, name, stored, horizon),
            Write::EditJson { edits, .. } if edits.iter().all(Edit::only_removes) => 0,
            Write::EditJson { run, name, edits } => {
                let stored = index::edited(&self.memory, run, name, edits);
                stored.map_or(0, |stored| self.memory.growth(run, Space::Json, name, &stored, horizon))
            }
            Write::Delete { .. } | Write::DeleteRun { .. } => 0,
        }
    }

    /// Whether transactions may keep more of what they write.
    pub(super) fn check_overlays(&self) -> Result<()> {
        match self.budget.limit {
            Some(limit) if self.memory_used() + self.budget.elsewhere >= limit => Err(Error::OutOfMemory { limit }),
            _ => Ok(()),
        }
    }
}
