//! The mesh: messages between clients and shards, and from shard to shard.
//!
//! - From one party to another, messages arrive in the order they were sent; apart from that, any delay is possible.
//! - A crash loses everything under way.

use std::collections::BTreeMap;

use super::rng::Rng;
use crate::base::version::Version;
use crate::commit::message::Envelope;
use crate::shard::input::{Request, RequestId};

/// Who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    Client(usize),
    Shard(usize),
    /// Whoever opens and closes the database.
    Keeper,
}

/// What is sent.
#[derive(Debug)]
pub(super) enum Message {
    Request {
        id: RequestId,
        request: Request,
    },
    /// The answer itself was looked at when it left the shard; `version` is that of a commit.
    Reply {
        id: RequestId,
        version: Option<Version>,
    },
    /// One shard says something to another.
    Peer {
        from: u32,
        envelope: Envelope,
    },
}

/// The links, each with the time at which its last message arrives.
#[derive(Debug, Default)]
pub(super) struct Mesh {
    links: BTreeMap<(Party, Party), u64>,
}

impl Mesh {
    /// When a message sent now arrives.
    pub(super) fn send(&mut self, rng: &mut Rng, now: u64, from: Party, to: Party, longest: u64) -> u64 {
        let last = self.links.entry((from, to)).or_insert(0);
        // Most messages are fast, so that some overtake those on other links.
        let delay = if rng.chance(700) { rng.below(longest / 8 + 1) } else { rng.below(longest + 1) };
        *last = (*last).max(now + delay);
        *last
    }

    pub(super) fn crash(&mut self) {
        self.links.clear();
    }
}
