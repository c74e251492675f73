//! Retention: how much history is kept of which run, and thinning out the history of one of which less is kept from now on.
//!
//! - What somebody wrote keeps its history as the run's policy says; what is derived from it keeps none.
//! - A run's own policy goes before the database's, which has one for runs at work and one for those that have ended.
//! - Thinning is done name by name, whenever a sweep has nothing more urgent to do.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::chain::{Retention, without_history};
use super::memory::{ALL_SPACES, Memory, RunTable};
use crate::base::key::{Name, Space};
use crate::base::options::{HistoryPolicy, HistoryRetention};
use crate::base::planted::{Bug, planted};
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::version::Version;

/// What decides how much history is kept of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RunHistory {
    own: Option<HistoryRetention>,
    is_ended: bool,
}

impl RunHistory {
    pub(super) fn retention(self, policy: HistoryPolicy) -> HistoryRetention {
        let own = self.own.filter(|_| !planted(Bug::OwnHistoryIgnored));
        own.unwrap_or(if self.is_ended { policy.ended } else { policy.active })
    }

    /// Takes note of what is written about the run.
    pub(super) fn learn(&mut self, stored: Option<&Stored>) {
        match stored {
            Some(Stored::Run(metadata)) => self.is_ended = metadata.status.is_ended(),
            Some(Stored::RunEnded(status)) => self.is_ended = status.is_ended(),
            Some(Stored::Retention(history)) => self.own = Some(*history),
            _ => {}
        }
    }
}

impl RunTable {
    pub(super) fn retention(&self, policy: HistoryPolicy, space: Space, horizon: Version) -> Retention {
        if space.keeps_history() {
            Retention { horizon, history: self.history.retention(policy) }
        } else {
            without_history(horizon)
        }
    }

    /// The next name that keeps a history; within a space, those out of the way come behind the others.
    fn next_kept(&self, after: &Place) -> Option<(Place, Name)> {
        let mut from = after.name.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let places = ALL_SPACES.iter().flat_map(|space| [(*space, false), (*space, true)]);
        for (space, is_buried) in places.skip(after.number) {
            let names = if is_buried { self.buried_in(space) } else { Some(&self.spaces[space.index()]) };
            let names = names.filter(|_| space.keeps_history());
            let next = names.and_then(|names| names.range::<Name, _>((from, Bound::Unbounded)).next());
            if let Some((name, _)) = next {
                let number = 2 * space.index() + usize::from(is_buried);
                return Some((Place { number, name: Some(name.clone()) }, name.clone()));
            }
            from = Bound::Unbounded;
        }
        None
    }
}

/// How far the thinning of a run has come.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Twice the number of the space, and one more for the names that are out of the way.
    number: usize,
    /// The last name that was looked at.
    name: Option<Name>,
}

impl Place {
    const fn space(&self) -> Space {
        ALL_SPACES[self.number / 2]
    }
}

/// The runs whose history is to be thinned out.
#[derive(Debug, Default)]
pub(super) struct Thinning {
    /// And from which version on less is kept.
    waiting: BTreeSet<(Version, RunId)>,
    /// The one that is under way, and how far.
    at: Option<(RunId, Place)>,
}

impl Thinning {
    pub(super) fn insert(&mut self, since: Version, run: RunId) {
        self.waiting.insert((since, run));
    }

    /// The first horizon at which there is something to thin out.
    pub(super) fn due(&self) -> Option<Version> {
        if self.at.is_some() { Some(Version::ZERO) } else { self.waiting.first().map(|(since, _)| *since) }
    }
}

