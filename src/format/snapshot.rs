//! Snapshots: what one shard holds at one version, sorted, in a file.
//!
//! - A header block, then data blocks, then an index of the data blocks, then a footer that says where the index is.
//! - A data block is a number of pieces, in order. Its checksum starts from the snapshot's salt and covers its place, as a
//!   record's does.
//! - What can be derived is written out all the same: a snapshot is loaded as it is.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BLOCK, FORMAT_VERSION, seeded_checksum};
use crate::base::commit_digest::CommitDigest;
use crate::base::error::{Error, Result};
use crate::base::event::EventHead;
use crate::base::json::edit::Edit;
use crate::base::key::{Name, Space};
use crate::base::lineage::ReadSet;
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::version::Version;

const MAGIC: [u8; 8] = *b"in-mem\x00S";
const FOOTER_MAGIC: [u8; 8] = *b"in-mem\x00E";

/// Which snapshot of which shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct SnapshotId {
    /// 1, 2, 3 ... in the order taken, never given twice in a database.
    pub(crate) number: u64,
    /// The shard, as numbered when it was taken.
    pub(crate) shard: u32,
}

impl SnapshotId {
    /// The file's name.
    pub(crate) fn file_name(self) -> String {
        format!("{:010}-{:04}.snap", self.number, self.shard)
    }

    /// Reads a file's name.
    pub(crate) fn parse(file_name: &str) -> Option<Self> {
        let (number, shard) = file_name.strip_suffix(".snap")?.split_once('-')?;
        let id = Self { number: number.parse().ok()?, shard: shard.parse().ok()? };
        (id.file_name() == file_name).then_some(id)
    }
}

/// A part of what a shard holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum Piece {
    /// What is known of a run as a whole; before its names. `collected`, by space: a read below this version could miss
    /// what was collected.
    Run { run: RunId, deleted: Option<Version>, collected: Vec<Version> },
    /// The commits of the run, in order, if all of its history is kept; before its names.
    Commits { run: RunId, commits: Vec<CommitDigest> },
    /// Names of one space of the run, in order, each with its revisions, oldest first.
    Names { run: RunId, space: Space, names: Vec<Entry> },
    /// What the commits of the run read, in order, as far as that is kept; before its names.
    Lineage { run: RunId, commits: Vec<(Version, Arc<ReadSet>)> },
}

/// A name and its revisions, nearly always one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) kept: SmallVec<[Kept; 1]>,
}

impl Piece {
    /// Whose it is.
    pub(crate) const fn run(&self) -> RunId {
        let (Self::Run { run, .. } | Self::Commits { run, .. } | Self::Names { run, .. } | Self::Lineage { run, .. }) =
            self;
        *run
    }

    /// The names in it.
    pub(crate) fn names(&self) -> &[Entry] {
        if let Self::Names { names, .. } = self { names } else { &[] }
    }

    /// Whether a shard could have held this: the rest of the database relies on what is where.
    fn is_possible(&self) -> bool {
        let Self::Names { run, space, names } = self else { return true };
        let fits = |name: &Name, held: &Held| match held {
            Held::Stored(stored) => stored.fits(*run, *space, name),
            Held::EventHead { .. } => *space == Space::EventHead,
            Held::Count(_) => *space == Space::TraceCount,
            Held::Marker => space.is_index(),
            Held::Edited(edits) => *space == Space::Json && edits.iter().all(Edit::is_possible),
        };
        names.iter().all(|Entry { name, kept }| kept.iter().flat_map(|kept| &kept.held).all(|held| fits(name, held)))
    }
}

/// How many keys there are in pieces.
pub(crate) fn keys(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| piece.names().len() as u64).sum()
}

/// A revision of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) version: Version,
    pub(crate) expires: Version,
    pub(crate) held: Option<Held>,
}

/// What a key held. The order of the variants is a disk format: it never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Held {
    Stored(Stored),
    EventHead {
        len: u64,
        timestamp: i64,
        hash: [u8; 32],
    },
    Count(u64),
    Marker,
    /// A JSON document that these edits made of the revision before.
    Edited(Vec<Edit>),
}

