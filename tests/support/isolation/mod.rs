//! Isolation checkers: was a history of transactions strictly serializable?
//!
//! - `black_box` knows what clients asked and were told, nothing else. It is list-append checking as in Elle
//!   (Kingsbury and Alvaro, 2020): appends make the order of versions visible, and a cycle of dependencies is a fault.
//! - `white_box` knows commit timestamps as well, and holds every read against the state at its timestamp.
//! - Both are functions of their input alone: no clock, no randomness, no order of hashes, nothing of the database.
//! - What the black box rejects, no strictly serializable database can have done. The white box asks for more: that the
//!   timestamps themselves are the serial order.
//! - `tests/suite/isolation.rs` tests them: for each anomaly a history that must be rejected, and a twin that must not.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "included from several places, each uses a part")]

pub mod anomaly;
mod appends;
pub mod black_box;
mod classes;
mod cycle;
mod graph;
pub mod history;
pub mod jsonl;
mod observation;
mod orders;
mod real_time;
mod ties;
pub mod timed_history;
mod timeline;
mod unknown;
pub mod violation;
pub mod white_box;

/// The place of a transaction in the history, and its node in the graph.
type Place = usize;
