//! Marks: how `Buffered` mode keeps a prefix of the whole database.
//!
//! - A mark at F in a shard's log says that everything the shard commits up to F stands before it. Recovery keeps the
//!   commits up to the *cut*: the lowest, over all shards, of each one's last durable mark.
//! - Any shard begins a round: it chooses F, and every shard marks F and makes its log durable through it.
//! - A shard begins no round while a mark in its own log is above the cut: the round under way covers it, or the next
//!   one will.
//! - What must be safe waits for the cut to reach its version; a commit beyond `max_pending_writes` does too.

use std::collections::VecDeque;
use std::time::Duration;

use super::gate::RecordCount;
use crate::base::options::DurabilityMode;
use crate::base::planted::{Bug, planted};
use crate::base::version::Version;

/// What a shard knows of marks.
#[derive(Debug)]
pub(crate) struct Marks {
    shard: usize,
    /// Each shard's last durable mark.
    durable: Vec<Version>,
    /// Marks logged here that are not durable yet, and where they stand.
    pending: VecDeque<(RecordCount, Version)>,
    /// The highest mark logged here.
    last: Version,
    /// Commits acknowledged here above the cut, in order.
    uncovered: VecDeque<Version>,
    interval: Duration,
    /// How many commits of this shard may be above the cut before their callers wait.
    most: usize,
}

impl Marks {
    pub(crate) fn new(mode: DurabilityMode, shard: u32, shards: u32, start: Version) -> Self {
        let (interval, most) = match mode {
            DurabilityMode::Buffered { flush_interval_ms, max_pending_writes } => {
                (Duration::from_millis(flush_interval_ms), max_pending_writes / shards as usize)
            }
            DurabilityMode::InMemory | DurabilityMode::Strict => (Duration::ZERO, 0),
        };
        Self {
            shard: shard as usize,
            // Nothing is committed in this opening at or below its start.
            durable: vec![start; shards as usize],
            pending: VecDeque::new(),
            last: start,
            uncovered: VecDeque::new(),
            interval,
            most,
        }
    }

    /// Recovery would keep every commit up to here.
    pub(crate) fn cut(&self) -> Version {
        if self.shard == 0 && planted(Bug::CutIgnored) {
            return self.durable[0];
        }
        self.durable.iter().copied().min().unwrap_or_default()
    }

    /// A commit of this shard is visible. Returns how far the cut must be before its caller may go on.
    pub(crate) fn committed(&mut self, version: Version) -> Version {
        // A commit over several shards can be covered before its last vote is counted: its parts were logged earlier.
        if version <= self.cut() {
            return Version::ZERO;
        }
        // A commit over several shards can be lower than what this shard has committed meanwhile.
        let at = self.uncovered.partition_point(|other| *other <= version);
        self.uncovered.insert(at, version);
        let beyond = self.uncovered.len().checked_sub(self.most + 1);
        beyond.map_or(Version::ZERO, |at| self.uncovered[at])
    }

    /// The latest commit acknowledged here above the cut; zero if there is none.
    pub(crate) fn newest(&self) -> Version {
        self.uncovered.back().copied().unwrap_or_default()
    }

    /// Whether a mark at this version would say anything new.
    pub(crate) fn is_news(&self, through: Version) -> bool {
        through > self.last
    }

    /// A mark is logged.
    pub(crate) fn logged(&mut self, at: RecordCount, through: Version) {
        assert!(self.is_news(through), "marks rise along the log");
        self.last = through;
        self.pending.push_back((at, through));
    }

    /// So many records are durable here. Returns the highest mark among them that was not known to be.
    pub(crate) fn appended(&mut self, durable: RecordCount) -> Option<Version> {
        let mut highest = None;
        while let Some((_, through)) = self.pending.front().copied().filter(|(at, _)| *at <= durable) {
            self.pending.pop_front();
            highest = Some(through);
        }
        if let Some(through) = highest {
            self.marked(self.shard, through);
        }
        highest
    }

    /// A shard's mark is durable.
    pub(crate) fn marked(&mut self, shard: usize, through: Version) {
        self.durable[shard] = self.durable[shard].max(through);
        let cut = self.cut();
        let covered = self.uncovered.partition_point(|version| *version <= cut);
        self.uncovered.drain(..covered);
    }

    /// Whether a round is under way that this shard takes part in.
    fn is_marking(&self) -> bool {
        self.last > self.cut()
    }

    /// Whether it is time to begin a round. `wanted`: somebody waits for the cut to reach this version.
    pub(crate) fn is_due(&self, now: Version, wanted: Option<Version>) -> bool {
        if self.is_marking() {
            return false;
        }
        let crowded = !self.uncovered.is_empty() && self.uncovered.len() * 2 >= self.most;
        crowded || wanted.is_some_and(|version| version > self.cut()) || self.deadline().is_some_and(|due| due <= now)
    }

    /// When a round is due if nothing else happens.
    pub(crate) fn poll_timeout(&self) -> Option<Version> {
        if self.is_marking() { None } else { self.deadline() }
    }

    fn deadline(&self) -> Option<Version> {
        self.uncovered.front().map(|oldest| oldest.after(self.interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(shards: u32) -> Marks {
        let mode = DurabilityMode::Buffered { flush_interval_ms: 1, max_pending_writes: 8 };
        Marks::new(mode, 0, shards, Version::from(10))
    }

    #[test]
    fn the_cut_is_the_lowest_of_all_last_marks() {
        let mut marks = marks(2);
        assert_eq!(marks.cut(), 10.into());
        marks.logged(RecordCount(1), 50.into());
        assert_eq!(marks.appended(RecordCount(1)), Some(50.into()));
        assert_eq!(marks.cut(), 10.into(), "the other shard has none yet");
        marks.marked(1, 40.into());
        assert_eq!(marks.cut(), 40.into());
    }

    #[test]
    fn a_round_is_due_after_the_interval_or_for_half_of_what_may_be_lost_or_for_somebody_who_waits() {
        let mut marks = marks(1);
        assert_eq!(marks.poll_timeout(), None);
        marks.committed(100.into());
        assert_eq!(marks.poll_timeout(), Some(1_000_100.into()));
        assert!(!marks.is_due(101.into(), None));
        assert!(marks.is_due(101.into(), Some(100.into())));
        assert!(marks.is_due(1_000_100.into(), None));
        marks.logged(RecordCount(2), 1_000_100.into());
        assert!(!marks.is_due(9_000_000.into(), Some(9.into())), "one round at a time");
        marks.appended(RecordCount(2));
        assert!(!marks.is_due(9_000_000.into(), None), "nothing is left to cover");
        for at in 2_000_000..2_000_004_u64 {
            marks.committed(at.into());
        }
        assert!(marks.is_due(2_000_004.into(), None));
    }

    #[test]
    fn a_commit_beyond_what_may_be_lost_waits_for_the_oldest_that_is_too_many() {
        let mut marks = marks(2);
        let waits: Vec<u64> = (101..=106_u64).map(|at| marks.committed(at.into()).get()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 101, 102]);
    }

    #[test]
    fn a_commit_that_the_cut_has_passed_needs_no_round() {
        let mut marks = marks(1);
        marks.logged(RecordCount(1), 100.into());
        marks.appended(RecordCount(1));
        assert_eq!(marks.committed(90.into()), Version::ZERO);
        assert_eq!(marks.poll_timeout(), None, "a mark at 100 would say nothing new");
        assert!(!marks.is_due(9_000_000.into(), None));
    }
}
