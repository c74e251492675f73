//! Opening, closing, crashing, coming to rest.
//!
//! - An opening ends with a crash at any event, with a close in the middle of everything, or after it has come to rest:
//!   then nobody waits, nothing is open and no intent is held.
//! - Recovery may crash itself, and what it finds does not depend on how often.
//! - When the database is open again, the history of the opening before is checked, with what was found at its end.

use std::collections::{BTreeMap, VecDeque};

use super::super::disk::Crash as End;
use super::super::faults::{Fault, When};
use super::super::mesh::Party;
use super::super::recovery::{Recovered, cut_of, recover};
use super::action::Action;
use super::cell::{Cell, Content, run_of, writer_of};
use super::document::changes;
use super::exhaustive::{Plan, rehearse};
use super::history::{Fate, Found, History, LastLook};
use super::program::check_state;
use super::proofs::assert_proven;
use super::view::{View, contents_of};
use super::world::{Asked, Clock, Event, Node, What, World};
use crate::base::error::Result;
use crate::base::key::Space;
use crate::base::options::{DurabilityMode, Partitioning};
use crate::base::stored::Stored;
use crate::base::version::Version;
use crate::disk::directory::Directory;
use crate::disk::opening;
use crate::disk::recovery;
use crate::format::manifest::Manifest;
use crate::primitive::output::Reply;
use crate::shard::input::{Input, Request};
use crate::shard::machine::{Shard, ShardConfig};
use crate::shard::route::Layout;
use crate::store::memory::Memory;

/// Where database time begins.
pub(super) const EPOCH: u64 = 1_700_000_000_000_000_000;
/// The most events of an opening: more of them go in circles.
const EVENTS: u64 = 3_000_000;
/// How long an opening rests, so that what is idle is noticed.
const REST: u64 = 80_000_000_000;

/// The same if something has failed: a shard that cannot write is asked for its horizon for ever.
const SHORT_REST: u64 = 10_000_000;

/// How far a close is: Close, Flush, Stop.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Closing {
    phase: u8,
    waits: usize,
    failed: bool,
    /// When everything had come to rest.
    rests_since: Option<u64>,
    events: u64,
    /// Whether it was closed in good order.
    is_closed: bool,
}

impl Closing {
    pub(super) const fn is_under_way(&self) -> bool {
        self.phase > 0
    }
}

impl World {
    /// Something is poisoned: before long, the process ends.
    pub(super) fn failed(&mut self) {
        if !std::mem::replace(&mut self.has_failed, true) && self.plan.is_none() {
            let longest = *self.rng.pick(&[3_000_000, 3_000_000, 300_000_000]);
            let after = self.rng.below(longest);
            let event = if self.rng.chance(700) { Event::Crash } else { Event::Close };
            self.schedule(self.now + after, event);
        }
    }

    pub(super) fn crash(&mut self) {
        self.stats.crashes += 1;
        self.end_process();
    }

    /// Power is lost, or the process is killed.
    fn end_process(&mut self) {
        let end = match &self.plan {
            Some(plan) => plan.end(),
            None if self.rng.chance(500) => End::Power(None),
            None => End::Kill,
        };
        let under_way = self.disk.crash(end);
        self.note(format_args!("crash, {end:?}, {under_way} writes under way"));
    }

    pub(super) fn close(&mut self) {
        if self.closing.phase == 0 {
            self.note(format_args!("close"));
            self.keep(&Request::Close);
        }
    }

    fn keep(&mut self, request: &Request) {
        self.closing.phase += 1;
        self.closing.waits = self.nodes.len();
        for shard in 0..self.nodes.len() {
            self.ask_as_keeper(shard, What::Keep, request.clone());
        }
    }

    pub(super) fn ask_as_keeper(&mut self, shard: usize, what: What, request: Request) {
        self.asked += 1;
        let asked = Asked {
            client: None,
            id: 0,
            what,
            snapshot: None,
            shard,
            acknowledged: Version::ZERO,
            is_handled: false,
            is_replied: false,
            in_aftermath: false,
        };
        self.requests.insert(self.asked, asked);
        let input = Input::Request { id: self.asked, request };
        self.send(self.now, Party::Keeper, Party::Shard(shard), Event::Arrive(shard, input));
    }

    /// A shard has answered the keeper.
    pub(super) fn kept(&mut self, result: &Result<Reply>) {
        self.closing.failed |= result.is_err();
        self.closing.waits -= 1;
        match (self.closing.waits, self.closing.phase) {
            (0, 1) => self.keep(&Request::Flush),
            (0, 2) => self.keep(&Request::Stop),
            _ => {}
        }
    }

