//! Callers at work, and what they saw.
//!
//! - Closed loop: a caller's next call begins when the last one has ended. Open loop: calls are meant to begin at a rate, whatever
//!   became of those before, and the time of each is counted from when it was meant to begin: nobody who waits is left out.
//! - What begins before the warm-up is over is not counted.

use std::path::Path;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::executor::block_on;
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use in_mem::prelude::*;
use in_mem::{HistoryRetention, SnapshotConfig, blocking};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;

use crate::case::{Caller, Case, Items, Setup};
use crate::raw_device::{RawDevice, Way};
use crate::request::{EVENT, Request, fill, key};

/// How far apart the keys are that callers begin with.
const APART: u64 = 10_007;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
type Latencies = Histogram<u64>;

/// How long is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
}

/// When calls begin, and which of them count.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    begin: Instant,
    from: Instant,
    until: Instant,
}

impl Schedule {
    fn new(pace: Pace) -> Self {
        // Until then every caller is there.
        let begin = Instant::now() + Duration::from_millis(20);
        let from = begin + pace.warm_up;
        Self { begin, from, until: from + pace.time }
    }

    /// When a call begins; `None` if it is too late for that.
    fn begin(&self) -> Option<Instant> {
        Some(Instant::now()).filter(|now| *now < self.until)
    }

    fn record(&self, latencies: &mut Latencies, begun: Instant) -> Result<()> {
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if begun >= self.from { latencies.record(nanos).map_err(Error::other) } else { Ok(()) }
    }
}

fn histogram() -> Result<Latencies> {
    Histogram::new(3).map_err(Error::other)
}

/// What a case showed.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) latencies: Latencies,
    pub(crate) took: Duration,
    pub(crate) cpu: Duration,
    pub(crate) flushes: u64,
    pub(crate) commits: u64,
}

/// How long all threads of this process have worked.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A database that is filled, with a run on each shard.
pub(crate) struct Opened {
    pub(crate) setup: Setup,
    database: Database,
    runs: Vec<RunId>,
    directory: tempfile::TempDir,
    /// Bytes of memory that the database counts for each item beyond its key and its value.
    pub(crate) overhead: f64,
}

impl Opened {
    pub(crate) fn new(setup: Setup) -> std::result::Result<Self, Failure> {
        let directory = tempfile::tempdir_in(".")?;
        let database = block_on(async {
            let never = SnapshotConfig { log_bytes: None, interval: None, on_close: false };
            let mut builder = Database::builder().durability(setup.mode.durability()).shards(setup.shards);
            if !setup.spins {
                builder = builder.spin(None);
            }
            builder = builder.snapshots(never).history(HistoryRetention::Off);
            builder.path(directory.path().join("database")).open().await
        })?;
        let on = |shard| std::iter::repeat_with(RunId::new).find(|run| database.shard_of(run) == shard);
        let runs: Vec<RunId> = (0..setup.shards).filter_map(on).collect();
        let before = database.info().memory_bytes;
        for run in &runs {
            block_on(fill(&database.run(run), &setup))?;
        }
        let grown = (database.info().memory_bytes - before) as f64;
        let items = setup.count as f64 * setup.shards as f64;
        let name = if setup.items == Items::Events { EVENT.into() } else { key(0) };
        let overhead = grown / items - (name.len() + setup.value_bytes) as f64;
        Ok(Self { setup, database, runs, directory, overhead })
    }

    pub(crate) fn close(self) -> Result<()> {
        block_on(async { self.database.close().await })
    }

    /// The runs of a transaction over several.
    fn pair(&self) -> [RunId; 2] {
        [self.runs[0], self.runs[self.runs.len() - 1]]
    }

    pub(crate) fn measure(&self, case: &Case, pace: Pace) -> std::result::Result<Measured, Failure> {
        let schedule = Schedule::new(pace);
        let before = block_on(self.database.metrics())?.total;
        let (cpu, took, all) = std::thread::scope(|scope| {
            for _ in 0..case.busy {
                scope.spawn(|| while schedule.begin().is_some() {});
            }
            let callers = scope.spawn(|| self.call(*case, schedule));
            sleep_until(schedule.from);
            let cpu = cpu_time();
            sleep_until(schedule.until);
            let cpu = cpu_time() - cpu;
            let all = callers.join().map_err(|_| "a caller panicked")??;
            // In an open loop those who are late are waited for.
            let took = if case.rate.is_some() { schedule.from.elapsed() } else { pace.time };
            Ok::<_, Failure>((cpu, took, all))
        })?;
        let after = block_on(self.database.metrics())?.total;
        let mut latencies = histogram()?;
        for one in all {
            latencies.add(one)?;
        }
        let commits = after.commits + after.commits_across - before.commits - before.commits_across;
        Ok(Measured { latencies, took, cpu, flushes: after.flushes - before.flushes, commits })
    }

