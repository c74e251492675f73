//! Memory: every key of a shard, by run and space.
//!
//! - Runs are found by hash and never walked; names within a run and a space are ordered.
//! - A deleted run leaves its tombstone behind: late writes find it and are refused for ever.
//! - `sweep` names the keys to look at again once the horizon has reached a version: expired ones, deleted ones and
//!   those with revisions that somebody could still read when they were replaced.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map};
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::chain::{Chain, Leftover, Outcome, Revision};
use super::footprint::{self, Footprint, RUN_BYTES, TOMBSTONE_BYTES};
use super::retention::{RunHistory, Thinning};
use crate::base::commit_digest::CommitDigest;
use crate::base::key::{Name, Space, unit_name};
use crate::base::lineage::ReadSet;
use crate::base::options::{HistoryPolicy, HistoryRetention};
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::version::Version;

const DELETED: &str = "a deleted run takes no writes";

/// A range of names.
pub(crate) type NameRange = (Bound<Name>, Bound<Name>);

/// The tables of one run.
#[derive(Debug, Default)]
pub(crate) struct RunTable {
    pub(super) spaces: [BTreeMap<Name, Chain>; Space::COUNT],
    /// When the run was deleted.
    pub(super) deleted: Option<Version>,
    /// By space: a read below this version could miss what was collected.
    pub(super) collected: [Version; Space::COUNT],
    /// By space, the names that hold nothing any more and are kept for their history only: out of the way of whoever lists.
    pub(super) buried: BTreeMap<Space, BTreeMap<Name, Chain>>,
    /// The latest version at which one of them still held something, or above.
    pub(super) buried_until: Version,
    /// What its keys take.
    pub(super) footprint: Footprint,
    pub(super) history: RunHistory,
    /// The commits in order of their versions, as long as all history is kept.
    pub(super) commits: Vec<CommitDigest>,
    /// What each of them read, if that is kept.
    pub(super) lineage: Vec<(Version, Arc<ReadSet>)>,
}

impl RunTable {
    fn chain(&self, space: Space, name: &Name) -> Option<&Chain> {
        self.spaces[space.index()].get(name).or_else(|| self.buried_in(space)?.get(name))
    }

    pub(super) fn buried_in(&self, space: Space) -> Option<&BTreeMap<Name, Chain>> {
        self.buried.get(&space)
    }

    /// Somebody writes a key that is kept for its history only.
    fn unearth(&mut self, space: Space, name: &Name) {
        if let Some(buried) = self.buried.get_mut(&space)
            && let Some((name, chain)) = buried.remove_entry(name)
        {
            self.spaces[space.index()].insert(name, chain);
        }
    }

    /// Puts a key that held nothing from `gone_at` on out of the way.
    fn bury(&mut self, space: Space, name: &Name, gone_at: Version) {
        if let Some((name, chain)) = self.spaces[space.index()].remove_entry(name) {
            self.buried_until = self.buried_until.max(gone_at);
            self.buried.entry(space).or_default().insert(name, chain);
        }
    }

    /// The chains of a range in order; those that hold nothing at the snapshot may be left out.
    fn chains(
        &self,
        space: Space,
        range: NameRange,
        snapshot: Version,
    ) -> impl DoubleEndedIterator<Item = (&Name, &Chain)> {
        let mut past = Vec::new();
        if let Some(buried) = self.buried_in(space).filter(|_| snapshot < self.buried_until) {
            past.extend(self.spaces[space.index()].range(range.clone()).chain(buried.range(range.clone())));
            past.sort_unstable_by_key(|(name, _)| *name);
        }
        let present = past.is_empty().then(|| self.spaces[space.index()].range(range));
        present.into_iter().flatten().chain(past)
    }
}

/// The table of a run that was not there.
pub(super) fn new_table(footprint: &mut Footprint) -> RunTable {
    footprint.bytes += RUN_BYTES;
    RunTable::default()
}

/// Every key of a shard.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(super) runs: HashMap<RunId, RunTable, FixedState>,
    /// When runs were deleted of which nothing else is kept.
    pub(super) tombstones: HashMap<RunId, Version, FixedState>,
    pub(super) sweep: BTreeSet<(Version, RunId, Space, Name)>,
    pub(super) thinning: Thinning,
    pub(super) policy: HistoryPolicy,
    /// A read at or above this version misses nothing, whatever it reads.
    pub(super) collected: Version,
    /// What all of it takes.
    pub(super) footprint: Footprint,
}

