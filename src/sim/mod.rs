//! The simulator: one seeded thread runs several shards over a fake disk and a fake mesh, and a model says what is
//! right.
//!
//! - One seed decides everything: the options, the requests, every delay, every fault. The same seed gives the same
//!   trace.
//! - `SIM_SEED=n` runs one seed and prints its trace; `SIM_RUNS=n` runs n times as many seeds.

mod across;
mod audit;
mod checkpoints;
mod client;
mod clock;
mod damage;
mod decoders;
mod disk;
mod driver;
mod faults;
mod file;
mod ledger;
mod lifecycle;
mod lineage;
mod mesh;
mod mix;
mod model;
mod names;
mod oracle;
mod planted;
mod recovery;
mod replays;
mod rng;
mod scenarios;
mod seeds;
mod session;
mod settling;
mod snapshots;
mod subscribers;
mod swarm;
mod trace;
mod trial;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use self::damage::{Ending, Kind};
use self::faults::{Site, sites};
use self::planted::Bug;
use self::seeds::caught;
use self::swarm::Mode;
use self::trace::Trace;
use self::world::World;
use crate::base::planted::plant;

/// Runs a seed; the error says what was wrong.
fn run_seed(seed: u64, mode: Mode, bug: Option<Bug>, trace: Trace) -> Result<World, String> {
    if let Some(Bug::Planted(bug)) = bug {
        plant(Some(bug));
    }
    let result = caught(|| {
        let mut world = World::new(seed, mode, bug, trace);
        world.run();
        world
    });
    plant(None);
    result
}

fn run_seeds(test: &str, mode: Mode, count: u64) -> Total {
    let mut total = Total::default();
    seeds::run_seeds(test, count, |seed, verbose| {
        run_seed(seed, mode, None, Trace::printed(verbose)).map(|world| total.add(&world))
    });
    let hits = std::mem::take(&mut total.hits);
    println!("{test}: {total:?}");
    let missed: Vec<Site> = sites().difference(&hits).copied().collect();
    println!("{test}: {} of {} fault sites, all but {missed:?}", hits.len(), sites().len());
    Total { hits, ..total }
}

/// What all seeds did.
#[derive(Debug, Default)]
struct Total {
    seeds: u64,
    events: u64,
    requests: u64,
    commits: u64,
    transactions: u64,
    conflicts: u64,
    refused: u64,
    too_old: u64,
    lost: u64,
    revived: u64,
    crashes: u64,
    crashes_in_recovery: u64,
    torn: u64,
    late: u64,
    closes: u64,
    reshards: u64,
    faults: u64,
    shortages: u64,
    segments: u64,
    rotations: u64,
    messages: u64,
    /// Openings that failed.
    refusals: u64,
    snapshots: u64,
    /// Recoveries that started from one.
    loads: u64,
    /// Runs rebuilt from their history.
    replays: u64,
    /// Commits compared with their digests.
    proven: u64,
    /// Commits of which it is known what they read.
    explained: u64,
    /// Changes that subscribers were told of, and how often one began anew.
    told: u64,
    restarts: u64,
    /// What came of damage at rest.
    damages: BTreeMap<(Kind, Ending), u64>,
    /// What went wrong on the disk.
    hits: BTreeSet<Site>,
}

impl Total {
    fn add(&mut self, world: &World) {
        let (tally, stats) = (&world.oracle.tally, &world.stats);
        self.seeds += 1;
        self.events += world.trace.lines();
        self.requests += tally.requests;
        self.commits += tally.commits;
        self.transactions += tally.transactions;
        self.conflicts += tally.conflicts;
        self.refused += tally.refused;
        self.too_old += tally.too_old;
        self.lost += tally.lost;
        self.revived += tally.revived;
        self.crashes += stats.crashes;
        self.crashes_in_recovery += stats.crashes_in_recovery;
        self.torn += stats.torn;
        self.late += stats.late;
        self.closes += stats.closes;
        self.reshards += stats.reshards;
        self.faults += stats.faults;
        self.shortages += stats.shortages;
        self.segments += stats.segments;
        self.rotations += stats.rotations;
        self.messages += stats.messages;
        self.refusals += stats.refusals;
        self.snapshots += stats.snapshots;
        self.loads += stats.loads;
        self.replays += stats.replays;
        self.proven += stats.proven;
        self.explained += stats.explained;
        self.told += world.subscribers.changes;
        self.restarts += world.subscribers.restarts;
        self.hits.extend(world.disk.hits());
        for (ending, count) in &world.damages {
            *self.damages.entry(*ending).or_default() += count;
        }
    }
}

#[test]
fn strict() {
    let total = run_seeds("strict", Mode::Strict, 100);
    if seeds::number("SIM_SEED").is_none() {
        hit_the_rest(total.hits);
    }
}

/// Runs seeds for what has not gone wrong yet, until everything has.
fn hit_the_rest(mut hits: BTreeSet<Site>) {
    for site in sites() {
        let mut seeds = 10_000..10_100;
        while !hits.contains(&site) {
            let seed = seeds.next().unwrap_or_else(|| panic!("it never happens: {site:?}"));
            let ran = caught(|| {
                let mut world = World::new(seed, Mode::Strict, None, Trace::default());
                world.favour(site);
                world.run();
                world
            });
            hits.extend(ran.unwrap_or_else(|what| panic!("{what}\nseed {seed}, {site:?}")).disk.hits());
        }
    }
    println!("strict: {} fault sites, all of them hit", hits.len());
}

#[test]
fn buffered() {
    run_seeds("buffered", Mode::Buffered, 100);
}

#[test]
fn in_memory() {
    run_seeds("in_memory", Mode::InMemory, 50);
}

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    for mode in [Mode::Strict, Mode::Buffered, Mode::InMemory] {
        for seed in 0..5 {
            let hash = || run_seed(seed, mode, None, Trace::hashed()).expect("nothing is wrong").trace.finish();
            assert_eq!(hash(), hash(), "SIM_SEED={seed}");
        }
    }
}
