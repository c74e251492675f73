//! Watching: key-value pairs, JSON documents, state cells and runs as subscriptions.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::json_store::{JsonStore, RunJson};
use super::kv_store::{KVStore, RunKv};
use super::op::Op;
use super::run_index::RunIndex;
use super::state_cell::{RunStates, StateCell};
use super::subscription::{ByVersion, Read, Subscription};
use crate::base::cursor::{Cursor, Place};
use crate::base::error::{Error, Result};
use crate::base::key::{Name, Space};
use crate::base::limits::check_key;
use crate::base::run::{RunMetadata, RunStatus};
use crate::base::run_id::RunId;
use crate::base::state::State;
use crate::base::stored::Stored;
use crate::base::value::Value;
use crate::base::version::Version;
use crate::shard::subscriptions::{Names, Start, Topic};
use crate::store::changes::Change;

/// A key-value pair was written or deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvChange {
    /// The key.
    pub key: String,
    /// What it holds from then on; `None` if it was deleted. That a pair expires is no change.
    pub value: Option<Value>,
    /// The version of the commit.
    pub version: Version,
}

/// A JSON document was written, changed or deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JsonChange {
    /// The key.
    pub key: String,
    /// The whole document from then on; `None` if it was deleted.
    pub value: Option<serde_json::Value>,
    /// The version of the commit.
    pub version: Version,
}

/// What is known about a run has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunChange {
    /// What is known from then on.
    pub metadata: RunMetadata,
    /// The version of the commit.
    pub version: Version,
}

impl ByVersion for KvChange {}
impl ByVersion for JsonChange {}
impl ByVersion for RunChange {}
impl ByVersion for State {}

fn text(name: &Name) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn kv_change(change: Change) -> Option<KvChange> {
    let value = match change.stored {
        None => None,
        Some(Stored::Value(value)) => Some(value.into()),
        Some(_) => return None,
    };
    Some(KvChange { key: text(&change.name), value, version: change.version })
}

fn json_change(change: Change) -> Option<JsonChange> {
    let value = match change.stored {
        None => None,
        Some(Stored::Json(document)) => Some(document.root.to_value()),
        Some(_) => return None,
    };
    Some(JsonChange { key: text(&change.name), value, version: change.version })
}

fn run_change(change: Change) -> Option<RunChange> {
    match change.stored {
        Some(Stored::Run(metadata)) => {
            Some(RunChange { metadata: Arc::unwrap_or_clone(metadata), version: change.version })
        }
        _ => None,
    }
}

fn state(change: Change) -> Option<State> {
    match change.stored {
        Some(Stored::State(state)) => Some(Arc::unwrap_or_clone(state)),
        _ => None,
    }
}

fn prefixed(run: RunId, space: Space, prefix: Option<&str>) -> Topic {
    let names = Names::Prefix(Name::from_slice(prefix.unwrap_or_default().as_bytes()));
    Topic::Keys { run, space, names }
}

const fn behind(cursor: Cursor) -> Start {
    Start::At(Place::Change(cursor))
}

impl RunKv {
    fn subscribe(&self, prefix: Option<&str>, start: Start) -> Op<Subscription<KvChange>> {
        let topic = prefixed(self.scope.run(), Space::Kv, prefix);
        self.scope.subscribe(Ok(()), topic, start, kv_change)
    }

    /// Subscribes to every committed change of the keys that start with a prefix, in order, from now on.
    ///
    /// # Errors
    /// `InvalidOperation` in a transaction, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch(&self, prefix: Option<&str>) -> Op<Subscription<KvChange>> {
        self.subscribe(prefix, Start::Now)
    }

    /// The same from a [cursor](Subscription::cursor) on.
    ///
    /// # Errors
    /// `NotKept` if not all that has changed since is kept; those of [`watch`](Self::watch).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch_from(&self, prefix: Option<&str>, cursor: Cursor) -> Op<Subscription<KvChange>> {
        self.subscribe(prefix, behind(cursor))
    }
}

impl RunJson {
    fn subscribe(&self, prefix: Option<&str>, start: Start) -> Op<Subscription<JsonChange>> {
        let topic = prefixed(self.scope.run(), Space::Json, prefix);
        self.scope.subscribe(Ok(()), topic, start, json_change)
    }

    /// Subscribes to every committed change of the documents whose keys start with a prefix, in order, from now on.
    ///
    /// # Errors
    /// `InvalidOperation` in a transaction, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch(&self, prefix: Option<&str>) -> Op<Subscription<JsonChange>> {
        self.subscribe(prefix, Start::Now)
    }

    /// The same from a [cursor](Subscription::cursor) on.
    ///
    /// # Errors
    /// `NotKept` if not all that has changed since is kept; those of [`watch`](Self::watch).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch_from(&self, prefix: Option<&str>, cursor: Cursor) -> Op<Subscription<JsonChange>> {
        self.subscribe(prefix, behind(cursor))
    }
}

impl RunStates {
    fn subscribe(&self, name: &str, start: Start) -> Op<Subscription<State>> {
        let names = Names::One(Name::from_slice(name.as_bytes()));
        let topic = Topic::Keys { run: self.scope.run(), space: Space::State, names };
        self.scope.subscribe(check_key("state cell name", name), topic, start, state)
    }

