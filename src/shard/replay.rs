//! Replay: from segments back to memory.
//!
//! - A bad record is a torn tail only behind every position that any record knows to be durable, and only if a sector
//!   of it was never written. At or below it, it is
//!   corruption, and the database does not open.
//! - Segments of an earlier opening count exactly as far as the manifest says, whatever is behind that.
//! - A pure function of the bytes: the same segments give the same memory.

use super::decisions::{Decisions, Evidence};
use super::route::Layout;
use crate::base::planted::{Bug, planted};
use crate::base::stored::Write;
use crate::base::version::Version;
use crate::format::record::{self, CommitBody, Position, RecordHeader, RecordKind};
use crate::format::scan::{SegmentScan, scan_segment};
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::primitive::digest::{self, Links};
use crate::primitive::{index, lineage};
use crate::store::backlog::Backlog;

/// A place in a segment and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) segment: SegmentId,
    pub(crate) offset: u64,
    pub(crate) what: String,
}

/// How much a judged log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// How far each segment counts, in order.
    pub(crate) ends: Vec<u64>,
    /// The segment and the offset of a torn tail that was cut off.
    pub(crate) torn: Option<(SegmentId, u64)>,
    /// The highest timestamp in any valid record.
    pub(crate) latest: Version,
}

/// What is known of one segment after its scan.
#[derive(Clone, Debug)]
pub(crate) struct ScannedSegment {
    pub(crate) id: SegmentId,
    pub(crate) salt: u64,
    /// Whether commits in it were acknowledged only when durable.
    pub(crate) strict: bool,
    pub(crate) scan: SegmentScan,
    /// How many valid records there are.
    pub(crate) records: u64,
    pub(crate) latest: Version,
    pub(crate) evidence: Evidence,
}

/// Scans a segment, up to its end if that is known, without keeping what is committed in it.
pub(crate) fn survey(bytes: &[u8], header: &SegmentHeader, end: Option<u64>) -> ScannedSegment {
    let (mut records, mut latest) = (0, Version::ZERO);
    let mut evidence = Evidence::default();
    let scan = scan_segment(bytes, header, end, |offset, record, body| {
        records += 1;
        latest = latest.max(record.version());
        evidence.note(offset, &record, body);
    });
    ScannedSegment { id: header.id, salt: header.salt, strict: header.strict, scan, records, latest, evidence }
}

/// Decides how far the log of one shard counts, from all its segments in order; `first` is the one it begins with,
/// `known` a position that was durable.
///
/// # Errors
/// The first damage that is no torn tail.
pub(crate) fn judge(first: u32, known: Position, segments: &[ScannedSegment]) -> Result<Judgement, Damage> {
    let durable = segments.iter().map(|segment| segment.scan.durable).fold(known, Position::max);
    let mut judgement = Judgement::default();
    for (at, (expected, segment)) in (first..).zip(segments).enumerate() {
        let damage = |offset: u64, what: String| Damage { segment: segment.id, offset, what };
        if segment.id.index != expected {
            return Err(damage(0, format!("segment {expected} before it is missing")));
        }
        if let Some((offset, what)) = &segment.evidence.malformed {
            return Err(damage(*offset, what.clone()));
        }
        if judgement.torn.is_some() {
            if segment.scan.end > crate::format::BLOCK as u64 || segment.scan.damage.is_some() {
                return Err(damage(0, "records follow a torn batch in the segment before it".into()));
            }
            judgement.ends.push(segment.scan.end);
            continue;
        }
        // A batch can be torn inside the block that its last whole record ends in: that block does not count to its end.
        let end = segment.scan.damage.map_or(segment.scan.end, |offset| segment.scan.end.min(offset));
        let ignores = planted(Bug::DurableIgnored);
        if Position::new(segment.id.index, end) < durable && segment.id.index == durable.segment() && !ignores {
            let at = segment.scan.damage.unwrap_or(segment.scan.end);
            return Err(damage(
                at,
                format!(
                    "a record that was durable is damaged or missing, restore a backup or salvage the rest: durable={}",
                    durable.offset()
                ),
            ));
        }
        let told = segments.get(at + 1).and_then(|next| next.scan.before);
        if let Some(told) = told.filter(|told| told.segment() == segment.id.index && told.offset() != segment.scan.end)
        {
            let what = format!("the segment ends early, the next one knows its end: end={}", told.offset());
            return Err(damage(segment.scan.end, what));
        }
        if let Some(offset) = segment.scan.damage {
            if segment.id.index < durable.segment() && !ignores {
                return Err(damage(offset, "a record in a finished segment is damaged".into()));
            }
            if !segment.scan.may_be_torn && !ignores && !planted(Bug::WholeRecordTorn) {
                return Err(damage(offset, "a record that was written whole is damaged".into()));
            }
            judgement.torn = Some((segment.id, offset));
        }
        judgement.ends.push(if planted(Bug::TornTailKept) { segment.scan.end } else { end });
        judgement.latest = judgement.latest.max(segment.latest);
    }
    Ok(judgement)
}

