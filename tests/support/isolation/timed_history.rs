//! A history with timestamps: what transactions saw and wrote, and as of when.
//!
//! - Reads are of what others wrote: what a transaction saw of its own writes is not listed.
//! - All that exists was written in the history. What was there before is one more transaction.
//! - `invoked` and `completed` are of one clock, which need not be that of the timestamps.

use std::ops::Bound;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this timestamp.
    Committed(u64),
    /// It wrote nothing, and was answered.
    ReadOnly,
    /// Its writes may be there or not, all of them.
    Unknown,
}

/// A version that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it was committed.
    pub version: u64,
    /// The id of who wrote it, if the value tells.
    pub writer: Option<u64>,
}

/// A read of a key.
#[derive(Clone, Debug)]
pub struct Read<K> {
    pub key: K,
    /// `None` if it was absent.
    pub seen: Option<Seen>,
}

/// A read of all keys within bounds. One with a limit ends at the last key it found.
#[derive(Clone, Debug)]
pub struct RangeRead<K> {
    pub low: Bound<K>,
    pub high: Bound<K>,
    /// All that were present.
    pub found: Vec<(K, Seen)>,
}

/// A write of a key.
#[derive(Clone, Debug)]
pub struct Write<K> {
    pub key: K,
    /// False if it deletes the key.
    pub is_present: bool,
}

/// A transaction with its timestamps.
#[derive(Clone, Debug)]
pub struct Transaction<K> {
    /// Unique in the history.
    pub id: u64,
    pub snapshot: u64,
    pub outcome: Outcome,
    pub reads: Vec<Read<K>>,
    pub ranges: Vec<RangeRead<K>>,
    /// One for each key: what is there in the end.
    pub writes: Vec<Write<K>>,
    pub invoked: u64,
    /// Of no meaning if the outcome is not known.
    pub completed: u64,
}

impl<K> Transaction<K> {
    /// The versions it saw.
    pub(super) fn sees(&self) -> impl Iterator<Item = (&K, Seen)> {
        let reads = self.reads.iter().filter_map(|read| Some((&read.key, read.seen?)));
        reads.chain(self.ranges.iter().flat_map(|range| range.found.iter().map(|(key, seen)| (key, *seen))))
    }
}
