//! Lineage: what every commit of a run read, if the database keeps that, as long as the whole history of the run is kept.
//!
//! - In the order of the versions. Two commits of a run over several shards may have one version: they share what they read.

use std::sync::Arc;

use super::footprint;
use super::memory::{Memory, RunTable};
use crate::base::lineage::ReadSet;
use crate::base::run_id::RunId;
use crate::base::version::Version;

impl Memory {
    /// Whether it is kept what commits read.
    pub(crate) const fn keeps_lineage(&self) -> bool {
        self.policy.lineage
    }

    /// Remembers what a commit read, if all history of its run is kept.
    pub(crate) fn note_lineage(&mut self, run: RunId, version: Version, reads: Arc<ReadSet>) {
        if !self.policy.lineage {
            return;
        }
        let Some(table) = self.table_with_commits(run) else { return };
        let at = table.lineage.partition_point(|(known, _)| *known < version);
        let mut added = footprint::of_lineage(&reads);
        match table.lineage.get_mut(at).filter(|(known, _)| *known == version) {
            Some((_, known)) => {
                let before = footprint::of_lineage(known);
                *known = Arc::new(ReadSet::union([&**known, &*reads]));
                added = footprint::of_lineage(known) - before;
            }
            None => table.lineage.insert(at, (version, reads)),
        }
        table.footprint.bytes += added;
        self.footprint.bytes += added;
    }

    /// What a commit of a run read; `None` if nobody took note of it.
    pub(crate) fn lineage_of(&self, run: &RunId, version: Version) -> Option<&Arc<ReadSet>> {
        let table = self.runs.get(run)?;
        let at = table.lineage.binary_search_by_key(&version, |(known, _)| *known).ok()?;
        table.lineage.get(at).map(|(_, reads)| reads)
    }
}

impl RunTable {
    /// The next commits above a version and at or below another one: up to so many bytes, but one at least.
    pub(super) fn lineage_between(&self, above: Version, at: Version, bytes: usize) -> &[(Version, Arc<ReadSet>)] {
        let place = |version: Version| self.lineage.partition_point(|(known, _)| *known <= version);
        let (start, end) = (place(above), place(at));
        let all = &self.lineage[start..end.max(start)];
        let mut taken = 0;
        let beyond = all.iter().position(|(_, reads)| {
            taken += footprint::of_lineage(reads);
            taken > bytes
        });
        &all[..beyond.map_or(all.len(), |beyond| beyond.max(1))]
    }

    /// Forgets all of it; returns what it took.
    pub(super) fn forget_lineage(&mut self) -> usize {
        std::mem::take(&mut self.lineage).iter().map(|(_, reads)| footprint::of_lineage(reads)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{Name, Space};
    use crate::base::lineage::Source;
    use crate::base::options::{HistoryPolicy, HistoryRetention};

    const RUN: RunId = RunId::from_bytes([1; 16]);

    fn reads(name: &str) -> Arc<ReadSet> {
        let name = Name::from_slice(name.as_bytes());
        Arc::new(ReadSet::of([(RUN, Source::Key { space: Space::Kv, name, version: 1.into() })]))
    }

    fn memory(active: HistoryRetention, lineage: bool) -> Memory {
        Memory::new(HistoryPolicy { active, ended: active, lineage })
    }

    #[test]
    fn it_is_kept_in_order_and_commits_of_one_version_share_it() {
        let mut memory = memory(HistoryRetention::Forever, true);
        for (version, name) in [(20, "a"), (10, "b"), (30, "c"), (20, "d"), (20, "a")] {
            memory.note_lineage(RUN, version.into(), reads(name));
        }
        assert_eq!(memory.footprint(), memory.count_footprint());
        assert_eq!(**memory.lineage_of(&RUN, 20.into()).unwrap(), ReadSet::union([&*reads("a"), &*reads("d")]));
        assert_eq!(memory.lineage_of(&RUN, 15.into()), None);
        let versions = |above: u64, at: u64, bytes: usize| -> Vec<u64> {
            let found = memory.runs[&RUN].lineage_between(above.into(), at.into(), bytes);
            found.iter().map(|(version, _)| version.get()).collect()
        };
        assert_eq!(versions(0, 99, usize::MAX), [10, 20, 30]);
        assert_eq!(versions(10, 29, usize::MAX), [20]);
        assert_eq!((versions(10, 99, 0), versions(0, 99, 200)), (vec![20], vec![10]), "one at least");
        assert_eq!(versions(30, 99, usize::MAX), [0_u64; 0]);
    }

    #[test]
    fn it_is_not_kept_without_history_of_deleted_runs_or_if_nobody_asks() {
        let mut asked = memory(HistoryRetention::Forever, true);
        asked.delete_run(RUN, 5.into());
        asked.sweep(9.into(), 9);
        let not_asked = memory(HistoryRetention::Forever, false);
        for mut memory in [asked, not_asked, memory(HistoryRetention::Commits(9), true)] {
            let before = memory.footprint();
            memory.note_lineage(RUN, 10.into(), reads("a"));
            assert_eq!((memory.lineage_of(&RUN, 10.into()), memory.footprint()), (None, before));
        }
    }
}
