//! Clients: each runs one transaction after the other, as `runtime/call.rs` and `api/transacting.rs` do.
//!
//! - The shard of the first operation coordinates and chooses the snapshot; operations on other shards wait for it.
//! - A transaction that sent no command that writes is not committed: it is forgotten everywhere.
//! - Some do not wait for a reply, some never end, some try again after a conflict, with a new number.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::mesh::Party;
use super::action::{Action, Sent};
use super::cell::{Cell, Content, Kind, LASTING_RUNS, STAMPS};
use super::document;
use super::history::{Fate, Record};
use super::lifecycle::is_read;
use super::program::{Next, PURPOSES, Program, Purpose, some_cells};
use super::view::View;
use super::world::{Asked, Event, What, World};
use crate::base::error::{Error, Result};
use crate::base::options::DurabilityMode;
use crate::base::planted::{Bug, planted};
use crate::base::version::Version;
use crate::commit::message::TransactionNumber;
use crate::primitive::output::{Output, Reply};
use crate::shard::input::{Acknowledge, Commit, Input, Request, RequestId};

/// How often a transaction tries again.
const RETRIES: u32 = 3;

/// Somebody who runs transactions.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) running: Option<Running>,
}

/// What was read at a version, to be read again.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) snapshot: Version,
    pub(super) reads: BTreeMap<Cell, Option<Content>>,
}

/// A transaction that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: u64,
    number: u64,
    program: Program,
    replay: Option<Reading>,
    retries: u32,
    coordinator: Option<usize>,
    snapshot: Option<Version>,
    /// Operations on each shard, and whether any of them writes.
    parts: BTreeMap<usize, (u64, bool)>,
    queue: VecDeque<Action>,
    doing: Vec<(Action, Vec<Option<Output>>)>,
    /// Commands that wait for the snapshot.
    postponed: Vec<(usize, usize, Sent)>,
    waiting: BTreeSet<RequestId>,
    error: Option<Error>,
    /// Whether it has slept so long that its shards may have forgotten it.
    has_slept: bool,
}

impl World {
    /// A client begins something.
    pub(super) fn think(&mut self, client: usize) {
        if self.clients[client].running.is_some() || self.budget == 0 || self.closing.is_under_way() {
            return;
        }
        if self.plan.is_some() {
            return self.follow(client);
        }
        self.budget -= 1;
        if self.rng.chance(self.swarm.flushes) {
            self.flush(client);
            return self.think_later(client);
        }
        if self.rng.chance(self.swarm.singles) {
            return self.single(client);
        }
        let replay = self.rng.chance(self.swarm.replays) && !self.readings.is_empty();
        let replay = replay.then(|| self.rng.pick(&self.readings).clone());
        let purpose = self.purpose();
        self.begin(client, purpose, replay, 0, None);
    }

    fn purpose(&mut self) -> Purpose {
        let is_first = self.history.initial.is_empty() && self.history.records.len() < 3;
        let all: u64 = self.swarm.purposes.iter().sum();
        if is_first || all == 0 { Purpose::Setup } else { PURPOSES[self.rng.weighted(&self.swarm.purposes)] }
    }

    pub(super) fn think_later(&mut self, client: usize) {
        let after = self.rng.below(self.swarm.longest_think);
        self.schedule(self.now + after, Event::Think(client));
    }

    pub(super) fn begin(
        &mut self,
        client: usize,
        purpose: Purpose,
        replay: Option<Reading>,
        retries: u32,
        reused: Option<u64>,
    ) {
        self.ids += 1;
        self.numbers += 1;
        self.stats.transactions += 1;
        let id = self.ids;
        let mut program = Program::new(purpose, id, &self.swarm, &mut self.rng);
        if let Some(plan) = &self.plan {
            plan.fix(client, &mut program);
        }
        if let Some(reading) = &replay {
            self.stats.replays += 1;
            program = Program::looking(id, reading.reads.keys().cloned().collect(), &self.swarm, &mut self.rng);
        }
        self.history.records.insert(id, Record::new(client, false, self.now));
        let number = reused.unwrap_or(self.numbers);
        self.note(format_args!("client {client} begins T{id} number {number} {purpose:?} {program:?}"));
        self.clients[client].running = Some(Running {
            id,
            number,
            program,
            replay,
            retries,
            coordinator: None,
            snapshot: None,
            parts: BTreeMap::new(),
            queue: VecDeque::new(),
            doing: Vec::new(),
            postponed: Vec::new(),
            waiting: BTreeSet::new(),
            error: None,
            has_slept: false,
        });
        self.pump(client);
    }

