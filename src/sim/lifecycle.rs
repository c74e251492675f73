//! Opening, closing, crashing.
//!
//! - Recovery and the last steps of a close may crash at any call to the disk, any number of times.
//! - Writes of a dead process may land at any moment of the recovery, and after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::checkpoints::Taking;
use super::clock::Clock;
use super::damage;
use super::disk::Crash as End;
use super::faults::{ERRORS, Fault, Operation, When};
use super::ledger::{Crash, Ledger, assert_cut};
use super::model::{Home, Model};
use super::planted::Bug;
use super::recovery::{DATABASE, Recovered, commits_of, cut_of, recover};
use super::world::{Event, Node, World};
use crate::base::error::{Error, Result};
use crate::base::options::{DurabilityMode, Partitioning};
use crate::base::version::Version;
use crate::disk::directory::Directory;
use crate::disk::opening;
use crate::disk::recovery::Plan;
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::shard::input::{Input, Request, RequestId};
use crate::shard::machine::{Shard, ShardConfig};
use crate::shard::route::Layout;
use crate::store::memory::Memory;

/// A close under way: every shard is asked the same, and the next question comes when all have answered.
pub(super) struct Closing {
    asked: Request,
    waits_for: BTreeSet<RequestId>,
}

impl World {
    /// The process dies.
    pub(super) fn crash(&mut self) {
        self.die_making_a_segment();
        self.end_process();
        self.stats.crashes += 1;
        let crash = Crash { at: self.now, slack: self.slack(), is_late: false };
        self.reopen(Some(crash));
    }

    /// It may happen while the next segment of a shard is made.
    fn die_making_a_segment(&mut self) {
        let Some(mut manifest) = self.manifest.clone() else { return };
        if self.disk.is_dead() || self.disk.fails_for_ever() || !self.rng.chance(150) {
            return;
        }
        let shard = u32::try_from(self.rng.index(self.nodes.len())).unwrap();
        let index = manifest.segments[shard as usize].end;
        let id = SegmentId { incarnation: manifest.incarnation, shard, index };
        let strict = self.swarm.mode == DurabilityMode::Strict;
        let header = SegmentHeader { id, database: DATABASE, salt: self.rng.next(), capacity: 1 << 20, strict };
        let is_after = self.rng.chance(500);
        self.disk.arm(When::Call(self.rng.below(11)), Fault::Die { is_after });
        let made = opening::add_segment(&Directory::new(&self.disk), &mut manifest, &header);
        assert!(made.is_err() && self.disk.disarm(), "the process has died");
    }

    /// Power is lost, or the process is killed.
    fn end_process(&mut self) {
        let end = if self.rng.chance(500) { End::Power(None) } else { End::Kill };
        let under_way = self.disk.crash(end);
        self.trace.note(self.now, format_args!("crash, {end:?}, writes under way: {under_way}"));
    }

    /// The longest a commit may take to be covered behind its deadline: a round may have begun just before, and then
    /// comes the one that covers it.
    fn slack(&self) -> u64 {
        let swarm = &self.swarm;
        2 * (3 * swarm.longest_write + 3 * swarm.longest_prepare + 2 * swarm.longest_link + 200_000)
    }

    /// Closes the database as the keeper does.
    pub(super) fn close(&mut self) {
        if self.closing.is_none() {
            self.ask_everybody(Request::Close);
        }
    }

    fn ask_everybody(&mut self, request: Request) {
        let mut waits_for = BTreeSet::new();
        for shard in 0..self.nodes.len() {
            self.requests += 1;
            waits_for.insert(self.requests);
            self.tell(shard, Input::Request { id: self.requests, request: request.clone() });
        }
        self.closing = Some(Closing { asked: request, waits_for });
    }

    /// The keeper has an answer.
    pub(super) fn answered(&mut self, id: RequestId) {
        let Some(closing) = &mut self.closing else { return };
        if !closing.waits_for.remove(&id) || !closing.waits_for.is_empty() {
            return;
        }
        if let (Request::Close, Some(Bug::SealedBeforeFlush), Some(manifest)) =
            (&closing.asked, self.bug, &self.manifest)
        {
            let _ = opening::seal(&Directory::new(&self.disk), manifest, self.clock.last(self.now));
        }
        match closing.asked {
            Request::Close if self.bug != Some(Bug::FlushLeftOut) => self.ask_everybody(Request::Flush),
            Request::Close | Request::Flush => self.ask_everybody(Request::Stop),
            _ => {}
        }
    }

