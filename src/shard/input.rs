//! Inputs: everything that can happen to a shard.

use std::time::Duration;

use smallvec::SmallVec;

use super::subscriptions::{Start, SubscriptionNumber, Topic};
use crate::base::error::IoFailure;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::message::{Envelope, TransactionNumber};
use crate::format::record::Position;
use crate::primitive::command::Command;

/// Names a request until it is answered; chosen by the driver, unique among those not answered yet.
pub(crate) type RequestId = u64;

/// What callers ask.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// Run one command as a transaction of its own.
    Execute { run: RunId, command: Command },
    /// Begin a transaction that this shard coordinates, at a snapshot if one is given; `operations` of a transaction
    /// that is open already go on. The reply says at which snapshot it reads.
    Begin { transaction: TransactionNumber, snapshot: Option<Version> },
    /// Run one command in a transaction. `operation` counts from 0 on each shard; 0 begins the transaction here, at the
    /// snapshot that its coordinator chose, or as its coordinator if none is given.
    Step { transaction: TransactionNumber, operation: u64, snapshot: Option<Version>, run: RunId, command: Command },
    /// Commit a transaction that this shard coordinates.
    Commit { transaction: TransactionNumber, commit: Commit },
    /// Forget this shard's part of a transaction. `wrote`: it is given up, and did not only read.
    Abort { transaction: TransactionNumber, wrote: bool },
    /// Say where the log begins of what may still come above every version so far; if it `rotates`, let that be a new segment
    /// if one can be had. -> `LogStart`
    AskLogStart { rotates: bool },
    /// Choose a version at or above this one and the shard's latest, and begin a dump at it. The reply says which.
    ChooseDump { above: Version },
    /// Keep what is visible at a version that another shard has chosen, to hand it out with `Dump`.
    BeginDump { at: Version },
    /// Hand out the next pieces of the dump at a version. -> `Pieces`: none yet if it is empty, the end if it is `None`
    Dump { at: Version },
    /// End the dump at a version, if it still goes on.
    EndDump { at: Version },
    /// Register a subscription. -> `Changes`: the first ones, if there are any
    Subscribe { subscription: SubscriptionNumber, topic: Topic, start: Start },
    /// Give out what a subscription has not had yet, as soon as there is something. -> `Changes`
    Next { subscription: SubscriptionNumber },
    /// Answer a subscription as soon as nothing at or below a version can come any more, if only with nothing.
    Advance { subscription: SubscriptionNumber, through: Version },
    /// Forget a subscription.
    Unsubscribe { subscription: SubscriptionNumber },
    /// Say how far the log is durable. -> `Position`
    AskDurable,
    /// Say which runs have event logs. -> `RunIds`
    ListEventLogs,
    /// Say what was counted. -> `Metrics`
    AskMetrics,
    /// Answer when everything acknowledged so far is on disk.
    Flush,
    /// Take no more requests, and answer when nothing is under way any more.
    Close,
    /// Answer, and stop.
    Stop,
    /// Panic, to see who hears of it.
    #[cfg(test)]
    Panic,
}

/// What is to be committed, and how.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// The shards that had operations of the transaction, in ascending order, and how many.
    pub(crate) participants: SmallVec<[(u32, u64); 1]>,
    /// When it is answered.
    pub(crate) acknowledge: Acknowledge,
}

/// When a commit is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledge {
    /// As the database's mode says.
    AsUsual,
    /// When it is visible.
    Visible,
    /// When it is on disk.
    Durable,
}

/// Everything that can happen to a shard.
#[derive(Debug)]
pub(crate) enum Input {
    /// Somebody asks for something.
    Request { id: RequestId, request: Request },
    /// Another shard says something.
    Peer { from: u32, envelope: Envelope },
    /// A segment that was asked for is there, all zeros behind its header.
    SegmentReady { index: u32, capacity: u64, salt: u64 },
    /// A segment that was asked for cannot be made. The driver says `AskAgain` a while later.
    SegmentFailed { index: u32, reason: IoFailure },
    /// Some time has passed since a segment could not be made: the next write that needs one may ask for it again.
    AskAgain,
    /// The batch in flight is durable; it ends at this position, and its write took so long.
    Appended { through: Position, took: Duration },
    /// The batch in flight failed, and nobody knows what of it is on disk.
    AppendFailed { reason: String },
    /// The time that `poll_timeout` named has come.
    Tick,
}
