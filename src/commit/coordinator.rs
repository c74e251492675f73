//! The coordinator: counts the votes of a transaction over several shards.
//!
//! - One round: every participant is asked once and votes once. Votes after the outcome change nothing.
//! - All yes commits at the highest prepare timestamp, if that is below the earliest expiry of what was read. Recovery
//!   applies the same test to the same parts, so an expired transaction needs no abort record.
//! - After the question only a no, a failed participant or the expiry abort: no timeout, no dropped future, no close.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::message::Vote;
use crate::base::error::{Conflict, Error};
use crate::base::lineage::ReadSet;
use crate::base::planted::{Bug, planted};
use crate::base::run_id::RunId;
use crate::base::version::Version;

/// A transaction that waits for votes.
#[derive(Debug)]
pub(crate) struct Coordinator {
    participants: Arc<[u32]>,
    waiting: BTreeSet<u32>,
    timestamp: Version,
    earliest_expiry: Version,
    reads: Vec<Arc<ReadSet>>,
}

/// How a transaction ends.
#[derive(Debug)]
pub(crate) enum Decision {
    /// At which version, and what all parts read, if that is kept.
    Commit(Version, Option<Arc<ReadSet>>),
    /// Nothing of it can ever become committed.
    Abort(Error),
    /// Whether it is committed will be known when the database is opened again, unless an abort record is durable.
    Fail(String),
}

impl Coordinator {
    pub(crate) fn new(participants: Arc<[u32]>) -> Self {
        let waiting = participants.iter().copied().collect();
        Self { participants, waiting, timestamp: Version::ZERO, earliest_expiry: Version::MAX, reads: Vec::new() }
    }

    pub(crate) const fn participants(&self) -> &Arc<[u32]> {
        &self.participants
    }

    /// Counts a vote. Returns the decision once there is one.
    pub(crate) fn vote(&mut self, from: u32, vote: Vote) -> Option<Decision> {
        match vote {
            Vote::No(error) => return Some(Decision::Abort(error)),
            Vote::Failed(reason) => return Some(Decision::Fail(reason)),
            Vote::Yes { timestamp, earliest_expiry, reads } => {
                assert!(self.waiting.remove(&from), "a participant votes once: from={from}");
                let highest = self.timestamp.max(timestamp);
                self.timestamp = if planted(Bug::LastTimestamp) { timestamp } else { highest };
                self.earliest_expiry = self.earliest_expiry.min(earliest_expiry);
                self.reads.extend(reads);
            }
        }
        if !self.waiting.is_empty() && !planted(Bug::DecisionBeforeVotes) {
            return None;
        }
        Some(if is_in_time(self.timestamp, self.earliest_expiry) || planted(Bug::ExpiryIgnored) {
            Decision::Commit(self.timestamp, ReadSet::union_of_parts(&self.reads))
        } else {
            Decision::Abort(Error::TransactionConflict(expired(RunId::DIRECTORY)))
        })
    }
}

/// Whether what was read still holds at the commit timestamp. Asked by the coordinator and by recovery.
pub(crate) fn is_in_time(timestamp: Version, earliest_expiry: Version) -> bool {
    timestamp < earliest_expiry
}

/// The conflict of a transaction that took longer than what it read was to live.
pub(crate) fn expired(run: RunId) -> Conflict {
    Conflict { run, primitive: "transaction", key: "something read has expired".into(), winner: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yes(timestamp: u64, earliest_expiry: u64) -> Vote {
        Vote::Yes { timestamp: timestamp.into(), earliest_expiry: earliest_expiry.into(), reads: None }
    }

    #[test]
    fn it_commits_at_the_highest_timestamp_when_the_last_has_voted() {
        let mut coordinator = Coordinator::new(Arc::from([0, 2, 3]));
        assert!(coordinator.vote(2, yes(50, 99)).is_none());
        assert!(coordinator.vote(0, yes(10, u64::MAX)).is_none());
        let decision = coordinator.vote(3, yes(20, u64::MAX));
        assert!(matches!(decision, Some(Decision::Commit(at, None)) if at == Version::from(50)), "{decision:?}");
    }

    #[test]
    fn one_no_one_failure_or_one_expiry_aborts() {
        let mut refused = Coordinator::new(Arc::from([0, 1]));
        let no = Vote::No(Error::InvalidOperation("no".into()));
        assert!(matches!(refused.vote(1, no), Some(Decision::Abort(_))));
        let mut failed = Coordinator::new(Arc::from([0, 1]));
        assert!(matches!(failed.vote(0, Vote::Failed("EIO".into())), Some(Decision::Fail(_))));
        let mut late = Coordinator::new(Arc::from([0, 1]));
        assert!(late.vote(0, yes(10, 40)).is_none(), "in time here");
        assert!(matches!(late.vote(1, yes(40, u64::MAX)), Some(Decision::Abort(_))), "too late for what 0 read");
    }
}
