//! Feeding: subscribers are told what was committed.
//!
//! - Changes are told in the order of their versions. While a transaction is in doubt, nothing from its prepare timestamp
//!   on is told: its own changes may come before that.
//! - A subscription that is not live catches up from history, page by page, in steps of this shard: between the last page
//!   and the first change that is queued, nothing is lost and nothing comes twice.
//! - What is told leaves by the gate, as every answer. When the log has failed, nothing is told any more.

use std::ops::Bound;

use super::effect::Effect;
use super::input::RequestId;
use super::machine::{Outcome, Shard, closed};
use super::subscriptions::{Start, Subscription, SubscriptionNumber, Topic};
use crate::base::cursor::{Cursor, Place};
use crate::base::error::{Error, Result};
use crate::base::key::{Space, number_name};
use crate::base::limits::{SUBSCRIPTION_BYTES, SUBSCRIPTION_CHANGES};
use crate::base::planted::{Bug, planted};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::primitive::output::{Output, Reply};
use crate::store::changes::{Change, Changes};
use crate::store::memory::Memory;

impl Shard {
    /// Somebody subscribes. The answer is the first page, perhaps an empty one: nothing that is committed later is missed.
    pub(super) fn subscribe(&mut self, id: RequestId, number: SubscriptionNumber, topic: Topic, start: Start) {
        self.latest = self.latest.max(self.now);
        let is_live = !matches!(start, Start::At(_));
        let current = if start == Start::Current { self.current(&topic) } else { None };
        let place = match start {
            Start::At(place) => place,
            Start::Now | Start::Current => {
                Place::Change(current.as_ref().map_or(self.latest, |change| change.version.previous()).into())
            }
        };
        if let Place::Change(cursor) = &place
            && cursor.version() > self.latest
        {
            let (version, now) = (cursor.version(), self.now);
            let future = format!("the cursor is in the future: version={version} now={now}");
            return self.answer(id, (Err(Error::InvalidOperation(future)), Version::ZERO));
        }
        let mut subscription = Subscription::new(topic, place);
        subscription.is_live = is_live;
        if let Some(current) = current {
            subscription.add(current);
        }
        subscription.waiting = Some(id);
        subscription.wanted = Some(self.latest);
        self.subscriptions.insert(number, subscription);
    }

    /// The last change of the one key that a topic is about.
    fn current(&self, topic: &Topic) -> Option<Change> {
        let Topic::Keys { run, space, names } = topic else { return None };
        let (name, newest) = self.memory.range(run, *space, names.range(), Version::MAX).next()?;
        Some(Change { run: *run, name: name.clone(), version: newest.version, stored: newest.stored.clone() })
    }

    pub(super) fn next_changes(&mut self, id: RequestId, number: SubscriptionNumber) {
        match self.subscriptions.wake(number) {
            Some(subscription) if subscription.waiting.is_none() => subscription.waiting = Some(id),
            _ => {
                let unknown = Error::InvalidOperation("there is no such subscription, or it is waiting".into());
                self.answer(id, (Err(unknown), Version::ZERO));
            }
        }
    }

    pub(super) fn advance(&mut self, number: SubscriptionNumber, through: Version) {
        self.latest = self.latest.max(through);
        if let Some(subscription) = self.subscriptions.wake(number) {
            subscription.wanted = subscription.wanted.max(Some(through));
        }
    }

    /// Answers those who wait for changes that are there now.
    pub(super) fn feed(&mut self) {
        let awake = self.subscriptions.take_awake();
        if awake.is_empty() {
            return;
        }
        let through = self.settled();
        for number in awake {
            let Some(id) = self.subscriptions.get(number).and_then(|subscription| subscription.waiting) else {
                continue;
            };
            let Some(outcome) = self.page(number, through) else { continue };
            if let Some(subscription) = self.subscriptions.get(number) {
                subscription.waiting = None;
            }
            self.answer(id, outcome);
        }
    }

