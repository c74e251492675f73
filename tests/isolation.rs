//! The checkers of isolation: each rejects what is broken, by its name, and accepts what is not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/isolation/mod.rs"]
mod isolation;
#[path = "support/isolation/tests/mod.rs"]
mod tests;

use isolation::{black_box, history, jsonl, white_box};
