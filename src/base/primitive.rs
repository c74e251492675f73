//! Primitives: the kinds of things that a run holds.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::key::Space;

/// A kind of thing that a run holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Primitive {
    /// Key-value pairs.
    Kv,
    /// The event log.
    Events,
    /// State cells.
    States,
    /// Traces.
    Traces,
    /// JSON documents.
    Json,
    /// What is known about the run.
    Runs,
}

impl Primitive {
    /// The one that a space belongs to.
    pub(crate) const fn of(space: Space) -> Self {
        match space {
            Space::Kv => Self::Kv,
            Space::Event | Space::EventHead | Space::EventType => Self::Events,
            Space::State => Self::States,
            Space::Trace | Space::TraceKind | Space::TraceTag | Space::TraceChild | Space::TraceCount => Self::Traces,
            Space::Run
            | Space::RunName
            | Space::RunAll
            | Space::RunStatus
            | Space::RunTag
            | Space::RunChild
            | Space::RunHistory => Self::Runs,
            Space::Json | Space::JsonPath | Space::JsonKey => Self::Json,
        }
    }

    /// Its name, as errors and differences say it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Events => "events",
            Self::States => "states",
            Self::Traces => "traces",
            Self::Json => "json",
            Self::Runs => "runs",
        }
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
