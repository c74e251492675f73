//! Commit digests: what a commit did to a run, as a hash that is chained to the one before.
//!
//! - A link is a BLAKE3 hash over the link of the commit that the shard applied to the run before, the version, and what the
//!   commit left under every key of the run, in the order of the keys.
//! - A part of a transaction over several shards is chained to nothing: which commit comes before it is known only when it is
//!   decided. Commits after it are chained to it.

use serde::{Deserialize, Serialize};

use super::version::Version;

/// How a commit is chained to the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The commit it is chained to; zero if to none.
    pub(crate) before: Version,
    pub(crate) hash: [u8; 32],
}

impl Link {
    /// Whether it says anything.
    pub(crate) fn is_known(&self) -> bool {
        *self != Self::default()
    }
}

/// A commit of a run, and its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommitDigest {
    pub(crate) version: Version,
    pub(crate) link: Link,
}
