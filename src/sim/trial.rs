//! Trials: whether a transaction may commit, or may lose.

use std::collections::BTreeSet;

use super::ledger::StepSeen;
use super::model::{Desk, Home, Model, Refusal, Sheet};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::primitive::command::{Command, RunCommand};
use crate::primitive::output::Output;

/// A transaction that has begun and not ended.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) snapshot: Version,
    pub(super) operations: u64,
    pub(super) is_broken: bool,
    pub(super) sheet: Sheet,
    /// Its steps, in the ledger.
    pub(super) seen: usize,
    /// It asked for an older snapshot, of which not everything may be kept.
    pub(super) looks_back: bool,
}

impl Open {
    pub(super) fn new(snapshot: Version, seen: usize, looks_back: bool) -> Self {
        Self { snapshot, operations: 0, is_broken: false, sheet: Sheet::at(snapshot), seen, looks_back }
    }
}

/// A transaction whose commit was handled.
pub(super) struct Trial<'a> {
    pub(super) model: &'a Model,
    pub(super) home: Home,
    pub(super) snapshot: Version,
    pub(super) version: Version,
    pub(super) steps: &'a [StepSeen],
}

impl Trial<'_> {
    /// Runs the transaction again where it commits: every answer must be the one that was given.
    pub(super) fn run_again(&self) -> Sheet {
        let mut sheet = Sheet::again(self.snapshot, self.version);
        for step in self.steps {
            let mut desk = Desk { model: self.model, sheet: &mut sheet, home: self.home, now: step.now };
            let again = desk.execute(step.run, &step.command);
            assert_eq!(
                again, step.outcome,
                "not serializable: {:?} snapshot={} version={}",
                step.command, self.snapshot, self.version
            );
        }
        sheet
    }

    /// A transaction loses only if something in what it touched was committed or expired since its snapshot.
    pub(super) fn may_lose(&self) -> bool {
        let runs: BTreeSet<RunId> = self.steps.iter().map(|step| step.run).collect();
        let touched = runs.iter().filter(|run| **run != RunId::DIRECTORY).any(|run| self.has_changed(*run));
        let directory = self.steps.iter().any(|step| match &step.command {
            Command::Run(RunCommand::List(_)) => {
                let mut here = self.model.runs.keys().filter(|run| self.home.owns_run(run));
                here.any(|run| self.has_changed(*run))
            }
            Command::Run(
                RunCommand::ClaimName { name, .. }
                | RunCommand::LookUpName { name }
                | RunCommand::ReleaseName { name, .. },
            ) => self.model.names.get(name).is_some_and(|chain| chain.changed() > self.snapshot),
            _ => false,
        });
        touched || directory
    }

    fn has_changed(&self, run: RunId) -> bool {
        let Some(chain) = self.model.runs.get(&run) else { return false };
        let since = |version: Version| self.snapshot < version && version <= self.version;
        let state = chain.at(self.snapshot);
        let has_expired = state.pairs.values().filter_map(|revisions| revisions.last()).any(|last| since(last.expires));
        chain.changed() > self.snapshot || has_expired
    }
}

/// Whether what a transaction was told is true in a history that may have been cut.
pub(super) fn steps_hold(model: &Model, home: Home, snapshot: Version, steps: &[StepSeen]) -> bool {
    let mut sheet = Sheet::at(snapshot);
    steps.iter().all(|step| {
        let mut desk = Desk { model, sheet: &mut sheet, home, now: step.now };
        let again: Result<Output, Refusal> = desk.execute(step.run, &step.command);
        !step.has_left || step.outcome == again
    })
}
