//! The log of a shard as its thread has it open: segments, and what is under way in them.
//!
//! - A write in flight is owned here, and always awaited to its end.

use std::collections::HashMap;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::segment_file::SegmentFile;
use crate::base::kill_point::{KillPoint, kill_point};
use crate::format::record::Position;
use crate::shard::effect::Append;

/// What has ended.
pub(super) enum FileEvent<F> {
    Opened { index: u32, capacity: u64, salt: u64, file: io::Result<F> },
    Wrote { through: Position, took: Duration, result: io::Result<()> },
}

/// Open segments, and what is under way in them.
pub(super) struct LogFiles<F> {
    open: HashMap<u32, F>,
    under_way: FuturesUnordered<LocalBoxFuture<'static, FileEvent<F>>>,
    /// Events that a sleep was woken by.
    done: Vec<FileEvent<F>>,
}

impl<F: SegmentFile> LogFiles<F> {
    pub(super) fn new() -> Self {
        Self { open: HashMap::new(), under_way: FuturesUnordered::new(), done: Vec::new() }
    }

    /// Ready when something has ended; `take` then gives it out.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(Some(event)) = self.under_way.poll_next_unpin(context) {
            self.done.push(event);
        }
        if self.done.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    pub(super) fn take(&mut self) -> Option<FileEvent<F>> {
        self.done.pop().or_else(|| self.under_way.next().now_or_never().flatten())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.done.is_empty()
    }

    /// Awaits a segment that is being opened.
    pub(super) fn open(
        &mut self,
        index: u32,
        capacity: u64,
        salt: u64,
        opening: LocalBoxFuture<'static, io::Result<F>>,
    ) {
        let open = async move { FileEvent::Opened { index, capacity, salt, file: opening.await } };
        self.under_way.push(open.boxed_local());
    }

    /// From now on this segment is written; the one before may still be.
    pub(super) fn keep(&mut self, index: u32, file: F) {
        self.open.retain(|old, _| old + 1 >= index);
        self.open.insert(index, file);
    }

    pub(super) fn append(&mut self, append: Append) {
        let through = Position::new(append.segment, append.offset + append.bytes.len() as u64);
        let file = self.open.get(&append.segment).cloned();
        let write = async move {
            let began = Instant::now();
            kill_point(KillPoint::BatchBegun);
            let result = match file {
                Some(file) => file.write(append.bytes, append.offset).await,
                None => Err(io::Error::other("the segment is not open")),
            };
            kill_point(KillPoint::BatchWritten);
            FileEvent::Wrote { through, took: began.elapsed(), result }
        };
        self.under_way.push(write.boxed_local());
    }

    /// Waits for everything under way and closes the files. No executor may end before that: a file that it leaves open
    /// stays locked.
    pub(super) async fn finish(&mut self) {
        while let Some(event) = self.under_way.next().await {
            self.done.push(event);
        }
        for event in self.done.drain(..) {
            if let FileEvent::Opened { index, file: Ok(file), .. } = event {
                self.open.insert(index, file);
            }
        }
        for (_, file) in self.open.drain() {
            file.close().await;
        }
    }
}
