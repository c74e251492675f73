//! Lineage: what every commit of a run read, if the database keeps that, as long as the whole history of the run is kept.
//!
//! - In the order of the versions. Two commits of a run over several shards may have one version: they share what they read.

use std::sync::Arc;

use super::footprint;
use super::memory::{Memory, RunTable, new_table};
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
        if !self.policy.lineage || !self.keeps_commits(&run) || self.tombstones.contains_key(&run) {
            return;
        }
        let table = self.runs.entry(run).or_insert_with(|| new_table(&mut self.footprint));
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
        table.footprint += added;
        self.footprint += added;
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
