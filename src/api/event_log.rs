//! Event logs.

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::Arc;

use super::database::Database;
use super::kv_store::check_count;
use super::op::{Op, read};
use super::pages::{PAGE, PageStream, Pages};
use super::scope::Scope;
use super::subscription::Subscription;
use crate::base::cursor::Place;
use crate::base::error::Result;
use crate::base::event::{ChainVerification, Event};
use crate::base::limits::{check_key, check_value};
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::value::Value;
use crate::primitive::command::{Command, EventCommand};
use crate::primitive::output::Reply;
use crate::shard::subscriptions::{Start, Topic};

/// The event logs of every run: append-only, numbered 0, 1, 2 ... without gaps, each event naming the hash of the one
/// before it. Guarantee: a read sees every event that was acknowledged before it began.
///
/// ```
/// use in_mem::prelude::*;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let db = Database::open_in_memory().await?;
/// let (events, run) = (EventLog::new(&db), db.begin_run().await);
/// let (sequence, hash) = events.append(&run, "tool-called", "grep").await?;
/// events.append(&run, "tool-answered", 42).await?;
/// assert_eq!(sequence, 0);
/// assert_eq!(events.read(&run, 1).await?.map(|event| event.prev_hash), Some(hash));
/// assert_eq!(events.read_by_type(&run, "tool-called").await?.len(), 1);
/// assert!(events.verify_chain(&run).await?.is_valid);
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct EventLog {
    database: Database,
}

/// The event log of one run; in a transaction, as the transaction sees and extends it.
#[derive(Clone, Debug)]
pub struct RunEvents {
    scope: Scope,
}

/// Events in order, all at one snapshot.
pub type EventStream = PageStream<Event>;

impl RunEvents {
    pub(crate) const fn new(scope: Scope) -> Self {
        Self { scope }
    }

