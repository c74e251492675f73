//! Layer 5: the shard, a deterministic state machine that owns a part of the keyspace and its log.
//!
//! - `(state, now, input) -> effects`. No async, no clock, no file, no thread, no random source, no hash-order
//!   iteration: one seeded thread can run many shards over a fake disk (`sim`).
//! - Nothing in here suspends. Whatever has to wait (a reply for the disk, a batch for its segment) is data.
//! - The shard, not the driver, orders durability: a reply leaves only when what it depends on is on disk.

mod aftermath;
mod budget;
mod committing;
mod counting;
pub(crate) mod decisions;
mod door;
mod dumping;
pub(crate) mod effect;
mod execution;
mod feeding;
pub(crate) mod gate;
mod horizons;
pub(crate) mod input;
mod inspection;
pub(crate) mod log;
pub(crate) mod machine;
mod marks;
mod participation;
pub(crate) mod replay;
pub(crate) mod route;
pub(crate) mod sealing;
pub(crate) mod subscriptions;
pub(crate) mod transactions;
mod upkeep;
mod waiting;