/// Which of the new shards a replay is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) shard: usize,
    pub(crate) layout: Layout,
    /// If the segment is of another layout: which of how many shards wrote it.
    pub(crate) moved_from: Option<(usize, usize)>,
    /// Whether all of a run is on one shard, in this layout and in the segment's.
    pub(crate) by_run: bool,
}

/// What counts in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent<'a> {
    /// Every byte below it is valid; nothing from it on is read.
    pub(crate) end: u64,
    /// Commits at or below it are in the snapshot.
    pub(crate) above: Version,
    /// Commits above it do not count.
    pub(crate) cut: Version,
    /// Which transactions over several shards are committed.
    pub(crate) decisions: &'a Decisions,
}

/// Applies what is committed in a segment to the memory of one of the new shards. Returns how many records counted and
/// the highest version in any.
///
/// # Errors
/// The first byte below the end that is not as written; or where it was noticed that one that waited in the backlog was not.
pub(crate) fn replay_segment(
    bytes: &[u8],
    header: &SegmentHeader,
    extent: Extent<'_>,
    target: Target,
    backlog: &mut Backlog,
) -> Result<(u64, Version), Damage> {
    let damage = |offset: u64, what: String| Damage { segment: header.id, offset, what };
    let end = extent.end;
    let mut records = 0;
    let mut latest = Version::ZERO;
    let mut bad = None;
    let mut writes = Vec::new();
    let limit = Some(end).filter(|_| !planted(Bug::TailTrusted));
    let scan = scan_segment(bytes, header, limit, |offset, record, body| {
        if bad.is_some() {
            return;
        }
        latest = latest.max(record.version());
        match replay_record(&record, body, extent, target, &mut writes, backlog) {
            Ok(counts) => records += u64::from(counts),
            Err(what) => bad = Some(damage(offset, what)),
        }
    });
    if let Some(damage) = bad {
        return Err(damage);
    }
    if scan.end < end || (scan.damage.is_some() && limit.is_some()) {
        let at = scan.damage.unwrap_or(scan.end);
        return Err(damage(
            at,
            format!("a record below the durable end is damaged, restore a backup or salvage the rest: end={end}"),
        ));
    }
    Ok((records, latest))
}

