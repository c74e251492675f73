//! Subscribers: they take what they are told, slowly or fast, and go on where they stood after crashes and in other layouts.
//!
//! - A page must be exactly what the model says was committed from where the subscriber stands up to where the page says it
//!   is complete; in `Strict` mode all of it is durable, and survives.
//! - A subscriber may be told that history does not reach back only where not all of it is kept.
//! - When nothing happens any more, whoever waits has missed nothing.
//! - Their random source is their own: a seed without them is the seed it was.

use std::collections::BTreeSet;

use super::model::{Chain, Home, Run};
use super::rng::Rng;
use super::world::{Event, World};
use crate::base::cursor::{Cursor, Place};
use crate::base::error::{Error, Result};
use crate::base::json::Json;
use crate::base::key::{Name, Space, number_name};
use crate::base::options::{DurabilityMode, HistoryRetention};
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::version::Version;
use crate::primitive::output::{Output, Reply};
use crate::shard::input::{Input, Request, RequestId};
use crate::shard::subscriptions::{Names, Start, SubscriptionNumber, Topic};
use crate::store::changes::Change;

/// Somebody who subscribes.
#[derive(Debug)]
pub(super) struct Subscriber {
    topic: Topic,
    /// Where it stands; nowhere until it has heard something.
    place: Option<Place>,
    /// Its subscription in this opening.
    number: Option<SubscriptionNumber>,
    asked: Option<RequestId>,
    /// The versions it has heard of.
    heard: BTreeSet<Version>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Subscribers {
    rng: Rng,
    all: Vec<Subscriber>,
    /// How many changes a queue takes.
    most: usize,
    numbers: SubscriptionNumber,
    /// What is asked and needs no answer.
    aside: BTreeSet<RequestId>,
    pub(super) changes: u64,
    /// How often somebody began anew because history does not reach back.
    pub(super) restarts: u64,
}

impl Subscribers {
    pub(super) fn new(seed: u64, wanted: bool) -> Self {
        let mut rng = Rng::new(!seed);
        let count = if wanted || rng.chance(400) { rng.index(6) + 1 } else { 0 };
        let most = *rng.pick(&[1, 2, 5, 1024]);
        let subscriber = |_| Subscriber {
            topic: Topic::Events { run: RunId::DIRECTORY },
            place: None,
            number: None,
            asked: None,
            heard: BTreeSet::new(),
        };
        let all = (0..count).map(subscriber).collect();
        Self { rng, all, most, numbers: 0, aside: BTreeSet::new(), changes: 0, restarts: 0 }
    }
}

impl Subscriber {
    fn run(&self) -> RunId {
        match &self.topic {
            Topic::Events { run } | Topic::Keys { run, .. } => *run,
            Topic::Runs { .. } => unreachable!("nobody here subscribes to all runs"),
        }
    }

    fn start(&self) -> Start {
        match (&self.place, &self.topic) {
            (Some(place), _) => Start::At(place.clone()),
            (None, Topic::Events { .. }) => Start::At(Place::Event(0)),
            (None, Topic::Keys { names: Names::One(_), .. }) => Start::Current,
            (None, _) => Start::Now,
        }
    }
}

/// A change that must have been told; one that left no trace may have been.
#[derive(Debug)]
struct Expected {
    name: Name,
    version: Version,
    stored: Option<Stored>,
    may_be_missing: bool,
}

impl World {
    /// A new opening: everybody subscribes again.
    pub(super) fn begin_subscriptions(&mut self) {
        self.subscribers.aside.clear();
        for node in &mut self.nodes {
            node.shard.limit_queues(self.subscribers.most);
        }
        let is_strict = self.swarm.mode == DurabilityMode::Strict;
        for at in 0..self.subscribers.all.len() {
            let subscriber = &mut self.subscribers.all[at];
            (subscriber.number, subscriber.asked) = (None, None);
            let chain = self.oracle.model.runs.get(&subscriber.run());
            if is_strict {
                let kept: BTreeSet<Version> = chain.into_iter().flat_map(Chain::versions).collect();
                let lost = subscriber.heard.difference(&kept).next();
                assert_eq!(lost, None, "a subscriber was told of what is lost: {subscriber:?}");
            }
            subscriber.heard.clear();
            // What was lost is not missed, nor what comes in its place.
            let run = chain.map(Chain::last).unwrap_or_default();
            if let Some(Place::Event(next)) = subscriber.place.as_mut().filter(|_| !run.deleted) {
                let len = run.events.len() as u64;
                assert!(!is_strict || *next <= len, "a subscriber was told of an event that is lost");
                *next = len.min(*next);
            }
            if self.swarm.mode == DurabilityMode::InMemory {
                subscriber.place = None;
            }
            self.ask_later(at);
        }
    }

