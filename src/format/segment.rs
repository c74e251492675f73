//! Segments: the files of a shard's log.
//!
//! - A segment is created whole: one header block, then zeros to its capacity. Batches are written into it once.
//! - The salt is new for every segment, so that no byte of an earlier life of the file is ever taken for a record.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BLOCK, FORMAT_VERSION};
use crate::base::planted::{Bug, planted};

const MAGIC: [u8; 8] = *b"in-mem\x00L";

/// Which segment of which shard in which opening of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct SegmentId {
    /// Which opening of the database wrote it.
    pub(crate) incarnation: u32,
    /// The shard, as numbered in that opening.
    pub(crate) shard: u32,
    /// 0, 1, 2 ... in the order written.
    pub(crate) index: u32,
}

impl SegmentId {
    /// The file's name.
    pub(crate) fn file_name(self) -> String {
        format!("{:08}-{:04}-{:06}.log", self.incarnation, self.shard, self.index)
    }

    /// Reads a file's name.
    pub(crate) fn parse(file_name: &str) -> Option<Self> {
        let mut parts = file_name.strip_suffix(".log")?.split('-');
        let id = Self {
            incarnation: parts.next()?.parse().ok()?,
            shard: parts.next()?.parse().ok()?,
            index: parts.next()?.parse().ok()?,
        };
        (parts.next().is_none() && id.file_name() == file_name).then_some(id)
    }
}

/// The fixed header at the start of a segment; the rest of its block is zero.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    format: U32,
    incarnation: U32,
    shard: U32,
    index: U32,
    database: [u8; 16],
    salt: U64,
    capacity: U64,
    /// 1 = Buffered, 2 = Strict.
    durability: u8,
    reserved: [u8; 3],
    /// CRC-32C of everything before it.
    crc: U32,
}

const HEADER_BYTES: usize = size_of::<RawHeader>();
const _: () = assert!(HEADER_BYTES == 64, "the byte map in docs/FORMAT.md says so");

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) id: SegmentId,
    pub(crate) database: [u8; 16],
    pub(crate) salt: u64,
    /// Bytes of the file, header block included.
    pub(crate) capacity: u64,
    /// Whether commits in it were acknowledged only when durable.
    pub(crate) strict: bool,
}

impl SegmentHeader {
    /// The header's block.
    pub(crate) fn to_block(self) -> Vec<u8> {
        let mut raw = RawHeader {
            magic: MAGIC,
            format: FORMAT_VERSION.into(),
            incarnation: self.id.incarnation.into(),
            shard: self.id.shard.into(),
            index: self.id.index.into(),
            database: self.database,
            salt: self.salt.into(),
            capacity: self.capacity.into(),
            durability: if self.strict { 2 } else { 1 },
            reserved: [0; 3],
            crc: 0.into(),
        };
        raw.crc = crc32c::crc32c(&raw.as_bytes()[..HEADER_BYTES - 4]).into();
        let mut block = vec![0; BLOCK];
        block[..HEADER_BYTES].copy_from_slice(raw.as_bytes());
        block
    }

    /// Reads the header of a known segment; the error says what is wrong with it.
    pub(crate) fn read_of(id: SegmentId, database: &[u8; 16], block: &[u8]) -> Result<Self, String> {
        let header = Self::read(block)?;
        if planted(Bug::HeaderNotCompared) {
            return Ok(header);
        }
        if header.id != id {
            return Err("the segment's header names another segment".into());
        }
        if header.database != *database {
            return Err("the segment belongs to another database".into());
        }
        Ok(header)
    }

    /// Reads the header's block; the error says what is wrong with it.
    pub(crate) fn read(block: &[u8]) -> Result<Self, String> {
        let (raw, _) = RawHeader::read_from_prefix(block).map_err(|_| "the header is cut off".to_owned())?;
        if raw.magic != MAGIC {
            return Err("the header has another magic number".into());
        }
        let crc = crc32c::crc32c(&raw.as_bytes()[..HEADER_BYTES - 4]);
        if crc != raw.crc.get() {
            return Err(format!("the header's checksum is wrong: stored={:08x} computed={crc:08x}", raw.crc.get()));
        }
        if raw.format.get() != FORMAT_VERSION {
            return Err(format!("the format is another one: format={} known={FORMAT_VERSION}", raw.format.get()));
        }
        Ok(Self {
            id: SegmentId { incarnation: raw.incarnation.get(), shard: raw.shard.get(), index: raw.index.get() },
            database: raw.database,
            salt: raw.salt.get(),
            capacity: raw.capacity.get(),
            strict: raw.durability == 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_name_round_trip() {
        let id = SegmentId { incarnation: 7, shard: 3, index: 12 };
        let header = SegmentHeader { id, database: [9; 16], salt: 5, capacity: 1 << 20, strict: true };
        assert_eq!(SegmentHeader::read(&header.to_block()), Ok(header));
        assert_eq!(SegmentId::parse(&id.file_name()), Some(id));
        assert_eq!(SegmentId::parse("00000007-0003-000012.log.tmp"), None);
        let mut damaged = header.to_block();
        damaged[20] ^= 1;
        assert!(SegmentHeader::read(&damaged).is_err());
    }
}
