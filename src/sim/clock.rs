//! The process clock: database time, as `runtime/clock.rs` keeps it, over the simulation's time.
//!
//! - It starts above everything that may have been given out, and stands still at the reservation.
//! - The wall clock it starts from may have stepped back since the last opening.

use crate::base::version::Version;

/// Where database time begins.
const EPOCH: u64 = 1_700_000_000_000_000_000;

/// Database time of one opening.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: u64,
    opened_at: u64,
    reserved: u64,
    numbers: u64,
}

impl Clock {
    /// A clock that starts above `last`; `skew` is how far the wall clock stepped.
    pub(super) fn start_after(last: Version, opened_at: u64, skew: i64) -> Self {
        let wall = (EPOCH + opened_at).saturating_add_signed(skew);
        let start = wall.max(last.next().get());
        Self { start, opened_at, reserved: u64::MAX, numbers: start }
    }

    pub(super) fn start(&self) -> Version {
        self.start.into()
    }

    pub(super) fn reserve(&mut self, until: Version) {
        self.reserved = until.get();
    }

    /// Database time at a time of the simulation.
    pub(super) fn at(&self, now: u64) -> Version {
        (self.start + (now - self.opened_at)).min(self.reserved).into()
    }

    /// The time of the simulation at which database time reaches this; never, if it is not reserved.
    pub(super) fn when(&self, due: Version) -> Option<u64> {
        (due.get() <= self.reserved).then(|| self.opened_at + due.get().saturating_sub(self.start))
    }

    pub(super) fn unique_number(&mut self, now: u64) -> u64 {
        self.numbers = self.at(now).get().max(self.numbers + 1);
        self.numbers
    }

    pub(super) fn last(&self, now: u64) -> Version {
        self.at(now).max(self.numbers.into())
    }
}
