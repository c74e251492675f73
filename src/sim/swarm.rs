//! Swarm options: what a seed is about. Each seed turns some things off and others up, so that rare mixtures happen.

use std::time::Duration;

use super::rng::Rng;
use crate::base::options::{DurabilityMode, HistoryPolicy, HistoryRetention};

/// Which mode a simulation runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    InMemory,
    Buffered,
    Strict,
}

/// What a seed is about. Times are nanoseconds, chances are of 1000.
#[derive(Clone, Debug)]
pub(super) struct Swarm {
    pub(super) mode: DurabilityMode,
    pub(super) shards: usize,
    pub(super) history: HistoryPolicy,
    /// How many of the runs that are begun have a history of their own.
    pub(super) own_histories: u64,
    pub(super) clients: usize,
    /// How many scripts the clients run altogether.
    pub(super) scripts: u64,
    pub(super) runs: u64,
    pub(super) keys: u64,
    /// Key-value pairs, events, states, traces, JSON documents, runs.
    pub(super) primitives: [u64; 6],
    pub(super) writes: u64,
    pub(super) transactions: u64,
    pub(super) pipelined: u64,
    pub(super) snapshot_reads: u64,
    pub(super) ttl: u64,
    pub(super) longest_ttl: u64,
    pub(super) largest_value: u64,
    pub(super) large_values: u64,
    pub(super) deletes_of_runs: u64,
    pub(super) think: u64,
    pub(super) longest_link: u64,
    pub(super) longest_write: u64,
    pub(super) longest_prepare: u64,
    pub(super) crash_in_write: u64,
    /// Of 100,000 events.
    pub(super) crash: u64,
    pub(super) crash_in_recovery: u64,
    pub(super) close: u64,
    /// Of 100,000 events.
    pub(super) snapshots: u64,
    pub(super) reshard: u64,
    pub(super) write_fails: u64,
    pub(super) prepare_fails: u64,
    pub(super) reservation: u64,
    pub(super) reserve_fails: u64,
    /// Something goes wrong on the disk in an opening, or in a recovery.
    pub(super) faults: u64,
    pub(super) short_writes: u64,
    pub(super) stalls: u64,
    /// Of 100 recoveries, how many are rehearsed on damaged copies.
    pub(super) damage: u64,
}

impl Swarm {
    pub(super) fn new(mode: Mode, rng: &mut Rng) -> Self {
        let mode = match mode {
            Mode::InMemory => DurabilityMode::InMemory,
            Mode::Strict => DurabilityMode::Strict,
            Mode::Buffered => DurabilityMode::Buffered {
                flush_interval_ms: rng.within(1..6),
                max_pending_writes: *rng.pick(&[1, 2, 5, 20, 100]),
            },
        };
        let active = some_history(rng);
        let history = HistoryPolicy {
            active,
            ended: if rng.chance(400) { HistoryRetention::Off } else { active },
            lineage: rng.chance(400),
        };
        let own_histories = if rng.chance(300) { 500 } else { 0 };
        let mut often = |chance: u64, per_mille: u64| if rng.chance(chance) { per_mille } else { 0 };
        let (large_values, write_fails, prepare_fails) = (often(120, 250), often(200, 20), often(200, 250));
        let (crash_in_write, crash, close) = (often(700, 100), often(500, 100), often(500, 15));
        let (reserve_fails, deletes_of_runs, ttl) = (often(100, 400), often(500, 60), often(600, 400));
        let (transactions, pipelined, snapshot_reads) = (often(800, 350), often(700, 400), often(400, 150));
        let (faults, short_writes) = (often(500, 400), often(300, 100));
        let (stalls, damage) = (often(100, 10), often(400, 200));
        let snapshots = often(500, 800);
        let mut primitives = [10, 6, 6, 6, 6, 6];
        for weight in &mut primitives {
            *weight = if rng.chance(250) { 0 } else { *weight };
        }
        primitives[rng.index(6)] += 4;
        Self {
            mode,
            shards: rng.index(4) + 1,
            history,
            own_histories,
            clients: rng.index(6) + 1,
            scripts: rng.within(40..160),
            runs: rng.within(1..7),
            keys: *rng.pick(&[2, 5, 20]),
            primitives,
            writes: *rng.pick(&[300, 600, 900]),
            transactions,
            pipelined,
            snapshot_reads,
            ttl,
            longest_ttl: *rng.pick(&[10_000, 1_000_000, 30_000_000]),
            largest_value: *rng.pick(&[20_000, 300_000, 1_200_000]),
            large_values,
            deletes_of_runs,
            think: *rng.pick(&[2_000, 50_000, 500_000]),
            longest_link: *rng.pick(&[1, 5_000, 100_000]),
            longest_write: *rng.pick(&[1, 100_000, 2_000_000]),
            longest_prepare: *rng.pick(&[1, 50_000, 5_000_000]),
            crash_in_write,
            crash,
            crash_in_recovery: 300,
            close,
            snapshots,
            reshard: 300,
            write_fails,
            prepare_fails,
            reservation: *rng.pick(&[10_000_000, 60_000_000_000]),
            reserve_fails,
            faults,
            short_writes,
            stalls,
            damage,
        }
    }
}

/// How much history may be asked for.
pub(super) fn some_history(rng: &mut Rng) -> HistoryRetention {
    match rng.below(6) {
        0 => HistoryRetention::Off,
        1 => HistoryRetention::Commits(rng.within(1..5)),
        2 => HistoryRetention::For(Duration::from_nanos(rng.within(1_000..20_000_000))),
        _ => HistoryRetention::Forever,
    }
}
