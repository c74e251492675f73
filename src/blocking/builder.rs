//! The builder: what a database is opened with.

use std::path::Path;
use std::time::Duration;

use super::database::Database;
use super::wait::wait;
use crate::api::builder;
use crate::base::error::Result;
use crate::base::options::{Driver, DurabilityMode, HistoryRetention, Partitioning, SnapshotConfig};

twin! {
    /// Collects what a database is opened with.
    #[must_use = "a builder does nothing until it is opened"]
    builder::DatabaseBuilder {
        with path(path: impl AsRef<Path>) -> Self;
        with durability(mode: DurabilityMode) -> Self;
        with shards(shards: usize) -> Self;
        with partitioning(partitioning: Partitioning) -> Self;
        with driver(driver: Driver) -> Self;
        with pin_cores(pin: bool) -> Self;
        with spin(window: Option<Duration>) -> Self;
        with history(history: HistoryRetention) -> Self;
        with history_of_ended_runs(history: HistoryRetention) -> Self;
        with lineage(lineage: bool) -> Self;
        with read_only(read_only: bool) -> Self;
        with memory_limit(bytes: u64) -> Self;
        with snapshots(config: SnapshotConfig) -> Self;
    }
}

impl DatabaseBuilder {
    #[doc = see!(builder::DatabaseBuilder::open)]
    ///
    /// # Errors
    /// The same, and `InvalidOperation` on a thread that runs a shard.
    pub fn open(self) -> Result<Database> {
        wait(self.inner.open()).map(Into::into)
    }
}
