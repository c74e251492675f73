//! Runs: their metadata, and the directory that finds them.
//!
//! - A run's metadata is in the run itself, so that a transaction within the run sees and guards its status. The
//!   directory of the shard that is the run's home lists it by status, tag and parent; those entries are derived.
//! - A run that was deleted stays deleted: it can neither be written nor created again.
//! - What is known about an ended run (tags, metadata, status) can still be changed; what is in it cannot.
//! - A run's name is held on the name's shard; whoever makes, deletes or names a run does both in one transaction.

use std::sync::Arc;

use super::command::{Held, NewRun, RunCommand, RunFilter};
use super::output::Output;
use super::{history, index, lineage, metadata, missing, not_deleted};
use crate::base::error::{Error, Result};
use crate::base::key::{Name, Space, run_at_end, text_prefix, unit_name};
use crate::base::limits;
use crate::base::options::HistoryRetention;
use crate::base::run::{RunMetadata, RunStatus};
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::commit::access::{Access, Scan};

pub(super) fn execute(access: &mut Access<'_>, run: RunId, command: RunCommand) -> Result<Output> {
    match command {
        RunCommand::Create(new) => create(access, run, *new),
        RunCommand::Get => Ok(Output::MaybeRun(metadata(access, run))),
        RunCommand::Records { after } => history::page(access, run, after),
        RunCommand::Commits { above } => history::commits(access, run, above),
        RunCommand::Explain { space, name, version } => lineage::explain(access, run, (space, name), version),
        RunCommand::State { after } => history::state(access, run, after),
        RunCommand::Adopt { held } => {
            not_deleted(access, run)?;
            for Held { space, name, stored, expires } in held {
                index::put(access, run, space, name, stored, expires)?;
            }
            Ok(Output::Unit)
        }
        RunCommand::UpdateStatus { to, error } => update_status(access, run, to, error),
        RunCommand::AddTags { tags } => change(access, run, |metadata| {
            for tag in tags {
                if !metadata.tags.contains(&tag) {
                    metadata.tags.push(tag);
                }
            }
            limits::check_tags(&metadata.tags)
        }),
        RunCommand::RemoveTags { tags } => change(access, run, |metadata| {
            metadata.tags.retain(|tag| !tags.contains(tag));
            Ok(())
        }),
        RunCommand::UpdateMetadata { metadata } => change(access, run, |known| {
            known.metadata = metadata;
            Ok(())
        }),
        RunCommand::Delete => delete(access, run),
        RunCommand::End { status } => {
            not_deleted(access, run)?;
            index::put(access, run, Space::Run, unit_name(), Stored::RunEnded(status), None)?;
            Ok(Output::Unit)
        }
        RunCommand::Retain { history } => {
            not_deleted(access, run)?;
            retain(access, run, history)?;
            Ok(Output::Unit)
        }
        RunCommand::ClaimName { name, id } => claim_name(access, &name, id),
        RunCommand::LookUpName { name } => Ok(Output::MaybeRunId(holder(access, &name))),
        RunCommand::ReleaseName { name, id } => {
            if holder(access, &name) == Some(id) {
                access.delete(RunId::DIRECTORY, Space::RunName, Name::from_slice(name.as_bytes()))?;
            }
            Ok(Output::Unit)
        }
        RunCommand::List(filter) => list(access, &filter),
    }
}

fn create(access: &mut Access<'_>, run: RunId, beginning: NewRun) -> Result<Output> {
    not_deleted(access, run)?;
    if let Some(metadata) = metadata(access, run) {
        return Err(Error::AlreadyExists(format!("run: run={run} name={:?}", metadata.name)));
    }
    let NewRun { name, parent: parent_run, tags, metadata, history } = beginning;
    if let Some(history) = history {
        retain(access, run, history)?;
    }
    let now = access.now().as_micros();
    let created = RunMetadata {
        name,
        run_id: run,
        parent_run,
        status: RunStatus::Active,
        created_at: now,
        updated_at: now,
        completed_at: None,
        tags,
        metadata,
        error: None,
    };
    put(access, run, created)
}

fn retain(access: &mut Access<'_>, run: RunId, history: HistoryRetention) -> Result<()> {
    index::put(access, run, Space::RunHistory, unit_name(), Stored::Retention(history), None)
}

fn put(access: &mut Access<'_>, run: RunId, metadata: RunMetadata) -> Result<Output> {
    let metadata = Arc::new(metadata);
    index::put(access, run, Space::Run, unit_name(), Stored::Run(Arc::clone(&metadata)), None)?;
    Ok(Output::Run(metadata))
}