    /// Everybody's latencies.
    fn call(&self, case: Case, schedule: Schedule) -> std::result::Result<Vec<Latencies>, Failure> {
        match case.caller {
            Caller::Device(way) => return Ok(vec![write_blocks(self.directory.path(), way, schedule)?]),
            Caller::Thread => return self.call_from_threads(case, schedule),
            _ => {}
        }
        let is_multi_thread = case.caller == Caller::MultiThread;
        let mut builder = if is_multi_thread { Builder::new_multi_thread() } else { Builder::new_current_thread() };
        builder.enable_time().build()?.block_on(async {
            if case.caller == Caller::Pipelined {
                return Ok(vec![self.call_from_one_task(case, schedule).await?]);
            }
            let mut all = Vec::new();
            let callers = (0..case.callers).map(|caller| tokio::spawn(self.caller(case, schedule, caller)));
            for caller in callers.collect::<Vec<_>>() {
                all.push(caller.await??);
            }
            Ok(all)
        })
    }

    /// One who calls on the shard or from a task.
    fn caller(&self, case: Case, schedule: Schedule, caller: usize) -> impl Future<Output = Result<Latencies>> + use<> {
        let (database, run, pair) = (self.database.clone(), self.runs[caller % self.runs.len()], self.pair());
        async move {
            if case.caller == Caller::Shard {
                let there = database.clone();
                let task =
                    move |local: LocalRun| async move { call(&there, &local, pair, &case, schedule, caller).await };
                return database.spawn_on(run, task).await;
            }
            call(&database, &database.run(run), pair, &case, schedule, caller).await
        }
    }

    fn call_from_threads(&self, case: Case, schedule: Schedule) -> std::result::Result<Vec<Latencies>, Failure> {
        let database = blocking::Database::from(self.database.clone());
        let call = |caller: usize| -> Result<Latencies> {
            let (run, mut latencies) = (database.run(self.runs[caller % self.runs.len()]), histogram()?);
            for number in caller as u64 * APART.. {
                let request = Request::new(case.operation, number, &self.setup);
                let Some(begun) = schedule.begin() else { break };
                request.ask_blocking(&run)?;
                schedule.record(&mut latencies, begun)?;
            }
            Ok(latencies)
        };
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..case.callers).map(|caller| scope.spawn(move || call(caller))).collect();
            callers.into_iter().map(|caller| Ok(caller.join().map_err(|_| "a caller panicked")??)).collect()
        })
    }

    /// As many calls in flight as there are callers; or, at a rate, as many as it takes.
    async fn call_from_one_task(&self, case: Case, schedule: Schedule) -> Result<Latencies> {
        let (run, mut latencies) = (self.database.run(self.runs[0]), histogram()?);
        let (mut in_flight, mut number) = (FuturesUnordered::new(), 0);
        loop {
            let is_due = |in_flight: usize, number: u64| match case.rate {
                None => schedule.begin().filter(|_| in_flight < case.callers),
                Some(rate) => Some(schedule.begin + Duration::from_nanos(number * 1_000_000_000 / rate))
                    .filter(|intended| *intended < schedule.until && *intended <= Instant::now()),
            };
            while let Some(begun) = is_due(in_flight.len(), number) {
                let request = Request::new(case.operation, number, &self.setup);
                let call = request.ask(&self.database, &run, self.pair());
                in_flight.push(async move { call.await.map(|()| begun) });
                number += 1;
            }
            match futures::poll!(in_flight.next()) {
                Poll::Ready(Some(begun)) => schedule.record(&mut latencies, begun?)?,
                Poll::Ready(None) if Instant::now() >= schedule.until => return Ok(latencies),
                // Whoever calls at a rate looks at the clock meanwhile, to the microsecond.
                _ if case.rate.is_some() => tokio::task::yield_now().await,
                _ => {
                    if let Some(begun) = in_flight.next().await {
                        schedule.record(&mut latencies, begun?)?;
                    }
                }
            }
        }
    }
}

/// One call after the other.
async fn call(
    database: &Database,
    run: &RunHandle,
    pair: [RunId; 2],
    case: &Case,
    schedule: Schedule,
    caller: usize,
) -> Result<Latencies> {
    let (mut latencies, limit) = (histogram()?, case.limit());
    let on_same_shard = |other: &RunId| database.shard_of(other) == database.shard_of(run.id());
    let other = std::iter::repeat_with(RunId::new).find(on_same_shard).map(|other| database.run(other));
    for number in caller as u64 * APART.. {
        let request = Request::new(case.operation, number, &case.setup);
        let Some(begun) = schedule.begin().filter(|_| limit.is_none_or(|limit| latencies.len() < limit)) else { break };
        let warms_up = other.as_ref().filter(|_| limit.is_some() && begun < schedule.from);
        request.ask(database, warms_up.unwrap_or(run), pair).await?;
        schedule.record(&mut latencies, begun)?;
    }
    Ok(latencies)
}

/// Writes to the device alone.
fn write_blocks(directory: &Path, way: Way, schedule: Schedule) -> std::result::Result<Latencies, Failure> {
    let (mut device, mut latencies) = (RawDevice::open(directory, way)?, histogram()?);
    while let Some(begun) = schedule.begin() {
        device.write()?;
        schedule.record(&mut latencies, begun)?;
    }
    Ok(latencies)
}

fn sleep_until(then: Instant) {
    std::thread::sleep(then.saturating_duration_since(Instant::now()));
}
