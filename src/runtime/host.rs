//! What a driver gives to the shard that it runs: tasks, timers and segments on the thread of that shard.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::LocalBoxFuture;

use super::segment_file::SegmentFile;

/// An executor, as a worker sees it.
pub(crate) trait Host: 'static {
    /// An open segment.
    type File: SegmentFile;
    /// Ready when its time is over.
    type Timer: Future + Unpin;
    /// No sleep is longer than this while something is under way.
    const HEARTBEAT: Option<Duration>;

    /// A timer, which only the worker has.
    fn timer(&self, wait: Duration) -> Self::Timer;

    /// Runs a task beside the worker, to its end or to the end of the thread.
    fn spawn(&self, task: LocalBoxFuture<'static, ()>);

    /// Lets other tasks, and what comes from outside, have the thread once.
    async fn pause(&self);

    /// Opens a segment to write it, and locks it.
    fn open(&self, path: PathBuf) -> LocalBoxFuture<'static, io::Result<Self::File>>;
}
