//! Open transactions of a shard: its parts of them, before and after their prepare.
//!
//! - A snapshot is registered from a transaction's first operation here until its outcome is known here.
//! - A transaction that is idle for too long is forgotten; its next operation gets an error. One that is prepared is
//!   never forgotten.

use std::collections::VecDeque;
use std::time::Duration;

use super::gate::RecordCount;
use crate::base::version::Version;
use crate::commit::message::TransactionNumber;
use crate::commit::part::Part;
use crate::store::snapshots::Snapshots;

/// How long a transaction may be idle.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// How often idle ones are looked for.
const CHECK: Duration = Duration::from_secs(5);

/// How many refused transactions are remembered.
const REFUSED: usize = 256;

/// A transaction that has begun and not ended.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) part: Part,
    /// An operation failed half-way: it can only be aborted.
    pub(crate) broken: bool,
    /// The highest version that its answers so far depend on.
    pub(crate) seen: Version,
    /// Operations that wait for the outcome of other transactions.
    pub(crate) waiting: u32,
    /// Its commit waits for the outcome of another transaction.
    pub(crate) is_committing: bool,
    /// The transaction that the first of them waits for; the others stand behind it, so that none overtakes another.
    pub(crate) waits_for: Option<TransactionNumber>,
    /// Set when this shard has voted yes.
    pub(crate) promise: Option<Promise>,
    /// This shard coordinates it, or did until it asked for a commit.
    is_begun_here: bool,
    /// What it has written so far, in bytes.
    weight: usize,
    last_used: Version,
}

/// A part that this shard has promised.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    /// The shard that decides.
    pub(crate) coordinator: u32,
    /// The record of the part in this shard's log.
    pub(crate) logged: RecordCount,
    /// The transaction has failed and no abort record can be written here: the intents stay.
    pub(crate) is_stuck: bool,
}

/// The open transactions of a shard and the snapshots they read.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// In order of their numbers. Few are open at once, and numbers rise: a new one nearly always comes last.
    open: Vec<(TransactionNumber, Box<Open>)>,
    snapshots: Snapshots,
    promised: usize,
    /// What all of them have written, in bytes.
    weight: usize,
    /// Transactions that were refused here before anything of them had come, oldest first.
    refused: VecDeque<TransactionNumber>,
    /// How many that were begun here have been idle for too long.
    timed_out: u64,
    next_check: Option<Version>,
}

impl Transactions {
    pub(crate) fn begin(&mut self, number: TransactionNumber, snapshot: Version, now: Version, is_begun_here: bool) {
        self.snapshots.register(snapshot);
        let part = Part::tracked(snapshot);
        let open = Open {
            part,
            broken: false,
            seen: Version::ZERO,
            waiting: 0,
            waits_for: None,
            is_committing: false,
            promise: None,
            is_begun_here,
            weight: 0,
            last_used: now,
        };
        match self.place(number) {
            Ok(at) => {
                self.weight -= self.open[at].1.weight;
                *self.open[at].1 = open;
            }
            Err(at) => self.open.insert(at, (number, Box::new(open))),
        }
        self.next_check.get_or_insert(now.after(CHECK));
    }

    /// The transaction, if it is open and has not voted, marked as used now.
    pub(crate) fn get(&mut self, number: TransactionNumber, now: Version) -> Option<&mut Open> {
        let open = self.find_mut(number).filter(|open| open.promise.is_none())?;
        open.last_used = now;
        Some(open)
    }

    /// Records the vote of a transaction that is open.
    pub(crate) fn promise(&mut self, number: TransactionNumber, promise: Promise) {
        if let Some(open) = self.find_mut(number) {
            assert!(open.promise.is_none(), "a part is promised once");
            open.promise = Some(promise);
            self.promised += 1;
        }
    }

    /// What was promised for a transaction, if it has voted.
    pub(crate) fn promised(&mut self, number: TransactionNumber) -> Option<&mut Promise> {
        self.find_mut(number)?.promise.as_mut()
    }

    /// The earliest record of a part whose transaction is not decided.
    pub(crate) fn first_promised(&self) -> Option<RecordCount> {
        self.open.iter().filter_map(|(_, open)| Some(open.promise.as_ref()?.logged)).min()
    }

