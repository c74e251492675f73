//! Layer 4: primitives. What each command means as reads and writes of one shard's memory.
//!
//! - A command is a function of what it sees (`Access`) and of nothing else: no clock, no random source.
//! - A command checks everything before its first write: one that fails has written nothing. (Only a transaction that
//!   outgrows its limits fails later; the shard takes such an operation back.)
//! - A run that has ended or was deleted takes no writes. A run that was never begun takes them.
//! - Only primary things are written to the log. Whatever can be derived from them (indexes, heads, counts) is derived
//!   in one place (`index`), at the commit, at recovery and, for a transaction's own eyes, while it runs.

pub(crate) mod action;
mod alignment;
pub(crate) mod command;
pub(crate) mod diff;
pub(crate) mod digest;
mod draft;
mod event_log;
#[cfg(test)]
mod harness;
pub(crate) mod history;
pub(crate) mod index;
mod inheritance;
mod json_store;
mod kv;
pub(crate) mod lineage;
#[cfg(test)]
mod model;
pub(crate) mod output;
pub(crate) mod path_diff;
mod run_index;
mod state_cell;
mod trace_store;

use std::sync::Arc;

use self::command::{Command, KvCommand, RunCommand};
use self::output::Output;
use crate::base::error::{Error, Result};
use crate::base::key::{Space, unit_name};
use crate::base::planted::{Bug, planted};
use crate::base::run::RunMetadata;
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::commit::access::Access;

/// Runs one command.
///
/// # Errors
/// Those that the command names, and `InvalidOperation` if the run takes no such command. Nothing was written then.
///
/// # Panics
/// If a command of the directory is addressed to another run.
pub(crate) fn execute(access: &mut Access<'_>, run: RunId, command: Command) -> Result<Output> {
    if is_of_directory(&command) {
        assert!(run == RunId::DIRECTORY, "the directory's commands are addressed to the directory");
    } else if run == RunId::DIRECTORY {
        return Err(Error::InvalidOperation(format!("the nil uuid is reserved, use another run id: run={run}")));
    }
    if may_look_at_postponed(access, &command) && !planted(Bug::PostponedNotSeen) {
        index::lay_over(access);
    }
    match command {
        Command::Kv(command) => kv::execute(access, run, command),
        Command::Event(command) => event_log::execute(access, run, command),
        Command::State(command) => state_cell::execute(access, run, command),
        Command::Trace(command) => trace_store::execute(access, run, command),
        Command::Json(command) => json_store::execute(access, run, command),
        Command::Run(command) => run_index::execute(access, run, command),
    }
}

/// Whether a command may look for what its transaction has written and not laid over: commands look at what is of their
/// own primitive, and at the run.
const fn may_look_at_postponed(access: &Access<'_>, command: &Command) -> bool {
    match command {
        Command::Kv(KvCommand::Put { .. } | KvCommand::PutMany { .. }) | Command::Json(_) => false,
        Command::Kv(_) => access.is_postponed(Space::Kv),
        Command::Event(_) => access.is_postponed(Space::Event),
        Command::State(_) => access.is_postponed(Space::State),
        Command::Trace(_) => access.is_postponed(Space::Trace),
        Command::Run(_) => true,
    }
}

/// Whether a command is one of the directory's own.
const fn is_of_directory(command: &Command) -> bool {
    matches!(
        command,
        Command::Run(
            RunCommand::ClaimName { .. }
                | RunCommand::LookUpName { .. }
                | RunCommand::ReleaseName { .. }
                | RunCommand::List(_)
        )
    )
}

/// Refuses writes into a run that has ended or was deleted.
fn writable(access: &mut Access<'_>, run: RunId) -> Result<()> {
    let status = match access.get(run, Space::Run, &unit_name()) {
        Some(Stored::Run(metadata)) => metadata.status,
        Some(Stored::RunEnded(status)) => status,
        _ => return not_deleted(access, run),
    };
    if status.is_ended() {
        let ended = "the run has ended and takes no more writes";
        return Err(Error::InvalidOperation(format!("{ended}: run={run} status={status}")));
    }
    Ok(())
}

/// Refuses writes into a run that was deleted.
fn not_deleted(access: &mut Access<'_>, run: RunId) -> Result<()> {
    if access.is_deleted(run) {
        return Err(Error::InvalidOperation(format!("the run was deleted and takes no more writes: run={run}")));
    }
    Ok(())
}

/// The metadata of a run, if it was begun and not deleted.
fn metadata(access: &mut Access<'_>, run: RunId) -> Option<Arc<RunMetadata>> {
    access.get(run, Space::Run, &unit_name()).and_then(|stored| match stored {
        Stored::Run(metadata) => Some(metadata),
        // Only the run's home has them.
        Stored::RunEnded(_) => None,
        other => unreachable!("a run's metadata is metadata, not {other:?}"),
    })
}