    /// A shard has ended. When all have, the database is closed, and opened again.
    pub(super) fn stopped(&mut self, shard: usize) {
        self.nodes[shard].is_stopped = true;
        self.nodes[shard].wake_at = None;
        assert_eq!(self.oracle.unanswered_by(shard), 0, "shard {shard} stopped and owes an answer");
        assert!(!self.disk.is_writing(u32::try_from(shard).unwrap()), "shard {shard} stopped and is writing");
        if self.nodes.iter().all(|node| node.is_stopped) {
            self.schedule(self.now, Event::Reopen);
        }
    }

    /// The database has closed; it is opened again.
    pub(super) fn closed(&mut self) {
        let is_clean = self.nodes.iter().all(|node| !node.is_poisoned);
        self.trace.note(self.now, format_args!("closed, clean: {is_clean}"));
        if let Some(manifest) = self.manifest.take_if(|_| is_clean) {
            self.stats.closes += 1;
            // The process may still die before its last decisions are written, or before it has cleaned up.
            if !self.disk.is_armed() && self.rng.chance(400) {
                self.disk.arm(When::Call(self.rng.below(20)), Fault::Die { is_after: self.rng.chance(500) });
            }
            let sealed = match self.bug {
                Some(Bug::SealedBeforeFlush) => Ok(()),
                _ => opening::seal(&Directory::new(&self.disk), &manifest, self.clock.last(self.now)),
            };
            if self.disk.is_dead() {
                self.stats.crashes += 1;
                self.end_process();
            } else if let Err(error) = sealed {
                assert!(self.disk.was_reached(), "a close fails for a reason: {error}");
                self.stats.faults += 1;
            }
            for (shard, ledger) in self.oracle.ledgers.iter_mut().enumerate() {
                let commits = ledger.commits.len();
                assert_eq!(ledger.durable, commits, "shard {shard} stopped before everything was written");
                ledger.flushed(commits);
                let last = ledger.version_of(commits);
                self.oracle.covered = self.oracle.covered.max(last);
            }
        }
        let crash = Crash { at: self.now, slack: self.slack(), is_late: true };
        self.reopen(Some(crash));
    }

    /// Opens the database; `crash` says how the last opening ended.
    pub(super) fn reopen(&mut self, crash: Option<Crash>) {
        if !self.disk.fails_for_ever() {
            self.disk.disarm();
        }
        // A mark may have waited for room.
        let is_late =
            self.stood_still || self.stalled || self.had_shortage || self.nodes.iter().any(|node| node.is_poisoned);
        let crash = crash.map(|crash| Crash { is_late: crash.is_late || is_late, ..crash });
        self.queue.clear();
        self.mesh.crash();
        self.clients.iter_mut().for_each(super::client::Client::disconnect);
        self.oracle.forget_requests();
        self.closing = None;
        self.taking = Taking::default();
        self.highest = self.nodes.iter().map(|node| node.shard.latest()).max().unwrap_or_default();
        self.manifest = None;
        self.now += self.rng.below(3_000_000);
        if self.nodes.is_empty() || !self.rng.chance(self.swarm.reshard) {
            // As many shards as before.
        } else {
            self.stats.reshards += 1;
            self.swarm.shards = self.rng.index(4) + 1;
        }
        if self.swarm.mode == DurabilityMode::InMemory {
            return self.begin_again();
        }
        let recovered = self.recover();
        self.stats.torn += recovered.report.torn_tails;
        self.stats.loads += u64::from(recovered.report.snapshot.is_some());
        self.survived(&recovered, crash);
        self.manifest = Some(recovered.manifest);
        self.serve(recovered.memories);
        self.assert_memories();
    }

    /// Nothing is kept.
    fn begin_again(&mut self) {
        self.oracle.model = Model::default();
        self.clock = Clock::start_after(self.highest, self.now, 0);
        let memories = (0..self.swarm.shards).map(|_| Memory::new(self.swarm.history)).collect();
        self.serve(memories);
    }

