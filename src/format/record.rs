//! Records: what a shard's log is made of.
//!
//! - A record is a 64-byte header and a body. The CRC-32C covers the header behind it and the body, and starts from
//!   the segment's salt, so that bytes of a recycled segment, or bytes meant for another place, fail.
//! - `position`, `durable` and `is_last` are filled in when the batch is sealed: only then is the place known, and that no
//!   more follows.
//! - `durable` is a position known to be on disk when the record was written. Damage below it is corruption.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::seeded_checksum;
use crate::base::commit_digest::Link;
use crate::base::error::{Error, Result};
use crate::base::lineage::ReadSet;
use crate::base::planted::{Bug, planted};
use crate::base::stored::Write;
use crate::base::version::Version;

/// The size of a record's header.
pub(crate) const HEADER_BYTES: usize = size_of::<RecordHeader>();
const _: () = assert!(HEADER_BYTES == 64, "the byte map in docs/FORMAT.md says so");

/// A place in a shard's log: the segment and the offset in it, ordered as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Position(u64);

impl Position {
    const OFFSET_BITS: u32 = 40;
    /// Before everything.
    pub(crate) const START: Self = Self(0);

    pub(crate) const fn new(segment: u32, offset: u64) -> Self {
        Self(((segment as u64) << Self::OFFSET_BITS) | offset)
    }

    pub(crate) const fn segment(self) -> u32 {
        (self.0 >> Self::OFFSET_BITS) as u32
    }

    pub(crate) const fn offset(self) -> u64 {
        self.0 & ((1 << Self::OFFSET_BITS) - 1)
    }

    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }
}

/// The identity of one attempt of one transaction: among those with one part, and among those with several, unique for
/// ever in a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct TransactionId {
    /// Which opening of the database it happened in.
    pub(crate) incarnation: u32,
    /// The shard that committed it, or coordinated it if it has several parts.
    pub(crate) shard: u32,
    /// Counts the commits of that shard, or the transactions that callers began if it has several parts.
    pub(crate) number: u64,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// A transaction with this one part is committed at the record's timestamp.
    Commit,
    /// One part of a transaction over several shards: prepared at the record's timestamp. Committed iff all parts are
    /// there and no abort record is.
    Part,
    /// A transaction over several shards that some part of may be on disk is not committed.
    Abort,
    /// In `Buffered` mode: everything this shard commits up to the timestamp stands before this record.
    Mark,
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RecordHeader {
    /// CRC-32C of everything behind it, body included, seeded with the segment's salt.
    pub(crate) crc: U32,
    /// Bytes of the body.
    pub(crate) length: U32,
    /// Where the record stands.
    pub(crate) position: U64,
    /// A position known to be durable when the record was written.
    pub(crate) durable: U64,
    /// The timestamp of the commit, of the part's prepare, or of the mark; 0 in an abort record.
    pub(crate) timestamp: U64,
    pub(crate) transaction_incarnation: U32,
    pub(crate) transaction_shard: U32,
    pub(crate) transaction_number: U64,
    /// 1 = commit, 2 = part, 3 = abort, 4 = mark.
    pub(crate) kind: u8,
    /// 1 = the last record of its batch: zeros follow up to the next block; 0 = another record follows.
    is_last: u8,
    /// This part's number, from 0, of a transaction over several shards.
    pub(crate) part: U16,
    /// How many parts the transaction has.
    pub(crate) parts: U16,
    reserved: U16,
    /// The segment's salt.
    pub(crate) salt: U64,
}

const KIND_COMMIT: u8 = 1;
const KIND_PART: u8 = 2;
const KIND_ABORT: u8 = 3;
const KIND_MARK: u8 = 4;

impl RecordHeader {
    /// The header of a transaction with this one part; place and checksum follow when the batch is sealed.
    pub(crate) fn commit(version: Version, transaction: TransactionId) -> Self {
        Self::new(KIND_COMMIT, version, transaction)
    }

    /// The header of part number `part` of `parts`.
    pub(crate) fn part(version: Version, transaction: TransactionId, part: u16, parts: u16) -> Self {
        let mut header = Self::new(KIND_PART, version, transaction);
        header.part = part.into();
        header.parts = parts.into();
        header
    }

    /// The header of an abort record.
    pub(crate) fn abort(transaction: TransactionId) -> Self {
        Self::new(KIND_ABORT, Version::ZERO, transaction)
    }

    /// The header of a mark.
    pub(crate) fn mark(through: Version) -> Self {
        Self::new(KIND_MARK, through, TransactionId::default())
    }

