//! State cells.
//!
//! - The versions of a cell are 1, 2, 3 ... A deleted cell remembers its version; made again, it goes on counting.

use std::sync::Arc;

use super::command::StateCommand;
use super::output::Output;
use super::{index, text_of, writable};
use crate::base::error::{Error, Result};
use crate::base::key::{Name, Space};
use crate::base::run_id::RunId;
use crate::base::state::State;
use crate::base::stored::Stored;
use crate::base::value::Value;
use crate::commit::access::{Access, Scan};

pub(super) fn execute(access: &mut Access<'_>, run: RunId, command: StateCommand) -> Result<Output> {
    match command {
        StateCommand::Read { name } => Ok(Output::State(Cell::read(access, run, &name).state)),
        StateCommand::Exists { name } => Ok(Output::Flag(Cell::read(access, run, &name).state.is_some())),
        StateCommand::List => Ok(list(access, run)),
        StateCommand::Set { name, value } => {
            writable(access, run)?;
            let cell = Cell::read(access, run, &name);
            Ok(Output::Count(cell.write(access, run, &name, value)?))
        }
        StateCommand::Init { name, value } => {
            writable(access, run)?;
            let cell = Cell::read(access, run, &name);
            if cell.state.is_some() {
                return Err(Error::AlreadyExists(format!("state cell: run={run} name={:?}", name.as_str())));
            }
            Ok(Output::Count(cell.write(access, run, &name, value)?))
        }
        StateCommand::CompareAndSwap { name, expected, value } => {
            writable(access, run)?;
            let cell = Cell::read(access, run, &name);
            let actual = cell.state.as_ref().map_or(0, |state| state.version);
            if actual != expected {
                return Err(Error::VersionMismatch { expected, actual });
            }
            Ok(Output::Count(cell.write(access, run, &name, value)?))
        }
        StateCommand::Increment { name, by } => increment(access, run, &name, by),
        StateCommand::Delete { name } => delete(access, run, &name),
    }
}

/// A cell as a command finds it.
struct Cell {
    /// What it holds; nothing if it was never made or is deleted.
    state: Option<Arc<State>>,
    /// How often it was written.
    version: u64,
}

impl Cell {
    fn read(access: &mut Access<'_>, run: RunId, name: &Name) -> Self {
        match access.get(run, Space::State, name) {
            None => Self { state: None, version: 0 },
            Some(Stored::State(state)) => Self { version: state.version, state: Some(state) },
            Some(Stored::DeletedState(version)) => Self { state: None, version },
            Some(other) => unreachable!("a cell holds a state, not {other:?}"),
        }
    }

    /// Writes the cell and says its new version.
    fn write(self, access: &mut Access<'_>, run: RunId, name: &Name, value: Value) -> Result<u64> {
        let version = self.version + 1;
        let state = Arc::new(State { value, version, updated_at: access.now().as_micros() });
        put(access, run, name, Stored::State(state))?;
        Ok(version)
    }
}

fn put(access: &mut Access<'_>, run: RunId, name: &Name, stored: Stored) -> Result<()> {
    index::put(access, run, Space::State, name.clone(), stored, None)
}

fn increment(access: &mut Access<'_>, run: RunId, name: &Name, by: i64) -> Result<Output> {
    writable(access, run)?;
    let cell = Cell::read(access, run, name);
    let refused = |why: &str| Error::InvalidOperation(format!("{why}: run={run} name={:?}", name.as_str()));
    let before = match &cell.state {
        None => 0,
        Some(state) => state.value.as_i64().ok_or_else(|| refused("the state cell holds no 64-bit signed integer"))?,
    };
    let after = before.checked_add(by).ok_or_else(|| refused("the increment leaves the 64-bit signed integers"))?;
    cell.write(access, run, name, Value::I64(after))?;
    Ok(Output::Number(after))
}

fn delete(access: &mut Access<'_>, run: RunId, name: &Name) -> Result<Output> {
    writable(access, run)?;
    let cell = Cell::read(access, run, name);
    if cell.state.is_none() {
        return Ok(Output::Flag(false));
    }
    put(access, run, name, Stored::DeletedState(cell.version))?;
    Ok(Output::Flag(true))
}

