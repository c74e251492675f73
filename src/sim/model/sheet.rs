//! Sheets: what a command or a transaction sees and changes.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Model, Refusal, Run};
use crate::base::key::{name_slot, run_slot};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::primitive::command::{Command, RunCommand};
use crate::primitive::output::Output;

/// A shard, as one of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Home {
    pub(in super::super) shard: usize,
    pub(in super::super) shards: usize,
}

impl Home {
    pub(in super::super) fn of_run(run: &RunId, shards: usize) -> usize {
        usize::try_from(run_slot(run)).unwrap() % shards
    }

    pub(in super::super) fn of_name(name: &str, shards: usize) -> usize {
        usize::try_from(name_slot(name)).unwrap() % shards
    }

    pub(in super::super) fn owns_run(self, run: &RunId) -> bool {
        Self::of_run(run, self.shards) == self.shard
    }

    pub(in super::super) fn owns_name(self, name: &str) -> bool {
        Self::of_name(name, self.shards) == self.shard
    }
}

/// What changed, over the state at a version.
#[derive(Clone, Debug)]
pub(in super::super) struct Sheet {
    /// Which state is seen.
    pub(in super::super) at: Version,
    /// What a transaction's own writes look like until they are committed: their version, and when their expiry is
    /// tested. Nothing for a command of its own.
    pub(in super::super) own_at: Option<Version>,
    runs: BTreeMap<RunId, Run>,
    names: BTreeMap<String, Option<RunId>>,
}

impl Sheet {
    /// The sheet of one command that commits at `version`.
    pub(in super::super) fn immediate(version: Version) -> Self {
        Self { at: version.previous(), own_at: None, runs: BTreeMap::new(), names: BTreeMap::new() }
    }

    /// The sheet of a reader, or of a transaction.
    pub(in super::super) fn at(snapshot: Version) -> Self {
        Self { at: snapshot, own_at: Some(snapshot), runs: BTreeMap::new(), names: BTreeMap::new() }
    }

    /// The sheet on which a transaction's commands run again at its commit.
    pub(in super::super) fn again(snapshot: Version, version: Version) -> Self {
        Self { own_at: Some(snapshot), ..Self::immediate(version) }
    }

    pub(in super::super) fn is_clean(&self) -> bool {
        self.runs.is_empty() && self.names.is_empty()
    }

    pub(in super::super) fn changed_runs(&self) -> impl Iterator<Item = RunId> {
        self.runs.keys().copied()
    }

    /// What changed, as of the commit.
    pub(super) fn changes(mut self, version: Version) -> (BTreeMap<RunId, Run>, BTreeMap<String, Option<RunId>>) {
        for run in self.runs.values_mut() {
            let pairs = Rc::make_mut(&mut run.pairs);
            for revision in pairs.values_mut().flatten().filter(|revision| revision.own) {
                revision.own = false;
                revision.version = version;
                revision.expires = revision.expires.max(version);
            }
            let documents = Rc::make_mut(&mut run.documents);
            for document in documents.values_mut().filter(|document| document.own) {
                document.own = false;
                document.version = version;
            }
        }
        (self.runs, self.names)
    }
}

/// A sheet on the desk: a command is being worked on.
pub(in super::super) struct Desk<'a> {
    pub(in super::super) model: &'a Model,
    pub(in super::super) sheet: &'a mut Sheet,
    pub(in super::super) home: Home,
    /// The time that what is written shows.
    pub(in super::super) now: Version,
}

impl Desk<'_> {
    /// What the command answers.
    pub(in super::super) fn execute(&mut self, run: RunId, command: &Command) -> Result<Output, Refusal> {
        use RunCommand::{ClaimName, List, LookUpName, ReleaseName};
        let directory =
            matches!(command, Command::Run(ClaimName { .. } | LookUpName { .. } | ReleaseName { .. } | List(_)));
        if !directory && run == RunId::DIRECTORY {
            return Err(Refusal::Invalid);
        }
        match command {
            Command::Kv(command) => self.kv(run, command),
            Command::Event(command) => self.event(run, command),
            Command::State(command) => self.state(run, command),
            Command::Trace(command) => self.trace(run, command),
            Command::Json(command) => self.json(run, command),
            Command::Run(command) => self.run_index(run, command),
        }
    }

    /// A run as the command sees it; nothing is in a deleted one.
    pub(super) fn run(&self, run: RunId) -> Run {
        let state = match self.sheet.runs.get(&run) {
            Some(changed) => changed.clone(),
            None => self.model.runs.get(&run).map(|chain| chain.at(self.sheet.at)).unwrap_or_default(),
        };
        if state.deleted { Run { deleted: true, ..Run::default() } } else { state }
    }

    /// A run, if it takes writes.
    pub(super) fn writable(&self, run: RunId) -> Result<Run, Refusal> {
        let state = self.run(run);
        let ended = state.metadata.as_ref().is_some_and(|metadata| metadata.status.is_ended());
        if state.deleted || ended { Err(Refusal::Invalid) } else { Ok(state) }
    }

    pub(super) fn change(&mut self, run: RunId, state: Run) {
        self.sheet.runs.insert(run, Run { was_written: true, ..state });
    }

    pub(super) fn holder(&self, name: &str) -> Option<RunId> {
        let changed = self.sheet.names.get(name).copied();
        changed.unwrap_or_else(|| self.model.names.get(name).and_then(|chain| chain.at(self.sheet.at)))
    }

    pub(super) fn hold(&mut self, name: &str, holder: Option<RunId>) {
        self.sheet.names.insert(name.into(), holder);
    }
}
