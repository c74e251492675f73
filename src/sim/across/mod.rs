//! Transactions over several shards, under crashes, failures and all delays, held against checkers of isolation.
//!
//! - One seed decides everything: the options, the programs, every delay, every fault. The same seed gives the same
//!   trace.
//! - `SIM_SEED=n` runs one seed and prints its trace; `SIM_RUNS=n` runs n times as many seeds.
//! - What the checkers know of the database is what clients asked and were told, and the versions of commits.

mod action;
mod cell;
mod client;
mod driver;
mod exhaustive;
mod history;
#[path = "../../../tests/support/isolation/mod.rs"]
mod isolation;
mod lifecycle;
mod planted;
mod program;
mod recovery;
mod scenarios;
mod swarm;
mod view;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::swarm::Mode;
use self::world::{Stats, World};

/// Runs a seed; the error says what was wrong.
fn run_seed(seed: u64, mode: Mode, verbose: bool) -> Result<World, String> {
    let run = || {
        let mut world = World::new(seed, mode, verbose);
        world.run();
        world
    };
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run_seeds(test: &str, mode: Mode, count: u64) {
    let one = number("SIM_SEED");
    let seeds = one.map_or(0..count * number("SIM_RUNS").unwrap_or(1), |seed| seed..seed + 1);
    let mut total = Stats::default();
    for seed in seeds {
        match run_seed(seed, mode, one.is_some()) {
            Ok(world) => total.add(&world.stats),
            Err(what) => panic!("{what}\nSIM_SEED={seed} cargo test --lib sim::across::{test} -- --nocapture"),
        }
    }
    println!("{test}: {total:?}");
}

#[test]
fn strict() {
    run_seeds("strict", Mode::Strict, 100);
}

#[test]
fn buffered() {
    run_seeds("buffered", Mode::Buffered, 100);
}

#[test]
fn in_memory() {
    run_seeds("in_memory", Mode::InMemory, 100);
}

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    for mode in [Mode::Strict, Mode::Buffered, Mode::InMemory] {
        for seed in 0..5 {
            let trace = || run_seed(seed, mode, false).map(|world| world.trace());
            assert_eq!(trace(), trace(), "SIM_SEED={seed}");
        }
    }
}