/// Changes what is known about a run; a change that changes nothing writes nothing.
fn change(access: &mut Access<'_>, run: RunId, edit: impl FnOnce(&mut RunMetadata) -> Result<()>) -> Result<Output> {
    let before = known(access, run)?;
    let mut after = RunMetadata::clone(&before);
    edit(&mut after)?;
    if after == *before {
        return Ok(Output::Run(before));
    }
    after.updated_at = access.now().as_micros();
    put(access, run, after)
}

fn known(access: &mut Access<'_>, run: RunId) -> Result<Arc<RunMetadata>> {
    metadata(access, run).ok_or_else(|| not_found(run))
}

fn not_found(run: RunId) -> Error {
    Error::KeyNotFound(format!("run: run={run}"))
}

fn update_status(access: &mut Access<'_>, run: RunId, to: RunStatus, error: Option<String>) -> Result<Output> {
    let now = access.now().as_micros();
    change(access, run, |metadata| {
        let from = metadata.status;
        if !from.can_become(to) {
            return Err(Error::InvalidStatusTransition { from, to });
        }
        metadata.status = to;
        metadata.error = error.or_else(|| metadata.error.take());
        if to.is_ended() && !from.is_ended() {
            metadata.completed_at = Some(now);
        }
        Ok(())
    })
}

fn delete(access: &mut Access<'_>, run: RunId) -> Result<Output> {
    if access.is_deleted(run) {
        return Err(not_found(run));
    }
    let found = metadata(access, run).is_some() || holds_anything(access, run) || access.remembers(run);
    index::delete_run(access, run)?;
    Ok(Output::Flag(found))
}

fn holds_anything(access: &mut Access<'_>, run: RunId) -> bool {
    [Space::Kv, Space::Event, Space::State, Space::Trace, Space::Json].into_iter().any(|space| {
        let mut found = false;
        access.scan(run, space, &Scan { limit: 1, ..Scan::all() }, |_, _| {
            found = true;
            false
        });
        found
    })
}

/// The run that holds a name.
fn holder(access: &mut Access<'_>, name: &str) -> Option<RunId> {
    access.get(RunId::DIRECTORY, Space::RunName, &name.into()).map(|stored| match stored {
        Stored::RunId(id) => id,
        other => unreachable!("a run's name holds a run's id, not {other:?}"),
    })
}

fn claim_name(access: &mut Access<'_>, name: &str, id: RunId) -> Result<Output> {
    let holder = holder(access, name);
    if holder.is_some() {
        return Ok(Output::MaybeRunId(holder.filter(|holder| *holder != id)));
    }
    let name = Name::from_slice(name.as_bytes());
    index::put(access, RunId::DIRECTORY, Space::RunName, name, Stored::RunId(id), None)?;
    Ok(Output::MaybeRunId(None))
}

fn list(access: &mut Access<'_>, filter: &RunFilter) -> Result<Output> {
    let (space, scan) = match filter {
        RunFilter::All => (Space::RunAll, Scan::all()),
        RunFilter::Status(status) => (Space::RunStatus, Scan::prefix(&text_prefix(status.as_str()))),
        RunFilter::Tag(tag) => (Space::RunTag, Scan::prefix(&text_prefix(tag))),
        RunFilter::Parent(parent) => (Space::RunChild, Scan::prefix(parent.as_bytes())),
    };
    let mut ids = Vec::new();
    access.scan(RunId::DIRECTORY, space, &scan, |name, _| {
        ids.extend(run_at_end(name));
        true
    });
    let mut runs = Vec::with_capacity(ids.len());
    for id in ids {
        runs.push(metadata(access, id).ok_or_else(|| missing("run", RunId::DIRECTORY, id))?);
    }
    Ok(Output::Runs(runs))
}

#[cfg(test)]
mod tests {
    use super::super::command::{Command, KvCommand, StateCommand};
    use super::super::harness::{Harness, OTHER, RUN, append, assert_refused, create};
    use super::*;
    use crate::base::value::Value;

    fn to(status: RunStatus) -> RunCommand {
        RunCommand::UpdateStatus { to: status, error: None }
    }

    fn fail(error: &str) -> RunCommand {
        RunCommand::UpdateStatus { to: RunStatus::Failed, error: Some(error.into()) }
    }

    fn tags(tags: &[&str]) -> Vec<String> {
        tags.iter().copied().map(String::from).collect()
    }

    fn claim(harness: &mut Harness, id: RunId) -> Output {
        harness.run_in_directory(RunCommand::ClaimName { name: "n".into(), id })
    }

