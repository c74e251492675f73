//! `bench`: how long a put and a get take here, in each durability mode.
//!
//! - Writes: into a temporary directory, which is removed at the end.
//! - A client is a thread that waits for each answer before it asks again: what it waits for is what is measured.
//! - At a rate, every question has a time at which it is meant to be asked. Where the answer before came later than that, the
//!   time counts from when it was meant, not from when it was asked: a slow answer is not paid for once only.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use in_mem::blocking::serde_json::{Value as Json, json};
use in_mem::blocking::{Database, DurabilityMode, Error, RunHandle, RunOptions, Value};

use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

const EXAMPLES: &str = "\
Examples:
  in-mem bench
  in-mem bench --directory /mnt/nvme --clients 8 --seconds 5
  in-mem bench --clients 16 --rate 5000
  in-mem bench --json | jq 'select(.operation == \"put\") | .p99_us'";

const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 10_000 };
const KEYS: u64 = 10_000;

/// Measures the latency of puts and gets in each durability mode
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    /// Where a temporary directory is made, instead of the system's place for them
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// How many clients ask at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    clients: u32,
    /// How many questions all clients are to ask in a second, instead of one after the other
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// How many seconds each measurement takes
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// How many bytes a value has
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    value_bytes: usize,
    /// How many shards the database has, instead of half of the cores
    #[arg(long)]
    shards: Option<usize>,
}

/// The percentiles of a measurement; the last is the longest.
const PERCENTILES: [(&str, f64); 5] =
    [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p99.9_us", 0.999), ("max_us", 1.0)];
/// What a terminal of 80 columns has room for.
const COLUMNS: [&str; 8] = ["what", "count", "per_second", "p50_us", "p90_us", "p99_us", "p99.9_us", "max_us"];

/// One measurement.
struct Row {
    mode: &'static str,
    operation: &'static str,
    clients: u32,
    count: u64,
    per_second: u64,
    nanos: [u64; PERCENTILES.len()],
}

impl Row {
    fn fields(&self) -> impl Iterator<Item = (&'static str, Json)> {
        let about = [
            ("mode", json!(self.mode)),
            ("operation", json!(self.operation)),
            ("clients", json!(self.clients)),
            ("count", json!(self.count)),
            ("per_second", json!(self.per_second)),
        ];
        let micros = self.nanos.map(|nanos| json!((micros(nanos) * 1e3).round() / 1e3));
        about.into_iter().chain(PERCENTILES.map(|(name, _)| name).into_iter().zip(micros))
    }

    fn cells(&self) -> [Json; COLUMNS.len()] {
        let [p50, p90, p99, p999, max] = self.nanos.map(|nanos| json!(format!("{:.1}", micros(nanos))));
        let what = json!(format!("{} {}", self.mode, self.operation));
        [what, json!(self.count), json!(self.per_second), p50, p90, p99, p999, max]
    }
}

fn micros(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e6
}

impl Bench {
    pub(crate) fn run(self, output: &mut Output) -> Result<(), Failure> {
        let directory = match &self.directory {
            Some(directory) => tempfile::tempdir_in(directory),
            None => tempfile::tempdir(),
        };
        let directory = directory?;
        let mut rows: Vec<Row> = Vec::new();
        let modes =
            [("in_memory", DurabilityMode::InMemory), ("buffered", BUFFERED), ("strict", DurabilityMode::Strict)];
        let progress = Progress::new("measuring");
        for (name, mode) in modes {
            let mut builder = Database::builder().path(directory.path().join(name)).durability(mode);
            if let Some(shards) = self.shards {
                builder = builder.shards(shards);
            }
            let database = builder.open()?;
            let value = Value::from("x".repeat(self.value_bytes));
            let put = |run: &RunHandle, key: &str| run.kv().put(key, value.clone());
            rows.push(self.measure(&database, name, "put", put)?);
            rows.push(self.measure(&database, name, "get", |run, key| run.kv().get(key).map(drop))?);
            database.close()?;
        }
        drop(progress);
        if output.is_json() {
            return rows.iter().try_for_each(|row| output.record(row.fields()));
        }
        output.rows(COLUMNS, rows.iter().map(Row::cells))
    }

    fn measure(
        &self,
        database: &Database,
        mode: &'static str,
        name: &'static str,
        operation: impl Fn(&RunHandle, &str) -> Result<(), Error> + Sync,
    ) -> Result<Row, Failure> {
        let start = |_| database.start_run(RunOptions::default());
        let runs = (0..self.clients).map(start).collect::<Result<Vec<RunHandle>, Error>>()?;
        let begun = Instant::now();
        let until = begun + Duration::from_secs_f64(self.seconds);
        let client = |run: &RunHandle, first: u32| -> Result<Histogram<u64>, Failure> {
            let mut latencies = histogram()?;
            for number in 0_u64.. {
                let key = format!("key {}", number % KEYS);
                let question = number * u64::from(self.clients) + u64::from(first);
                let asked = self.rate.map_or_else(Instant::now, |rate| wait_for(begun, question, rate));
                if Instant::now() >= until && number > 0 {
                    break;
                }
                operation(run, &key)?;
                latencies.saturating_record(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            Ok(latencies)
        };
        let all = std::thread::scope(|scope| {
            let clients = runs.iter().zip(0..).map(|(run, first)| scope.spawn(move || client(run, first)));
            let clients: Vec<_> = clients.collect();
            let mut all = histogram()?;
            for client in clients {
                let ended = client.join().unwrap_or_else(|_| Err(Failure::Failed("a client panicked".into())));
                all.add(ended?).map_err(|error| Failure::Failed(error.to_string()))?;
            }
            Ok::<_, Failure>(all)
        })?;
        let nanos = begun.elapsed().as_nanos().max(1);
        let per_second = (u128::from(all.len()) * 1_000_000_000 + nanos / 2) / nanos;
        Ok(Row {
            mode,
            operation: name,
            clients: self.clients,
            count: all.len(),
            per_second: u64::try_from(per_second).unwrap_or(u64::MAX),
            nanos: PERCENTILES.map(|(_, quantile)| all.value_at_quantile(quantile)),
        })
    }
}

/// Waits for the moment of a question, and says from when its answer counts. How late a timer is, is not part of that.
fn wait_for(begun: Instant, question: u64, rate: u32) -> Instant {
    let meant = begun + Duration::from_secs(question) / rate;
    match meant.checked_duration_since(Instant::now()) {
        None => meant,
        Some(early) => {
            std::thread::sleep(early);
            Instant::now()
        }
    }
}

/// Nanoseconds, up to a minute, to three digits.
fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_max(60_000_000_000, 3).map_err(|error| Failure::Failed(error.to_string()))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "this is no number")?;
    if seconds > 0.0 && seconds <= 3600.0 { Ok(seconds) } else { Err("above 0, up to 3600".into()) }
}