impl From<Stored> for Held {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::EventHead(head) => {
                let EventHead { len, timestamp, hash } = *head;
                Self::EventHead { len, timestamp, hash }
            }
            Stored::Count(count) => Self::Count(count),
            Stored::Marker => Self::Marker,
            stored => Self::Stored(stored),
        }
    }
}

impl Held {
    /// What the key held, if the revision before held `before`; `None` if nobody could have edited that.
    pub(crate) fn into_stored(self, before: Option<&Stored>) -> Option<Stored> {
        Some(match self {
            Self::Stored(stored) => stored,
            Self::EventHead { len, timestamp, hash } => Stored::EventHead(Arc::new(EventHead { len, timestamp, hash })),
            Self::Count(count) => Stored::Count(count),
            Self::Marker => Stored::Marker,
            Self::Edited(edits) => {
                let Some(Stored::Json(before)) = before else { return None };
                Stored::Json(Arc::new(before.edited(edits).ok()?))
            }
        })
    }

    /// What a key holds, as it is written behind a revision that holds `before`.
    pub(crate) fn behind(before: Option<&Stored>, stored: &Stored) -> Self {
        match (before, stored) {
            (Some(Stored::Json(_)), Stored::Json(document)) if !document.edits.is_empty() => {
                Self::Edited(document.edits.clone())
            }
            _ => stored.clone().into(),
        }
    }
}

/// What a snapshot's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotHeader {
    pub(crate) id: SnapshotId,
    pub(crate) database: [u8; 16],
    /// It holds what was committed at or below this version.
    pub(crate) version: Version,
    pub(crate) salt: u64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    format: U32,
    shard: U32,
    number: U64,
    database: [u8; 16],
    version: U64,
    salt: U64,
    reserved: [u8; 4],
    /// CRC-32C of everything before it.
    crc: U32,
}

/// The start of something held that is a text, as serde writes `Some(Held::Stored(Stored::Value(Value::String(text))))`.
const TEXT: [u8; 4] = [1, 0, 0, 5];

/// The most items for which memory is set aside before they are read.
const BELIEVED: usize = 256;

const HEADER_BYTES: usize = size_of::<RawHeader>();
const _: () = assert!(HEADER_BYTES == 64, "the byte map in docs/FORMAT.md says so");

/// What stands before the body of a block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawBlock {
    /// CRC-32C of everything behind it, body included, seeded with the snapshot's salt.
    crc: U32,
    /// Bytes of the body.
    length: U32,
    /// Where the block stands in the file.
    offset: U64,
}

const BLOCK_HEADER_BYTES: usize = size_of::<RawBlock>();

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawFooter {
    magic: [u8; 8],
    /// Where the index block stands.
    index: U64,
    /// How many keys there are.
    keys: U64,
    reserved: [u8; 4],
    /// CRC-32C of everything before it, seeded with the snapshot's salt.
    crc: U32,
}

const FOOTER_BYTES: usize = size_of::<RawFooter>();

/// Where a data block is and the first run in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexEntry {
    pub(crate) offset: u64,
    pub(crate) first: RunId,
}

/// Turns pieces into the bytes of a file, block by block.
#[derive(Debug, Default)]
pub(crate) struct SnapshotEncoder {
    salt: u64,
    offset: u64,
    keys: u64,
    index: Vec<IndexEntry>,
}

impl SnapshotEncoder {
    /// The encoder, and the first bytes of the file.
    pub(crate) fn new(header: &SnapshotHeader) -> (Self, Vec<u8>) {
        let mut raw = RawHeader {
            magic: MAGIC,
            format: FORMAT_VERSION.into(),
            shard: header.id.shard.into(),
            number: header.id.number.into(),
            database: header.database,
            version: header.version.get().into(),
            salt: header.salt.into(),
            reserved: [0; 4],
            crc: 0.into(),
        };
        raw.crc = crc32c::crc32c(&raw.as_bytes()[..HEADER_BYTES - 4]).into();
        let mut bytes = vec![0; BLOCK];
        bytes[..HEADER_BYTES].copy_from_slice(raw.as_bytes());
        (Self { salt: header.salt, offset: BLOCK as u64, keys: 0, index: Vec::new() }, bytes)
    }

