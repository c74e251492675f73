//! A memory with nothing around it: commands run and commit one after the other, at versions that rise.
//!
//! - Every command takes a microsecond, unless the test sets the clock.
//! - Nothing is collected: readers may look at any snapshot.

use super::command::{Command, EventCommand, JsonCommand, KvCommand, NewRun, RunCommand, StateCommand, TraceCommand};
use super::index;
use super::output::Output;
use crate::base::error::{Conflict, Error, Result};
use crate::base::key::{Name, Space};
use crate::base::options::HistoryRetention;
use crate::base::run::RunMetadata;
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::trace::{Trace, TraceType};
use crate::base::value::Value;
use crate::base::version::Version;
use crate::commit::access::Access;
use crate::commit::part::Part;
use crate::store::chain::Revision;
use crate::store::memory::Memory;

/// The run most tests use.
pub(super) const RUN: RunId = RunId::from_bytes([1; 16]);
/// Another one.
pub(super) const OTHER: RunId = RunId::from_bytes([2; 16]);

/// A memory, a clock and a log.
#[derive(Debug)]
pub(super) struct Harness {
    pub(super) memory: Memory,
    pub(super) now: u64,
    pub(super) log: Vec<(Version, Write)>,
}

impl Harness {
    pub(super) fn new() -> Self {
        Self { memory: Memory::new(HistoryRetention::Forever), now: 1_000_000, log: Vec::new() }
    }

    pub(super) fn version(&self) -> Version {
        Version::from(self.now)
    }

    fn tick(&mut self) {
        self.now += 1_000;
    }

    /// Runs a command in `RUN` as a transaction of its own.
    pub(super) fn run(&mut self, command: impl Into<Command>) -> Result<Output> {
        self.run_in(RUN, command)
    }

    /// Runs a command as a transaction of its own.
    pub(super) fn run_in(&mut self, run: RunId, command: impl Into<Command>) -> Result<Output> {
        self.tick();
        let mut part = Part::immediate(self.version());
        let result = self.step_in(&mut part, run, command);
        assert!(result.is_ok() || part.writes().is_empty(), "a command that fails has written nothing");
        if result.is_ok() {
            self.apply(part);
        }
        result
    }

    /// Runs a command in the directory.
    pub(super) fn run_in_directory(&mut self, command: RunCommand) -> Output {
        self.run_in(RunId::DIRECTORY, command).unwrap()
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self) -> Part {
        self.tick();
        Part::tracked(self.version())
    }

    /// Runs a command of a transaction in `RUN`.
    pub(super) fn step(&mut self, part: &mut Part, command: impl Into<Command>) -> Result<Output> {
        self.tick();
        self.step_in(part, RUN, command)
    }

    /// Runs a command of a transaction at the time it is.
    pub(super) fn step_in(&self, part: &mut Part, run: RunId, command: impl Into<Command>) -> Result<Output> {
        super::execute(&mut Access::new(&self.memory, part, self.version()), run, command.into())
    }

    /// Commits a transaction.
    pub(super) fn commit(&mut self, part: Part) -> Result<(), Conflict> {
        self.tick();
        part.validate(&self.memory, self.version())?;
        self.apply(part);
        Ok(())
    }

    fn apply(&mut self, part: Part) {
        for write in part.into_writes() {
            self.log.push((self.version(), write.clone()));
            index::apply(&mut self.memory, write, Version::from(self.now), Version::ZERO);
        }
    }

    /// The memory that a recovery makes of the log.
    pub(super) fn recovered(&self) -> Memory {
        let mut memory = Memory::new(HistoryRetention::Forever);
        for (version, write) in &self.log {
            index::apply(&mut memory, write.clone(), *version, Version::ZERO);
        }
        memory
    }

    /// Changes memory behind the back of everybody.
    pub(super) fn tamper(&mut self, space: Space, name: Name, stored: Option<Stored>) {
        self.tick();
        let revision = Revision { version: self.version(), expires: Version::MAX, stored };
        self.memory.push(RUN, space, name, revision, Version::ZERO).unwrap();
    }
}

/// Asserts that two parts that were begun before either commits collide when both commit, or that they do not.
#[track_caller]
pub(super) fn assert_collide(harness: &mut Harness, one: impl Into<Command>, other: impl Into<Command>, collide: bool) {
    let (mut first, mut second) = (harness.begin(), harness.begin());
    harness.step(&mut first, one).unwrap();
    harness.step(&mut second, other).unwrap();
    harness.commit(first).unwrap();
    assert_eq!(harness.commit(second).is_err(), collide);
}

#[track_caller]
pub(super) fn assert_refused(result: Result<Output>, what: &str) {
    match result {
        Err(Error::InvalidOperation(message)) => assert!(message.contains(what), "{message}"),
        other => panic!("not refused: {other:?}"),
    }
}

pub(super) fn record(number: u64, parent: Option<&str>, trace_type: TraceType, tags: &[&str]) -> TraceCommand {
    let tags = tags.iter().copied().map(String::from).collect();
    let parent_id = parent.map(String::from);
    let trace = Trace { id: String::new(), parent_id, trace_type, timestamp: 0, tags, metadata: Value::Null };
    TraceCommand::Record { number, trace: Box::new(trace) }
}

pub(super) fn append(event_type: &str) -> EventCommand {
    EventCommand::Append { event_type: event_type.into(), payload: Value::from(event_type), expected_len: None }
}

pub(super) fn create(name: &str, parent: Option<RunId>, tags: &[&str]) -> RunCommand {
    let tags = tags.iter().copied().map(String::from).collect();
    RunCommand::Create(Box::new(NewRun { name: name.into(), parent, tags, metadata: Value::Null, history: None }))
}

impl Output {
    #[track_caller]
    pub(super) fn into_run(self) -> RunMetadata {
        match self {
            Self::Run(run) => RunMetadata::clone(&run),
            other => panic!("not a run: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn into_traces(self) -> Vec<Trace> {
        match self {
            Self::Traces(traces) => traces.iter().map(|trace| Trace::clone(trace)).collect(),
            other => panic!("no traces: {other:?}"),
        }
    }

    /// What identifies the records in a list: sequences, ids, names.
    #[track_caller]
    pub(super) fn ids(self) -> Vec<String> {
        match self {
            Self::Events(events) => events.iter().map(|event| event.sequence.to_string()).collect(),
            Self::Traces(traces) => traces.iter().map(|trace| trace.id.clone()).collect(),
            Self::Runs(runs) => runs.iter().map(|run| run.name.clone()).collect(),
            Self::Texts(texts) => texts,
            Self::Pairs(pairs) => pairs.into_iter().map(|(key, _)| key).collect(),
            other => panic!("not a list: {other:?}"),
        }
    }
}

impl From<KvCommand> for Command {
    fn from(command: KvCommand) -> Self {
        Self::Kv(command)
    }
}

impl From<EventCommand> for Command {
    fn from(command: EventCommand) -> Self {
        Self::Event(command)
    }
}

impl From<StateCommand> for Command {
    fn from(command: StateCommand) -> Self {
        Self::State(command)
    }
}

impl From<TraceCommand> for Command {
    fn from(command: TraceCommand) -> Self {
        Self::Trace(command)
    }
}

impl From<JsonCommand> for Command {
    fn from(command: JsonCommand) -> Self {
        Self::Json(command)
    }
}

impl From<RunCommand> for Command {
    fn from(command: RunCommand) -> Self {
        Self::Run(command)
    }
}
