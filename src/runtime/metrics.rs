//! Metrics: what the shards counted, and what only the runtime knows.

use std::sync::Arc;
use std::time::Duration;

use super::checkpoints::SnapshotInfo;
use super::engine::Engine;
use super::keeper::Task;
use super::local::LocalReply;
use crate::base::error::Result;
use crate::base::metrics::ShardMetrics;
use crate::disk::recovery::RecoveryReport;
use crate::primitive::output::Output;
use crate::shard::input::Request;

/// What a database has done since it was opened, and what it holds.
///
/// Every shard says what it counted at one moment, one shard after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Each shard, in order.
    pub shards: Vec<ShardMetrics>,
    /// All of them together.
    pub total: ShardMetrics,
    /// How often a transaction ran again after a conflict.
    pub transactions_retried: u64,
    /// How many bytes of memory may be taken; `None` if there is no limit.
    pub memory_limit: Option<u64>,
    /// What is on disk.
    pub disk: DiskMetrics,
    /// What opening the database found on disk, and how long that took.
    pub recovery: RecoveryReport,
}

/// What a database has on disk; nothing if it is in memory only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskMetrics {
    /// Segments of the log that are needed, those of earlier openings included.
    pub segments: u64,
    /// Snapshots that can be recovered from.
    pub snapshots: u64,
    /// The newest of them.
    pub last_snapshot: Option<SnapshotInfo>,
    /// Snapshots taken since the database was opened.
    pub snapshots_taken: u64,
    /// Snapshots that could not be taken.
    pub snapshots_failed: u64,
    /// How long the last one took that was taken; `None` if none was.
    pub last_snapshot_took: Option<Duration>,
}

/// Asks every shard and the keeper.
///
/// # Errors
/// See `Database::metrics`.
pub(crate) async fn metrics(engine: Arc<Engine>) -> Result<Metrics> {
    let mut shards = Vec::with_capacity(engine.shards());
    let mut total = ShardMetrics::default();
    for shard in 0..engine.shards() {
        let counted = counted_by(&engine, shard).await?;
        total.add(&counted);
        shards.push(counted);
    }
    let disk = engine.ask_keeper(|done| Task::AskMetrics { done }).await?;
    let setup = engine.setup();
    Ok(Metrics {
        shards,
        total,
        transactions_retried: engine.contention().retried(),
        memory_limit: setup.usage.limit(),
        disk,
        recovery: setup.recovery.clone(),
    })
}

/// Asks a shard, past those who wait for room in its log.
async fn counted_by(engine: &Arc<Engine>, shard: usize) -> Result<ShardMetrics> {
    let reply = match engine.ask(shard, Request::AskMetrics, true) {
        LocalReply::Now(reply) => reply,
        LocalReply::Later(receiver) => receiver.await.unwrap_or_else(|_| Err(engine.gone())),
    };
    match reply?.output {
        Output::Metrics(counted) => Ok(ShardMetrics { waiting_requests: engine.mailbox(shard).waiting(), ..*counted }),
        other => unreachable!("a shard says what it counted, not {other:?}"),
    }
}