    fn ask_later(&mut self, subscriber: usize) {
        let rng = &mut self.subscribers.rng;
        let longest = *rng.pick(&[1, 1_000, 50_000, 2_000_000]);
        let after = rng.below(longest);
        self.schedule(self.now + after, Event::Listen { subscriber });
    }

    /// A subscriber asks for more.
    pub(super) fn listen(&mut self, at: usize) {
        let gives_up = self.subscribers.rng.chance(50);
        let is_done = |run: RunId| run == RunId::DIRECTORY || self.oracle.model.run(run).deleted;
        let mut is_new = self.subscribers.all[at].place.is_none();
        is_new |= is_done(self.subscribers.all[at].run()) && self.subscribers.rng.chance(500);
        if is_new && self.subscribers.all[at].number.is_none() {
            let topic = self.pick_topic();
            let subscriber = &mut self.subscribers.all[at];
            (subscriber.topic, subscriber.place) = (topic, None);
            subscriber.heard.clear();
        }
        let shard = Home::of_run(&self.subscribers.all[at].run(), self.nodes.len());
        let node = &self.nodes[shard];
        if node.is_stopped || node.is_closing || node.is_poisoned {
            return;
        }
        if gives_up && let Some(subscription) = self.subscribers.all[at].number.take() {
            let id = self.request(shard, Request::Unsubscribe { subscription });
            self.subscribers.aside.insert(id);
        }
        let request = if let Some(subscription) = self.subscribers.all[at].number {
            Request::Next { subscription }
        } else {
            self.subscribers.numbers += 1;
            let subscriber = &mut self.subscribers.all[at];
            subscriber.number = Some(self.subscribers.numbers);
            let (topic, start) = (subscriber.topic.clone(), subscriber.start());
            Request::Subscribe { subscription: self.subscribers.numbers, topic, start }
        };
        let id = self.request(shard, request);
        self.subscribers.all[at].asked = Some(id);
    }

    fn request(&mut self, shard: usize, request: Request) -> RequestId {
        self.requests += 1;
        self.tell(shard, Input::Request { id: self.requests, request });
        self.requests
    }

    fn pick_topic(&mut self) -> Topic {
        let rng = &mut self.subscribers.rng;
        let run = *rng.pick(&self.runs);
        let key = format!("k{}", rng.below(self.swarm.keys));
        let name = Name::from_slice(key.as_bytes());
        let prefix = Names::Prefix(Name::from_slice(if rng.chance(700) { b"" } else { b"k1" }));
        match rng.below(5) {
            0 => Topic::Events { run },
            1 => Topic::Keys { run, space: Space::State, names: Names::One(name) },
            2 => Topic::Keys { run, space: Space::Json, names: prefix },
            _ => Topic::Keys { run, space: Space::Kv, names: prefix },
        }
    }

    /// Whether a subscriber has asked that.
    pub(super) fn is_of_subscriber(&self, id: RequestId) -> bool {
        self.subscribers.aside.contains(&id)
            || self.subscribers.all.iter().any(|subscriber| subscriber.asked == Some(id))
    }