    /// The next page of a subscription up to a version, and the version it depends on; `None` if there is nothing to tell yet.
    fn page(&mut self, number: SubscriptionNumber, through: Version) -> Option<Outcome> {
        if let Err(error) = self.check_not_poisoned() {
            return Some((Err(error), Version::ZERO));
        }
        if let Err(error) = self.catch_up(number) {
            return Some((Err(error), Version::ZERO));
        }
        let subscription = self.subscriptions.get(number)?;
        let (changes, is_drained) = match (&subscription.topic, &mut subscription.place) {
            (Topic::Events { run }, Place::Event(next)) => {
                let (events, is_all) = events_from(&self.memory, *run, *next);
                *next += events.len() as u64;
                (events, is_all)
            }
            _ => (subscription.take(through), subscription.is_live && subscription.is_drained()),
        };
        let is_deleted = subscription.topic.run().is_some_and(|run| self.memory.deleted(&run).is_some());
        let is_end = is_deleted && changes.is_empty() && is_drained;
        let is_wanted = subscription.wanted.is_some_and(|wanted| wanted <= through);
        if changes.is_empty() && !is_end && !is_wanted {
            if subscription.wanted.is_some() || !subscription.is_drained() {
                // It waits for the outcome of a transaction.
                self.subscriptions.wake(number);
            }
            return None;
        }
        if is_wanted {
            subscription.wanted = None;
        }
        let told = match changes.last() {
            Some(last) if !is_drained || last.version > through => Cursor::at(last.version, &last.name),
            _ => through.into(),
        };
        let depends_on = changes.last().map_or(Version::ZERO, |last| last.version);
        let depends_on = if planted(Bug::ChangeNotDurable) { Version::ZERO } else { depends_on };
        let page = Changes { changes, through: told, is_end };
        Some((Ok(Reply::read(Output::Changes(Box::new(page)))), depends_on))
    }

    /// No change at or below this version will come any more.
    fn settled(&self) -> Version {
        if planted(Bug::ToldInDoubt) {
            return self.latest;
        }
        self.intents.lowest().map_or(self.latest, |lowest| self.latest.min(lowest.previous()))
    }

    /// Fetches the next changes from history for a subscription that is not live and has told what it had.
    ///
    /// # Errors
    /// `NotKept`
    fn catch_up(&mut self, number: SubscriptionNumber) -> Result<()> {
        let most = self.subscriptions.most();
        let Some(subscription) = self.subscriptions.get(number) else { return Ok(()) };
        if subscription.is_live || !subscription.is_drained() {
            return Ok(());
        }
        let Place::Change(above) = &subscription.place else { return Ok(()) };
        // A delete of that version may be forgotten, too, when only a part of it was told.
        let version = above.whole();
        let (changes, is_all) = match &subscription.topic {
            Topic::Keys { run, space, .. } if self.memory.is_collected(run, *space, version) => {
                if self.memory.deleted(run).is_some() {
                    // What was not told has gone with the run.
                    subscription.is_live = true;
                    return Ok(());
                }
                let kept_from = self.memory.kept_from(run, *space);
                return Err(Error::NotKept { version, kept_from });
            }
            Topic::Keys { run, space, names } => self.memory.changes(*run, *space, names.range(), above, most),
            Topic::Runs { status } => {
                let found = self.memory.changes_of_runs(*status, above, most);
                found.map_err(|kept_from| Error::NotKept { version, kept_from })?
            }
            Topic::Events { .. } => unreachable!("an event log is read at a sequence"),
        };
        subscription.is_live = is_all || planted(Bug::LiveTooEarly);
        for change in changes {
            subscription.add(change);
        }
        Ok(())
    }

    /// The database is closing.
    pub(super) fn end_subscriptions(&mut self) {
        for id in self.subscriptions.clear() {
            self.effects.push_back(Effect::Reply { id, result: Err(closed()) });
        }
    }
}

