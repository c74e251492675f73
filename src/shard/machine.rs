//! The shard itself: inputs in, effects out.
//!
//! - `latest` is the highest timestamp this shard has issued, served or learned. Every commit gets a later one.
//! - A read at S raises `latest` to S, so that no commit comes below a snapshot that was served.
//! - Validation, logging and applying are one synchronous step; so are validation, logging and granting intents.
//! - What leaves goes through `depart`, which holds it until what it depends on is durable.
//! - A write is refused when the log has no room for it and can get none (`door`). It leaves no trace.
//! - After a failed write the shard is poisoned: it refuses writes, answers reads from what is durable (`Strict`), and
//!   never writes again.
//!
//! `door` lets writes in, `budget` limits memory, `execution` runs commands, `committing` commits and coordinates,
//! `participation` promises and decides, `upkeep` marks, sweeps and keeps time, `aftermath` goes on when the log has failed,
//! `inspection` says what a verification asks, `counting` counts all of it, `feeding` tells subscribers of changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::budget::Budget;
use super::committing::Coordination;
use super::counting::End;
use super::door::{Caller, Door};
use super::dumping::Dumping;
use super::effect::Effect;
use super::gate::{Departure, Gate, RecordCount, Until};
use super::horizons::Horizons;
use super::input::{Acknowledge, Input, Request, RequestId};
use super::log::Log;
use super::marks::Marks;
use super::subscriptions::Subscriptions;
use super::transactions::Transactions;
use super::waiting::{WaitList, Waiting};
use crate::base::error::{Error, Result};
use crate::base::metrics::ShardMetrics;
use crate::base::options::DurabilityMode;
use crate::base::planted::{Bug, planted};
use crate::base::version::Version;
use crate::commit::intents::Intents;
use crate::commit::message::{Envelope, Message, TransactionNumber};
use crate::primitive::output::{Output, Reply};
use crate::store::memory::Memory;

/// What a shard is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardConfig {
    /// Which opening of the database this is.
    pub(crate) incarnation: u32,
    /// The shard's number.
    pub(crate) shard: u32,
    /// How many shards there are.
    pub(crate) shards: u32,
    pub(crate) mode: DurabilityMode,
    /// Whether writes are refused.
    pub(crate) read_only: bool,
}

/// A shard.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(super) config: ShardConfig,
    pub(super) memory: Memory,
    pub(super) log: Log,
    pub(super) gate: Gate,
    pub(super) transactions: Transactions,
    pub(super) intents: Intents,
    pub(super) waiting: WaitList,
    pub(super) subscriptions: Subscriptions,
    pub(super) door: Door,
    pub(super) budget: Budget,
    /// Transactions over several shards that this one decides.
    pub(super) coordinations: BTreeMap<TransactionNumber, Coordination>,
    /// Failed ones, until an abort record is known to be durable.
    pub(super) failed: BTreeMap<TransactionNumber, std::sync::Arc<[u32]>>,
    pub(super) dumping: Option<Dumping>,
    /// Who waits for the log to go on in a new segment.
    pub(super) rotations: Vec<RequestId>,
    pub(super) marks: Marks,
    pub(super) horizons: Horizons,
    pub(super) effects: VecDeque<Effect>,
    pub(super) latest: Version,
    pub(super) now: Version,
    /// Versions of commits over several shards that are not below everything that is not durable here: see `aftermath`.
    pub(super) kept: BTreeSet<Version>,
    pub(super) commits: u64,
    pub(super) counted: ShardMetrics,
    poisoned: Option<String>,
    is_closing: bool,
    closing: Option<RequestId>,
    stopped: bool,
    /// Requests that were let in since somebody last looked.
    #[cfg(test)]
    pub(crate) let_in: Vec<LetIn>,
    /// Reads that were answered when the log had failed, and at which version.
    #[cfg(test)]
    pub(crate) read_in_aftermath: Vec<(RequestId, Version)>,
}

/// A request that has entered by the door, and the highest versions before and after it was handled.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct LetIn {
    pub(crate) id: RequestId,
    pub(crate) before: Version,
    pub(crate) after: Version,
}

