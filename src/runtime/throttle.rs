//! A throttle: what may happen often is said once a second.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(1);

/// When something was last said, and what was not said since.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Whether to say it; if so, how often it was not said before.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_said_once_a_second_with_how_often_it_was_not_said() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let said: Vec<_> =
            [0, 1, 999, 1_000, 1_999, 9_000].map(|after| throttle.admit(start + Duration::from_millis(after))).to_vec();
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