    fn op<T: 'static>(&self, checked: Result<()>, command: EventCommand, read: fn(Reply) -> Result<T>) -> Op<T> {
        self.scope.op(checked, Command::Event(command), read)
    }

    /// Appends an event. Returns its sequence and its hash. Outside a transaction, appends never conflict; two
    /// transactions that append to one log do.
    ///
    /// # Errors
    /// `InvalidOperation` for an empty event type or an ended run, `LimitExceeded`, `Unavailable`, `CommitUnknown`.
    ///
    /// # Cancel safety
    /// Appended or not, never half.
    pub fn append(&self, event_type: impl AsRef<str>, payload: impl Into<Value>) -> Op<(u64, [u8; 32])> {
        self.append_at(None, event_type.as_ref(), payload.into())
    }

    /// Appends an event if the log has this length. Returns its sequence, which is that length, and its hash.
    ///
    /// # Errors
    /// `VersionMismatch` if the log has another length; those of [`append`](Self::append).
    ///
    /// # Cancel safety
    /// Appended or not, never half.
    pub fn append_expected(
        &self,
        expected_len: u64,
        event_type: impl AsRef<str>,
        payload: impl Into<Value>,
    ) -> Op<(u64, [u8; 32])> {
        self.append_at(Some(expected_len), event_type.as_ref(), payload.into())
    }

    fn append_at(&self, expected_len: Option<u64>, event_type: &str, payload: Value) -> Op<(u64, [u8; 32])> {
        let checked = check_event(event_type, &payload);
        let command = EventCommand::Append { event_type: event_type.into(), payload, expected_len };
        self.op(checked, command, read!(Appended(sequence, hash) => (sequence, hash)))
    }

    /// Appends several events in one commit, one right behind the other. Returns their sequences.
    ///
    /// # Errors
    /// Those of [`append`](Self::append), for any of the events.
    ///
    /// # Cancel safety
    /// All appended or none.
    pub fn append_many<K: AsRef<str>, V: Into<Value>>(
        &self,
        events: impl IntoIterator<Item = (K, V)>,
    ) -> Op<Range<u64>> {
        let mut checked = Ok(());
        let mut all: Vec<(String, Value)> = Vec::new();
        for (event_type, payload) in events {
            let (event_type, payload) = (event_type.as_ref(), payload.into());
            checked = checked.and_then(|()| check_event(event_type, &payload));
            all.push((event_type.into(), payload));
        }
        let checked = checked.and_then(|()| check_count(all.len()));
        self.op(checked, EventCommand::AppendMany { events: all }, read!(Range(sequences) => sequences))
    }

    /// Reads one event; `None` if the log is not that long.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn read(&self, sequence: u64) -> Op<Option<Event>> {
        self.op(Ok(()), EventCommand::Read { sequence }, read!(Event(event) => event.map(Arc::unwrap_or_clone)))
    }

    /// Reads the events from `start` up to but not including `end`, in order. What is behind the end of the log is
    /// left out. For long ranges see [`stream`](Self::stream).
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn read_range(&self, start: u64, end: u64) -> Op<Vec<Event>> {
        self.events(Ok(()), EventCommand::ReadRange { range: start..end, limit: usize::MAX })
    }

    fn events(&self, checked: Result<()>, command: EventCommand) -> Op<Vec<Event>> {
        self.op(checked, command, read!(Events(events) => events.into_iter().map(Arc::unwrap_or_clone).collect()))
    }

    /// Reads the last event; `None` if the log is empty.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn head(&self) -> Op<Option<Event>> {
        self.op(Ok(()), EventCommand::Head, read!(Event(event) => event.map(Arc::unwrap_or_clone)))
    }

    /// Returns the number of events, which is the sequence of the next one.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn len(&self) -> Op<u64> {
        self.op(Ok(()), EventCommand::Len, read!(Count(len) => len))
    }

    /// Whether there are no events.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn is_empty(&self) -> Op<bool> {
        self.op(Ok(()), EventCommand::Len, read!(Count(len) => len == 0))
    }

    /// Reads the events of a type, in order. Takes time by their number, not by the length of the log.
    ///
    /// # Errors
    /// `InvalidOperation` or `LimitExceeded` for the event type, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn read_by_type(&self, event_type: impl AsRef<str>) -> Op<Vec<Event>> {
        let event_type = event_type.as_ref();
        let checked = check_key("event type", event_type);
        self.events(checked, EventCommand::ReadByType { event_type: event_type.into() })
    }

    /// Reads the events of a time, in order: from `range.start` up to but not including `range.end`, in microseconds
    /// since the Unix epoch.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn read_by_time(&self, range: Range<i64>) -> Op<Vec<Event>> {
        self.events(Ok(()), EventCommand::ReadByTime { range })
    }

    /// Lists the types of the events, each once, in ascending order.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn event_types(&self) -> Op<Vec<String>> {
        self.op(Ok(()), EventCommand::Types, read!(Texts(types) => types))
    }

    /// Streams the events from a sequence to the end of the log, all at one snapshot, fetched page by page. Events that
    /// are appended meanwhile are not among them.
    ///
    /// # Errors
    /// The stream gives an error and ends: `Unavailable`; `Timeout` if nobody polled it for so long that its snapshot
    /// was given up.
    ///
    /// # Cancel safety
    /// Reads only; dropping the stream releases its snapshot.
    pub fn stream(&self, from: u64) -> EventStream {
        let reader = Self::new(self.scope.at_one_snapshot());
        let events = reader.clone();
        let pages = Pages::new(reader.scope, move |last: Option<&Event>| {
            let start = last.map_or(from, |event| event.sequence.saturating_add(1));
            events.events(Ok(()), EventCommand::ReadRange { range: start..u64::MAX, limit: PAGE })
        });
        PageStream::new(pages)
    }

    /// Subscribes to the events from a sequence on, in order: those there are, then those that are appended.
    ///
    /// # Errors
    /// `InvalidOperation` in a transaction, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn subscribe(&self, from: u64) -> Op<Subscription<Event>> {
        let topic = Topic::Events { run: self.scope.run() };
        self.scope.subscribe(Ok(()), topic, Start::At(Place::Event(from)), |change| match change.stored {
            Some(Stored::Event(event)) => Some(Arc::unwrap_or_clone(event)),
            _ => None,
        })
    }

    /// Checks the whole hash chain: every event is there, has the hash it was stored with and names its predecessor's,
    /// and the last one is the one the log ends with. Takes time by the length of the log. What is wrong is in the
    /// result, not in an error.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn verify_chain(&self) -> Op<ChainVerification> {
        self.op(Ok(()), EventCommand::Verify, read!(Chain(chain) => *chain))
    }
}

fn check_event(event_type: &str, payload: &Value) -> Result<()> {
    check_key("event type", event_type).and_then(|()| check_value(payload))
}

impl EventLog {
    /// The event logs of a database.
    pub fn new(database: impl Into<Database>) -> Self {
        Self { database: database.into() }
    }

    fn of(&self, run: impl Borrow<RunId>) -> RunEvents {
        RunEvents::new(Scope::of_run(self.database.engine(), run))
    }

