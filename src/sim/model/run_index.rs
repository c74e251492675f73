//! What commands of runs and of the directory answer.

use std::sync::Arc;

use super::{Desk, Refusal, Run};
use crate::base::options::HistoryRetention;
use crate::base::run::{RunMetadata, RunStatus};
use crate::base::run_id::RunId;
use crate::primitive::command::{RunCommand, RunFilter};
use crate::primitive::output::Output;

impl Desk<'_> {
    pub(super) fn run_index(&mut self, run: RunId, command: &RunCommand) -> Result<Output, Refusal> {
        Ok(match command {
            RunCommand::Create(new) => {
                let now = self.now.as_micros();
                let created = RunMetadata {
                    name: new.name.clone(),
                    run_id: run,
                    parent_run: new.parent,
                    status: RunStatus::Active,
                    created_at: now,
                    updated_at: now,
                    completed_at: None,
                    tags: new.tags.clone(),
                    metadata: new.metadata.clone(),
                    error: None,
                };
                self.create(run, created, new.history)?
            }
            RunCommand::Get => Output::MaybeRun(self.run(run).metadata),
            RunCommand::UpdateStatus { to, error } => self.update_status(run, *to, error.as_ref())?,
            RunCommand::AddTags { tags } => self.update(run, |metadata| {
                let new = tags.iter().filter(|tag| !metadata.tags.contains(tag));
                let mut new: Vec<String> = new.cloned().collect();
                let mut seen = std::collections::BTreeSet::new();
                new.retain(|tag| seen.insert(tag.clone()));
                metadata.tags.extend(new);
            })?,
            RunCommand::RemoveTags { tags } => {
                self.update(run, |metadata| metadata.tags.retain(|tag| !tags.contains(tag)))?
            }
            RunCommand::UpdateMetadata { metadata } => self.update(run, |known| known.metadata = metadata.clone())?,
            RunCommand::Delete => {
                let state = self.run(run);
                if state.deleted {
                    return Err(Refusal::NotFound);
                }
                self.change(run, Run { deleted: true, ..Run::default() });
                Output::Flag(self.holds_anything(&state))
            }
            RunCommand::End { .. }
            | RunCommand::Retain { .. }
            | RunCommand::Records { .. }
            | RunCommand::State { .. }
            | RunCommand::Commits { .. }
            | RunCommand::Explain { .. }
            | RunCommand::Adopt { .. } => {
                unreachable!("no client asks a home for that")
            }
            RunCommand::ClaimName { name, id } => self.claim(name, *id),
            RunCommand::LookUpName { name } => Output::MaybeRunId(self.holder(name)),
            RunCommand::ReleaseName { name, id } => {
                if self.holder(name) == Some(*id) {
                    self.hold(name, None);
                }
                Output::Unit
            }
            RunCommand::List(filter) => Output::Runs(self.list(filter)),
        })
    }

    fn claim(&mut self, name: &str, id: RunId) -> Output {
        let holder = self.holder(name);
        if holder.is_none() {
            self.hold(name, Some(id));
        }
        Output::MaybeRunId(holder.filter(|holder| *holder != id))
    }

    fn create(
        &mut self,
        run: RunId,
        created: RunMetadata,
        history: Option<HistoryRetention>,
    ) -> Result<Output, Refusal> {
        let mut state = self.run(run);
        if state.deleted {
            return Err(Refusal::Invalid);
        }
        if state.metadata.is_some() {
            return Err(Refusal::Exists);
        }
        state.history = history;
        state.had_history = !state.pairs.is_empty();
        Ok(self.put(run, state, created))
    }

    fn put(&mut self, run: RunId, mut state: Run, metadata: RunMetadata) -> Output {
        let metadata = Arc::new(metadata);
        state.metadata = Some(metadata.clone());
        self.change(run, state);
        Output::Run(metadata)
    }

    fn update(&mut self, run: RunId, edit: impl FnOnce(&mut RunMetadata)) -> Result<Output, Refusal> {
        let state = self.run(run);
        let before = state.metadata.clone().ok_or(Refusal::NotFound)?;
        let mut after = RunMetadata::clone(&before);
        edit(&mut after);
        if after == *before {
            return Ok(Output::Run(before));
        }
        after.updated_at = self.now.as_micros();
        Ok(self.put(run, state, after))
    }

    fn update_status(&mut self, run: RunId, to: RunStatus, error: Option<&String>) -> Result<Output, Refusal> {
        use RunStatus::{Active, Archived, Cancelled, Completed, Failed, Paused};
        let now = self.now.as_micros();
        let from = self.run(run).metadata.ok_or(Refusal::NotFound)?.status;
        let is_allowed = match from {
            Active => to != Active,
            Paused => matches!(to, Active | Cancelled | Archived),
            Completed | Failed | Cancelled => to == Archived,
            Archived => false,
        };
        if !is_allowed {
            return Err(Refusal::Transition);
        }
        let ends = matches!(from, Active | Paused) && matches!(to, Completed | Failed | Cancelled | Archived);
        self.update(run, |metadata| {
            metadata.status = to;
            if let Some(error) = error {
                metadata.error = Some(error.clone());
            }
            if ends {
                metadata.completed_at = Some(now);
            }
        })
    }

    fn holds_anything(&self, state: &Run) -> bool {
        state.metadata.is_some()
            || !state.events.is_empty()
            || !state.cells.is_empty()
            || !state.traces.is_empty()
            || !state.documents.is_empty()
            || !self.pairs(state, None).is_empty()
    }

    fn list(&self, filter: &RunFilter) -> Vec<Arc<RunMetadata>> {
        let here = self.model.runs.keys().copied().chain(self.sheet.changed_runs());
        let here: std::collections::BTreeSet<RunId> = here.filter(|run| self.home.owns_run(run)).collect();
        let listed = here.into_iter().filter_map(|run| self.run(run).metadata).filter(|metadata| match filter {
            RunFilter::All => true,
            RunFilter::Status(status) => metadata.status == *status,
            RunFilter::Tag(tag) => metadata.tags.contains(tag),
            RunFilter::Parent(parent) => metadata.parent_run == Some(*parent),
        });
        listed.collect()
    }
}