impl Memory {
    pub(crate) fn new(policy: impl Into<HistoryPolicy>) -> Self {
        Self {
            runs: HashMap::with_hasher(FixedState::with_seed(0)),
            tombstones: HashMap::with_hasher(FixedState::with_seed(0)),
            sweep: BTreeSet::new(),
            thinning: Thinning::default(),
            policy: policy.into(),
            collected: Version::ZERO,
            footprint: Footprint::default(),
        }
    }

    /// How much it is; about how many bytes, see `footprint`.
    pub(crate) const fn footprint(&self) -> Footprint {
        self.footprint
    }

    /// By how much a key grows at most when it is given this, see [`Chain::growth`].
    pub(crate) fn growth(&self, run: &RunId, space: Space, name: &Name, stored: &Stored, horizon: Version) -> usize {
        let of_new = || footprint::of_key(name) + footprint::of_stored(Some(stored));
        let Some(table) = self.runs.get(run) else { return RUN_BYTES + of_new() };
        let Some(chain) = table.chain(space, name) else { return of_new() };
        chain.growth(stored, table.retention(self.policy, space, horizon))
    }

    /// The revision that a reader at this version sees, deletes included.
    pub(crate) fn at(&self, run: &RunId, space: Space, name: &Name, snapshot: Version) -> Option<&Revision> {
        self.look_up(run, space, name, snapshot).unwrap_or_default()
    }

    /// The same; `Err` is when the run was deleted, if a reader at this version sees that.
    pub(crate) fn look_up(
        &self,
        run: &RunId,
        space: Space,
        name: &Name,
        snapshot: Version,
    ) -> Result<Option<&Revision>, Version> {
        let table = self.runs.get(run);
        let deleted = table.map_or_else(|| self.tombstones.get(run).copied(), |table| table.deleted);
        match deleted {
            Some(deleted) if deleted <= snapshot => Err(deleted),
            _ => Ok(table.and_then(|table| table.chain(space, name)).and_then(|chain| chain.at(snapshot))),
        }
    }

    /// The version of the newest revision of a key, deletes included.
    pub(crate) fn newest_version(&self, run: &RunId, space: Space, name: &Name) -> Option<Version> {
        self.newest(run, space, name).map(|newest| newest.version)
    }

    /// The newest revision of a key, deletes included, whether or not its run was deleted.
    pub(crate) fn newest(&self, run: &RunId, space: Space, name: &Name) -> Option<&Revision> {
        Some(self.runs.get(run)?.chain(space, name)?.newest())
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
            .flat_map(move |table| table.chains(space, range.clone(), snapshot))
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
        // Keys that were deleted since the snapshot may be out of the way already, if it is an old one.
        let names = self.runs.get(run)?.chains(space, range.clone(), snapshot);
        names.map(|(name, chain)| (name, chain.newest().version)).find(|(_, version)| *version > snapshot)
    }

    /// The chains in a range in order; those that hold nothing at the snapshot may be left out.
    pub(super) fn chains(
        &self,
        run: &RunId,
        space: Space,
        range: NameRange,
        snapshot: Version,
    ) -> impl Iterator<Item = (&Name, &Chain)> {
        let table = self.runs.get(run).filter(|_| is_range(&range));
        table.into_iter().flat_map(move |table| table.chains(space, range.clone(), snapshot))
    }

    /// The versions of all revisions in a range.
    pub(crate) fn versions_in(&self, run: &RunId, space: Space, range: &NameRange) -> impl Iterator<Item = Version> {
        let table = self.runs.get(run).filter(|_| is_range(range));
        let chains = table.into_iter().flat_map(move |table| table.chains(space, range.clone(), Version::ZERO));
        chains.flat_map(|(_, chain)| chain.revisions()).map(|revision| revision.version)
    }

    /// All revisions of a key, oldest first.
    pub(crate) fn revisions(&self, run: &RunId, space: Space, name: &Name) -> impl Iterator<Item = &Revision> {
        let chain = self.runs.get(run).and_then(|table| table.chain(space, name));
        chain.into_iter().flat_map(Chain::revisions)
    }

    /// The runs that have event logs, in order.
    pub(crate) fn event_logs(&self) -> Vec<RunId> {
        let has_events =
            |table: &RunTable| table.deleted.is_none() && !table.spaces[Space::EventHead.index()].is_empty();
        let mut runs: Vec<RunId> =
            self.runs.iter().filter(|(_, table)| has_events(table)).map(|(run, _)| *run).collect();
        runs.sort_unstable();
        runs
    }