    fn new(kind: u8, version: Version, transaction: TransactionId) -> Self {
        Self {
            crc: 0.into(),
            length: 0.into(),
            position: 0.into(),
            durable: 0.into(),
            timestamp: version.get().into(),
            transaction_incarnation: transaction.incarnation.into(),
            transaction_shard: transaction.shard.into(),
            transaction_number: transaction.number.into(),
            kind,
            is_last: 0,
            part: 0.into(),
            parts: 1.into(),
            reserved: 0.into(),
            salt: 0.into(),
        }
    }

    pub(crate) fn version(&self) -> Version {
        Version::from(self.timestamp.get())
    }

    pub(crate) fn transaction(&self) -> TransactionId {
        TransactionId {
            incarnation: self.transaction_incarnation.get(),
            shard: self.transaction_shard.get(),
            number: self.transaction_number.get(),
        }
    }

    pub(crate) fn durable(&self) -> Position {
        Position::from_raw(self.durable.get())
    }

    /// Whether its batch goes on behind it.
    pub(crate) const fn is_followed(&self) -> bool {
        self.is_last == 0
    }

    pub(crate) const fn kind(&self) -> Option<RecordKind> {
        match self.kind {
            KIND_COMMIT => Some(RecordKind::Commit),
            KIND_PART => Some(RecordKind::Part),
            KIND_ABORT => Some(RecordKind::Abort),
            KIND_MARK => Some(RecordKind::Mark),
            _ => None,
        }
    }
}

/// The body of a commit.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CommitBody<W> {
    /// What the transaction writes on this shard, in the order it wrote.
    pub(crate) writes: W,
    /// For each run that something is left in, in the order it was first written: how the commit is chained to the one before;
    /// zeros if not all history is kept. Empty if nothing is known.
    pub(crate) links: Vec<Link>,
    /// What the transaction read, if somebody keeps that; of a part, the head says it.
    pub(crate) reads: Option<Arc<ReadSet>>,
}

impl<W> CommitBody<W> {
    /// A body without links.
    pub(crate) const fn of(writes: W) -> Self {
        Self { writes, links: Vec::new(), reads: None }
    }
}

/// The start of the body of a part; the rest is a [`CommitBody`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartHead {
    /// The shards that hold a part, in order of part numbers, as numbered in the opening that wrote it.
    pub(crate) participants: Vec<u32>,
    /// The earliest expiry of anything this part read: the transaction commits only below it.
    pub(crate) earliest_expiry: Version,
    /// What this part read, if somebody keeps that.
    pub(crate) reads: Option<Arc<ReadSet>>,
}

/// The body of a part.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartBody<W> {
    pub(crate) head: PartHead,
    pub(crate) commit: CommitBody<W>,
}

/// The body as it is read back.
pub(crate) type OwnedCommitBody = CommitBody<Vec<Write>>;

/// Appends a record to a batch; its place and checksum are filled in by [`seal`].
///
/// # Errors
/// `Serialization` if the body cannot be encoded; the batch is then as it was.
pub(crate) fn stage<W: Serialize>(batch: &mut Vec<u8>, mut header: RecordHeader, body: &W) -> Result<()> {
    let start = batch.len();
    batch.extend_from_slice(header.as_bytes());
    if let Err(error) = postcard::serialize_with_flavor(body, Appender(batch)) {
        batch.truncate(start);
        return Err(Error::Serialization(format!("a record cannot be encoded: reason={error}")));
    }
    let length = batch.len() - start - HEADER_BYTES;
    let Ok(length) = u32::try_from(length) else {
        batch.truncate(start);
        return Err(Error::limit("record bytes", u32::MAX as usize, length));
    };
    header.length = length.into();
    batch[start..start + HEADER_BYTES].copy_from_slice(header.as_bytes());
    Ok(())
}

/// Fills in the place and the checksum of every record of a batch that starts at `position`, and which is the last.
pub(crate) fn seal(batch: &mut [u8], position: Position, durable: Position, salt: u64) {
    let mut start = 0;
    let whole = batch.len();
    while start < whole {
        let header = header_of(&mut batch[start..]);
        let end = start + HEADER_BYTES + header.length.get() as usize;
        header.is_last = u8::from(end == whole);
        let place = Position::new(position.segment(), position.offset() + start as u64);
        seal_record(&mut batch[start..end], place, durable, salt);
        start = end;
    }
    assert_eq!(start, whole, "a batch is a whole number of records");
}

