//! Recovery of the fake disk, step by step as `runtime/recovery.rs` and the keeper do it on files.
//!
//! - Decide how far every segment counts, build the memories, write the manifest, only then serve.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::disk::Disk;
use super::planted::{Bug, replay_with};
use crate::base::options::{HistoryRetention, Partitioning};
use crate::base::version::Version;
use crate::format::BLOCK;
use crate::format::manifest::{Manifest, SealedSegment};
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::shard::decisions::Decisions;
use crate::shard::replay::{Extent, ScannedSegment, Target, replay_segment, survey};
use crate::shard::route;
use crate::shard::sealing::{self, Opening, Sealing};
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
    /// The highest version in the last opening's segments.
    pub(super) latest: Version,
}

impl Decision {
    /// The cut of an opening, if it wrote anything.
    pub(super) fn cut_of(&self, incarnation: u32) -> Option<Version> {
        let of_opening = self.sealed.iter().filter(|segment| segment.id.incarnation == incarnation);
        of_opening.map(|segment| segment.cut).max()
    }
}

/// What the logs hold: records and the version of the last, by opening and shard.
pub(super) type Found = BTreeMap<(u32, u32), (u64, Version)>;

/// What was built from the logs.
pub(super) struct Built {
    pub(super) memories: Vec<Memory>,
    pub(super) found: Found,
    pub(super) latest: Version,
    /// The cut of the last opening that was served.
    pub(super) cut: Option<Version>,
}

/// Decides how far every segment counts.
pub(super) fn decide(disk: &Disk, bug: Option<Bug>) -> Decision {
    let Some(bytes) = disk.manifest() else { return Decision::default() };
    let manifest = Manifest::read(bytes).expect("the manifest is as it was written");
    let (incarnation, reserved) = (manifest.incarnation, manifest.clock_reserved);
    let mut decision = Decision { incarnation, reserved, ..Decision::default() };
    if bug == Some(Bug::DecisionsForgotten) {
        let openings: BTreeMap<u32, u32> = disk.segments().map(|id| (id.incarnation, manifest.shards)).collect();
        let known = manifest.sealed.iter().map(|segment| (segment.id.incarnation, segment.shards));
        for (incarnation, shards) in openings.into_iter().chain(known).collect::<BTreeMap<_, _>>() {
            seal_opening(disk, &Manifest { incarnation, shards, ..manifest.clone() }, bug, &mut decision);
        }
    } else {
        decision.sealed.clone_from(&manifest.sealed);
        if !manifest.closed {
            seal_opening(disk, &manifest, bug, &mut decision);
        }
    }
    decision.sealed.sort_unstable_by_key(|segment| segment.id);
    decision
}

/// Seals the opening that wrote a manifest.
pub(super) fn judge_opening(disk: &Disk, manifest: &Manifest) -> Opening {
    let mut sealing = Sealing::new(manifest);
    let ids: Vec<SegmentId> = disk.segments().filter(|id| id.incarnation == manifest.incarnation).collect();
    for shard in ids.chunk_by(|a, b| a.shard == b.shard) {
        let scanned: Vec<_> = shard.iter().map(|id| scan(disk, *id, None)).collect();
        sealing.add_shard(&scanned).unwrap_or_else(|damage| panic!("refused to open: {damage:?}\n{scanned:?}"));
    }
    sealing.finish()
}

/// The same, done wrong.
fn seal_opening(disk: &Disk, manifest: &Manifest, bug: Option<Bug>, decision: &mut Decision) {
    let opening = judge_opening(disk, manifest);
    decision.torn += opening.torn.len() as u64;
    decision.latest = decision.latest.max(opening.latest);
    let mut sealed = opening.sealed;
    for shard in sealed.chunk_by_mut(|a, b| a.id.shard == b.id.shard) {
        if bug == Some(Bug::CutOfOneShard) {
            let marks = shard.iter().map(|segment| scan(disk, segment.id, None).evidence.mark());
            let mark = marks.max().unwrap_or_default();
            for segment in shard.iter_mut() {
                segment.cut = mark;
            }
        }
        if bug == Some(Bug::CutIgnored) {
            for segment in shard.iter_mut() {
                segment.cut = Version::MAX;
            }
        }
        let last = shard.last_mut().filter(|last| bug == Some(Bug::LastBatchDropped) && last.end > BLOCK as u64);
        if let Some(last) = last {
            last.end -= BLOCK as u64;
        }
    }
    decision.sealed.extend(sealed);
}