    /// When the run was deleted, if it was.
    pub(crate) fn deleted(&self, run: &RunId) -> Option<Version> {
        self.runs.get(run).map_or_else(|| self.tombstones.get(run).copied(), |table| table.deleted)
    }

    /// Whether anything that was in a run at this version is there, if only for its history.
    pub(crate) fn remembers(&self, run: &RunId, snapshot: Version) -> bool {
        let Some(table) = self.runs.get(run).filter(|table| table.deleted.is_none()) else { return false };
        let chains = table.spaces.iter().chain(table.buried.values()).flat_map(BTreeMap::values);
        chains.filter_map(|chain| chain.revisions().next()).any(|oldest| oldest.version <= snapshot)
    }

    /// Whether a read of this space of a run at this version could miss something that was collected.
    pub(crate) fn is_collected(&self, run: &RunId, space: Space, snapshot: Version) -> bool {
        snapshot < self.collected && snapshot < self.kept_from(run, space)
    }

    /// From which version on a read of this space of a run misses nothing that was collected.
    pub(crate) fn kept_from(&self, run: &RunId, space: Space) -> Version {
        let of_deleted = || self.tombstones.get(run).copied().unwrap_or(Version::ZERO);
        self.runs.get(run).map_or_else(of_deleted, |table| table.collected[space.index()])
    }

    /// A read of a run below these versions, by space, could miss what was collected, even if nothing is left of the run.
    pub(crate) fn note_collected(&mut self, run: RunId, collected: &[Version]) {
        if collected.iter().all(|version| *version == Version::ZERO) {
            return;
        }
        let table = self.runs.entry(run).or_insert_with(|| new_table(&mut self.footprint));
        for (own, noted) in table.collected.iter_mut().zip(collected) {
            *own = noted.max(own).to_owned();
            self.collected = self.collected.max(*own);
        }
    }

