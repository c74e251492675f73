//! Actions: what a transaction does in one go, and the commands that do it.
//!
//! - A scan asks every shard that may hold something; everything else asks the one that owns the cell.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cell::{Cell, Content, Kind, LASTING_RUNS, run_id, to_value};
use super::document::{self, Document};
use crate::base::options::Partitioning;
use crate::base::run_id::RunId;
use crate::base::trace::{Trace, TraceType};
use crate::primitive::command::{
    Command, EventCommand, JsonCommand, KvCommand, RunCommand, StateCommand, TraceCommand,
};
use crate::shard::route::Layout;

/// What a transaction does in one go.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Read(Cell),
    /// All pairs with a prefix.
    Scan {
        run: u8,
        prefix: String,
    },
    /// All traces of a run.
    Traces(u8),
    /// The last is the time to live, in nanoseconds.
    Put(Cell, Content, Option<u64>),
    /// Puts it if nothing is there.
    Insert(Cell, Content),
    Delete(Cell),
    Append(u8, i64),
    Record {
        run: u8,
        number: u64,
        stamp: i64,
    },
    DeleteRun(u8),
    /// Everything that a document holds inside a place.
    Inside(Document, &'static str),
    /// The keys of all documents of a run.
    Documents(u8),
    /// Adds to the end of an array in a document.
    Push(Cell, i64),
    /// Puts an object with these contents at a place of a document.
    Replace(Document, &'static str, BTreeMap<Cell, Content>),
    /// Makes a document.
    Make(Document, BTreeMap<Cell, Content>),
    DeleteDocument(Document),
}

/// A command and the shard that it goes to.
pub(super) type Sent = (usize, RunId, Command);

impl Action {
    /// Whether it can neither fail nor tell anything.
    pub(super) fn is_blind(&self) -> bool {
        matches!(self, Self::Put(cell, ..) if cell.kind == Kind::Kv && cell.run < LASTING_RUNS)
    }

    pub(super) fn commands(&self, layout: Layout) -> Vec<Sent> {
        let home = |run: u8| layout.shard_of_run(&run_id(run));
        let everywhere = |run: u8| match layout.partitioning {
            Partitioning::ByRun => vec![home(run)],
            Partitioning::ByKey => (0..layout.shards).collect(),
        };
        let one = |cell: &Cell, command: Command| vec![(cell.shard(layout), run_id(cell.run), command)];
        let at_home = |run: u8, command: Command| vec![(home(run), run_id(run), command)];
        match self {
            Self::Read(cell) => one(cell, read(cell)),
            Self::Scan { run, prefix } => {
                let command = Command::Kv(KvCommand::ListWithValues { prefix: Some(prefix.clone()) });
                everywhere(*run).into_iter().map(|shard| (shard, run_id(*run), command.clone())).collect()
            }
            Self::Traces(run) => at_home(*run, Command::Trace(TraceCommand::ByTag { tag: "t".into() })),
            Self::Put(cell, content, ttl) => one(cell, put(cell, content, *ttl)),
            Self::Insert(cell, content) => {
                let (key, value) = (cell.name.as_str().into(), to_value(content));
                one(cell, Command::Kv(KvCommand::CompareAndPut { key, expected: None, value }))
            }
            Self::Delete(cell) => {
                let command = match cell.kind {
                    Kind::Kv => Command::Kv(KvCommand::Delete { key: cell.name.as_str().into() }),
                    Kind::State => Command::State(StateCommand::Delete { name: cell.name.as_str().into() }),
                    Kind::Place => document::delete(cell),
                    Kind::Log | Kind::Trace => panic!("events and traces stay"),
                };
                one(cell, command)
            }
            Self::Append(run, stamp) => {
                let (event_type, payload) = ("e".to_owned(), to_value(&[*stamp]));
                at_home(*run, Command::Event(EventCommand::Append { event_type, payload, expected_len: None }))
            }
            Self::Record { run, number, stamp } => {
                let trace = Trace {
                    id: String::new(),
                    parent_id: None,
                    trace_type: TraceType::from("plan"),
                    timestamp: 0,
                    tags: vec!["t".into()],
                    metadata: to_value(&[*stamp]),
                };
                at_home(*run, Command::Trace(TraceCommand::Record { number: *number, trace: Box::new(trace) }))
            }
            Self::DeleteRun(run) => {
                let all = everywhere(*run).into_iter();
                all.map(|shard| (shard, run_id(*run), Command::Run(RunCommand::Delete))).collect()
            }
            Self::Inside(document, place) => one(&document.made(), document.get(place)),
            Self::Documents(run) => {
                let command = Command::Json(JsonCommand::List { prefix: None });
                everywhere(*run).into_iter().map(|shard| (shard, run_id(*run), command.clone())).collect()
            }
            Self::Push(cell, stamp) => one(cell, document::push(cell, *stamp)),
            Self::Replace(document, place, contents) => one(&document.made(), document.replace(place, contents)),
            Self::Make(document, contents) => one(&document.made(), document.make(contents)),
            Self::DeleteDocument(document) => one(&document.made(), document.delete()),
        }
    }
}

fn read(cell: &Cell) -> Command {
    match cell.kind {
        Kind::Kv => Command::Kv(KvCommand::GetVersioned { key: cell.name.as_str().into() }),
        Kind::State => Command::State(StateCommand::Read { name: cell.name.as_str().into() }),
        Kind::Log => Command::Event(EventCommand::ReadRange { range: 0..u64::MAX, limit: usize::MAX }),
        Kind::Trace => Command::Trace(TraceCommand::Get { id: cell.name.clone() }),
        Kind::Place => document::read(cell),
    }
}

fn put(cell: &Cell, content: &Content, ttl: Option<u64>) -> Command {
    let value = to_value(content);
    match cell.kind {
        Kind::Kv => {
            let ttl = ttl.map(Duration::from_nanos);
            Command::Kv(KvCommand::Put { key: cell.name.as_str().into(), value, ttl })
        }
        Kind::State => Command::State(StateCommand::Set { name: cell.name.as_str().into(), value }),
        Kind::Place => document::put(cell, content),
        Kind::Log | Kind::Trace => panic!("events are appended and traces are recorded"),
    }
}
