//! Open transactions of a shard.
//!
//! - A snapshot is registered from a transaction's first operation until its end is known.
//! - A transaction that is idle for too long is forgotten; its next operation gets an error.

use std::collections::BTreeMap;
use std::time::Duration;

use super::input::TransactionNumber;
use crate::base::version::Version;
use crate::commit::part::Part;
use crate::store::snapshots::Snapshots;

/// How long a transaction may be idle.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// How often idle ones are looked for.
const CHECK: Duration = Duration::from_secs(5);

/// A transaction that has begun and not ended.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) part: Part,
    /// An operation failed half-way: it can only be aborted.
    pub(crate) broken: bool,
    /// The highest version that its answers so far depend on.
    pub(crate) seen: Version,
    last_used: Version,
}

/// The open transactions of a shard and the snapshots they read.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    open: BTreeMap<TransactionNumber, Open>,
    snapshots: Snapshots,
    next_check: Option<Version>,
}

impl Transactions {
    pub(crate) fn begin(&mut self, number: TransactionNumber, snapshot: Version, now: Version) {
        self.snapshots.register(snapshot);
        let part = Part::tracked(snapshot);
        self.open.insert(number, Open { part, broken: false, seen: Version::ZERO, last_used: now });
        self.next_check.get_or_insert(now.after(CHECK));
    }

    /// The transaction, if it is open, marked as used now.
    pub(crate) fn get(&mut self, number: TransactionNumber, now: Version) -> Option<&mut Open> {
        let open = self.open.get_mut(&number)?;
        open.last_used = now;
        Some(open)
    }

    /// Takes a transaction out; its snapshot is no longer needed.
    pub(crate) fn end(&mut self, number: TransactionNumber) -> Option<Open> {
        let open = self.open.remove(&number)?;
        self.snapshots.release(open.part.snapshot);
        Some(open)
    }

    pub(crate) fn is_open(&self, number: TransactionNumber) -> bool {
        self.open.contains_key(&number)
    }

    /// The oldest snapshot that somebody reads.
    pub(crate) fn oldest_snapshot(&self) -> Option<Version> {
        self.snapshots.oldest()
    }

    /// When to look for idle ones.
    pub(crate) const fn poll_timeout(&self) -> Option<Version> {
        self.next_check
    }

    /// Forgets the idle ones.
    pub(crate) fn tick(&mut self, now: Version) {
        if self.next_check.is_none_or(|check| now < check) {
            return;
        }
        let idle: Vec<TransactionNumber> =
            self.open.iter().filter(|(_, open)| now.since(open.last_used) >= IDLE).map(|(number, _)| *number).collect();
        for number in idle {
            self.end(number);
        }
        self.next_check = if self.open.is_empty() { None } else { Some(now.after(CHECK)) };
    }

    pub(crate) fn clear(&mut self) {
        let all: Vec<TransactionNumber> = self.open.keys().copied().collect();
        for number in all {
            self.end(number);
        }
        self.next_check = None;
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }
}