    /// Subscribes to a cell: its current state, if there is one, then every committed state in order. That it is deleted is
    /// not told; made again, it goes on counting.
    ///
    /// # Errors
    /// `InvalidOperation` or `LimitExceeded` for the name, `InvalidOperation` in a transaction, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch(&self, name: impl AsRef<str>) -> Op<Subscription<State>> {
        self.subscribe(name.as_ref(), Start::Current)
    }

    /// Subscribes to the states of a cell behind a [cursor](Subscription::cursor).
    ///
    /// # Errors
    /// `NotKept` if not all that has changed since is kept; those of [`watch`](Self::watch).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch_from(&self, name: impl AsRef<str>, cursor: Cursor) -> Op<Subscription<State>> {
        self.subscribe(name.as_ref(), behind(cursor))
    }

    /// Waits for a state that a function accepts: it is given the current state, then every committed one, in order and each
    /// once. The caller runs it.
    ///
    /// # Errors
    /// `KeyNotFound` if the run is deleted; those of [`watch`](Self::watch) and of its stream.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn wait_for<F>(&self, name: impl AsRef<str>, predicate: F) -> WaitFor<F>
    where
        F: FnMut(&State) -> bool + Send,
    {
        WaitFor { run: self.scope.run(), predicate, step: Step::Subscribing(self.watch(name)) }
    }
}

/// The wait for a state that a function accepts; see [`RunStates::wait_for`]. Does nothing until it is awaited.
#[must_use = "a wait does nothing until it is awaited"]
pub struct WaitFor<F> {
    run: RunId,
    predicate: F,
    step: Step,
}

enum Step {
    Subscribing(Op<Subscription<State>>),
    Waiting(Subscription<State>),
    Over,
}

// Nothing in it refers to itself, and the function is never pinned.
impl<F> Unpin for WaitFor<F> {}

impl<F: FnMut(&State) -> bool> Future for WaitFor<F> {
    type Output = Result<State>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Step::Subscribing(watch) = &mut self.step {
            let states = futures::ready!(Pin::new(watch).poll(context));
            self.step = Step::Over;
            self.step = Step::Waiting(states?);
        }
        // Over, should the function panic.
        let Step::Waiting(mut states) = std::mem::replace(&mut self.step, Step::Over) else {
            let over = "a wait was polled after it had finished";
            return Poll::Ready(Err(Error::InvalidOperation(over.into())));
        };
        loop {
            match states.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(state))) if (self.predicate)(&state) => return Poll::Ready(Ok(state)),
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => {
                    return Poll::Ready(Err(Error::KeyNotFound(format!("the run was deleted: run={}", self.run))));
                }
                Poll::Pending => {
                    self.step = Step::Waiting(states);
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<F> fmt::Debug for WaitFor<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFor").field("run", &self.run).finish_non_exhaustive()
    }
}

impl KVStore {
    /// See [`RunKv::watch`].
    ///
    /// # Errors
    /// Those of [`RunKv::watch`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch(&self, run: impl Borrow<RunId>, prefix: Option<&str>) -> Op<Subscription<KvChange>> {
        self.of(run).watch(prefix)
    }

    /// See [`RunKv::watch_from`].
    ///
    /// # Errors
    /// Those of [`RunKv::watch_from`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch_from(
        &self,
        run: impl Borrow<RunId>,
        prefix: Option<&str>,
        cursor: Cursor,
    ) -> Op<Subscription<KvChange>> {
        self.of(run).watch_from(prefix, cursor)
    }
}

impl JsonStore {
    /// See [`RunJson::watch`].
    ///
    /// # Errors
    /// Those of [`RunJson::watch`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch(&self, run: impl Borrow<RunId>, prefix: Option<&str>) -> Op<Subscription<JsonChange>> {
        self.of(run).watch(prefix)
    }

    /// See [`RunJson::watch_from`].
    ///
    /// # Errors
    /// Those of [`RunJson::watch_from`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch_from(
        &self,
        run: impl Borrow<RunId>,
        prefix: Option<&str>,
        cursor: Cursor,
    ) -> Op<Subscription<JsonChange>> {
        self.of(run).watch_from(prefix, cursor)
    }
}

impl StateCell {
    /// See [`RunStates::watch`].
    ///
    /// # Errors
    /// Those of [`RunStates::watch`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch(&self, run: impl Borrow<RunId>, name: impl AsRef<str>) -> Op<Subscription<State>> {
        self.of(run).watch(name)
    }

    /// See [`RunStates::watch_from`].
    ///
    /// # Errors
    /// Those of [`RunStates::watch_from`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch_from(
        &self,
        run: impl Borrow<RunId>,
        name: impl AsRef<str>,
        cursor: Cursor,
    ) -> Op<Subscription<State>> {
        self.of(run).watch_from(name, cursor)
    }

    /// See [`RunStates::wait_for`].
    ///
    /// # Errors
    /// Those of [`RunStates::wait_for`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn wait_for<F>(&self, run: impl Borrow<RunId>, name: impl AsRef<str>, predicate: F) -> WaitFor<F>
    where
        F: FnMut(&State) -> bool + Send,
    {
        self.of(run).wait_for(name, predicate)
    }
}

impl RunIndex {
    fn subscribe(&self, status: Option<RunStatus>, start: Start) -> Op<Subscription<RunChange>> {
        let engine = self.database.engine();
        let read: Read<RunChange> = run_change;
        Subscription::begin(engine, (0..engine.shards()).collect(), Topic::Runs { status }, start, read)
    }

    /// Subscribes to every committed change of what is known about runs, in order, from now on; with a status, only of those
    /// that have it then. That a run is deleted is not told.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch(&self, status: Option<RunStatus>) -> Op<Subscription<RunChange>> {
        self.subscribe(status, Start::Now)
    }

    /// The same from a [cursor](Subscription::cursor) on. Of runs that were deleted since, nothing is told.
    ///
    /// # Errors
    /// `NotKept` if not all that has changed since is kept; those of [`watch`](Self::watch).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn watch_from(&self, status: Option<RunStatus>, cursor: Cursor) -> Op<Subscription<RunChange>> {
        self.subscribe(status, behind(cursor))
    }
}
