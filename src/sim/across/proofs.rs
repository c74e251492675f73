//! Proofs: of every run whose whole history is kept, each commit is what its digest says, and they lead to what is there.

use std::collections::BTreeSet;

use super::cell::run_of;
use super::lifecycle::contents;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::primitive::digest::prove;
use crate::primitive::history::{Records, replay};
use crate::store::memory::Memory;

/// Proves what all shards hold, and returns how many commits there are.
pub(super) fn assert_proven(memories: &[&Memory], at: Version) -> u64 {
    let all = memories.iter().flat_map(|memory| memory.every_revision().map(|(run, ..)| run));
    let mut runs: BTreeSet<RunId> = all.filter(|run| *run != RunId::DIRECTORY).collect();
    runs.retain(|run| memories.iter().all(|memory| memory.keeps_commits(run) && memory.deleted(run).is_none()));
    let (mut rebuilt, mut proven) = (Vec::new(), 0);
    for run in &runs {
        let mut joined = Records::default();
        for (shard, memory) in memories.iter().enumerate() {
            let records = Records::of(memory, *run, Version::MAX);
            let digests = memory.commits_of(run, Version::ZERO, Version::MAX, usize::MAX);
            let proof = prove(*run, records.by_commit(), digests);
            assert_eq!(proof.unproven, 0, "{run} on shard {shard}: every commit has a digest");
            assert_eq!(proof.first_invalid, None, "{run} on shard {shard}: {} commits are proven", proof.proven);
            proven += proof.proven;
            joined.join(records);
        }
        rebuilt.push(replay(&joined.commits_until(Version::MAX)).expect("it fits together"));
    }
    let mut there = contents(memories.iter().copied(), at);
    there.retain(|cell, _| runs.iter().any(|run| run_of(*run) == cell.run));
    assert_eq!(contents(rebuilt.iter(), at), there, "what is there is what the commits lead to");
    proven
}
