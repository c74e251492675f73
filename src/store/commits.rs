//! Commits: what is remembered of every commit of a run whose whole history is kept.
//!
//! - They are in the order of their versions. One that is decided late comes before others that were applied before it.

use super::footprint::COMMIT_BYTES;
use super::memory::{Memory, RunTable, new_table};
use crate::base::commit_digest::CommitDigest;
use crate::base::options::HistoryRetention;
use crate::base::run_id::RunId;
use crate::base::version::Version;

impl Memory {
    /// Whether all history of a run is kept.
    pub(crate) fn keeps_commits(&self, run: &RunId) -> bool {
        let history = self.runs.get(run).map_or(self.policy.active, |table| table.history.retention(self.policy));
        history == HistoryRetention::Forever
    }

    /// The last commit of a run.
    pub(crate) fn last_commit(&self, run: &RunId) -> Option<CommitDigest> {
        self.runs.get(run)?.commits.last().copied()
    }

    /// The table of a run, if all its history is kept; made if it is not there.
    pub(super) fn table_with_commits(&mut self, run: RunId) -> Option<&mut RunTable> {
        if !self.keeps_commits(&run) || self.tombstones.contains_key(&run) {
            return None;
        }
        Some(self.runs.entry(run).or_insert_with(|| new_table(&mut self.footprint)))
    }

    /// Remembers a commit, if all history of its run is kept.
    pub(crate) fn note_commit(&mut self, run: RunId, commit: CommitDigest) {
        let Some(table) = self.table_with_commits(run) else { return };
        // Nearly always the end, where a search would begin in the middle.
        let comes_last = table.commits.last().is_none_or(|last| last.version <= commit.version);
        let end = table.commits.len();
        let at = if comes_last { end } else { table.commits.partition_point(|known| known.version <= commit.version) };
        table.commits.insert(at, commit);
        table.footprint.bytes += COMMIT_BYTES;
        self.footprint.bytes += COMMIT_BYTES;
    }

    /// Not all history of a run is kept any more.
    pub(super) fn forget_commits(&mut self, run: RunId) {
        if self.keeps_commits(&run) {
            return;
        }
        if let Some(table) = self.runs.get_mut(&run) {
            let freed = std::mem::take(&mut table.commits).len() * COMMIT_BYTES + table.forget_lineage();
            table.footprint.bytes -= freed;
            self.footprint.bytes -= freed;
        }
    }

    /// The runs whose whole history is kept.
    pub(crate) fn runs_with_commits(&self) -> Vec<RunId> {
        let there = self.runs.iter().filter(|(run, table)| **run != RunId::DIRECTORY && table.deleted.is_none());
        there.map(|(run, _)| *run).filter(|run| self.keeps_commits(run)).collect()
    }

    /// The commits of a run above a version and at or below another one, at most so many.
    pub(crate) fn commits_of(&self, run: &RunId, above: Version, at: Version, count: usize) -> &[CommitDigest] {
        self.runs.get(run).map_or(&[], |table| table.commits_between(above, at, count))
    }
}

impl RunTable {
    pub(super) fn commits_between(&self, above: Version, at: Version, count: usize) -> &[CommitDigest] {
        let place = |version: Version| self.commits.partition_point(|commit| commit.version <= version);
        let (start, end) = (place(above), place(at));
        &self.commits[start..end.max(start).min(start + count)]
    }
}