    /// How many keys there are so far.
    pub(crate) const fn keys(&self) -> u64 {
        self.keys
    }

    /// The next data block.
    ///
    /// # Errors
    /// `Serialization` if a piece cannot be encoded.
    pub(crate) fn block(&mut self, pieces: &[Piece]) -> Result<Vec<u8>> {
        let Some(first) = pieces.first() else { return Ok(Vec::new()) };
        self.index.push(IndexEntry { offset: self.offset, first: first.run() });
        self.keys += keys(pieces);
        self.frame(&pieces)
    }

    /// The last bytes of the file.
    ///
    /// # Errors
    /// `Serialization` if the index cannot be encoded.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        let at = self.offset;
        let index = std::mem::take(&mut self.index);
        let mut bytes = self.frame(&index)?;
        let mut footer = RawFooter {
            magic: FOOTER_MAGIC,
            index: at.into(),
            keys: self.keys.into(),
            reserved: [0; 4],
            crc: 0.into(),
        };
        footer.crc = seeded_checksum(&footer.as_bytes()[..FOOTER_BYTES - 4], self.salt).into();
        bytes.extend_from_slice(footer.as_bytes());
        Ok(bytes)
    }

    fn frame(&mut self, body: &impl Serialize) -> Result<Vec<u8>> {
        let header = RawBlock { crc: 0.into(), length: 0.into(), offset: self.offset.into() };
        let mut bytes = postcard::to_extend(body, header.as_bytes().to_vec())
            .map_err(|error| Error::Serialization(format!("a snapshot cannot be encoded: reason={error}")))?;
        let length = bytes.len() - BLOCK_HEADER_BYTES;
        let length =
            u32::try_from(length).map_err(|_| Error::limit("snapshot block bytes", u32::MAX as usize, length))?;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        let crc = seeded_checksum(&bytes[4..], self.salt);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        self.offset += bytes.len() as u64;
        Ok(bytes)
    }
}

/// What stands around the blocks of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotFrame {
    pub(crate) header: SnapshotHeader,
    /// How many keys there are.
    pub(crate) keys: u64,
    index_at: u64,
    /// Where the footer stands.
    end: u64,
}

/// A place in a snapshot's file and what is wrong there.
pub(crate) type Wrong = (u64, String);

impl SnapshotFrame {
    /// How many bytes at the start and at the end of a file say where everything else is.
    pub(crate) const BYTES: usize = if HEADER_BYTES > FOOTER_BYTES { HEADER_BYTES } else { FOOTER_BYTES };

    /// Checks the header, with which `first` begins, and the footer, with which `last` ends.
    ///
    /// # Errors
    /// The offset and what is wrong there.
    pub(crate) fn open(first: &[u8], last: &[u8], length: u64) -> Result<Self, Wrong> {
        let (raw, _) = RawHeader::read_from_prefix(first).map_err(|_| (0, "the header is cut off".to_owned()))?;
        if raw.magic != MAGIC {
            return Err((0, "the header has another magic number".into()));
        }
        if crc32c::crc32c(&raw.as_bytes()[..HEADER_BYTES - 4]) != raw.crc.get() {
            return Err((0, "the header's checksum is wrong".into()));
        }
        if raw.format.get() != FORMAT_VERSION {
            return Err((0, format!("the format is another one: format={} known={FORMAT_VERSION}", raw.format.get())));
        }
        let header = SnapshotHeader {
            id: SnapshotId { number: raw.number.get(), shard: raw.shard.get() },
            database: raw.database,
            version: raw.version.get().into(),
            salt: raw.salt.get(),
        };
        let end = length.checked_sub(FOOTER_BYTES as u64).filter(|at| *at >= BLOCK as u64);
        let Some(end) = end else { return Err((0, "the file is cut off".into())) };
        let wrong = |what: &str| (end, what.to_owned());
        let (_, footer) = RawFooter::read_from_suffix(last).map_err(|_| wrong("the footer is cut off"))?;
        let crc = seeded_checksum(&footer.as_bytes()[..FOOTER_BYTES - 4], header.salt);
        if footer.magic != FOOTER_MAGIC || crc != footer.crc.get() {
            return Err(wrong("the file is cut off, or its footer is damaged"));
        }
        let index_at = footer.index.get();
        if !(BLOCK as u64..=end).contains(&index_at) {
            return Err((index_at, "there is no block".into()));
        }
        Ok(Self { header, keys: footer.keys.get(), index_at, end })
    }

