//! Transactions over several shards, under crashes, failures and all delays, held against checkers of isolation.
//!
//! - One seed decides everything: the options, the programs, every delay, every fault. The same seed gives the same
//!   trace.
//! - `SIM_SEED=n` runs one seed and prints its trace; `SIM_RUNS=n` runs n times as many seeds.
//! - What the checkers know of the database is what clients asked and were told, and the versions of commits.

mod action;
mod cell;
mod checkpoints;
mod client;
mod document;
mod driver;
mod exhaustive;
mod history;
#[path = "../../../tests/support/isolation/mod.rs"]
mod isolation;
mod lifecycle;
mod listeners;
mod planted;
mod program;
mod proofs;
mod scenarios;
mod swarm;
mod view;
mod world;

use self::world::{Stats, World};
use super::seeds::{self, caught};
use super::swarm::Mode;
use super::trace::Trace;

/// Runs a seed; the error says what was wrong.
fn run_seed(seed: u64, mode: Mode, trace: Trace) -> Result<World, String> {
    caught(|| {
        let mut world = World::new(seed, mode, trace);
        world.run();
        world
    })
}

fn run_seeds(test: &str, mode: Mode, count: u64) {
    let mut total = Stats::default();
    let path = format!("across::{test}");
    let run = |seed, verbose| run_seed(seed, mode, Trace::printed(verbose)).map(|world| total.add(&world.stats));
    seeds::run_seeds(&path, count, run);
    println!("{test}: {total:?}");
}

#[test]
fn strict() {
    run_seeds("strict", Mode::Strict, 60);
}

#[test]
fn buffered() {
    run_seeds("buffered", Mode::Buffered, 60);
}

#[test]
fn in_memory() {
    run_seeds("in_memory", Mode::InMemory, 60);
}

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    for mode in [Mode::Strict, Mode::Buffered, Mode::InMemory] {
        for seed in 0..5 {
            let hash = || run_seed(seed, mode, Trace::hashed()).expect("nothing is wrong").trace.finish();
            assert_eq!(hash(), hash(), "SIM_SEED={seed}");
        }
    }
}
