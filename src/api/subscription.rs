//! Subscriptions: committed changes in order, as a stream.
//!
//! - What is told on several shards is put in the order of its versions: a change is given out when every shard has said
//!   that nothing before it will come any more.
//! - A subscription asks each shard for the next page and waits; nothing is asked again and again.
//! - It does not keep the database open, and is forgotten there when it is dropped.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures::{FutureExt, Stream};

use super::op::Op;
use crate::base::cursor::{Cursor, Place};
use crate::base::error::{Error, Result};
use crate::base::event::Event;
use crate::base::key::Name;
use crate::base::version::Version;
use crate::primitive::output::{Output, Reply};
use crate::runtime::engine::Engine;
use crate::runtime::local::LocalReply;
use crate::runtime::reply::ReplyReceiver;
use crate::shard::input::Request;
use crate::shard::subscriptions::{Start, SubscriptionNumber, Topic};
use crate::store::changes::Change;

/// How a change reads; `None` if it is not given out.
pub(crate) type Read<T> = fn(Change) -> Option<T>;

/// Committed changes in order: each once, none left out.
///
/// - In `Strict` mode a change is given out when it is durable; in the other modes when it is visible.
/// - A slow subscriber holds up nobody: it catches up from history. If history does not reach back to where it stands, the
///   stream gives [`Error::NotKept`] and ends.
/// - When the run is deleted the stream ends, with no error; what was not given out by then may go with the run. When the database is closed, or its log fails, it gives
///   `Unavailable` and ends.
/// - A subscription does not keep the database open.
///
/// # Cancel safety
/// A `next` that is dropped loses nothing.
#[must_use = "a subscription does nothing until it is polled"]
pub struct Subscription<T> {
    feed: Feed,
    place: Place,
    read: Read<T>,
}

impl<T: 'static> Subscription<T> {
    /// Subscribes on these shards.
    pub(crate) fn begin(
        engine: &Arc<Engine>,
        shards: Vec<usize>,
        topic: Topic,
        start: Start,
        read: Read<T>,
    ) -> Op<Self> {
        let engine = Arc::clone(engine);
        Op::steps(async move {
            let mut feed = Feed::new(&engine, &shards);
            feed.subscribe(&engine, &topic, &start)?;
            // From here on it keeps the database open no more than later.
            drop(engine);
            let begun = poll_fn(|context| feed.poll_begun(context)).await?;
            let place = match start {
                Start::At(place) => place,
                Start::Now => {
                    poll_fn(|context| feed.poll_reached(begun, context)).await?;
                    feed.skip(begun);
                    Place::Change(begun.into())
                }
                Start::Current => Place::Change(feed.first().map_or(begun, Version::previous).into()),
            };
            Ok(Self { feed, place, read })
        })
    }
}

/// What is subscribed to by version: everything but events.
pub trait ByVersion {}

impl<T: ByVersion> Subscription<T> {
    /// How far it has come, to be taken up again behind the last change that was given out, in another process too.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        match &self.place {
            Place::Change(cursor) => cursor.clone(),
            Place::Event(_) => unreachable!("events are subscribed to by sequence"),
        }
    }
}

impl Subscription<Event> {
    /// The sequence of the next event: subscribe from here to go on, in another process too.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        match &self.place {
            Place::Event(next) => *next,
            Place::Change(_) => unreachable!("events are subscribed to by sequence"),
        }
    }
}

impl<T> Unpin for Subscription<T> {}

impl<T> Stream for Subscription<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let change = match futures::ready!(self.feed.poll_next(context)) {
                Some(Ok(change)) => change,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            self.place = match self.place {
                Place::Event(next) => Place::Event(next + 1),
                Place::Change(_) => Place::Change(self.feed.behind(&change)),
            };
            if let Some(item) = (self.read)(change) {
                return Poll::Ready(Some(Ok(item)));
            }
        }
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("place", &self.place).finish_non_exhaustive()
    }
}

/// What shards tell one subscription.
struct Feed {
    engine: Weak<Engine>,
    number: SubscriptionNumber,
    sources: Vec<Source>,
    is_ended: bool,
}

/// What one shard tells.
struct Source {
    shard: usize,
    /// What has come and was not given out.
    ahead: VecDeque<Change>,
    /// Nothing that comes behind that is at or before this.
    through: Cursor,
    /// It was asked to say when nothing comes any more up to here.
    wanted: Version,
    is_end: bool,
    answer: Option<ReplyReceiver>,
}

impl Source {
    /// Whether something may still come at or before this place.
    fn may_tell(&self, version: Version, name: &[u8]) -> bool {
        self.ahead.is_empty() && !self.is_end && self.through.is_before(version, name)
    }

    fn receive(&mut self, reply: Reply) {
        let Output::Changes(page) = reply.output else { unreachable!("a shard answered another question") };
        self.ahead.extend(page.changes);
        self.through = page.through;
        self.is_end = page.is_end;
    }
}

impl Feed {
    fn new(engine: &Arc<Engine>, shards: &[usize]) -> Self {
        let source = |shard: &usize| Source {
            shard: *shard,
            ahead: VecDeque::new(),
            through: Version::ZERO.into(),
            wanted: Version::ZERO,
            is_end: false,
            answer: None,
        };
        let number = engine.next_transaction().0;
        let sources = shards.iter().map(source).collect();
        Self { engine: Arc::downgrade(engine), number, sources, is_ended: false }
    }

