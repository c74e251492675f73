//! Whole encodings of everything that has a decoder.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::super::rng::Rng;
use crate::base::event::Event;
use crate::base::json::edit::{Change, Edit};
use crate::base::json::path::Path;
use crate::base::json::{Document, Json};
use crate::base::key::{Name, Space, number_name, text_number_name, unit_name};
use crate::base::limits::SHARDS;
use crate::base::lineage::{ReadSet, Source};
use crate::base::options::{HistoryRetention, Partitioning};
use crate::base::run::{RunMetadata, RunStatus};
use crate::base::run_id::RunId;
use crate::base::state::State;
use crate::base::stored::{Stored, Write};
use crate::base::trace::{Trace, TraceType};
use crate::base::value::Value;
use crate::base::version::Version;
use crate::format::manifest::{Manifest, SealedSegment};
use crate::format::record::{self, CommitBody, PartBody, PartHead, Position, RecordHeader, TransactionId};
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::format::snapshot::{SnapshotEncoder, SnapshotHeader, SnapshotId};
use crate::format::{BLOCK, round_up_to_block};
use crate::primitive::index;
use crate::store::memory::Memory;

const STATUSES: [RunStatus; 3] = [RunStatus::Active, RunStatus::Paused, RunStatus::Failed];

fn word(rng: &mut Rng) -> String {
    (*rng.pick(&["", "a", "step", "$bytes", "$f64", "NaN", "00ff", "1", "a\0b", "\u{1f600}"])).to_owned()
}

fn number(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => rng.below(10),
        1 => *rng.pick(&[0, 1, i64::MAX as u64, 1 << 63, u64::MAX]),
        _ => rng.next(),
    }
}

fn any_value(rng: &mut Rng, levels: u64) -> Value {
    match rng.below(if levels > 0 { 10 } else { 7 }) {
        0 => Value::Null,
        1 => Value::Bool(rng.chance(500)),
        2 => Value::from(number(rng)),
        3 => Value::I64(number(rng).cast_signed()),
        4 => Value::F64(f64::from_bits(*rng.pick(&[0, 1 << 63, 0x7ff0 << 48, 0x7ff8 << 48, u64::MAX]) ^ rng.below(2))),
        5 => Value::from(word(rng)),
        6 => Value::Bytes(Bytes::copy_from_slice(&rng.bytes())),
        7 => {
            // A few go deep; four times that is almost as deep as may be.
            let depth = if rng.chance(50) { rng.below(25) } else { 1 };
            (0..depth).fold(any_value(rng, levels - 1), |inner, _| Value::Array(vec![inner]))
        }
        8 => Value::Array((0..rng.below(5)).map(|_| any_value(rng, levels - 1)).collect()),
        _ => Value::Map((0..rng.below(4)).map(|_| (word(rng), any_value(rng, levels - 1))).collect()),
    }
}

fn small(rng: &mut Rng) -> Value {
    any_value(rng, 2)
}

fn event(rng: &mut Rng, sequence: u64) -> Event {
    let (event_type, payload) = (word(rng), small(rng));
    let mut event = Event { sequence, event_type, payload, timestamp: 5, prev_hash: [0; 32], hash: [0; 32] };
    event.hash = event.compute_hash();
    event
}

fn trace(rng: &mut Rng) -> Trace {
    let trace_type = match rng.below(4) {
        0 => TraceType::from(word(rng)),
        1 => TraceType::Thought { content: word(rng), confidence: Some(0.5) },
        2 => TraceType::Decision { question: word(rng), options: vec![word(rng)], chosen: word(rng), reasoning: None },
        _ => TraceType::ToolCall {
            tool_name: word(rng),
            arguments: small(rng),
            result: Some(small(rng)),
            duration_ms: Some(number(rng)),
        },
    };
    let id = format!("{:016x}", number(rng));
    let parent_id = rng.chance(500).then(|| id.clone());
    Trace { id, parent_id, trace_type, timestamp: 7, tags: vec![word(rng), word(rng)], metadata: small(rng) }
}

fn metadata(rng: &mut Rng, run_id: RunId) -> RunMetadata {
    RunMetadata {
        name: word(rng),
        run_id,
        parent_run: rng.chance(500).then(|| RunId::from_bytes(rng.bytes())),
        status: *rng.pick(&STATUSES),
        created_at: 1,
        updated_at: 2,
        completed_at: rng.chance(500).then_some(3),
        tags: vec![word(rng)],
        metadata: small(rng),
        error: rng.chance(500).then(|| word(rng)),
    }
}

