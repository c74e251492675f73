//! in-mem: an embedded, async-first database for AI agents.
#![deny(unsafe_code)]

mod api;
mod base;
mod commit;
mod format;
mod primitive;
mod runtime;
mod shard;
mod store;