    /// Whether the snapshot is a known one.
    ///
    /// # Errors
    /// The offset and what is wrong there.
    pub(crate) fn check_is(&self, id: SnapshotId, database: &[u8; 16]) -> Result<(), Wrong> {
        if self.header.id != id {
            return Err((0, "the snapshot's header names another snapshot".into()));
        }
        if self.header.database != *database {
            return Err((0, "the snapshot belongs to another database".into()));
        }
        Ok(())
    }

    /// Where the index is.
    pub(crate) const fn index_place(&self) -> Range<u64> {
        self.index_at..self.end
    }

    /// Where the data blocks are, from the bytes that stand at `index_place`.
    ///
    /// # Errors
    /// The offset and what is wrong there.
    pub(crate) fn blocks(&self, bytes: &[u8]) -> Result<Vec<Range<u64>>, Wrong> {
        let (body, end) = self.body(self.index_at, bytes)?;
        if end != self.end {
            return Err((self.end, "something stands between index and footer".into()));
        }
        let index: Vec<IndexEntry> = whole(self.index_at, postcard::from_bytes(body))?;
        let mut start = BLOCK as u64;
        let ends = index.iter().skip(1).map(|entry| entry.offset).chain(index.last().map(|_| self.index_at));
        let places = index.iter().zip(ends).map(|(entry, end)| {
            if entry.offset != start || end < start {
                return Err((start, "the index names another place".to_owned()));
            }
            start = end;
            Ok(entry.offset..end)
        });
        let places = places.collect::<Result<_, _>>()?;
        if start == self.index_at { Ok(places) } else { Err((start, "the index does not name every block".into())) }
    }

    /// The body of a data block, from the bytes that stand at its place.
    ///
    /// # Errors
    /// The offset and what is wrong there.
    pub(crate) fn block<'a>(&self, place: &Range<u64>, bytes: &'a [u8]) -> Result<&'a [u8], Wrong> {
        let (body, end) = self.body(place.start, bytes)?;
        if end == place.end { Ok(body) } else { Err((end, "the index names another place".into())) }
    }

    /// The pieces of a data block, from the bytes that stand at its place.
    ///
    /// # Errors
    /// The offset and what is wrong there.
    pub(crate) fn pieces(&self, place: &Range<u64>, bytes: &[u8]) -> Result<Vec<Piece>, Wrong> {
        let pieces = whole(place.start, take_pieces(self.block(place, bytes)?))?;
        let is_possible = pieces.iter().all(Piece::is_possible);
        is_possible
            .then_some(pieces)
            .ok_or_else(|| (place.start, "something is under a key that it does not fit".into()))
    }

    /// The body of the block at an offset, where `bytes` begin, and where the block ends.
    fn body<'a>(&self, at: u64, bytes: &'a [u8]) -> Result<(&'a [u8], u64), Wrong> {
        let wrong = |what: &str| (at, what.to_owned());
        let (raw, behind) = RawBlock::read_from_prefix(bytes).map_err(|_| wrong("a block is cut off"))?;
        let length = raw.length.get() as usize;
        let body = behind.get(..length).ok_or_else(|| wrong("a block is cut off"))?;
        let crc = seeded_checksum(&bytes[4..BLOCK_HEADER_BYTES + length], self.header.salt);
        if crc != raw.crc.get() || raw.offset.get() != at {
            return Err(wrong("a block's checksum is wrong"));
        }
        Ok((body, at + (BLOCK_HEADER_BYTES + length) as u64))
    }
}

/// A snapshot's file, its frame checked.
#[derive(Debug)]
pub(crate) struct SnapshotFile<'a> {
    bytes: &'a [u8],
    pub(crate) frame: SnapshotFrame,
    blocks: Vec<Range<u64>>,
}