    /// Recovers until nothing goes wrong.
    fn recover(&mut self) -> Recovered {
        self.rehearse_damage();
        loop {
            if !self.disk.is_armed() && self.rng.chance(self.swarm.crash_in_recovery) {
                let fault = Fault::Die { is_after: self.rng.chance(500) };
                self.disk.arm(When::Call(self.rng.below(self.recovery_calls + 1)), fault);
            }
            self.arm_fault();
            let before = self.disk.calls();
            let recovered = self.recover_once();
            if self.disk.is_dead() {
                self.disk.disarm();
                self.stats.crashes_in_recovery += 1;
                self.end_process();
                continue;
            }
            match recovered {
                Ok(recovered) => {
                    self.disk.disarm();
                    self.recovery_calls = self.disk.calls() - before;
                    self.clock.reserve(recovered.manifest.clock_reserved);
                    self.disk.land_late_writes();
                    self.stats.late = self.disk.landed() as u64;
                    return recovered;
                }
                Err(Error::Io(error)) if self.disk.was_reached() => {
                    self.trace.note(self.now, format_args!("failed to open: {error}"));
                    self.stats.refusals += 1;
                    if !self.disk.fails_for_ever() || self.rng.chance(400) {
                        self.disk.disarm();
                    }
                    if self.rng.chance(300) {
                        self.end_process();
                    }
                }
                Err(error) => panic!("refused to open: {error}"),
            }
        }
    }

    /// Something is to go wrong on the disk.
    fn arm_fault(&mut self) {
        if !self.disk.is_armed() && self.rng.chance(self.swarm.faults) {
            let (operation, fault) = if self.rng.chance(500) {
                self.favourite
            } else {
                (Operation::draw(&mut self.rng), Fault::draw(&mut self.rng))
            };
            let when = When::Operation(operation, *self.rng.pick(&[0, 0, 1, 2, 6]));
            self.trace.note(self.now, format_args!("to come: {fault:?} {when:?}"));
            self.disk.arm(when, fault);
        }
    }

    /// Whoever opened a damaged copy would be told, or find what was there.
    fn rehearse_damage(&mut self) {
        if self.disk.segments().is_empty() || !self.rng.chance(self.swarm.damage) {
            return;
        }
        let layout = Layout { shards: self.swarm.shards, partitioning: Partitioning::ByRun };
        let plan = Plan { layout, history: self.swarm.history, read_only: true, beside: false };
        for ending in damage::rehearse(&self.disk, plan, &mut self.rng, 8) {
            *self.damages.entry(ending).or_default() += 1;
        }
    }

    fn recover_once(&mut self) -> Result<Recovered> {
        let layout = Layout { shards: self.swarm.shards, partitioning: Partitioning::ByRun };
        let plan = Plan { layout, history: self.swarm.history, read_only: false, beside: false };
        let skew = *self.rng.pick(&[0, 0, -3_600_000_000_000, 5_000_000]);
        let (now, reservation) = (self.now, self.swarm.reservation);
        recover(&self.disk, plan, |last| {
            self.clock = Clock::start_after(last, now, skew);
            Version::from(self.clock.start().get() + reservation)
        })
    }

    /// Tells the oracle what is left of every shard, and asks it whether that is enough.
    fn survived(&mut self, recovered: &Recovered, crash: Option<Crash>) {
        let manifest = &recovered.manifest;
        let above = recovered.report.snapshot.unwrap_or_default();
        let ledgers = std::mem::take(&mut self.oracle.ledgers);
        let shards = ledgers.len();
        let is_buffered = matches!(self.swarm.mode, DurabilityMode::Buffered { .. });
        // A shard that wrote nothing at all has marked nothing.
        let start = ledgers.iter().map(|ledger| ledger.version_of(0)).max().unwrap_or_default();
        let found = commits_of(&self.disk, manifest, self.served, above);
        let cut = cut_of(manifest, self.served).unwrap_or_default().max(start).max(above);
        let mut commits = Vec::new();
        for (shard, ledger) in ledgers.iter().enumerate() {
            let number = u32::try_from(shard).unwrap();
            let in_snapshot = ledger.count_through(above);
            let (behind, latest) = found.get(&number).copied().unwrap_or((0, ledger.version_of(in_snapshot)));
            let records = in_snapshot + behind;
            assert!(records <= ledger.commits.len(), "{records} commits of {} were found", ledger.commits.len());
            let last = if is_buffered {
                let expected = ledger.count_through(cut);
                assert_eq!(
                    records, expected,
                    "what survives is what was committed up to the cut: shard={shard} cut={cut}"
                );
                cut
            } else {
                let last = ledger.version_of(records);
                assert_eq!(latest, last, "what survives is a prefix of what was committed");
                last
            };
            self.oracle.model.cut(Home { shard, shards }, last);
            self.oracle.tally.lost += (ledger.commits.len() - records) as u64;
            self.oracle.tally.revived += (records.saturating_sub(ledger.durable)) as u64;
            commits.push(records);
        }
        let covered = std::mem::take(&mut self.oracle.covered);
        if let Some(crash) = crash {
            for (shard, ledger) in ledgers.iter().enumerate() {
                let home = Home { shard, shards };
                ledger.assert_survived(commits[shard], self.swarm.mode, home, &self.oracle.model);
            }
            assert_cut(&ledgers, cut, covered, self.swarm.mode, crash);
        }
    }