/// Returns whether the record is of something that is committed.
fn replay_record(
    record: &RecordHeader,
    body: &[u8],
    extent: Extent<'_>,
    target: Target,
    writes: &mut Vec<Write>,
    backlog: &mut Backlog,
) -> Result<bool, String> {
    let ignores_cut = planted(Bug::CutIgnoredAtRecovery) && target.shard == 0;
    let mut decided_reads = None;
    let (version, body) = match record.kind() {
        Some(RecordKind::Commit) => {
            (Some(record.version()).filter(|version| *version <= extent.cut || ignores_cut), body)
        }
        Some(RecordKind::Part) => {
            let (_, rest) = record::decode_part_head(body).map_err(|error| error.to_string())?;
            let decided = extent.decisions.of(record.transaction());
            decided_reads = decided.and_then(|decided| decided.reads.clone());
            let version = decided.map(|decided| decided.version);
            (version.map(|version| if planted(Bug::OwnTimestamp) { record.version() } else { version }), rest)
        }
        Some(RecordKind::Abort | RecordKind::Mark) => return Ok(false),
        None => return Err(format!("a record of an unknown kind: kind={}", record.kind)),
    };
    let Some(version) = version.filter(|version| *version > extent.above) else { return Ok(false) };
    let CommitBody { links, reads, .. } = record::decode_writes(body, writes).map_err(|error| error.to_string())?;
    let is_whole = target.by_run || target.moved_from.is_none();
    let links = digest::runs_of(writes).into_iter().zip(links).collect();
    if let Some(source) = target.moved_from {
        let taken_over = |write| target.layout.taken_over(target.shard, write, source);
        *writes = writes.drain(..).filter_map(taken_over).collect();
    }
    let runs = digest::runs_of(writes);
    let links = if is_whole { digest::logged(backlog.memory(), writes, version, &links) } else { Links::new() };
    let count = if planted(Bug::HalfCommit) { 1 } else { usize::MAX };
    for mut write in writes.drain(..).take(count) {
        match &mut write {
            Write::Delete { .. } if planted(Bug::DeletesForgotten) => continue,
            Write::Put { expires, .. } if planted(Bug::ExpiryForgotten) => *expires = None,
            _ => {}
        }
        index::enqueue(backlog, write, version)?;
    }
    lineage::note(backlog.memory(), version, runs, reads.or(decided_reads).as_ref());
    digest::note(backlog.memory(), version, links);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::BLOCK;
    use crate::format::record::TransactionId;

    const HEADER: SegmentHeader = SegmentHeader {
        id: SegmentId { incarnation: 1, shard: 0, index: 0 },
        database: [0; 16],
        salt: 42,
        capacity: 4 * BLOCK as u64,
        strict: true,
    };

    fn append(bytes: &mut Vec<u8>, records: u64) {
        let start = bytes.len();
        let mut batch = Vec::new();
        for number in 0..records {
            let record = RecordHeader::commit(Version::from(start as u64 + number), TransactionId::default());
            record::stage(&mut batch, record, &CommitBody::of(Vec::<u8>::new())).unwrap();
        }
        let place = Position::new(0, start as u64);
        record::seal(&mut batch, place, place, HEADER.salt);
        bytes.extend_from_slice(&batch);
        bytes.resize(start + BLOCK, 0);
    }

    /// A batch of two records, then one of one. The length of the second record is damaged: it reaches into zeros, as if
    /// it had never been written whole. The third knows better, though it starts in the very block up to which the first
    /// reaches.
    #[test]
    fn the_rest_of_a_batch_that_a_later_one_knows_to_be_durable_is_no_torn_tail() {
        let mut bytes = HEADER.to_block();
        append(&mut bytes, 2);
        append(&mut bytes, 1);
        bytes.resize(4 * BLOCK, 0);
        let sound = survey(&bytes, &HEADER, None);
        assert_eq!(judge(0, Position::START, std::slice::from_ref(&sound)).unwrap().ends, [3 * BLOCK as u64]);
        let (_, first) = record::read(&bytes[BLOCK..], Position::new(0, BLOCK as u64), HEADER.salt).unwrap();
        let second = BLOCK + record::HEADER_BYTES + first.len();
        bytes[second + 5] ^= 0x10;
        let scanned = survey(&bytes, &HEADER, None);
        assert!(scanned.scan.may_be_torn);
        let damage = judge(0, Position::START, &[scanned]).unwrap_err();
        assert_eq!(damage.offset, second as u64, "{}", damage.what);
    }
}