fn document(rng: &mut Rng) -> Json {
    Json::from_value(small(rng).to_json()).unwrap()
}

/// A document that is made and edited.
fn edited_document(rng: &mut Rng) -> [Write; 2] {
    let (run, name) = (RunId::from_bytes([9; 16]), Name::from_slice(word(rng).as_bytes()));
    let made = Json::from_value(serde_json::json!({"items": [1, 2], "gone": word(rng)})).unwrap();
    let edit = |path: &str, change: Change| Edit { path: Path::parse(path).unwrap(), change };
    let edits = vec![
        edit("/member", Change::Set(document(rng))),
        edit("/items/0", Change::Take),
        edit("/items/1", Change::Insert(document(rng))),
        edit("/gone", Change::Remove),
    ];
    let stored = Stored::Json(Arc::new(Document::new(made)));
    [
        Write::Put { run, space: Space::Json, name: name.clone(), stored, expires: None },
        Write::EditJson { run, name, edits },
    ]
}

/// A write of one of three runs: some follow from each other.
fn write(rng: &mut Rng) -> Write {
    let run = RunId::from_bytes([*rng.pick(&[1, 2, 3]); 16]);
    let text = |rng: &mut Rng| Name::from_slice(word(rng).as_bytes());
    let few = rng.below(4);
    let (space, name, stored) = match rng.below(10) {
        0 | 1 => (Space::Kv, text(rng), Stored::Value(small(rng).into())),
        2 => (Space::Event, number_name(few), Stored::Event(Arc::new(event(rng, few)))),
        3 => {
            let state = State { value: small(rng), version: number(rng), updated_at: 9 };
            (Space::State, text(rng), Stored::State(Arc::new(state)))
        }
        4 => (Space::State, text(rng), Stored::DeletedState(few)),
        5 => (Space::Trace, number_name(few + 1), Stored::Trace(Arc::new(trace(rng)))),
        6 => (Space::Run, unit_name(), Stored::Run(Arc::new(metadata(rng, run)))),
        7 => {
            let name = text(rng);
            let run = RunId::DIRECTORY;
            return Write::Put { run, space: Space::RunName, name, stored: Stored::RunId(run), expires: None };
        }
        8 => (Space::Json, text(rng), Stored::Json(Arc::new(Document::new(document(rng))))),
        _ => return Write::Delete { run, space: Space::Kv, name: text(rng) },
    };
    let expires = rng.chance(if space == Space::Json { 0 } else { 200 }).then(|| Version::from(number(rng)));
    Write::Put { run, space, name, stored, expires }
}

/// A write that no shard would log.
fn forged_write(rng: &mut Rng) -> Write {
    let spaces = [Space::Kv, Space::Event, Space::EventHead, Space::State, Space::Trace, Space::Run, Space::RunName];
    match write(rng) {
        Write::Put { space, name, stored, expires, .. } => {
            let run = RunId::from_bytes([*rng.pick(&[0, 1]); 16]);
            let space = if rng.chance(800) { space } else { *rng.pick(&spaces) };
            let name = if rng.chance(800) { name } else { Name::from_slice(word(rng).as_bytes()) };
            let stored = match stored {
                Stored::Event(event) if rng.chance(300) => {
                    let sequence = number(rng);
                    return Write::Put {
                        run,
                        space: Space::Event,
                        name: number_name(sequence),
                        stored: Stored::Event(Arc::new(Event { sequence, ..Event::clone(&event) })),
                        expires,
                    };
                }
                stored => stored,
            };
            Write::Put { run, space, name, stored, expires }
        }
        Write::Delete { run, name, .. } if rng.chance(700) => Write::Delete { run, space: *rng.pick(&spaces), name },
        Write::Delete { run, .. } | Write::DeleteRun { run } => Write::DeleteRun { run },
        edit @ Write::EditJson { .. } => edit,
    }
}

fn commit(rng: &mut Rng) -> CommitBody<Vec<Write>> {
    if rng.chance(200) {
        return CommitBody::of(edited_document(rng).into());
    }
    let reads = read_set(rng);
    CommitBody { reads, ..CommitBody::of((0..rng.below(4)).map(|_| write(rng)).collect()) }
}

