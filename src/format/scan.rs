//! Scanning: reading the records of a segment back.
//!
//! - Batches start on block boundaries. Behind the last record of one, which says that it is, the rest of its last block
//!   is padding if it is all zero, and the next block boundary is looked at.
//! - The scan ends at the first block boundary without a valid record. Whether that is the end of the log, a torn
//!   tail or corruption is decided above, by the highest position any valid record knows to be durable; so the scan
//!   looks on, behind the end, for records that know more.

use zerocopy::FromBytes;

use super::record::{self, Position, RecordHeader};
use super::segment::SegmentHeader;
use super::{BLOCK, round_up_to_block};
use crate::base::planted::{Bug, planted};

/// The unit that a device writes as a whole.
const SECTOR: usize = 512;

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentScan {
    /// The offset behind the last batch of valid records: a multiple of the block.
    pub(crate) end: u64,
    /// The first byte that is neither part of a record nor padding, if any.
    pub(crate) damage: Option<u64>,
    /// Whether the damage can be a tear: a sector of the bad record was never written.
    pub(crate) may_be_torn: bool,
    /// The highest position that any valid record knew to be durable, records behind the damage included.
    pub(crate) durable: Position,
    /// What the first record knew to be durable: the end of the segment before.
    pub(crate) before: Option<Position>,
}

/// Calls `visit` for every valid record of a segment, in order, up to `limit` bytes or the first bad one.
pub(crate) fn scan_segment<'a>(
    bytes: &'a [u8],
    header: &SegmentHeader,
    limit: Option<u64>,
    mut visit: impl FnMut(u64, RecordHeader, &'a [u8]),
) -> SegmentScan {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(bytes.len()).min(bytes.len());
    let place = |offset: usize| Position::new(header.id.index, offset as u64);
    let mut scan =
        SegmentScan { end: BLOCK as u64, damage: None, may_be_torn: false, durable: Position::START, before: None };
    let mut at = BLOCK;
    let mut is_followed = false;
    while at < limit {
        if let Some((record, body)) = record::read(&bytes[at..limit], place(at), header.salt) {
            is_followed = record.is_followed() && !planted(Bug::BatchEndIgnored);
            scan.durable = scan.durable.max(record.durable());
            scan.before.get_or_insert(record.durable());
            visit(at as u64, record, body);
            at += record::HEADER_BYTES + body.len();
            scan.end = round_up_to_block(at) as u64;
            continue;
        }
        let boundary = round_up_to_block(at).min(limit);
        if planted(Bug::BadRecordSkipped) {
            at = round_up_to_block(at + 1);
            continue;
        }
        // What looks like padding in the middle of a batch is a hole in it.
        if is_followed {
            scan.damage = Some(at as u64);
            break;
        }
        if boundary == at {
            if let Some(byte) = first_nonzero(bytes, at, limit) {
                scan.damage = Some(byte as u64);
            }
            break;
        }
        if let Some(byte) = first_nonzero(bytes, at, boundary) {
            scan.damage = Some(byte as u64);
            break;
        }
        at = boundary;
    }
    if scan.damage.is_some() {
        scan.may_be_torn |= has_unwritten_sector(bytes, at);
        look_behind(bytes, at, header, &mut scan);
    }
    scan
}

/// Whether a sector of the bad record at `at` is still zero: segments are zeros before they are written, and nothing is
/// written twice, so a record all of whose sectors were written was whole once.
fn has_unwritten_sector(bytes: &[u8], at: usize) -> bool {
    let Ok((header, _)) = RecordHeader::read_from_prefix(&bytes[at..]) else { return true };
    let end = at.saturating_add(record::HEADER_BYTES).saturating_add(header.length.get() as usize);
    let end = end.min(bytes.len()).next_multiple_of(SECTOR).min(bytes.len());
    bytes[at / SECTOR * SECTOR..end].chunks(SECTOR).any(|sector| sector.iter().all(|&byte| byte == 0))
}

/// Looks at every block boundary behind `from` for records that know what was durable.
fn look_behind(bytes: &[u8], from: usize, header: &SegmentHeader, scan: &mut SegmentScan) {
    let mut at = round_up_to_block(from + 1);
    while at < bytes.len() {
        let position = Position::new(header.id.index, at as u64);
        if let Some((record, _)) = record::read(&bytes[at..], position, header.salt) {
            scan.durable = scan.durable.max(record.durable());
        }
        at += BLOCK;
    }
}