impl Memory {
    /// Thins out the history of one more name.
    pub(super) fn thin(&mut self, horizon: Version) {
        let begin = |thinning: &mut Thinning| thinning.waiting.pop_first().map(|(_, run)| (run, Place::default()));
        let Some((run, after)) = self.thinning.at.take().or_else(|| begin(&mut self.thinning)) else { return };
        let Some((place, name)) = self.runs.get(&run).and_then(|table| table.next_kept(&after)) else {
            return self.forget_commits(run);
        };
        let space = place.space();
        self.thinning.at = Some((run, place));
        self.look_again(run, space, name, horizon);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::key::unit_name;
    use crate::base::run::{RunMetadata, RunStatus};
    use crate::base::value::Value;
    use crate::store::chain::Revision;

    const RUN: RunId = RunId::from_bytes([1; 16]);
    const POLICY: HistoryPolicy =
        HistoryPolicy { active: HistoryRetention::Forever, ended: HistoryRetention::Off, lineage: false };

    fn push(memory: &mut Memory, version: u64, space: Space, name: &str, stored: Option<Stored>) {
        let revision = Revision { version: version.into(), expires: Version::MAX, stored };
        let name = Name::from_slice(name.as_bytes());
        memory.push(RUN, space, name, revision, Version::from(version).previous()).unwrap();
    }

    fn metadata(status: RunStatus) -> Stored {
        Stored::Run(Arc::new(RunMetadata {
            name: "r".into(),
            run_id: RUN,
            parent_run: None,
            status,
            created_at: 0,
            updated_at: 0,
            completed_at: None,
            tags: vec![],
            metadata: Value::Null,
            error: None,
        }))
    }

    /// Ten keys, every other one of them deleted, and ten cells, all of them written ten times.
    fn filled(policy: HistoryPolicy) -> Memory {
        let mut memory = Memory::new(policy);
        push(&mut memory, 1, Space::Run, "", Some(metadata(RunStatus::Active)));
        for version in 10..110 {
            let name = format!("{}", version % 10);
            push(&mut memory, version, Space::Kv, &name, Some(Stored::Value(1.into())));
            push(&mut memory, version, Space::State, &name, Some(Stored::DeletedState(version)));
        }
        for version in 110..115 {
            push(&mut memory, version, Space::Kv, &format!("{}", (version - 110) * 2), None);
        }
        memory.sweep(200.into(), 1_000);
        memory
    }

    fn revisions(memory: &Memory) -> usize {
        memory.every_revision().count()
    }

    #[test]
    fn an_ended_run_is_thinned_out_name_by_name_and_an_active_one_is_not() {
        let mut memory = filled(POLICY);
        assert_eq!(revisions(&memory), 1 + 100 + 100 + 5);
        push(&mut memory, 300, Space::Run, "", Some(metadata(RunStatus::Completed)));
        memory.sweep(299.into(), 1_000);
        assert_eq!(revisions(&memory), 2 + 100 + 100 + 5, "somebody may still read before its end");
        memory.sweep(300.into(), 7);
        let halfway = revisions(&memory);
        assert!(halfway < 207 && halfway > 16, "a few at a time: {halfway}");
        while memory.sweep_due().is_some_and(|due| due <= 300.into()) {
            memory.sweep(300.into(), 7);
        }
        assert_eq!(revisions(&memory), 1 + 5 + 10, "what is there now");
        assert_eq!(memory.footprint(), memory.count_footprint());
        assert!(memory.is_collected(&RUN, Space::State, 108.into()));
        assert!(!memory.is_collected(&RUN, Space::State, 109.into()), "its last change is still there");
    }

    #[test]
    fn a_policy_of_the_run_goes_before_that_of_the_database() {
        let mut memory = filled(HistoryRetention::Off.into());
        assert_eq!(revisions(&memory), 1 + 5 + 10);
        let mut own = Memory::new(HistoryRetention::Off);
        push(&mut own, 1, Space::RunHistory, "", Some(Stored::Retention(HistoryRetention::Commits(3))));
        for version in 10..20 {
            push(&mut own, version, Space::Kv, "k", Some(Stored::Value(1.into())));
            push(&mut memory, version + 200, Space::Kv, "k", Some(Stored::Value(1.into())));
        }
        own.sweep(99.into(), 99);
        memory.sweep(999.into(), 99);
        let versions =
            |memory: &Memory| memory.revisions(&RUN, Space::Kv, &"k".into()).map(|old| old.version.get()).collect();
        let (kept, gone): (Vec<u64>, Vec<u64>) = (versions(&own), versions(&memory));
        assert_eq!((kept, gone), (vec![17, 18, 19], vec![219]));
    }

    #[test]
    fn a_policy_that_is_read_from_a_snapshot_behind_the_keys_counts_for_them_too() {
        let mut memory = filled(HistoryRetention::Forever.into());
        push(&mut memory, 300, Space::Run, "", Some(metadata(RunStatus::Completed)));
        let (mut dump, mut loader) = (memory.dump_at(400.into()), super::super::dump::Loader::new(POLICY, 400.into()));
        while let Some(piece) = memory.next_piece(&mut dump) {
            loader.load(piece).unwrap();
        }
        let mut copy = loader.finish();
        copy.sweep(400.into(), 1_000);
        assert_eq!(revisions(&copy), 1 + 5 + 10);
    }

    #[test]
    fn unit_names_are_names_too() {
        let mut memory = filled(POLICY);
        push(&mut memory, 300, Space::Run, "", Some(metadata(RunStatus::Completed)));
        memory.sweep(300.into(), 1_000);
        assert_eq!(memory.revisions(&RUN, Space::Run, &unit_name()).count(), 1);
    }
}
