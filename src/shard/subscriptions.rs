//! Subscriptions: who is told of which changes, and what waits for whom.
//!
//! - What is committed while a subscriber looks elsewhere waits in a queue. A queue that is full is emptied, and the
//!   subscriber catches up from history: no queue grows, and no writer waits.
//! - An event log needs no queue: it keeps what it holds.
//! - A subscription has at most one request that waits. Nothing looks for changes that nobody has made.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::input::RequestId;
use crate::base::cursor::{Cursor, Place};
use crate::base::key::{Name, Space, prefix_end};
use crate::base::limits::{SUBSCRIPTION_BYTES, SUBSCRIPTION_CHANGES};
use crate::base::planted::{Bug, planted};
use crate::base::run::RunStatus;
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::version::Version;
use crate::store::changes::Change;
use crate::store::memory::{ALL_SPACES, Memory, NameRange};

/// Names a subscription; no other of this opening has the same.
pub(crate) type SubscriptionNumber = u64;

/// What a subscriber is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The events of a run.
    Events { run: RunId },
    /// What the keys of a run hold.
    Keys { run: RunId, space: Space, names: Names },
    /// What is known about the runs that are at home on the shard, where it has this status.
    Runs { status: Option<RunStatus> },
}

/// Which names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    One(Name),
    Prefix(Name),
}

impl Names {
    fn include(&self, name: &[u8]) -> bool {
        match self {
            Self::One(one) => one.as_bytes() == name,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }

    pub(super) fn range(&self) -> NameRange {
        match self {
            Self::One(name) => (Bound::Included(name.clone()), Bound::Included(name.clone())),
            Self::Prefix(prefix) => {
                (Bound::Included(prefix.clone()), prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded))
            }
        }
    }
}

impl Topic {
    /// The run it is about, if it is one.
    pub(super) const fn run(&self) -> Option<RunId> {
        match self {
            Self::Events { run } | Self::Keys { run, .. } => Some(*run),
            Self::Runs { .. } => None,
        }
    }

    const fn space(&self) -> Space {
        match self {
            Self::Events { .. } => Space::Event,
            Self::Keys { space, .. } => *space,
            Self::Runs { .. } => Space::Run,
        }
    }

    fn includes(&self, name: &[u8]) -> bool {
        match self {
            Self::Keys { names, .. } => names.include(name),
            Self::Events { .. } | Self::Runs { .. } => true,
        }
    }

    fn is_about(&self, stored: Option<&Stored>) -> bool {
        match (self, stored) {
            (Self::Runs { status }, Some(Stored::Run(metadata))) => {
                status.is_none_or(|status| metadata.status == status)
            }
            (Self::Runs { .. }, _) => false,
            _ => true,
        }
    }
}

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the next change.
    Now,
    /// With what the one key holds.
    Current,
    At(Place),
}

/// A subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) topic: Topic,
    pub(super) place: Place,
    /// The changes behind the place, in order; all of them if it is live, else the first ones.
    queue: BTreeMap<(Version, Name), Change>,
    bytes: usize,
    pub(super) is_live: bool,
    /// The request that is answered when there is something to tell.
    pub(super) waiting: Option<RequestId>,
    /// It is answered with nothing, too, when nothing at or below this version can come any more.
    pub(super) wanted: Option<Version>,
}

impl Subscription {
    pub(super) const fn new(topic: Topic, place: Place) -> Self {
        Self { topic, place, queue: BTreeMap::new(), bytes: 0, is_live: false, waiting: None, wanted: None }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn add(&mut self, change: Change) {
        self.bytes += change.weight();
        let key = (change.version, change.name.clone());
        if let Some(before) = self.queue.insert(key, change) {
            self.bytes -= before.weight();
        }
    }

    /// Something was committed. What is too much is looked up later.
    fn offer(&mut self, change: Change, most: usize) {
        let is_told = matches!(&self.place, Place::Change(told) if !told.is_before(change.version, &change.name));
        if !self.is_live || is_told {
            return;
        }
        self.add(change);
        if self.queue.len() > most || (self.bytes > SUBSCRIPTION_BYTES && self.queue.len() > 1) {
            self.queue.clear();
            self.bytes = 0;
            self.is_live = planted(Bug::OverflowForgotten);
        }
    }

    /// Takes out the changes up to a version, in order.
    pub(super) fn take(&mut self, through: Version) -> Vec<Change> {
        let mut taken = Vec::new();
        while let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= through) {
            let change = first.remove();
            self.bytes -= change.weight();
            taken.push(change);
        }
        if let Some(last) = taken.last().filter(|_| !planted(Bug::PlaceForgotten)) {
            let is_whole = self.is_live;
            let told = if is_whole { last.version.into() } else { Cursor::at(last.version, &last.name) };
            self.place = Place::Change(told);
        }
        taken
    }
}

/// A change that is about to be applied, and who is to be told.
#[derive(Debug)]
pub(super) enum Concern {
    Key {
        subscription: SubscriptionNumber,
        run: RunId,
        space: Space,
        name: Name,
        deletes: bool,
    },
    /// There is something new to look up.
    News(SubscriptionNumber),
}