pub(super) fn first_nonzero(bytes: &[u8], from: usize, to: usize) -> Option<usize> {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut blocks = bytes[from..to].chunks(BLOCK).zip((from..).step_by(BLOCK));
    // Compared as a whole first: most of a segment is zeros.
    let (block, start) = blocks.find(|(block, _)| **block != ZEROS[..block.len()])?;
    block.iter().position(|&byte| byte != 0).map(|at| start + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::version::Version;
    use crate::format::record::{CommitBody, TransactionId};
    use crate::format::segment::SegmentId;

    fn header() -> SegmentHeader {
        let id = SegmentId { incarnation: 1, shard: 0, index: 2 };
        SegmentHeader { id, database: [0; 16], salt: 42, capacity: 16 * BLOCK as u64, strict: true }
    }

    /// A segment with three batches of two records each.
    fn segment() -> (Vec<u8>, Vec<u64>) {
        let mut bytes = header().to_block();
        let mut ends = vec![];
        let mut durable = Position::START;
        for number in 0..3_u64 {
            let mut batch = vec![];
            for _ in 0..2 {
                let record = RecordHeader::commit(Version::from(number + 1), TransactionId::default());
                record::stage(&mut batch, record, &CommitBody::of(Vec::<u8>::from([7; 900]))).unwrap();
            }
            record::seal(&mut batch, Position::new(2, bytes.len() as u64), durable, 42);
            bytes.extend_from_slice(&batch);
            bytes.resize(round_up_to_block(bytes.len()), 0);
            ends.push(bytes.len() as u64);
            durable = Position::new(2, bytes.len() as u64);
        }
        bytes.resize(16 * BLOCK, 0);
        (bytes, ends)
    }

    fn scan(bytes: &[u8]) -> (usize, SegmentScan) {
        let mut count = 0;
        let scan = scan_segment(bytes, &header(), None, |_, _, _| count += 1);
        (count, scan)
    }

    #[test]
    fn every_record_is_found_and_padding_is_no_damage() {
        let (bytes, ends) = segment();
        let (count, scan) = scan(&bytes);
        assert_eq!((count, scan.end, scan.damage), (6, ends[2], None));
        assert_eq!(scan.durable, Position::new(2, ends[1]));
    }

    #[test]
    fn damage_in_the_middle_is_seen_together_with_the_durable_position_behind_it() {
        let (mut bytes, ends) = segment();
        let at = usize::try_from(ends[0]).unwrap() + 100;
        bytes[at] ^= 1;
        let (count, scan) = scan(&bytes);
        assert_eq!((count, scan.end), (2, ends[0]));
        assert_eq!(scan.damage, Some(ends[0]));
        assert_eq!(scan.durable, Position::new(2, ends[1]), "the third batch knows that the second was durable");
    }

    #[test]
    fn a_hole_in_a_torn_batch_is_no_padding() {
        let mut batch = vec![];
        for bytes in [444, 3516, 40] {
            let record = RecordHeader::commit(Version::from(1), TransactionId::default());
            record::stage(&mut batch, record, &CommitBody::of(vec![7_u8; bytes])).unwrap();
        }
        record::seal(&mut batch, Position::new(2, BLOCK as u64), Position::START, 42);
        let mut bytes = header().to_block();
        bytes.extend_from_slice(&batch);
        bytes.resize(16 * BLOCK, 0);
        assert_eq!(scan(&bytes).0, 3);
        // The second record fills sectors 1 to 7 of its block, and none of them was written.
        bytes[BLOCK + 512..2 * BLOCK].fill(0);
        let (count, scan) = scan(&bytes);
        assert_eq!((count, scan.end, scan.damage), (1, 2 * BLOCK as u64, Some(BLOCK as u64 + 512)));
        assert!(scan.may_be_torn);
    }

    #[test]
    fn a_flipped_byte_in_the_last_batch_is_no_tear() {
        let (mut bytes, ends) = segment();
        let at = usize::try_from(ends[1]).unwrap() + 300;
        bytes[at] ^= 1;
        let (_, scan) = scan(&bytes);
        assert_eq!((scan.damage, scan.may_be_torn), (Some(ends[1]), false));
    }

    #[test]
    fn a_torn_last_batch_is_not_known_to_be_durable() {
        let (mut bytes, ends) = segment();
        let at = usize::try_from(ends[1]).unwrap() + 500;
        bytes[at..].fill(0);
        let (count, scan) = scan(&bytes);
        assert_eq!((count, scan.damage), (4, Some(ends[1])));
        assert!(scan.durable <= Position::new(2, ends[1]));
        assert!(scan.may_be_torn);
    }
}