    /// Whether the opening goes on. Ends it when all have stopped; notices when it has come to rest.
    pub(super) fn goes_on(&mut self) -> bool {
        self.closing.events += 1;
        assert!(self.closing.events < EVENTS, "the opening does not come to rest: {:?}", self.requests);
        if self.closing.phase == 3 && self.closing.waits == 0 && self.nodes.iter().all(|node| node.is_stopped) {
            self.closed();
            return false;
        }
        let is_idle = self.budget == 0
            && self.requests.is_empty()
            && self.clients.iter().all(|client| client.running.is_none())
            && (self.is_failed_plan() || !self.is_busy());
        if !is_idle || self.closing.is_under_way() {
            self.closing.rests_since = None;
            if self.next_event().is_none() {
                self.stuck();
            }
            return true;
        }
        let since = *self.closing.rests_since.get_or_insert(self.now);
        let rest = if self.is_failed_plan() { SHORT_REST } else { REST };
        if self.now - since < rest && self.next_event().is_some() {
            return true;
        }
        self.at_rest();
        let closes = self.plan.as_ref().map_or_else(|| self.rng.chance(500), Plan::closes);
        let event = if closes { Event::Close } else { Event::Crash };
        self.schedule(self.now, event);
        true
    }

    const fn is_failed_plan(&self) -> bool {
        self.plan.is_some() && self.has_failed
    }

    /// Nothing happens any more.
    fn stuck(&self) {
        let waiting: Vec<_> = self.requests.iter().filter(|(_, asked)| asked.is_handled).collect();
        panic!("nothing happens any more, and somebody waits: {waiting:?} {:?}", self.closing);
    }

    /// Everything has come to rest.
    fn at_rest(&mut self) {
        self.note(format_args!("at rest"));
        self.stats.quiets += 1;
        if self.has_failed {
            return;
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let (intents, open) = (node.shard.held_intents(), node.shard.open_transactions());
            assert_eq!((intents, open), (0, 0), "intents and open transactions at rest: shard={number}");
            let footprint = node.shard.memory().count_footprint().bytes as u64;
            assert_eq!(node.shard.memory_used(), footprint, "the footprint is exact: shard={number}");
        }
        let snapshot = self.latest();
        let contents = self.contents_at(snapshot);
        let at = self.now;
        self.looks.push(LastLook { snapshot: snapshot.get(), contents, is_complete: true, at });
        if matches!(self.swarm.mode, DurabilityMode::Buffered { .. }) {
            // The interval has passed.
            self.safe = self.acknowledged.values().copied().fold(self.safe, Version::max);
        }
    }

    /// All shards have stopped.
    fn closed(&mut self) {
        let owed: Vec<_> = self.requests.iter().filter(|(_, asked)| asked.is_handled && !asked.is_replied).collect();
        assert!(owed.is_empty(), "all shards have stopped, and owe answers: {owed:?}");
        let failed = self.closing.failed;
        self.note(format_args!("closed, failed: {failed}"));
        if self.closing.failed {
            assert!(self.has_failed, "a close fails for a reason");
            return;
        }
        self.stats.closes += 1;
        if matches!(self.swarm.mode, DurabilityMode::Buffered { .. }) {
            self.safe = self.acknowledged.values().copied().fold(self.safe, Version::max);
        }
        let last = Version::from(self.clock.at(self.now)).max(self.latest());
        if let Some(manifest) = self.manifest.clone() {
            self.seal(&manifest, last);
        }
    }

    /// The process may die before its last decisions are written, or before it has cleaned up.
    fn seal(&mut self, manifest: &Manifest, last: Version) {
        if self.plan.is_none() && self.rng.chance(300) {
            self.disk.arm(When::Call(self.rng.below(20)), Fault::Die { is_after: self.rng.chance(500) });
        }
        let sealed = opening::seal(&Directory::new(&self.disk), manifest, last);
        if self.plan.is_none() {
            self.disk.disarm();
        }
        self.note(format_args!("sealed: {sealed:?}"));
        if self.disk.is_dead() {
            return self.crash();
        }
        assert!(sealed.is_ok() || self.disk.was_reached(), "a close fails for a reason: {sealed:?}");
        self.closing.is_closed = sealed.is_ok();
    }

