//! The driver of a shard: the twin of `runtime/glommio/worker.rs` in the simulated world.
//!
//! - It takes what has arrived, hands it to the shard, ticks if that is due, and carries the effects out.

use std::io;
use std::time::Duration;

use super::disk::Write;
use super::faults::How;
use super::mesh::{Message, Party};
use super::oracle::Moment;
use super::planted::Bug;
use super::recovery::DATABASE;
use super::world::{Event, World};
use crate::base::error::Result;
use crate::base::options::DurabilityMode;
use crate::base::planted;
use crate::base::version::Version;
use crate::commit::message::{Envelope, Message as Word, TransactionNumber};
use crate::disk::directory::Directory;
use crate::disk::opening;
use crate::disk::progress::Progress;
use crate::format::BLOCK;
use crate::format::record::Position;
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::primitive::output::Reply;
use crate::shard::effect::{Append, Effect};
use crate::shard::input::{Input, Request, RequestId};
use crate::shard::machine::LetIn;

/// How many inputs a shard takes before its effects are carried out.
const BATCH: usize = 16;

impl World {
    pub(super) fn wake(&mut self, shard: usize) {
        for _ in 0..BATCH {
            let node = &mut self.nodes[shard];
            let has_room = node.shard.has_room();
            let next = node.inbox.iter().position(|input| has_room || !matches!(input, Input::Request { .. }));
            let Some(input) = next.and_then(|next| node.inbox.remove(next)) else { break };
            self.feed(shard, input);
        }
        let due = self.nodes[shard].shard.poll_timeout();
        if due.is_some_and(|due| due <= self.clock.at(self.now)) && self.bug != Some(Bug::TicksForgotten) {
            self.feed(shard, Input::Tick);
        }
        let mut effects = Vec::new();
        while let Some(effect) = self.nodes[shard].shard.poll_effect() {
            self.nodes[shard].is_preparing |= matches!(effect, Effect::PrepareSegment { .. });
            effects.push(effect);
        }
        self.nodes[shard].is_asking = self.nodes[shard].is_preparing;
        for effect in effects {
            if self.disk.is_dead() {
                return;
            }
            assert!(!self.nodes[shard].is_stopped, "shard {shard} has stopped and wants something done: {effect:?}");
            self.carry_out(shard, effect);
        }
        let node = &self.nodes[shard];
        let owes = node.is_poisoned && !node.is_closing && self.oracle.unanswered_by(shard) > 0;
        assert!(!owes || self.bug == Some(Bug::ReplyLost), "shard {shard} can write no more, and lets somebody wait");
        self.sleep(shard);
    }

    fn sleep(&mut self, shard: usize) {
        let node = &self.nodes[shard];
        let is_takeable = |input: &Input| !matches!(input, Input::Request { .. });
        if !node.inbox.is_empty() && (node.shard.has_room() || node.inbox.iter().any(is_takeable)) {
            return self.wake_by(shard, self.now);
        }
        if self.bug == Some(Bug::TicksForgotten) {
            return;
        }
        // Time that stands still at the reservation goes on when that is extended.
        if let Some(at) = node.shard.poll_timeout().and_then(|due| self.clock.when(due)) {
            assert!(at > self.now || !self.nodes[shard].is_stopped, "a stopped shard wants to be woken");
            // A driver is never on time to the nanosecond.
            let late = self.rng.below(3) * self.rng.below(5_000);
            self.wake_by(shard, at.max(self.now + 1) + late);
        }
    }

