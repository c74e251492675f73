//! What commands of state cells answer.

use std::rc::Rc;
use std::sync::Arc;

use super::{Cell, Desk, Refusal, Run};
use crate::base::run_id::RunId;
use crate::base::state::State;
use crate::base::value::Value;
use crate::primitive::command::StateCommand;
use crate::primitive::output::Output;

impl Desk<'_> {
    pub(super) fn state(&mut self, run: RunId, command: &StateCommand) -> Result<Output, Refusal> {
        let state = self.run(run);
        let cell = |name: &str| state.cells.get(name).cloned().unwrap_or_default();
        Ok(match command {
            StateCommand::Read { name } => Output::State(cell(name.as_str()).state),
            StateCommand::Exists { name } => Output::Flag(cell(name.as_str()).state.is_some()),
            StateCommand::List => {
                let live = state.cells.iter().filter(|(_, cell)| cell.state.is_some());
                Output::Texts(live.map(|(name, _)| name.clone()).collect())
            }
            StateCommand::Init { name, value } => {
                self.writable(run)?;
                if cell(name.as_str()).state.is_some() {
                    return Err(Refusal::Exists);
                }
                Output::Count(self.set(run, state.clone(), name.as_str(), value.clone()))
            }
            StateCommand::Set { name, value } => {
                self.writable(run)?;
                Output::Count(self.set(run, state.clone(), name.as_str(), value.clone()))
            }
            StateCommand::CompareAndSwap { name, expected, value } => {
                self.writable(run)?;
                let actual = cell(name.as_str()).state.map_or(0, |state| state.version);
                if actual != *expected {
                    return Err(Refusal::Mismatch(*expected, actual));
                }
                Output::Count(self.set(run, state.clone(), name.as_str(), value.clone()))
            }
            StateCommand::Increment { name, by } => {
                self.writable(run)?;
                let before = cell(name.as_str()).state.map_or(Some(0), |state| state.value.as_i64());
                let after = before.and_then(|before| before.checked_add(*by)).ok_or(Refusal::Invalid)?;
                self.set(run, state.clone(), name.as_str(), after.into());
                Output::Number(after)
            }
            StateCommand::Delete { name } => {
                let mut state = self.writable(run)?;
                let version = cell(name.as_str()).version;
                let is_there = cell(name.as_str()).state.is_some();
                if is_there {
                    Rc::make_mut(&mut state.cells).insert(name.as_str().to_owned(), Cell { state: None, version });
                    self.change(run, state);
                }
                Output::Flag(is_there)
            }
        })
    }

    fn set(&mut self, run: RunId, mut state: Run, name: &str, value: Value) -> u64 {
        let version = state.cells.get(name).map_or(0, |cell| cell.version) + 1;
        let content = Some(Arc::new(State { value, version, updated_at: self.now.as_micros() }));
        Rc::make_mut(&mut state.cells).insert(name.into(), Cell { state: content, version });
        self.change(run, state);
        version
    }
}
