//! Fuzzing: every decoder as a function of bytes. `sim/decoders` calls them with seeds, the crate in `fuzz/` with what
//! a coverage-guided search comes up with.
//!
//! - A target takes any bytes. It must not panic; what it accepts must be the same when written and read again. It
//!   says whether it accepted anything, so that a test notices one that never does.
//! - A checksum keeps almost all bytes out: a target takes them as they are, and with their checksums put right.
//! - The canonical form of a value, which the hash chain is computed over, is only ever written: there is no decoder.
#![allow(clippy::must_use_candidate, reason = "a target is called to see that it does not panic")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::str;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::FromBytes;

use crate::base::event::Event;
use crate::base::key::{Name, Space, leading_text, number_at_end, prefix_end, run_at_end, text_prefix};
use crate::base::options::{HistoryRetention, Partitioning};
use crate::base::run::{RunMetadata, RunStatus};
use crate::base::run_id::RunId;
use crate::base::state::State;
use crate::base::stored::Stored;
use crate::base::trace::Trace;
use crate::base::value::{Value, write_canonical};
use crate::base::version::{Version, Versioned};
use crate::format::BLOCK;
use crate::format::manifest::Manifest;
use crate::format::record::{self, HEADER_BYTES, Position, RecordHeader};
use crate::format::round_up_to_block;
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::format::snapshot::SnapshotFile;
use crate::shard::replay::{Extent, Target, replay_segment, survey};
use crate::shard::route::Layout;
use crate::shard::sealing::{Sealing, decide};
use crate::store::backlog::{BACKLOG, Backlog};
use crate::store::dump::Loader;
use crate::store::memory::Memory;

/// A record: header, checksum, body.
pub fn record(bytes: &[u8]) -> bool {
    let mut repaired = bytes.to_vec();
    if let Ok((header, _)) = RecordHeader::read_from_prefix(bytes) {
        repair_record(&mut repaired, Position::from_raw(header.position.get()), header.salt.get());
    }
    read_record(bytes) | read_record(&repaired)
}

fn read_record(bytes: &[u8]) -> bool {
    let Ok((header, _)) = RecordHeader::read_from_prefix(bytes) else {
        assert!(record::read(bytes, Position::START, 0).is_none(), "a header that is cut off");
        return false;
    };
    let (position, salt) = (Position::from_raw(header.position.get()), header.salt.get());
    let Some((header, body)) = record::read(bytes, position, salt) else { return false };
    let mut again = bytes[..HEADER_BYTES + body.len()].to_vec();
    record::seal_record(&mut again, position, header.durable(), salt);
    assert_eq!(again, bytes[..again.len()]);
    let _ = (header.kind(), header.version(), header.transaction());
    true
}

/// Puts the checksum of the record at the start right, and returns its length, if that is inside the bytes.
fn repair_record(bytes: &mut [u8], position: Position, salt: u64) -> Option<usize> {
    let (header, _) = RecordHeader::read_from_prefix(bytes).ok()?;
    let length = HEADER_BYTES.checked_add(usize::try_from(header.length.get()).ok()?)?;
    record::seal_record(bytes.get_mut(..length)?, position, header.durable(), salt);
    Some(length)
}

/// The body of a commit.
pub fn commit_body(bytes: &[u8]) -> bool {
    let Ok(body) = record::decode_body(bytes) else { return false };
    let again = to_bytes(&body);
    assert_eq!(to_bytes(&record::decode_body(&again).expect("what was written is read")), again);
    true
}

/// The start of the body of a part.
pub fn part_head(bytes: &[u8]) -> bool {
    let Ok((head, rest)) = record::decode_part_head(bytes) else { return false };
    let again = [to_bytes(&head), rest.to_vec()].concat();
    assert_eq!(record::decode_part_head(&again).expect("what was written is read"), (head, rest));
    true
}

/// The header of a segment.
pub fn segment_header(bytes: &[u8]) -> bool {
    let mut repaired = bytes.to_vec();
    repair_segment_header(&mut repaired);
    let read = |bytes: &[u8]| {
        let Ok(header) = SegmentHeader::read(bytes) else { return false };
        assert_eq!(SegmentHeader::read(&header.to_block()), Ok(header));
        true
    };
    read(bytes) | read(&repaired)
}

/// As `docs/FORMAT.md` draws it: the checksum at 60 is over all before it.
fn repair_segment_header(bytes: &mut [u8]) {
    if let Some((fields, rest)) = bytes.split_at_mut_checked(60)
        && let Some(checksum) = rest.get_mut(..4)
    {
        checksum.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
    }
}