    fn subscribe(&mut self, engine: &Engine, topic: &Topic, start: &Start) -> Result<()> {
        for at in 0..self.sources.len() {
            let (topic, start) = (topic.clone(), start.clone());
            let request = Request::Subscribe { subscription: self.number, topic, start };
            // Before it is dropped, and so forgotten.
            self.ask(engine, at, request, true)?;
        }
        Ok(())
    }

    fn ask(&mut self, engine: &Engine, at: usize, request: Request, ordered: bool) -> Result<()> {
        let source = &mut self.sources[at];
        match engine.ask(source.shard, request, ordered) {
            LocalReply::Now(result) => source.receive(result?),
            LocalReply::Later(answer) => source.answer = Some(answer),
        }
        Ok(())
    }

    fn engine(&self) -> Result<Arc<Engine>> {
        self.engine.upgrade().ok_or_else(closed)
    }

    /// Takes what has come.
    fn poll_answers(&mut self, context: &mut Context<'_>) -> Result<()> {
        for at in 0..self.sources.len() {
            let source = &mut self.sources[at];
            let Some(answer) = &mut source.answer else { continue };
            let Poll::Ready(result) = answer.poll_unpin(context) else { continue };
            source.answer = None;
            let gone = |_| self.engine.upgrade().map_or_else(closed, |engine| engine.gone());
            source.receive(result.map_err(gone)??);
        }
        Ok(())
    }

    /// Every shard has registered it: the highest version that one of them had then.
    fn poll_begun(&mut self, context: &mut Context<'_>) -> Poll<Result<Version>> {
        self.poll_answers(context)?;
        if self.sources.iter().any(|source| source.answer.is_some()) {
            return Poll::Pending;
        }
        let highest = self.sources.iter().map(|source| source.through.version()).max();
        Poll::Ready(Ok(highest.unwrap_or_default()))
    }

    /// Every shard has told all up to a version.
    fn poll_reached(&mut self, version: Version, context: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            self.poll_answers(context)?;
            let lags = |source: &Source| !source.is_end && source.through.version() < version;
            let lagging: Vec<usize> = (0..self.sources.len()).filter(|at| lags(&self.sources[*at])).collect();
            if lagging.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let engine = self.engine()?;
            let mut is_asked = false;
            for at in lagging {
                self.hurry(&engine, at, version);
                if self.sources[at].answer.is_none() {
                    self.ask(&engine, at, Request::Next { subscription: self.number }, false)?;
                    is_asked = true;
                }
            }
            if !is_asked {
                return Poll::Pending;
            }
        }
    }

    /// Forgets what has come up to a version.
    fn skip(&mut self, version: Version) {
        for source in &mut self.sources {
            source.ahead.retain(|change| change.version > version);
        }
    }

    /// The version of the first change that has come.
    fn first(&self) -> Option<Version> {
        self.sources.iter().filter_map(|source| source.ahead.front()).map(|change| change.version).min()
    }

    /// Where a subscriber stands that was given this change last: behind its commit, if nothing else of that is to come.
    fn behind(&self, change: &Change) -> Cursor {
        let version = change.version;
        let is_told = |source: &Source| match source.ahead.front() {
            Some(next) => next.version > version,
            None => source.is_end || source.through.whole() >= version,
        };
        if self.sources.iter().all(is_told) { version.into() } else { Cursor::at(version, &change.name) }
    }

    /// Asks a shard to say when nothing comes any more up to a version.
    fn hurry(&mut self, engine: &Engine, at: usize, through: Version) {
        let source = &mut self.sources[at];
        if source.wanted < through {
            source.wanted = through;
            engine.tell(source.shard, Request::Advance { subscription: self.number, through });
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Change>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        let next = futures::ready!(self.poll_change(context)).transpose();
        self.is_ended = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }

    fn poll_change(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Change>>> {
        loop {
            self.poll_answers(context)?;
            let idle = |source: &Source| source.ahead.is_empty() && source.answer.is_none() && !source.is_end;
            let idle: Vec<usize> = (0..self.sources.len()).filter(|at| idle(&self.sources[*at])).collect();
            if !idle.is_empty() {
                let engine = self.engine()?;
                for at in idle {
                    self.ask(&engine, at, Request::Next { subscription: self.number }, false)?;
                }
                continue;
            }
            let heads = self.sources.iter().enumerate().filter_map(|(at, source)| Some((source.ahead.front()?, at)));
            let Some((first, at)) = heads.min_by_key(|(change, _)| (change.version, change.name.clone())) else {
                let is_end = self.sources.iter().all(|source| source.is_end);
                return if is_end { Poll::Ready(Ok(None)) } else { Poll::Pending };
            };
            let (version, name): (Version, Name) = (first.version, first.name.clone());
            let may_tell = |other: &usize| self.sources[*other].may_tell(version, &name);
            let others: Vec<usize> = (0..self.sources.len()).filter(may_tell).collect();
            if others.is_empty() {
                return Poll::Ready(Ok(self.sources[at].ahead.pop_front()));
            }
            let engine = self.engine()?;
            for other in others {
                self.hurry(&engine, other, version);
            }
            return Poll::Pending;
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let Some(engine) = self.engine.upgrade() else { return };
        for source in &self.sources {
            engine.tell(source.shard, Request::Unsubscribe { subscription: self.number });
        }
    }
}

fn closed() -> Error {
    Error::Unavailable("the database is closed".into())
}
