//! The checkers of isolation: each rejects what is broken, by its name, and accepts what is not. For each anomaly there is
//! a history that must be rejected, and a near twin that must not.

mod black_box;
mod brute_force;
mod jsonl;
mod random;
mod serial;
mod white_box;
