//! State cells.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::database::Database;
use super::op::{Op, read};
use super::scope::Scope;
use crate::base::error::{Error, Result};
use crate::base::key::Name;
use crate::base::limits::{check_key, check_value};
use crate::base::run_id::RunId;
use crate::base::state::State;
use crate::base::value::Value;
use crate::primitive::command::{Command, StateCommand};
use crate::primitive::output::Reply;

/// After so many lost races a transition lets other tasks run before every further attempt.
const EAGER_ATTEMPTS: u32 = 16;

/// The state cells of every run: named values that count how often they were written. Guarantee: the writes of one cell
/// happen one after the other, each to the state the one before it left.
///
/// ```
/// use in_mem::prelude::*;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let db = Database::open_in_memory().await?;
/// let (states, run) = (StateCell::new(&db), db.begin_run().await);
/// assert_eq!(states.init(&run, "turn", "planner").await?, 1);
/// assert_eq!(states.cas(&run, "turn", 1, "coder").await?, 2);
/// assert!(matches!(states.cas(&run, "turn", 1, "late").await, Err(Error::VersionMismatch { actual: 2, .. })));
///
/// // Runs again until nobody was faster.
/// let shout = |state: &State| Ok((state.value.as_str().unwrap_or("").to_uppercase().into(), ()));
/// states.transition(&run, "turn", shout).await?;
/// assert_eq!(states.read(&run, "turn").await?.map(|state| state.value), Some("CODER".into()));
/// assert_eq!(states.increment(&run, "steps", 3).await?, 3);
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct StateCell {
    database: Database,
}

/// The state cells of one run; in a transaction, as the transaction sees and changes them.
#[derive(Clone, Debug)]
pub struct RunStates {
    pub(super) scope: Scope,
}

impl RunStates {
    pub(crate) const fn new(scope: Scope) -> Self {
        Self { scope }
    }

