//! Slow writes: who says so when the disk takes long.

use std::time::{Duration, Instant};

use super::throttle::Throttle;
use crate::base::limits;

/// What is said of the writes of one shard.
#[derive(Debug)]
pub(super) struct SlowWrites {
    shard: usize,
    throttle: Throttle,
}

impl SlowWrites {
    pub(super) fn new(shard: usize) -> Self {
        Self { shard, throttle: Throttle::default() }
    }

    /// A write of the log took so long.
    pub(super) fn note(&mut self, took: Duration) {
        if took < limits::SLOW_WRITE {
            return;
        }
        if let Some(suppressed) = self.throttle.admit(Instant::now()) {
            tracing::warn!(shard = self.shard, ?took, suppressed, "a write of the log took long");
        }
    }
}
