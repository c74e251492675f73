//! The gate: what may leave only when something is durable.
//!
//! - Records of a shard are counted as they are logged. In `Strict` mode, what depends on record n is held until n
//!   records are durable.
//! - In `Buffered` mode, what must be safe is held until the cut over all shards has reached a version.
//! - What is held leaves in the order of what it waits for; what waits for the same, in the order it came.

use std::collections::BTreeMap;

use super::input::RequestId;
use crate::base::error::{Error, Result};
use crate::base::version::Version;
use crate::commit::message::{TransactionNumber, Vote};
use crate::primitive::output::Reply;

/// Counts the records of a shard in the order they are logged; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordCount(pub(crate) u64);

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Until {
    /// So many records of this shard are durable.
    Logged(RecordCount),
    /// Everything up to this version survives on all shards.
    Covered(Version),
}

/// What leaves a shard.
#[derive(Debug)]
pub(crate) enum Departure {
    Reply {
        id: RequestId,
        result: Result<Reply>,
    },
    Vote {
        coordinator: u32,
        transaction: TransactionNumber,
        vote: Vote,
    },
    /// An abort record is durable: the intents go.
    Abandoned {
        transaction: TransactionNumber,
    },
}

/// Everything that waits to leave.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    held: BTreeMap<(Until, u64), Departure>,
    arrivals: u64,
}

impl Gate {
    pub(crate) fn hold(&mut self, until: Until, departure: Departure) {
        self.arrivals += 1;
        self.held.insert((until, self.arrivals), departure);
    }

    /// Takes out something that waits for no more than this.
    pub(crate) fn release(&mut self, durable: RecordCount, cut: Version) -> Option<Departure> {
        let logged = (Until::Logged(RecordCount(0)), 0)..=(Until::Logged(durable), u64::MAX);
        let covered = (Until::Covered(Version::ZERO), 0)..=(Until::Covered(cut), u64::MAX);
        let key = self.held.range(logged).next().or_else(|| self.held.range(covered).next()).map(|(key, _)| *key)?;
        self.held.remove(&key)
    }

    /// The highest version that somebody waits for the cut to reach.
    pub(crate) fn wanted(&self) -> Option<Version> {
        match self.held.last_key_value() {
            Some(((Until::Covered(version), _), _)) => Some(*version),
            _ => None,
        }
    }

    /// Takes out everything: what it waits for will never be known to be durable.
    pub(crate) fn fail_all(&mut self, reason: &str) -> Vec<Departure> {
        std::mem::take(&mut self.held).into_values().map(|departure| departure.failed(reason)).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl Departure {
    /// What leaves instead when what it waits for cannot become durable.
    pub(crate) fn failed(self, reason: &str) -> Self {
        match self {
            Self::Reply { id, result } => {
                let wrote = matches!(&result, Ok(reply) if reply.version.is_some());
                let reason = reason.to_owned();
                let error = if wrote { Error::CommitUnknown(reason) } else { Error::Unavailable(reason) };
                Self::Reply { id, result: Err(error) }
            }
            Self::Vote { coordinator, transaction, vote } => {
                let vote = match vote {
                    Vote::Yes { .. } | Vote::Failed(_) => Vote::Failed(reason.to_owned()),
                    Vote::No(_) => Vote::No(Error::Unavailable(reason.to_owned())),
                };
                Self::Vote { coordinator, transaction, vote }
            }
            abandoned @ Self::Abandoned { .. } => abandoned,
        }
    }
}
