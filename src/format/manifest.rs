//! The manifest: what the database consists of.
//!
//! - It is replaced as a whole: temporary file, sync, rename, sync of the directory.
//! - Whatever a recovery decided (how far each segment counts, where the clock starts) is in it before anything is
//!   served, so that a second crash, or a late write of a dead process, cannot change the decision.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::FORMAT_VERSION;
use super::record::Position;
use super::segment::SegmentId;
use crate::base::limits::SHARDS;
use crate::base::options::Partitioning;
use crate::base::planted::{Bug, planted};
use crate::base::version::Version;

const MAGIC: [u8; 8] = *b"in-mem\x00M";

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    format: U32,
    /// CRC-32C of the body.
    crc: U32,
    length: U64,
    reserved: U64,
}

const HEADER_BYTES: usize = size_of::<RawHeader>();
const _: () = assert!(HEADER_BYTES == 32, "the byte map in docs/FORMAT.md says so");

/// How far a segment of an earlier opening counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedSegment {
    pub(crate) id: SegmentId,
    /// How many shards the opening had that wrote it, and how keys were spread over them.
    pub(crate) shards: u32,
    pub(crate) partitioning: Partitioning,
    pub(crate) salt: u64,
    /// Every byte below it is valid; nothing from it on is ever read.
    pub(crate) end: u64,
    /// Commits in it above this version do not count; `MAX` if all do.
    pub(crate) cut: Version,
    /// Whether it holds anything of transactions over several shards.
    pub(crate) has_parts: bool,
}

impl SealedSegment {
    /// Whether a new shard may own something in it: a key stays on its shard while the layout does.
    pub(crate) fn concerns(&self, shard: usize, shards: usize, partitioning: Partitioning) -> bool {
        !self.is_of(shards, partitioning) || self.id.shard as usize == shard
    }

    /// Whether the opening that wrote it had this layout.
    pub(crate) fn is_of(&self, shards: usize, partitioning: Partitioning) -> bool {
        self.shards as usize == shards && self.partitioning == partitioning
    }
}

/// A snapshot that is whole and durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    pub(crate) number: u64,
    /// It holds everything that was committed at or below this version.
    pub(crate) version: Version,
    /// How many shards there were, each of which has a file, and how keys were spread over them.
    pub(crate) shards: u32,
    pub(crate) partitioning: Partitioning,
    /// The opening that wrote it.
    pub(crate) incarnation: u32,
    /// By shard: the first segment of that opening that may hold something above the version.
    pub(crate) log_from: Vec<u32>,
    /// By shard of that opening: how far its log was durable when the snapshot was whole.
    pub(crate) durable: Vec<Position>,
    /// How many keys it holds, and how many bytes its files take.
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
}

impl SnapshotRecord {
    /// Whether a segment may hold something above the version.
    pub(crate) fn is_before(&self, id: SegmentId) -> bool {
        let first = self.log_from.get(id.shard as usize).copied().unwrap_or(0);
        id.incarnation > self.incarnation || (id.incarnation == self.incarnation && id.index >= first)
    }
}

/// What the database consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The identity of the database.
    pub(crate) database: [u8; 16],
    /// How often it was opened; the number of the opening that wrote this.
    pub(crate) incarnation: u32,
    /// How many shards that opening has.
    pub(crate) shards: u32,
    pub(crate) partitioning: Partitioning,
    /// No timestamp above it has been given out.
    pub(crate) clock_reserved: Version,
    /// Whether the opening has ended in good order: all its segments are then among the sealed ones.
    pub(crate) closed: bool,
    /// By shard: the segments of the opening. Each is durable before it is listed, and listed before anything is written
    /// to it: one that is missing is noticed.
    pub(crate) segments: Vec<Range<u32>>,
    /// The segments of earlier openings, in order.
    pub(crate) sealed: Vec<SealedSegment>,
    /// Where recovery can start from, the newest last. The log goes back to the oldest.
    pub(crate) snapshots: Vec<SnapshotRecord>,
    /// The highest number that a snapshot was given.
    pub(crate) last_snapshot: u64,
    /// Whether the log goes back to the oldest snapshot only, and not to the beginning.
    pub(crate) is_cut: bool,
}

impl Manifest {
    /// That of an opening with nothing in it yet.
    pub(crate) fn new(database: [u8; 16], incarnation: u32, shards: u32, partitioning: Partitioning) -> Self {
        Self {
            database,
            incarnation,
            shards,
            partitioning,
            clock_reserved: Version::ZERO,
            closed: false,
            segments: vec![0..0; shards as usize],
            sealed: Vec::new(),
            snapshots: Vec::new(),
            last_snapshot: 0,
            is_cut: false,
        }
    }

    /// The segments of the opening, in order.
    pub(crate) fn own_segments(&self) -> impl Iterator<Item = SegmentId> {
        let incarnation = self.incarnation;
        let of_shard = move |(shard, indexes): (u32, &Range<u32>)| {
            indexes.clone().map(move |index| SegmentId { incarnation, shard, index })
        };
        (0..).zip(&self.segments).flat_map(of_shard)
    }

    /// Whether it names a snapshot.
    pub(crate) fn names_snapshot(&self, number: u64) -> bool {
        self.snapshots.iter().any(|snapshot| snapshot.number == number)
    }