/// The next events of a run, as many as fit, one at least, and whether that is all of them.
fn events_from(memory: &Memory, run: RunId, next: u64) -> (Vec<Change>, bool) {
    let range = (Bound::Included(number_name(next)), Bound::Unbounded);
    let mut bytes = 0;
    let mut events = Vec::new();
    for (name, revision) in memory.range(&run, Space::Event, range, Version::MAX) {
        let (version, stored) = (revision.version, revision.stored.clone());
        let change = Change { run, name: name.clone(), version, stored };
        bytes += change.weight();
        if events.len() >= SUBSCRIPTION_CHANGES || (bytes > SUBSCRIPTION_BYTES && !events.is_empty()) {
            return (events, false);
        }
        events.push(change);
    }
    (events, true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::key::Name;
    use crate::base::options::{DurabilityMode, HistoryRetention};
    use crate::commit::message::{Envelope, Message, TransactionNumber};
    use crate::primitive::command::{Command, KvCommand};
    use crate::shard::input::{Input, Request};
    use crate::shard::machine::ShardConfig;
    use crate::shard::subscriptions::Names;

    const RUN: RunId = RunId::from_bytes([1; 16]);
    const X: TransactionNumber = TransactionNumber(7);

    struct World {
        shard: Shard,
        now: u64,
        asked: RequestId,
    }

    impl World {
        fn new() -> Self {
            let mode = DurabilityMode::InMemory;
            let config = ShardConfig { incarnation: 1, shard: 0, shards: 2, mode, read_only: false };
            let shard = Shard::new(config, Memory::new(HistoryRetention::Forever), Version::from(100));
            Self { shard, now: 100, asked: 0 }
        }

        /// The answers to requests, by their numbers.
        fn handle(&mut self, input: Input) -> Vec<(RequestId, Result<Reply>)> {
            self.now += 10;
            self.shard.handle(self.now.into(), input);
            let mut answers = Vec::new();
            while let Some(effect) = self.shard.poll_effect() {
                if let Effect::Reply { id, result } = effect {
                    answers.push((id, result));
                }
            }
            answers
        }

        fn ask(&mut self, request: Request) -> Vec<(RequestId, Result<Reply>)> {
            self.asked += 1;
            self.handle(Input::Request { id: self.asked, request })
        }

        fn put(&mut self, key: &str) -> Vec<(RequestId, Result<Reply>)> {
            self.ask(Request::Execute { run: RUN, command: put(key) })
        }

        fn peer(&mut self, message: Message) -> Vec<(RequestId, Result<Reply>)> {
            self.handle(Input::Peer { from: 1, envelope: Envelope { horizon: Version::ZERO, message } })
        }
    }

    fn put(key: &str) -> Command {
        Command::Kv(KvCommand::Put { key: key.into(), value: 1.into(), ttl: None })
    }

    fn told(answers: &[(RequestId, Result<Reply>)], id: RequestId) -> Option<Vec<(String, u64)>> {
        let (_, result) = answers.iter().find(|(answered, _)| *answered == id)?;
        let Output::Changes(page) = &result.as_ref().unwrap().output else { panic!("no changes: {result:?}") };
        let shown = |change: &Change| (String::from_utf8_lossy(&change.name).into_owned(), change.version.get());
        Some(page.changes.iter().map(shown).collect())
    }

    /// A transaction is promised, another write is committed behind it, and then the transaction is, below that.
    #[test]
    fn what_is_committed_behind_a_transaction_in_doubt_is_told_behind_it() {
        let mut world = World::new();
        let topic = Topic::Keys { run: RUN, space: Space::Kv, names: Names::Prefix(Name::new()) };
        let answers = world.ask(Request::Subscribe { subscription: 1, topic, start: Start::Now });
        assert_eq!(told(&answers, 1), Some(vec![]));
        assert!(world.ask(Request::Next { subscription: 1 }).is_empty());
        let next = world.asked;
        let snapshot = Some(Version::from(100));
        world.ask(Request::Step { transaction: X, operation: 0, snapshot, run: RUN, command: put("x") });
        let participants: Arc<[u32]> = [0, 1].into();
        world.peer(Message::Prepare { transaction: X, operations: 1, participants });
        let prepared = world.shard.latest();
        let answers = world.put("z");
        let behind = world.shard.latest();
        assert_eq!(told(&answers, next), None, "the transaction may come before it");
        let timestamp = Version::from(prepared.get() + 1);
        assert!(timestamp < behind);
        let answers = world.peer(Message::Decide { transaction: X, timestamp, reads: None });
        assert_eq!(told(&answers, next), Some(vec![("x".into(), timestamp.get()), ("z".into(), behind.get())]));
    }

    #[test]
    fn who_asks_how_far_it_is_complete_is_answered_with_nothing() {
        let mut world = World::new();
        let topic = Topic::Runs { status: None };
        world.ask(Request::Subscribe { subscription: 1, topic, start: Start::Now });
        assert!(world.ask(Request::Next { subscription: 1 }).is_empty());
        let next = world.asked;
        let through = Version::from(5_000);
        let answers = world.ask(Request::Advance { subscription: 1, through });
        assert_eq!(told(&answers, next), Some(vec![]));
        assert!(world.shard.latest() >= through, "nothing is committed below it any more");
        world.ask(Request::Unsubscribe { subscription: 1 });
        assert_eq!(world.shard.subscribers(), 0);
        let answers = world.ask(Request::Next { subscription: 1 });
        assert!(matches!(answers[0].1, Err(Error::InvalidOperation(_))));
    }
}
