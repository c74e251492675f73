//! What is asked of a store, and what came of it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::peer::{Durability, Peer, Result};

/// How many bytes a value has.
pub(crate) const VALUE: usize = 100;
/// How many callers there are where there are many.
pub(crate) const CALLERS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Get,
    Put,
    /// `CALLERS` at once.
    Puts,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::Get, Self::Put, Self::Puts];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Puts => "put, 16 callers",
        }
    }

    pub(crate) const fn callers(self) -> usize {
        if matches!(self, Self::Puts) { CALLERS } else { 1 }
    }
}

/// How many keys there are. Where every put waits for the device, few are put before the clock starts.
pub(crate) const fn keys(durability: Durability) -> u64 {
    if matches!(durability, Durability::Machine) { 2_000 } else { 100_000 }
}

/// A key, in a scattered order.
pub(crate) fn key(number: u64, keys: u64) -> String {
    format!("key-{:07}", number.wrapping_mul(48_271) % keys)
}

/// A value that no other number has: some stores skip a write that changes nothing.
pub(crate) fn value(number: u64) -> String {
    format!("{number:0VALUE$}")
}

/// How long each call took, in nanoseconds, and how many came to an end in a second.
pub(crate) struct Measured {
    pub(crate) latencies: Histogram<u64>,
    pub(crate) per_second: f64,
}

impl Measured {
    #[expect(clippy::cast_precision_loss, reason = "there are fewer calls than that")]
    pub(crate) fn of(all: Vec<Histogram<u64>>, took: Duration) -> Result<Self> {
        let mut latencies = Histogram::new(3)?;
        for one in all {
            latencies.add(one)?;
        }
        let per_second = latencies.len() as f64 / took.as_secs_f64();
        Ok(Self { latencies, per_second })
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whoever can be asked for a workload.
pub(crate) trait Contender {
    /// Puts every key once.
    fn fill(&self, keys: u64) -> Result<()>;
    /// Runs a workload for so long; `None` if it is not meant for this one.
    fn run(&self, workload: Workload, keys: u64, time: Duration) -> Result<Option<Measured>>;
}

impl Contender for Box<dyn Peer> {
    fn fill(&self, keys: u64) -> Result<()> {
        (0..keys).try_for_each(|number| self.put(&key(number, keys), value(number).as_bytes()))
    }

    fn run(&self, workload: Workload, keys: u64, time: Duration) -> Result<Option<Measured>> {
        let started = Instant::now();
        let call = |caller: usize| -> Result<Histogram<u64>> {
            let mut latencies = Histogram::new(3)?;
            let mut number = caller as u64 * 1_000;
            while started.elapsed() < time {
                let (key, value) = (key(number, keys), value(keys + number));
                let begun = Instant::now();
                if workload == Workload::Get {
                    assert_eq!(self.get(&key)?, Some(VALUE), "it is there");
                } else {
                    self.put(&key, value.as_bytes())?;
                }
                latencies.record(nanos(begun.elapsed()))?;
                number += 1;
            }
            Ok(latencies)
        };
        let all = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..workload.callers()).map(|caller| scope.spawn(move || call(caller))).collect();
            callers.into_iter().map(|caller| caller.join().expect("no caller panics")).collect::<Result<Vec<_>>>()
        })?;
        Measured::of(all, started.elapsed()).map(Some)
    }
}