    /// Puts a revision on top of a key's chain.
    ///
    /// # Errors
    /// Why it does not belong there. A shard never tries that; a log that was tampered with may.
    pub(crate) fn push(
        &mut self,
        run: RunId,
        space: Space,
        name: Name,
        revision: Revision,
        horizon: Version,
    ) -> Result<(), &'static str> {
        let (version, expires) = (revision.version, revision.expires);
        let table = match self.runs.entry(run) {
            hash_map::Entry::Occupied(table) => table.into_mut(),
            hash_map::Entry::Vacant(place) => match self.tombstones.get(&run) {
                Some(deleted) if *deleted < version => return Err(DELETED),
                // It was forgotten with the rest of the run.
                Some(_) => return Ok(()),
                None => place.insert(new_table(&mut self.footprint)),
            },
        };
        if table.deleted.is_some_and(|deleted| deleted < version) {
            return Err(DELETED);
        }
        if matches!(space, Space::Run | Space::RunHistory) {
            let before = table.history.retention(self.policy);
            table.history.learn(revision.stored.as_ref());
            if table.history.retention(self.policy) != before {
                self.thinning.insert(version, run);
            }
        }
        let retention = table.retention(self.policy, space, horizon);
        let gone_at = revision.gone_at();
        if revision.stored.is_some() {
            table.unearth(space, &name);
        }
        let (name, leftover) = match table.spaces[space.index()].entry(name) {
            Entry::Occupied(mut chain) => {
                if version < chain.get().newest().version {
                    return Err("versions rise along a chain");
                }
                let before = chain.get().footprint();
                let Outcome { leftover, forgotten } = chain.get_mut().push(revision, retention);
                let collected = &mut table.collected[space.index()];
                *collected = forgotten.max(*collected);
                self.collected = self.collected.max(forgotten);
                let after = chain.get().footprint();
                table.footprint.change(before, after);
                self.footprint.change(before, after);
                if leftover == Leftover::Settled && gone_at == Version::MAX {
                    return Ok(());
                }
                (chain.key().clone(), leftover)
            }
            Entry::Vacant(_) if revision.stored.is_none() => return Ok(()),
            Entry::Vacant(place) => {
                let name = (expires != Version::MAX).then(|| place.key().clone());
                let chain = Chain::new(revision);
                let added = footprint::of_entry(place.key(), &chain);
                table.footprint += added;
                self.footprint += added;
                place.insert(chain);
                let Some(name) = name else { return Ok(()) };
                (name, Leftover::LookAgain(expires))
            }
        };
        if leftover != Leftover::Empty && gone_at != Version::MAX && retention.history != HistoryRetention::Off {
            // What is kept for its history only is then put out of the way.
            self.sweep.insert((gone_at, run, space, name.clone()));
        }
        self.settle(run, space, name, leftover);
        Ok(())
    }

    /// Marks a run as deleted.
    pub(crate) fn delete_run(&mut self, run: RunId, version: Version) {
        if let Some(deleted) = self.tombstones.get_mut(&run) {
            *deleted = version.min(*deleted);
            return;
        }
        let table = self.runs.entry(run).or_insert_with(|| new_table(&mut self.footprint));
        table.deleted = Some(table.deleted.map_or(version, |before| before.min(version)));
        self.sweep.insert((version, run, Space::Run, unit_name()));
    }

    /// The first horizon at which there is something to sweep.
    pub(crate) fn sweep_due(&self) -> Option<Version> {
        let keys = self.sweep.first().map(|(due, ..)| *due);
        keys.into_iter().chain(self.thinning.due()).min()
    }

    /// Looks again at up to `count` keys that are due, and forgets what may be forgotten.
    pub(crate) fn sweep(&mut self, horizon: Version, count: usize) {
        for _ in 0..count {
            if self.sweep.first().is_some_and(|(due, ..)| *due <= horizon) {
                let Some((_, run, space, name)) = self.sweep.pop_first() else { return };
                self.look_again(run, space, name, horizon);
            } else if self.thinning.due().is_some_and(|due| due <= horizon) {
                self.thin(horizon);
            } else {
                return;
            }
        }
    }

    pub(super) fn look_again(&mut self, run: RunId, space: Space, name: Name, horizon: Version) {
        let Some(table) = self.runs.get_mut(&run) else { return };
        let retention = table.retention(self.policy, space, horizon);
        if let Some(deleted) = table.deleted.filter(|deleted| *deleted <= horizon) {
            self.footprint.bytes -= RUN_BYTES;
            self.footprint -= table.footprint;
            self.runs.remove(&run);
            return self.remember_deleted(run, deleted);
        }
        table.unearth(space, &name);
        let Some(chain) = table.spaces[space.index()].get_mut(&name) else { return };
        let gone_at = chain.newest().gone_at();
        let before = chain.footprint();
        let Outcome { leftover, forgotten } = chain.prune(retention);
        let after = chain.footprint();
        table.footprint.change(before, after);
        self.footprint.change(before, after);
        if leftover != Leftover::Empty && gone_at <= horizon && retention.history != HistoryRetention::Off {
            table.bury(space, &name, gone_at);
        }
        let collected = &mut table.collected[space.index()];
        *collected = forgotten.max(*collected);
        self.collected = self.collected.max(forgotten);
        self.settle(run, space, name, leftover);
    }

    /// Of a run that was deleted, nothing else is kept: a read below that version could miss something.
    pub(super) fn remember_deleted(&mut self, run: RunId, deleted: Version) {
        if self.tombstones.insert(run, deleted).is_none() {
            self.footprint.bytes += TOMBSTONE_BYTES;
        }
        self.collected = self.collected.max(deleted);
    }

    fn settle(&mut self, run: RunId, space: Space, name: Name, leftover: Leftover) {
        match leftover {
            Leftover::Settled => {}
            Leftover::LookAgain(due) => {
                self.sweep.insert((due, run, space, name));
            }
            Leftover::Empty => {
                if let Some(table) = self.runs.get_mut(&run)
                    && let Some(chain) = table.spaces[space.index()].remove(&name)
                {
                    let freed = footprint::of_entry(&name, &chain);
                    table.footprint -= freed;
                    self.footprint -= freed;
                }
            }
        }
    }

    /// Whether every revision of a key is kept.
    #[cfg(test)]
    pub(crate) fn keeps_all(&self, run: &RunId, space: Space) -> bool {
        let retention = self.runs.get(run).map(|table| table.retention(self.policy, space, Version::ZERO));
        retention.is_some_and(|retention| retention.history == HistoryRetention::Forever)
    }

    /// The footprint, counted again.
    #[cfg(test)]
    pub(crate) fn count_footprint(&self) -> Footprint {
        let mut all = Footprint { bytes: TOMBSTONE_BYTES * self.tombstones.len(), keys: 0, revisions: 0 };
        for table in self.runs.values() {
            let lineage = table.lineage.iter().map(|(_, reads)| footprint::of_lineage(reads)).sum::<usize>();
            all.bytes += RUN_BYTES + table.commits.len() * footprint::COMMIT_BYTES + lineage;
            for (name, chain) in table.spaces.iter().chain(table.buried.values()).flatten() {
                all += chain.count_footprint();
                all += Footprint { bytes: footprint::of_key(name), keys: 1, revisions: 0 };
            }
        }
        all
    }

    /// Every revision of every key, for tests that look for who wrote what; those of deleted runs too.
    #[cfg(test)]
    pub(crate) fn every_revision(&self) -> impl Iterator<Item = (RunId, Space, &Name, &Revision)> {
        self.runs.iter().flat_map(|(run, table)| {
            ALL_SPACES.iter().zip(&table.spaces).flat_map(move |(space, names)| {
                let buried = table.buried_in(*space).into_iter().flatten();
                let chains = names.iter().chain(buried);
                chains.flat_map(move |(name, chain)| chain.revisions().map(move |old| (*run, *space, name, old)))
            })
        })
    }

    /// All there is, in order, for tests that compare memories.
    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        let runs: BTreeMap<_, _> = self.runs.iter().collect();
        let tombstones: BTreeMap<_, _> = self.tombstones.iter().collect();
        format!("{runs:?} {tombstones:?} {:?} {:?} {:?}", self.sweep, self.collected, self.footprint)
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
                let buried = table.buried_in(*space).into_iter().flatten();
                for (name, chain) in names.iter().chain(buried) {
                    if let Some(stored) = chain.at(snapshot).and_then(|revision| revision.live_at(snapshot)) {
                        all.insert((*run, *space, name.clone()), stored.clone());
                    }
                }
            }
        }
        all
    }
}

