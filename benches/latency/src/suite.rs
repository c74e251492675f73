//! The suites: what is measured together, and answers one question.

use crate::case::{Caller, Case, Items, Mode, Operation, Setup};
use crate::raw_device::Way;

/// The largest number of items that is tried when nothing else is said.
pub(crate) const LARGEST: u64 = 1_000_000;

pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) cases: fn(largest: u64) -> Vec<Case>,
    pub(crate) figure: Option<Figure>,
}

/// Percentile curves of some of the cases.
pub(crate) struct Figure {
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    pub(crate) shows: fn(&Case) -> bool,
}

impl Suite {
    const fn new(name: &'static str, cases: fn(u64) -> Vec<Case>) -> Self {
        Self { name, cases, figure: None }
    }
}

pub(crate) const ALL: [Suite; 9] = [
    Suite { figure: Some(CALLS), ..Suite::new("calls", |_| calls()) },
    Suite { figure: Some(OPEN), ..Suite::new("open", |_| open()) },
    Suite::new("shards", |_| shards()),
    Suite::new("callers", |_| callers()),
    Suite::new("sizes", sizes),
    Suite::new("values", |_| values()),
    Suite::new("oversubscribed", |_| oversubscribed()),
    Suite::new("idle", |_| idle()),
    Suite::new("memory", memory),
];

const CALLS: Figure = Figure {
    file: "latency.svg",
    title: "a put of 100 bytes from tokio, one after the other",
    shows: |case| {
        let is_device = matches!(case.caller, Caller::Device(_));
        is_device || (case.operation == Operation::Put && case.caller == Caller::CurrentThread)
    },
};

const OPEN: Figure = Figure {
    file: "latency-open.svg",
    title: "puts of 100 bytes from tokio at a rate, counted from when they were meant to begin",
    shows: |case| {
        let is_device = matches!(case.caller, Caller::Device(_));
        is_device || (case.operation == Operation::Put && matches!(case.rate, Some(5_000 | 50_000)))
    },
};

fn raw_device() -> impl Iterator<Item = Case> {
    Way::ALL.into_iter().map(|way| Case::new(Setup::new(Mode::Strict), Operation::Put, Caller::Device(way)))
}

/// Every mode, operation and caller, one call after the other; and many calls of one task in flight.
fn calls() -> Vec<Case> {
    let mut all = Vec::new();
    for setup in Mode::ALL.map(Setup::new) {
        for operation in [Operation::Get, Operation::Put, Operation::Append, Operation::Transaction] {
            let callers = [Caller::Shard, Caller::CurrentThread, Caller::MultiThread, Caller::Thread];
            all.extend(callers.map(|caller| Case::new(setup, operation, caller)));
        }
        for callers in [64, 256] {
            let pipelined = |operation| Case { callers, ..Case::new(setup, operation, Caller::Pipelined) };
            all.extend([Operation::Get, Operation::Put].map(pipelined));
        }
    }
    all.extend(raw_device());
    for mode in Mode::ALL {
        let setup = Setup { shards: 2, count: 10_000, ..Setup::new(mode) };
        all.push(Case::new(setup, Operation::Across, Caller::CurrentThread));
    }
    all
}

/// Calls at a rate, of one task.
fn open() -> Vec<Case> {
    let mut all = Vec::new();
    for (mode, rates) in [
        (Mode::InMemory, [10_000, 50_000, 200_000]),
        (Mode::Buffered, [10_000, 50_000, 200_000]),
        (Mode::Strict, [500, 5_000, 20_000]),
    ] {
        for operation in [Operation::Get, Operation::Put] {
            let case = Case::new(Setup::new(mode), operation, Caller::Pipelined);
            all.extend(rates.map(|rate| Case { rate: Some(rate), ..case }));
        }
    }
    all.extend(raw_device());
    all
}

/// Runs that have nothing to do with each other, one on each shard.
fn shards() -> Vec<Case> {
    let mut all = Vec::new();
    for mode in [Mode::InMemory, Mode::Buffered] {
        for shards in [1, 2, 4, 8] {
            let setup = Setup { shards, count: 10_000, ..Setup::new(mode) };
            for caller in [Caller::Shard, Caller::MultiThread] {
                all.push(Case { callers: shards, ..Case::new(setup, Operation::Put, caller) });
            }
        }
    }
    all
}

fn callers() -> Vec<Case> {
    let mut all = Vec::new();
    for mode in Mode::ALL {
        let case = Case::new(Setup::new(mode), Operation::Put, Caller::MultiThread);
        all.extend([1, 4, 16, 64, 256, 1_000].map(|callers| Case { callers, ..case }));
    }
    all
}

/// More and more items.
fn sizes(largest: u64) -> Vec<Case> {
    let mut all = Vec::new();
    let counts = [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    for count in counts.into_iter().filter(|count| *count <= largest) {
        for (items, operations) in [
            (Items::Pairs, &[Operation::Get, Operation::Put, Operation::List, Operation::Scan][..]),
            (Items::Events, &[Operation::Append, Operation::Len, Operation::Head]),
            (Items::Cells, &[Operation::Cas]),
        ] {
            let setup = Setup { items, count, ..Setup::new(Mode::InMemory) };
            all.extend(operations.iter().map(|operation| Case::new(setup, *operation, Caller::Shard)));
        }
    }
    all
}

fn values() -> Vec<Case> {
    let mut all = Vec::new();
    for mode in Mode::ALL {
        for value_bytes in [16, 128, 1 << 10, 16 << 10, 128 << 10, 1 << 20] {
            let setup = Setup { count: 64, value_bytes, ..Setup::new(mode) };
            all.extend([Operation::Get, Operation::Put].map(|ask| Case::new(setup, ask, Caller::CurrentThread)));
        }
    }
    all
}

/// More threads than cores: shards, callers, and threads that never rest. With spinning and without.
fn oversubscribed() -> Vec<Case> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = Vec::new();
    for mode in [Mode::InMemory, Mode::Strict] {
        for (shards, callers, busy) in
            [(1, 1, 0), (1, 1, cores), (1, 2 * cores, 0), (2 * cores, 2 * cores, 0), (2 * cores, 2 * cores, cores)]
        {
            for spins in [true, false] {
                let setup = Setup { shards, spins, count: 10_000, ..Setup::new(mode) };
                all.push(Case { callers, busy, ..Case::new(setup, Operation::Put, Caller::Thread) });
            }
        }
    }
    all
}

/// Nobody calls.
fn idle() -> Vec<Case> {
    let setups = Mode::ALL.map(|mode| Setup { shards: 2, count: 10_000, ..Setup::new(mode) });
    setups.map(|setup| Case { callers: 0, ..Case::new(setup, Operation::Get, Caller::Thread) }).to_vec()
}

/// What an item takes beside its key and its value.
fn memory(largest: u64) -> Vec<Case> {
    let setups = [Items::Pairs, Items::Events, Items::Cells].map(|items| Setup {
        items,
        count: LARGEST.min(largest),
        ..Setup::new(Mode::InMemory)
    });
    setups.map(|setup| Case { callers: 0, ..Case::new(setup, Operation::Get, Caller::Thread) }).to_vec()
}
