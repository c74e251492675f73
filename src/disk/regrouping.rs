//! Regrouping: a snapshot of another layout, as the writes that led to it.
//!
//! - What is derived from writes is derived anew: on which shard it stands depends on the layout.

use std::collections::BTreeMap;

use crate::base::commit_digest::CommitDigest;
use crate::base::key::Space;
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
#[derive(Debug, Default)]
pub(super) struct Regrouping {
    /// The new shard, if all of a run is on one shard before and after.
    whole_runs: Option<(usize, Layout)>,
    /// In the order of their versions, as they were replayed if they were in a log.
    writes: BTreeMap<Version, Vec<Write>>,
    /// What is remembered of the commits of runs.
    commits: BTreeMap<RunId, Vec<CommitDigest>>,
    /// Below which version a read of a run and a space could miss what was collected.
    collected: BTreeMap<RunId, Vec<Version>>,
}

impl Regrouping {
    pub(super) fn new(whole_runs: Option<(usize, Layout)>) -> Self {
        Self { whole_runs, ..Self::default() }
    }

    /// Adds a piece; `takes_over` says what the new shard owns of a write.
    pub(super) fn add(&mut self, piece: Piece, takes_over: impl Fn(Write) -> Option<Write>) {
        if let Piece::Run { run, collected, .. } = &piece {
            let known = self.collected.entry(*run).or_insert_with(|| vec![Version::ZERO; Space::COUNT]);
            for (known, collected) in known.iter_mut().zip(collected) {
                *known = *collected.max(known);
            }
        }
        if let (Piece::Commits { run, commits }, Some((shard, layout))) = (&piece, self.whole_runs)
            && layout.shard_of_run(run) == shard
        {
            self.commits.entry(*run).or_default().extend(commits);
        }
        for (version, write) in writes_of(piece) {
            if let Some(write) = takes_over(write) {
                self.writes.entry(version).or_default().push(write);
            }
        }
    }

    /// The memory that comes of it.
    ///
    /// # Errors
    /// What does not fit together.
    pub(super) fn finish(self, policy: HistoryPolicy) -> Result<Memory, &'static str> {
        let mut memory = Memory::new(policy);
        for (version, writes) in self.writes {
            let links =
                if self.whole_runs.is_some() { digest::Links::new() } else { digest::alone(&memory, &writes, version) };
            for write in writes {
                index::replay(&mut memory, write, version, version.previous())?;
            }
            digest::note(&mut memory, version, links);
        }
        for (run, commits) in self.commits {
            commits.into_iter().for_each(|commit| memory.note_commit(run, commit));
        }
        for (run, collected) in self.collected {
            memory.note_collected(run, &collected);
        }
        Ok(memory)
    }
}