fn list(access: &mut Access<'_>, run: RunId) -> Output {
    let mut names = Vec::new();
    access.scan(run, Space::State, &Scan::all(), |name, stored| {
        if matches!(stored, Stored::State(_)) {
            names.push(text_of(name));
        }
        true
    });
    Output::Texts(names)
}

#[cfg(test)]
mod tests {
    use super::super::harness::{Harness, assert_collide, assert_refused};
    use super::*;

    fn set(name: &str, value: impl Into<Value>) -> StateCommand {
        StateCommand::Set { name: name.into(), value: value.into() }
    }

    fn swap(expected: u64) -> StateCommand {
        StateCommand::CompareAndSwap { name: "c".into(), expected, value: 7.into() }
    }

    fn increment(by: i64) -> StateCommand {
        StateCommand::Increment { name: "c".into(), by }
    }

    fn delete() -> StateCommand {
        StateCommand::Delete { name: "c".into() }
    }

    #[test]
    fn a_deleted_cell_goes_on_counting() {
        let mut harness = Harness::new();
        let init = || StateCommand::Init { name: "c".into(), value: 0.into() };
        assert_eq!(harness.run(init()).unwrap(), Output::Count(1));
        assert_eq!(harness.run(set("c", 1)).unwrap(), Output::Count(2));
        assert_eq!(harness.run(delete()).unwrap(), Output::Flag(true));
        assert_eq!(harness.run(delete()).unwrap(), Output::Flag(false));
        assert_eq!(harness.run(StateCommand::Read { name: "c".into() }).unwrap(), Output::State(None));
        assert_eq!(harness.run(StateCommand::List).unwrap(), Output::Texts(vec![]));
        assert_eq!(harness.run(init()).unwrap(), Output::Count(3));
        assert!(matches!(harness.run(init()), Err(Error::AlreadyExists(_))));
    }

    #[test]
    fn a_swap_needs_the_version_there_is() {
        let mut harness = Harness::new();
        let mismatch = |result: Result<Output>| match result {
            Err(Error::VersionMismatch { expected, actual }) => (expected, actual),
            other => panic!("no mismatch: {other:?}"),
        };
        assert_eq!(mismatch(harness.run(swap(1))), (1, 0));
        assert_eq!(harness.run(swap(0)).unwrap(), Output::Count(1));
        assert_eq!(mismatch(harness.run(swap(0))), (0, 1));
        assert_eq!(harness.run(swap(1)).unwrap(), Output::Count(2));
        harness.run(delete()).unwrap();
        assert_eq!(mismatch(harness.run(swap(2))), (2, 0), "a deleted cell does not exist");
        assert_eq!(harness.run(swap(0)).unwrap(), Output::Count(3));
    }

    #[test]
    fn increments_start_at_zero_and_refuse_what_they_cannot_count() {
        let mut harness = Harness::new();
        assert_eq!(harness.run(increment(5)).unwrap(), Output::Number(5));
        assert_eq!(harness.run(increment(-8)).unwrap(), Output::Number(-3));
        assert_refused(harness.run(increment(i64::MIN)), "leaves the 64-bit signed integers");
        harness.run(set("c", 1.0)).unwrap();
        assert_refused(harness.run(increment(1)), "holds no 64-bit signed integer");
        harness.run(set("c", u64::MAX)).unwrap();
        assert_refused(harness.run(increment(1)), "holds no 64-bit signed integer");
        harness.run(delete()).unwrap();
        assert_eq!(harness.run(increment(1)).unwrap(), Output::Number(1));
    }

    #[test]
    fn a_state_says_when_it_was_written() {
        let mut harness = Harness::new();
        harness.run(set("c", "v")).unwrap();
        let updated_at = harness.version().as_micros();
        let state = State { value: "v".into(), version: 1, updated_at };
        let read = harness.run(StateCommand::Read { name: "c".into() }).unwrap();
        assert_eq!(read, Output::State(Some(Arc::new(state))));
    }

    #[test]
    fn transactions_that_count_on_one_cell_conflict_and_on_two_do_not() {
        let mut harness = Harness::new();
        assert_collide(&mut harness, increment(1), increment(1), true);
        assert_collide(&mut harness, set("c", 1), set("d", 1), false);
        assert_collide(&mut harness, set("e", 1), StateCommand::List, true);
    }
}