    /// Remembers, for a while, that a transaction was refused here: an operation that comes late does not begin it.
    pub(crate) fn refuse(&mut self, number: TransactionNumber) {
        self.refused.push_back(number);
        if self.refused.len() > REFUSED {
            self.refused.pop_front();
        }
    }

    /// Whether a transaction was refused here lately.
    pub(crate) fn is_refused(&self, number: TransactionNumber) -> bool {
        self.refused.contains(&number)
    }

    /// Whether any transaction has voted and waits for the outcome; those that are stuck do not.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let waits = |open: &Open| open.promise.as_ref().is_some_and(|promise| !promise.is_stuck);
        self.promised > 0 && self.open.iter().any(|(_, open)| waits(open))
    }

    /// Whether the transaction's outcome will not be known here before the database is opened again.
    pub(crate) fn is_stuck(&self, number: TransactionNumber) -> bool {
        let promise = self.find(number).and_then(|open| open.promise.as_ref());
        promise.is_some_and(|promise| promise.is_stuck)
    }

    /// Takes a transaction out; its snapshot is no longer needed.
    pub(crate) fn end(&mut self, number: TransactionNumber) -> Option<Box<Open>> {
        let (_, open) = self.open.remove(self.place(number).ok()?);
        self.promised -= usize::from(open.promise.is_some());
        self.snapshots.release(open.part.snapshot);
        self.weight -= open.weight;
        Some(open)
    }

    /// A transaction may have written something.
    pub(crate) fn weigh(&mut self, number: TransactionNumber) {
        let Ok(at) = self.place(number) else { return };
        let open = &mut self.open[at].1;
        let before = std::mem::replace(&mut open.weight, open.part.weight());
        self.weight = self.weight + open.weight - before;
    }

    /// What all of them have written, in bytes.
    pub(crate) const fn weight(&self) -> usize {
        self.weight
    }

    /// What this shard keeps of a transaction.
    pub(crate) fn part(&self, number: TransactionNumber) -> Option<&Part> {
        self.find(number).map(|open| &open.part)
    }

    pub(crate) fn is_open(&self, number: TransactionNumber) -> bool {
        self.place(number).is_ok()
    }

    /// Whether a transaction is open and was begun here.
    pub(crate) fn is_begun_here(&self, number: TransactionNumber) -> bool {
        self.find(number).is_some_and(|open| open.is_begun_here)
    }

    /// How many that were begun here have been idle for too long.
    pub(crate) const fn timed_out(&self) -> u64 {
        self.timed_out
    }

    /// The snapshot of an open transaction.
    pub(crate) fn snapshot_of(&self, number: TransactionNumber) -> Option<Version> {
        self.find(number).map(|open| open.part.snapshot)
    }

    /// The snapshots that are read here.
    pub(crate) const fn snapshots(&mut self) -> &mut Snapshots {
        &mut self.snapshots
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
        self.timed_out += self.forget(|open| now.since(open.last_used) >= IDLE);
        self.next_check = if self.open.is_empty() { None } else { Some(now.after(CHECK)) };
    }

    /// Forgets all that nobody is committing.
    pub(crate) fn clear(&mut self) {
        let _ = self.forget(|_| true);
        self.next_check = None;
    }

    /// Where a transaction is, or would be.
    fn place(&self, number: TransactionNumber) -> Result<usize, usize> {
        self.open.binary_search_by_key(&number, |(number, _)| *number)
    }

    fn find(&self, number: TransactionNumber) -> Option<&Open> {
        Some(&self.open[self.place(number).ok()?].1)
    }

    fn find_mut(&mut self, number: TransactionNumber) -> Option<&mut Open> {
        let at = self.place(number).ok()?;
        Some(&mut self.open[at].1)
    }

    /// Returns how many of them were begun here.
    fn forget(&mut self, which: impl Fn(&Open) -> bool) -> u64 {
        let gone = self.open.iter().filter(|(_, open)| open.promise.is_none() && !open.is_committing && which(open));
        let gone: Vec<TransactionNumber> = gone.map(|(number, _)| *number).collect();
        let ended = gone.into_iter().filter_map(|number| self.end(number));
        ended.filter(|open| open.is_begun_here).count() as u64
    }

    /// How many are open here.
    pub(crate) const fn count(&self) -> usize {
        self.open.len()
    }
}