/// Decides which transactions over several shards are committed, and counts those that are not.
pub(super) fn decide_transactions(disk: &Disk, sealed: &[SealedSegment]) -> (Decisions, u64) {
    let survey = |segment: &SealedSegment| Ok(scan(disk, segment.id, Some(segment.end)).evidence);
    let decided: Result<_, Infallible> = sealing::decide(sealed, survey);
    let Ok((decisions, discarded)) = decided;
    (decisions, discarded.into_values().sum())
}

fn scan(disk: &Disk, id: SegmentId, end: Option<u64>) -> ScannedSegment {
    survey(&disk.read(id), &header_of(disk, id), end)
}

pub(super) fn header_of(disk: &Disk, id: SegmentId) -> SegmentHeader {
    let header = SegmentHeader::read(disk.read_header(id)).expect("a header is whole");
    assert_eq!((header.id, header.database), (id, DATABASE), "the header is that of this segment");
    header
}

/// Builds the memories of the new shards from all that counts.
pub(super) fn build(disk: &Disk, sealed: &[SealedSegment], layout: Layout) -> Built {
    let mut built = Built { memories: Vec::new(), found: Found::new(), latest: Version::ZERO, cut: None };
    let (decisions, _) = decide_transactions(disk, sealed);
    let partitioning = Partitioning::ByRun;
    for shard in 0..layout.shards {
        let mut memory = Memory::new(layout.history);
        for segment in sealed.iter().filter(|segment| segment.concerns(shard, layout.believed, partitioning)) {
            let header = header_of(disk, segment.id);
            assert_eq!(header.salt, segment.salt, "the segment is the one the manifest names");
            let bytes = disk.read(segment.id);
            let has_moved = !segment.is_of(layout.believed, partitioning);
            let moved_from = has_moved.then_some((segment.id.shard as usize, segment.shards as usize));
            let target = Target { shard, layout: route::Layout { shards: layout.believed, partitioning }, moved_from };
            let extent = Extent { end: segment.end, cut: segment.cut, decisions: &decisions };
            let (records, latest) = match layout.bug {
                Some(bug) if bug.is_in_replay() => replay_with(bug, &bytes, &header, extent, target, &mut memory),
                _ => replay_segment(&bytes, &header, extent, target, &mut memory)
                    .unwrap_or_else(|damage| panic!("refused to open: {damage:?}")),
            };
            built.latest = built.latest.max(latest);
            if records > 0 && (shard == 0 || !has_moved) {
                let found = built.found.entry((segment.id.incarnation, segment.id.shard)).or_default();
                *found = (found.0 + records, latest);
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

/// The database has closed in good order: what the opening wrote is sealed. Returns the cut, if there is one.
pub(super) fn seal(disk: &mut Disk, mut manifest: Manifest, last: Version, cleans: bool) -> Option<Version> {
    let opening = judge_opening(disk, &manifest);
    assert_eq!(opening.torn, [], "everything was durable a moment ago");
    let cut = opening.sealed.first().map(|segment| segment.cut);
    let used: Vec<_> = opening.sealed.into_iter().filter(|segment| segment.end > BLOCK as u64).collect();
    manifest.sealed.extend(used.iter().cloned());
    manifest.closed = true;
    manifest.clock_reserved = last;
    disk.write_manifest(manifest.to_bytes());
    if cleans {
        for segment in used {
            disk.trim(segment.id, segment.end);
        }
        remove_strays(disk, &manifest);
    }
    cut
}
