//! What a snapshot gains when the database is opened, and what it costs those who write while it is taken.
//!
//! One shard, 1,000,000 keys of 100 bytes in 8 runs, each put by itself in scattered order. `opening`: the same database, and one
//! whose keys are all of one run, from its log, from its log after a crash, and from a snapshot, in turn. `puts`: one caller on the shard, then one on tokio,
//! in `Buffered`, alone and while a snapshot is taken, in turn. Every figure is the median of `ROUNDS`.
//!
//! Prediction, before the first measurement (two shared cores): a record of the log costs 0.8 µs, half of it for cold
//! lookups in trees that are larger than the caches, and a second scan of 0.1 µs after a crash; a key of a snapshot 0.3 µs, because
//! sorted names need no lookups: a ratio of 0.35. When the log took 0.7 µs a record, and two threads shared the work of a snapshot:
//! a ratio of 0.25 with a core for each, and 0.45 on one (0.35 if all keys are of one run: its
//! map is made at the end). A snapshot takes 1.5 s; each time the shard is asked it is away for 100 µs,
//! so that the 99th percentile of a put rises tenfold.

#![allow(missing_docs, reason = "a program of its own")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use in_mem::prelude::*;
use in_mem::{HistoryRetention, SnapshotConfig};

const KEYS: u64 = 1_000_000;
/// Among how many runs the keys are spread, in turn.
const RUNS: [u8; 2] = [8, 1];
const ROUNDS: usize = 5;
/// How long puts are measured without a snapshot.
const ALONE: Duration = Duration::from_secs(2);
const NEVER: SnapshotConfig = SnapshotConfig { log_bytes: None, interval: None, on_close: false };

fn value() -> Value {
    "x".repeat(100).into()
}

/// Every number below `KEYS` in a scattered order.
fn key(number: u64) -> String {
    format!("key-{:07}", number.wrapping_mul(48_271) % KEYS)
}

/// The run that the key with this number belongs to.
fn run_of(number: u64, runs: u8) -> RunId {
    let run = u8::try_from(number % u64::from(runs)).expect("there are few runs") + 1;
    RunId::from_bytes([run; 16])
}

async fn open(path: &Path, read_only: bool) -> Result<Database> {
    let mode = DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 100_000 };
    let builder = Database::builder().path(path).durability(mode).shards(1).snapshots(NEVER).read_only(read_only);
    builder.history(HistoryRetention::Off).open().await
}

fn median<T: Copy + PartialOrd>(mut all: Vec<T>) -> T {
    all.sort_by(|a, b| a.partial_cmp(b).expect("figures are ordered"));
    all[all.len() / 2]
}

/// Copies the files of a directory, one level of directories deep: what a process that is killed now leaves.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

async fn fill(path: &Path, crashed: &Path, runs: u8) -> Result<()> {
    let database = open(path, false).await?;
    for number in 0..KEYS {
        database.kv().put(run_of(number, runs), key(number), value()).await?;
    }
    database.flush().await?;
    copy(path, crashed)?;
    database.close().await
}

/// How many seconds all cores together have worked for this process; says less than the clock on a quiet machine, and more
/// on one with other work.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 =
        behind_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

async fn opening(directories: [(&str, &Path); 3], runs: u8) -> Result<()> {
    let mut took = [const { Vec::new() }; 3];
    let mut worked = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (at, (_, path)) in directories.iter().enumerate() {
            let (started, before) = (Instant::now(), cpu_seconds()?);
            let database = open(path, true).await?;
            took[at].push(started.elapsed().as_secs_f64());
            worked[at].push(cpu_seconds()? - before);
            let last = database.kv().get(run_of(KEYS - 1, runs), key(KEYS - 1)).await?;
            assert!(last.is_some(), "it is there");
            database.close().await?;
        }
    }
    let (took, worked) = (took.map(median), worked.map(median));
    println!(
        "| opening, {KEYS} keys, runs: {runs} | time | against the log | work of the cores | against the log |\n|---|---|---|---|---|"
    );
    for (at, (name, _)) in directories.iter().enumerate() {
        let (time, work) = (took[at], worked[at]);
        println!(
            "| {name} | {:.0} ms | {:.2} | {:.0} ms | {:.2} |",
            time * 1e3,
            time / took[0],
            work * 1e3,
            work / worked[0]
        );
    }
    Ok(())
}

