//! Listeners: on every shard somebody takes at once whatever is told of a run, and holds it against the shard's memory.
//!
//! - Changes come in order, each once, and nothing up to where a page says it is complete is left out.
//! - In `Strict` mode, what was told is there after a crash.
//! - They use no random source and no time: a seed is the same with them.

use std::collections::BTreeSet;

use super::cell::run_id;
use super::world::World;
use crate::base::error::{Error, Result};
use crate::base::key::{Name, Space};
use crate::base::options::{DurabilityMode, HistoryRetention};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::primitive::output::{Output, Reply};
use crate::shard::input::{Input, Request, RequestId};
use crate::shard::subscriptions::{Names, Start, Topic};
use crate::store::memory::Memory;

/// No client's request has a number from here on.
pub(super) const FIRST: RequestId = RequestId::MAX / 2;
const RUN: RunId = run_id(0);

/// Somebody who listens on a shard.
#[derive(Debug)]
pub(super) struct Listener {
    shard: usize,
    space: Space,
    start: Version,
    told: BTreeSet<(Version, Name)>,
}

impl World {
    /// A new opening: what was told in the last one is there.
    pub(super) fn begin_listening(&mut self) {
        let is_kept = self.swarm.mode == DurabilityMode::Strict && self.swarm.history == HistoryRetention::Forever;
        for listener in self.listeners.iter().filter(|_| is_kept) {
            let memories = self.nodes.iter().map(|node| node.shard.memory());
            if memories.clone().any(|memory| memory.deleted(&RUN).is_some()) {
                continue;
            }
            let found: BTreeSet<_> = memories.flat_map(|memory| changes(memory, listener.space)).collect();
            let lost = listener.told.difference(&found).next();
            assert_eq!(lost, None, "a subscriber was told of what is lost: {:?}", listener.space);
        }
        let places = (0..self.nodes.len()).flat_map(|shard| [(shard, Space::Kv), (shard, Space::State)]);
        let listener = |(shard, space): (usize, Space)| {
            let start = self.nodes[shard].shard.latest();
            Listener { shard, space, start, told: BTreeSet::new() }
        };
        self.listeners = places.map(listener).collect();
        for at in 0..self.listeners.len() {
            let topic = Topic::Keys { run: RUN, space: self.listeners[at].space, names: Names::Prefix(Name::new()) };
            self.listen(at, Request::Subscribe { subscription: at as u64, topic, start: Start::Now });
        }
    }

    fn listen(&mut self, at: usize, request: Request) {
        let now = self.clock.at(self.now).into();
        let shard = self.listeners[at].shard;
        self.nodes[shard].shard.handle(now, Input::Request { id: FIRST + at as u64, request });
    }

    /// A listener is told something.
    pub(super) fn heard(&mut self, id: RequestId, result: Result<Reply>) {
        let at = usize::try_from(id - FIRST).unwrap();
        let listener = &mut self.listeners[at];
        let page = match result {
            Ok(Reply { output: Output::Changes(page), .. }) => *page,
            Err(Error::Unavailable(_)) => return,
            Err(Error::NotKept { .. }) if self.swarm.history != HistoryRetention::Forever => return,
            other => panic!("a subscriber was answered another question: {other:?}"),
        };
        for change in page.changes {
            let change = (change.version, change.name);
            let is_next = listener.told.last().is_none_or(|last| *last < change);
            assert!(is_next, "a subscriber is told what comes before what it was told: {change:?}");
            listener.told.insert(change);
        }
        let memory = self.nodes[listener.shard].shard.memory();
        let mut found = changes(memory, listener.space);
        let is_due =
            |(version, name): &(Version, Name)| *version > listener.start && !page.through.is_before(*version, name);
        let missed = found.find(|change| is_due(change) && !listener.told.contains(change));
        assert_eq!(missed, None, "a subscriber was not told: {:?}", listener.space);
        drop(found);
        if !page.is_end {
            self.listen(at, Request::Next { subscription: at as u64 });
        }
    }
}

/// The changes of a run that a memory knows of: no delete of what was not there.
fn changes(memory: &Memory, space: Space) -> impl Iterator<Item = (Version, Name)> {
    let all = memory.every_revision().filter(move |(run, of, ..)| (*run, *of) == (RUN, space));
    let mut before = None;
    all.filter_map(move |(_, _, name, revision)| {
        let is_there = revision.stored.is_some();
        let was_there = before.replace((name, is_there)) == Some((name, true));
        (is_there || was_there).then(|| (revision.version, name.clone()))
    })
}
