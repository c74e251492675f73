//! Layer 3: optimistic concurrency control.
//!
//! - A transaction reads at one snapshot S and buffers its writes. It commits iff nothing it read has a version above S.
//! - `Part` is what one shard keeps of a transaction; a transaction within one run has one part, validated, logged
//!   and applied in one synchronous step.
//! - The participant and coordinator state machines of transactions over several shards belong beside it: a
//!   participant is a `Part` that has voted, a coordinator counts the votes.

pub(crate) mod access;
pub(crate) mod part;
