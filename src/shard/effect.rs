//! Effects: everything a shard wants done.

use super::input::RequestId;
use crate::base::error::Result;
use crate::commit::message::Envelope;
use crate::primitive::output::Reply;

/// A batch of records to be made durable in one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Append {
    /// The segment's number in this shard's log.
    pub(crate) segment: u32,
    /// Where in the segment: a multiple of the block.
    pub(crate) offset: u64,
    /// The records and their padding: a whole number of blocks.
    pub(crate) bytes: Vec<u8>,
}

/// Everything a shard wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Answer a request.
    Reply { id: RequestId, result: Result<Reply> },
    /// Tell another shard. Messages to one shard arrive in order.
    Send { to: u32, envelope: Envelope },
    /// Make a batch durable and say so with `Appended`. At most one is under way.
    Append(Append),
    /// Make a segment of at least this capacity and say so with `SegmentReady`.
    PrepareSegment { index: u32, capacity: u64 },
    /// The shard is done: nothing is left to write and nothing will be answered any more.
    Stop,
}
