//! The world: shards, clients, the disk, the mesh and one clock, driven by one seed.
//!
//! - Everything that happens is an event with a time; events of one time happen in the order they were made.
//! - Nothing here decides what is right: that is the oracle.

use std::collections::{BTreeMap, VecDeque};

use super::checkpoints::Taking;
use super::client::Client;
use super::clock::Clock;
use super::damage::{Ending, Kind};
use super::disk::{Disk, Ticket};
use super::faults::{Fault, Operation, Site, fault_at, sites};
use super::lifecycle::Closing;
use super::mesh::{Mesh, Message, Party};
use super::oracle::Oracle;
use super::planted::Bug;
use super::rng::Rng;
use super::subscribers::Subscribers;
use super::swarm::{Mode, Swarm};
use super::trace::Trace;
use crate::base::cursor::Place;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::message::TransactionNumber;
use crate::disk::progress::Progress;
use crate::format::manifest::Manifest;
use crate::format::record::Position;
use crate::shard::input::{Input, Request, RequestId};
use crate::shard::machine::Shard;

/// What can happen.
#[derive(Debug)]
pub(super) enum Event {
    Arrive {
        to: Party,
        message: Message,
    },
    /// A shard has something to do.
    Wake {
        shard: usize,
    },
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
    /// A segment that could not be made may be asked for again.
    AskAgain {
        shard: usize,
    },
    /// A client goes on.
    Think {
        client: usize,
    },
    /// A subscriber asks for more.
    Listen {
        subscriber: usize,
    },
    /// It hears what it was told, and stands there then.
    Told {
        subscriber: usize,
        place: Place,
        versions: Vec<Version>,
    },
    /// The keeper extends the clock's reservation.
    Reserve,
    /// The next step of a snapshot.
    Snapshot,
    Crash,
    Close,
    /// Every shard has stopped.
    Reopen,
}

/// A shard and what its driver keeps.
#[expect(clippy::struct_excessive_bools, reason = "what its driver knows of it is independent")]
pub(super) struct Node {
    pub(super) shard: Shard,
    pub(super) inbox: VecDeque<Input>,
    pub(super) wake_at: Option<u64>,
    pub(super) is_closing: bool,
    pub(super) is_stopped: bool,
    pub(super) is_poisoned: bool,
    /// Requests that wait at the door.
    pub(super) waiting: BTreeMap<RequestId, Request>,
    /// A segment could not be made since the last one that was.
    pub(super) is_short: bool,
    /// And it was not asked for again.
    pub(super) is_refusing: bool,
    /// A segment is being made.
    pub(super) is_preparing: bool,
    /// It is, or may be asked for in this step.
    pub(super) is_asking: bool,
}

/// What happened how often.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub(super) crashes: u64,
    pub(super) crashes_in_recovery: u64,
    pub(super) crashes_in_writes: u64,
    pub(super) torn: u64,
    pub(super) late: u64,
    pub(super) closes: u64,
    pub(super) shortages: u64,
    pub(super) reshards: u64,
    pub(super) faults: u64,
    pub(super) segments: u64,
    /// Segments begun after another was full.
    pub(super) rotations: u64,
    /// Messages from shard to shard.
    pub(super) messages: u64,
    pub(super) audits: u64,
    pub(super) replays: u64,
    pub(super) proven: u64,
    pub(super) explained: u64,
    /// Openings that failed.
    pub(super) refusals: u64,
    pub(super) snapshots: u64,
    /// Recoveries that started from one.
    pub(super) loads: u64,
}

