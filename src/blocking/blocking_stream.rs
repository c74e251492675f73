//! Streams as iterators.

use futures::{Stream, StreamExt};

use super::wait::{block_on, check_thread};
use crate::api::subscription::ByVersion;
use crate::api::{pages, scan, subscription};
use crate::base::cursor::Cursor;
use crate::base::error::Result;
use crate::base::event::Event;
use crate::base::trace::Trace;

/// A stream as an iterator: each item is waited for.
///
/// On a thread that runs a shard it gives `InvalidOperation` and ends.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct BlockingStream<S> {
    stream: S,
    is_refused: bool,
}

/// The pairs of a scan, all at one snapshot.
///
#[doc = twin_of!(scan::Scan)]
pub type Scan = BlockingStream<scan::Scan>;

/// A long result as an iterator.
///
#[doc = twin_of!(pages::PageStream)]
pub type PageStream<T> = BlockingStream<pages::PageStream<T>>;

/// Committed changes as an iterator that waits for each.
///
#[doc = twin_of!(subscription::Subscription)]
pub type Subscription<T> = BlockingStream<subscription::Subscription<T>>;

/// The events of a log, in order.
pub type EventStream = PageStream<Event>;

/// The traces of a run, in the order of their recording.
pub type TraceStream = PageStream<Trace>;

impl<S> From<S> for BlockingStream<S> {
    fn from(stream: S) -> Self {
        Self { stream, is_refused: false }
    }
}

impl<T, S: Stream<Item = Result<T>> + Unpin> Iterator for BlockingStream<S> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_refused {
            return None;
        }
        if let Err(error) = check_thread() {
            self.is_refused = true;
            return Some(Err(error));
        }
        block_on(self.stream.next())
    }
}

impl Scan {
    #[doc = see!(scan::Scan::cursor)]
    #[must_use]
    pub fn cursor(&self) -> Option<String> {
        self.stream.cursor()
    }
}

impl<T: ByVersion> Subscription<T> {
    #[doc = see!(subscription::Subscription::cursor)]
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.stream.cursor()
    }
}

impl Subscription<Event> {
    #[doc = see!(subscription::Subscription::cursor)]
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.stream.cursor()
    }
}
