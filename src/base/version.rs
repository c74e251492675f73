//! Versions: points in database time.
//!
//! - A version is a number of nanoseconds since the Unix epoch, read from the one clock of the process.
//! - The version of a commit is its commit timestamp; versions of commits on one shard strictly rise.
//! - Versions order history, name time-travel points and decide expiry.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in database time, and the version of whatever was committed at it: nanoseconds since the Unix epoch,
/// strictly rising on a shard, never going back over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(u64);

impl Version {
    /// Before every commit.
    pub(crate) const ZERO: Self = Self(0);
    /// After every commit.
    pub(crate) const MAX: Self = Self(u64::MAX);

    /// The nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The same instant in whole microseconds, as records of events, states and traces show it.
    pub(crate) fn as_micros(self) -> i64 {
        i64::try_from(self.0 / 1_000).unwrap_or(i64::MAX)
    }

    /// The next version.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The first version from this one on that only this one of so many shards gives.
    pub(crate) fn of_shard(self, shard: u32, shards: u32) -> Self {
        let (shard, shards) = (u64::from(shard), u64::from(shards));
        Self(self.0.saturating_add((shard + shards - self.0 % shards) % shards))
    }

    /// The version before.
    pub(crate) const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// This instant plus a duration, saturating.
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This instant less a duration, saturating.
    pub(crate) fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl From<u64> for Version {
    fn from(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }
}

impl From<Version> for u64 {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A value and the version of the commit that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// What was written.
    pub value: T,
    /// The version of the commit that wrote it.
    pub version: Version,
}