    /// Hands an input to a shard, and to the oracle what the shard made of it.
    fn feed(&mut self, shard: usize, input: Input) {
        self.trace.note(self.now, format_args!("{shard} <- {input:?}"));
        let now = self.clock.at(self.now);
        let request = match &input {
            Input::Request { id, request } => Some((*id, request.clone())),
            _ => None,
        };
        let forgot = request.as_ref().is_some_and(|(_, request)| self.has_forgotten(shard, request));
        let input = if self.bug == Some(Bug::ReadsUntracked) { self.untrack(input) } else { input };
        let node = &mut self.nodes[shard];
        if let Input::Appended { .. } = &input {
            self.oracle.ledgers[shard].appended();
        }
        let must_poison = matches!(input, Input::AppendFailed { .. });
        let has_failed = matches!(input, Input::SegmentFailed { .. });
        match input {
            Input::SegmentFailed { .. } => (node.is_short, node.is_refusing, node.is_preparing) = (true, true, false),
            Input::SegmentReady { .. } => {
                (node.is_short, node.is_refusing, node.is_preparing) = (false, false, false);
                self.shortage_ended = self.now;
            }
            // Whether it asks is seen when its effects are carried out.
            Input::AskAgain => (node.is_refusing, node.is_asking) = (false, true),
            _ => {}
        }
        let before = node.shard.latest();
        let was_poisoned = node.is_poisoned;
        node.shard.handle(now, input);
        node.is_poisoned = node.shard.is_poisoned();
        assert!(node.is_poisoned || !(must_poison || was_poisoned), "a failed write poisons the shard for good");
        let after = node.shard.latest();
        assert!(after >= before, "the versions of a shard never fall");
        let is_strict = self.swarm.mode == DurabilityMode::Strict;
        // In `Buffered` a mark may wait for room, and a close does not wait with it.
        let gave_up = has_failed && is_strict && (node.shard.is_stuck() || node.is_poisoned && !was_poisoned);
        assert!(!gave_up, "shard {shard} has let something in that it has no room for");
        let is_closed = node.is_closing;
        let heard = if self.stood_still { Version::ZERO } else { self.oracle.heard };
        let may_be_refused = node.is_refusing;
        let moment = Moment {
            shard,
            now,
            at: self.now,
            before,
            after,
            heard,
            forgot,
            is_poisoned: was_poisoned,
            is_closed,
            is_refused: false,
        };
        let is_poisoned = node.is_poisoned;
        self.note_handled(moment, request, may_be_refused);
        self.had_shortage |= has_failed;
        if is_poisoned && !was_poisoned {
            // Nothing can be written any more: sooner or later somebody opens the database again.
            let patience = self.rng.below(self.swarm.think * 20);
            let event = if self.rng.chance(500) { Event::Close } else { Event::Crash };
            self.schedule(self.now + patience, event);
        }
    }

    /// Tells the oracle what was handled: this request, unless it waits at the door, and those that were let in.
    fn note_handled(&mut self, moment: Moment, request: Option<(RequestId, Request)>, may_be_refused: bool) {
        let request = request.filter(|(id, _)| !self.is_of_snapshot(*id) && !self.is_of_subscriber(*id));
        let may_be_refused = may_be_refused || self.is_short_elsewhere();
        let node = &mut self.nodes[moment.shard];
        let mut handled = Vec::new();
        let let_in = std::mem::take(&mut node.shard.let_in);
        if let Some((id, request)) = request {
            node.is_closing |= matches!(request, Request::Close);
            let enters = match &request {
                Request::Execute { command, .. } => !command.is_read(),
                Request::Commit { .. } => true,
                _ => false,
            };
            if enters && !moment.is_closed && !self.oracle.has_stopped(moment.shard) {
                node.waiting.insert(id, request);
            } else {
                handled.push((moment, id, request));
            }
        }
        for LetIn { id, before, after } in let_in {
            let request = node.waiting.remove(&id).expect("whoever enters has come");
            let is_refused = node.shard.has_refused(id);
            // Whoever waited when the shard was poisoned enters poisoned.
            let is_poisoned = node.is_poisoned;
            handled.push((Moment { before, after, is_refused, is_poisoned, is_closed: false, ..moment }, id, request));
        }
        for (moment, id, request) in handled {
            assert!(!moment.is_refused || may_be_refused, "{} refuses what it has room for: {request:?}", moment.shard);
            self.stats.shortages += u64::from(moment.is_refused);
            self.oracle.handled(moment, id, request);
        }
    }