    #[test]
    fn a_run_is_created_once() {
        let mut harness = Harness::new();
        let run = harness.run(create("r", Some(OTHER), &["t"])).unwrap().into_run();
        let now = harness.version().as_micros();
        assert_eq!((run.name.as_str(), run.run_id, run.parent_run), ("r", RUN, Some(OTHER)));
        assert_eq!((run.status, run.created_at, run.updated_at), (RunStatus::Active, now, now));
        assert_eq!((run.completed_at, run.tags, run.error), (None, tags(&["t"]), None));
        assert!(matches!(harness.run(create("r", None, &[])), Err(Error::AlreadyExists(_))));
    }

    #[test]
    fn the_time_of_completion_and_the_error_outlive_the_archive() {
        let mut harness = Harness::new();
        harness.run(create("r", None, &[])).unwrap();
        let failed = harness.run(fail("out of money")).unwrap().into_run();
        assert_eq!(failed.completed_at, Some(harness.version().as_micros()));
        let archived = harness.run(to(RunStatus::Archived)).unwrap().into_run();
        assert_eq!((archived.completed_at, archived.error.as_deref()), (failed.completed_at, Some("out of money")));
        assert!(archived.updated_at > failed.updated_at);
        let result = harness.run(to(RunStatus::Active));
        let expected = (RunStatus::Archived, RunStatus::Active);
        assert!(matches!(result, Err(Error::InvalidStatusTransition { from, to }) if (from, to) == expected));
    }

    #[test]
    fn pausing_ends_nothing_and_archiving_an_active_run_does() {
        let mut harness = Harness::new();
        harness.run(create("r", None, &[])).unwrap();
        for status in [RunStatus::Paused, RunStatus::Active] {
            assert_eq!(harness.run(to(status)).unwrap().into_run().completed_at, None);
        }
        let same = harness.run(to(RunStatus::Active));
        assert!(matches!(same, Err(Error::InvalidStatusTransition { .. })), "a status does not become itself");
        assert!(harness.run(to(RunStatus::Archived)).unwrap().into_run().completed_at.is_some());
    }

    #[test]
    fn tags_are_kept_once_and_within_their_limit() {
        let mut harness = Harness::new();
        harness.run(create("r", None, &["a", "b"])).unwrap();
        let add = |added: &[&str]| RunCommand::AddTags { tags: tags(added) };
        assert_eq!(harness.run(add(&["c", "a", "c"])).unwrap().into_run().tags, tags(&["a", "b", "c"]));
        let mut part = harness.begin();
        harness.step(&mut part, add(&["a"])).unwrap();
        assert!(part.writes().is_empty(), "nothing changes");
        let removed = harness.run(RunCommand::RemoveTags { tags: tags(&["a", "x"]) }).unwrap().into_run();
        assert_eq!(removed.tags, tags(&["b", "c"]));
        let many = (0..limits::TAGS).map(|number| number.to_string()).collect();
        let result = harness.run(RunCommand::AddTags { tags: many });
        assert!(matches!(result, Err(Error::LimitExceeded { .. })), "{result:?}");
    }

    #[test]
    fn what_is_known_about_an_ended_run_can_be_changed() {
        let mut harness = Harness::new();
        harness.run(create("r", None, &[])).unwrap();
        harness.run(to(RunStatus::Completed)).unwrap();
        let changed = harness.run(RunCommand::UpdateMetadata { metadata: 5.into() }).unwrap().into_run();
        assert_eq!((changed.metadata, changed.status), (Value::from(5), RunStatus::Completed));
    }

    #[test]
    fn an_unknown_run_is_not_found() {
        let mut harness = Harness::new();
        let commands = [
            to(RunStatus::Completed),
            RunCommand::AddTags { tags: vec![] },
            RunCommand::RemoveTags { tags: vec![] },
            RunCommand::UpdateMetadata { metadata: Value::Null },
        ];
        for command in commands {
            let result = harness.run(command);
            assert!(matches!(result, Err(Error::KeyNotFound(_))), "{result:?}");
        }
        assert_eq!(harness.run(RunCommand::Get).unwrap(), Output::MaybeRun(None));
    }

    #[test]
    fn whatever_is_in_a_run_makes_it_one_that_can_be_deleted_and_only_once() {
        let set = StateCommand::Set { name: "c".into(), value: 1.into() };
        let put = KvCommand::Put { key: "k".into(), value: 1.into(), ttl: None };
        for content in [Command::from(set), put.into(), append("a").into(), create("r", None, &[]).into()] {
            let mut harness = Harness::new();
            harness.run(content).unwrap();
            assert_eq!(harness.run(RunCommand::Delete).unwrap(), Output::Flag(true));
            assert!(matches!(harness.run(RunCommand::Delete), Err(Error::KeyNotFound(_))));
        }
    }