    fn serve(&mut self, memories: Vec<Memory>) {
        let start = self.clock.start();
        // A version given out while time stood still is above the reservation: it is safe only if it was logged.
        let went_back = start <= self.highest && !self.nodes.is_empty() && !self.stood_still;
        assert!(!went_back, "the clock went back: {start} {}", self.highest);
        self.trace.note(self.now, format_args!("serve {} shards from {start}", memories.len()));
        let incarnation = self.manifest.as_ref().map_or(0, |manifest| manifest.incarnation);
        let mode = self.swarm.mode;
        self.served = incarnation;
        (self.stood_still, self.stalled, self.had_shortage) = (false, false, false);
        self.progress.clear();
        if self.manifest.is_some() {
            self.arm_fault();
        }
        self.oracle.ledgers = memories.iter().map(|_| Ledger::new(start)).collect();
        let shards = u32::try_from(memories.len()).unwrap();
        let node = |(number, memory): (usize, Memory)| {
            let shard = u32::try_from(number).unwrap();
            let config = ShardConfig { incarnation, shard, shards, mode, read_only: false };
            Node {
                shard: Shard::new(config, memory, start),
                inbox: VecDeque::new(),
                wake_at: None,
                is_closing: false,
                is_stopped: false,
                is_poisoned: false,
                waiting: BTreeMap::new(),
                is_short: false,
                is_refusing: false,
                is_preparing: false,
                is_asking: false,
            }
        };
        self.nodes = memories.into_iter().enumerate().map(node).collect();
        for shard in 0..self.nodes.len() {
            self.wake_by(shard, self.now);
        }
        for client in 0..self.clients.len() {
            let after = self.rng.below(self.swarm.think);
            self.schedule(self.now + after, Event::Think { client });
        }
        self.begin_subscriptions();
        if self.manifest.is_some() {
            self.schedule(self.now + self.swarm.reservation / 2, Event::Reserve);
        }
    }

    /// One of the next calls to the disk fails.
    pub(super) fn arm_refusal(&mut self, calls: u64) {
        let error = *self.rng.pick(&ERRORS);
        let (is_after, after) = (self.rng.chance(500), self.rng.below(calls));
        self.disk.arm(When::Call(after), Fault::Fail { error, is_after, is_for_ever: false, keep: 500 });
    }

    /// The keeper extends the reservation ahead of use. If it cannot, time stands still there.
    pub(super) fn reserve(&mut self) {
        self.schedule(self.now + self.swarm.reservation / 2, Event::Reserve);
        let Some(mut manifest) = self.manifest.clone() else { return };
        let fails = !self.disk.is_armed() && self.rng.chance(self.swarm.reserve_fails);
        if fails {
            self.arm_refusal(5);
        }
        manifest.clock_reserved = Version::from(self.clock.last(self.now).get() + self.swarm.reservation);
        let written = match self.bug {
            Some(Bug::ReservationNotWritten) => Ok(()),
            _ => Directory::new(&self.disk).write_manifest(&manifest),
        };
        if self.disk.is_dead() {
            return;
        }
        if let Err(error) = &written {
            assert!(self.disk.was_reached(), "the manifest is not written for a reason: {error}");
            self.stood_still = true;
            self.stats.faults += 1;
        }
        if fails {
            self.disk.disarm();
        }
        if written.is_err() {
            return;
        }
        self.clock.reserve(manifest.clock_reserved);
        self.manifest = Some(manifest);
        for shard in 0..self.nodes.len() {
            self.wake_by(shard, self.now);
        }
    }
}
