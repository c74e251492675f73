//! Usage: how much memory each shard says that it uses.

use std::sync::atomic::{AtomicU64, Ordering};

/// What all shards use, and what they may.
#[derive(Debug)]
pub(crate) struct Usage {
    limit: Option<u64>,
    used: Vec<AtomicU64>,
}

impl Usage {
    pub(crate) fn new(limit: Option<u64>, used: impl IntoIterator<Item = u64>) -> Self {
        Self { limit, used: used.into_iter().map(AtomicU64::new).collect() }
    }

    pub(crate) const fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// A shard says what it uses now, and hears what the others do.
    pub(crate) fn publish(&self, shard: usize, bytes: u64) -> u64 {
        self.used[shard].store(bytes, Ordering::Relaxed);
        if self.limit.is_some() { self.total() - bytes } else { 0 }
    }

    /// What all of them use.
    pub(crate) fn total(&self) -> u64 {
        self.used.iter().map(|used| used.load(Ordering::Relaxed)).sum()
    }
}
