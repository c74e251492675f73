//! The mix: random commands, of every kind there is, that often meet each other.
//!
//! - What a client would know from earlier answers (versions, ids, lengths) is looked up in the model.

use std::time::Duration;

use super::model::{Model, Run};
use super::rng::Rng;
use super::swarm::{Swarm, some_history};
use crate::base::json::Json;
use crate::base::json::path::Path;
use crate::base::key::Name;
use crate::base::run::RunStatus;
use crate::base::run_id::RunId;
use crate::base::trace::{Trace, TraceType};
use crate::base::value::Value;
use crate::base::version::Version;
use crate::primitive::command::{
    Command, EventCommand, JsonCommand, JsonOperation, KvCommand, KvScan, NewRun, RunCommand, RunFilter, StateCommand,
    TraceCommand,
};

/// Texts that are awkward in composite keys.
const AWKWARD: [&str; 8] = ["a", "a\0", "a\0\0", "a__b", "ä", "\u{ff}", "Custom", "a\u{10ffff}"];

/// What commands are made from.
pub(super) struct Mix<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) swarm: &'a Swarm,
    pub(super) model: &'a Model,
    /// Every run there is, for parents.
    pub(super) runs: &'a [RunId],
    /// Names whose home is the shard that is asked.
    pub(super) names: &'a [String],
    /// A number no other trace gets.
    pub(super) number: u64,
    /// Database time.
    pub(super) now: Version,
}