    /// What the memories of an opening say when it ends.
    pub(super) fn end_opening(&mut self) {
        self.highest = self.latest().max(self.clock.at(self.now).into());
        let nodes = std::mem::take(&mut self.nodes);
        let memories: Vec<&Memory> = nodes.iter().map(|node| node.shard.memory()).collect();
        self.stats.proven += assert_proven(&memories, self.highest);
        learn(&mut self.found, memories.into_iter(), &self.history);
        if self.swarm.mode == DurabilityMode::Strict {
            // No reply tells of what is not durable, and what is lost is as if it had never been in memory.
            self.found.happened.clear();
        }
        if self.swarm.mode == DurabilityMode::InMemory {
            let clock = self.highest.get() + 1;
            self.check_history(Vec::new(), clock);
            self.history.initial.clear();
        }
        self.forget_events();
        self.clients.iter_mut().for_each(|client| client.running = None);
    }

    fn check_history(&mut self, last: Vec<LastLook>, clock: u64) {
        let mut looks = std::mem::take(&mut self.looks);
        self.stats.looks += looks.len() as u64;
        looks.extend(last);
        // Whatever a single read did not read at a known version is left out.
        let checked = self.history.check(&self.found, &looks);
        if let Err(what) = checked {
            panic!("{what}\nchecked before the opening at {clock}");
        }
    }

    /// Opens the database.
    pub(super) fn open(&mut self, opening: u64) {
        if opening > 0 && self.rng.chance(self.swarm.reshard) {
            self.stats.reshards += 1;
            self.swarm.shards = 1 + self.rng.index(4);
            self.swarm.partitioning = *self.rng.pick(&[Partitioning::ByRun, Partitioning::ByKey]);
            self.layout = Layout { shards: self.swarm.shards, partitioning: self.swarm.partitioning };
        }
        self.now += self.rng.below(3_000_000);
        let (memories, start, incarnation) = if self.swarm.mode == DurabilityMode::InMemory {
            self.readings.clear();
            let memories = (0..self.layout.shards).map(|_| Memory::new(self.swarm.history)).collect();
            let start = (EPOCH + self.now).max(self.highest.get() + 1);
            (memories, start, 0)
        } else {
            self.recover(opening)
        };
        assert!(start > self.highest.get() || opening == 0, "the clock went back");
        self.clock = Clock { start, opened_at: self.now, grain: self.swarm.grain };
        self.ids += 2;
        let initial = contents(memories.iter(), start.into());
        self.stats.proven += assert_proven(&memories.iter().collect::<Vec<_>>(), start.into());
        let reads = initial.iter().map(|(cell, content)| (cell.clone(), Some(content.clone()))).collect();
        let state = View { reads, ..View::default() };
        check_state(&state);
        self.history = History::begin(start, self.ids << 32, initial);
        self.found = Found::default();
        learn(&mut self.found, memories.iter(), &self.history);
        self.found.versions.clear();
        self.serve(memories, start, incarnation);
    }

    /// Recovers until it does not crash, and checks what is left of the opening before.
    fn recover(&mut self, opening: u64) -> (Vec<Memory>, u64, u32) {
        let served = self.manifest.take().map(|manifest| manifest.incarnation);
        if let Some(stride) = self.plan.as_mut().and_then(|plan| plan.rehearses(&self.disk)) {
            rehearse(&self.disk, self.layout, self.swarm.history, stride);
        }
        let (recovered, start) = loop {
            if let Some(plan) = &mut self.plan {
                plan.begin_recovery(&self.disk);
            } else if self.rng.chance(self.swarm.crash_in_recovery) {
                let fault = Fault::Die { is_after: self.rng.chance(500) };
                self.disk.arm(When::Call(self.rng.below(self.recovery_calls + 1)), fault);
            }
            let before = self.disk.calls();
            let skew = *self.rng.pick(&[0, 0, 3_600_000_000_000, 5_000_000]);
            let wall = EPOCH + 3_600_000_000_000 + self.now - skew;
            let mut start = 0;
            let recovered = recover(&self.disk, self.recovery_plan(), |last| {
                start = wall.max(last.get() + 1);
                Version::from(start).after(std::time::Duration::from_secs(900))
            });
            if self.plan.is_none() {
                self.disk.disarm();
            }
            if self.disk.is_dead() {
                self.stats.crashes_in_recovery += 1;
                self.end_process();
                continue;
            }
            match (recovered, &mut self.plan) {
                (Ok(recovered), _) => {
                    self.recovery_calls = self.disk.calls() - before;
                    break (recovered, start);
                }
                // It must be possible to try again, and nothing is lost.
                (Err(_), Some(plan)) if self.disk.was_reached() => plan.refused(&self.disk),
                (Err(error), _) => panic!("refused to open: {error}"),
            }
        };
        self.stats.torn += recovered.report.torn_tails;
        self.stats.loads += u64::from(recovered.report.snapshot.is_some());
        self.stats.discarded += recovered.report.discarded_transactions;
        self.disk.land_late_writes();
        if self.rng.chance(300) {
            self.recover_again(&recovered, start);
        }
        let Recovered { memories, manifest, report } = recovered;
        let incarnation = manifest.incarnation;
        if opening > 0 {
            let cut = served.and_then(|served| cut_of(&manifest, served)).unwrap_or_default();
            // The marks may be in segments that a snapshot has replaced.
            let cut = report.snapshot.map_or(cut, |snapshot| cut.max(snapshot));
            self.check_survivors(&memories, cut, start);
        }
        self.manifest = Some(manifest);
        (memories, start, incarnation)
    }

