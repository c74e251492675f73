//! Recovery of the fake disk, step by step as `runtime/recovery.rs` and the keeper do it on files.
//!
//! - Judge the last opening, decide about its transactions, build the memories, write the manifest, only then serve.

use super::super::disk::Disk;
use super::super::recovery::{DATABASE, header_of, judge_opening};
use crate::base::options::HistoryRetention;
use crate::base::version::Version;
use crate::format::manifest::{Manifest, SealedSegment};
use crate::shard::decisions::Decisions;
use crate::shard::replay::{Extent, Target, replay_segment};
use crate::shard::route::Layout;
use crate::store::memory::Memory;

/// How far the segments count.
#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    pub(super) incarnation: u32,
    pub(super) reserved: Version,
    pub(super) sealed: Vec<SealedSegment>,
    pub(super) latest: Version,
    /// Torn tails.
    pub(super) torn: u64,
}

/// Decides how far every segment counts.
pub(super) fn judge_all(disk: &Disk) -> Judged {
    let Some(bytes) = disk.manifest() else { return Judged::default() };
    let manifest = Manifest::read(bytes).expect("the manifest is as it was written");
    let mut judged = Judged {
        incarnation: manifest.incarnation,
        reserved: manifest.clock_reserved,
        sealed: manifest.sealed.clone(),
        ..Judged::default()
    };
    if !manifest.closed {
        let opening = judge_opening(disk, &manifest);
        judged.sealed.extend(opening.sealed);
        judged.latest = opening.latest;
        judged.torn = opening.torn.len() as u64;
    }
    judged.sealed.sort_unstable_by_key(|segment| segment.id);
    judged
}

/// Builds the memories of the new shards from all that counts, and says what the highest version is.
pub(super) fn build(
    disk: &Disk,
    sealed: &[SealedSegment],
    decisions: &Decisions,
    layout: Layout,
    history: HistoryRetention,
) -> (Vec<Memory>, Version) {
    let mut latest = Version::ZERO;
    let mut memories = Vec::new();
    for shard in 0..layout.shards {
        let mut memory = Memory::new(history);
        for segment in sealed.iter().filter(|segment| segment.concerns(shard, layout.shards, layout.partitioning)) {
            let header = header_of(disk, segment.id);
            assert_eq!(header.salt, segment.salt, "the segment is the one the manifest names");
            let has_moved = !segment.is_of(layout.shards, layout.partitioning);
            let moved_from = has_moved.then_some((segment.id.shard as usize, segment.shards as usize));
            let target = Target { shard, layout, moved_from };
            let extent = Extent { end: segment.end, cut: segment.cut, decisions };
            let replayed = replay_segment(&disk.read(segment.id), &header, extent, target, &mut memory);
            let (_, highest) = replayed.unwrap_or_else(|damage| panic!("refused to open: {damage:?}"));
            latest = latest.max(highest);
        }
        memories.push(memory);
    }
    (memories, latest)
}

/// The manifest of a new opening.
pub(super) fn manifest(judged: &Judged, layout: Layout, reserved: Version) -> Manifest {
    Manifest {
        database: DATABASE,
        incarnation: judged.incarnation + 1,
        shards: u32::try_from(layout.shards).unwrap(),
        partitioning: layout.partitioning,
        clock_reserved: reserved,
        closed: false,
        sealed: judged.sealed.clone(),
    }
}
