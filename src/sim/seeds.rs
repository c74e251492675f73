//! Seeds: running a test for each of them, and saying which one failed.
//!
//! - `SIM_SEED=n` runs one seed and prints its trace; `SIM_RUNS=n` runs n times as many seeds.
//! - A debug build, which takes ten times as long, runs half of them unless it is told how many.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs something; the error says why it panicked.
pub(super) fn caught<W>(run: impl FnOnce() -> W) -> Result<W, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

/// A variable of the environment that is a number.
pub(super) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs so many seeds of a test (its path in `sim`), each of them given the seed and whether to say what happens.
pub(super) fn run_seeds(test: &str, count: u64, mut run: impl FnMut(u64, bool) -> Result<(), String>) {
    let one = number("SIM_SEED");
    let at_first = if cfg!(debug_assertions) { count.div_ceil(2) } else { count };
    let seeds = one.map_or(0..number("SIM_RUNS").map_or(at_first, |runs| count * runs), |seed| seed..seed + 1);
    for seed in seeds {
        if let Err(what) = run(seed, one.is_some()) {
            panic!("{what}\nSIM_SEED={seed} cargo test --lib sim::{test} -- --nocapture");
        }
    }
}
