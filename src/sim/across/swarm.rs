//! The swarm: every seed has its own options, so that seeds look into different corners.

use super::super::rng::Rng;
use super::super::swarm::Mode;
use super::program::PURPOSES;
use crate::base::options::{DurabilityMode, HistoryRetention, Partitioning};

/// What a seed is like. Chances are in 1000.
#[derive(Clone, Debug)]
pub(super) struct Swarm {
    pub(super) mode: DurabilityMode,
    pub(super) shards: usize,
    pub(super) partitioning: Partitioning,
    pub(super) history: HistoryRetention,
    pub(super) clients: usize,
    pub(super) openings: u64,
    /// Transactions in an opening, at most.
    pub(super) transactions: u64,
    /// How many different cells of each kind.
    pub(super) width: u64,
    pub(super) purposes: Vec<u64>,
    pub(super) cells: Vec<u64>,
    pub(super) scans: u64,
    pub(super) traces: u64,
    pub(super) deletes: u64,
    pub(super) longest_ttl: u64,
    /// Nanoseconds.
    pub(super) longest_link: u64,
    pub(super) longest_service: u64,
    pub(super) longest_write: u64,
    pub(super) longest_think: u64,
    /// The process clock moves in steps of this.
    pub(super) grain: u64,
    pub(super) write_fails: u64,
    pub(super) prepare_fails: u64,
    pub(super) crash_in_recovery: u64,
    pub(super) crash_in_write: u64,
    pub(super) singles: u64,
    /// Of these.
    pub(super) documents: u64,
    pub(super) replays: u64,
    pub(super) flushes: u64,
    pub(super) durables: u64,
    pub(super) drops: u64,
    pub(super) idles: u64,
    pub(super) begins: u64,
    pub(super) reshard: u64,
    /// Of 100,000 events.
    pub(super) snapshots: u64,
}

impl Swarm {
    pub(super) fn draw(mode: Mode, rng: &mut Rng) -> Self {
        let mut swarm = Self::draw_any(mode, rng);
        if swarm.history == HistoryRetention::Off {
            // Nobody could say afterwards when something has expired.
            swarm.cells[4] = 0;
        }
        swarm
    }

    fn draw_any(mode: Mode, rng: &mut Rng) -> Self {
        let flush_interval_ms = *rng.pick(&[1, 1, 5, 50]);
        let mode = match mode {
            Mode::InMemory => DurabilityMode::InMemory,
            Mode::Buffered => {
                DurabilityMode::Buffered { flush_interval_ms, max_pending_writes: *rng.pick(&[4, 40, 1_000]) }
            }
            Mode::Strict => DurabilityMode::Strict,
        };
        let history = [HistoryRetention::Forever, HistoryRetention::Forever, HistoryRetention::Off];
        let poisons = rng.chance(250);
        let lasts = rng.chance(700);
        let crowd = *rng.pick(&[3, 8, 15]);
        Self {
            mode,
            shards: 1 + *rng.pick(&[1, 1, 1, 2, 2, 3, 0, 7]),
            partitioning: *rng.pick(&[Partitioning::ByRun, Partitioning::ByKey, Partitioning::ByKey]),
            history: *rng.pick(&history),
            clients: 2 + rng.index(crowd),
            openings: rng.below(4) + 1,
            transactions: rng.within(10..120),
            width: *rng.pick(&[1, 2, 3, 6]),
            purposes: PURPOSES.iter().map(|_| *rng.pick(&[0, 1, 1, 4])).collect(),
            cells: (0..7)
                .map(|_| *rng.pick(&[0, 0, 1, 4]))
                .enumerate()
                .map(|(at, w)| if at < 2 { w + 1 } else { w })
                .collect(),
            scans: *rng.pick(&[0, 200, 600]),
            traces: *rng.pick(&[0, 0, 300]),
            deletes: *rng.pick(&[0, 0, 200, 500]),
            longest_ttl: *rng.pick(&[30_000, 300_000, 3_000_000]),
            longest_link: *rng.pick(&[2_000, 20_000, 200_000]),
            longest_service: *rng.pick(&[200, 2_000, 20_000]),
            longest_write: *rng.pick(&[2_000, 100_000, 1_000_000]),
            longest_think: *rng.pick(&[1_000, 20_000, 200_000]),
            grain: *rng.pick(&[1, 1, 100, 10_000, 300_000]),
            write_fails: if poisons { 20 } else { 0 },
            prepare_fails: if poisons { 300 } else { 0 },
            crash_in_recovery: 150,
            crash_in_write: *rng.pick(&[0, 5, 30]),
            singles: *rng.pick(&[0, 200, 500]),
            documents: *rng.pick(&[0, 0, 400]),
            replays: *rng.pick(&[0, 50, 100]),
            flushes: *rng.pick(&[0, 0, 20]),
            durables: *rng.pick(&[0, 100]),
            drops: *rng.pick(&[0, 0, 50, 200]),
            idles: if lasts { 0 } else { 20 },
            begins: *rng.pick(&[0, 200]),
            snapshots: *rng.pick(&[0, 200]),
            reshard: *rng.pick(&[0, 500]),
        }
    }

    /// Nothing special.
    pub(super) fn plain() -> Self {
        let mut swarm = Self::draw(Mode::InMemory, &mut Rng::new(1));
        swarm.longest_ttl = 30_000;
        swarm
    }
}