/// A manifest.
pub fn manifest(bytes: &[u8]) -> bool {
    let mut repaired = bytes.to_vec();
    // As docs/FORMAT.md draws it: the checksum and the length of the body at 12 and 16.
    if let Some((header, body)) = repaired.split_at_mut_checked(32) {
        header[12..16].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        header[16..24].copy_from_slice(&(body.len() as u64).to_le_bytes());
    }
    let read = |bytes: &[u8]| {
        let Ok(manifest) = Manifest::read(bytes) else { return false };
        assert_eq!(Manifest::read(&manifest.to_bytes()).as_ref(), Ok(&manifest));
        Sealing::new(&manifest).finish();
        true
    };
    read(bytes) | read(&repaired)
}

/// A snapshot: its frame, its pieces, loaded.
pub fn snapshot(bytes: &[u8]) -> bool {
    // As docs/FORMAT.md draws it: the header's checksum at 60, a block's length, place and checksum before its body, and
    // the footer's checksum at its end.
    let mut repaired = bytes.to_vec();
    let salt = repaired.get(48..56).map_or(0, |salt| u64::from_le_bytes(salt.try_into().unwrap_or_default()));
    let seeded = |bytes: &[u8]| crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes).to_le_bytes();
    if repaired.len() >= BLOCK + 32 {
        let crc = crc32c::crc32c(&repaired[..60]).to_le_bytes();
        repaired[60..64].copy_from_slice(&crc);
        let footer = repaired.len() - 32;
        let mut at = BLOCK;
        while let Some(length) = repaired.get(at + 4..at + 8) {
            let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
            let end = at + 16 + length;
            if end > footer {
                break;
            }
            repaired[at + 8..at + 16].copy_from_slice(&(at as u64).to_le_bytes());
            let crc = seeded(&repaired[at + 4..end]);
            repaired[at..at + 4].copy_from_slice(&crc);
            at = end;
        }
        let crc = seeded(&repaired[footer..footer + 28]);
        repaired[footer + 28..].copy_from_slice(&crc);
    }
    read_snapshot(bytes) | read_snapshot(&repaired)
}

fn read_snapshot(bytes: &[u8]) -> bool {
    let Ok(file) = SnapshotFile::open(bytes) else { return false };
    let mut loader = Loader::new(HistoryRetention::Forever, file.frame.header.version);
    let mut pieces = 0;
    let is_sound = file.read(|piece| {
        pieces += 1;
        loader.load(piece)
    });
    file.rescue(|_| ());
    if is_sound.is_err() {
        return false;
    }
    let memory = loader.finish();
    let mut dump = memory.dump_at(file.frame.header.version);
    while memory.next_piece(&mut dump).is_some() {}
    pieces > 0
}

/// A whole segment: scanned, judged, its transactions decided, replayed for a shard of its own layout and of another.
pub fn segment(bytes: &[u8]) -> bool {
    let mut repaired = bytes.to_vec();
    repair_segment_header(&mut repaired);
    let header = header_of(&repaired);
    let mut at = BLOCK;
    while at < repaired.len() {
        let position = Position::new(header.id.index, at as u64);
        let is_zero = repaired[at..].iter().take(HEADER_BYTES).all(|byte| *byte == 0);
        let length = if is_zero { None } else { repair_record(&mut repaired[at..], position, header.salt) };
        at = length.map_or(round_up_to_block(at + 1), |length| at + length);
    }
    read_segment(bytes) | read_segment(&repaired)
}

/// The header of a segment, or one that lets the rest be read all the same.
fn header_of(bytes: &[u8]) -> SegmentHeader {
    let id = SegmentId { incarnation: 1, shard: 0, index: 0 };
    let any = SegmentHeader { id, database: [0; 16], salt: 0, capacity: bytes.len() as u64, strict: true };
    SegmentHeader::read(bytes).unwrap_or(any)
}

fn read_segment(bytes: &[u8]) -> bool {
    let header = header_of(bytes);
    let manifest = Manifest::new(header.database, header.id.incarnation, 1, Partitioning::ByRun);
    let mut sealing = Sealing::new(&manifest);
    if sealing.add_shard(&[survey(bytes, &header, None)]).is_err() {
        return false;
    }
    let opening = sealing.finish();
    let segment = &opening.sealed[0];
    let survey_again = |_: &_| Ok::<_, Infallible>(survey(bytes, &header, Some(segment.end)).evidence);
    let Ok((decisions, _)) = decide(&opening.sealed, survey_again);
    let extent = Extent { end: segment.end, above: Version::ZERO, cut: segment.cut, decisions: &decisions };
    let replay = |shards: usize, partitioning: Partitioning, moved_from: Option<(usize, usize)>| {
        let target = Target { shard: 0, layout: Layout { shards, partitioning }, moved_from, by_run: true };
        let mut backlog = Backlog::new(Memory::new(HistoryRetention::Forever), BACKLOG);
        let replayed = replay_segment(bytes, &header, extent, target, &mut backlog);
        backlog.finish().map_err(String::from).and(replayed.map_err(|damage| format!("{damage:?}")))
    };
    let replayed = replay(1, Partitioning::ByRun, None);
    assert_eq!(replay(1, Partitioning::ByRun, None), replayed, "the same bytes give the same");
    let _ = replay(3, Partitioning::ByKey, Some((0, 1)));
    replayed.is_ok_and(|(records, _)| records > 0)
}

