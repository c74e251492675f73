//! Layer 2: one shard's versioned memory.
//!
//! - Every key has a chain of revisions in the order of their versions; a read at S sees the newest at or below S.
//! - A revision is forgotten only when no reader can need it any more (the horizon) and the history policy of its
//!   space lets it go. Deletes leave a revision that holds nothing, for the same reason.

pub(crate) mod backlog;
pub(crate) mod chain;
pub(crate) mod changes;
pub(crate) mod commits;
pub(crate) mod dump;
pub(crate) mod footprint;
pub(crate) mod lineage;
pub(crate) mod memory;
pub(crate) mod retention;
pub(crate) mod snapshots;