    /// In `Buffered`, whether some shard has no room and is about to look for it, or had none a moment ago.
    fn is_short_elsewhere(&self) -> bool {
        let is_short = self.nodes.iter().any(|node| node.is_short && (node.is_refusing || node.is_asking));
        let is_news = self.now < self.shortage_ended + 3 * self.swarm.longest_link + 50_000;
        matches!(self.swarm.mode, DurabilityMode::Buffered { .. }) && (is_short || (self.had_shortage && is_news))
    }

    /// Whether the shard has forgotten some of what a step would read.
    fn has_forgotten(&self, shard: usize, request: &Request) -> bool {
        let Request::Step { transaction, run, command, .. } = request else { return false };
        let memory = self.nodes[shard].shard.memory();
        self.oracle
            .open
            .get(transaction)
            .is_some_and(|open| command.spaces().iter().any(|space| memory.is_collected(run, *space, open.snapshot)))
    }

    /// A planted bug: reads of a transaction that has written nothing yet bypass it.
    fn untrack(&mut self, input: Input) -> Input {
        let Input::Request { id, request } = input else { return input };
        let request = match request {
            Request::Step { transaction, operation, run, command, .. } => {
                let open = self.oracle.open.get(&transaction);
                let snapshot = open.map(|open| open.snapshot);
                let hidden = self.untracked.entry(transaction).or_insert(0);
                if command.is_read() && open.is_some_and(|open| open.sheet.is_clean()) {
                    *hidden += 1;
                    self.shadows -= 1;
                    let transaction = TransactionNumber(self.shadows);
                    Request::Step { transaction, operation: 0, snapshot, run, command }
                } else {
                    Request::Step { transaction, operation: operation - *hidden, snapshot, run, command }
                }
            }
            Request::Commit { transaction, mut commit } => {
                let hidden = self.untracked.get(&transaction).copied().unwrap_or(0);
                commit.participants.iter_mut().for_each(|(_, operations)| *operations -= hidden.min(*operations));
                commit.participants.retain(|(_, operations)| *operations > 0);
                Request::Commit { transaction, commit }
            }
            request => request,
        };
        Input::Request { id, request }
    }

    fn carry_out(&mut self, shard: usize, effect: Effect) {
        self.trace.effect(self.now, shard, &effect);
        match effect {
            Effect::Reply { id, result } if self.is_of_snapshot(id) => self.snapshot_answered(shard, id, result),
            Effect::Reply { id, result } if self.is_of_subscriber(id) => self.subscriber_answered(shard, id, result),
            Effect::Reply { id, result } => self.reply(shard, id, &result),
            Effect::Send { to, envelope } => self.send(shard, to, envelope),
            Effect::Append(append) => self.append(shard, append),
            Effect::PrepareSegment { index, capacity } => {
                let fails = self.rng.chance(self.swarm.prepare_fails);
                let takes = self.rng.below(self.swarm.longest_prepare);
                self.schedule(self.now + takes, Event::Prepared { shard, index, capacity, fails });
            }
            Effect::Stop => self.stopped(shard),
        }
    }

    /// From shard to shard, messages wait for nothing.
    fn send(&mut self, shard: usize, to: u32, envelope: Envelope) {
        let is_lost = match envelope.message {
            Word::Marked { .. } => self.bug == Some(Bug::MarksUnheard),
            Word::Poisoned { .. } => self.bug == Some(Bug::PoisonUnheard),
            Word::Horizon => self.bug == Some(Bug::HorizonsUnheard),
            _ => false,
        };
        if is_lost {
            return;
        }
        self.stats.messages += 1;
        let (from, to) = (u32::try_from(shard).unwrap(), Party::Shard(usize::try_from(to).unwrap()));
        let at = self.mesh.send(&mut self.rng, self.now, Party::Shard(shard), to, self.swarm.longest_link);
        self.schedule(at, Event::Arrive { to, message: Message::Peer { from, envelope } });
    }

