//! The shard itself: inputs in, effects out.
//!
//! - `latest` is the highest timestamp this shard has issued, served or learned. Every commit gets a later one.
//! - A read at S raises `latest` to S, so that no commit comes below a snapshot that was served.
//! - Validation, logging and applying are one synchronous step.
//! - After a failed write the shard is poisoned: it refuses writes, answers reads as of the last durable commit
//!   (`Strict`), and never writes again.

use std::collections::VecDeque;

use super::effect::Effect;
use super::gate::{CommitCount, Gate};
use super::input::{Input, Request, RequestId, TransactionNumber};
use super::log::Log;
use super::transactions::{IDLE, Transactions};
use crate::base::error::{Conflict, Error, Result};
use crate::base::limits;
use crate::base::options::DurabilityMode;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::access::Access;
use crate::commit::part::Part;
use crate::format::record::TransactionId;
use crate::primitive;
use crate::primitive::command::Command;
use crate::primitive::index;
use crate::primitive::output::{Output, Reply};
use crate::store::memory::Memory;

/// How many keys are swept with every commit, and how many with every tick.
const SWEEP_WITH_COMMIT: usize = 4;
const SWEEP_WITH_TICK: usize = 1024;

/// What a shard is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardConfig {
    /// Which opening of the database this is.
    pub(crate) incarnation: u32,
    /// The shard's number.
    pub(crate) shard: u32,
    pub(crate) mode: DurabilityMode,
    /// Whether writes are refused.
    pub(crate) read_only: bool,
}

/// A shard.
#[derive(Debug)]
pub(crate) struct Shard {
    config: ShardConfig,
    memory: Memory,
    log: Log,
    gate: Gate,
    transactions: Transactions,
    effects: VecDeque<Effect>,
    latest: Version,
    now: Version,
    commits: u64,
    poisoned: Option<String>,
    closing: Option<RequestId>,
    stopped: bool,
}

/// A result and the version it depends on.
type Outcome = (Result<Reply>, Version);

impl Shard {
    /// A shard with what recovery found; `start` is above every timestamp ever given out.
    pub(crate) fn new(config: ShardConfig, memory: Memory, start: Version) -> Self {
        Self {
            config,
            memory,
            log: Log::new(config.mode),
            gate: Gate::default(),
            transactions: Transactions::default(),
            effects: VecDeque::new(),
            latest: start,
            now: start,
            commits: 0,
            poisoned: None,
            closing: None,
            stopped: false,
        }
    }