/// Everything there is.
pub(super) struct World {
    pub(super) swarm: Swarm,
    pub(super) bug: Option<Bug>,
    pub(super) rng: Rng,
    pub(super) now: u64,
    made: u64,
    pub(super) queue: BTreeMap<(u64, u64), Event>,
    pub(super) disk: Disk,
    pub(super) mesh: Mesh,
    pub(super) clock: Clock,
    pub(super) nodes: Vec<Node>,
    pub(super) manifest: Option<Manifest>,
    /// The incarnation of the last opening.
    pub(super) served: u32,
    /// How many calls the last recovery needed.
    pub(super) recovery_calls: u64,
    pub(super) taking: Taking,
    /// Set while the database closes.
    pub(super) closing: Option<Closing>,
    pub(super) clients: Vec<Client>,
    pub(super) subscribers: Subscribers,
    pub(super) runs: Vec<RunId>,
    pub(super) requests: RequestId,
    /// When the last request was sent.
    pub(super) asked_at: u64,
    pub(super) transactions: u64,
    /// Whether time stood still at the reservation in this opening.
    pub(super) stood_still: bool,
    /// Whether a write took seconds in this opening.
    pub(super) stalled: bool,
    /// What goes wrong most often, and at which calls.
    pub(super) favourite: (Operation, Fault),
    /// How far writes have come that were short.
    pub(super) progress: BTreeMap<Ticket, Progress>,
    /// Whether a segment could not be made in this opening.
    pub(super) had_shortage: bool,
    /// When the last shard that had no room got a segment.
    pub(super) shortage_ended: u64,
    /// The highest version of the last opening.
    pub(super) highest: Version,
    /// A planted bug: how many steps of a transaction were kept from its shard.
    pub(super) untracked: BTreeMap<TransactionNumber, u64>,
    pub(super) shadows: u64,
    /// What came of damage at rest.
    pub(super) damages: BTreeMap<(Kind, Ending), u64>,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    pub(super) stats: Stats,
}

/// No run of a seed takes more events.
const EVENTS: u64 = 400_000;
/// Nobody waits that long for an answer.
pub(super) const PATIENCE: u64 = 200_000_000_000;

impl World {
    pub(super) fn new(seed: u64, mode: Mode, bug: Option<Bug>, mut trace: Trace) -> Self {
        let mut rng = Rng::new(seed);
        let mut swarm = Swarm::new(mode, &mut rng);
        if let Some(bug) = bug {
            bug.adjust(&mut swarm);
        }
        let favourites: Vec<_> = sites().into_iter().filter_map(fault_at).collect();
        let favourite = favourites[usize::try_from(seed).unwrap() % favourites.len()];
        let clients = swarm.clients as u64;
        let runs = (0..swarm.runs).map(|_| RunId::from_bytes(rng.bytes())).collect();
        trace.note(0, format_args!("{swarm:?}"));
        Self {
            bug,
            now: 0,
            made: 0,
            queue: BTreeMap::new(),
            disk: Disk::new(Rng::new(rng.next())),
            mesh: Mesh::default(),
            clock: Clock::start_after(Version::ZERO, 0, 0),
            nodes: Vec::new(),
            manifest: None,
            served: 0,
            recovery_calls: 10,
            taking: Taking::default(),
            closing: None,
            clients: (0..clients).map(|_| Client::new(swarm.scripts / clients + 1)).collect(),
            subscribers: Subscribers::new(seed, bug.is_some_and(Bug::is_of_subscriptions)),
            runs,
            requests: 0,
            asked_at: 0,
            untracked: BTreeMap::new(),
            shadows: u64::MAX,
            transactions: 0,
            stood_still: false,
            stalled: false,
            favourite,
            progress: BTreeMap::new(),
            had_shortage: false,
            shortage_ended: 0,
            highest: Version::ZERO,
            oracle: Oracle::new(swarm.mode, swarm.history),
            damages: BTreeMap::new(),
            trace,
            stats: Stats::default(),
            swarm,
            rng,
        }
    }

    /// Lets this go wrong more often than anything else.
    pub(super) fn favour(&mut self, site: Site) {
        self.favourite = fault_at(site).unwrap_or(self.favourite);
        (self.swarm.faults, self.swarm.close, self.swarm.crash_in_recovery) = (900, 15, 0);
        (self.swarm.crash, self.swarm.damage) = (1_000, 0);
    }