    fn op<T: 'static>(&self, checked: Result<()>, command: StateCommand, read: fn(Reply) -> Result<T>) -> Op<T> {
        self.scope.op(checked, Command::State(command), read)
    }

    /// Makes a cell. Returns its version: 1, or one more than it had when it was deleted.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one; those of [`set`](Self::set).
    ///
    /// # Cancel safety
    /// Made or not, never half.
    pub fn init(&self, name: impl AsRef<str>, value: impl Into<Value>) -> Op<u64> {
        let (name, value) = (name.as_ref(), value.into());
        let checked = check_write(name, &value);
        self.op(checked, StateCommand::Init { name: name.into(), value }, read!(Count(version) => version))
    }

    /// Reads a cell; `None` if there is none.
    ///
    /// # Errors
    /// `InvalidOperation` or `LimitExceeded` for the name, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn read(&self, name: impl AsRef<str>) -> Op<Option<State>> {
        let name = name.as_ref();
        let command = StateCommand::Read { name: name.into() };
        self.op(check_name(name), command, read!(State(state) => state.map(Arc::unwrap_or_clone)))
    }

    /// The same, without copying what is read.
    fn look(&self, name: &Name) -> Op<Option<Arc<State>>> {
        self.op(check_name(name.as_str()), StateCommand::Read { name: name.clone() }, read!(State(state) => state))
    }

    /// Writes a cell, whether or not there is one. Returns its new version. Never conflicts.
    ///
    /// # Errors
    /// `InvalidOperation` for an empty name or an ended run, `LimitExceeded`, `Unavailable`, `CommitUnknown`.
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn set(&self, name: impl AsRef<str>, value: impl Into<Value>) -> Op<u64> {
        let (name, value) = (name.as_ref(), value.into());
        let checked = check_write(name, &value);
        self.op(checked, StateCommand::Set { name: name.into(), value }, read!(Count(version) => version))
    }

    /// Writes a cell if it has this version; 0 means that there must be none. Returns its new version.
    ///
    /// # Errors
    /// `VersionMismatch` if it has another version; those of [`set`](Self::set).
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn cas(&self, name: impl AsRef<str>, expected: u64, value: impl Into<Value>) -> Op<u64> {
        self.swap(name.as_ref().into(), expected, value.into())
    }

    fn swap(&self, name: Name, expected: u64, value: Value) -> Op<u64> {
        let checked = check_write(name.as_str(), &value);
        let command = StateCommand::CompareAndSwap { name, expected, value };
        self.op(checked, command, read!(Count(version) => version))
    }

    /// Changes a cell by a function of its state. The function gives the new value and a result, which is returned
    /// with the new version.
    ///
    /// The caller runs the function, again whenever somebody else wrote the cell meanwhile, until it wins: it must be
    /// pure. It may borrow from its surroundings. A panic in it unwinds the caller and hurts nobody else.
    ///
    /// # Errors
    /// What the function returns, `KeyNotFound` if there is no such cell; those of [`set`](Self::set). Never a conflict.
    ///
    /// # Cancel safety
    /// Changed or not, never half.
    pub fn transition<T, F>(&self, name: impl AsRef<str>, f: F) -> Transition<T, F>
    where
        F: FnMut(&State) -> Result<(Value, T)> + Send,
        T: Send,
    {
        self.change(name.as_ref(), None, f)
    }

    /// Changes a cell by a function of its state, as [`transition`](Self::transition) does. If there is none, the
    /// function sees the initial value at version 0 and time 0, and what it gives makes the cell.
    ///
    /// # Errors
    /// What the function returns; those of [`set`](Self::set). Never a conflict.
    ///
    /// # Cancel safety
    /// Changed or not, never half.
    pub fn transition_or_init<T, F>(&self, name: impl AsRef<str>, initial: impl Into<Value>, f: F) -> Transition<T, F>
    where
        F: FnMut(&State) -> Result<(Value, T)> + Send,
        T: Send,
    {
        let initial = State { value: initial.into(), version: 0, updated_at: 0 };
        self.change(name.as_ref(), Some(Arc::new(initial)), f)
    }

    fn change<T, F>(&self, name: &str, initial: Option<Arc<State>>, f: F) -> Transition<T, F> {
        let name = Name::from(name);
        let step = Step::Reading(self.look(&name));
        Transition { states: self.clone(), name, initial, f, lost: 0, step }
    }

    /// Adds to a cell that holds an integer; if there is none, to 0. Returns the sum. Never conflicts.
    ///
    /// # Errors
    /// `InvalidOperation` if the cell holds something else or the sum is no `i64`; those of [`set`](Self::set).
    ///
    /// # Cancel safety
    /// Added or not, never half.
    pub fn increment(&self, name: impl AsRef<str>, by: i64) -> Op<i64> {
        let name = name.as_ref();
        self.op(check_name(name), StateCommand::Increment { name: name.into(), by }, read!(Number(sum) => sum))
    }

    /// Deletes a cell. Returns whether there was one. Made again, it goes on counting its versions.
    ///
    /// # Errors
    /// Those of [`set`](Self::set).
    ///
    /// # Cancel safety
    /// Deleted or not, never half.
    pub fn delete(&self, name: impl AsRef<str>) -> Op<bool> {
        let name = name.as_ref();
        self.op(check_name(name), StateCommand::Delete { name: name.into() }, read!(Flag(deleted) => deleted))
    }

    /// Whether there is such a cell.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn exists(&self, name: impl AsRef<str>) -> Op<bool> {
        let name = name.as_ref();
        self.op(check_name(name), StateCommand::Exists { name: name.into() }, read!(Flag(exists) => exists))
    }

    /// Lists the names of the cells, in ascending order.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn list(&self) -> Op<Vec<String>> {
        self.op(Ok(()), StateCommand::List, read!(Texts(names) => names))
    }
}

fn check_name(name: &str) -> Result<()> {
    check_key("state cell name", name)
}

fn check_write(name: &str, value: &Value) -> Result<()> {
    check_name(name).and_then(|()| check_value(value))
}

/// A change of a state cell under way; see [`RunStates::transition`]. Does nothing until it is awaited.
#[must_use = "a transition does nothing until it is awaited"]
pub struct Transition<T, F> {
    states: RunStates,
    name: Name,
    /// What the function sees if there is no cell.
    initial: Option<Arc<State>>,
    f: F,
    /// How often somebody else was faster.
    lost: u32,
    step: Step<T>,
}

enum Step<T> {
    Reading(Op<Option<Arc<State>>>),
    Writing(Op<u64>, T),
    Over,
}

// Nothing in a transition refers to itself, and the function is never pinned.
impl<T, F> Unpin for Transition<T, F> {}

impl<T, F> Transition<T, F>
where
    F: FnMut(&State) -> Result<(Value, T)>,
{
    /// Applies the function to what was read.
    fn apply(&mut self, state: Option<Arc<State>>) -> Result<Step<T>> {
        let Some(state) = state.or_else(|| self.initial.clone()) else {
            let run = self.states.scope.run();
            return Err(Error::KeyNotFound(format!("state cell: run={run} name={:?}", self.name.as_str())));
        };
        let (value, result) = (self.f)(&state)?;
        Ok(Step::Writing(self.states.swap(self.name.clone(), state.version, value), result))
    }
}

