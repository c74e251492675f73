//! Contention: how often transactions lose to each other, and who says so when it is often.
//!
//! - Nothing here is asked before a transaction has lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::throttle::Throttle;
use crate::base::error::Conflict;
use crate::base::limits;

const WINDOW: Duration = Duration::from_secs(1);

/// How often transactions lose.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    retried: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// When the window began, and how many conflicts there were in it.
    since: Option<Instant>,
    conflicts: u64,
    struggles: Throttle,
}

impl Recent {
    /// Whether there are so many conflicts now that somebody should know. Says so once in a window.
    fn is_storm(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            (self.since, self.conflicts) = (Some(now), 0);
        }
        self.conflicts += 1;
        self.conflicts == limits::CONFLICT_STORM
    }
}

impl Contention {
    /// How often a transaction ran again.
    pub(crate) fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// A transaction has lost.
    pub(crate) fn lost(&self, conflict: &Conflict) {
        if !tracing::enabled!(tracing::Level::WARN) {
            return;
        }
        let is_storm = self.recent.lock().unwrap_or_else(PoisonError::into_inner).is_storm(Instant::now());
        if is_storm {
            let conflicts = limits::CONFLICT_STORM;
            tracing::warn!(conflicts, %conflict, "transactions conflict very often");
        }
    }

    /// A transaction runs again; it has lost so often before.
    pub(crate) fn runs_again(&self, label: &str, retries: u32, conflict: &Conflict) {
        self.retried.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(label, retries, %conflict, "a transaction lost and runs again");
        if retries != limits::MANY_RETRIES || !tracing::enabled!(tracing::Level::WARN) {
            return;
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = recent.struggles.admit(Instant::now()) {
            tracing::warn!(label, retries, %conflict, suppressed, "a transaction loses again and again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_many_conflicts_within_a_second_and_is_told_once() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let mut storms =
            |after: Duration, conflicts: u64| (0..conflicts).filter(|_| recent.is_storm(start + after)).count();
        let few = limits::CONFLICT_STORM - 1;
        assert_eq!(storms(Duration::ZERO, few), 0);
        assert_eq!(storms(Duration::from_secs(1), few), 0, "it is another second");
        assert_eq!(storms(Duration::from_millis(1_999), few), 1);
        assert_eq!(storms(Duration::from_secs(2), limits::CONFLICT_STORM), 1);
    }
}
