//! Memory: every key of a shard, by run and space.
//!
//! - Runs are found by hash and never walked; names within a run and a space are ordered.
//! - A deleted run leaves its table's shell behind: late writes find it and are refused for ever.
//! - `sweep` names the keys to look at again once the horizon has reached a version: expired ones, deleted ones and
//!   those with revisions that somebody could still read when they were replaced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use foldhash::fast::FixedState;

use super::chain::{Chain, Leftover, Retention, Revision, without_history};
use crate::base::key::{Name, Space, unit_name};
use crate::base::options::HistoryRetention;
use crate::base::run_id::RunId;
#[cfg(test)]
use crate::base::stored::Stored;
use crate::base::version::Version;

/// A range of names.
pub(crate) type NameRange = (Bound<Name>, Bound<Name>);

/// The tables of one run.
#[derive(Debug, Default)]
pub(crate) struct RunTable {
    spaces: [BTreeMap<Name, Chain>; Space::COUNT],
    /// When the run was deleted.
    deleted: Option<Version>,
    /// A read below this version could miss what was collected.
    collected: Version,
}

/// Every key of a shard.
#[derive(Debug)]
pub(crate) struct Memory {
    runs: HashMap<RunId, RunTable, FixedState>,
    sweep: BTreeSet<(Version, RunId, Space, Name)>,
    history: HistoryRetention,
}

impl Memory {
    pub(crate) fn new(history: HistoryRetention) -> Self {
        Self { runs: HashMap::with_hasher(FixedState::with_seed(0)), sweep: BTreeSet::new(), history }
    }

    /// The revision that a reader at this version sees, deletes included.
    pub(crate) fn at(&self, run: &RunId, space: Space, name: &[u8], snapshot: Version) -> Option<&Revision> {
        let table = self.runs.get(run)?;
        if table.deleted.is_some_and(|deleted| deleted <= snapshot) {
            return None;
        }
        table.spaces[space.index()].get(name)?.at(snapshot)
    }

    /// The version of the newest revision of a key, deletes included.
    pub(crate) fn newest_version(&self, run: &RunId, space: Space, name: &[u8]) -> Option<Version> {
        let chain = self.runs.get(run)?.spaces[space.index()].get(name)?;
        Some(chain.newest().version)
    }

    /// The names in a range with the revisions that a reader at this version sees, deletes included.
    pub(crate) fn range(
        &self,
        run: &RunId,
        space: Space,
        range: NameRange,
        snapshot: Version,
    ) -> impl DoubleEndedIterator<Item = (&Name, &Revision)> {
        let table = self.runs.get(run).filter(|table| table.deleted.is_none_or(|deleted| snapshot < deleted));
        table
            .filter(|_| is_range(&range))
            .into_iter()
            .flat_map(move |table| table.spaces[space.index()].range(range.clone()))
            .filter_map(move |(name, chain)| chain.at(snapshot).map(|revision| (name, revision)))
    }

    /// The first name in a range that has a revision above the snapshot, and that revision's version.
    pub(crate) fn newer_in_range(
        &self,
        run: &RunId,
        space: Space,
        range: &NameRange,
        snapshot: Version,
    ) -> Option<(&Name, Version)> {
        if !is_range(range) {
            return None;
        }
        let names = self.runs.get(run)?.spaces[space.index()].range(range.clone());
        names.map(|(name, chain)| (name, chain.newest().version)).find(|(_, version)| *version > snapshot)
    }

    /// All revisions of a key, oldest first.
    pub(crate) fn revisions(&self, run: &RunId, space: Space, name: &[u8]) -> impl Iterator<Item = &Revision> {
        let chain = self.runs.get(run).and_then(|table| table.spaces[space.index()].get(name));
        chain.into_iter().flat_map(Chain::revisions)
    }

    /// When the run was deleted, if it was.
    pub(crate) fn deleted(&self, run: &RunId) -> Option<Version> {
        self.runs.get(run)?.deleted
    }

    /// Whether a read of this run at this version could miss something that was collected.
    pub(crate) fn is_collected(&self, run: &RunId, snapshot: Version) -> bool {
        self.runs.get(run).is_some_and(|table| snapshot < table.collected)
    }

