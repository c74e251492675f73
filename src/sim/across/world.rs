//! The world: shards, clients, links, a disk and a clock, moved by one queue of events.
//!
//! - Between two parties messages keep their order; apart from that, any delay is possible.
//! - A request is answered exactly once, unless the process dies.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::super::disk::{Disk, Ticket};
use super::super::mesh::{Mesh, Party};
use super::super::names::Inode;
use super::super::rng::Rng;
use super::super::swarm::Mode;
use super::super::trace::Trace;
use super::cell::{Cell, Content};
use super::client::{Client, Reading};
use super::exhaustive::Plan;
use super::history::{Found, History, LastLook};
use super::lifecycle::Closing;
use super::listeners::Listener;
use super::swarm::Swarm;
use crate::base::error::Result;
use crate::base::version::Version;
use crate::disk::snapshotting::Snapshotting;
use crate::format::manifest::Manifest;
use crate::format::record::Position;
use crate::primitive::output::Reply;
use crate::shard::input::{Input, RequestId};
use crate::shard::machine::Shard;
use crate::shard::route::Layout;

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    Think(usize),
    /// A client that slept goes on.
    Resume(usize),
    Arrive(usize, Input),
    Answer(RequestId, Result<Reply>),
    Run(usize),
    Tick(usize),
    Written {
        shard: usize,
        ticket: Ticket,
        through: Position,
        fails: bool,
    },
    Prepared {
        shard: usize,
        index: u32,
        capacity: u64,
        fails: bool,
    },
    Crash,
    Close,
}

/// A shard and what its driver keeps.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) shard: Shard,
    pub(super) inbox: VecDeque<Input>,
    pub(super) is_scheduled: bool,
    pub(super) tick_at: Option<u64>,
    pub(super) is_stopped: bool,
}

/// What was asked, by whom.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) client: Option<usize>,
    /// The transaction.
    pub(super) id: u64,
    pub(super) what: What,
    /// At which version a read of its own reads.
    pub(super) snapshot: Option<Version>,
    pub(super) shard: usize,
    /// The highest version that the shard's answers had told of when it was sent.
    pub(super) acknowledged: Version,
    /// Whether the shard's log had failed when it was read.
    pub(super) in_aftermath: bool,
    pub(super) is_handled: bool,
    pub(super) is_replied: bool,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Begin,
    /// Which action, and which of its commands.
    Step(usize, usize),
    Commit {
        is_durable: bool,
        /// Whether it is answered before it is durable.
        is_early: bool,
    },
    Abort,
    Single,
    Flush,
    Keep,
    Snapshot,
}

/// What the seeds did, all together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub(super) seeds: u64,
    pub(super) events: u64,
    pub(super) transactions: u64,
    pub(super) committed: u64,
    pub(super) across: u64,
    pub(super) read_only: u64,
    pub(super) conflicts: u64,
    pub(super) unknown: u64,
    pub(super) singles: u64,
    pub(super) replays: u64,
    pub(super) too_old: u64,
    pub(super) crashes: u64,
    pub(super) crashes_in_recovery: u64,
    pub(super) closes: u64,
    pub(super) quiets: u64,
    pub(super) poisons: u64,
    pub(super) reshards: u64,
    pub(super) torn: u64,
    pub(super) lost: u64,
    pub(super) discarded: u64,
    pub(super) looks: u64,
    pub(super) snapshots: u64,
    /// Recoveries that started from one.
    pub(super) loads: u64,
    /// Commits that were compared with their digests.
    pub(super) proven: u64,
}

impl Stats {
    pub(super) fn add(&mut self, other: &Self) {
        let pairs: [(&mut u64, u64); 24] = [
            (&mut self.seeds, other.seeds),
            (&mut self.events, other.events),
            (&mut self.transactions, other.transactions),
            (&mut self.committed, other.committed),
            (&mut self.across, other.across),
            (&mut self.read_only, other.read_only),
            (&mut self.conflicts, other.conflicts),
            (&mut self.unknown, other.unknown),
            (&mut self.singles, other.singles),
            (&mut self.replays, other.replays),
            (&mut self.too_old, other.too_old),
            (&mut self.crashes, other.crashes),
            (&mut self.crashes_in_recovery, other.crashes_in_recovery),
            (&mut self.closes, other.closes),
            (&mut self.quiets, other.quiets),
            (&mut self.poisons, other.poisons),
            (&mut self.reshards, other.reshards),
            (&mut self.torn, other.torn),
            (&mut self.lost, other.lost),
            (&mut self.discarded, other.discarded),
            (&mut self.looks, other.looks),
            (&mut self.snapshots, other.snapshots),
            (&mut self.loads, other.loads),
            (&mut self.proven, other.proven),
        ];
        for (sum, value) in pairs {
            *sum += value;
        }
    }
}

/// The clock of one opening: moves in steps, never back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    pub(super) start: u64,
    pub(super) opened_at: u64,
    pub(super) grain: u64,
}

impl Clock {
    pub(super) const fn at(&self, now: u64) -> u64 {
        self.start + (now - self.opened_at) / self.grain * self.grain
    }

    /// When it has reached a version.
    pub(super) const fn when(&self, due: u64) -> u64 {
        self.opened_at + due.saturating_sub(self.start).div_ceil(self.grain) * self.grain
    }
}