/// What a commit read, if that was kept.
fn read_set(rng: &mut Rng) -> Option<Arc<ReadSet>> {
    let source = |rng: &mut Rng| {
        let (name, space) =
            (Name::from_slice(word(rng).as_bytes()), *rng.pick(&[Space::Kv, Space::Event, Space::JsonPath]));
        if rng.chance(700) {
            return Source::Key { space, name, version: number(rng).into() };
        }
        let to = rng.chance(500).then(|| Name::from_slice(word(rng).as_bytes()));
        Source::Range { space, from: name, to, at: number(rng).into() }
    };
    let count = rng.below(4);
    rng.chance(500)
        .then(|| Arc::new(ReadSet::of((0..count).map(|_| (RunId::from_bytes([*rng.pick(&[1, 2]); 16]), source(rng))))))
}

fn part(rng: &mut Rng, participants: u64) -> PartBody<Vec<Write>> {
    let participants = (0..participants).map(|shard| u32::try_from(shard).unwrap()).collect();
    let earliest_expiry = *rng.pick(&[Version::MAX, Version::from(900)]);
    PartBody { head: PartHead { participants, earliest_expiry, reads: read_set(rng) }, commit: commit(rng) }
}

fn bytes_of(written: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(written).unwrap()
}

pub(super) fn commit_body(rng: &mut Rng) -> Vec<u8> {
    bytes_of(&commit(rng))
}

pub(super) fn part_body(rng: &mut Rng) -> Vec<u8> {
    let participants = rng.below(5);
    bytes_of(&part(rng, participants))
}

/// One of each kind.
fn stage(rng: &mut Rng, batch: &mut Vec<u8>, version: u64) {
    let id = TransactionId { incarnation: 1, shard: 0, number: version };
    let version = Version::from(version);
    match rng.below(6) {
        0 => record::stage(batch, RecordHeader::part(version, id, 0, 1), &part(rng, 1)),
        1 => record::stage(batch, RecordHeader::part(version, id, 0, 2), &part(rng, 2)),
        2 => record::stage(batch, RecordHeader::abort(id), &()),
        3 => record::stage(batch, RecordHeader::mark(version), &()),
        _ => record::stage(batch, RecordHeader::commit(version, id), &commit(rng)),
    }
    .unwrap();
}

pub(super) fn record(rng: &mut Rng) -> Vec<u8> {
    let mut batch = Vec::new();
    stage(rng, &mut batch, 100);
    let position = Position::new(0, BLOCK as u64 * rng.below(9));
    record::seal(&mut batch, position, Position::START, rng.next());
    batch
}

fn header(rng: &mut Rng) -> SegmentHeader {
    let id = SegmentId { incarnation: 1, shard: 0, index: 0 };
    SegmentHeader { id, database: rng.bytes(), salt: rng.next(), capacity: 1 << 20, strict: true }
}

pub(super) fn segment_header(rng: &mut Rng) -> Vec<u8> {
    header(rng).to_block()
}

/// A few batches of a few records, the last of which is a commit, and room behind them.
pub(super) fn segment(rng: &mut Rng) -> Vec<u8> {
    let header = header(rng);
    let mut bytes = header.to_block();
    let mut durable = Position::new(0, BLOCK as u64);
    let batches = 1 + rng.below(3);
    for number in 0..batches {
        let mut batch = Vec::new();
        for at in 0..rng.below(4) {
            stage(rng, &mut batch, 100 * (number + 1) + at);
        }
        let last = RecordHeader::commit(Version::from(100 * (number + 2) - 1), TransactionId::default());
        record::stage(&mut batch, last, &CommitBody::of(Vec::<Write>::new())).unwrap();
        record::seal(&mut batch, Position::new(0, bytes.len() as u64), durable, header.salt);
        bytes.extend_from_slice(&batch);
        bytes.resize(round_up_to_block(bytes.len()), 0);
        durable = Position::new(0, bytes.len() as u64);
    }
    bytes.resize(bytes.len() + BLOCK, 0);
    bytes
}

