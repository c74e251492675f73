//! Inputs: everything that can happen to a shard.

use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::format::record::Position;
use crate::primitive::command::Command;

/// Names a request until it is answered; chosen by the driver, unique among those not answered yet.
pub(crate) type RequestId = u64;

/// Names a transaction of several operations; chosen by the caller, unique in one opening of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TransactionNumber(pub(crate) u64);

/// What callers ask.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// Run one command as a transaction of its own; at a snapshot if one is given (reads only).
    Execute { run: RunId, command: Command, snapshot: Option<Version> },
    /// Run one command in a transaction. `operation` counts from 0; 0 begins the transaction.
    Step { transaction: TransactionNumber, operation: u64, run: RunId, command: Command },
    /// Commit a transaction that has had so many operations.
    Commit { transaction: TransactionNumber, operations: u64 },
    /// Forget a transaction.
    Abort { transaction: TransactionNumber },
    /// Answer when everything acknowledged so far is on disk.
    Flush,
    /// Flush, answer, and stop.
    Close,
    /// Panic, to see who hears of it.
    #[cfg(test)]
    Panic,
}

/// Everything that can happen to a shard.
#[derive(Debug)]
pub(crate) enum Input {
    /// Somebody asks for something.
    Request { id: RequestId, request: Request },
    /// A segment that was asked for is there, all zeros behind its header.
    SegmentReady { index: u32, capacity: u64, salt: u64 },
    /// A segment that was asked for cannot be made.
    SegmentFailed { index: u32, reason: String },
    /// The batch in flight is durable; it ends at this position.
    Appended { through: Position },
    /// The batch in flight failed, and nobody knows what of it is on disk.
    AppendFailed { reason: String },
    /// The time that `poll_timeout` named has come.
    Tick,
}
