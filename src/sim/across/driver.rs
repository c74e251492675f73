//! The drivers of the shards: inputs in, effects out.
//!
//! - No reply leaves before the clock has reached what it depends on.
//! - Inputs are taken in small batches, with a reading of the clock for each.

use std::io;
use std::time::Duration;

use super::super::disk::Write;
use super::super::faults::{ERRORS, Fault, When};
use super::super::mesh::Party;
use super::super::recovery::DATABASE;
use super::exhaustive::Plan;
use super::listeners::FIRST;
use super::world::{Event, What, World};
use crate::base::error::Result;
use crate::base::options::DurabilityMode;
use crate::base::version::Version;
use crate::disk::directory::Directory;
use crate::disk::opening;
use crate::format::record::Position;
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::primitive::output::Reply;
use crate::shard::effect::{Append, Effect};
use crate::shard::input::{Input, Request, RequestId};

impl World {
    pub(super) fn arrive(&mut self, shard: usize, input: Input) {
        if self.nodes[shard].is_stopped {
            return self.turned_away(&input);
        }
        self.nodes[shard].inbox.push_back(input);
        self.wake_shard(shard);
    }

    fn wake_shard(&mut self, shard: usize) {
        if !std::mem::replace(&mut self.nodes[shard].is_scheduled, true) {
            let after = self.rng.below(2) * self.rng.below(self.swarm.longest_service);
            self.schedule(self.now + after, Event::Run(shard));
        }
    }

    /// Nobody is there any more.
    fn turned_away(&mut self, input: &Input) {
        if let Input::Request { id, .. } = *input {
            let gone = crate::base::error::Error::Unavailable("the database is closed".into());
            self.schedule(self.now, Event::Answer(id, Err(gone)));
        }
    }

    pub(super) fn run_shard(&mut self, shard: usize) {
        self.nodes[shard].is_scheduled = false;
        let most = 1 + self.rng.index(8);
        for _ in 0..most {
            if self.disk.is_dead() {
                return;
            }
            let Some(input) = self.nodes[shard].inbox.pop_front() else { break };
            self.give(shard, input);
            if self.rng.chance(300) {
                self.carry_out_all(shard);
            }
        }
        self.carry_out_all(shard);
        if !self.nodes[shard].inbox.is_empty() && !self.nodes[shard].is_stopped {
            self.wake_shard(shard);
        }
    }

    fn give(&mut self, shard: usize, input: Input) {
        if self.nodes[shard].is_stopped {
            return self.turned_away(&input);
        }
        let now = self.clock.at(self.now);
        self.note(format_args!("{shard} <- {now} {input:?}"));
        let asked = match &input {
            Input::Request { id, .. } => Some(*id),
            _ => None,
        };
        let is_single = matches!(&input, Input::Request { request: Request::Execute { .. }, .. });
        let node = &mut self.nodes[shard];
        let was_poisoned = node.shard.is_poisoned();
        node.shard.handle(now.into(), input);
        let (latest, is_poisoned) = (node.shard.latest(), node.shard.is_poisoned());
        if is_poisoned && !was_poisoned {
            self.stats.poisons += 1;
            self.failed();
        }
        if let Some(asked) = asked.and_then(|id| self.requests.get_mut(&id)) {
            asked.snapshot = (is_single && !is_poisoned).then_some(latest);
            asked.is_handled = true;
        }
        for (id, at) in std::mem::take(&mut self.nodes[shard].shard.read_in_aftermath) {
            if let Some(asked) = self.requests.get_mut(&id) {
                (asked.snapshot, asked.in_aftermath) = (Some(at), true);
            }
        }
    }

    pub(super) fn tick(&mut self, shard: usize) {
        if self.nodes[shard].is_stopped || self.nodes[shard].tick_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.nodes[shard].tick_at = None;
        self.give(shard, Input::Tick);
        self.carry_out_all(shard);
    }

    fn carry_out_all(&mut self, shard: usize) {
        while let Some(effect) = self.nodes[shard].shard.poll_effect() {
            self.carry_out(shard, effect);
        }
        let node = &mut self.nodes[shard];
        let Some(due) = node.shard.poll_timeout().filter(|_| !node.is_stopped) else { return };
        let at = self.clock.when(due.get()).max(self.now + 1);
        if node.tick_at.is_none_or(|before| before > at || before < self.now) {
            node.tick_at = Some(at);
            self.schedule(at, Event::Tick(shard));
        }
    }

