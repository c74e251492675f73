//! Scopes: a run, and perhaps a transaction, that operations belong to.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::op::Op;
use super::spread::spread;
use super::subscription::{Read, Subscription};
use super::transacting::Transacting;
use crate::base::error::{Error, Result};
use crate::base::options::Partitioning;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::access::Access;
use crate::commit::part::Part;
use crate::primitive;
use crate::primitive::command::Command;
use crate::primitive::output::Reply;
use crate::runtime::engine::Engine;
use crate::shard::subscriptions::{Names, Start, Topic};
use crate::store::memory::Memory;

/// A run, and perhaps a transaction, that operations belong to.
#[derive(Clone)]
pub(crate) struct Scope {
    engine: Arc<Engine>,
    run: RunId,
    transaction: Option<Arc<Transacting>>,
    read_only: bool,
    /// Why every operation is refused.
    refused: Option<&'static str>,
    /// What is read instead of the database.
    replayed: Option<Arc<Replayed>>,
}

/// A run rebuilt from its history, as it was at a version.
pub(crate) struct Replayed {
    pub(crate) memory: Memory,
    pub(crate) version: Version,
}

impl Replayed {
    fn answer(&self, run: RunId, command: Command) -> Result<Reply> {
        let mut part = Part::immediate(self.version);
        let mut access = Access::new(&self.memory, &mut part, self.version);
        primitive::execute(&mut access, run, command).map(Reply::read)
    }
}

impl Scope {
    /// Operations on a run, each a transaction of its own.
    pub(crate) fn of_run(engine: &Arc<Engine>, run: impl Borrow<RunId>) -> Self {
        let engine = engine.clone();
        Self { engine, run: *run.borrow(), transaction: None, read_only: false, refused: None, replayed: None }
    }

    /// Operations on a run within a transaction.
    pub(crate) const fn of_transaction(engine: Arc<Engine>, run: RunId, transaction: Arc<Transacting>) -> Self {
        Self { engine, run, transaction: Some(transaction), read_only: false, refused: None, replayed: None }
    }

    /// Reads of a run that was rebuilt from its history.
    pub(crate) const fn of_replay(engine: Arc<Engine>, run: RunId, replayed: Arc<Replayed>) -> Self {
        Self { engine, run, transaction: None, read_only: true, refused: None, replayed: Some(replayed) }
    }

    /// The same scope with writes refused.
    pub(crate) const fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The same scope in another run.
    pub(crate) fn for_run(&self, run: RunId) -> Self {
        Self { run, ..self.clone() }
    }

    /// The same scope with everything refused.
    pub(crate) const fn refused(mut self, reason: &'static str) -> Self {
        self.refused = Some(reason);
        self
    }

    pub(crate) const fn run(&self) -> RunId {
        self.run
    }

    pub(crate) const fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// The same run at one snapshot for as long as the scope lives; a transaction is one already.
    pub(crate) fn at_one_snapshot(&self) -> Self {
        if self.in_transaction() || self.replayed.is_some() {
            return self.clone();
        }
        let transaction = Arc::new(Transacting::new(self.engine.clone()));
        Self::of_transaction(self.engine.clone(), self.run, transaction)
    }

    /// One command, and how its reply reads. `checked` is what was found wrong with its arguments at the door.
    pub(crate) fn op<T: 'static>(&self, checked: Result<()>, command: Command, read: fn(Reply) -> Result<T>) -> Op<T> {
        if let Err(error) = checked.and_then(|()| self.check_run(&command)) {
            return Op::done(Err(error));
        }
        if let Some(replayed) = &self.replayed {
            return Op::done(replayed.answer(self.run, command).and_then(read));
        }
        if let Some(spread) = spread(&self.engine, self.run, &command) {
            let (engine, run, within) = (self.engine.clone(), self.run, self.transaction.clone());
            return Op::steps(async move { read(spread.run(engine, run, within).await?) });
        }
        let call = match &self.transaction {
            None => self.engine.command(self.run, command),
            Some(transaction) => transaction.step(self.run, command),
        };
        Op::call(call, read)
    }

    /// A subscription to what changes in the run.
    pub(crate) fn subscribe<T: 'static>(
        &self,
        checked: Result<()>,
        topic: Topic,
        start: Start,
        read: Read<T>,
    ) -> Op<Subscription<T>> {
        let refused = if self.run == RunId::DIRECTORY {
            Err(Error::InvalidOperation("the nil uuid is not a run id".into()))
        } else if self.in_transaction() || self.replayed.is_some() || self.refused.is_some() {
            Err(Error::InvalidOperation("only a run itself can be subscribed to, not a view of it".into()))
        } else {
            checked
        };
        match refused {
            Ok(()) => Subscription::begin(&self.engine, self.shards_of(&topic), topic, start, read),
            Err(error) => Op::done(Err(error)),
        }
    }

    /// The shards that own what a topic of the run is about.
    fn shards_of(&self, topic: &Topic) -> Vec<usize> {
        let layout = self.engine.setup().layout;
        match topic {
            Topic::Keys { space, names: Names::One(name), .. } => vec![layout.shard_of_key(&self.run, *space, name)],
            Topic::Keys { .. } if layout.partitioning == Partitioning::ByKey => (0..layout.shards).collect(),
            _ => vec![layout.shard_of_run(&self.run)],
        }
    }

    fn check_run(&self, command: &Command) -> Result<()> {
        if self.run == RunId::DIRECTORY {
            return Err(Error::InvalidOperation("the nil uuid is not a run id".into()));
        }
        if let Some(reason) = self.refused {
            return Err(Error::InvalidOperation(format!("{reason}: run={}", self.run)));
        }
        if command.is_read() {
            return Ok(());
        }
        if self.read_only {
            let what = if self.replayed.is_some() { "a replayed run" } else { "the transaction" };
            return Err(Error::InvalidOperation(format!("{what} is read-only")));
        }
        self.engine.unregistered(&self.run).map_or(Ok(()), Err)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Scope");
        shown.field("run", &self.run);
        if let Some(transaction) = &self.transaction {
            shown.field("transaction", transaction);
        }
        shown.finish_non_exhaustive()
    }
}
