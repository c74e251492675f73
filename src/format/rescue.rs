//! Rescue: what is whole in a damaged segment.
//!
//! - A record proves itself: its checksum starts from the segment's salt and covers its place. So every valid record counts
//!   here, also behind damage, where a recovery refuses to go on.
//! - Behind damage the next record is found by the salt that each carries.
//! - Zeros behind a record that another one follows are damage, as long as at least that one's header.

use std::ops::Range;

use super::record::{self, HEADER_BYTES, Position, RecordHeader};
use super::scan::first_nonzero;
use super::segment::SegmentId;
use super::{BLOCK, round_up_to_block};

/// The bytes of a header before the salt, which ends it.
const BEFORE_SALT: usize = HEADER_BYTES - size_of::<u64>();

/// Calls `visit` with place, header and body of every valid record. `end` is up to where everything was written, if that is
/// known. Returns what is neither a record nor padding.
pub(crate) fn rescue_segment<'a>(
    bytes: &'a [u8],
    id: SegmentId,
    salt: u64,
    end: Option<u64>,
    mut visit: impl FnMut(u64, RecordHeader, &'a [u8]),
) -> Vec<Range<u64>> {
    let known = end.and_then(|end| usize::try_from(end).ok());
    let limit = known.unwrap_or(bytes.len()).min(bytes.len());
    let bytes = &bytes[..limit];
    let mut damage = Vec::new();
    let mut at = BLOCK;
    let mut is_followed = false;
    while at < limit {
        if let Some((record, body)) = read_at(bytes, id, salt, at) {
            is_followed = record.is_followed();
            visit(at as u64, record, body);
            at += HEADER_BYTES + body.len();
            continue;
        }
        let boundary = round_up_to_block(at).min(limit);
        if !is_followed && boundary > at && first_nonzero(bytes, at, boundary).is_none() {
            at = boundary;
            continue;
        }
        let next = next_record(bytes, id, salt, at);
        let until = match next {
            Some(next) => next,
            None if known.is_some() => limit,
            None => {
                let least = if is_followed { HEADER_BYTES } else { 0 };
                let written = bytes[at..].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                limit.min(at + written.max(least))
            }
        };
        if until > at {
            damage.push(at as u64..until as u64);
        }
        let Some(next) = next else { break };
        at = next;
    }
    match known {
        Some(known) if known > limit => damage.push(limit as u64..known as u64),
        _ => {}
    }
    damage
}

/// The salt of a segment whose header is lost: that of its first record, if it proves itself.
pub(crate) fn salt_of_first_record(bytes: &[u8], id: SegmentId) -> Option<u64> {
    let salt = bytes.get(BLOCK + BEFORE_SALT..BLOCK + HEADER_BYTES)?;
    let salt = u64::from_le_bytes(salt.try_into().ok()?);
    read_at(bytes, id, salt, BLOCK).map(|_| salt)
}

fn read_at(bytes: &[u8], id: SegmentId, salt: u64, at: usize) -> Option<(RecordHeader, &[u8])> {
    record::read(&bytes[at..], Position::new(id.index, at as u64), salt)
}

/// The first valid record behind a place.
fn next_record(bytes: &[u8], id: SegmentId, salt: u64, at: usize) -> Option<usize> {
    let salt_bytes = salt.to_le_bytes();
    let mut from = at + 1 + BEFORE_SALT;
    loop {
        let rest = bytes.get(from..)?;
        let found = from + rest.windows(salt_bytes.len()).position(|window| window == salt_bytes)?;
        let start = found - BEFORE_SALT;
        if read_at(bytes, id, salt, start).is_some() {
            return Some(start);
        }
        from = found + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::version::Version;
    use crate::format::record::{CommitBody, TransactionId};

    const ID: SegmentId = SegmentId { incarnation: 3, shard: 1, index: 2 };
    const SALT: u64 = 0x1234_5678_9abc_def1;

    /// Two batches of three records, and where each record starts.
    fn segment() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = vec![0; BLOCK];
        let mut starts = Vec::new();
        for _ in 0..2 {
            let mut batch = Vec::new();
            for _ in 0..3 {
                starts.push(bytes.len() + batch.len());
                let header = RecordHeader::commit(Version::from(starts.len() as u64), TransactionId::default());
                record::stage(&mut batch, header, &CommitBody::of(Vec::<u8>::from([7; 900]))).unwrap();
            }
            let place = Position::new(ID.index, bytes.len() as u64);
            record::seal(&mut batch, place, place, SALT);
            bytes.extend(batch);
            bytes.resize(round_up_to_block(bytes.len()), 0);
        }
        bytes.resize(8 * BLOCK, 0);
        (bytes, starts)
    }

    /// Where records are found, and where damaged places begin and end.
    fn rescued(bytes: &[u8], end: Option<u64>) -> (Vec<usize>, Vec<(u64, u64)>) {
        let mut found = Vec::new();
        let damage = rescue_segment(bytes, ID, SALT, end, |at, _, _| found.push(usize::try_from(at).unwrap()));
        (found, damage.into_iter().map(|place| (place.start, place.end)).collect())
    }

    #[test]
    fn every_record_but_the_damaged_one_is_found_wherever_it_stands() {
        let (sound, starts) = segment();
        assert_eq!(rescued(&sound, None), (starts.clone(), vec![]));
        assert_eq!(salt_of_first_record(&sound, ID), Some(SALT));
        for (number, start) in starts.iter().enumerate() {
            for offset in [0, 5, 20, BEFORE_SALT, HEADER_BYTES + 50] {
                let mut bytes = sound.clone();
                bytes[start + offset] ^= 0x40;
                let (found, damage) = rescued(&bytes, None);
                let mut expected = starts.clone();
                expected.remove(number);
                assert_eq!(found, expected, "record {number} offset {offset}");
                assert_eq!(damage.len(), 1);
                assert_eq!(damage[0].0, *start as u64);
            }
        }
    }

    #[test]
    fn what_is_missing_behind_a_record_that_is_not_the_last_of_its_batch_is_damage() {
        let (mut bytes, starts) = segment();
        for (missing, found) in [(starts[2]..2 * BLOCK, 5), (starts[5]..3 * BLOCK, 4)] {
            let header = (starts[5], starts[5] + HEADER_BYTES);
            bytes[missing.clone()].fill(0);
            let (records, damage) = rescued(&bytes, None);
            assert_eq!(records.len(), found);
            let mut expected = vec![(starts[2], starts[3]), header];
            expected.truncate(starts.len() - found);
            assert_eq!(damage, expected.iter().map(|(from, to)| (*from as u64, *to as u64)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_missing_below_a_known_end_is_damage() {
        let (bytes, starts) = segment();
        let end = 3 * BLOCK as u64;
        assert_eq!(rescued(&bytes, Some(end)), (starts.clone(), vec![]));
        let short = &bytes[..2 * BLOCK];
        assert_eq!(rescued(short, Some(end)), (starts[..3].to_vec(), vec![(2 * BLOCK as u64, end)]));
        let mut erased = bytes.clone();
        erased[2 * BLOCK..3 * BLOCK].fill(0);
        assert_eq!(rescued(&erased, Some(end)), (starts[..3].to_vec(), vec![(2 * BLOCK as u64, end)]));
        assert_eq!(rescued(&erased, None), (starts[..3].to_vec(), vec![]), "nobody knows that there was more");
    }
}
