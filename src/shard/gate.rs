//! The gate: replies held until what they depend on is durable.
//!
//! - Commits of a shard are counted as they are logged. A reply that depends on commit n is held until n commits are
//!   durable.
//! - Held replies leave in the order of what they wait for; those that wait for the same in the order they came.

use std::collections::BTreeMap;

use super::input::RequestId;
use crate::base::error::{Error, Result};
use crate::primitive::output::Reply;

/// Counts the commits of a shard in the order they are logged; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CommitCount(pub(crate) u64);

#[derive(Debug)]
struct Held {
    id: RequestId,
    result: Result<Reply>,
}

/// The replies that wait for the disk.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    held: BTreeMap<(CommitCount, u64), Held>,
    arrivals: u64,
}

impl Gate {
    /// Holds a reply until that many commits are durable.
    pub(crate) fn hold(&mut self, until: CommitCount, id: RequestId, result: Result<Reply>) {
        self.arrivals += 1;
        self.held.insert((until, self.arrivals), Held { id, result });
    }

    /// Takes out a reply that depends on no more than this.
    pub(crate) fn release(&mut self, durable: CommitCount) -> Option<(RequestId, Result<Reply>)> {
        let entry = self.held.first_entry().filter(|entry| entry.key().0 <= durable)?;
        let held = entry.remove();
        Some((held.id, held.result))
    }

    /// Takes out every reply that still waits, as errors: what they depend on may or may not be on disk.
    pub(crate) fn fail_all(&mut self, reason: &str) -> Vec<(RequestId, Result<Reply>)> {
        let held = std::mem::take(&mut self.held);
        held.into_values()
            .map(|held| {
                let wrote = matches!(&held.result, Ok(reply) if reply.version.is_some());
                let error =
                    if wrote { Error::CommitUnknown(reason.to_owned()) } else { Error::Unavailable(reason.to_owned()) };
                (held.id, Err(error))
            })
            .collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}
