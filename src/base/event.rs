//! Events: the records of a run's event log.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::value::{Value, write_canonical};

/// One record of a run's event log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The position in the log: 0, 1, 2 ... without gaps.
    pub sequence: u64,
    /// What kind of event it is.
    pub event_type: String,
    /// What happened.
    pub payload: Value,
    /// When it was appended, in microseconds since the Unix epoch.
    pub timestamp: i64,
    /// The hash of the event before; zero for event 0.
    pub prev_hash: [u8; 32],
    /// The hash of this event; see [`Event::compute_hash`].
    pub hash: [u8; 32],
}

impl Event {
    /// Computes the hash that this event must have.
    ///
    /// SHA-256 over: the previous hash (32 bytes), the sequence (u64), the timestamp (i64), the length of the event
    /// type in bytes (u64) and its UTF-8 bytes, the payload in the canonical encoding. Integers are little endian.
    /// `docs/FORMAT.md` gives the canonical encoding of values.
    #[must_use]
    pub fn compute_hash(&self) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(64 + self.event_type.len() + self.payload.weight());
        bytes.extend_from_slice(&self.prev_hash);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.timestamp.to_le_bytes());
        bytes.extend_from_slice(&(self.event_type.len() as u64).to_le_bytes());
        bytes.extend_from_slice(self.event_type.as_bytes());
        write_canonical(&self.payload, &mut bytes);
        Sha256::digest(&bytes).into()
    }
}

/// The end of a run's event log: enough to append the next event and to notice a missing tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventHead {
    pub(crate) len: u64,
    pub(crate) timestamp: i64,
    pub(crate) hash: [u8; 32],
}

/// What a check of a run's hash chain found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainVerification {
    /// Whether every event is there and hashes to what its successor and the head say.
    pub is_valid: bool,
    /// The number of events the log says it has.
    pub length: u64,
    /// The first sequence that is missing or wrong.
    pub first_invalid: Option<u64>,
    /// What is wrong with it.
    pub error: Option<String>,
}