/// A result and the version it depends on.
pub(super) type Outcome = (Result<Reply>, Version);

impl Shard {
    /// A shard with what recovery found; `start` is above every timestamp ever given out.
    pub(crate) fn new(config: ShardConfig, memory: Memory, start: Version) -> Self {
        Self {
            config,
            memory,
            log: Log::new(config.mode),
            gate: Gate::default(),
            transactions: Transactions::default(),
            intents: Intents::default(),
            waiting: WaitList::default(),
            subscriptions: Subscriptions::default(),
            door: Door::default(),
            budget: Budget::default(),
            coordinations: BTreeMap::new(),
            failed: BTreeMap::new(),
            dumping: None,
            rotations: Vec::new(),
            marks: Marks::new(config.mode, config.shard, config.shards, start),
            horizons: Horizons::new(config.shard, config.shards, start),
            effects: VecDeque::new(),
            latest: start,
            now: start,
            kept: BTreeSet::new(),
            commits: 0,
            counted: ShardMetrics::default(),
            poisoned: None,
            is_closing: false,
            closing: None,
            stopped: false,
            #[cfg(test)]
            let_in: Vec::new(),
            #[cfg(test)]
            read_in_aftermath: Vec::new(),
        }
    }

    /// Takes an input. What it leads to is then found with `poll_effect`.
    pub(crate) fn handle(&mut self, now: Version, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Request { id, request } => self.request(id, request),
            Input::Peer { from, envelope } => {
                self.horizons.report(from as usize, envelope.horizon);
                self.receive(from, envelope.message);
            }
            Input::SegmentReady { index, capacity, salt } => {
                self.log.segment_ready(index, capacity, salt);
                self.open_door();
            }
            Input::SegmentFailed { index, reason } => {
                let what = format!("segment {index} cannot be made: {reason}");
                self.log.segment_failed(reason);
                // Marks and abort records wait for room as long as the database is open.
                if self.is_closing && self.log.is_stuck() {
                    self.fail(&what);
                }
                self.open_door();
            }
            Input::AskAgain => self.log.ask_again(),
            Input::Appended { through, took } => {
                let written = self.log.appended(through);
                self.count_flush(written, took);
                self.forget_kept();
                if let Some(through) = self.marks.appended(self.log.durable()) {
                    self.tell_others(|| Message::Marked { through });
                }
                self.release();
                self.open_door();
            }
            Input::AppendFailed { reason } => {
                self.log.append_failed();
                self.fail(&reason);
            }
            Input::Tick => self.tick(),
        }
        self.tell_of_shortage();
        self.feed();
    }

    /// The next thing to do. Call until there is none, after every batch of inputs.
    pub(crate) fn poll_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        if self.poisoned.is_none() && !self.stopped {
            self.begin_round_if_due();
            if let Some(effect) = self.effects.pop_front().or_else(|| self.poll_log()) {
                return Some(effect);
            }
        }
        if !self.rotations.is_empty() && (self.poisoned.is_some() || !self.log.is_rotating()) {
            self.end_rotations();
            return self.poll_effect();
        }
        let id = self.closing.filter(|_| self.is_at_rest())?;
        self.closing = None;
        if self.stopped {
            self.effects.push_back(Effect::Stop);
        }
        Some(Effect::Reply { id, result: self.flushed() })
    }

    fn poll_log(&mut self) -> Option<Effect> {
        if self.config.read_only { None } else { self.log.poll() }
    }

    /// Whether more requests may be handed in; if not, wait for `Appended`.
    pub(crate) fn has_room(&self) -> bool {
        self.poisoned.is_some() || (self.log.has_room() && !self.door.is_crowded())
    }

    /// The highest timestamp that any reply so far may depend on.
    pub(crate) const fn latest(&self) -> Version {
        self.latest
    }

    fn request(&mut self, id: RequestId, request: Request) {
        let ends = matches!(request, Request::Flush | Request::Stop);
        if self.stopped || (self.is_closing && !ends) {
            return self.effects.push_back(Effect::Reply { id, result: Err(closed()) });
        }
        self.count_request(&request);
        match request {
            Request::Execute { run, command } => self.execute(id, run, command),
            Request::Begin { transaction, snapshot } => {
                let result = self.begin(transaction, snapshot);
                self.answer(id, (result, Version::ZERO));
            }
            Request::Step { transaction, operation, snapshot, run, command } => {
                self.step(id, transaction, (operation, snapshot), run, command);
            }
            Request::Commit { transaction, commit } => self.ask_commit(id, transaction, commit),
            Request::Abort { transaction, wrote } => {
                self.count_end(transaction, if wrote { End::Aborted } else { End::ReadOnly });
                self.forget(transaction);
                self.answer(id, (Ok(unit()), Version::ZERO));
            }
            Request::AskLogStart { rotates } => self.ask_log_start(id, rotates),
            Request::ChooseDump { above } => self.choose_dump(id, above),
            Request::BeginDump { at } => self.begin_dump(id, at),
            Request::Dump { at } => self.dump(id, at),
            Request::EndDump { at } => self.give_up_dump(id, at),
            Request::Subscribe { subscription, topic, start } => self.subscribe(id, subscription, topic, start),
            Request::Next { subscription } => self.next_changes(id, subscription),
            Request::Advance { subscription, through } => {
                self.advance(subscription, through);
                self.answer(id, (Ok(unit()), Version::ZERO));
            }
            Request::Unsubscribe { subscription } => {
                self.subscriptions.remove(subscription);
                self.answer(id, (Ok(unit()), Version::ZERO));
            }
            Request::AskDurable => self.say_durable(id),
            Request::ListEventLogs => self.list_event_logs(id),
            Request::AskMetrics => self.say_metrics(id),
            Request::Flush => self.flush(id),
            #[cfg(test)]
            Request::Panic => panic!("the shard was asked to panic"),
            Request::Close => {
                self.log.hurry();
                self.log.stop_rotating();
                self.transactions.clear();
                self.end_dump();
                self.end_subscriptions();
                self.is_closing = true;
                self.closing = Some(id);
            }
            Request::Stop => self.stop(id),
        }
    }

    fn flush(&mut self, id: RequestId) {
        let until = match self.config.mode {
            _ if self.config.read_only => None,
            DurabilityMode::InMemory => None,
            DurabilityMode::Strict => Some(Until::Logged(self.log.logged())),
            DurabilityMode::Buffered { .. } => Some(Until::Covered(self.marks.newest())),
        };
        let result = self.flushed();
        self.depart(until, Departure::Reply { id, result });
    }

    /// Begins nothing any more. The answer comes when the batch that is being written has ended.
    fn stop(&mut self, id: RequestId) {
        self.stopped = true;
        self.log.stop_rotating();
        self.end_subscriptions();
        let waiting = self.waiting.wake_all();
        let at_door = self.close_door();
        for id in waiting.iter().map(Waiting::id).chain(at_door).chain(self.closing.replace(id)) {
            self.effects.push_back(Effect::Reply { id, result: Err(closed()) });
        }
        self.fail_departures("the database is closed");
    }

    /// The snapshot of a read that comes now: from here on, every commit is later. When the log has failed, nothing at or
    /// below it is lost.
    pub(super) fn snapshot(&mut self) -> Version {
        self.latest = self.latest.max(self.now);
        let lost = self.log.first_pending().filter(|_| self.is_aftermath());
        lost.map_or(self.latest, |lost| self.latest.min(lost.previous()))
    }

    /// The version of a commit made now. No other shard gives it.
    pub(super) fn next_version(&self) -> Version {
        let earliest = self.now.max(self.latest.next());
        if planted(Bug::VersionsShared) {
            return earliest;
        }
        earliest.of_shard(self.config.shard, self.config.shards)
    }

    /// Sends a reply, or holds it until what it depends on is durable.
    pub(super) fn answer(&mut self, id: RequestId, outcome: Outcome) {
        self.answer_as(id, outcome, Acknowledge::AsUsual);
    }

    pub(super) fn answer_as(&mut self, id: RequestId, (result, depends_on): Outcome, acknowledge: Acknowledge) {
        let wrote = result.as_ref().ok().and_then(|reply| reply.version);
        let until = match (self.config.mode, wrote) {
            (DurabilityMode::Strict, Some(_)) if acknowledge == Acknowledge::Visible => None,
            (DurabilityMode::Strict, _) if planted(Bug::ReplyNotDurable) => None,
            (DurabilityMode::Strict, _) => Some(Until::Logged(self.log.commit_of(depends_on))),
            (DurabilityMode::Buffered { .. }, Some(version)) => {
                Some(Until::Covered(self.covered(version, acknowledge)))
            }
            (DurabilityMode::Buffered { .. }, None) | (DurabilityMode::InMemory, _) => None,
        };
        self.depart(until, Departure::Reply { id, result });
    }

    /// In `Strict` mode, what depends on so many records waits for them.
    pub(super) fn once_durable(&self, records: RecordCount) -> Option<Until> {
        (self.config.mode == DurabilityMode::Strict).then_some(Until::Logged(records))
    }

    /// How far the cut must be before a commit is acknowledged.
    pub(super) fn covered(&mut self, version: Version, acknowledge: Acknowledge) -> Version {
        let usual = self.marks.committed(version);
        if acknowledge == Acknowledge::Durable { version } else { usual }
    }

    /// Lets something leave when what it waits for is durable.
    pub(super) fn depart(&mut self, until: Option<Until>, departure: Departure) {
        let is_due = match until {
            None => true,
            Some(Until::Logged(count)) => count <= self.log.durable(),
            Some(Until::Covered(version)) => version <= self.marks.cut(),
        };
        match (until, &self.poisoned) {
            (Some(until), None) if !is_due => self.gate.hold(until, departure),
            // It depends on what will never be known to be durable.
            (Some(_), Some(reason)) if !is_due => {
                let departure = departure.failed(reason);
                self.leave(departure);
            }
            _ => self.leave(departure),
        }
    }

    fn leave(&mut self, departure: Departure) {
        match departure {
            Departure::Reply { id, result } => self.effects.push_back(Effect::Reply { id, result }),
            Departure::Vote { coordinator, transaction, vote } => {
                self.tell(coordinator, Message::Vote { transaction, vote });
            }
            Departure::Abandoned { transaction } => self.abandoned(transaction),
        }
    }

    /// Lets go of everything that waited for what has become durable.
    pub(super) fn release(&mut self) {
        while let Some(departure) = self.gate.release(self.log.durable(), self.marks.cut()) {
            self.leave(departure);
        }
    }

    /// Says something to a shard, which may be this one.
    pub(super) fn tell(&mut self, to: u32, message: Message) {
        if to == self.config.shard {
            return self.receive(to, message);
        }
        let envelope = Envelope { horizon: self.own_horizon(), message };
        self.effects.push_back(Effect::Send { to, envelope });
    }

    /// Says something to every other shard.
    pub(super) fn tell_others(&mut self, message: impl Fn() -> Message) {
        let own = self.config.shard;
        for to in (0..self.config.shards).filter(|to| *to != own) {
            self.tell(to, message());
        }
    }

    fn receive(&mut self, from: u32, message: Message) {
        match message {
            Message::Prepare { transaction, operations, participants } => {
                self.knock(Caller::Prepare { from, transaction, operations, participants });
            }
            Message::Vote { transaction, vote } => self.vote(from, transaction, vote),
            Message::Decide { transaction, timestamp, reads } => self.decide(transaction, timestamp, reads.as_ref()),
            Message::Abort { transaction, log } => self.abort(from, transaction, log),
            Message::AbortIsDurable { transaction } => self.abort_is_durable(transaction),
            Message::Release { transaction } => self.abandon(transaction),
            Message::Mark { through } => self.mark(through),
            Message::Marked { through } => {
                self.marks.marked(from as usize, through);
                self.release();
            }
            Message::AskHorizon => {
                self.latest = self.latest.max(self.now);
                self.tell(from, Message::Horizon);
            }
            Message::Horizon => {}
            Message::Poisoned { reason } => self.poison(&reason),
            Message::Short { reason } => self.others_short(from, reason),
        }
    }

    /// This shard's log can no longer be written.
    fn fail(&mut self, reason: &str) {
        let reason = format!("shard {} stopped writing, reopen the database: {reason}", self.config.shard);
        if matches!(self.config.mode, DurabilityMode::Buffered { .. }) {
            self.tell_others(|| Message::Poisoned { reason: reason.clone() });
        }
        self.poison(&reason);
    }

    fn poison(&mut self, reason: &str) {
        self.poisoned.get_or_insert_with(|| reason.to_owned());
        self.fail_departures(reason);
        let all = self.waiting.wake_all();
        self.run_again(all);
        self.subscriptions.wake_all();
        self.open_door();
    }

    /// What waits to leave waits for something that will never be known to be durable.
    fn fail_departures(&mut self, reason: &str) {
        for departure in self.gate.fail_all(reason) {
            match departure {
                Departure::Abandoned { transaction } => self.stick(transaction),
                departure => self.leave(departure),
            }
        }
    }

    pub(super) const fn is_closing(&self) -> bool {
        self.is_closing
    }

    pub(super) const fn poisoned(&self) -> Option<&String> {
        self.poisoned.as_ref()
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        if self.config.read_only {
            return Err(Error::InvalidOperation("the database was opened read-only".into()));
        }
        self.check_not_poisoned()
    }

    pub(super) fn check_not_poisoned(&self) -> Result<()> {
        self.poisoned.as_ref().map_or(Ok(()), |reason| Err(Error::Unavailable(reason.clone())))
    }

    fn flushed(&self) -> Result<Reply> {
        self.check_not_poisoned().map(|()| unit())
    }

    /// Whether nothing is left to decide, to write or to answer.
    fn is_at_rest(&self) -> bool {
        if self.stopped {
            return !self.log.is_writing();
        }
        let is_written = match (self.poisoned.is_some(), self.config.mode) {
            (true, _) => !self.log.is_writing(),
            // What `Buffered` has not marked, the flush that follows the close does.
            (false, DurabilityMode::Buffered { .. }) => self.gate.is_empty(),
            (false, _) => self.gate.is_empty() && self.log.first_pending().is_none(),
        };
        is_written
            && self.coordinations.is_empty()
            && !self.transactions.is_in_doubt()
            && self.waiting.is_empty()
            && self.door.is_empty()
    }

    #[cfg(test)]
    pub(crate) const fn memory(&self) -> &Memory {
        &self.memory
    }

    #[cfg(test)]
    pub(crate) const fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }

    /// Whether something staged waits for a segment that cannot be made.
    #[cfg(test)]
    pub(crate) fn is_stuck(&self) -> bool {
        self.log.is_stuck()
    }

    /// Whether a request has just been refused because the log has no room.
    #[cfg(test)]
    pub(crate) fn has_refused(&self, request: RequestId) -> bool {
        let is_refusal = |effect: &Effect| match effect {
            Effect::Reply { id, result } => *id == request && matches!(result, Err(Error::Io(_))),
            _ => false,
        };
        self.effects.iter().any(is_refusal)
    }

    #[cfg(test)]
    pub(crate) fn open_transactions(&self) -> usize {
        self.transactions.count()
    }

    #[cfg(test)]
    pub(crate) fn subscribers(&self) -> usize {
        self.subscriptions.count()
    }

    /// Queues of subscriptions take so many changes from now on.
    #[cfg(test)]
    pub(crate) const fn limit_queues(&mut self, most: usize) {
        self.subscriptions.limit(most);
    }

    /// How many intents are held.
    #[cfg(test)]
    pub(crate) fn held_intents(&self) -> usize {
        self.intents.count()
    }
}

pub(super) fn closed() -> Error {
    Error::Unavailable("the database is closed".into())
}

pub(super) const fn unit() -> Reply {
    Reply::read(Output::Unit)
}