    /// An answer to a subscriber leaves its shard.
    pub(super) fn subscriber_answered(&mut self, shard: usize, id: RequestId, result: Result<Reply>) {
        if self.subscribers.aside.remove(&id) {
            return;
        }
        let asked = self.subscribers.all.iter().position(|subscriber| subscriber.asked == Some(id));
        let at = asked.expect("somebody has asked");
        let subscriber = &self.subscribers.all[at];
        let changes = match result {
            Ok(Reply { output: Output::Changes(changes), .. }) => *changes,
            Ok(other) => panic!("a subscriber was answered another question: {other:?}"),
            Err(Error::NotKept { version, kept_from }) => {
                assert!(version < kept_from && self.may_have_forgotten(subscriber.run()), "all of it is kept");
                self.subscribers.restarts += 1;
                return self.begin_anew(at, shard);
            }
            Err(Error::Unavailable(_)) => return self.subscribers.all[at].asked = None,
            Err(error) => panic!("a subscriber was refused: {error} {subscriber:?}"),
        };
        if let Some(last) = changes.changes.last().filter(|_| self.swarm.mode == DurabilityMode::Strict) {
            let ledger = &self.oracle.ledgers[shard];
            let is_durable = ledger.count_through(last.version) <= ledger.durable;
            assert!(is_durable, "a subscriber is told of what is not durable: {}", last.version);
        }
        if changes.is_end {
            // What was not told has gone with the run.
            assert!(self.oracle.model.run(subscriber.run()).deleted, "the run is there");
            assert!(changes.changes.is_empty(), "this is the end");
            return self.begin_anew(at, shard);
        }
        let expected = self.expected(at, &changes.through);
        assert!(
            agree(&expected, &changes.changes, subscriber.place.is_none()),
            "a subscriber is told what is not so: {changes:?} {expected:?} {subscriber:?}"
        );
        self.subscribers.changes += changes.changes.len() as u64;
        let versions = changes.changes.iter().map(|change| change.version).collect();
        let place = match (&subscriber.topic, changes.changes.last()) {
            (Topic::Events { .. }, _) => {
                let next = subscriber.place.as_ref().map_or(0, |place| match place {
                    Place::Event(next) => *next,
                    Place::Change(_) => unreachable!("events are told by sequence"),
                });
                Place::Event(next + changes.changes.len() as u64)
            }
            (_, Some(last)) if changes.through.whole() >= last.version && self.subscribers.rng.chance(900) => {
                Place::Change(last.version.into())
            }
            (_, Some(last)) => Place::Change(Cursor::at(last.version, &last.name)),
            (_, None) => subscriber.place.clone().unwrap_or(Place::Change(changes.through)),
        };
        let after = self.subscribers.rng.below(self.swarm.longest_link);
        self.schedule(self.now + after, Event::Told { subscriber: at, place, versions });
    }

    /// A subscriber hears what it was told.
    pub(super) fn told(&mut self, at: usize, place: Place, versions: Vec<Version>) {
        let subscriber = &mut self.subscribers.all[at];
        (subscriber.place, subscriber.asked) = (Some(place), None);
        subscriber.heard.extend(versions);
        self.ask_later(at);
    }

    fn begin_anew(&mut self, at: usize, shard: usize) {
        let subscriber = &mut self.subscribers.all[at];
        (subscriber.place, subscriber.asked) = (None, None);
        if let Some(subscription) = subscriber.number.take() {
            let id = self.request(shard, Request::Unsubscribe { subscription });
            self.subscribers.aside.insert(id);
        }
        self.ask_later(at);
    }

    fn may_have_forgotten(&self, run: RunId) -> bool {
        let policy = self.swarm.history;
        let last = self.oracle.model.run(run);
        let is_forever = |history: HistoryRetention| history == HistoryRetention::Forever;
        last.deleted || !is_forever(last.retained(policy)) || !is_forever(policy.active)
    }

    /// What was committed from where a subscriber stands up to a place.
    fn expected(&self, at: usize, through: &Cursor) -> Vec<Expected> {
        let subscriber = &self.subscribers.all[at];
        let Some(chain) = self.oracle.model.runs.get(&subscriber.run()) else { return Vec::new() };
        let mut before = Run::default();
        let mut all = Vec::new();
        for version in chain.versions().take_while(|version| *version <= through.version()) {
            let state = chain.at(version);
            all.extend(changes_of(&subscriber.topic, &before, &state, version));
            before = state;
        }
        all.retain(|expected| match &subscriber.place {
            _ if through.is_before(expected.version, &expected.name) => false,
            None => true,
            Some(Place::Event(next)) => expected.name >= number_name(*next),
            Some(Place::Change(cursor)) => cursor.is_before(expected.version, &expected.name),
        });
        all
    }

