//! Cells: what transactions read and write, each as one thing.
//!
//! - What a cell holds is a list of numbers. The last one is a stamp that no other write has: it names who wrote it.
//! - A run's event log is one cell, of the stamps of its events; each trace is a cell of its own; so is each place in a JSON
//!   document that holds an array.
//! - The first letter of a key says what it is for.

use crate::base::key::Space;
use crate::base::run_id::RunId;
use crate::base::value::Value;
use crate::shard::route::Layout;

/// What kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Kv,
    State,
    Log,
    Trace,
    /// The name is the document's key, a slash and the path.
    Place,
}

/// What is read and written as one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) run: u8,
    pub(super) kind: Kind,
    pub(super) name: String,
}

/// What a cell holds.
pub(super) type Content = Vec<i64>;

/// How many stamps a transaction has.
pub(super) const STAMPS: i64 = 1_000;
/// Runs that are never deleted; those behind are.
pub(super) const LASTING_RUNS: u8 = 5;

impl Cell {
    pub(super) fn kv(run: u8, name: impl Into<String>) -> Self {
        Self { run, kind: Kind::Kv, name: name.into() }
    }

    pub(super) fn state(run: u8, name: impl Into<String>) -> Self {
        Self { run, kind: Kind::State, name: name.into() }
    }

    pub(super) const fn log(run: u8) -> Self {
        Self { run, kind: Kind::Log, name: String::new() }
    }

    pub(super) fn trace(run: u8, id: impl Into<String>) -> Self {
        Self { run, kind: Kind::Trace, name: id.into() }
    }

    pub(super) fn place(run: u8, name: impl Into<String>) -> Self {
        Self { run, kind: Kind::Place, name: name.into() }
    }

    /// Of a place in a document: its key, and the path.
    pub(super) fn in_document(&self) -> (&str, &str) {
        self.name.split_once('/').expect("a place is in a document")
    }

    /// Whether whoever writes it adds to what was there.
    pub(super) fn is_list(&self) -> bool {
        match self.kind {
            Kind::Log => true,
            Kind::Kv => self.name.starts_with('l'),
            Kind::State | Kind::Trace => false,
            Kind::Place => self.name.starts_with('k') && self.name.ends_with("/l"),
        }
    }

    pub(super) fn shard(&self, layout: Layout) -> usize {
        let run = run_id(self.run);
        match self.kind {
            Kind::Kv => layout.shard_of_key(&run, Space::Kv, self.name.as_bytes()),
            Kind::State => layout.shard_of_key(&run, Space::State, self.name.as_bytes()),
            Kind::Log | Kind::Trace => layout.shard_of_run(&run),
            Kind::Place => layout.shard_of_key(&run, Space::Json, self.in_document().0.as_bytes()),
        }
    }
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:?}/{}", self.run, self.kind, self.name)
    }
}

/// The id of a run.
pub(super) const fn run_id(run: u8) -> RunId {
    RunId::from_bytes([run + 1; 16])
}

/// The run with an id.
pub(super) fn run_of(id: RunId) -> u8 {
    id.as_bytes()[0] - 1
}

/// Who wrote something with this stamp.
pub(super) fn writer_of(content: &[i64]) -> u64 {
    let stamp = content.last().copied().expect("what is written has a stamp");
    u64::try_from(stamp / STAMPS).expect("stamps are positive")
}

pub(super) fn to_value(content: &[i64]) -> Value {
    Value::Array(content.iter().map(|number| Value::I64(*number)).collect())
}

pub(super) fn from_value(value: &Value) -> Content {
    let numbers = value.as_array().expect("every value is a list");
    numbers.iter().map(|number| number.as_i64().expect("every list is of numbers")).collect()
}