impl Mix<'_> {
    /// A command for this run, or for the directory of its shard.
    pub(super) fn command(&mut self, run: RunId) -> (RunId, Command) {
        let state = self.model.run(run);
        let writes = self.rng.chance(self.swarm.writes);
        match self.rng.weighted(&self.swarm.primitives) {
            0 if writes => (run, Command::Kv(self.kv_write(&state))),
            0 => (run, Command::Kv(self.kv_read())),
            1 if writes => (run, Command::Event(self.event_write(&state))),
            1 => (run, Command::Event(self.event_read(&state))),
            2 if writes => (run, Command::State(self.state_write(&state))),
            2 => (run, Command::State(self.state_read())),
            3 if writes => (run, Command::Trace(self.record(&state))),
            3 => (run, Command::Trace(self.trace_read(&state))),
            4 => (run, Command::Json(if writes { self.json_write(&state) } else { self.json_read() })),
            _ if self.rng.chance(400) => (RunId::DIRECTORY, Command::Run(self.directory(run, writes))),
            _ => (run, Command::Run(if writes { self.run_write() } else { RunCommand::Get })),
        }
    }

    fn text(&mut self) -> String {
        if self.rng.chance(200) {
            return (*self.rng.pick(&AWKWARD)).into();
        }
        format!("k{}", self.rng.below(self.swarm.keys))
    }

    fn key(&mut self) -> Name {
        self.text().into()
    }

    fn keys(&mut self) -> Vec<Name> {
        (0..self.rng.below(4)).map(|_| self.key()).collect()
    }

    fn some_text(&mut self) -> Option<String> {
        let choice = self.rng.below(4);
        match choice {
            0 => Some(self.text()),
            1 => Some((*self.rng.pick(&["", "k", "k1", "a"])).into()),
            _ => None,
        }
    }

    fn value(&mut self) -> Value {
        if self.rng.chance(self.swarm.large_values) {
            let length = usize::try_from(self.rng.below(self.swarm.largest_value)).unwrap();
            return "x".repeat(length).into();
        }
        match self.rng.below(10) {
            // Records that fill several sectors, so that torn writes tear them.
            9 => "y".repeat(self.rng.index(3_000)).into(),
            0 => Value::Null,
            1 => Value::Bool(true),
            2 => Value::F64(f64::NAN),
            3 => Value::from(vec![Value::from(1), Value::from("two")]),
            4 => Value::Bytes(vec![0, 0, 0, 0].into()),
            5 => Value::U64(u64::MAX),
            6 => Value::from(self.text()),
            _ => Value::I64(i64::try_from(self.rng.below(1000)).unwrap()),
        }
    }

    fn kv_write(&mut self, state: &Run) -> KvCommand {
        let key = self.key();
        match self.rng.below(8) {
            0 => KvCommand::PutMany { pairs: (0..self.rng.below(4)).map(|_| (self.key(), self.value())).collect() },
            1 => KvCommand::Delete { key },
            2 => KvCommand::DeleteMany { keys: self.keys() },
            3 => {
                let known = state.pairs.get(key.as_str()).and_then(|revisions| revisions.last());
                let expected = match self.rng.below(4) {
                    0 => None,
                    1 => Some(self.now),
                    _ => known.filter(|revision| revision.value.is_some()).map(|revision| revision.version),
                };
                KvCommand::CompareAndPut { key, expected, value: self.value() }
            }
            _ => {
                let lives = self.rng.chance(self.swarm.ttl);
                let ttl = lives.then(|| Duration::from_nanos(self.rng.below(self.swarm.longest_ttl)));
                KvCommand::Put { key, value: self.value(), ttl }
            }
        }
    }

    fn kv_read(&mut self) -> KvCommand {
        let key = self.key();
        let prefix = self.some_text();
        match self.rng.below(10) {
            0 | 1 => KvCommand::Get { key },
            2 => KvCommand::GetVersioned { key },
            3 => KvCommand::GetMany { keys: self.keys() },
            4 => KvCommand::Exists { key },
            5 => KvCommand::History { key },
            6 => KvCommand::List { prefix },
            7 => KvCommand::ListWithValues { prefix },
            8 => KvCommand::Count { prefix },
            _ => {
                let (start, end, after) = (self.some_text(), self.some_text(), self.some_text());
                let (reverse, limit) = (self.rng.chance(500), self.rng.index(9));
                KvCommand::Scan(Box::new(KvScan { prefix, start, end, after, reverse, limit }))
            }
        }
    }

    fn event_type(&mut self) -> String {
        (*self.rng.pick(&AWKWARD[..4])).into()
    }

    fn event_write(&mut self, state: &Run) -> EventCommand {
        if self.rng.chance(300) {
            let events = (0..self.rng.below(4)).map(|_| (self.event_type(), self.value())).collect();
            return EventCommand::AppendMany { events };
        }
        let length = state.events.len() as u64;
        let expected_len = *self.rng.pick(&[None, None, Some(length), Some(length + 1)]);
        EventCommand::Append { event_type: self.event_type(), payload: self.value(), expected_len }
    }

    fn event_read(&mut self, state: &Run) -> EventCommand {
        let length = state.events.len() as u64;
        let (start, end) = (self.rng.below(length + 2), self.rng.below(length + 2));
        match self.rng.below(9) {
            0 => EventCommand::Read { sequence: start },
            1 | 2 => EventCommand::ReadRange { range: start..end, limit: self.rng.index(9) },
            3 => EventCommand::Head,
            4 => EventCommand::Len,
            5 => EventCommand::ReadByType { event_type: self.event_type() },
            6 => EventCommand::ReadByTime { range: self.times(state.events.iter().map(|event| event.timestamp)) },
            7 => EventCommand::Types,
            _ => EventCommand::Verify,
        }
    }

    /// A range of times that starts and ends at some of these, or before or after all.
    fn times(&mut self, known: impl Iterator<Item = i64>) -> std::ops::Range<i64> {
        let mut times: Vec<i64> = known.collect();
        times.extend([0, i64::MAX, self.now.as_micros()]);
        *self.rng.pick(&times)..*self.rng.pick(&times)
    }

    fn state_write(&mut self, state: &Run) -> StateCommand {
        let name = self.key();
        match self.rng.below(6) {
            0 => StateCommand::Init { name, value: self.value() },
            1 => StateCommand::Delete { name },
            2 => {
                let known = state.cells.get(name.as_str()).map_or(0, |cell| cell.version);
                let expected = if self.rng.chance(700) { known } else { self.rng.below(3) };
                StateCommand::CompareAndSwap { name, expected, value: self.value() }
            }
            3 => StateCommand::Set { name, value: self.value() },
            _ => StateCommand::Increment { name, by: *self.rng.pick(&[1, -7, i64::MAX]) },
        }
    }

    fn state_read(&mut self) -> StateCommand {
        let name = self.key();
        match self.rng.below(3) {
            0 => StateCommand::Read { name },
            1 => StateCommand::Exists { name },
            _ => StateCommand::List,
        }
    }

    /// A place in a document: some hold scalars only, one mostly an object, one mostly an array.
    fn place(&mut self) -> Path {
        let scalar = self.scalar_place();
        let place = match self.rng.below(8) {
            0 => String::new(),
            1 => "/o".into(),
            2 => "/a".into(),
            3 => format!("/a/{}", self.rng.pick(&["0", "1", "-", "00"])),
            4 => format!("/o{scalar}"),
            5 => "/gone/x".into(),
            _ => scalar,
        };
        Path::parse(&place).unwrap()
    }

    fn scalar_place(&mut self) -> String {
        format!("/{}", self.rng.pick(&["s", "t", "~1", ""]))
    }

    fn scalar(&mut self) -> serde_json::Value {
        match self.rng.below(5) {
            0 => serde_json::Value::Null,
            1 => u64::MAX.into(),
            2 => (-0.5).into(),
            3 => self.text().into(),
            _ => self.rng.below(1000).into(),
        }
    }

    fn object(&mut self) -> serde_json::Value {
        let mut members = serde_json::Map::new();
        for _ in 0..self.rng.below(4) {
            let place = self.scalar_place();
            members.insert(place[1..].into(), self.scalar());
        }
        members.into()
    }

    /// What may be at a place: documents stay small.
    fn json_at(&mut self, place: &Path) -> Json {
        let value = match place.to_string().as_str() {
            "" => self.document(),
            "/o" if self.rng.chance(900) => self.object(),
            "/a" if self.rng.chance(900) => (0..self.rng.below(4)).map(|_| self.scalar()).collect(),
            _ => self.scalar(),
        };
        Json::from_value(value).unwrap()
    }

    fn document(&mut self) -> serde_json::Value {
        let mut document = self.object();
        if let Some(members) = document.as_object_mut().filter(|_| self.rng.chance(900)) {
            members.insert("o".into(), self.object());
            members.insert("a".into(), (0..self.rng.below(4)).map(|_| self.scalar()).collect());
        }
        document
    }

    fn operation(&mut self) -> JsonOperation {
        let path = self.place();
        let from = Path::parse(&self.scalar_place()).unwrap();
        match self.rng.below(7) {
            0 => JsonOperation::Remove { path },
            1 => JsonOperation::Replace { value: self.json_at(&path), path },
            2 => JsonOperation::Move { from, path },
            3 => JsonOperation::Copy { from, path },
            4 => JsonOperation::Test { value: self.json_at(&path), path },
            _ => JsonOperation::Add { value: self.json_at(&path), path },
        }
    }

    fn json_write(&mut self, state: &Run) -> JsonCommand {
        let (key, path) = (self.key(), self.place());
        match self.rng.below(12) {
            0..3 => JsonCommand::Create { key, document: self.json_at(&Path::default()) },
            3 => JsonCommand::Delete { key },
            4 => JsonCommand::DeleteAt { key, path },
            5 => JsonCommand::Push { key, path, value: Json::from_value(self.scalar()).unwrap() },
            6 => JsonCommand::Merge { key, patch: self.json_at(&Path::default()) },
            7 => {
                let known = state.documents.get(key.as_str()).map(|document| document.version);
                let expected = known.filter(|_| self.rng.chance(800)).unwrap_or(self.now);
                JsonCommand::CompareAndSet { key, expected, value: self.json_at(&path), path }
            }
            8 | 9 => JsonCommand::Patch { key, operations: (0..self.rng.below(4)).map(|_| self.operation()).collect() },
            _ => JsonCommand::Set { key, value: self.json_at(&path), path },
        }
    }

    fn json_read(&mut self) -> JsonCommand {
        let (key, path) = (self.key(), self.place());
        match self.rng.below(6) {
            0 => JsonCommand::Version { key },
            1 => JsonCommand::Exists { key },
            2 => JsonCommand::List { prefix: self.some_text() },
            _ => JsonCommand::Get { key, path },
        }
    }

    fn trace_id(&mut self, state: &Run) -> Option<String> {
        let ids: Vec<&String> = state.traces.values().map(|trace| &trace.id).collect();
        if ids.is_empty() || self.rng.chance(50) { None } else { Some((*self.rng.pick(&ids)).clone()) }
    }

    fn record(&mut self, state: &Run) -> TraceCommand {
        let trace_type = match self.rng.below(4) {
            0 => TraceType::Thought { content: self.text(), confidence: Some(0.5) },
            1 => TraceType::from("plan"),
            2 => TraceType::from("ToolCall"),
            _ => {
                TraceType::ToolCall { tool_name: self.text(), arguments: self.value(), result: None, duration_ms: None }
            }
        };
        let parent = match self.rng.below(8) {
            0 => Some("0000000000000001".into()),
            1..4 => self.trace_id(state),
            _ => None,
        };
        // Now and then a number that is taken: the next free one counts.
        let taken = state.traces.keys().next_back().copied().filter(|_| self.rng.chance(100));
        let tags = (0..self.rng.below(3)).map(|_| self.event_type()).collect();
        let metadata = self.value();
        let trace = Trace { id: String::new(), parent_id: parent, trace_type, timestamp: 0, tags, metadata };
        TraceCommand::Record { number: taken.unwrap_or(self.number), trace: Box::new(trace) }
    }

    fn trace_read(&mut self, state: &Run) -> TraceCommand {
        let id = self.trace_id(state).unwrap_or_else(|| "no id".into());
        match self.rng.below(10) {
            0 | 1 => TraceCommand::Get { id },
            2 => TraceCommand::ByKind {
                kind: (*self.rng.pick(&["Thought", "ToolCall", "Custom", "Custom:plan"])).into(),
            },
            3 => TraceCommand::ByTag { tag: self.event_type() },
            4 => TraceCommand::ByTime { range: self.times(state.traces.values().map(|trace| trace.timestamp)) },
            5 => TraceCommand::Children { id },
            6 => TraceCommand::Roots,
            7 => TraceCommand::Tree { id },
            8 => TraceCommand::Count,
            _ => {
                let after = state.traces.keys().next().copied().filter(|_| self.rng.chance(700));
                TraceCommand::Page { after: after.unwrap_or(0), limit: self.rng.index(5) }
            }
        }
    }

    fn tags(&mut self) -> Vec<String> {
        (0..self.rng.below(3)).map(|_| self.event_type()).collect()
    }

    fn run_write(&mut self) -> RunCommand {
        if self.rng.chance(self.swarm.deletes_of_runs) {
            return RunCommand::Delete;
        }
        match self.rng.below(6) {
            0 | 1 => RunCommand::Create(Box::new(NewRun {
                name: self.text(),
                parent: Some(*self.rng.pick(self.runs)).filter(|_| self.rng.chance(500)),
                tags: self.tags(),
                metadata: self.value(),
                history: self.rng.chance(self.swarm.own_histories).then(|| some_history(self.rng)),
            })),
            2 => RunCommand::AddTags { tags: self.tags() },
            3 => RunCommand::RemoveTags { tags: self.tags() },
            4 => RunCommand::UpdateMetadata { metadata: self.value() },
            _ => {
                use RunStatus::{Active, Archived, Cancelled, Completed, Failed, Paused};
                let often = [Active, Paused, Active, Paused, Active, Paused, Completed, Failed, Cancelled, Archived];
                let error = Some(self.text()).filter(|_| self.rng.chance(300));
                RunCommand::UpdateStatus { to: *self.rng.pick(&often), error }
            }
        }
    }

    fn directory(&mut self, run: RunId, writes: bool) -> RunCommand {
        let name = self.names.get(self.rng.index(self.names.len().max(1))).cloned();
        if let Some(name) = name.filter(|_| self.rng.chance(700)) {
            return match self.rng.below(3) {
                _ if !writes => RunCommand::LookUpName { name },
                0 => RunCommand::ReleaseName { name, id: run },
                _ => RunCommand::ClaimName { name, id: run },
            };
        }
        RunCommand::List(match self.rng.below(4) {
            0 => RunFilter::All,
            1 => RunFilter::Status(*self.rng.pick(&[RunStatus::Active, RunStatus::Paused, RunStatus::Failed])),
            2 => RunFilter::Tag(self.event_type()),
            _ => RunFilter::Parent(*self.rng.pick(self.runs)),
        })
    }
}