    /// Goes on as far as it can without an answer.
    pub(super) fn pump(&mut self, client: usize) {
        loop {
            self.absorb(client);
            let Some(running) = &mut self.clients[client].running else { return };
            if !running.waiting.is_empty() {
                return;
            }
            if running.error.is_some() {
                return self.give_up(client);
            }
            if !running.queue.is_empty() {
                self.act(client);
                continue;
            }
            if !running.has_slept && self.rng.chance(self.swarm.idles / 2) {
                running.has_slept = true;
                let wakes = self.now + self.rng.within(55_000_000_000..75_000_000_000);
                return self.schedule(wakes, Event::Resume(client));
            }
            let record = self.history.records.get(&running.id).expect("it is recorded");
            match running.program.next(&record.view, &mut self.rng) {
                Next::Do(actions) => running.queue.extend(actions),
                Next::Commit => return self.commit(client),
                Next::Abort => {
                    self.abort(client);
                    return self.think_later(client);
                }
            }
        }
    }

    /// Sends the commands of the next action, or of all of them.
    fn act(&mut self, client: usize) {
        let layout = self.layout;
        let Some(running) = &mut self.clients[client].running else { return };
        running.doing.clear();
        let count = if running.program.is_eager { running.queue.len() } else { 1 };
        let actions: Vec<Action> = running.queue.drain(..count).collect();
        let mut all = Vec::new();
        for (at, action) in actions.into_iter().enumerate() {
            let commands = action.commands(layout);
            let may_drop = action.is_blind() && running.snapshot.is_some();
            let is_dropped = may_drop && self.rng.chance(self.swarm.drops);
            running.doing.push((action, vec![None; commands.len()]));
            all.extend(commands.into_iter().enumerate().map(|(part, sent)| (at, part, sent, is_dropped)));
        }
        for (at, part, sent, is_dropped) in all {
            self.operate(client, at, part, sent, is_dropped);
        }
    }

    /// Sends a command, or asks for the snapshot first.
    fn operate(&mut self, client: usize, at: usize, part: usize, sent: Sent, is_dropped: bool) {
        let Some(running) = &mut self.clients[client].running else { return };
        if running.coordinator.is_none() {
            let snapshot = running.replay.as_ref().map(|reading| reading.snapshot);
            let begins = snapshot.is_some() || self.rng.chance(self.swarm.begins);
            // Whoever begins first may then never operate there.
            let anywhere = begins && self.rng.chance(500);
            let coordinator = if anywhere { self.rng.index(self.nodes.len()) } else { sent.0 };
            running.coordinator = Some(coordinator);
            if begins {
                let transaction = TransactionNumber(running.number);
                let id = self.ask(client, coordinator, What::Begin, Request::Begin { transaction, snapshot });
                self.wait_for(client, id);
            }
        }
        let Some(running) = &mut self.clients[client].running else { return };
        let (shard, run, command) = sent;
        let has_begun = running.waiting.is_empty() || running.replay.is_none();
        if running.snapshot.is_none() && (running.coordinator != Some(shard) || !has_begun) {
            return running.postponed.push((at, part, (shard, run, command)));
        }
        let entry = running.parts.entry(shard).or_insert((0, false));
        let operation = entry.0;
        entry.0 += 1;
        entry.1 |= !command.is_read();
        let (transaction, snapshot) = (TransactionNumber(running.number), running.snapshot);
        let id = self.ask(
            client,
            shard,
            What::Step(at, part),
            Request::Step { transaction, operation, snapshot, run, command },
        );
        if !is_dropped {
            return self.wait_for(client, id);
        }
        let Some(running) = &mut self.clients[client].running else { return };
        running.doing[at].1[part] = Some(Output::Unit);
    }

    fn wait_for(&mut self, client: usize, id: RequestId) {
        if let Some(running) = &mut self.clients[client].running {
            running.waiting.insert(id);
        }
    }

    /// Sends a request.
    pub(super) fn ask(&mut self, client: usize, shard: usize, what: What, request: Request) -> RequestId {
        self.asked += 1;
        let id = self.asked;
        let transaction = self.clients[client].running.as_ref().map_or(self.ids, |running| running.id);
        let asked = Asked {
            client: Some(client),
            id: transaction,
            what,
            snapshot: None,
            shard,
            acknowledged: self.acknowledged.get(&shard).copied().unwrap_or_default(),
            in_aftermath: false,
            is_handled: false,
            is_replied: false,
        };
        self.requests.insert(id, asked);
        let event = Event::Arrive(shard, Input::Request { id, request });
        self.send(self.now, Party::Client(client), Party::Shard(shard), event);
        id
    }

