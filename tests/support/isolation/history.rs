//! A history: what clients asked and what they were told.
//!
//! - Values of a key are unique, so that a value names the transaction that appended it.
//! - Times are of one clock, or the numbers of events. One transaction is before another only if it completed at a
//!   smaller time than the other was invoked at.
//! - What a failed transaction read is not looked at.

/// What the client was told at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is committed.
    Ok,
    /// Nothing of it has happened or ever will.
    Fail,
    /// Nobody knows. It counts as committed if somebody saw one of its appends.
    Info,
}

/// A part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Puts a value at the end of a key's list. A key without a list has the empty one.
    Append { key: i64, value: i64 },
    /// Reads the list of a key; `None` if the answer is not known.
    Read { key: i64, values: Option<Vec<i64>> },
    /// Reads all keys from `low` to `high`, both included, that exist; `None` if the answer is not known.
    Scan { low: i64, high: i64, keys: Option<Vec<(i64, Vec<i64>)>> },
}

/// A transaction as a client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Who ran it, one after the other. For people only: the order is in the times.
    pub process: u64,
    pub status: Status,
    pub invoked: u64,
    /// Of no meaning if the outcome is not known.
    pub completed: u64,
    /// In the order they were run.
    pub operations: Vec<Operation>,
}