/// All subscriptions of a shard.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    all: BTreeMap<SubscriptionNumber, Subscription>,
    by_space: BTreeSet<(RunId, Space, SubscriptionNumber)>,
    of_runs: BTreeSet<SubscriptionNumber>,
    /// Those that may have something to tell.
    awake: BTreeSet<SubscriptionNumber>,
    /// How many changes a queue takes.
    most: usize,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            by_space: BTreeSet::new(),
            of_runs: BTreeSet::new(),
            awake: BTreeSet::new(),
            most: SUBSCRIPTION_CHANGES,
        }
    }
}

impl Subscriptions {
    pub(super) fn insert(&mut self, number: SubscriptionNumber, subscription: Subscription) {
        match subscription.topic.run() {
            Some(run) => drop(self.by_space.insert((run, subscription.topic.space(), number))),
            None => drop(self.of_runs.insert(number)),
        }
        self.all.insert(number, subscription);
        self.awake.insert(number);
    }

    pub(super) fn remove(&mut self, number: SubscriptionNumber) {
        let Some(subscription) = self.all.remove(&number) else { return };
        if let Some(run) = subscription.topic.run() {
            self.by_space.remove(&(run, subscription.topic.space(), number));
        }
        self.of_runs.remove(&number);
        self.awake.remove(&number);
    }

    /// The subscription, which will be looked at.
    pub(super) fn wake(&mut self, number: SubscriptionNumber) -> Option<&mut Subscription> {
        let subscription = self.all.get_mut(&number)?;
        self.awake.insert(number);
        Some(subscription)
    }

    pub(super) fn get(&mut self, number: SubscriptionNumber) -> Option<&mut Subscription> {
        self.all.get_mut(&number)
    }

    pub(super) fn wake_all(&mut self) {
        self.awake.extend(self.all.keys());
    }

    /// Takes out those that may have something to tell.
    pub(super) fn take_awake(&mut self) -> BTreeSet<SubscriptionNumber> {
        std::mem::take(&mut self.awake)
    }

    /// How many changes a queue takes.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// Forgets all of them. Gives out the requests that wait.
    pub(super) fn clear(&mut self) -> Vec<RequestId> {
        let waiting = self.all.values().filter_map(|subscription| subscription.waiting).collect();
        *self = Self { most: self.most, ..Self::default() };
        waiting
    }

    /// Whom the writes of a commit concern that is about to be applied.
    pub(super) fn concerned(&self, writes: &[Write], memory: &Memory) -> Vec<Concern> {
        let mut concerned = Vec::new();
        if self.all.is_empty() {
            return concerned;
        }
        for write in writes {
            let run = write.run();
            let Some((space, name)) = write.key() else {
                let all = self.by_space.range((run, ALL_SPACES[0], 0)..);
                let all = all.take_while(|(of, ..)| *of == run);
                concerned.extend(all.map(|(.., number)| Concern::News(*number)));
                continue;
            };
            let of_space = self.by_space.range((run, space, 0)..=(run, space, SubscriptionNumber::MAX));
            let of_space = of_space.map(|(.., number)| number);
            let of_runs = self.of_runs.iter().filter(|_| space == Space::Run);
            for number in of_space.chain(of_runs) {
                let Some(subscription) = self.all.get(number) else { continue };
                if space == Space::Event {
                    concerned.push(Concern::News(*number));
                } else if subscription.topic.includes(name) {
                    let newest = memory.newest(&run, space, name);
                    let deletes =
                        matches!(write, Write::Delete { .. }) && newest.is_some_and(|newest| newest.stored.is_some());
                    concerned.push(Concern::Key { subscription: *number, run, space, name: name.clone(), deletes });
                }
            }
        }
        concerned
    }

    /// The commit is applied.
    pub(super) fn tell(&mut self, concerned: Vec<Concern>, memory: &Memory, version: Version) {
        for concern in concerned {
            let (number, run, space, name, deletes) = match concern {
                Concern::Key { subscription, run, space, name, deletes } => (subscription, run, space, name, deletes),
                Concern::News(number) => {
                    self.awake.insert(number);
                    continue;
                }
            };
            // What the commit wrote in a run that it deletes was never there.
            if memory.deleted(&run).is_some() {
                continue;
            }
            let newest = memory.newest(&run, space, &name).filter(|newest| newest.version == version);
            let stored = newest.and_then(|newest| newest.stored.clone());
            if stored.is_none() && !deletes {
                continue;
            }
            let Some(subscription) = self.all.get_mut(&number) else { continue };
            if !subscription.topic.is_about(stored.as_ref()) {
                continue;
            }
            let name = if space == Space::Run { Name::from_slice(run.as_bytes()) } else { name };
            subscription.offer(Change { run, name, version, stored }, self.most);
            self.awake.insert(number);
        }
    }

    /// Queues take so many changes from now on.
    #[cfg(test)]
    pub(crate) const fn limit(&mut self, most: usize) {
        self.most = most;
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }
}
