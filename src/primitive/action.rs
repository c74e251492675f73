//! Actions: what a run did, so that two runs can be compared.
//!
//! - Nothing is left of what differs between any two runs: ids, names, times, durations, versions, hashes.
//! - A trace is known by its position in its run, and so is its parent.

use std::collections::BTreeMap;

use super::history::left_by;
use super::text_of;
use crate::base::json::edit::{Change, Edit};
use crate::base::key::Space;
use crate::base::run::RunMetadata;
use crate::base::stored::{Stored, Write};
use crate::base::trace::{Trace, TraceType};
use crate::base::value::Value;
use crate::base::version::Version;

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Action {
    pub(crate) space: Space,
    /// The key, the cell, the sequence of the event, the position of the trace; `metadata`.
    pub(crate) key: String,
    /// What kind of event or trace it is.
    pub(super) kind: String,
    /// What is there from then on; `None`: nothing.
    pub(super) value: Option<Value>,
    /// The position of the trace's parent.
    pub(super) parent: Option<usize>,
}

impl Action {
    const fn new(space: Space, key: String, value: Option<Value>) -> Self {
        Self { space, key, kind: String::new(), value, parent: None }
    }

    /// What is there from then on, with the position of its parent.
    pub(crate) fn whole(&self) -> Option<Value> {
        match (&self.value, self.parent) {
            (Some(Value::Map(fields)), Some(parent)) => {
                let mut fields = fields.clone();
                fields.insert("parent".into(), parent.into());
                Some(Value::Map(fields))
            }
            (value, _) => value.clone(),
        }
    }
}

/// Reads the commits of one run, in order, as actions.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    /// The positions of the traces so far, by id.
    traces: BTreeMap<String, usize>,
}

impl Actions {
    /// The actions of the next commit.
    pub(crate) fn next(&mut self, (_, writes): &(Version, Vec<Write>)) -> Vec<Action> {
        left_by(writes).filter_map(|write| self.action(write)).collect()
    }

    fn action(&mut self, write: &Write) -> Option<Action> {
        match write {
            Write::Put { name, stored, .. } => match stored {
                Stored::Value(value) => Some(Action::new(Space::Kv, text_of(name), Some(value.to_value()))),
                Stored::Event(event) => {
                    let fields = [("type", event.event_type.as_str().into()), ("payload", event.payload.clone())];
                    let action = Action::new(Space::Event, event.sequence.to_string(), Some(map(fields)));
                    Some(Action { kind: event.event_type.clone(), ..action })
                }
                Stored::State(state) => Some(Action::new(Space::State, text_of(name), Some(state.value.clone()))),
                Stored::DeletedState(_) => Some(Action::new(Space::State, text_of(name), None)),
                Stored::Trace(trace) => Some(self.recorded(trace)),
                Stored::Json(document) => {
                    Some(Action::new(Space::Json, text_of(name), Some(document.root.to_value().into())))
                }
                Stored::Run(about) => Some(Action::new(Space::Run, "metadata".into(), Some(Value::Map(facts(about))))),
                _ => None,
            },
            Write::EditJson { name, edits, .. } => {
                let edits: Vec<Value> = edits.iter().map(edit).collect();
                Some(Action::new(Space::Json, text_of(name), Some(edits.into())))
            }
            Write::Delete { space: space @ (Space::Kv | Space::Json), name, .. } => {
                Some(Action::new(*space, text_of(name), None))
            }
            Write::Delete { .. } | Write::DeleteRun { .. } => None,
        }
    }

    fn recorded(&mut self, trace: &Trace) -> Action {
        let position = self.traces.len();
        self.traces.insert(trace.id.clone(), position);
        let fields = [
            ("type", Value::from(BTreeMap::from([(trace.trace_type.family(), contents(&trace.trace_type))]))),
            ("tags", trace.tags.clone().into()),
            ("metadata", trace.metadata.clone()),
        ];
        let parent = trace.parent_id.as_ref().and_then(|id| self.traces.get(id).copied());
        let action = Action::new(Space::Trace, position.to_string(), Some(map(fields)));
        Action { kind: trace.trace_type.kind(), parent, ..action }
    }
}

/// What an edit of a document did, and where.
fn edit(edit: &Edit) -> Value {
    let path = ("path", edit.path.to_string().into());
    match &edit.change {
        Change::Set(value) => map([path, ("set", value.to_value().into())]),
        Change::Insert(value) => map([path, ("insert", value.to_value().into())]),
        Change::Remove | Change::Take => map([path, ("remove", true.into())]),
    }
}

/// What can be said of a run beside its ids, names and times.
pub(super) fn facts(about: &RunMetadata) -> BTreeMap<String, Value> {
    let error = about.error.as_deref().map(|error| ("error", error.into()));
    let facts = [
        ("status", about.status.as_str().into()),
        ("tags", about.tags.clone().into()),
        ("metadata", about.metadata.clone()),
    ];
    facts.into_iter().chain(error).map(|(name, value)| (name.into(), value)).collect()
}

/// What is in a trace of its kind. How long it took is no part of what was done.
fn contents(trace_type: &TraceType) -> Value {
    match trace_type {
        TraceType::ToolCall { tool_name, arguments, result, duration_ms: _ } => map([
            ("tool_name", tool_name.as_str().into()),
            ("arguments", arguments.clone()),
            ("result", result.clone().into()),
        ]),
        TraceType::Decision { question, options, chosen, reasoning } => map([
            ("question", question.as_str().into()),
            ("options", options.clone().into()),
            ("chosen", chosen.as_str().into()),
            ("reasoning", reasoning.as_deref().into()),
        ]),
        TraceType::Query { query_type, query, results_count } => map([
            ("query_type", query_type.as_str().into()),
            ("query", query.as_str().into()),
            ("results_count", (*results_count).into()),
        ]),
        TraceType::Thought { content, confidence } => {
            map([("content", content.as_str().into()), ("confidence", (*confidence).into())])
        }
        TraceType::Error { error_type, message, recoverable } => map([
            ("error_type", error_type.as_str().into()),
            ("message", message.as_str().into()),
            ("recoverable", (*recoverable).into()),
        ]),
        TraceType::Custom { name, data } => map([("name", name.as_str().into()), ("data", data.clone())]),
    }
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
