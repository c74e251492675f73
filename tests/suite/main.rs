//! The tests of the library and of the tool from outside, as one binary: linking the library takes longer than most of them.
//!
//! - They are threads of one process. What needs one of its own, because it has limits, counts processor time or is killed,
//!   starts this binary again: `support::spawn_part`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod abandoned;
mod across;
mod anomalies;
mod backup;
mod bad_input;
mod blocking;
mod blocking_surface;
mod checkpoints;
mod concurrency;
mod corruption;
mod device_writes;
mod diff;
mod durability;
mod environment;
mod event_log;
mod examples;
mod fencing;
mod fork;
mod format;
mod history;
mod idle;
mod import_trajectory;
mod isolation;
mod json_compliance;
mod json_store;
mod kill;
mod kv_store;
mod lineage;
mod memory_limit;
mod metrics;
mod no_room;
mod on_shard;
#[cfg(feature = "tool")]
mod page;
mod reading_beside;
mod reclamation;
mod replay;
mod retention;
mod run_index;
mod run_names;
mod runtimes;
mod salvage;
mod seed_quickstart;
mod signatures;
mod snapshots;
mod spread;
mod state_cell;
mod subscriptions;
#[cfg(feature = "tool")]
mod tool;
#[cfg(feature = "tool")]
mod tool_refusals;
mod trace_store;
mod transactions;
mod verification;
mod without_io_uring;