pub(crate) const ALL_SPACES: [Space; Space::COUNT] = [
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
    Space::RunHistory,
    Space::Json,
    Space::JsonPath,
    Space::JsonKey,
];

/// Whether a range can hold anything; `BTreeMap::range` panics on those that end before they start.
fn is_range((start, end): &NameRange) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Included(start), Bound::Included(end)) => start <= end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start < end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId::from_bytes([1; 16]);

    fn write(memory: &mut Memory, version: u64, stored: Option<i64>) {
        let stored = stored.map(|value| Stored::Value(value.into()));
        let revision = Revision { version: version.into(), expires: Version::MAX, stored };
        memory.push(RUN, Space::Kv, Name::from_slice(b"key"), revision, Version::from(version).previous()).unwrap();
    }

    fn listed(memory: &Memory, snapshot: u64) -> usize {
        let all = (Bound::Unbounded, Bound::Unbounded);
        memory.range(&RUN, Space::Kv, all, snapshot.into()).filter(|(_, revision)| revision.stored.is_some()).count()
    }

    #[test]
    fn who_looks_back_conflicts_with_a_delete_that_is_out_of_the_way() {
        let mut memory = Memory::new(HistoryRetention::Forever);
        write(&mut memory, 10, Some(1));
        write(&mut memory, 20, None);
        memory.sweep(20.into(), 9);
        let all = (Bound::Unbounded, Bound::Unbounded);
        let newer = |snapshot: u64| memory.newer_in_range(&RUN, Space::Kv, &all, snapshot.into()).map(|(_, at)| at);
        assert_eq!((newer(15), newer(20)), (Some(20.into()), None));
    }

    #[test]
    fn what_is_kept_for_its_history_only_is_out_of_the_way_and_comes_back_with_a_write() {
        let mut memory = Memory::new(HistoryRetention::Forever);
        write(&mut memory, 10, Some(1));
        write(&mut memory, 20, None);
        assert_eq!(memory.sweep_due(), Some(20.into()));
        memory.sweep(20.into(), 9);
        let table = &memory.runs[&RUN];
        assert!(table.spaces[Space::Kv.index()].is_empty(), "whoever lists does not meet it");
        assert_eq!((listed(&memory, 15), listed(&memory, 20)), (1, 0), "whoever looks back does");
        assert_eq!(memory.sweep_due(), None, "and there is nothing left to do");
        write(&mut memory, 30, Some(2));
        let versions: Vec<u64> =
            memory.revisions(&RUN, Space::Kv, &"key".into()).map(|old| old.version.get()).collect();
        assert_eq!((versions, listed(&memory, 30)), (vec![10, 20, 30], 1));
    }
}
