//! How long calls take: every mode, operation and caller, one call at a time, many in flight, and at a rate; with more shards,
//! callers, items and larger values; with more threads than cores.
//!
//! `cargo run --release -p in-mem-latency [-- SUITE.. --rounds 3 --seconds 1 --rate N --largest 10000000 --quick --json
//! --plot DIRECTORY]`. Every figure is the median of the rounds; a round goes through all of a suite, so that what the machine
//! does meanwhile is the same for all.
//!
//! Prediction, before the first measurement (two shared cores): on the shard get 0.8 µs, put 1.5 µs; from tokio and from a thread
//! 1.5 µs more, and from the multi-thread runtime 5 µs more, because three threads share two cores. 256 calls in flight: 500,000
//! a second. At 50,000 a second the median is that of one call, 3 µs, and p99 a wake-up, 100 µs. CPU seconds per
//! million: 1.5 on the shard, whatever their number; 3 from tokio, 10 where threads sleep. A get, a list and a cas grow with the
//! logarithm, by a factor of 2 from 1,000 to 1,000,000 (caches); append, len and head not at all. Without spinning, p99 beside
//! busy threads is what the scheduler gives, milliseconds, with spinning no more. Idle: 1 ms of a second.

#![allow(missing_docs, reason = "a program of its own")]

mod case;
mod load;
mod plot;
#[path = "../../support/raw_device.rs"]
mod raw_device;
mod report;
mod request;
mod suite;

use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use load::{Failure, Opened, Pace};
use suite::Suite;

struct Plan {
    suites: Vec<String>,
    rounds: usize,
    pace: Pace,
    rate: Option<u64>,
    largest: u64,
    json: bool,
    plot: Option<PathBuf>,
}

impl Plan {
    fn read() -> Result<Self, Failure> {
        let pace = Pace { warm_up: Duration::from_millis(300), time: Duration::from_secs(1) };
        let mut plan =
            Self { suites: vec![], rounds: 3, pace, rate: None, largest: suite::LARGEST, json: false, plot: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => plan.rounds = value()?.parse::<usize>()?.max(1),
                "--seconds" => plan.pace.time = Duration::from_secs_f64(value()?.parse()?),
                "--rate" => plan.rate = Some(value()?.parse()?),
                "--largest" => plan.largest = value()?.parse()?,
                "--plot" => plan.plot = Some(value()?.into()),
                "--json" => plan.json = true,
                "--quick" => {
                    plan.rounds = 1;
                    plan.largest = 10_000;
                    plan.pace = Pace { warm_up: Duration::from_millis(20), time: Duration::from_millis(50) };
                }
                name if suite::ALL.iter().any(|suite| suite.name == name) => plan.suites.push(argument),
                other => return Err(format!("unknown argument: {other}").into()),
            }
        }
        Ok(plan)
    }
}

/// Every case in turn, as often as there are rounds.
fn measure(suite: &Suite, plan: &Plan) -> Result<(), Failure> {
    let mut cases = (suite.cases)(plan.largest);
    if let Some(rate) = plan.rate {
        cases.iter_mut().for_each(|case| case.rate = case.rate.map(|_| rate));
    }
    let mut rounds = vec![Vec::new(); cases.len()];
    let mut latencies: Vec<Histogram<u64>> = vec![Histogram::new(3)?; cases.len()];
    for _ in 0..plan.rounds {
        let mut opened: Option<Opened> = None;
        for (at, case) in cases.iter().enumerate() {
            if let Some(other) = opened.take_if(|opened| opened.setup != case.setup) {
                other.close()?;
            }
            let opened = match &mut opened {
                Some(opened) => opened,
                none => none.insert(Opened::new(case.setup)?),
            };
            let measured = opened.measure(case, plan.pace)?;
            rounds[at].push(report::figures(case, opened, &measured));
            latencies[at].add(measured.latencies)?;
        }
        opened.map_or(Ok(()), Opened::close)?;
    }
    for (case, rounds) in cases.iter().zip(&rounds) {
        let line = report::line(suite.name, case, rounds);
        println!("{}", if plan.json { line.to_string() } else { report::text(&line) });
    }
    if let (Some(directory), Some(figure)) = (&plan.plot, &suite.figure) {
        let curves = cases.iter().zip(&latencies).filter(|(case, _)| (figure.shows)(case));
        let curves: Vec<_> = curves.map(|(case, latencies)| (case.label(), latencies)).collect();
        plot::draw(&directory.join(figure.file), figure.title, &curves)?;
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let plan = Plan::read()?;
    let is_asked = |name: &str| plan.suites.is_empty() || plan.suites.iter().any(|suite| suite == name);
    suite::ALL.iter().filter(|suite| is_asked(suite.name)).try_for_each(|suite| measure(suite, &plan))
}