/// Fills in the place and the checksum of one record.
pub(crate) fn seal_record(record: &mut [u8], position: Position, durable: Position, salt: u64) {
    let header = header_of(record);
    header.position = position.get().into();
    header.durable = durable.get().into();
    header.salt = salt.into();
    let crc = checksum(record, salt);
    record[..4].copy_from_slice(&crc.to_le_bytes());
}

fn header_of(record: &mut [u8]) -> &mut RecordHeader {
    let Ok((header, _)) = RecordHeader::mut_from_prefix(record) else {
        unreachable!("a record has a header");
    };
    header
}

/// The record that starts at the beginning of `bytes`, which stand at `position`; `None` if there is no valid one.
pub(crate) fn read(bytes: &[u8], position: Position, salt: u64) -> Option<(RecordHeader, &[u8])> {
    let (header, rest) = RecordHeader::read_from_prefix(bytes).ok()?;
    if (header.salt.get() != salt && !planted(Bug::SaltIgnored)) || header.position.get() != position.get() {
        return None;
    }
    let length = usize::try_from(header.length.get()).ok()?;
    let body = rest.get(..length)?;
    let salt = if planted(Bug::SaltIgnored) { header.salt.get() } else { salt };
    let crc = checksum(&bytes[..HEADER_BYTES + length], salt);
    (crc == header.crc.get() || planted(Bug::ChecksumsIgnored)).then_some((header, body))
}

/// The writes in the body of a commit.
///
/// # Errors
/// `Serialization` if the bytes are no body, or one that nobody would write.
pub(crate) fn decode_body(body: &[u8]) -> Result<OwnedCommitBody> {
    let mut writes = Vec::new();
    let CommitBody { links, reads, .. } = decode_writes(body, &mut writes)?;
    Ok(CommitBody { writes, links, reads })
}

/// The same, in place of what was in `writes`: who decodes many bodies allocates once. Returns the rest of the body.
///
/// # Errors
/// As `decode_body`.
pub(crate) fn decode_writes(body: &[u8], writes: &mut Vec<Write>) -> Result<CommitBody<()>> {
    writes.clear();
    let mut body = postcard::Deserializer::from_bytes(body);
    let rest = body.deserialize_seq(WritesVisitor(writes)).and_then(|()| Deserialize::deserialize(&mut body));
    let (links, reads) =
        rest.map_err(|error| Error::Serialization(format!("the body of a record is malformed: reason={error}")))?;
    match writes.iter().position(|write| !write.is_possible()) {
        None => Ok(CommitBody { writes: (), links, reads }),
        Some(at) => Err(Error::Serialization(format!("a write does not fit the key it is for: number={at}"))),
    }
}

struct WritesVisitor<'a>(&'a mut Vec<Write>);

impl<'de> Visitor<'de> for WritesVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("writes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while let Some(write) = access.next_element()? {
            self.0.push(write);
        }
        Ok(())
    }
}

/// The start of the body of a part, and what follows it.
///
/// # Errors
/// `Serialization` if the bytes are no body.
pub(crate) fn decode_part_head(body: &[u8]) -> Result<(PartHead, &[u8])> {
    postcard::take_from_bytes(body)
        .map_err(|error| Error::Serialization(format!("the body of a part is malformed: reason={error}")))
}

/// CRC-32C of a record behind its own checksum field, seeded with the salt.
fn checksum(record: &[u8], salt: u64) -> u32 {
    seeded_checksum(&record[4..], salt)
}