    /// An answer arrives.
    pub(super) fn answered(&mut self, id: RequestId, result: Result<Reply>) {
        let asked = self.requests.remove(&id).expect("somebody waits, once");
        if asked.what == What::Snapshot {
            return self.snapshot_answered(result);
        }
        if asked.what == What::Keep {
            return self.kept(&result);
        }
        if let Some(version) = result.as_ref().ok().and_then(|reply| reply.version) {
            let highest = self.acknowledged.entry(asked.shard).or_default();
            *highest = version.max(*highest);
        }
        if asked.what == What::Flush {
            self.flushed(&asked, result.is_ok());
        }
        let Some(client) = asked.client else { return };
        if asked.what == What::Single {
            return self.single_ended(client, &asked);
        }
        let Some(running) = &mut self.clients[client].running else { return };
        if running.id != asked.id || !running.waiting.remove(&id) {
            return;
        }
        match asked.what {
            What::Begin | What::Step(..) => self.stepped(client, asked.what, result),
            What::Commit { is_durable, .. } => return self.committed(client, is_durable, result),
            What::Abort | What::Single | What::Flush | What::Keep | What::Snapshot => {}
        }
        self.pump(client);
    }

    fn stepped(&mut self, client: usize, what: What, result: Result<Reply>) {
        let Some(running) = &mut self.clients[client].running else { return };
        let record = self.history.records.get_mut(&running.id).expect("it is recorded");
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => {
                running.error.get_or_insert(error);
                return;
            }
        };
        let snapshot = reply.snapshot.expect("an operation says what its snapshot is");
        let known = *running.snapshot.get_or_insert(snapshot);
        assert_eq!(known, snapshot, "a transaction has one snapshot");
        record.snapshot = Some(snapshot.get());
        if let What::Step(at, part) = what {
            running.doing[at].1[part] = Some(reply.output);
        }
        for (at, part, sent) in std::mem::take(&mut running.postponed) {
            self.operate(client, at, part, sent, false);
        }
    }

    /// Everything that was asked is answered.
    fn absorb(&mut self, client: usize) {
        let Some(running) = &mut self.clients[client].running else { return };
        if running.waiting.is_empty() && running.postponed.is_empty() && running.error.is_none() {
            let record = self.history.records.get_mut(&running.id).expect("it is recorded");
            for (action, outputs) in std::mem::take(&mut running.doing) {
                let outputs: Vec<Output> = outputs.into_iter().flatten().collect();
                record.view.absorb(&action, &outputs);
            }
        }
    }

    fn commit(&mut self, client: usize) {
        let idles = self.rng.chance(self.swarm.idles);
        let Some(running) = &mut self.clients[client].running else { return };
        if idles {
            self.note(format_args!("client {client} forgets its transaction"));
            self.clients[client].running = None;
            return self.think_later(client);
        }
        let has_writes = running.parts.values().any(|(_, writes)| *writes);
        if !has_writes {
            return self.looked(client);
        }
        let number = |shard: usize| u32::try_from(shard).unwrap();
        let participants: Vec<(u32, u64)> =
            running.parts.iter().map(|(shard, (operations, _))| (number(*shard), *operations)).collect();
        let is_durable = self.rng.chance(self.swarm.durables);
        let acknowledge = match self.swarm.mode {
            DurabilityMode::InMemory => Acknowledge::AsUsual,
            _ if is_durable => Acknowledge::Durable,
            _ if self.rng.chance(self.swarm.durables) => Acknowledge::Visible,
            _ => Acknowledge::AsUsual,
        };
        let (transaction, coordinator) = (TransactionNumber(running.number), running.coordinator.unwrap_or(0));
        let record = self.history.records.get_mut(&running.id).expect("it is recorded");
        record.fate = Fate::Unknown;
        record.is_across = participants.len() > 1;
        record.shard = coordinator;
        let commit = Commit { participants: participants.into(), acknowledge };
        let is_durable = acknowledge == Acknowledge::Durable;
        let is_early = acknowledge == Acknowledge::Visible && self.swarm.mode == DurabilityMode::Strict;
        let what = What::Commit { is_durable, is_early };
        let id = self.ask(client, coordinator, what, Request::Commit { transaction, commit });
        if self.rng.chance(self.swarm.drops) {
            self.note(format_args!("client {client} does not wait for #{id}"));
            self.clients[client].running = None;
            return self.think_later(client);
        }
        self.wait_for(client, id);
    }

    /// A transaction that only read has ended: it is committed.
    fn looked(&mut self, client: usize) {
        let Some(running) = &self.clients[client].running else { return };
        let (id, now) = (running.id, self.now);
        let record = self.history.records.get_mut(&id).expect("it is recorded");
        running.program.check(&record.view);
        if let Some(reading) = &running.replay {
            for (cell, before) in &reading.reads {
                assert_eq!(
                    record.view.reads.get(cell),
                    Some(before),
                    "what was there at {} is there for ever: {cell:?}",
                    reading.snapshot
                );
            }
            record.fate = Fate::Failed;
        } else if let Some(snapshot) = record.snapshot {
            record.fate = Fate::ReadOnly;
            record.completed = now;
            self.stats.read_only += 1;
            let is_kept = |cell: &Cell| matches!(cell.kind, Kind::Kv | Kind::Place) && cell.run < LASTING_RUNS;
            let reads: BTreeMap<_, _> = record
                .view
                .reads
                .iter()
                .filter(|(cell, _)| is_kept(cell))
                .map(|(cell, content)| (cell.clone(), content.clone()))
                .collect();
            if !reads.is_empty() && self.readings.len() < 50 {
                self.readings.push(Reading { snapshot: snapshot.into(), reads });
            }
        }
        self.forget_parts(client);
        self.think_later(client);
    }

    /// The reply to a commit, or to a command of its own, leaves the shard: it has happened.
    pub(super) fn happened(&mut self, id: RequestId, result: &Result<Reply>) {
        let asked = &self.requests[&id];
        let record = self.history.records.get_mut(&asked.id).expect("it is recorded");
        // A command that could have written and did not is no read at a version that anybody knows.
        let is_plain_read =
            record.action.as_ref().is_none_or(is_read) && (!record.is_single || asked.snapshot.is_some());
        record.fate = match result {
            Ok(reply) => match reply.version {
                // It may be lost, and then nobody has seen it.
                Some(_) if matches!(asked.what, What::Commit { is_early: true, .. }) => Fate::Unknown,
                Some(version) => {
                    self.stats.committed += 1;
                    self.stats.across += u64::from(record.is_across);
                    Fate::Committed(version.get())
                }
                None if !is_plain_read => Fate::Failed,
                None => Fate::ReadOnly,
            },
            Err(Error::CommitUnknown(_)) => Fate::Unknown,
            Err(_) => Fate::Failed,
        };
        if record.is_single && record.fate == Fate::ReadOnly {
            record.snapshot = asked.snapshot.map(Version::get);
            record.in_aftermath = asked.in_aftermath;
        }
        if asked.what == What::Single
            && let Ok(reply) = result
        {
            let action = record.action.clone().expect("a single command is one action");
            record.view = View::default();
            record.view.absorb(&action, std::slice::from_ref(&reply.output));
        }
        self.stats.unknown += u64::from(record.fate == Fate::Unknown);
    }

    fn committed(&mut self, client: usize, is_durable: bool, result: Result<Reply>) {
        let Some(running) = self.clients[client].running.take() else { return };
        let record = self.history.records.get_mut(&running.id).expect("it is recorded");
        record.completed = self.now;
        match result {
            Ok(reply) => {
                if let Some(version) = reply.version.filter(|_| is_durable) {
                    self.safe = self.safe.max(version);
                }
                self.think_later(client);
            }
            Err(Error::TransactionConflict(_)) => {
                self.stats.conflicts += 1;
                if running.retries < RETRIES && self.budget > 0 {
                    let reused = planted(Bug::NumberReused).then_some(running.number);
                    let purpose = running.program.purpose;
                    return self.begin(client, purpose, None, running.retries + 1, reused);
                }
                self.think_later(client);
            }
            Err(_) => self.think_later(client),
        }
    }

    /// An operation failed: the transaction is aborted.
    fn give_up(&mut self, client: usize) {
        let Some(running) = &self.clients[client].running else { return };
        let error = running.error.as_ref().expect("something failed");
        let is_expected = match error {
            Error::InvalidOperation(what) if what.contains("deleted") => true,
            Error::InvalidOperation(what) if what.contains("no longer kept") => {
                self.stats.too_old += 1;
                // Some of the run may be kept for ever, and some of it not.
                running.replay.is_some() || running.has_slept
            }
            Error::KeyNotFound(_) => running.program.purpose == Purpose::DeleteRun,
            Error::VersionMismatch { expected, .. } => *expected == 0,
            _ if running.has_slept => true,
            _ => self.has_failed || self.closing.is_under_way(),
        };
        assert!(is_expected, "T{} failed: {error}", running.id);
        self.abort(client);
        self.think_later(client);
    }

    fn abort(&mut self, client: usize) {
        if let Some(running) = &self.clients[client].running {
            let record = self.history.records.get_mut(&running.id).expect("it is recorded");
            record.fate = Fate::Failed;
        }
        self.forget_parts(client);
    }

    /// Tells every shard that the transaction has ended; nobody waits for the answers.
    fn forget_parts(&mut self, client: usize) {
        let Some(running) = &self.clients[client].running else { return };
        let transaction = TransactionNumber(running.number);
        let mut shards: BTreeSet<usize> = running.parts.keys().copied().collect();
        shards.extend(running.coordinator);
        for shard in shards {
            self.ask(client, shard, What::Abort, Request::Abort { transaction, wrote: true });
        }
        self.clients[client].running = None;
    }

    pub(super) fn flush(&mut self, client: usize) {
        let mut asked = Vec::new();
        for shard in 0..self.nodes.len() {
            if self.plan.is_some() || self.rng.chance(700) {
                asked.push(self.ask(client, shard, What::Flush, Request::Flush));
            }
        }
        if asked.len() < self.nodes.len() {
            self.promise_nothing(|id, _| asked.contains(id));
        }
    }

    /// A shard has flushed what it has acknowledged itself: only all of them make everything safe.
    fn flushed(&mut self, asked: &Asked, is_ok: bool) {
        let is_of_same = |other: &Asked| other.what == What::Flush && other.client == asked.client;
        if !is_ok {
            self.promise_nothing(|_, other| is_of_same(other));
        } else if !self.requests.values().any(is_of_same) {
            self.safe = self.safe.max(asked.acknowledged);
        }
    }

    fn promise_nothing(&mut self, which: impl Fn(&RequestId, &Asked) -> bool) {
        for (_, asked) in self.requests.iter_mut().filter(|(id, asked)| which(id, asked)) {
            asked.acknowledged = Version::ZERO;
        }
    }

    /// Begins a command of its own.
    pub(super) fn single(&mut self, client: usize) {
        self.ids += 1;
        self.stats.singles += 1;
        let id = self.ids;
        let Some(action) = self.single_action(client, id) else { return self.think_later(client) };
        let mut commands = action.commands(self.layout);
        let (Some((shard, run, command)), true) = (commands.pop(), commands.is_empty()) else {
            return self.think_later(client);
        };
        let mut record = Record::new(client, true, self.now);
        record.snapshot = Some(self.clock.at(self.now));
        record.fate = Fate::Unknown;
        record.shard = shard;
        if command.is_read() {
            record.fate = Fate::Running;
        } else {
            record.view.promise(&action);
        }
        record.action = Some(action);
        self.history.records.insert(id, record);
        self.ask(client, shard, What::Single, Request::Execute { run, command });
    }

    fn single_action(&mut self, client: usize, id: u64) -> Option<Action> {
        if let Some(plan) = &self.plan {
            return plan.action(client, id);
        }
        let stamp = i64::try_from(id).unwrap() * STAMPS + i64::from(self.rng.chance(500));
        if self.rng.chance(self.swarm.documents) {
            return Some(document::single(&self.swarm, &mut self.rng, stamp));
        }
        let cell = some_cells(&self.swarm, &mut self.rng, 1).pop()?;
        let is_read = self.rng.chance(400);
        Some(match cell.kind {
            Kind::Trace => return None,
            Kind::Place => unreachable!("cells of documents are drawn with their document"),
            _ if is_read && self.rng.chance(200) => Action::Scan { run: cell.run, prefix: "r".into() },
            _ if is_read => Action::Read(cell),
            Kind::Log => Action::Append(cell.run, stamp),
            // A list is read before it is written.
            Kind::Kv if cell.is_list() => Action::Read(cell),
            Kind::Kv if self.rng.chance(self.swarm.deletes) && cell.name.starts_with('r') => Action::Delete(cell),
            Kind::Kv | Kind::State => {
                let ttl = cell.name.starts_with('t').then_some(self.swarm.longest_ttl);
                Action::Put(cell, vec![stamp], ttl)
            }
        })
    }

    fn single_ended(&mut self, client: usize, asked: &Asked) {
        let record = self.history.records.get_mut(&asked.id).expect("it is recorded");
        record.completed = self.now;
        self.think_later(client);
    }
}