    /// Runs a seed to its end.
    pub(super) fn run(&mut self) {
        self.reopen(None);
        for _ in 0..EVENTS {
            if self.is_done() {
                return self.finish();
            }
            self.next_event();
            let waited = self.now - self.asked_at;
            assert!(waited < PATIENCE, "somebody waits for ever: handled={}", self.oracle.unanswered());
        }
        panic!("the simulation does not come to an end: {:?}", self.queue.iter().take(5).collect::<Vec<_>>());
    }

    fn is_done(&self) -> bool {
        self.clients.iter().all(Client::is_done) && self.oracle.unanswered() == 0 && !self.is_closing()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some() || self.nodes.iter().any(|node| node.is_closing || !node.inbox.is_empty())
    }

    /// Handles the next event.
    pub(super) fn next_event(&mut self) {
        let Some(((now, _), event)) = self.queue.pop_first() else {
            let waiting: Vec<_> = self.clients.iter().map(|client| &client.waits_for).collect();
            panic!("nothing happens any more, and somebody waits: {waiting:?} handled={}", self.oracle.unanswered());
        };
        self.now = now;
        match event {
            Event::Arrive { to, message } => self.arrive(to, message),
            Event::Wake { shard } => {
                if self.nodes[shard].wake_at.take_if(|at| *at == now).is_some() {
                    self.wake(shard);
                }
            }
            Event::Written { shard, ticket, through, fails } => self.written(shard, ticket, through, fails),
            Event::Prepared { shard, index, capacity, fails } => self.prepared(shard, index, capacity, fails),
            Event::AskAgain { shard } => self.tell(shard, Input::AskAgain),
            Event::Think { client } => self.think(client),
            Event::Listen { subscriber } => self.listen(subscriber),
            Event::Told { subscriber, place, versions } => self.told(subscriber, place, versions),
            Event::Reserve => self.reserve(),
            Event::Snapshot => self.go_on_with_snapshot(),
            Event::Crash => return self.crash(),
            Event::Close => self.close(),
            Event::Reopen => return self.closed(),
        }
        if self.disk.is_dead() {
            return self.crash();
        }
        self.may_begin_snapshot();
        if self.disk.is_dead() || self.rng.below(100_000) < self.swarm.crash {
            self.crash();
        }
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.made += 1;
        self.queue.insert((at.max(self.now), self.made), event);
    }

    /// Lets a shard come to life at a time, unless it does so earlier.
    pub(super) fn wake_by(&mut self, shard: usize, at: u64) {
        let node = &mut self.nodes[shard];
        if !node.is_stopped && node.wake_at.is_none_or(|planned| at < planned) {
            node.wake_at = Some(at);
            self.schedule(at, Event::Wake { shard });
        }
    }

    fn arrive(&mut self, to: Party, message: Message) {
        match (to, message) {
            (Party::Shard(shard), Message::Request { id, request }) => {
                self.nodes[shard].inbox.push_back(Input::Request { id, request });
                let service = self.rng.below(2) * self.rng.below(2_000);
                self.wake_by(shard, self.now + service);
            }
            (Party::Shard(shard), Message::Peer { from, envelope }) => {
                self.tell(shard, Input::Peer { from, envelope });
            }
            (Party::Client(client), Message::Reply { id, version }) => {
                self.oracle.heard(version);
                let client_state = &mut self.clients[client];
                assert!(client_state.waits_for.remove(&id), "client {client} got an answer it does not wait for: {id}");
                if client_state.waits_for.is_empty() {
                    let think = self.rng.below(self.swarm.think);
                    self.schedule(self.now + think, Event::Think { client });
                }
            }
            (Party::Keeper, Message::Reply { id, .. }) => self.answered(id),
            (to, message) => panic!("{to:?} does not understand {message:?}"),
        }
    }
}