    /// Puts a revision on top of a key's chain.
    pub(crate) fn push(&mut self, run: RunId, space: Space, name: Name, revision: Revision, horizon: Version) {
        let retention = self.retention(space, horizon);
        let (version, expires) = (revision.version, revision.expires);
        let table = self.runs.entry(run).or_default();
        assert!(table.deleted.is_none_or(|deleted| version <= deleted), "a deleted run takes no writes");
        let leftover = match table.spaces[space.index()].get_mut(name.as_slice()) {
            Some(chain) => {
                if retention.history != HistoryRetention::Forever {
                    table.collected = table.collected.max(version.min(horizon));
                }
                chain.push(revision, retention)
            }
            None if revision.stored.is_none() => return,
            None => {
                table.spaces[space.index()].insert(name.clone(), Chain::new(revision));
                if expires == Version::MAX { Leftover::Settled } else { Leftover::LookAgain(expires) }
            }
        };
        self.settle(run, space, name, leftover);
    }

    /// Marks a run as deleted.
    pub(crate) fn delete_run(&mut self, run: RunId, version: Version) {
        let table = self.runs.entry(run).or_default();
        table.deleted = Some(table.deleted.map_or(version, |before| before.min(version)));
        self.sweep.insert((version, run, Space::Run, unit_name()));
    }

    /// The first horizon at which there is something to sweep.
    pub(crate) fn sweep_due(&self) -> Option<Version> {
        self.sweep.first().map(|(due, ..)| *due)
    }

    /// Looks again at up to `count` keys that are due, and forgets what may be forgotten.
    pub(crate) fn sweep(&mut self, horizon: Version, count: usize) {
        for _ in 0..count {
            if self.sweep_due().is_none_or(|due| due > horizon) {
                return;
            }
            let Some((_, run, space, name)) = self.sweep.pop_first() else { return };
            self.look_again(run, space, name, horizon);
        }
    }

    fn look_again(&mut self, run: RunId, space: Space, name: Name, horizon: Version) {
        let retention = self.retention(space, horizon);
        let Some(table) = self.runs.get_mut(&run) else { return };
        if table.deleted.is_some_and(|deleted| deleted <= horizon) {
            table.spaces = Default::default();
            table.collected = table.collected.max(horizon);
            return;
        }
        let Some(chain) = table.spaces[space.index()].get_mut(name.as_slice()) else { return };
        let Revision { version, expires, .. } = *chain.newest();
        let leftover = chain.prune(retention);
        // What is removed because it expired could be read until then.
        let has_expired = leftover == Leftover::Empty && expires <= horizon;
        table.collected = table.collected.max(if has_expired { expires } else { horizon.min(version) });
        self.settle(run, space, name, leftover);
    }

    fn settle(&mut self, run: RunId, space: Space, name: Name, leftover: Leftover) {
        match leftover {
            Leftover::Settled => {}
            Leftover::LookAgain(due) => {
                self.sweep.insert((due, run, space, name));
            }
            Leftover::Empty => {
                if let Some(table) = self.runs.get_mut(&run) {
                    table.spaces[space.index()].remove(name.as_slice());
                }
            }
        }
    }

    fn retention(&self, space: Space, horizon: Version) -> Retention {
        match space {
            Space::Kv => Retention { horizon, history: self.history },
            _ => without_history(horizon),
        }
    }

    /// Every live key at a version, for tests that compare whole states.
    #[cfg(test)]
    pub(crate) fn dump(&self, snapshot: Version) -> BTreeMap<(RunId, Space, Name), Stored> {
        let mut all = BTreeMap::new();
        for (run, table) in &self.runs {
            if table.deleted.is_some_and(|deleted| deleted <= snapshot) {
                continue;
            }
            for (space, names) in ALL_SPACES.iter().zip(&table.spaces) {
                for (name, chain) in names {
                    if let Some(stored) = chain.at(snapshot).and_then(|revision| revision.live_at(snapshot)) {
                        all.insert((*run, *space, name.clone()), stored.clone());
                    }
                }
            }
        }
        all
    }
}

#[cfg(test)]
const ALL_SPACES: [Space; Space::COUNT] = [
    Space::Kv,
    Space::Event,
    Space::EventHead,
    Space::EventType,
    Space::State,
    Space::Trace,
    Space::TraceKind,
    Space::TraceTag,
    Space::TraceChild,
    Space::TraceCount,
    Space::Run,
    Space::RunName,
    Space::RunAll,
    Space::RunStatus,
    Space::RunTag,
    Space::RunChild,
];

/// Whether a range can hold anything; `BTreeMap::range` panics on those that end before they start.
fn is_range((start, end): &NameRange) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Included(start), Bound::Included(end)) => start <= end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start < end,
    }
}