    /// Nothing happens any more: whoever waits has been told everything.
    pub(super) fn assert_told(&self) {
        let registered: usize = self.nodes.iter().map(|node| node.shard.subscribers()).sum();
        let known = self.subscribers.all.iter().filter(|subscriber| subscriber.number.is_some()).count();
        assert_eq!(registered, known, "a subscription is forgotten when it is given up, and not before");
        for (at, subscriber) in self.subscribers.all.iter().enumerate() {
            let node = &self.nodes[Home::of_run(&subscriber.run(), self.nodes.len())];
            if subscriber.place.is_none() || subscriber.asked.is_none() || node.is_poisoned {
                continue;
            }
            let missed = self.expected(at, &node.shard.latest().into());
            let missed = missed.iter().filter(|expected| !expected.may_be_missing).count();
            assert_eq!(missed, 0, "a subscriber waits and was not told: {subscriber:?}");
        }
    }
}

/// What a commit changed that a topic is about, in order.
fn changes_of(topic: &Topic, before: &Run, after: &Run, version: Version) -> Vec<Expected> {
    let change = |name: Name, stored: Option<Stored>| Expected { name, version, stored, may_be_missing: false };
    let text = |text: &str| Name::from_slice(text.as_bytes());
    let mut all = Vec::new();
    if after.deleted {
        return all;
    }
    match topic {
        Topic::Events { .. } => {
            let new = after.events.iter().skip(before.events.len());
            all.extend(new.map(|event| change(number_name(event.sequence), Some(Stored::Event(event.clone())))));
        }
        Topic::Keys { space: Space::Kv, .. } => {
            for (key, revisions) in after.pairs.iter() {
                let Some((last, earlier)) = revisions.split_last().filter(|(last, _)| last.version == version) else {
                    continue;
                };
                let held = earlier.last().is_some_and(|old| old.value.is_some() && version < old.expires);
                let stored = last.value.clone().map(|value| Stored::Value(value.into()));
                let may_be_missing = stored.is_none() && !held;
                all.push(Expected { may_be_missing, ..change(text(key), stored) });
            }
        }
        Topic::Keys { space: Space::State, .. } => {
            for (name, cell) in after.cells.iter() {
                let old = before.cells.get(name).map(|old| (old.version, old.state.is_some()));
                if old != Some((cell.version, cell.state.is_some())) && cell.version > 0 {
                    let stored = cell.state.clone().map_or(Stored::DeletedState(cell.version), Stored::State);
                    all.push(change(text(name), Some(stored)));
                }
            }
        }
        Topic::Keys { .. } => {
            for (key, document) in after.documents.iter().filter(|(_, document)| document.version == version) {
                let root = Json::from_value(document.root.clone()).unwrap();
                let stored = Stored::Json(std::sync::Arc::new(crate::base::json::Document::new(root)));
                all.push(change(text(key), Some(stored)));
            }
            let gone = before.documents.keys().filter(|key| !after.documents.contains_key(*key));
            all.extend(gone.map(|key| change(text(key), None)));
            all.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Topic::Runs { .. } => {}
    }
    if let Topic::Keys { names, .. } = topic {
        all.retain(|expected| match names {
            Names::One(name) => *name == expected.name,
            Names::Prefix(prefix) => expected.name.starts_with(prefix),
        });
    }
    all
}

/// Whether a page is what was expected; the end of it, for one who has just begun.
fn agree(expected: &[Expected], told: &[Change], is_new: bool) -> bool {
    let first = told.first().map(|first| (first.version, first.name.clone()));
    let mut told = told.iter().peekable();
    for expected in expected {
        let is_before =
            first.as_ref().is_none_or(|(version, name)| (expected.version, &expected.name) < (*version, name));
        if is_new && is_before {
            continue;
        }
        let is_told = told.peek().is_some_and(|told| {
            (told.version, &told.name, &told.stored) == (expected.version, &expected.name, &expected.stored)
        });
        if is_told {
            told.next();
        } else if !expected.may_be_missing {
            return false;
        }
    }
    told.next().is_none()
}
