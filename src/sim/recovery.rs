//! Recovery of the fake disk, step by step as `runtime/recovery.rs` and the keeper do it on files.
//!
//! - Decide how far every segment counts, build the memories, write the manifest, only then serve.

use std::collections::BTreeMap;

use super::disk::Disk;
use super::planted::{Bug, replay_with};
use crate::base::options::{HistoryRetention, Partitioning};
use crate::base::version::Version;
use crate::format::BLOCK;
use crate::format::manifest::{Manifest, SealedSegment};
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::shard::replay::{Judgement, Target, judge, replay_segment, survey};
use crate::store::memory::Memory;

/// What every segment is stamped with.
pub(super) const DATABASE: [u8; 16] = [0xda; 16];

/// How far the segments count.
#[derive(Clone, Debug, Default)]
pub(super) struct Decision {
    pub(super) incarnation: u32,
    pub(super) reserved: Version,
    pub(super) sealed: Vec<SealedSegment>,
    pub(super) torn: u64,
}

/// What the logs hold: records and the version of the last, by opening and shard.
pub(super) type Found = BTreeMap<(u32, u32), (u64, Version)>;

/// What was built from the logs.
pub(super) struct Built {
    pub(super) memories: Vec<Memory>,
    pub(super) found: Found,
    pub(super) latest: Version,
}

/// Decides how far every segment counts.
pub(super) fn decide(disk: &Disk, bug: Option<Bug>) -> Decision {
    let Some(bytes) = disk.manifest() else { return Decision::default() };
    let manifest = Manifest::read(bytes).expect("the manifest is as it was written");
    let mut torn = 0;
    let mut sealed = manifest.sealed.clone();
    if bug == Some(Bug::DecisionsForgotten) {
        sealed = seal_all(disk, 0, |_| true, bug, &mut torn);
    } else if !manifest.closed {
        let is_last = |id: SegmentId| id.incarnation == manifest.incarnation;
        sealed.extend(seal_all(disk, manifest.shards, is_last, bug, &mut torn));
    }
    sealed.sort_unstable_by_key(|segment| segment.id);
    Decision { incarnation: manifest.incarnation, reserved: manifest.clock_reserved, sealed, torn }
}

/// `shards` is how many the opening had; 0 if they are of several openings.
fn seal_all(
    disk: &Disk,
    shards: u32,
    which: impl Fn(SegmentId) -> bool,
    bug: Option<Bug>,
    torn: &mut u64,
) -> Vec<SealedSegment> {
    let ids: Vec<SegmentId> = disk.segments().filter(|id| which(*id)).collect();
    let mut sealed = Vec::new();
    for shard in ids.chunk_by(|a, b| (a.incarnation, a.shard) == (b.incarnation, b.shard)) {
        let judgement = judge_shard(disk, shard);
        *torn += u64::from(judgement.torn.is_some());
        let ends = shard.iter().zip(judgement.ends);
        sealed.extend(ends.map(|(id, end)| SealedSegment { id: *id, shards, salt: header_of(disk, *id).salt, end }));
        if let Some(last) =
            sealed.last_mut().filter(|last| bug == Some(Bug::LastBatchDropped) && last.end > BLOCK as u64)
        {
            last.end -= BLOCK as u64;
        }
    }
    sealed
}

fn judge_shard(disk: &Disk, shard: &[SegmentId]) -> Judgement {
    let surveyed = shard.iter().map(|id| survey(&disk.read(*id), &header_of(disk, *id)));
    let surveyed: Vec<_> = surveyed.collect();
    judge(&surveyed).unwrap_or_else(|damage| panic!("refused to open: {damage:?}\n{surveyed:?}"))
}

fn header_of(disk: &Disk, id: SegmentId) -> SegmentHeader {
    let header = SegmentHeader::read(disk.read_header(id)).expect("a header is whole");
    assert_eq!((header.id, header.database), (id, DATABASE), "the header is that of this segment");
    header
}

/// Builds the memories of the new shards from all that counts.
pub(super) fn build(disk: &Disk, sealed: &[SealedSegment], layout: Layout) -> Built {
    let mut built = Built { memories: Vec::new(), found: Found::new(), latest: Version::ZERO };
    for shard in 0..layout.shards {
        let mut memory = Memory::new(layout.history);
        let target = Target { shard, shards: layout.believed };
        for segment in sealed.iter().filter(|segment| segment.concerns(shard, layout.believed)) {
            let header = header_of(disk, segment.id);
            assert_eq!(header.salt, segment.salt, "the segment is the one the manifest names");
            let bytes = disk.read(segment.id);
            let (records, latest) = match layout.bug {
                Some(bug) if bug.is_in_replay() => replay_with(bug, &bytes, &header, segment.end, target, &mut memory),
                _ => replay_segment(&bytes, &header, segment.end, target, &mut memory)
                    .unwrap_or_else(|damage| panic!("refused to open: {damage:?}")),
            };
            if records > 0 && (shard == 0 || segment.is_of(layout.believed)) {
                let found = built.found.entry((segment.id.incarnation, segment.id.shard)).or_default();
                *found = (found.0 + records, latest);
                built.latest = built.latest.max(latest);
            }
        }
        built.memories.push(memory);
    }
    built
}

/// The new opening.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) shards: usize,
    /// How many shards recovery believes there are.
    pub(super) believed: usize,
    pub(super) history: HistoryRetention,
    pub(super) bug: Option<Bug>,
}

/// The manifest of a new opening.
pub(super) fn manifest(decision: &Decision, shards: usize, reserved: Version) -> Manifest {
    Manifest {
        database: DATABASE,
        incarnation: decision.incarnation + 1,
        shards: u32::try_from(shards).unwrap(),
        partitioning: Partitioning::ByRun,
        clock_reserved: reserved,
        closed: false,
        sealed: decision.sealed.clone(),
    }
}

/// Removes segments that the manifest does not name.
pub(super) fn remove_strays(disk: &mut Disk, manifest: &Manifest) {
    let is_named = |id: &SegmentId| manifest.sealed.iter().any(|segment| segment.id == *id);
    let strays: Vec<SegmentId> = disk.segments().filter(|id| !is_named(id)).collect();
    for stray in strays {
        disk.remove(stray);
    }
}

/// The database has closed: what the opening wrote is sealed.
pub(super) fn seal(disk: &mut Disk, mut manifest: Manifest, last: Version, cleans: bool) {
    let incarnation = manifest.incarnation;
    let ours = |id: SegmentId| id.incarnation == incarnation;
    let mut torn = 0;
    let sealed = seal_all(disk, manifest.shards, ours, None, &mut torn);
    assert_eq!(torn, 0, "everything was durable a moment ago");
    manifest.sealed.extend(sealed.into_iter().filter(|segment| segment.end > BLOCK as u64));
    manifest.closed = true;
    manifest.clock_reserved = last;
    disk.write_manifest(manifest.to_bytes());
    if !cleans {
        return;
    }
    for segment in manifest.sealed.iter().filter(|segment| ours(segment.id)) {
        disk.trim(segment.id, segment.end);
    }
    remove_strays(disk, &manifest);
}