/// Puts one after the other until somebody says stop, and how long each took in nanoseconds.
macro_rules! put_until {
    ($run:expr, $stop:expr) => {{
        let mut latencies: Histogram<u64> = Histogram::new(3).map_err(Error::other)?;
        let (value, mut number) = (value(), 0);
        while !$stop() {
            let key = key(number);
            let started = Instant::now();
            $run.kv().put(key, value.clone()).await?;
            latencies.record(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)).map_err(Error::other)?;
            number += 1;
        }
        Ok::<_, Error>(latencies)
    }};
}

async fn puts(database: &Database, on_shard: bool, stop: impl Fn() -> bool + Send + 'static) -> Result<Histogram<u64>> {
    let run = RunId::from_bytes([1; 16]);
    if on_shard {
        return database.spawn_on(run, move |local: LocalRun| async move { put_until!(local, stop) }).await;
    }
    let run = database.run(run);
    put_until!(run, stop)
}

async fn while_a_snapshot_is_taken(database: &Database, on_shard: bool) -> Result<(Histogram<u64>, Duration)> {
    let is_taken = Arc::new(AtomicBool::new(false));
    let (taken, snapshot) = (is_taken.clone(), database.checkpoint());
    let thread = std::thread::spawn(move || {
        let started = Instant::now();
        let result = futures::executor::block_on(snapshot);
        taken.store(true, Ordering::Release);
        result.map(|_| started.elapsed())
    });
    let latencies = puts(database, on_shard, move || is_taken.load(Ordering::Acquire)).await?;
    let took = thread.join().map_err(|_| Error::other("the snapshot's thread panicked"))??;
    Ok((latencies, took))
}

async fn compare_puts(path: &Path) -> Result<()> {
    let database = open(path, false).await?;
    println!("| puts | p50 alone, with | p99 alone | with a snapshot | ratio | p99.9 alone, with | snapshot takes |");
    println!("|---|---|---|---|---|---|---|");
    for (name, on_shard) in [("on the shard", true), ("from tokio", false)] {
        let (mut alone, mut with, mut took) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3], Vec::new());
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let end = Instant::now() + ALONE;
            let quiet = puts(&database, on_shard, move || Instant::now() >= end).await?;
            let (busy, duration) = while_a_snapshot_is_taken(&database, on_shard).await?;
            for (at, quantile) in [0.5, 0.99, 0.999].into_iter().enumerate() {
                alone[at].push(micros(quiet.value_at_quantile(quantile)));
                with[at].push(micros(busy.value_at_quantile(quantile)));
            }
            ratios.push(with[1][with[1].len() - 1] / alone[1][alone[1].len() - 1]);
            took.push(duration.as_secs_f64());
        }
        let ([p50, p99, tail], [p50_with, p99_with, tail_with]) = (alone.map(median), with.map(median));
        println!(
            "| {name} | {p50:.1}, {p50_with:.1} µs | {p99:.1} µs | {p99_with:.1} µs | {:.1} | {tail:.0}, {tail_with:.0} µs | {:.1} s |",
            median(ratios),
            median(took)
        );
    }
    database.close().await
}

#[expect(clippy::cast_precision_loss, reason = "a latency is short")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

async fn measure() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_asked = |part: &str| asked.is_empty() || asked.iter().any(|asked| asked == part);
    for runs in RUNS {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let [log, crashed, snapshot] = ["log", "crashed", "snapshot"].map(|name| directory.path().join(name));
        fill(&log, &crashed, runs).await?;
        copy(&log, &snapshot)?;
        let database = open(&snapshot, false).await?;
        database.checkpoint().await?;
        database.close().await?;
        if is_asked("opening") {
            opening([("log", &log), ("log after a crash", &crashed), ("snapshot", &snapshot)], runs).await?;
        }
        if is_asked("puts") && runs == RUNS[0] {
            compare_puts(&snapshot).await?;
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    tokio::runtime::Builder::new_current_thread().build()?.block_on(measure())
}