/// One batch of writes at versions as they come; at most one in three is forged, so that some are replayed.
pub(super) fn forged_segment(rng: &mut Rng) -> Vec<u8> {
    let header = header(rng);
    let mut batch = Vec::new();
    let forged = rng.below(330);
    for _ in 0..rng.below(12) {
        let writes = match rng.below(1000) {
            chance if chance < forged => vec![forged_write(rng)],
            950.. => edited_document(rng).into(),
            _ => vec![write(rng)],
        };
        let version = Version::from(1 + rng.below(6));
        let id = TransactionId { incarnation: 1, shard: 0, number: rng.below(3) };
        let (part, parts) = (rng.below(3), rng.below(3));
        let header = RecordHeader::part(version, id, u16::try_from(part).unwrap(), u16::try_from(parts).unwrap());
        let head = PartHead {
            participants: vec![0; usize::try_from(parts).unwrap()],
            earliest_expiry: Version::MAX,
            reads: None,
        };
        match rng.below(4) {
            0 => record::stage(&mut batch, header, &PartBody { head, commit: CommitBody::of(writes) }).unwrap(),
            _ => record::stage(&mut batch, RecordHeader::commit(version, id), &CommitBody::of(writes)).unwrap(),
        }
    }
    record::seal(&mut batch, Position::new(0, BLOCK as u64), Position::START, header.salt);
    let mut bytes = header.to_block();
    bytes.extend_from_slice(&batch);
    bytes.resize(round_up_to_block(bytes.len()) + BLOCK, 0);
    bytes
}

/// What some writes left, each at a version of its own.
pub(super) fn snapshot(rng: &mut Rng) -> Vec<u8> {
    let mut memory = Memory::new(HistoryRetention::Forever);
    let mut version = Version::ZERO;
    for _ in 0..=rng.below(12) {
        version = version.next();
        let _ = index::replay(&mut memory, write(rng), version, Version::ZERO);
    }
    let id = SnapshotId { number: 1, shard: 0 };
    let header = SnapshotHeader { id, database: rng.bytes(), version, salt: rng.next() };
    let (mut encoder, mut bytes) = SnapshotEncoder::new(&header);
    let mut dump = memory.dump_at(version);
    while let Some(piece) = memory.next_piece(&mut dump) {
        bytes.extend(encoder.block(&[piece]).unwrap());
    }
    bytes.extend(encoder.finish().unwrap());
    bytes
}

pub(super) fn manifest(rng: &mut Rng) -> Vec<u8> {
    let shards = 1 + u32::try_from(rng.below(SHARDS as u64)).unwrap();
    let segment = |index: u32| SealedSegment {
        id: SegmentId { incarnation: 1, shard: shards - 1, index },
        shards,
        partitioning: Partitioning::ByKey,
        salt: u64::from(index),
        end: 8192,
        cut: Version::MAX,
        has_parts: true,
    };
    let count = u32::try_from(rng.below(5)).unwrap();
    let manifest = Manifest {
        clock_reserved: Version::from(rng.next()),
        closed: rng.chance(500),
        sealed: (0..count).map(segment).collect(),
        ..Manifest::new(rng.bytes(), 2, shards, Partitioning::ByRun)
    };
    manifest.to_bytes()
}

pub(super) fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => bytes_of(&event(rng, 3)),
        1 => bytes_of(&State { value: small(rng), version: 1, updated_at: 2 }),
        2 => bytes_of(&trace(rng)),
        3 => bytes_of(&metadata(rng, RunId::from_bytes([4; 16]))),
        // A value that other types are read out of.
        4 => bytes_of(&Value::encode(&trace(rng)).unwrap()),
        _ => bytes_of(&any_value(rng, 4)),
    }
}

pub(super) fn json(rng: &mut Rng) -> Vec<u8> {
    any_value(rng, 4).to_json().to_string().into_bytes()
}

pub(super) fn text(rng: &mut Rng) -> Vec<u8> {
    if rng.chance(500) {
        return RunId::from_bytes(rng.bytes()).to_string().into_bytes();
    }
    let mut part = || u32::try_from(number(rng) >> 32).unwrap();
    SegmentId { incarnation: part(), shard: part(), index: part() }.file_name().into_bytes()
}

pub(super) fn name(rng: &mut Rng) -> Vec<u8> {
    let text = word(rng);
    text_number_name(&text, number(rng)).to_vec()
}
