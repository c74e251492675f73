//! Recovery of the fake disk, step by step as `runtime/recovery.rs` and the keeper do it on files.
//!
//! - Judge the last opening, decide about its transactions, build the memories, write the manifest, only then serve.

use super::super::disk::Disk;
use crate::base::options::HistoryRetention;
use crate::base::version::Version;
use crate::format::BLOCK;
use crate::format::manifest::{Manifest, SealedSegment};
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::shard::decisions::{Decisions, cut_of};
use crate::shard::replay::{Extent, Target, judge, replay_segment, survey};
use crate::shard::route::Layout;
use crate::store::memory::Memory;

/// What every segment is stamped with.
pub(super) const DATABASE: [u8; 16] = [0xda; 16];

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
        judged.torn = opening.torn;
    }
    judged.sealed.sort_unstable_by_key(|segment| segment.id);
    judged
}

/// Decides how far the segments of the opening that wrote the manifest count.
pub(super) fn judge_opening(disk: &Disk, manifest: &Manifest) -> Judged {
    let mut judged = Judged::default();
    let ids: Vec<SegmentId> = disk.segments().filter(|id| id.incarnation == manifest.incarnation).collect();
    let mut marks = vec![Version::ZERO; manifest.shards as usize];
    let mut is_buffered = false;
    for shard in ids.chunk_by(|a, b| a.shard == b.shard) {
        let headers: Vec<SegmentHeader> = shard.iter().map(|id| header_of(disk, *id)).collect();
        is_buffered |= headers.iter().any(|header| !header.strict);
        let scanned: Vec<_> =
            shard.iter().zip(&headers).map(|(id, header)| survey(&disk.read(*id), header, None)).collect();
        let judgement = judge(&scanned).unwrap_or_else(|damage| panic!("refused to open: {damage:?}"));
        judged.torn += u64::from(judgement.torn.is_some());
        judged.latest = judged.latest.max(judgement.latest);
        marks[shard[0].shard as usize] =
            scanned.iter().map(|segment| segment.evidence.mark()).max().unwrap_or_default();
        for ((segment, header), end) in scanned.iter().zip(&headers).zip(judgement.ends) {
            judged.sealed.push(SealedSegment {
                id: segment.id,
                shards: manifest.shards,
                partitioning: manifest.partitioning,
                salt: header.salt,
                end,
                cut: Version::MAX,
                has_parts: segment.evidence.has_parts(),
            });
        }
    }
    if is_buffered {
        let cut = cut_of(marks.into_iter());
        judged.sealed.iter_mut().for_each(|segment| segment.cut = cut);
    }
    judged
}

fn header_of(disk: &Disk, id: SegmentId) -> SegmentHeader {
    let header = SegmentHeader::read(disk.read_header(id)).expect("a header is whole");
    assert_eq!((header.id, header.database), (id, DATABASE), "the header is that of this segment");
    header
}

/// Decides which transactions over several shards are committed, and counts those that are not.
pub(super) fn decide(disk: &Disk, sealed: &[SealedSegment]) -> (Decisions, u64) {
    let mut decisions = Decisions::default();
    let mut discarded = 0;
    for opening in sealed.chunk_by(|a, b| a.id.incarnation == b.id.incarnation) {
        let with_parts = opening.iter().filter(|segment| segment.has_parts);
        let evidence: Vec<_> = with_parts
            .map(|segment| survey(&disk.read(segment.id), &header_of(disk, segment.id), Some(segment.end)).evidence)
            .collect();
        discarded += decisions.add(&evidence, opening[0].cut);
    }
    (decisions, discarded)
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
    assert_eq!(opening.torn, 0, "everything was durable a moment ago");
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
