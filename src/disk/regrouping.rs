//! Regrouping: a snapshot of another layout, as the writes that led to it.
//!
//! - What is derived from writes is derived anew: on which shard it stands depends on the layout.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::commit_digest::CommitDigest;
use crate::base::key::Space;
use crate::base::lineage::ReadSet;
use crate::base::options::HistoryPolicy;
use crate::base::run_id::RunId;
use crate::base::stored::Write;
use crate::base::version::Version;
use crate::format::snapshot::Piece;
use crate::primitive::history::writes_of;
use crate::primitive::{digest, index};
use crate::shard::route::Layout;
use crate::store::memory::Memory;

/// Collects what one of the new shards takes over.
#[derive(Debug)]
pub(super) struct Regrouping {
    shard: usize,
    layout: Layout,
    /// Whether all of a run is on one shard, before and after.
    by_run: bool,
    /// In the order of their versions, as they were replayed if they were in a log.
    writes: BTreeMap<Version, Vec<Write>>,
    /// What is remembered of the commits of runs.
    commits: BTreeMap<RunId, Vec<CommitDigest>>,
    /// What those read.
    lineage: BTreeMap<(RunId, Version), Arc<ReadSet>>,
    /// Below which version a read of a run and a space could miss what was collected.
    collected: BTreeMap<RunId, Vec<Version>>,
}

impl Regrouping {
    /// For a shard of a layout; `by_run` if all of a run is on one shard, before and after.
    pub(super) fn new(shard: usize, layout: Layout, by_run: bool) -> Self {
        let (writes, commits, lineage, collected) = Default::default();
        Self { shard, layout, by_run, writes, commits, lineage, collected }
    }

    /// Adds a piece that shard `source` of `sources` has dumped.
    pub(super) fn add(&mut self, piece: Piece, (source, sources): (usize, usize)) {
        if self.layout.may_own(self.shard, &piece.run()) {
            self.take_note(&piece);
        }
        for (version, write) in writes_of(piece) {
            if let Some(write) = self.layout.taken_over(self.shard, write, (source, sources)) {
                self.writes.entry(version).or_default().push(write);
            }
        }
    }

    /// What is known of a run beside its names.
    fn take_note(&mut self, piece: &Piece) {
        match piece {
            Piece::Run { run, collected, .. } => {
                let known = self.collected.entry(*run).or_insert_with(|| vec![Version::ZERO; Space::COUNT]);
                for (known, collected) in known.iter_mut().zip(collected) {
                    *known = *collected.max(known);
                }
            }
            Piece::Commits { run, commits } if self.by_run => self.commits.entry(*run).or_default().extend(commits),
            // Several shards may have held what one commit left in a run; they know the same of what it read.
            Piece::Lineage { run, commits } => {
                self.lineage.extend(commits.iter().map(|(version, reads)| ((*run, *version), Arc::clone(reads))));
            }
            Piece::Commits { .. } | Piece::Names { .. } => {}
        }
    }

    /// The memory that comes of it.
    ///
    /// # Errors
    /// What does not fit together.
    pub(super) fn finish(self, policy: HistoryPolicy) -> Result<Memory, &'static str> {
        let mut memory = Memory::new(policy);
        for (version, writes) in self.writes {
            let runs = digest::runs_of(&writes);
            let links = if self.by_run { digest::Links::new() } else { digest::alone(&memory, &writes, version) };
            for write in writes {
                index::replay(&mut memory, write, version, version.previous())?;
            }
            digest::note(&mut memory, version, links);
            for run in runs {
                if let Some(reads) = self.lineage.get(&(run, version)) {
                    memory.note_lineage(run, version, Arc::clone(reads));
                }
            }
        }
        for (run, commits) in self.commits {
            for commit in commits {
                memory.note_commit(run, commit);
            }
        }
        for (run, collected) in self.collected {
            memory.note_collected(run, &collected);
        }
        Ok(memory)
    }
}
