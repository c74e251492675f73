//! Layer 7: what users hold.
//!
//! - An operation is a value: its arguments are converted before the method returns, nothing is borrowed, nothing
//!   happens before it is awaited.
//! - Sizes and shapes are checked here, at the door; a shard never sees what is too large.
//! - Every primitive is written once, on a run's handle (`RunKv`, `RunEvents` ...), in or outside a transaction; the
//!   store-wide handles (`KVStore`, `EventLog` ...) pass on to those.

pub(crate) mod builder;
pub(crate) mod database;
pub(crate) mod diff;
mod diff_text;
pub(crate) mod event_log;
#[cfg(test)]
mod every_byte;
pub(crate) mod extensions;
mod fork;
pub(crate) mod json_store;
#[cfg(test)]
mod kill_points;
pub(crate) mod kv_store;
pub(crate) mod lineage;
mod lineage_text;
pub(crate) mod local_run;
pub(crate) mod op;
pub(crate) mod pages;
pub(crate) mod replay;
pub(crate) mod run_handle;
pub(crate) mod run_index;
pub(crate) mod run_names;
pub(crate) mod scan;
pub(crate) mod scope;
pub(crate) mod snapshots;
pub(crate) mod spread;
pub(crate) mod state_cell;
pub(crate) mod subscription;
pub(crate) mod trace_store;
pub(crate) mod transacting;
pub(crate) mod transaction;
pub(crate) mod verify_run;
pub(crate) mod watching;