    /// No reply leaves before the clock has reached what it depends on.
    fn reply(&mut self, shard: usize, id: RequestId, result: &Result<Reply>) {
        let node = &self.nodes[shard];
        if self.bug == Some(Bug::ReplyLost) && self.rng.chance(10) {
            return;
        }
        self.oracle.replied(shard, id, node.is_poisoned, result);
        let version = result.as_ref().ok().and_then(|reply| reply.version);
        let leaves = self.clock.when(node.shard.latest()).unwrap_or(self.now).max(self.now);
        let to = match self.clients.iter().position(|client| client.waits_for.contains(&id)) {
            Some(client) => Party::Client(client),
            None => Party::Keeper,
        };
        let at = self.mesh.send(&mut self.rng, leaves, Party::Shard(shard), to, self.swarm.longest_link);
        self.schedule(at, Event::Arrive { to, message: Message::Reply { id, version } });
    }

    fn append(&mut self, shard: usize, append: Append) {
        self.oracle.ledgers[shard].appending(&append.bytes);
        let incarnation = self.manifest.as_ref().expect("a shard that writes has a disk").incarnation;
        let segment = SegmentId { incarnation, shard: u32::try_from(shard).unwrap(), index: append.segment };
        let through = Position::new(append.segment, append.offset + append.bytes.len() as u64);
        let mut write = Write { segment, offset: append.offset, bytes: append.bytes };
        self.plant_in_place(&mut write);
        if write.segment.index > 0 && write.offset == BLOCK as u64 {
            self.stats.rotations += 1;
        }
        let progress = Progress::new(write.bytes.len());
        let started = self.disk.start(write);
        if self.disk.is_dead() {
            return;
        }
        let ticket = match started {
            Ok(ticket) => ticket,
            Err(error) => {
                self.stats.faults += 1;
                return self.tell(shard, Input::AppendFailed { reason: error.to_string() });
            }
        };
        self.progress.insert(ticket, progress);
        let fails = self.rng.chance(self.swarm.write_fails);
        let takes = self.write_takes();
        self.schedule(self.now + takes, Event::Written { shard, ticket, through, fails });
        if self.rng.chance(self.swarm.crash_in_write) {
            self.stats.crashes_in_writes += 1;
            let after = self.rng.below(takes + 2);
            self.schedule(self.now + after, Event::Crash);
        }
        if self.bug == Some(Bug::AcknowledgedEarly) {
            self.tell(shard, Input::Appended { through, took: Duration::ZERO });
        }
    }

    pub(super) fn tell(&mut self, shard: usize, input: Input) {
        self.nodes[shard].inbox.push_back(input);
        let service = self.rng.below(2) * self.rng.below(5_000);
        self.wake_by(shard, self.now + service);
    }

    /// Whether a planted bug wants segments that are made of old ones.
    fn recycles(&self) -> bool {
        matches!(self.bug, Some(Bug::SaltReused | Bug::Planted(planted::Bug::SaltIgnored)))
    }

    fn write_takes(&mut self) -> u64 {
        if self.rng.chance(self.swarm.stalls) {
            self.stalled = true;
            self.disk.hit(How::Stalls);
            return self.rng.within(500_000_000..3_000_000_000);
        }
        self.rng.below(self.swarm.longest_write)
    }

    /// Planted bugs: a write goes where it should not.
    fn plant_in_place(&mut self, write: &mut Write) {
        match self.bug {
            Some(Bug::WriteMisdirected) if self.rng.chance(50) => write.offset += BLOCK as u64,
            Some(Bug::TailRewritten) if self.rng.chance(50) => write.offset -= BLOCK as u64,
            Some(Bug::OldSegmentAppended) => {
                let id = SegmentId { incarnation: write.segment.incarnation - 1, ..write.segment };
                let end = self.disk.claimed(id);
                if end > 0 && end + write.bytes.len() <= self.disk.length(id) {
                    (write.segment, write.offset) = (id, end as u64);
                }
            }
            _ => {}
        }
    }

