//! The portable driver: a shard on a plain thread, and its log on another.
//!
//! - Where `io_uring` is refused or unknown. The shards, their loop and what is on disk are the same.
//! - A shard's thread runs the loop and callers' tasks, and parks while neither has anything to do (`executor`).
//! - What waits for the disk is done by a second thread, so that reads never do (`writer`): it starts with the first
//!   segment.

mod executor;
mod segment_file;
pub(crate) mod thread;
mod writer;
