//! The clock: database time for the whole process.
//!
//! - It is read from the wall once, when the database opens, and advanced by the monotonic clock: it never goes back,
//!   whatever happens to the wall clock.
//! - It does not pass the reservation in the manifest by itself. The keeper extends that ahead of use; should it fail to,
//!   time stands still, and moves by one with every commit on any shard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::version::Version;

/// How far ahead of time the manifest's reservation is kept.
pub(crate) const RESERVATION: Duration = Duration::from_secs(60);

/// Database time.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Version,
    started: Instant,
    reserved: AtomicU64,
    /// The highest version given out above the reservation.
    beyond: AtomicU64,
    numbers: AtomicU64,
}

impl Clock {
    /// A clock that starts now, or above `last` if the wall clock is behind that.
    pub(crate) fn start_after(last: Version) -> Self {
        let start = wall().max(last.next());
        Self {
            start,
            started: Instant::now(),
            reserved: AtomicU64::new(Version::MAX.get()),
            beyond: AtomicU64::new(0),
            numbers: AtomicU64::new(start.get()),
        }
    }

    /// The time it started at.
    pub(crate) const fn start(&self) -> Version {
        self.start
    }

    /// The time.
    pub(crate) fn now(&self) -> Version {
        let time = self.start.after(self.started.elapsed());
        let time = time.min(Version::from(self.reserved.load(Ordering::Acquire)));
        time.max(Version::from(self.beyond.load(Ordering::Acquire)))
    }

    /// Lets time go on up to here.
    pub(crate) fn reserve(&self, until: Version) {
        self.reserved.store(until.get(), Ordering::Release);
    }

    /// A number no other call gets, in this opening or another; rises with time.
    pub(crate) fn unique_number(&self) -> u64 {
        let now = self.now().get();
        let next = |last: u64| Some(now.max(last + 1));
        let last = self.numbers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        now.max(last.unwrap_or(now) + 1)
    }

    /// The highest time or number given out so far.
    pub(crate) fn last(&self) -> Version {
        self.now().max(Version::from(self.numbers.load(Ordering::Relaxed)))
    }

    /// Waits until the time is at or past this. Almost never waits: versions are ahead of time only when many commits
    /// share one reading of the clock. While time stands still, it is moved: whatever begins on another shard after the
    /// answer must be above it all the same.
    pub(crate) fn wait_until(&self, version: Version) {
        while self.now() < version {
            if version.get() > self.reserved.load(Ordering::Acquire) {
                self.beyond.fetch_max(version.get(), Ordering::AcqRel);
            }
            std::hint::spin_loop();
        }
    }
}

fn wall() -> Version {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Version::ZERO.after(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_above_what_was_given_out_though_the_wall_clock_stepped_back() {
        let future = wall().after(Duration::from_secs(3600));
        let clock = Clock::start_after(future);
        assert!(clock.now() > future);
    }

    #[test]
    fn it_stands_still_at_the_reservation() {
        let clock = Clock::start_after(Version::ZERO);
        clock.reserve(clock.start());
        assert_eq!(clock.now(), clock.start());
    }

    #[test]
    fn while_it_stands_still_it_moves_to_what_is_answered() {
        let clock = Clock::start_after(Version::ZERO);
        clock.reserve(clock.start());
        clock.wait_until(clock.start().next());
        assert_eq!(clock.now(), clock.start().next());
        clock.reserve(clock.start().after(Duration::from_nanos(1)));
        assert_eq!(clock.now(), clock.start().next());
    }

    #[test]
    fn numbers_are_unique_and_rise() {
        let clock = Clock::start_after(Version::ZERO);
        let numbers: Vec<u64> = (0..1000).map(|_| clock.unique_number()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        assert!(clock.last().get() >= numbers[999]);
    }
}