/// Lets postcard write to the end of a batch.
struct Appender<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{Name, Space};
    use crate::base::lineage::Source;
    use crate::base::run_id::RunId;
    use crate::base::stored::Stored;

    fn body() -> OwnedCommitBody {
        let put = |name: &[u8], value: i64| Write::Put {
            run: RunId::from_bytes([1; 16]),
            space: Space::Kv,
            name: Name::from_slice(name),
            stored: Stored::Value(value.into()),
            expires: None,
        };
        CommitBody::of(vec![put(b"a", 1), put(b"b", 2)])
    }

    fn sealed(position: Position, salt: u64) -> Vec<u8> {
        let mut batch = Vec::new();
        let header = RecordHeader::commit(Version::from(9), TransactionId::default());
        stage(&mut batch, header, &body()).unwrap();
        stage(&mut batch, header, &body()).unwrap();
        seal(&mut batch, position, Position::START, salt);
        batch
    }

    #[test]
    fn what_was_sealed_is_read_back() {
        let position = Position::new(3, 4096);
        let batch = sealed(position, 77);
        let (header, bytes) = read(&batch, position, 77).unwrap();
        assert_eq!(header.version(), Version::from(9));
        assert_eq!(decode_body(bytes).unwrap(), body());
        let second = HEADER_BYTES + bytes.len();
        assert!(read(&batch[second..], Position::new(3, 4096 + second as u64), 77).is_some());
    }

    #[test]
    fn the_head_of_a_part_is_read_without_its_writes() {
        let source = Source::Key { space: Space::Kv, name: Name::from_slice(b"c"), version: 3.into() };
        let reads = Some(Arc::new(ReadSet::of([(RunId::from_bytes([2; 16]), source)])));
        let head = PartHead { participants: vec![0, 3], earliest_expiry: Version::from(7), reads };
        let mut batch = Vec::new();
        let header = RecordHeader::part(Version::from(9), TransactionId::default(), 1, 2);
        stage(&mut batch, header, &PartBody { head: head.clone(), commit: body() }).unwrap();
        seal(&mut batch, Position::new(0, 4096), Position::START, 5);
        let (header, bytes) = read(&batch, Position::new(0, 4096), 5).unwrap();
        assert_eq!((header.kind(), header.part.get(), header.parts.get()), (Some(RecordKind::Part), 1, 2));
        let (read, rest) = decode_part_head(bytes).unwrap();
        assert_eq!((read, decode_body(rest).unwrap()), (head, body()));
    }

    #[test]
    fn the_last_record_of_a_batch_says_that_it_is() {
        let position = Position::new(3, 4096);
        let batch = sealed(position, 77);
        let (first, body) = read(&batch, position, 77).unwrap();
        let second = HEADER_BYTES + body.len();
        let (last, _) = read(&batch[second..], Position::new(3, 4096 + second as u64), 77).unwrap();
        assert_eq!((first.is_followed(), last.is_followed()), (true, false));
    }

    /// Each is alone in its batch, at 4096 of segment 0.
    #[test]
    fn the_examples_in_the_documentation_are_what_is_written() {
        let drawn: String = include_str!("../../docs/FORMAT.md").split_whitespace().collect();
        let version = Version::from(1_700_000_000_000_000_000);
        let put = Write::Put {
            run: RunId::from_bytes([1; 16]),
            space: Space::Kv,
            name: Name::from_slice(b"k"),
            stored: Stored::Value(1.into()),
            expires: None,
        };
        let part = CommitBody::of(vec![put.clone()]);
        let hash = [
            0x35, 0x8b, 0x0e, 0xf1, 0x2d, 0x42, 0x38, 0xed, 0x62, 0x46, 0x87, 0x59, 0xa2, 0xbf, 0x84, 0xbb, 0x3b, 0x5d,
            0x60, 0x66, 0x7c, 0x3d, 0x44, 0xe5, 0x23, 0xb2, 0x7f, 0x36, 0x84, 0xaa, 0x1d, 0x10,
        ];
        let commit = CommitBody { writes: vec![put], links: vec![Link { before: Version::ZERO, hash }], reads: None };
        let alone = TransactionId { incarnation: 1, shard: 0, number: 0 };
        let shared = TransactionId { number: 7, ..alone };
        let head = PartHead { participants: vec![0, 3], earliest_expiry: Version::MAX, reads: None };
        let mut batches = [const { Vec::new() }; 4];
        stage(&mut batches[0], RecordHeader::commit(version, alone), &commit).unwrap();
        stage(&mut batches[1], RecordHeader::part(version, shared, 1, 2), &PartBody { head, commit: part }).unwrap();
        stage(&mut batches[2], RecordHeader::abort(shared), &()).unwrap();
        stage(&mut batches[3], RecordHeader::mark(version), &()).unwrap();
        for batch in &mut batches {
            seal(batch, Position::new(0, 4096), Position::START, 0x0123_4567_89ab_cdef);
            let bytes = format!("{batch:02x?}").replace(['[', ']', ',', ' '], "");
            assert!(drawn.contains(&bytes), "{bytes}");
        }
    }

    #[test]
    fn another_salt_another_place_and_any_flipped_byte_fail() {
        let position = Position::new(3, 4096);
        let batch = sealed(position, 77);
        assert!(read(&batch, position, 78).is_none(), "another salt");
        assert!(read(&batch, Position::new(3, 8192), 77).is_none(), "another place");
        let first = HEADER_BYTES + read(&batch, position, 77).unwrap().1.len();
        for at in 0..first {
            let mut damaged = batch.clone();
            damaged[at] ^= 0x40;
            assert!(read(&damaged, position, 77).is_none(), "flipped byte {at}");
        }
    }
}