    fn recovery_plan(&self) -> recovery::Plan {
        recovery::Plan { layout: self.layout, history: self.swarm.history.into(), read_only: false, beside: false }
    }

    /// Whoever opened now would find the same.
    fn recover_again(&self, recovered: &Recovered, start: u64) {
        let disk = self.disk.steady_copy();
        disk.land_late_writes();
        let again = recover(&disk, self.recovery_plan(), |last| last).expect("what was recovered opens again");
        let (before, again) = (dump(recovered.memories.iter(), start), dump(again.memories.iter(), start));
        assert_eq!(before, again, "the same bytes give the same memory");
    }

    /// Holds what was recovered against what had happened.
    fn check_survivors(&mut self, memories: &[Memory], cut: Version, start: u64) {
        learn(&mut self.found, memories.iter(), &self.history);
        let is_buffered = matches!(self.swarm.mode, DurabilityMode::Buffered { .. });
        // What closed in good order is all there, and time has gone on since the last mark.
        let is_cut = is_buffered && !self.closing.is_closed;
        let snapshot = if is_cut { cut.max(self.history.start.into()).min(start.into()) } else { start.into() };
        self.note(format_args!("recovered, cut {cut}, start {start}"));
        if is_buffered {
            let safe = self.safe;
            assert!(
                safe <= cut || safe <= self.history.start.into(),
                "acknowledged as durable, and lost: {safe} > {cut}"
            );
            self.check_bound(cut);
            let highest = cut.max(self.history.start.into());
            for (.., revision) in memories.iter().flat_map(Memory::every_revision) {
                assert!(revision.version <= highest, "above the cut, and there it is: cut={cut} {revision:?}");
            }
            self.readings.retain(|reading| reading.snapshot <= cut || reading.snapshot.get() < self.history.start);
        }
        let contents = contents(memories.iter(), snapshot);
        let is_complete = !is_buffered || self.closing.is_closed;
        let (snapshot, at) = (snapshot.get(), self.now);
        self.check_history(vec![LastLook { snapshot, contents, is_complete, at }], start);
        for (shard, memory) in memories.iter().enumerate() {
            for (run, space, name) in memory.dump(start.into()).into_keys() {
                let is_spread = matches!(space, Space::Kv | Space::State | Space::Event | Space::Trace | Space::Json);
                let owner = self.layout.shard_of_key(&run, space, &name);
                assert!(!is_spread || owner == shard, "a key is on shard {shard}, not on {owner}: {run} {space:?}");
            }
        }
    }

    /// No shard loses more acknowledged commits than it may.
    fn check_bound(&mut self, cut: Version) {
        let DurabilityMode::Buffered { max_pending_writes, .. } = self.swarm.mode else { return };
        let mut lost: BTreeMap<usize, usize> = BTreeMap::new();
        for record in self.history.records.values() {
            if let Fate::Committed(version) = record.fate
                && version > cut.get()
            {
                *lost.entry(record.shard).or_default() += 1;
                self.stats.lost += 1;
            }
        }
        let most = max_pending_writes / self.shards_before;
        let is_bounded = self.has_failed || lost.values().all(|count| *count <= most);
        assert!(is_bounded, "more acknowledged commits are lost than {most}: {lost:?}");
    }