    #[test]
    fn a_run_with_nothing_in_it_can_be_deleted_so_that_it_can_never_be_made() {
        let mut harness = Harness::new();
        assert_eq!(harness.run(RunCommand::Delete).unwrap(), Output::Flag(false));
        assert!(matches!(harness.run(RunCommand::Delete), Err(Error::KeyNotFound(_))), "once is enough");
        assert_refused(harness.run(create("r", None, &[])), "the run was deleted");
        harness.run_in(OTHER, create("r", None, &[])).unwrap();
        assert!(matches!(harness.run_in(OTHER, RunCommand::Get).unwrap(), Output::MaybeRun(Some(_))));
    }

    #[test]
    fn a_run_deleted_inside_a_transaction_is_gone_for_that_transaction_and_for_others_when_it_commits() {
        let mut harness = Harness::new();
        harness.run(create("r", None, &["t"])).unwrap();
        let mut part = harness.begin();
        harness.step(&mut part, append("a")).unwrap();
        assert_eq!(harness.step(&mut part, RunCommand::Delete).unwrap(), Output::Flag(true));
        assert!(matches!(harness.step(&mut part, RunCommand::Delete), Err(Error::KeyNotFound(_))));
        assert_refused(harness.step(&mut part, create("r", None, &[])), "the run was deleted");
        assert_refused(harness.step(&mut part, append("b")), "the run was deleted");
        assert_eq!(harness.step(&mut part, RunCommand::Get).unwrap(), Output::MaybeRun(None));
        for filter in [RunFilter::All, RunFilter::Status(RunStatus::Active), RunFilter::Tag("t".into())] {
            let listed = harness.step_in(&mut part, RunId::DIRECTORY, RunCommand::List(filter.clone())).unwrap();
            assert!(listed.ids().is_empty(), "{filter:?}");
            assert_eq!(harness.run_in_directory(RunCommand::List(filter)).ids().len(), 1, "others still see it");
        }
        harness.commit(part).unwrap();
        assert!(harness.run_in_directory(RunCommand::List(RunFilter::All)).ids().is_empty());
        assert_refused(harness.run(append("b")), "the run was deleted");
        assert_eq!(harness.recovered().dump(harness.version()), harness.memory.dump(harness.version()));
    }

    #[test]
    fn a_delete_inside_a_transaction_conflicts_with_what_made_the_run_known() {
        let mut harness = Harness::new();
        harness.run(append("a")).unwrap();
        let mut part = harness.begin();
        assert_eq!(harness.step(&mut part, RunCommand::Delete).unwrap(), Output::Flag(true));
        harness.run(create("r", None, &[])).unwrap();
        assert!(harness.commit(part).is_err(), "it had seen that nobody had begun it");
    }

    #[test]
    fn a_name_has_one_holder_until_it_is_released() {
        let mut harness = Harness::new();
        let look_up = || RunCommand::LookUpName { name: "n".into() };
        assert_eq!(claim(&mut harness, RUN), Output::MaybeRunId(None));
        assert_eq!(claim(&mut harness, RUN), Output::MaybeRunId(None), "it holds it already");
        assert_eq!(claim(&mut harness, OTHER), Output::MaybeRunId(Some(RUN)));
        harness.run_in_directory(RunCommand::ReleaseName { name: "n".into(), id: OTHER });
        assert_eq!(harness.run_in_directory(look_up()), Output::MaybeRunId(Some(RUN)), "it was not its to release");
        harness.run_in_directory(RunCommand::ReleaseName { name: "n".into(), id: RUN });
        assert_eq!(harness.run_in_directory(look_up()), Output::MaybeRunId(None));
        assert_eq!(claim(&mut harness, OTHER), Output::MaybeRunId(None));
    }

    #[test]
    fn runs_are_listed_by_status_tag_and_parent_in_order_of_their_ids() {
        let mut harness = Harness::new();
        harness.run_in(OTHER, create("child", Some(RUN), &["a__b"])).unwrap();
        harness.run(create("parent", None, &["a"])).unwrap();
        harness.run(to(RunStatus::Paused)).unwrap();
        let mut list = |filter| harness.run_in_directory(RunCommand::List(filter)).ids().join(" ");
        assert_eq!(list(RunFilter::All), "parent child");
        assert_eq!(
            [list(RunFilter::Status(RunStatus::Active)), list(RunFilter::Status(RunStatus::Paused))],
            ["child", "parent"]
        );
        assert_eq!([list(RunFilter::Tag("a".into())), list(RunFilter::Tag("a__b".into()))], ["parent", "child"]);
        assert_eq!([list(RunFilter::Parent(RUN)), list(RunFilter::Parent(OTHER))], ["child", ""]);
    }
}
