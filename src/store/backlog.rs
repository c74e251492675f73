//! Backlog: revisions on their way into a memory that nobody reads yet, sorted before they get there.
//!
//! - Each of the names that come in no order would be looked up in nodes that are in no cache. In order, neighbours share
//!   theirs.
//! - Only the order of the revisions of one key matters to memory, and that is kept. What is asked of a run's keys, or
//!   decides how they are kept, comes after its revisions are settled.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::chain::Revision;
use super::memory::Memory;
use crate::base::key::{Name, Space};
use crate::base::run_id::RunId;

/// How many revisions wait at most in a recovery: a few MiB. Fewer share less; twice as many gain nothing.
pub(crate) const BACKLOG: usize = 1 << 17;

type Pending = Vec<(Name, Revision)>;

/// A memory, and revisions that it does not have yet.
#[derive(Debug)]
pub(crate) struct Backlog {
    memory: Memory,
    pending: HashMap<(RunId, Space), Pending, FixedState>,
    count: usize,
    limit: usize,
}

impl Backlog {
    /// Settles whenever `limit` revisions wait.
    pub(crate) fn new(memory: Memory, limit: usize) -> Self {
        Self { memory, pending: HashMap::with_hasher(FixedState::with_seed(0)), count: 0, limit }
    }

    /// Adds a revision on top of what its key holds.
    ///
    /// # Errors
    /// Why one of those that wait does not belong there. Memory is of no use then.
    pub(crate) fn add(&mut self, run: RunId, space: Space, name: Name, revision: Revision) -> Result<(), &'static str> {
        self.pending.entry((run, space)).or_default().push((name, revision));
        self.count += 1;
        if self.count < self.limit { Ok(()) } else { self.settle() }
    }

    /// The memory, for what has nothing to do with those that wait.
    pub(crate) fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// Settles what waits in one space of a run.
    ///
    /// # Errors
    /// As `add`.
    pub(crate) fn settle_space(&mut self, run: RunId, space: Space) -> Result<(), &'static str> {
        let Some(mut pending) = self.pending.remove(&(run, space)) else { return Ok(()) };
        self.count -= pending.len();
        settle(&mut self.memory, run, space, &mut pending)
    }

    fn settle(&mut self) -> Result<(), &'static str> {
        self.count = 0;
        self.pending.retain(|_, pending| !pending.is_empty());
        let mut all = self.pending.iter_mut();
        all.try_for_each(|((run, space), pending)| settle(&mut self.memory, *run, *space, pending))
    }

    /// Nothing more is added.
    ///
    /// # Errors
    /// As `add`.
    pub(crate) fn finish(mut self) -> Result<Memory, &'static str> {
        self.settle()?;
        Ok(self.memory)
    }
}

fn settle(memory: &mut Memory, run: RunId, space: Space, pending: &mut Pending) -> Result<(), &'static str> {
    // Most names differ at their start, and numbers are compared faster. Both sorts keep the order of equal names.
    pending.sort_by_cached_key(|(name, _)| start_of(name));
    pending.sort_by(|(one, _), (other, _)| one.cmp(other));
    pending.drain(..).try_for_each(|(name, revision)| {
        let horizon = revision.version.previous();
        memory.push(run, space, name, revision, horizon)
    })
}

/// The first bytes of a name, as a number of the same order.
fn start_of(name: &[u8]) -> u128 {
    let mut start = [0; size_of::<u128>()];
    let length = name.len().min(start.len());
    start[..length].copy_from_slice(&name[..length]);
    u128::from_be_bytes(start)
}