    /// Takes an input. What it leads to is then found with `poll_effect`.
    pub(crate) fn handle(&mut self, now: Version, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Request { id, request } => self.request(id, request),
            Input::SegmentReady { index, capacity, salt } => self.log.segment_ready(index, capacity, salt),
            Input::SegmentFailed { index, reason } => {
                if self.log.segment_failed() {
                    self.poison(&format!("segment {index} cannot be made: {reason}"));
                }
            }
            Input::Appended { through } => {
                self.log.appended(through);
                self.release();
            }
            Input::AppendFailed { reason } => {
                self.log.append_failed();
                self.poison(&reason);
            }
            Input::Tick => self.tick(),
        }
    }

    /// The next thing to do. Call until there is none, after every batch of inputs.
    pub(crate) fn poll_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        if self.poisoned.is_none()
            && let Some(effect) = self.log.poll(self.now)
        {
            return Some(effect);
        }
        let id = self.closing.filter(|_| self.is_settled())?;
        self.closing = None;
        self.stopped = true;
        self.effects.push_back(Effect::Stop);
        Some(Effect::Reply { id, result: self.flushed() })
    }

    /// When to come back with `Tick` if nothing else happens.
    pub(crate) fn poll_timeout(&self) -> Option<Version> {
        let sweep = self.memory.sweep_due().and_then(|due| {
            if due <= self.horizon() { Some(self.now) } else { Some(due).filter(|due| *due > self.latest) }
        });
        let flush = if self.poisoned.is_none() { self.log.poll_timeout() } else { None };
        [sweep, flush, self.transactions.poll_timeout()].into_iter().flatten().min()
    }

    /// Whether more requests may be handed in; if not, wait for `Appended`.
    pub(crate) fn has_room(&self) -> bool {
        self.poisoned.is_some() || self.log.has_room()
    }

    /// The highest timestamp that any reply so far may depend on.
    pub(crate) const fn latest(&self) -> Version {
        self.latest
    }

    fn request(&mut self, id: RequestId, request: Request) {
        if self.closing.is_some() || self.stopped {
            let closed = Error::Unavailable("the database is closed".into());
            return self.effects.push_back(Effect::Reply { id, result: Err(closed) });
        }
        match request {
            Request::Execute { run, command, snapshot } => {
                let outcome = self.execute(run, command, snapshot);
                self.answer(id, outcome);
            }
            Request::Step { transaction, operation, run, command } => {
                let outcome = self.step(transaction, operation, run, command);
                self.answer(id, outcome);
            }
            Request::Commit { transaction, operations } => {
                let outcome = self.commit_open(transaction, operations);
                self.answer(id, outcome);
            }
            Request::Abort { transaction } => {
                self.transactions.end(transaction);
                self.answer(id, (Ok(unit()), Version::ZERO));
            }
            Request::Flush => {
                self.log.hurry();
                let result = self.flushed();
                self.hold_or_send(id, result, self.log.logged());
            }
            #[cfg(test)]
            Request::Panic => panic!("the shard was asked to panic"),
            Request::Close => {
                self.log.hurry();
                self.transactions.clear();
                self.closing = Some(id);
            }
        }
    }

    /// The snapshot of a reader that comes now: from here on, every commit is later.
    fn snapshot(&mut self) -> Version {
        self.latest = self.latest.max(self.now);
        match (&self.poisoned, self.config.mode, self.log.first_pending()) {
            (Some(_), DurabilityMode::Strict, Some(pending)) => self.latest.min(pending.previous()),
            _ => self.latest,
        }
    }

    /// The version of a commit made now.
    fn next_version(&self) -> Version {
        self.now.max(self.latest.next())
    }

    /// No reader is or will come below this version, and nothing at or below it can be lost.
    fn horizon(&self) -> Version {
        let readers = self.transactions.oldest_snapshot().unwrap_or(Version::MAX);
        let durable = match self.config.mode {
            DurabilityMode::Strict => self.log.first_pending().map_or(Version::MAX, Version::previous),
            DurabilityMode::InMemory | DurabilityMode::Buffered { .. } => Version::MAX,
        };
        self.latest.min(readers).min(durable)
    }

    fn execute(&mut self, run: RunId, command: Command, snapshot: Option<Version>) -> Outcome {
        if command.is_read() {
            let here = self.snapshot();
            let snapshot = snapshot.map_or(here, |asked| asked.min(here));
            if self.memory.is_collected(&run, snapshot) {
                return (Ok(Reply { output: Output::TooOld, version: None }), Version::ZERO);
            }
            let mut part = Part::immediate(snapshot);
            let mut access = Access::new(&self.memory, &mut part, snapshot);
            let result = primitive::execute(&mut access, run, command);
            // What the directory names is in other runs, which may keep less.
            if access.missed().is_some_and(|run| self.memory.is_collected(&run, snapshot)) {
                return (Ok(Reply { output: Output::TooOld, version: None }), Version::ZERO);
            }
            return (result.map(|output| Reply { output, version: None }), access.seen());
        }
        if let Err(refused) = self.check_writable() {
            return (Err(refused), Version::ZERO);
        }
        let version = self.next_version();
        let mut part = Part::immediate(version.previous());
        let mut access = Access::new(&self.memory, &mut part, version);
        let result = primitive::execute(&mut access, run, command);
        let seen = access.seen();
        match result {
            Ok(output) if !part.writes().is_empty() => self.commit(part, output, version),
            Ok(output) => (Ok(Reply { output, version: None }), seen),
            Err(error) => (Err(error), seen),
        }
    }

    fn step(&mut self, number: TransactionNumber, operation: u64, run: RunId, command: Command) -> Outcome {
        if operation == 0 && !self.transactions.is_open(number) {
            let snapshot = self.snapshot();
            self.transactions.begin(number, snapshot, self.now);
        }
        if !command.is_read()
            && let Err(refused) = self.check_writable()
        {
            return (Err(refused), Version::ZERO);
        }
        let now = self.now;
        let Some(open) = self.transactions.get(number, now) else {
            return (Err(Error::Timeout(IDLE)), Version::ZERO);
        };
        if open.part.operations != operation {
            open.broken = true;
            return (Err(lost_operation(run)), Version::ZERO);
        }
        if operation >= limits::TRANSACTION_OPERATIONS as u64 {
            let limit = limits::TRANSACTION_OPERATIONS;
            return (Err(Error::limit("transaction operations", limit, limit + 1)), Version::ZERO);
        }
        open.part.operations += 1;
        let savepoint = open.part.savepoint();
        let mut access = Access::new(&self.memory, &mut open.part, now);
        let result = primitive::execute(&mut access, run, command);
        // What it has written may follow from what it had read: a later answer depends on all that came before.
        open.seen = open.seen.max(access.seen());
        let seen = open.seen;
        open.broken |= result.is_err() && open.part.wrote_since(savepoint);
        (result.map(|output| Reply { output, version: None }), seen)
    }

    fn commit_open(&mut self, number: TransactionNumber, operations: u64) -> Outcome {
        let Some(open) = self.transactions.end(number) else {
            return if operations == 0 {
                (Ok(unit()), Version::ZERO)
            } else {
                (Err(Error::Timeout(IDLE)), Version::ZERO)
            };
        };
        if open.broken || open.part.operations != operations {
            return (Err(lost_operation(RunId::DIRECTORY)), Version::ZERO);
        }
        if open.part.writes().is_empty() {
            return (Ok(unit()), Version::ZERO);
        }
        if let Err(refused) = self.check_writable() {
            return (Err(refused), Version::ZERO);
        }
        let version = self.next_version();
        if let Err(conflict) = open.part.validate(&self.memory, version) {
            let winner = conflict.winner.unwrap_or_default();
            return (Err(Error::TransactionConflict(conflict)), winner);
        }
        self.commit(open.part, Output::Unit, version)
    }

    /// Logs and applies the writes of a part that nothing stands against.
    fn commit(&mut self, part: Part, output: Output, version: Version) -> Outcome {
        if self.config.mode != DurabilityMode::InMemory {
            let transaction =
                TransactionId { incarnation: self.config.incarnation, shard: self.config.shard, number: self.commits };
            if let Err(error) = self.log.stage(self.now, version, transaction, part.writes()) {
                return (Err(error), Version::ZERO);
            }
        }
        self.commits += 1;
        self.latest = version;
        let horizon = self.horizon();
        for write in part.into_writes() {
            index::apply(&mut self.memory, write, version, horizon);
        }
        self.memory.sweep(horizon, SWEEP_WITH_COMMIT);
        (Ok(Reply { output, version: Some(version) }), version)
    }

    /// Sends a reply, or holds it until what it depends on is durable.
    fn answer(&mut self, id: RequestId, (result, depends_on): Outcome) {
        let wrote = matches!(&result, Ok(reply) if reply.version.is_some());
        let until = match self.config.mode {
            DurabilityMode::Strict => self.log.commit_of(depends_on),
            DurabilityMode::Buffered { max_pending_writes, .. } if wrote => {
                CommitCount(self.log.logged().0.saturating_sub(max_pending_writes as u64))
            }
            DurabilityMode::InMemory | DurabilityMode::Buffered { .. } => CommitCount::default(),
        };
        self.hold_or_send(id, result, until);
    }

    fn hold_or_send(&mut self, id: RequestId, result: Result<Reply>, until: CommitCount) {
        if until <= self.log.durable() {
            self.effects.push_back(Effect::Reply { id, result });
        } else if let Some(reason) = &self.poisoned {
            // A transaction from before the failure saw what will never be known to be durable.
            let result = Err(Error::Unavailable(reason.clone()));
            self.effects.push_back(Effect::Reply { id, result });
        } else {
            self.gate.hold(until, id, result);
        }
    }

    fn release(&mut self) {
        while let Some((id, result)) = self.gate.release(self.log.durable()) {
            self.effects.push_back(Effect::Reply { id, result });
        }
    }

    fn tick(&mut self) {
        self.latest = self.latest.max(self.now);
        self.transactions.tick(self.now);
        self.memory.sweep(self.horizon(), SWEEP_WITH_TICK);
    }

    fn poison(&mut self, reason: &str) {
        let reason = format!("shard {} stopped writing, reopen the database: {reason}", self.config.shard);
        for (id, result) in self.gate.fail_all(&reason) {
            self.effects.push_back(Effect::Reply { id, result });
        }
        self.poisoned.get_or_insert(reason);
    }

    fn check_writable(&self) -> Result<()> {
        if self.config.read_only {
            return Err(Error::InvalidOperation("the database was opened read-only".into()));
        }
        self.poisoned.as_ref().map_or(Ok(()), |reason| Err(Error::Unavailable(reason.clone())))
    }

    fn flushed(&self) -> Result<Reply> {
        self.poisoned.as_ref().map_or_else(|| Ok(unit()), |reason| Err(Error::Unavailable(reason.clone())))
    }

    /// Whether nothing is left to write or to answer.
    fn is_settled(&self) -> bool {
        self.poisoned.is_some() && !self.log.is_writing() || self.gate.is_empty() && self.log.first_pending().is_none()
    }

    #[cfg(test)]
    pub(crate) const fn memory(&self) -> &Memory {
        &self.memory
    }

    #[cfg(test)]
    pub(crate) const fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }

    #[cfg(test)]
    pub(crate) fn open_transactions(&self) -> usize {
        self.transactions.count()
    }
}

const fn unit() -> Reply {
    Reply { output: Output::Unit, version: None }
}

fn lost_operation(run: RunId) -> Error {
    let key = "an operation of the transaction was lost or failed half-way".into();
    Error::TransactionConflict(Conflict { run, primitive: "transaction", key, winner: None })
}
