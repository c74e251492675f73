//! Stored things: what a key can hold, in memory and in the log.
//!
//! - A `Stored` is cheap to clone: strings, bytes and records are shared.
//! - The order of the variants is a disk format: it never changes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::{Event, EventHead};
use super::json::Document;
use super::json::edit::Edit;
use super::key::{Name, Space, number_name};
use super::options::HistoryRetention;
use super::packed::Packed;
use super::run::{RunMetadata, RunStatus};
use super::run_id::RunId;
use super::state::State;
use super::trace::Trace;
use super::version::Version;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Stored {
    Value(Packed),
    Event(Arc<Event>),
    State(Arc<State>),
    /// A deleted state cell and the version it had: a new cell of that name goes on counting.
    DeletedState(u64),
    Trace(Arc<Trace>),
    Run(Arc<RunMetadata>),
    RunId(RunId),
    /// On a shard that is not the run's home: the run has ended and takes no more writes.
    RunEnded(RunStatus),
    /// How much history is kept of the run.
    Retention(HistoryRetention),
    Json(Arc<Document>),
    #[serde(skip)]
    EventHead(Arc<EventHead>),
    #[serde(skip)]
    Count(u64),
    #[serde(skip)]
    Marker,
}

/// Maps hold many of them.
const _: () = assert!(size_of::<Option<Stored>>() == 24);

impl Stored {
    /// Whether anybody would keep it under this key.
    pub(crate) fn fits(&self, run: RunId, space: Space, name: &Name) -> bool {
        let is_in_directory = run == RunId::DIRECTORY;
        match (space, self) {
            (Space::RunName, Self::RunId(_)) => is_in_directory,
            (Space::Kv, Self::Value(_))
            | (Space::State, Self::State(_) | Self::DeletedState(_))
            | (Space::Json, Self::Json(_)) => !is_in_directory,
            // The length of the log is the next sequence.
            (Space::Event, Self::Event(event)) => {
                !is_in_directory && event.sequence < u64::MAX && *name == number_name(event.sequence)
            }
            (Space::Trace, Self::Trace(_)) => !is_in_directory && name.len() == size_of::<u64>(),
            (Space::Run, Self::Run(_) | Self::RunEnded(_)) | (Space::RunHistory, Self::Retention(_)) => {
                !is_in_directory && name.is_empty()
            }
            _ => false,
        }
    }

    /// About how many bytes it takes, for limits.
    pub(crate) fn weight(&self) -> usize {
        let texts = |texts: &[String]| texts.iter().map(|text| text.len() + 8).sum::<usize>();
        match self {
            Self::Value(value) => value.weight(),
            Self::Event(event) => event.event_type.len() + event.payload.weight() + 96,
            Self::State(state) => state.value.weight() + 16,
            Self::Trace(trace) => {
                trace.id.len() + texts(&trace.tags) + trace.metadata.weight() + trace.trace_type.weight() + 32
            }
            Self::Run(run) => {
                let error = run.error.as_ref().map_or(0, String::len);
                run.name.len() + texts(&run.tags) + run.metadata.weight() + error + 96
            }
            Self::Json(document) => document.root.size().weight(),
            Self::DeletedState(_)
            | Self::RunId(_)
            | Self::RunEnded(_)
            | Self::Retention(_)
            | Self::EventHead(_)
            | Self::Count(_)
            | Self::Marker => 16,
        }
    }
}

/// One change of one key, or the end of a whole run, as a commit logs and applies it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Write {
    /// The key holds this from now on, until it expires.
    Put { run: RunId, space: Space, name: Name, stored: Stored, expires: Option<Version> },
    /// The key holds nothing from now on.
    Delete { run: RunId, space: Space, name: Name },
    /// The run and everything in it is gone for good.
    DeleteRun { run: RunId },
    /// A JSON document is changed in these places, one after the other.
    EditJson { run: RunId, name: Name, edits: Vec<Edit> },
}

impl Write {
    /// The run it changes.
    pub(crate) const fn run(&self) -> RunId {
        match self {
            Self::Put { run, .. } | Self::Delete { run, .. } | Self::DeleteRun { run } | Self::EditJson { run, .. } => {
                *run
            }
        }
    }

    /// The key it changes; `None` if it is the whole run.
    pub(crate) const fn key(&self) -> Option<(Space, &Name)> {
        match self {
            Self::Put { space, name, .. } | Self::Delete { space, name, .. } => Some((*space, name)),
            Self::EditJson { name, .. } => Some((Space::Json, name)),
            Self::DeleteRun { .. } => None,
        }
    }

    /// Whether anybody would write this. What was read from a log is asked, because it may say anything.
    pub(crate) fn is_possible(&self) -> bool {
        let is_in_directory = self.run() == RunId::DIRECTORY;
        match self {
            // Documents do not expire.
            Self::Put { space: Space::Json, expires: Some(_), .. } => false,
            Self::Put { run, space, name, stored, .. } => stored.fits(*run, *space, name),
            Self::Delete { space: Space::RunName, .. } => is_in_directory,
            // Entries are derived from events, traces and metadata: those end with their run only.
            Self::Delete { space, .. } => matches!(space, Space::Kv | Space::Json) && !is_in_directory,
            Self::DeleteRun { .. } => !is_in_directory,
            Self::EditJson { edits, .. } => !is_in_directory && edits.iter().all(Edit::is_possible),
        }
    }

    /// About how many bytes it takes in the log.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Put { name, stored, .. } => 40 + name.len() + stored.weight(),
            Self::Delete { name, .. } => 40 + name.len(),
            Self::DeleteRun { .. } => 40,
            Self::EditJson { name, edits, .. } => 40 + name.len() + edits.iter().map(Edit::weight).sum::<usize>(),
        }
    }
}
