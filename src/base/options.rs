//! What a database is opened with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DurabilityMode {
    /// Nothing is written; everything is lost when the process ends.
    InMemory,
    /// Acknowledged at once, written within the interval: a crash loses at most the last interval, and at most
    /// `max_pending_writes` commits on each shard.
    Buffered {
        /// The longest time, in milliseconds, that a commit waits in memory before it is written.
        flush_interval_ms: u64,
        /// The most commits that wait in memory; a commit beyond that is acknowledged when enough are on disk.
        max_pending_writes: usize,
    },
    /// Acknowledged when it is on disk: a crash loses nothing.
    #[default]
    Strict,
}

/// How keys are spread over the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partitioning {
    /// All of a run is on one shard, so that its transactions need no coordination.
    #[default]
    ByRun,
    /// Key-value pairs and state cells are spread by run and key, for one hot run on every core; a run's events, traces and
    /// metadata stay together. A command on several keys then asks several shards, at one snapshot or in one transaction.
    ByKey,
}

/// What runs the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// `IoUring`; where that, or the locked memory it needs, is refused, `Threads`. The driver's reason in
    /// `Database::info` says why, and what to change.
    #[default]
    Auto,
    /// glommio executors on `io_uring`. Where it is refused, opening says what to change.
    IoUring,
    /// Plain threads, on any system; a second one beside each writes its log.
    Threads,
}

/// How much of a run's past is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HistoryRetention {
    /// Nothing beyond what running readers need.
    Off,
    /// What was current at some time in the last `Duration`.
    For(Duration),
    /// The last so many versions of every key.
    Commits(u64),
    /// Everything.
    #[default]
    Forever,
}

/// How much history a database keeps of runs that have no policy of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HistoryPolicy {
    /// Of runs at work, and of those nobody has begun.
    pub(crate) active: HistoryRetention,
    pub(crate) ended: HistoryRetention,
    /// Whether it is kept of every commit what it read, as long as all history of its run is.
    pub(crate) lineage: bool,
}

impl From<HistoryRetention> for HistoryPolicy {
    fn from(history: HistoryRetention) -> Self {
        Self { active: history, ended: history, lineage: false }
    }
}

/// When snapshots are taken; [`Database::checkpoint`](crate::Database::checkpoint) takes one at any time. With a snapshot
/// recovery reads only what was logged since, and the log before the older of the last two is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// When the log has grown by about so many bytes since the last one, and by half the bytes of that one. `None`: however
    /// long the log grows.
    pub log_bytes: Option<u64>,
    /// After so much time, if anything was written. `None`: however much time passes.
    pub interval: Option<Duration>,
    /// When the database is closed, if anything was written.
    pub on_close: bool,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { log_bytes: Some(32 << 20), interval: None, on_close: false }
    }
}