/// A name that is a text as it is.
fn text_of(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// What to say when something that must be there, because something else says so, is not.
fn missing(what: &str, run: RunId, key: impl std::fmt::Display) -> Error {
    Error::Corruption(format!("an index names what is not there: what={what} run={run} key={key}"))
}

#[cfg(test)]
mod tests {
    use super::command::{EventCommand, JsonCommand, KvCommand, StateCommand, TraceCommand};
    use super::harness::{Harness, OTHER, RUN, append, assert_refused, create, record};
    use super::*;
    use crate::base::json::Json;
    use crate::base::json::path::Path;
    use crate::base::key::Name;
    use crate::base::limits::TRANSACTION_OPERATIONS;
    use crate::base::run::RunStatus;
    use crate::base::trace::TraceType;
    use crate::base::value::Value;
    use crate::commit::part::Part;

    fn status_to(to: RunStatus) -> RunCommand {
        RunCommand::UpdateStatus { to, error: None }
    }

    fn put(key: &str) -> KvCommand {
        KvCommand::Put { key: key.into(), value: 1.into(), ttl: None }
    }

    /// Every command that writes into a run, even where it happens to have nothing to write.
    fn writes() -> Vec<Command> {
        let (key, name, value) = (Name::from("k"), Name::from("c"), Value::from(0));
        vec![
            put("k").into(),
            KvCommand::PutMany { pairs: vec![] }.into(),
            KvCommand::Delete { key: key.clone() }.into(),
            KvCommand::DeleteMany { keys: vec![] }.into(),
            KvCommand::CompareAndPut { key, expected: None, value: value.clone() }.into(),
            append("a").into(),
            EventCommand::AppendMany { events: vec![] }.into(),
            StateCommand::Init { name: name.clone(), value: value.clone() }.into(),
            StateCommand::Set { name: name.clone(), value: value.clone() }.into(),
            StateCommand::CompareAndSwap { name: name.clone(), expected: 0, value }.into(),
            StateCommand::Increment { name: name.clone(), by: 1 }.into(),
            StateCommand::Delete { name }.into(),
            JsonCommand::Create { key: "d".into(), document: Json::Null }.into(),
            JsonCommand::Set { key: "d".into(), path: Path::default(), value: Json::Null }.into(),
            JsonCommand::Patch { key: "d".into(), operations: vec![] }.into(),
            JsonCommand::Merge { key: "d".into(), patch: Json::Null }.into(),
            JsonCommand::DeleteAt { key: "d".into(), path: Path::default() }.into(),
            JsonCommand::Delete { key: "d".into() }.into(),
            record(1, None, TraceType::from("t"), &[]).into(),
        ]
    }

    #[test]
    fn a_run_that_was_never_begun_and_one_that_is_paused_take_writes() {
        for is_begun in [false, true] {
            let mut harness = Harness::new();
            if is_begun {
                harness.run(create("r", None, &[])).unwrap();
                harness.run(status_to(RunStatus::Paused)).unwrap();
            }
            for write in writes() {
                assert!(!write.is_read());
                let _ = harness.run(write.clone());
                let result = harness.run(write);
                assert!(!matches!(result, Err(Error::InvalidOperation(_))), "{result:?}");
            }
        }
    }

    #[test]
    fn an_ended_run_takes_no_writes_and_can_be_read() {
        use RunStatus::{Archived, Cancelled, Completed, Failed};
        for status in [Completed, Failed, Cancelled, Archived] {
            let mut harness = Harness::new();
            harness.run(create("r", None, &[])).unwrap();
            harness.run(put("before")).unwrap();
            harness.run(status_to(status)).unwrap();
            for write in writes() {
                let expected = format!("the run has ended and takes no more writes: run={RUN} status={status}");
                assert_refused(harness.run(write), &expected);
            }
            assert_eq!(harness.run(KvCommand::Count { prefix: None }).unwrap(), Output::Count(1));
        }
    }

    #[test]
    fn a_deleted_run_takes_no_writes_and_cannot_come_back() {
        let mut harness = Harness::new();
        harness.run(create("r", None, &[])).unwrap();
        for write in writes() {
            let _ = harness.run(write);
        }
        harness.run(RunCommand::Delete).unwrap();
        for write in writes() {
            assert_refused(harness.run(write), &format!("the run was deleted and takes no more writes: run={RUN}"));
        }
        assert_refused(harness.run(create("r", None, &[])), "the run was deleted");
        for read in
            [Command::from(KvCommand::Count { prefix: None }), EventCommand::Len.into(), TraceCommand::Count.into()]
        {
            assert_eq!(harness.run(read).unwrap(), Output::Count(0));
        }
        assert_eq!(harness.run(RunCommand::Get).unwrap(), Output::MaybeRun(None));
    }

    #[test]
    fn readers_from_before_the_deletion_still_see_the_run() {
        let mut harness = Harness::new();
        harness.run(create("r", None, &["t"])).unwrap();
        harness.run(put("k")).unwrap();
        harness.run(append("a")).unwrap();
        let mut before = harness.begin();
        harness.run(RunCommand::Delete).unwrap();
        let mut after = harness.begin();
        for (part, count) in [(&mut before, 1), (&mut after, 0)] {
            assert_eq!(harness.step(part, KvCommand::Count { prefix: None }).unwrap(), Output::Count(count));
            assert_eq!(harness.step(part, EventCommand::Len).unwrap(), Output::Count(count));
            let listed = harness.step_in(part, RunId::DIRECTORY, RunCommand::List(command::RunFilter::All)).unwrap();
            assert_eq!(listed.ids().len() as u64, count);
        }
        harness.step(&mut before, put("k2")).unwrap();
        assert!(harness.commit(before).is_err(), "a write from before the deletion comes too late");
    }

    #[test]
    fn a_transaction_that_writes_conflicts_with_the_end_of_its_run_even_if_it_writes_blindly() {
        let mut harness = Harness::new();
        harness.run(create("r", None, &[])).unwrap();
        let mut part = harness.begin();
        harness.step(&mut part, put("k")).unwrap();
        harness.run(status_to(RunStatus::Completed)).unwrap();
        assert_eq!(harness.commit(part).unwrap_err().primitive, "runs");
    }

    #[test]
    fn the_directory_is_no_run() {
        let mut harness = Harness::new();
        for write in writes() {
            assert_refused(harness.run_in(RunId::DIRECTORY, write), "the nil uuid is reserved");
        }
        for command in [create("r", None, &[]), RunCommand::Get, RunCommand::Delete] {
            assert_refused(harness.run_in(RunId::DIRECTORY, command), "the nil uuid is reserved");
        }
    }

    #[test]
    fn what_a_full_transaction_refuses_it_does_not_see() {
        let mut harness = Harness::new();
        harness.run(create("r", None, &["old"])).unwrap();
        harness.run(put("k")).unwrap();
        harness.run(JsonCommand::Create { key: "d".into(), document: Json::Null }).unwrap();
        let mut part = harness.begin();
        let pairs =
            (0..TRANSACTION_OPERATIONS).map(|number| (format!("p{number}").as_str().into(), 1.into())).collect();
        harness.step(&mut part, KvCommand::PutMany { pairs }).unwrap();
        let reads = [
            Command::from(KvCommand::Get { key: "k".into() }),
            EventCommand::Len.into(),
            StateCommand::List.into(),
            TraceCommand::Count.into(),
            JsonCommand::Get { key: "d".into(), path: Path::default() }.into(),
            JsonCommand::Get { key: "new".into(), path: Path::default() }.into(),
            RunCommand::Get.into(),
        ];
        let seen =
            |harness: &Harness, part: &mut Part| reads.clone().map(|read| harness.step_in(part, RUN, read).unwrap());
        let before = seen(&harness, &mut part);
        let mut refused = 0;
        let new = JsonCommand::Create { key: "new".into(), document: Json::Null };
        let others = [new.into(), RunCommand::AddTags { tags: vec!["new".into()] }.into(), RunCommand::Delete.into()];
        for write in writes().into_iter().chain(others).chain([status_to(RunStatus::Completed).into()]) {
            let result = harness.step(&mut part, write.clone());
            refused += usize::from(matches!(result, Err(Error::LimitExceeded { .. })));
            assert_eq!(seen(&harness, &mut part), before, "{write:?}: {result:?}");
        }
        assert!(refused > 15, "{refused}");
        harness.commit(part).unwrap();
    }

    #[test]
    fn runs_do_not_see_each_other() {
        let mut harness = Harness::new();
        for write in writes() {
            harness.run(write).unwrap_or(Output::Unit);
        }
        let nothing =
            [Command::from(KvCommand::Count { prefix: None }), EventCommand::Len.into(), TraceCommand::Count.into()];
        for read in nothing {
            assert_eq!(harness.run_in(OTHER, read).unwrap(), Output::Count(0));
        }
        assert_eq!(harness.run_in(OTHER, StateCommand::List).unwrap(), Output::Texts(vec![]));
    }
}
