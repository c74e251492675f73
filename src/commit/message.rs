//! Messages: what shards say to each other.
//!
//! - From one shard to another they arrive in the order they were sent.
//! - Nobody waits for one inside `handle`: each is handled in one synchronous step, which may send others.

use std::sync::Arc;

use crate::base::error::{Error, IoFailure};
use crate::base::lineage::ReadSet;
use crate::base::version::Version;

/// Names one attempt of a transaction; chosen by the caller, unique in one opening of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TransactionNumber(pub(crate) u64);

/// A message and what its sender promises with every one.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// No reader at the sender is below this version, and no transaction that begins there will be.
    pub(crate) horizon: Version,
    pub(crate) message: Message,
}

/// What shards say to each other.
#[derive(Debug)]
pub(crate) enum Message {
    /// The coordinator asks a participant to promise its part, which has had so many operations.
    Prepare { transaction: TransactionNumber, operations: u64, participants: Arc<[u32]> },
    /// A participant answers. Yes is a promise: from then on only the coordinator decides.
    Vote { transaction: TransactionNumber, vote: Vote },
    /// The transaction is committed at this timestamp, and read this, if that is kept.
    Decide { transaction: TransactionNumber, timestamp: Version, reads: Option<Arc<ReadSet>> },
    /// The transaction is not committed. `log`: some part of it may be on disk where nobody can take it back, so the
    /// abort must be durable before the intents go.
    Abort { transaction: TransactionNumber, log: bool },
    /// A participant's abort record is durable.
    AbortIsDurable { transaction: TransactionNumber },
    /// Some abort record is durable: whoever still holds intents of the transaction lets go.
    Release { transaction: TransactionNumber },
    /// Everything up to this timestamp is to be marked and made durable.
    Mark { through: Version },
    /// The sender's mark at this timestamp is durable.
    Marked { through: Version },
    /// What is your horizon?
    AskHorizon,
    /// This is my horizon: it is in the envelope.
    Horizon,
    /// In `Buffered` mode: the sender can write no more, so no mark can be completed any more.
    Poisoned { reason: String },
    /// In `Buffered` mode: why the sender's log has no room for writes; `None` if it has again.
    Short { reason: Option<IoFailure> },
}

/// A participant's answer to `Prepare`.
#[derive(Debug)]
pub(crate) enum Vote {
    /// Its part holds, and is as durable as the mode asks: it can be committed at this timestamp or later, below the
    /// earliest expiry of what it read. What that was, if it is kept.
    Yes { timestamp: Version, earliest_expiry: Version, reads: Option<Arc<ReadSet>> },
    /// Its part does not hold; nothing was logged.
    No(Error),
    /// Its part was logged, and nobody knows whether it is on disk.
    Failed(String),
}