impl<T, F> Future for Transition<T, F>
where
    F: FnMut(&State) -> Result<(Value, T)>,
{
    type Output = Result<(T, u64)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            // Over, should the function panic.
            match std::mem::replace(&mut self.step, Step::Over) {
                Step::Reading(mut reading) => {
                    let Poll::Ready(state) = Pin::new(&mut reading).poll(context) else {
                        self.step = Step::Reading(reading);
                        return Poll::Pending;
                    };
                    self.step = self.apply(state?)?;
                }
                Step::Writing(mut writing, result) => {
                    let Poll::Ready(written) = Pin::new(&mut writing).poll(context) else {
                        self.step = Step::Writing(writing, result);
                        return Poll::Pending;
                    };
                    match written {
                        Ok(version) => return Poll::Ready(Ok((result, version))),
                        Err(Error::VersionMismatch { .. }) => {}
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                    self.step = Step::Reading(self.states.look(&self.name));
                    self.lost = self.lost.saturating_add(1);
                    if self.lost > EAGER_ATTEMPTS {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Step::Over => {
                    let over = "a transition was polled after it had finished";
                    return Poll::Ready(Err(Error::InvalidOperation(over.into())));
                }
            }
        }
    }
}

impl<T, F> fmt::Debug for Transition<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transition").field("name", &self.name).field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl StateCell {
    /// The state cells of a database.
    pub fn new(database: impl Into<Database>) -> Self {
        Self { database: database.into() }
    }

    pub(super) fn of(&self, run: impl Borrow<RunId>) -> RunStates {
        RunStates::new(Scope::of_run(self.database.engine(), run))
    }

    /// See [`RunStates::init`].
    ///
    /// # Errors
    /// Those of [`RunStates::init`].
    ///
    /// # Cancel safety
    /// Made or not, never half.
    pub fn init(&self, run: impl Borrow<RunId>, name: impl AsRef<str>, value: impl Into<Value>) -> Op<u64> {
        self.of(run).init(name, value)
    }

    /// See [`RunStates::read`].
    ///
    /// # Errors
    /// Those of [`RunStates::read`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn read(&self, run: impl Borrow<RunId>, name: impl AsRef<str>) -> Op<Option<State>> {
        self.of(run).read(name)
    }

    /// See [`RunStates::set`].
    ///
    /// # Errors
    /// Those of [`RunStates::set`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn set(&self, run: impl Borrow<RunId>, name: impl AsRef<str>, value: impl Into<Value>) -> Op<u64> {
        self.of(run).set(name, value)
    }

    /// See [`RunStates::cas`].
    ///
    /// # Errors
    /// Those of [`RunStates::cas`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn cas(
        &self,
        run: impl Borrow<RunId>,
        name: impl AsRef<str>,
        expected: u64,
        value: impl Into<Value>,
    ) -> Op<u64> {
        self.of(run).cas(name, expected, value)
    }

    /// See [`RunStates::transition`].
    ///
    /// # Errors
    /// Those of [`RunStates::transition`].
    ///
    /// # Cancel safety
    /// Changed or not, never half.
    pub fn transition<T, F>(&self, run: impl Borrow<RunId>, name: impl AsRef<str>, f: F) -> Transition<T, F>
    where
        F: FnMut(&State) -> Result<(Value, T)> + Send,
        T: Send,
    {
        self.of(run).transition(name, f)
    }

    /// See [`RunStates::transition_or_init`].
    ///
    /// # Errors
    /// Those of [`RunStates::transition_or_init`].
    ///
    /// # Cancel safety
    /// Changed or not, never half.
    pub fn transition_or_init<T, F>(
        &self,
        run: impl Borrow<RunId>,
        name: impl AsRef<str>,
        initial: impl Into<Value>,
        f: F,
    ) -> Transition<T, F>
    where
        F: FnMut(&State) -> Result<(Value, T)> + Send,
        T: Send,
    {
        self.of(run).transition_or_init(name, initial, f)
    }

    /// See [`RunStates::increment`].
    ///
    /// # Errors
    /// Those of [`RunStates::increment`].
    ///
    /// # Cancel safety
    /// Added or not, never half.
    pub fn increment(&self, run: impl Borrow<RunId>, name: impl AsRef<str>, by: i64) -> Op<i64> {
        self.of(run).increment(name, by)
    }

    /// See [`RunStates::delete`].
    ///
    /// # Errors
    /// Those of [`RunStates::delete`].
    ///
    /// # Cancel safety
    /// Deleted or not, never half.
    pub fn delete(&self, run: impl Borrow<RunId>, name: impl AsRef<str>) -> Op<bool> {
        self.of(run).delete(name)
    }

    /// See [`RunStates::exists`].
    ///
    /// # Errors
    /// Those of [`RunStates::exists`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn exists(&self, run: impl Borrow<RunId>, name: impl AsRef<str>) -> Op<bool> {
        self.of(run).exists(name)
    }

    /// See [`RunStates::list`].
    ///
    /// # Errors
    /// Those of [`RunStates::list`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn list(&self, run: impl Borrow<RunId>) -> Op<Vec<String>> {
        self.of(run).list()
    }
}
