//! in-mem beside what people use today, in one run and in turn: 100-byte values, one table, defaults but for durability.
//!
//! `cargo run --release -p in-mem-peers [-- --rounds 5 --seconds 1 --quick --json]`. Every figure is the median of the rounds. In a
//! round, every store takes its turn with a workload, so that what the machine does meanwhile is the same for all.
//!
//! Prediction, before the first measurement: a lock around a `BTreeMap` is the floor in memory (get 0.3 µs, put 0.4 µs); on the
//! shard in-mem takes 1.2 and 1.5 µs, as much as an LMDB read and a fifth of anybody's put; from tokio 3 µs. Of those that
//! survive the machine, one caller pays the device (100 to 300 µs) and in-mem a fifth more; with 16 callers in-mem writes them
//! together, and so three times as many as the next.

#![allow(missing_docs, reason = "a program of its own")]

mod device;
mod ours;
mod peer;
#[path = "../../support/raw_device.rs"]
mod raw_device;
mod stores;
mod workload;

use std::path::Path;
use std::time::Duration;

use device::Device;
use ours::{Caller, Ours};
use peer::{Durability, Result};
use raw_device::Way;
use workload::{Contender, Workload, keys};

/// How often and how long everybody is asked.
struct Plan {
    rounds: usize,
    time: Duration,
    json: bool,
}

impl Plan {
    fn read() -> Result<Self> {
        let mut plan = Self { rounds: 5, time: Duration::from_secs(1), json: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number =
                || arguments.next().ok_or("a number is missing")?.parse::<usize>().map_err(|_| "not a number");
            match argument.as_str() {
                "--rounds" => plan.rounds = number()?.max(1),
                "--seconds" => plan.time = Duration::from_secs(number()? as u64),
                "--json" => plan.json = true,
                "--quick" => (plan.rounds, plan.time) = (1, Duration::from_millis(50)),
                other => return Err(format!("unknown argument: {other}").into()),
            }
        }
        Ok(plan)
    }
}

/// Everybody who has something of this durability, and has all keys.
fn contenders(path: &Path, durability: Durability) -> Result<Vec<(&'static str, Box<dyn Contender>)>> {
    let mut all: Vec<(&str, Box<dyn Contender>)> = Vec::new();
    for (name, caller) in [("in-mem, on the shard", Caller::Shard), ("in-mem, from tokio", Caller::Tokio)] {
        let path = path.join(name);
        std::fs::create_dir(&path)?;
        all.push((name, Box::new(Ours::open(&path, durability, caller)?)));
    }
    for entrant in stores::ALL {
        let path = path.join(entrant.name.replace('/', "-"));
        std::fs::create_dir(&path)?;
        if let Some(peer) = (entrant.open)(&path, durability)? {
            all.push((entrant.name, Box::new(peer)));
        }
    }
    if durability == Durability::Machine {
        for way in Way::ALL {
            let path = path.join(way.name());
            std::fs::create_dir(&path)?;
            all.push((way.name(), Box::new(Device::open(&path, way)?)));
        }
    }
    for (_, contender) in &all {
        contender.fill(keys(durability))?;
    }
    Ok(all)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "a latency is short")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

fn compare(durability: Durability, plan: &Plan) -> Result<()> {
    let directory = tempfile::tempdir_in(".")?;
    let all = contenders(directory.path(), durability)?;
    for workload in Workload::ALL {
        let mut figures = vec![[const { Vec::new() }; 3]; all.len()];
        for _ in 0..plan.rounds {
            for ((_, contender), figures) in all.iter().zip(&mut figures) {
                let Some(measured) = contender.run(workload, keys(durability), plan.time)? else { continue };
                figures[0].push(micros(measured.latencies.value_at_quantile(0.5)));
                figures[1].push(micros(measured.latencies.value_at_quantile(0.99)));
                figures[2].push(measured.per_second);
            }
        }
        if !plan.json {
            println!("\n| {}, {} | p50 | p99 | per second |\n|---|---|---|---|", workload.name(), durability.name());
        }
        for ((name, _), figures) in all.iter().zip(figures).filter(|(_, figures)| !figures[0].is_empty()) {
            let [p50, p99, per_second] = figures.map(median);
            if plan.json {
                let (workload, durability) = (workload.name(), durability.name());
                let line = serde_json::json!({
                    "store": name, "workload": workload, "durability": durability,
                    "p50_us": p50, "p99_us": p99, "per_second": per_second,
                });
                println!("{line}");
            } else {
                println!("| {name} | {p50:.2} µs | {p99:.2} µs | {per_second:.0} |");
            }
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let plan = Plan::read()?;
    Durability::ALL.into_iter().try_for_each(|durability| compare(durability, &plan))
}