    fn carry_out(&mut self, shard: usize, effect: Effect) {
        if self.disk.is_dead() {
            return;
        }
        match effect {
            Effect::Reply { id, result } if id >= FIRST => self.heard(id, result),
            Effect::Reply { id, result } => self.reply(shard, id, result),
            Effect::Send { to, envelope } => {
                self.note(format_args!("{shard} -> {to} {envelope:?}"));
                let from = u32::try_from(shard).unwrap();
                let to = to as usize;
                let event = Event::Arrive(to, Input::Peer { from, envelope });
                self.send(self.now, Party::Shard(shard), Party::Shard(to), event);
            }
            Effect::Append(append) => self.append(shard, append),
            Effect::PrepareSegment { index, capacity } => {
                let fails = self.rng.chance(self.swarm.prepare_fails);
                let after = self.rng.below(self.swarm.longest_write);
                self.schedule(self.now + after, Event::Prepared { shard, index, capacity, fails });
            }
            Effect::Stop => {
                self.note(format_args!("{shard} -> stop"));
                self.nodes[shard].is_stopped = true;
            }
        }
    }

    /// A reply leaves: from here on, what it says has happened.
    fn reply(&mut self, shard: usize, id: RequestId, result: Result<Reply>) {
        self.note(format_args!("{shard} -> #{id} {result:?}"));
        let latest = self.nodes[shard].shard.latest().get();
        let asked = self.requests.get_mut(&id).unwrap_or_else(|| panic!("#{id} is answered, and nobody waits"));
        assert!(!std::mem::replace(&mut asked.is_replied, true), "#{id} is answered twice");
        let to = asked.client.map_or(Party::Keeper, Party::Client);
        if let What::Commit { .. } | What::Single = asked.what {
            self.happened(id, &result);
        }
        let leaves = self.clock.when(latest);
        self.send(leaves, Party::Shard(shard), to, Event::Answer(id, result));
    }

    fn append(&mut self, shard: usize, append: Append) {
        let incarnation = self.manifest.as_ref().expect("a shard that writes has a disk").incarnation;
        let segment = SegmentId { incarnation, shard: u32::try_from(shard).unwrap(), index: append.segment };
        let through = Position::new(append.segment, append.offset + append.bytes.len() as u64);
        self.note(format_args!("{shard} -> append {through:?} {:08x}", crc32c::crc32c(&append.bytes)));
        let started = self.disk.start(Write { segment, offset: append.offset, bytes: append.bytes });
        if self.disk.is_dead() {
            return;
        }
        let ticket = match started {
            Ok(ticket) => ticket,
            Err(error) => return self.arrive(shard, Input::AppendFailed { reason: error.to_string() }),
        };
        let fails = self.rng.chance(self.swarm.write_fails);
        let after = self.rng.below(self.swarm.longest_write);
        self.schedule(self.now + after, Event::Written { shard, ticket, through, fails });
        if self.rng.chance(self.swarm.crash_in_write) {
            let at = self.now + self.rng.below(after + 2);
            self.schedule(at, Event::Crash);
        }
    }

    pub(super) fn written(&mut self, shard: usize, ticket: u64, through: Position, fails: bool) {
        let completed = if fails {
            self.disk.fail(ticket, None);
            Err(io::ErrorKind::Other.into())
        } else {
            self.disk.complete(ticket, false).map(drop)
        };
        if self.disk.is_dead() {
            return;
        }
        let input = match completed {
            Ok(()) => Input::Appended { through, took: Duration::ZERO },
            Err(error) => Input::AppendFailed { reason: error.to_string() },
        };
        self.arrive(shard, input);
    }

    pub(super) fn prepared(&mut self, shard: usize, index: u32, capacity: u64, fails: bool) {
        let manifest = self.manifest.as_mut().expect("a shard that writes has a disk");
        let id = SegmentId { incarnation: manifest.incarnation, shard: u32::try_from(shard).unwrap(), index };
        let strict = self.swarm.mode == DurabilityMode::Strict;
        let header = SegmentHeader { id, database: DATABASE, salt: self.rng.next(), capacity, strict };
        if fails {
            let error = *self.rng.pick(&ERRORS);
            let (is_after, after) = (self.rng.chance(500), self.rng.below(11));
            self.disk.arm(When::Call(after), Fault::Fail { error, is_after, is_for_ever: false, keep: 500 });
        }
        let made = opening::add_segment(&Directory::new(&self.disk), manifest, &header);
        if self.plan.is_none() {
            self.disk.disarm();
        }
        if self.disk.is_dead() {
            return;
        }
        let input = match made {
            Ok(()) => Input::SegmentReady { index, capacity, salt: header.salt },
            Err(error) => {
                // Whoever goes on looking for room never rests.
                self.has_failed |= self.plan.as_ref().is_some_and(Plan::fails_for_ever);
                let after = 1 + self.rng.below(2 * self.swarm.longest_write);
                self.schedule(self.now + after, Event::Arrive(shard, Input::AskAgain));
                Input::SegmentFailed { index, reason: error.into() }
            }
        };
        self.arrive(shard, input);
    }

    /// The highest version given out so far.
    pub(super) fn latest(&self) -> Version {
        let given = self.nodes.iter().map(|node| node.shard.latest()).max().unwrap_or_default();
        given.max(self.highest)
    }
}
