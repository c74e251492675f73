//! Sealing: how far the segments of one opening count, and what of it is committed.
//!
//! - Pure: from what was read. Recovery, the keeper at a close and the simulator seal with this.
//! - In a `Buffered` opening every segment has the opening's cut; a shard without a mark holds it at zero.

use std::collections::BTreeMap;

use super::decisions::{Decisions, Evidence, cut_of};
use super::replay::{Damage, ScannedSegment, judge};
use crate::base::planted::{Bug, planted};
use crate::base::version::Version;
use crate::format::BLOCK;
use crate::format::manifest::{Manifest, SealedSegment};
use crate::format::record::Position;
use crate::format::segment::SegmentId;

/// What the segments of one opening come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening {
    /// How far each segment counts.
    pub(crate) sealed: Vec<SealedSegment>,
    /// Torn tails, at most one a shard.
    pub(crate) torn: Vec<(SegmentId, u64)>,
    /// The highest version in them.
    pub(crate) latest: Version,
}

/// Seals the opening that wrote a manifest, shard by shard.
#[derive(Debug)]
pub(crate) struct Sealing<'a> {
    manifest: &'a Manifest,
    opening: Opening,
    marks: Vec<Version>,
    is_buffered: bool,
}

impl<'a> Sealing<'a> {
    pub(crate) fn new(manifest: &'a Manifest) -> Self {
        let marks = vec![Version::ZERO; manifest.shards as usize];
        Self { manifest, opening: Opening::default(), marks, is_buffered: false }
    }

    /// Adds the segments of one shard, in order.
    ///
    /// # Errors
    /// The first damage that is no torn tail.
    pub(crate) fn add_shard(&mut self, scanned: &[ScannedSegment]) -> Result<(), Damage> {
        let shard = scanned.first().map_or(0, |segment| segment.id.shard as usize);
        let first = self.manifest.segments.get(shard).map_or(0, |segments| segments.start);
        let newest = self.manifest.snapshots.last().filter(|newest| newest.incarnation == self.manifest.incarnation);
        let known = newest.and_then(|newest| newest.durable.get(shard)).copied().unwrap_or(Position::START);
        let judgement = judge(first, known, scanned)?;
        self.opening.torn.extend(judgement.torn);
        self.opening.latest = self.opening.latest.max(judgement.latest);
        let last = scanned.len().saturating_sub(1);
        for (at, (segment, mut end)) in scanned.iter().zip(judgement.ends).enumerate() {
            if planted(Bug::LastBatchDropped) && at == last && end > BLOCK as u64 {
                end -= BLOCK as u64;
            }
            self.is_buffered |= !segment.strict;
            if let Some(mark) = self.marks.get_mut(segment.id.shard as usize) {
                *mark = segment.evidence.mark().max(*mark);
            }
            self.opening.sealed.push(SealedSegment {
                id: segment.id,
                shards: self.manifest.shards,
                partitioning: self.manifest.partitioning,
                salt: segment.salt,
                end,
                cut: Version::MAX,
                has_parts: segment.evidence.has_parts(),
            });
        }
        Ok(())
    }

    /// All shards are there.
    pub(crate) fn finish(mut self) -> Opening {
        if self.is_buffered {
            let cut = cut_of(self.marks.iter().copied());
            for segment in &mut self.opening.sealed {
                let own = self.marks.get(segment.id.shard as usize).filter(|_| planted(Bug::CutOfOneShard));
                segment.cut = own.copied().unwrap_or(cut);
            }
        }
        self.opening
    }
}

/// Decides which transactions over several shards are committed, opening by opening, and counts by opening those that
/// are not. `survey` reads what a segment says about them, up to its end.
///
/// # Errors
/// Those of `survey`.
pub(crate) fn decide<E>(
    sealed: &[SealedSegment],
    mut survey: impl FnMut(&SealedSegment) -> Result<Evidence, E>,
) -> Result<(Decisions, BTreeMap<u32, u64>), E> {
    let mut decisions = Decisions::default();
    let mut discarded = BTreeMap::new();
    for opening in sealed.chunk_by(|a, b| a.id.incarnation == b.id.incarnation) {
        let with_parts = opening.iter().filter(|segment| segment.has_parts);
        let evidence = with_parts.map(&mut survey).collect::<Result<Vec<Evidence>, E>>()?;
        discarded.insert(opening[0].id.incarnation, decisions.add(&evidence, opening[0].cut));
    }
    Ok((decisions, discarded))
}
