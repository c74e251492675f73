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
use crate::shard::decisions::{Decisions, Evidence, cut_of};
use crate::shard::replay::{Extent, ScannedSegment, Target, judge, replay_segment, survey};
use crate::shard::route;
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

/// Judges the segments of the opening that wrote a manifest.
fn seal_opening(disk: &Disk, manifest: &Manifest, bug: Option<Bug>, decision: &mut Decision) {
    let ids: Vec<SegmentId> = disk.segments().filter(|id| id.incarnation == manifest.incarnation).collect();
    let mut marks = vec![Version::ZERO; manifest.shards as usize];
    let mut is_buffered = false;
    let mut sealed = Vec::new();
    for shard in ids.chunk_by(|a, b| a.shard == b.shard) {
        let headers: Vec<SegmentHeader> = shard.iter().map(|id| header_of(disk, *id)).collect();
        is_buffered |= headers.iter().any(|header| !header.strict);
        let surveyed = headers.iter().map(|header| survey(&disk.read(header.id), header, None));
        let surveyed: Vec<ScannedSegment> = surveyed.collect();
        let judgement = judge(&surveyed).unwrap_or_else(|damage| panic!("refused to open: {damage:?}\n{surveyed:?}"));
        decision.torn += u64::from(judgement.torn.is_some());
        decision.latest = decision.latest.max(judgement.latest);
        let mark = surveyed.iter().map(|segment| segment.evidence.mark()).max().unwrap_or_default();
        marks[shard[0].shard as usize] = mark;
        for ((header, segment), end) in headers.iter().zip(&surveyed).zip(judgement.ends) {
            sealed.push(SealedSegment {
                id: header.id,
                shards: manifest.shards,
                partitioning: manifest.partitioning,
                salt: header.salt,
                end,
                cut: if bug == Some(Bug::CutOfOneShard) { mark } else { Version::MAX },
                has_parts: segment.evidence.has_parts(),
            });
        }
        if let Some(last) =
            sealed.last_mut().filter(|last| bug == Some(Bug::LastBatchDropped) && last.end > BLOCK as u64)
        {
            last.end -= BLOCK as u64;
        }
    }
    if is_buffered && !matches!(bug, Some(Bug::CutIgnored | Bug::CutOfOneShard)) {
        let cut = cut_of(marks.into_iter());
        sealed.iter_mut().for_each(|segment| segment.cut = cut);
    }
    decision.sealed.extend(sealed);
}

/// Decides which transactions over several shards are committed.
fn decide_transactions(disk: &Disk, sealed: &[SealedSegment]) -> Decisions {
    let mut decisions = Decisions::default();
    for opening in sealed.chunk_by(|a, b| a.id.incarnation == b.id.incarnation) {
        let with_parts = opening.iter().filter(|segment| segment.has_parts);
        let evidence = with_parts.map(|segment| {
            let header = header_of(disk, segment.id);
            survey(&disk.read(segment.id), &header, Some(segment.end)).evidence
        });
        let evidence: Vec<Evidence> = evidence.collect();
        decisions.add(&evidence, opening[0].cut);
    }
    decisions
}

fn header_of(disk: &Disk, id: SegmentId) -> SegmentHeader {
    let header = SegmentHeader::read(disk.read_header(id)).expect("a header is whole");
    assert_eq!((header.id, header.database), (id, DATABASE), "the header is that of this segment");
    header
}

/// Builds the memories of the new shards from all that counts.
pub(super) fn build(disk: &Disk, sealed: &[SealedSegment], layout: Layout) -> Built {
    let mut built = Built { memories: Vec::new(), found: Found::new(), latest: Version::ZERO, cut: None };
    let decisions = decide_transactions(disk, sealed);
    let partitioning = Partitioning::ByRun;
    for shard in 0..layout.shards {
        let mut memory = Memory::new(layout.history);
        for segment in sealed.iter().filter(|segment| segment.concerns(shard, layout.believed, partitioning)) {
            let header = header_of(disk, segment.id);
            assert_eq!(header.salt, segment.salt, "the segment is the one the manifest names");
            let bytes = disk.read(segment.id);
            let has_moved = !segment.is_of(layout.believed, partitioning);
            let moved_from = has_moved.then_some((segment.id.shard as usize, segment.shards as usize));
            let target =
                Target { shard, layout: route::Layout { shards: layout.believed, partitioning }, moved_from };
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

/// The database has closed: what the opening wrote is sealed.
pub(super) fn seal(disk: &mut Disk, mut manifest: Manifest, last: Version, cleans: bool) {
    let incarnation = manifest.incarnation;
    let ours = |id: SegmentId| id.incarnation == incarnation;
    let mut decision = Decision::default();
    seal_opening(disk, &manifest, None, &mut decision);
    assert_eq!(decision.torn, 0, "everything was durable a moment ago");
    manifest.sealed.extend(decision.sealed.into_iter().filter(|segment| segment.end > BLOCK as u64));
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
