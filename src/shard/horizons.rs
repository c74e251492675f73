//! Horizons: below which version no reader is or will come, on any shard.
//!
//! - Each message of a peer carries its horizon. Old versions go only below the lowest of all, so that a transaction
//!   finds on every shard what was current at its snapshot.
//! - A shard asks for news only while it has something to forget, ever more rarely while that brings nothing.

use std::time::Duration;

use crate::base::version::Version;

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// What the other shards have reported.
#[derive(Debug)]
pub(crate) struct Horizons {
    shard: usize,
    reported: Vec<Version>,
    asked: Version,
    wait: Duration,
}

impl Horizons {
    pub(crate) fn new(shard: u32, shards: u32, start: Version) -> Self {
        let reported = vec![start; shards as usize];
        Self { shard: shard as usize, reported, asked: Version::ZERO, wait: SHORTEST }
    }

    /// A shard reports its horizon. It is news if the lowest of all is a higher one then.
    pub(crate) fn report(&mut self, shard: usize, horizon: Version) {
        let before = self.lowest(Version::MAX);
        self.reported[shard] = self.reported[shard].max(horizon);
        if self.lowest(Version::MAX) > before {
            self.wait = SHORTEST;
        }
    }

    /// The lowest horizon of all shards, this one's being `own`.
    pub(crate) fn lowest(&self, own: Version) -> Version {
        let others = self.reported.iter().enumerate().filter(|(shard, _)| *shard != self.shard);
        others.map(|(_, horizon)| *horizon).min().map_or(own, |lowest| lowest.min(own))
    }

    /// When to ask again.
    pub(crate) fn next_question(&self) -> Version {
        self.asked.after(self.wait)
    }

    /// The others are asked.
    pub(crate) fn ask(&mut self, now: Version) {
        self.asked = now;
        self.wait = (self.wait * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_all_counts_and_questions_become_rarer_until_there_is_news() {
        let mut horizons = Horizons::new(0, 3, 5.into());
        assert_eq!(horizons.lowest(100.into()), 5.into());
        horizons.ask(1_000.into());
        let first = horizons.next_question();
        horizons.ask(first);
        assert_eq!(horizons.next_question().since(first), SHORTEST * 4);
        horizons.report(1, 80.into());
        assert_eq!(horizons.next_question().since(first), SHORTEST * 4, "the lowest is still the other's");
        horizons.report(2, 60.into());
        assert_eq!((horizons.lowest(100.into()), horizons.lowest(50.into())), (60.into(), 50.into()));
        assert_eq!(horizons.next_question().since(first), SHORTEST);
        assert_eq!(Horizons::new(0, 1, 5.into()).lowest(9.into()), 9.into(), "one shard asks nobody");
    }
}