/// Everything there is.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) swarm: Swarm,
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    mesh: Mesh,
    pub(super) nodes: Vec<Node>,
    pub(super) disk: Disk,
    pub(super) manifest: Option<Manifest>,
    /// How many calls to the disk the last recovery needed.
    pub(super) recovery_calls: u64,
    pub(super) clock: Clock,
    /// Above every version ever given out.
    pub(super) highest: Version,
    pub(super) layout: Layout,
    pub(super) clients: Vec<Client>,
    pub(super) requests: BTreeMap<RequestId, Asked>,
    pub(super) asked: RequestId,
    pub(super) listeners: Vec<Listener>,
    /// Numbers of transactions in this opening.
    pub(super) numbers: u64,
    pub(super) ids: u64,
    pub(super) history: History,
    pub(super) found: Found,
    pub(super) looks: Vec<LastLook>,
    /// What was read at older versions and must be read again.
    pub(super) readings: Vec<Reading>,
    /// Transactions that may still begin in this opening.
    pub(super) budget: u64,
    pub(super) closing: Closing,
    /// The snapshot that is being taken.
    pub(super) taking: Option<Snapshotting<Inode>>,
    /// The highest version whose acknowledgement has left.
    pub(super) acknowledged: BTreeMap<usize, Version>,
    /// Everything up to here was acknowledged as durable.
    pub(super) safe: Version,
    pub(super) has_failed: bool,
    pub(super) crash_after: u64,
    /// How many shards the opening has.
    pub(super) shards_before: usize,
    pub(super) stats: Stats,
    /// A fixed script with one fault in it, in place of the swarm's.
    pub(super) plan: Option<Plan>,
    pub(super) trace: Trace,
}

impl World {
    pub(super) fn new(seed: u64, mode: Mode, trace: Trace) -> Self {
        let mut rng = Rng::new(seed ^ (mode as u64) << 56);
        let swarm = Swarm::draw(mode, &mut rng);
        let layout = Layout { shards: swarm.shards, partitioning: swarm.partitioning };
        let clients = (0..swarm.clients).map(|_| Client::default()).collect();
        let disk = Disk::new(Rng::new(rng.next()));
        Self {
            rng,
            swarm,
            now: 1,
            queue: BTreeMap::new(),
            scheduled: 0,
            mesh: Mesh::default(),
            nodes: Vec::new(),
            disk,
            manifest: None,
            recovery_calls: 10,
            clock: Clock::default(),
            highest: Version::ZERO,
            layout,
            clients,
            requests: BTreeMap::new(),
            asked: 0,
            listeners: Vec::new(),
            numbers: 0,
            ids: 0,
            history: History::default(),
            found: Found::default(),
            looks: Vec::new(),
            readings: Vec::new(),
            budget: 0,
            closing: Closing::default(),
            taking: None,
            acknowledged: BTreeMap::new(),
            safe: Version::ZERO,
            has_failed: false,
            crash_after: u64::MAX,
            shards_before: 1,
            stats: Stats { seeds: 1, ..Stats::default() },
            plan: None,
            trace,
        }
    }

    /// Notes something in the trace.
    pub(super) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.queue.insert((at.max(self.now), self.scheduled), event);
    }

    /// Sends something: it arrives after everything sent before it on the same link.
    pub(super) fn send(&mut self, leaves: u64, from: Party, to: Party, event: Event) {
        let at = self.mesh.send(&mut self.rng, leaves.max(self.now), from, to, self.swarm.longest_link);
        self.schedule(at, event);
    }

    /// Nothing that was under way arrives any more.
    pub(super) fn forget_events(&mut self) {
        self.queue.clear();
        self.mesh.crash();
        self.requests.clear();
    }

    /// Runs all openings of the seed.
    pub(super) fn run(&mut self) {
        for opening in 0..self.swarm.openings {
            self.open(opening);
            while let Some(((at, _), event)) = self.queue.pop_first() {
                self.now = at;
                self.stats.events += 1;
                if !self.happen(event) {
                    break;
                }
            }
            self.end_opening();
        }
        self.open(self.swarm.openings);
    }

    /// Returns whether the opening goes on.
    fn happen(&mut self, event: Event) -> bool {
        self.crash_after = self.crash_after.saturating_sub(1);
        if self.crash_after == 0 {
            self.crash();
            return false;
        }
        self.may_begin_snapshot();
        match event {
            Event::Think(client) => self.think(client),
            Event::Resume(client) => self.pump(client),
            Event::Arrive(shard, input) => self.arrive(shard, input),
            Event::Answer(id, result) => self.answered(id, result),
            Event::Run(shard) => self.run_shard(shard),
            Event::Tick(shard) => self.tick(shard),
            Event::Written { shard, ticket, through, fails } => self.written(shard, ticket, through, fails),
            Event::Prepared { shard, index, capacity, fails } => self.prepared(shard, index, capacity, fails),
            Event::Crash => {
                self.crash();
                return false;
            }
            Event::Close => self.close(),
        }
        if self.disk.is_dead() {
            self.crash();
            return false;
        }
        self.goes_on()
    }

    /// Whether anything but ticks is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.queue.values().any(|event| !matches!(event, Event::Tick(_)))
    }

    /// When something of this kind happens next.
    pub(super) fn next_event(&self) -> Option<u64> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// What all shards hold at a version.
    pub(super) fn contents_at(&self, snapshot: Version) -> BTreeMap<Cell, Content> {
        super::lifecycle::contents(self.nodes.iter().map(|node| node.shard.memory()), snapshot)
    }
}