impl<'a> SnapshotFile<'a> {
    /// Checks header, footer and index.
    ///
    /// # Errors
    /// The offset and what is wrong there.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, Wrong> {
        let frame = SnapshotFrame::open(bytes, bytes, bytes.len() as u64)?;
        let blocks = frame.blocks(at(bytes, &frame.index_place()))?;
        Ok(Self { bytes, frame, blocks })
    }

    /// The same of a known snapshot.
    ///
    /// # Errors
    /// The offset and what is wrong there.
    pub(crate) fn open_of(id: SnapshotId, database: &[u8; 16], bytes: &'a [u8]) -> Result<Self, Wrong> {
        let file = Self::open(bytes)?;
        file.frame.check_is(id, database)?;
        Ok(file)
    }

    /// Calls `visit` with every piece, in order.
    ///
    /// # Errors
    /// The offset and what is wrong there, `visit`'s complaints among it.
    pub(crate) fn read(&self, mut visit: impl FnMut(Piece) -> Result<(), String>) -> Result<(), Wrong> {
        for place in &self.blocks {
            for piece in self.frame.pieces(place, at(self.bytes, place))? {
                visit(piece).map_err(|what| (place.start, what))?;
            }
        }
        Ok(())
    }

    /// Whether every byte is as it was written.
    ///
    /// # Errors
    /// The first offset at which it is not.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        self.blocks.iter().try_for_each(|place| self.frame.block(place, at(self.bytes, place)).map(drop))
    }

    /// Calls `visit` with every piece that is whole; returns where it is not.
    pub(crate) fn rescue(&self, mut visit: impl FnMut(Piece)) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        for place in &self.blocks {
            match self.frame.block(place, at(self.bytes, place)).and_then(|body| whole(place.start, take_pieces(body)))
            {
                Ok(pieces) => pieces.into_iter().filter(Piece::is_possible).for_each(&mut visit),
                Err(what) => wrong.push(what),
            }
        }
        wrong
    }
}

/// What of a file stands at a place, as far as it goes.
fn at<'a>(bytes: &'a [u8], place: &Range<u64>) -> &'a [u8] {
    let offset = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(offset(place.start)..offset(place.end)).unwrap_or_default()
}

fn whole<T>(at: u64, decoded: postcard::Result<T>) -> Result<T, Wrong> {
    decoded.map_err(|error| (at, format!("a block is malformed: reason={error}")))
}

/// A piece without its names.
#[derive(Deserialize)]
enum PieceHead {
    Run { run: RunId, deleted: Option<Version>, collected: Vec<Version> },
    Commits { run: RunId, commits: Vec<CommitDigest> },
    Names { run: RunId, space: Space, count: usize },
    Lineage { run: RunId, commits: Vec<(Version, Arc<ReadSet>)> },
}

/// Decodes as serde would, but each key where it stays: serde's moves from result to result take most of the time.
fn take_pieces(body: &[u8]) -> postcard::Result<Vec<Piece>> {
    let (count, mut rest) = postcard::take_from_bytes::<usize>(body)?;
    let mut pieces = Vec::with_capacity(count.min(BELIEVED));
    for _ in 0..count {
        let (head, behind) = postcard::take_from_bytes(rest)?;
        rest = behind;
        pieces.push(match head {
            PieceHead::Run { run, deleted, collected } => Piece::Run { run, deleted, collected },
            PieceHead::Commits { run, commits } => Piece::Commits { run, commits },
            PieceHead::Lineage { run, commits } => Piece::Lineage { run, commits },
            PieceHead::Names { run, space, count } => {
                let mut names = Vec::with_capacity(count.min(BELIEVED));
                for _ in 0..count {
                    let ((name, revisions), behind) = postcard::take_from_bytes::<(&[u8], usize)>(rest)?;
                    rest = behind;
                    let mut kept = SmallVec::new();
                    for _ in 0..revisions {
                        kept.push(take_kept(&mut rest)?);
                    }
                    names.push(Entry { name: Name::from_slice(name), kept });
                }
                Piece::Names { run, space, names }
            }
        });
    }
    Ok(pieces)
}

