//! The whole state of a shard, as its memory must hold it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Home, Model, Run};
use crate::base::event::EventHead;
use crate::base::json::{Document, Json};
use crate::base::key::{Name, Space, number_name, number_pair_name, text_number_name, text_prefix, unit_name};
use crate::base::run::RunMetadata;
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::trace::TraceType;
use crate::base::version::Version;

/// Everything that is live at a version.
pub(in super::super) type Dump = BTreeMap<(RunId, Space, Name), Stored>;

impl Model {
    /// What the memory of a shard must hold at a version.
    pub(in super::super) fn dump(&self, home: Home, at: Version) -> Dump {
        let mut dump = Dump::new();
        for (run, chain) in self.runs.iter().filter(|(run, _)| home.owns_run(run)) {
            let state = chain.at(at);
            if !state.deleted {
                dump_run(&mut dump, *run, &state, at);
            }
        }
        for (name, chain) in self.names.iter().filter(|(name, _)| home.owns_name(name)) {
            if let Some(holder) = chain.at(at) {
                let name = Name::from_slice(name.as_bytes());
                dump.insert((RunId::DIRECTORY, Space::RunName, name), Stored::RunId(holder));
            }
        }
        dump
    }
}

pub(in super::super) fn dump_run(dump: &mut Dump, run: RunId, state: &Run, at: Version) {
    let text = |text: &str| Name::from_slice(text.as_bytes());
    for (key, revisions) in state.pairs.iter() {
        let live = revisions.last().filter(|revision| at < revision.expires);
        if let Some(value) = live.and_then(|revision| revision.value.clone()) {
            dump.insert((run, Space::Kv, text(key)), Stored::Value(value.into()));
        }
    }
    for event in state.events.iter() {
        dump.insert((run, Space::Event, number_name(event.sequence)), Stored::Event(event.clone()));
        dump.insert((run, Space::EventType, text_number_name(&event.event_type, event.sequence)), Stored::Marker);
        let head = EventHead { len: event.sequence + 1, timestamp: event.timestamp, hash: event.hash };
        dump.insert((run, Space::EventHead, unit_name()), Stored::EventHead(Arc::new(head)));
    }
    for (name, cell) in state.cells.iter() {
        let stored = cell.state.clone().map_or(Stored::DeletedState(cell.version), Stored::State);
        dump.insert((run, Space::State, text(name)), stored);
    }
    for (key, document) in state.documents.iter() {
        let root = Json::from_value(document.root.clone()).unwrap();
        dump.insert((run, Space::Json, text(key)), Stored::Json(Arc::new(Document::new(root))));
    }
    dump_traces(dump, run, state);
    if let Some(metadata) = &state.metadata {
        dump.insert((run, Space::Run, unit_name()), Stored::Run(metadata.clone()));
        dump_directory(dump, metadata);
    }
    if let Some(history) = state.history {
        dump.insert((run, Space::RunHistory, unit_name()), Stored::Retention(history));
    }
}

fn dump_traces(dump: &mut Dump, run: RunId, state: &Run) {
    for (number, trace) in state.traces.iter() {
        let mut mark = |space: Space, name: Name| dump.insert((run, space, name), Stored::Marker);
        let parent = trace.parent_id.as_ref().map_or(0, |id| u64::from_str_radix(id, 16).unwrap());
        mark(Space::TraceChild, number_pair_name(parent, *number));
        mark(Space::TraceKind, text_number_name(&trace.trace_type.kind(), *number));
        if matches!(trace.trace_type, TraceType::Custom { .. }) {
            mark(Space::TraceKind, text_number_name("Custom", *number));
        }
        for tag in &trace.tags {
            mark(Space::TraceTag, text_number_name(tag, *number));
        }
        dump.insert((run, Space::Trace, number_name(*number)), Stored::Trace(trace.clone()));
    }
    if !state.traces.is_empty() {
        dump.insert((run, Space::TraceCount, unit_name()), Stored::Count(state.traces.len() as u64));
    }
}

fn dump_directory(dump: &mut Dump, metadata: &RunMetadata) {
    let run = metadata.run_id;
    let mut mark = |space: Space, start: &[u8]| {
        let name = Name::from_slice(&[start, run.as_bytes()].concat());
        dump.insert((RunId::DIRECTORY, space, name), Stored::Marker);
    };
    mark(Space::RunAll, &[]);
    mark(Space::RunStatus, &text_prefix(metadata.status.as_str()));
    if let Some(parent) = metadata.parent_run {
        mark(Space::RunChild, parent.as_bytes());
    }
    for tag in &metadata.tags {
        mark(Space::RunTag, &text_prefix(tag));
    }
}