/// The binary form of a value and of the records that hold values; and a value shown to other types.
pub fn value(bytes: &[u8]) -> bool {
    let Ok(value) = postcard::from_bytes::<Value>(bytes) else {
        return survives::<Event>(bytes)
            | survives::<State>(bytes)
            | survives::<Trace>(bytes)
            | survives::<RunMetadata>(bytes)
            | survives::<Stored>(bytes)
            | survives::<Versioned<Value>>(bytes);
    };
    assert_eq!(postcard::from_bytes(&to_bytes(&value)).as_ref(), Ok(&value));
    assert_eq!(Value::from_json(value.to_json()), value);
    assert_eq!(value.decode::<Value>().ok().as_ref(), Some(&value));
    assert_eq!(Value::encode(&value).ok().as_ref(), Some(&value));
    write_canonical(&value, &mut Vec::new());
    show::<Event>(&value);
    show::<Trace>(&value);
    show::<RunMetadata>(&value);
    show::<RunStatus>(&value);
    show::<Vec<u8>>(&value);
    show::<[u8; 16]>(&value);
    show::<BTreeMap<i64, Value>>(&value);
    show::<(i64, String)>(&value);
    show::<Option<bool>>(&value);
    show::<f32>(&value);
    show::<char>(&value);
    let _ = value.decode::<serde_json::Value>();
    true
}

/// Whether the bytes are a `T`; if so, what was read is the same when written and read again.
fn survives<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let Ok(read) = postcard::from_bytes::<T>(bytes) else { return false };
    let again = to_bytes(&read);
    assert_eq!(to_bytes(&postcard::from_bytes::<T>(&again).expect("what was written is read")), again);
    true
}

/// A type may refuse a value; what it takes, it gives back.
fn show<T: Serialize + DeserializeOwned>(value: &Value) {
    if let Ok(decoded) = value.decode::<T>() {
        let encoded = Value::encode(&decoded).expect("what was decoded is encoded");
        let again = encoded.decode::<T>().expect("what was encoded is decoded");
        assert_eq!(Value::encode(&again).ok(), Some(encoded));
    }
}

/// The JSON form of a value, as text.
pub fn json(bytes: &[u8]) -> bool {
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        assert!(serde_json::from_slice::<Value>(bytes).is_err(), "what is no JSON is no value");
        return false;
    };
    let value = Value::from_json(document);
    assert_eq!(Value::from_json(value.to_json()), value);
    assert_eq!(serde_json::from_slice::<Value>(bytes).ok().as_ref(), Some(&value), "one reading of one text");
    let _ = value.to_string();
    true
}

/// Whatever is read from a text: the id of a run, the name of a segment's file.
pub fn text(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let run = RunId::parse(text);
    if let Ok(run) = &run {
        assert_eq!(RunId::parse(&run.to_string()).ok().as_ref(), Some(run));
    }
    let segment = SegmentId::parse(text);
    if let Some(segment) = segment {
        assert_eq!(segment.file_name(), text);
    }
    run.is_ok() | segment.is_some()
}

/// The names of keys, from which texts, numbers and ids are read.
pub fn name(bytes: &[u8]) -> bool {
    for space in [Space::Kv, Space::Event, Space::EventType, Space::TraceChild, Space::RunAll, Space::RunTag] {
        let _ = space.show(bytes);
    }
    if let Some(end) = prefix_end(bytes) {
        assert!(*bytes < *end && !end.starts_with(bytes), "the end of a prefix is above all it starts");
    }
    let text = leading_text(bytes);
    if let Some(text) = &text {
        assert!(bytes.starts_with(&text_prefix(text)), "a text has one form");
    }
    let _: (Option<u64>, Option<RunId>, Name) = (number_at_end(bytes), run_at_end(bytes), Name::from_slice(bytes));
    text.is_some()
}

fn to_bytes(written: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(written).expect("what was read is written")
}