    /// How many bytes of log of earlier openings are behind the newest snapshot.
    pub(crate) fn log_bytes(&self) -> u64 {
        let newest = self.snapshots.last();
        let is_behind = |segment: &&SealedSegment| newest.is_none_or(|snapshot| snapshot.is_before(segment.id));
        self.sealed.iter().filter(is_behind).map(|segment| segment.end).sum()
    }

    /// How many segments are needed, those of earlier openings included.
    pub(crate) fn count_segments(&self) -> u64 {
        let own = self.segments.iter().map(|indexes| u64::from(indexes.end.saturating_sub(indexes.start)));
        own.sum::<u64>() + self.sealed.len() as u64
    }

    /// Cuts the log off before what the oldest snapshot needs.
    pub(crate) fn cut_log(&mut self) {
        let Some(oldest) = self.snapshots.first() else { return };
        self.sealed.retain(|segment| oldest.is_before(segment.id));
        if oldest.incarnation == self.incarnation {
            for (segments, first) in self.segments.iter_mut().zip(&oldest.log_from) {
                segments.start = segments.start.max(*first).min(segments.end);
            }
        }
        self.is_cut = true;
    }

    /// The bytes of the file.
    ///
    /// # Panics
    /// Never: plain data always encodes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).unwrap_or_else(|error| unreachable!("plain data encodes: {error}"));
        let header = RawHeader {
            magic: MAGIC,
            format: FORMAT_VERSION.into(),
            crc: crc32c::crc32c(&body).into(),
            length: (body.len() as u64).into(),
            reserved: 0.into(),
        };
        [header.as_bytes(), &body].concat()
    }

    /// Reads the bytes of the file; the error says what is wrong with them.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let (header, body) = RawHeader::read_from_prefix(bytes).map_err(|_| "the header is cut off".to_owned())?;
        if header.magic != MAGIC {
            return Err("this is no manifest of in-mem: the magic number differs".into());
        }
        if header.format.get() < FORMAT_VERSION {
            return Err(format!(
                "the database was written by a version before the first release: format={} known={FORMAT_VERSION}",
                header.format.get()
            ));
        }
        if header.format.get() > FORMAT_VERSION {
            return Err(format!(
                "the database was written by a newer version of the library: format={} known={FORMAT_VERSION}",
                header.format.get()
            ));
        }
        if header.length.get() != body.len() as u64 {
            return Err(format!("the length is wrong: stored={} actual={}", header.length.get(), body.len()));
        }
        let crc = crc32c::crc32c(body);
        if crc != header.crc.get() && !planted(Bug::ManifestChecksumIgnored) {
            return Err(format!("the checksum is wrong: stored={:08x} computed={crc:08x}", header.crc.get()));
        }
        let manifest: Self =
            postcard::from_bytes(body).map_err(|error| format!("the body is malformed: reason={error}"))?;
        manifest.check().map_err(|what| format!("the body is malformed: reason={what}"))?;
        Ok(manifest)
    }

    /// Whether anybody would write this: sizes of tables and divisors follow from it.
    fn check(&self) -> Result<(), &'static str> {
        let are_shards = |shards: u32| (1..=SHARDS).contains(&(shards as usize));
        let is_snapshot = |of: &SnapshotRecord| {
            are_shards(of.shards) && of.log_from.len() == of.shards as usize && of.durable.len() == of.log_from.len()
        };
        if !self.snapshots.iter().all(is_snapshot) {
            return Err("a snapshot of another number of shards");
        }
        if !self.snapshots.is_sorted_by(|a, b| a.number < b.number && a.version <= b.version) {
            return Err("snapshots out of order, or twice");
        }
        if self.is_cut && self.snapshots.is_empty() {
            return Err("the beginning of the log is gone, and there is no snapshot");
        }
        if self.segments.len() != self.shards as usize {
            return Err("segments of another number of shards");
        }
        if !are_shards(self.shards) || self.sealed.iter().any(|segment| !are_shards(segment.shards)) {
            return Err("a number of shards beyond the limit");
        }
        if self.sealed.iter().any(|segment| segment.id.shard >= segment.shards) {
            return Err("a segment of a shard that there was not");
        }
        if !self.sealed.is_sorted_by(|a, b| a.id < b.id) {
            return Err("segments out of order, or twice");
        }
        if self.incarnation == u32::MAX {
            return Err("no opening can follow this one");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let id = SegmentId { incarnation: 1, shard: 0, index: 0 };
        let partitioning = Partitioning::ByRun;
        let manifest = Manifest {
            clock_reserved: Version::from(99),
            closed: true,
            segments: vec![0..0, 1..3],
            sealed: vec![SealedSegment {
                id,
                shards: 2,
                partitioning,
                salt: 4,
                end: 8192,
                cut: Version::MAX,
                has_parts: true,
            }],
            snapshots: vec![SnapshotRecord {
                number: 1,
                version: Version::from(9),
                shards: 2,
                partitioning,
                incarnation: 1,
                log_from: vec![0, 3],
                durable: vec![Position::START, Position::new(3, 8192)],
                keys: 5,
                bytes: 8192,
            }],
            ..Manifest::new([3; 16], 2, 2, partitioning)
        };
        let bytes = manifest.to_bytes();
        assert_eq!(Manifest::read(&bytes), Ok(manifest));
        for at in (0..bytes.len()).filter(|at| !(24..32).contains(at)) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x80;
            assert!(Manifest::read(&damaged).is_err(), "flipped byte {at}");
            assert!(Manifest::read(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
