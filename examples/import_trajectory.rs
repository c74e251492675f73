//! Imports a recorded agent run, a trajectory of SWE-agent (a `.traj` file), and reads it back from disk.
//!
//! Run it with `cargo run --release --example import_trajectory -- PATH [--db DIR] [--mode strict|buffered|in-memory]`.
//! Without `--db` the database is in a temporary directory, which is removed at the end.
//!
//! The run is named after the file. `support/recording.rs` says how it is stored.

#[path = "support/recording.rs"]
mod recording;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use in_mem::prelude::*;
use recording::{Outcome, Recording};

const USAGE: &str = "usage: import_trajectory PATH [--db DIR] [--mode strict|buffered|in-memory]";
const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 1000 };

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args_os().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let (code, problem) = match Command::parse(std::env::args_os().skip(1)) {
        Err(problem) => (2, format!("{problem}; {USAGE}")),
        Ok(command) => match command.import().await {
            Ok(()) => return ExitCode::SUCCESS,
            Err(problem) => (1, format!("{}: {problem}", command.path.display())),
        },
    };
    eprintln!("import_trajectory: {problem}");
    ExitCode::from(code)
}

/// What the command line says.
struct Command {
    path: PathBuf,
    directory: Option<PathBuf>,
    mode: DurabilityMode,
}

impl Command {
    fn parse(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Outcome<Self> {
        let (mut path, mut directory, mut mode) = (None, None, BUFFERED);
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--db") => directory = Some(arguments.next().ok_or("--db needs a directory")?.into()),
                Some("--mode") => match arguments.next().and_then(|mode| mode.into_string().ok()).as_deref() {
                    Some("strict") => mode = DurabilityMode::Strict,
                    Some("buffered") => mode = BUFFERED,
                    Some("in-memory") => mode = DurabilityMode::InMemory,
                    _ => return Err("--mode needs one of three modes".into()),
                },
                Some(option) if option.starts_with('-') => return Err(format!("there is no option {option}").into()),
                _ if path.is_some() => return Err("there is more than one PATH".into()),
                _ => path = Some(argument.into()),
            }
        }
        Ok(Self { path: path.ok_or("there is no PATH")?, directory, mode })
    }

    /// Imports the recording as a whole or not at all, and shows and compares what the database then holds.
    async fn import(&self) -> Outcome<()> {
        let recording = Recording::read(&self.path)?;
        let temporary = tempfile::tempdir()?;
        let directory = self.directory.as_deref().unwrap_or(temporary.path());
        let open = async || {
            let opened = Database::open_with_mode(directory, self.mode).await;
            opened.map_err(|error| format!("{}: {error}", directory.display()))
        };
        let mut database = open().await?;
        if database.runs().exists(&recording.name).await? {
            return Err(format!("{} has a run named {:?} already", directory.display(), recording.name).into());
        }
        let start = Instant::now();
        recording.store(&database, &recording.name).await?;
        database.flush().await?;
        println!("imported in {:.1?}", start.elapsed());
        if self.mode == DurabilityMode::InMemory {
            println!("not reopened: in memory, nothing is written to disk");
        } else {
            database.close().await?;
            database = open().await?;
        }
        let findings = look_back(&recording, &database).await?;
        database.close().await?;
        println!("run: {}", recording.name);
        for (what, found, recorded) in findings {
            println!("{what}: {found}");
            if found != recorded {
                return Err(format!("{what} in the database differs: found={found} recorded={recorded}").into());
            }
        }
        Ok(())
    }
}

/// What the database holds of the run, beside what was recorded.
async fn look_back(recording: &Recording, database: &Database) -> Outcome<[(&'static str, String, String); 7]> {
    let about = database.runs().get_run(&recording.name).await?.ok_or("the run is not in the database")?;
    let run = database.run(about.run_id);
    let found_status = about.error.map_or(about.status.to_string(), |error| format!("{}: {error}", about.status));
    let status = recording.failed_with.as_ref().map_or("Completed".into(), |status| format!("Failed: {status}"));
    let found_state = Value::from(run.states().read("state").await?.map(|state| state.value));
    let state = Value::from(recording.steps.iter().rev().find_map(|step| step.state.clone()));
    let chain = if run.events().verify_chain().await?.is_valid { "valid" } else { "broken" };
    let steps = recording.steps.len();
    Ok([
        ("status", found_status, status),
        ("steps", run.traces().query_by_type("Thought").await?.len().to_string(), steps.to_string()),
        ("events", run.events().len().await?.to_string(), steps.to_string()),
        ("traces", run.traces().count().await?.to_string(), (2 * steps).to_string()),
        ("messages", run.kv().count(Some("message/")).await?.to_string(), recording.messages.len().to_string()),
        ("last state", found_state.to_string(), state.to_string()),
        ("chain", chain.into(), "valid".into()),
    ])
}
