//! Tests of the checkers: for each anomaly a history that must be rejected, and a near twin that must not.

mod black_box;
mod brute_force;
mod jsonl;
mod random;
mod serial;
mod white_box;
