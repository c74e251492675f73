//! `stat`: how large a database is, what is in it, and how it was opened.

use std::io;
use std::path::Path;

use clap::Args;
use in_mem::blocking::serde_json::json;
use in_mem::blocking::{Database, RunId};

use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Place, Session};

const EXAMPLES: &str = "\
Examples:
  in-mem stat agents.db
  in-mem stat agents.db --json | jq .log_bytes";

/// Shows sizes, counts and how the database was opened
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Stat {
    #[command(flatten)]
    place: Place,
}

/// How much the runs of a database hold.
#[derive(Default)]
struct Counts {
    keys: u64,
    events: u64,
    states: u64,
    traces: u64,
    documents: u64,
}

impl Stat {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let database = session.open(&self.place)?;
        let runs = database.runs().list_runs()?;
        let counts = count(&database, runs.iter().map(|run| run.run_id))?;
        let (info, recovery) = (database.info(), database.last_recovery());
        let (segments, log_bytes) = files_in(&self.place.path.join("log"))?;
        let (snapshot_files, snapshot_bytes) = files_in(&self.place.path.join("snapshots"))?;
        let snapshots = database.list_snapshots()?;
        output.record([
            ("path", json!(self.place.path)),
            ("format", json!(info.format_version)),
            ("shards", json!(info.shards)),
            ("partitioning", json!(format!("{:?}", info.partitioning))),
            ("writer", json!(recovery.writer)),
            ("latest_version", json!(recovery.latest.get())),
            ("runs", json!(runs.len())),
            ("keys", json!(counts.keys)),
            ("events", json!(counts.events)),
            ("states", json!(counts.states)),
            ("traces", json!(counts.traces)),
            ("documents", json!(counts.documents)),
            ("memory_bytes", json!(info.memory_bytes)),
            ("segment_files", json!(segments)),
            ("log_bytes", json!(log_bytes)),
            ("snapshots", json!(snapshots.len())),
            ("snapshot_files", json!(snapshot_files)),
            ("snapshot_bytes", json!(snapshot_bytes)),
            ("newest_snapshot", json!(snapshots.last().map(|snapshot| snapshot.version.get()))),
            ("closed_cleanly", json!(recovery.clean)),
            ("replayed_segments", json!(recovery.segments)),
            ("replayed_records", json!(recovery.records)),
            ("torn_tails", json!(recovery.torn_tails)),
            ("discarded_transactions", json!(recovery.discarded_transactions)),
            ("damaged_snapshots", json!(recovery.damaged_snapshots)),
            ("recovery_seconds", json!(recovery.duration.as_secs_f64())),
        ])
    }
}

fn count(database: &Database, runs: impl Iterator<Item = RunId>) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    for run in runs {
        counts.keys += database.kv().count(run, None)?;
        counts.events += database.events().len(run)?;
        counts.states += database.states().list(run)?.len() as u64;
        counts.traces += database.traces().count(run)?;
        counts.documents += database.json().list(run, None)?.len() as u64;
    }
    Ok(counts)
}

/// How many files are in a directory, and their bytes. One may go while they are counted.
fn files_in(path: &Path) -> Result<(u64, u64), Failure> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        entries => entries.map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))?,
    };
    let (mut files, mut bytes) = (0, 0);
    for entry in entries {
        if let Ok(about) = entry?.metadata() {
            files += 1;
            bytes += about.len();
        }
    }
    Ok((files, bytes))
}
