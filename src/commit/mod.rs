//! Layer 3: optimistic concurrency control.
//!
//! - A transaction reads at one snapshot S and buffers its writes. It commits iff nothing it read has a version above S.
//! - `Part` is what one shard keeps of a transaction. One that has a single part is validated, logged and applied in one
//!   synchronous step; one that has several is prepared on each shard, where its intents lock what it touched until the
//!   coordinator has counted the votes. `docs/COMMIT.md` has the whole protocol.

pub(crate) mod access;
pub(crate) mod coordinator;
pub(crate) mod intents;
pub(crate) mod message;
pub(crate) mod part;