    /// See [`RunEvents::append`].
    ///
    /// # Errors
    /// Those of [`RunEvents::append`].
    ///
    /// # Cancel safety
    /// Appended or not, never half.
    pub fn append(
        &self,
        run: impl Borrow<RunId>,
        event_type: impl AsRef<str>,
        payload: impl Into<Value>,
    ) -> Op<(u64, [u8; 32])> {
        self.of(run).append(event_type, payload)
    }

    /// See [`RunEvents::append_expected`].
    ///
    /// # Errors
    /// Those of [`RunEvents::append_expected`].
    ///
    /// # Cancel safety
    /// Appended or not, never half.
    pub fn append_expected(
        &self,
        run: impl Borrow<RunId>,
        expected_len: u64,
        event_type: impl AsRef<str>,
        payload: impl Into<Value>,
    ) -> Op<(u64, [u8; 32])> {
        self.of(run).append_expected(expected_len, event_type, payload)
    }

    /// See [`RunEvents::append_many`].
    ///
    /// # Errors
    /// Those of [`RunEvents::append_many`].
    ///
    /// # Cancel safety
    /// All appended or none.
    pub fn append_many<K: AsRef<str>, V: Into<Value>>(
        &self,
        run: impl Borrow<RunId>,
        events: impl IntoIterator<Item = (K, V)>,
    ) -> Op<Range<u64>> {
        self.of(run).append_many(events)
    }

    /// See [`RunEvents::read`].
    ///
    /// # Errors
    /// Those of [`RunEvents::read`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn read(&self, run: impl Borrow<RunId>, sequence: u64) -> Op<Option<Event>> {
        self.of(run).read(sequence)
    }

    /// See [`RunEvents::read_range`].
    ///
    /// # Errors
    /// Those of [`RunEvents::read_range`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn read_range(&self, run: impl Borrow<RunId>, start: u64, end: u64) -> Op<Vec<Event>> {
        self.of(run).read_range(start, end)
    }

    /// See [`RunEvents::head`].
    ///
    /// # Errors
    /// Those of [`RunEvents::head`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn head(&self, run: impl Borrow<RunId>) -> Op<Option<Event>> {
        self.of(run).head()
    }

    /// See [`RunEvents::len`].
    ///
    /// # Errors
    /// Those of [`RunEvents::len`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn len(&self, run: impl Borrow<RunId>) -> Op<u64> {
        self.of(run).len()
    }

    /// See [`RunEvents::is_empty`].
    ///
    /// # Errors
    /// Those of [`RunEvents::is_empty`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn is_empty(&self, run: impl Borrow<RunId>) -> Op<bool> {
        self.of(run).is_empty()
    }

    /// See [`RunEvents::read_by_type`].
    ///
    /// # Errors
    /// Those of [`RunEvents::read_by_type`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn read_by_type(&self, run: impl Borrow<RunId>, event_type: impl AsRef<str>) -> Op<Vec<Event>> {
        self.of(run).read_by_type(event_type)
    }

    /// See [`RunEvents::read_by_time`].
    ///
    /// # Errors
    /// Those of [`RunEvents::read_by_time`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn read_by_time(&self, run: impl Borrow<RunId>, range: Range<i64>) -> Op<Vec<Event>> {
        self.of(run).read_by_time(range)
    }

    /// See [`RunEvents::event_types`].
    ///
    /// # Errors
    /// Those of [`RunEvents::event_types`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn event_types(&self, run: impl Borrow<RunId>) -> Op<Vec<String>> {
        self.of(run).event_types()
    }

    /// See [`RunEvents::stream`].
    ///
    /// # Errors
    /// Those of [`RunEvents::stream`].
    ///
    /// # Cancel safety
    /// Reads only; dropping the stream releases its snapshot.
    pub fn stream(&self, run: impl Borrow<RunId>, from: u64) -> EventStream {
        self.of(run).stream(from)
    }

    /// See [`RunEvents::subscribe`].
    ///
    /// # Errors
    /// Those of [`RunEvents::subscribe`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn subscribe(&self, run: impl Borrow<RunId>, from: u64) -> Op<Subscription<Event>> {
        self.of(run).subscribe(from)
    }

    /// See [`RunEvents::verify_chain`].
    ///
    /// # Errors
    /// Those of [`RunEvents::verify_chain`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn verify_chain(&self, run: impl Borrow<RunId>) -> Op<ChainVerification> {
        self.of(run).verify_chain()
    }
}