#[inline]
fn take_kept(rest: &mut &[u8]) -> postcard::Result<Kept> {
    let ((version, expires), behind) = postcard::take_from_bytes(rest)?;
    let (held, behind) = match behind.strip_prefix(&TEXT) {
        Some(text) => {
            let (text, behind) = postcard::take_from_bytes::<&str>(text)?;
            (Some(Held::Stored(Stored::Value(text.into()))), behind)
        }
        None => postcard::take_from_bytes(behind)?,
    };
    *rest = behind;
    Ok(Kept { version, expires, held })
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::base::commit_digest::Link;
    use crate::base::lineage::Source;

    const HEADER: SnapshotHeader =
        SnapshotHeader { id: SnapshotId { number: 7, shard: 2 }, database: [5; 16], version: Version::MAX, salt: 99 };

    fn pieces(number: u8) -> Vec<Piece> {
        let run = RunId::from_bytes([number; 16]);
        let entry = |name: &[u8], held| Entry {
            name: Name::from_slice(name),
            kept: smallvec![Kept { version: 3.into(), expires: Version::MAX, held }],
        };
        let text = |text: &str| Kept {
            version: u64::from(text.len() == 3).into(),
            expires: 300.into(),
            held: Some(Held::Stored(Stored::Value(text.into()))),
        };
        let texts = Entry { name: Name::from_slice(b"c"), kept: smallvec![text("\u{e9}"), text("abc")] };
        let head = Held::EventHead { len: 4, timestamp: 5, hash: [6; 32] };
        let names =
            vec![entry(b"a", Some(Held::Stored(Stored::Value(i64::from(number).into())))), entry(b"b", None), texts];
        let link = Link { before: 2.into(), hash: [7; 32] };
        let name = || Name::from_slice(b"read");
        let sources = [
            Source::Key { space: Space::Kv, name: name(), version: 2.into() },
            Source::Range { space: Space::Event, from: name(), to: Some(name()), at: 2.into() },
            Source::Range { space: Space::State, from: name(), to: None, at: 2.into() },
        ];
        vec![
            Piece::Run { run, deleted: None, collected: vec![1.into(); 3] },
            Piece::Commits { run, commits: vec![CommitDigest { version: 3.into(), link }] },
            Piece::Lineage {
                run,
                commits: vec![(3.into(), Arc::new(ReadSet::of(sources.map(|source| (run, source)))))],
            },
            Piece::Names { run, space: Space::Kv, names },
            Piece::Names { run, space: Space::EventHead, names: vec![entry(b"", Some(head))] },
        ]
    }

    fn file() -> Vec<u8> {
        let (mut encoder, mut bytes) = SnapshotEncoder::new(&HEADER);
        for number in 1..4 {
            bytes.extend(encoder.block(&pieces(number)).unwrap());
        }
        bytes.extend(encoder.finish().unwrap());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(SnapshotHeader, u64, Vec<Piece>), Wrong> {
        let file = SnapshotFile::open(bytes)?;
        let mut found = Vec::new();
        file.read(|piece| {
            found.push(piece);
            Ok(())
        })?;
        Ok((file.frame.header, file.frame.keys, found))
    }

    #[test]
    fn what_is_written_is_read_and_names_round_trip() {
        let all: Vec<Piece> = (1..4).flat_map(pieces).collect();
        assert_eq!(read(&file()), Ok((HEADER, 12, all)));
        assert_eq!(SnapshotId::parse(&HEADER.id.file_name()), Some(HEADER.id));
        assert_eq!(SnapshotId::parse("7-2.snap"), None);
    }

    #[test]
    fn every_flipped_byte_that_counts_and_every_cut_is_noticed() {
        let bytes = file();
        for at in (0..HEADER_BYTES).chain(BLOCK..bytes.len()) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(read(&damaged).is_err(), "flipped byte {at}");
            assert!(SnapshotFile::open(&damaged).and_then(|file| file.check()).is_err(), "flipped byte {at}");
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "cut at {length}");
        }
    }
}