    fn serve(&mut self, memories: Vec<Memory>, start: u64, incarnation: u32) {
        let shards = u32::try_from(memories.len()).unwrap();
        let (layout, mode) = (self.layout, self.swarm.mode);
        self.note(format_args!("serve {layout:?} {mode:?} from {start}"));
        let node = |(shard, memory): (u32, Memory)| {
            let config = ShardConfig { incarnation, shard, shards, mode, read_only: false };
            let shard = Shard::new(config, memory, start.into());
            Node { shard, inbox: VecDeque::new(), is_scheduled: false, tick_at: None, is_stopped: false }
        };
        self.nodes = (0..).zip(memories).map(node).collect();
        self.begin_listening();
        self.shards_before = self.nodes.len();
        self.closing = Closing::default();
        self.taking = None;
        self.numbers = 0;
        self.budget = self.swarm.transactions;
        self.has_failed = false;
        self.acknowledged.clear();
        self.safe = Version::ZERO;
        self.crash_after =
            if self.rng.chance(500) { self.rng.within(1..self.swarm.transactions * 40) } else { u64::MAX };
        for client in 0..self.clients.len() {
            self.think_later(client);
        }
        if let Some(plan) = &mut self.plan {
            self.budget = plan.begin_opening(self.layout, &self.disk);
            self.crash_after = u64::MAX;
        } else if self.rng.chance(150) {
            let at = self.now + self.rng.below(self.swarm.transactions * self.swarm.longest_link);
            self.schedule(at, Event::Close);
        }
        for shard in 0..self.nodes.len() {
            self.nodes[shard].is_scheduled = true;
            self.schedule(self.now, Event::Run(shard));
        }
    }
}

/// What all memories hold at a version.
pub(super) fn contents<'a>(memories: impl Iterator<Item = &'a Memory>, snapshot: Version) -> BTreeMap<Cell, Content> {
    let all = memories.flat_map(|memory| memory.dump(snapshot));
    let users = all.filter(|((run, ..), _)| *run != crate::base::run_id::RunId::DIRECTORY);
    contents_of(users.map(|((run, _, name), stored)| (run, name, stored)))
}

fn dump<'a>(
    memories: impl Iterator<Item = &'a Memory>,
    snapshot: u64,
) -> Vec<BTreeMap<(crate::base::run_id::RunId, Space, crate::base::key::Name), Stored>> {
    memories.map(|memory| memory.dump(snapshot.into())).collect()
}

/// Notes who wrote at which version, and what expires when.
fn learn<'a>(found: &mut Found, memories: impl Iterator<Item = &'a Memory>, history: &History) {
    let Found { versions, happened, expiries } = found;
    let mut learned = |writer: u64, version: Version| {
        let (version, Some(record)) = (version.get(), history.records.get(&writer)) else { return };
        let before = versions.insert(writer, version);
        happened.insert(writer);
        assert!(before.is_none_or(|before| before == version), "T{writer} has two versions: {before:?} {version}");
        if let Fate::Committed(committed) = record.fate {
            assert_eq!(committed, version, "T{writer} is committed at the version it was told");
        }
    };
    for memory in memories {
        for (content, version) in changes(memory) {
            learned(writer_of(&content), version);
        }
        for (run, space, name, revision) in memory.every_revision() {
            let Some(stored) = &revision.stored else { continue };
            let content = match (space, stored) {
                (Space::Kv, Stored::Value(value)) => super::cell::from_value(&value.to_value()),
                (Space::State, Stored::State(state)) => super::cell::from_value(&state.value),
                (Space::Event, Stored::Event(event)) => super::cell::from_value(&event.payload),
                (Space::Trace, Stored::Trace(trace)) => super::cell::from_value(&trace.metadata),
                _ => continue,
            };
            learned(writer_of(&content), revision.version);
            let version = revision.version.get();
            let newest = memory.at(&run, space, name, history.start.into()).map(|newest| newest.version.get());
            let is_past = version < history.start && newest != Some(version);
            if revision.expires != Version::MAX && !is_past {
                let cell = Cell::kv(run_of(run), String::from_utf8_lossy(name).into_owned());
                expiries.insert((cell, version), revision.expires.get());
            }
        }
    }
}

/// Whether a single command only reads.
pub(super) const fn is_read(action: &Action) -> bool {
    matches!(
        action,
        Action::Read(_) | Action::Scan { .. } | Action::Traces(_) | Action::Inside(..) | Action::Documents(_)
    )
}