    pub(super) fn written(&mut self, shard: usize, ticket: u64, through: Position, fails: bool) {
        let lies = self.bug == Some(Bug::WriteForgotten) && self.rng.chance(50);
        let ended = match (fails, lies) {
            (true, _) => {
                self.disk.fail(ticket, None);
                Err(io::Error::other("simulated EIO"))
            }
            (false, true) => {
                self.disk.fail(ticket, Some(0));
                Ok(None)
            }
            (false, false) if self.bug == Some(Bug::WriteInCache) => {
                self.disk.complete_in_cache(ticket);
                Ok(None)
            }
            (false, false) => {
                let is_short = self.rng.chance(self.swarm.short_writes);
                self.disk.complete(ticket, is_short).and_then(|count| self.took(ticket, count))
            }
        };
        if self.disk.is_dead() {
            return;
        }
        match (ended, self.bug) {
            (Ok(Some(rest)), _) => {
                self.disk.go_on(ticket, rest);
                let takes = self.write_takes();
                return self.schedule(self.now + takes, Event::Written { shard, ticket, through, fails: false });
            }
            (_, Some(Bug::AcknowledgedEarly)) => {}
            (Ok(None), _) | (Err(_), Some(Bug::FailedWriteRetried)) => {
                self.tell(shard, Input::Appended { through, took: Duration::ZERO });
            }
            (Err(error), _) => {
                self.stats.faults += 1;
                self.tell(shard, Input::AppendFailed { reason: error.to_string() });
            }
        }
        self.disk.fail(ticket, Some(0));
    }

    /// The device took so many bytes. Returns where the rest begins, if there is one.
    fn took(&mut self, ticket: u64, count: usize) -> io::Result<Option<usize>> {
        let progress = self.progress.get_mut(&ticket).expect("the write is under way");
        progress.took(count)?;
        Ok(progress.next())
    }

    pub(super) fn prepared(&mut self, shard: usize, index: u32, capacity: u64, fails: bool) {
        let manifest = self.manifest.as_ref().expect("a shard that writes has a disk");
        let id = SegmentId { incarnation: manifest.incarnation, shard: u32::try_from(shard).unwrap(), index };
        let strict = self.swarm.mode == DurabilityMode::Strict;
        let mut header = SegmentHeader { id, database: DATABASE, salt: self.rng.next(), capacity, strict };
        let is_old = |old: &SegmentId| (old.shard, old.index) == (id.shard, index) && *old != id;
        let old = self.disk.segments().into_iter().find(is_old).filter(|_| self.recycles());
        if let Some(old) = old.filter(|_| self.bug == Some(Bug::SaltReused)) {
            header.salt = manifest.sealed.iter().find(|segment| segment.id == old).unwrap().salt;
        }
        let fails = fails && !self.disk.is_armed();
        if fails {
            self.arm_refusal(11);
        }
        let manifest = self.manifest.as_mut().expect("a shard that writes has a disk");
        let made = opening::add_segment(&Directory::new(&self.disk), manifest, &header);
        if self.disk.is_dead() {
            return;
        }
        if let Err(error) = &made {
            assert!(self.disk.was_reached(), "a segment cannot be made for a reason: {error}");
        }
        if fails {
            self.disk.disarm();
        }
        if let Err(error) = made {
            self.stats.faults += 1;
            // Who waits for a mark waits for room, and at last somebody makes some.
            if self.disk.fails_for_ever() && self.rng.chance(20) {
                self.disk.disarm();
            }
            let after = self.rng.below(2 * self.swarm.longest_prepare + 1_000);
            self.schedule(self.now + after, Event::AskAgain { shard });
            return self.tell(shard, Input::SegmentFailed { index, reason: error.into() });
        }
        if let Some(old) = old {
            self.disk.recycle(id, old);
        }
        self.stats.segments += 1;
        self.tell(shard, Input::SegmentReady { index, capacity, salt: header.salt });
    }
}
