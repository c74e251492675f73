//! The model: the database as plain maps, and what every command must answer.
//!
//! - It shares the types of `base` with the database and nothing else: no store, no commit, no primitive.
//! - Every run and every name keeps all its states by version. Nothing is collected; only a crash takes versions back.
//! - A transaction works on a sheet: copies of what it changed, over the state at its snapshot.

pub(super) mod dump;
mod event_log;
mod history;
mod json_store;
mod kv;
mod run_index;
mod sheet;
mod state_cell;
mod trace_store;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

pub(super) use self::history::{Allowance, history_agrees};
pub(super) use self::json_store::Document;
pub(super) use self::kv::Revision;
pub(super) use self::sheet::{Desk, Home, Sheet};
use crate::base::error::Error;
use crate::base::event::Event;
use crate::base::options::{HistoryPolicy, HistoryRetention};
use crate::base::run::RunMetadata;
use crate::base::run_id::RunId;
use crate::base::state::State;
use crate::base::trace::Trace;
use crate::base::version::Version;

/// Why a command is refused, as far as the model says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Invalid,
    NotFound,
    Exists,
    Transition,
    Mismatch(u64, u64),
    Limit,
    Conflict,
    Timeout,
    Unavailable,
    Unknown,
    /// The log has no room.
    NoRoom,
    Other(String),
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        match error {
            Error::InvalidOperation(_) => Self::Invalid,
            Error::KeyNotFound(_) => Self::NotFound,
            Error::AlreadyExists(_) => Self::Exists,
            Error::InvalidStatusTransition { .. } => Self::Transition,
            Error::VersionMismatch { expected, actual } => Self::Mismatch(*expected, *actual),
            Error::LimitExceeded { .. } => Self::Limit,
            Error::TransactionConflict(_) => Self::Conflict,
            Error::Timeout(_) => Self::Timeout,
            Error::Unavailable(_) => Self::Unavailable,
            Error::CommitUnknown(_) => Self::Unknown,
            Error::Io(_) => Self::NoRoom,
            other => Self::Other(other.to_string()),
        }
    }
}

/// A state cell: what it holds, and how often it was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) state: Option<Arc<State>>,
    pub(super) version: u64,
}

/// One state of one run. Cloning shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) deleted: bool,
    pub(super) pairs: Rc<BTreeMap<String, Vec<Revision>>>,
    pub(super) events: Rc<Vec<Arc<Event>>>,
    pub(super) cells: Rc<BTreeMap<String, Cell>>,
    pub(super) traces: Rc<BTreeMap<u64, Arc<Trace>>>,
    pub(super) documents: Rc<BTreeMap<String, Document>>,
    pub(super) metadata: Option<Arc<RunMetadata>>,
    /// How much history is kept of it, if not as the database says.
    pub(super) history: Option<HistoryRetention>,
    /// There were pairs before it was begun.
    had_history: bool,
    /// Something was written in it, though nothing may be left.
    pub(super) was_written: bool,
}

impl Run {
    /// How much history is kept of it.
    pub(super) fn retention(&self, policy: HistoryPolicy) -> HistoryRetention {
        let is_ended = self.metadata.as_ref().is_some_and(|metadata| metadata.completed_at.is_some());
        self.history.unwrap_or(if is_ended { policy.ended } else { policy.active })
    }

    /// How much history must be there: what was forgotten before a run was begun does not come back.
    pub(super) fn retained(&self, policy: HistoryPolicy) -> HistoryRetention {
        let is_late = self.had_history && self.history.is_some();
        if is_late { HistoryRetention::Off } else { self.retention(policy) }
    }
}

/// All states of something, by version.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain<T> {
    states: Vec<(Version, T)>,
}

impl<T: Clone + Default> Chain<T> {
    pub(super) fn at(&self, version: Version) -> T {
        let above = self.states.partition_point(|(since, _)| *since <= version);
        above.checked_sub(1).map(|at| self.states[at].1.clone()).unwrap_or_default()
    }

    pub(super) fn last(&self) -> T {
        self.at(Version::MAX)
    }

    /// When it changed last.
    pub(super) fn changed(&self) -> Version {
        self.states.last().map_or(Version::ZERO, |(version, _)| *version)
    }

    /// The versions at which it changed.
    pub(super) fn versions(&self) -> impl Iterator<Item = Version> {
        self.states.iter().map(|(version, _)| *version)
    }

    fn push(&mut self, version: Version, state: T) {
        assert!(version > self.changed(), "versions rise: {version} after {}", self.changed());
        self.states.push((version, state));
    }

    fn cut(&mut self, last: Version) {
        self.states.retain(|(version, _)| *version <= last);
    }
}

/// The database.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) runs: BTreeMap<RunId, Chain<Run>>,
    /// Who holds which name.
    pub(super) names: BTreeMap<String, Chain<Option<RunId>>>,
}

impl Model {
    /// The state of a run now.
    pub(super) fn run(&self, run: RunId) -> Run {
        self.runs.get(&run).map(Chain::last).unwrap_or_default()
    }

    /// Takes back what a shard committed above a version.
    pub(super) fn cut(&mut self, home: Home, last: Version) {
        self.runs.iter_mut().filter(|(run, _)| home.owns_run(run)).for_each(|(_, chain)| chain.cut(last));
        self.names.iter_mut().filter(|(name, _)| home.owns_name(name)).for_each(|(_, chain)| chain.cut(last));
    }

    /// What a sheet changed becomes the state from this version on.
    pub(super) fn commit(&mut self, sheet: Sheet, version: Version) {
        let (runs, names) = sheet.changes(version);
        for (run, state) in runs {
            self.runs.entry(run).or_default().push(version, state);
        }
        for (name, holder) in names {
            self.names.entry(name).or_default().push(version, holder);
        }
    }
}
