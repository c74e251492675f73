//! Compares two recorded agent runs: imports both, rebuilds each from its history, and prints what differs and the step at
//! which they first did different things.
//!
//! Run it with `cargo run --release --example replay_and_diff -- PATH_A PATH_B [--full | --json]`. Long values are cut short,
//! unless they are asked for in full. `support/recording.rs` says how a recording is stored; the database is in memory.

#[path = "support/recording.rs"]
mod recording;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use in_mem::prelude::*;
use recording::{Outcome, Recording};

const USAGE: &str = "usage: replay_and_diff PATH_A PATH_B [--full | --json]";

#[tokio::main]
async fn main() -> ExitCode {
    let (options, paths): (Vec<OsString>, Vec<OsString>) =
        std::env::args_os().skip(1).partition(|argument| argument.to_string_lossy().starts_with("--"));
    let options: Vec<_> = options.iter().map(|option| option.to_string_lossy()).collect();
    let option = match &options[..] {
        [] => "",
        [option] if ["--full", "--json", "--help"].contains(&option.as_ref()) => option,
        _ => "?",
    };
    let outcome = match (option, &paths[..]) {
        ("--help", _) => {
            println!("{USAGE}");
            Ok(())
        }
        ("" | "--full" | "--json", [a, b]) => compare(Path::new(a), Path::new(b), option).await,
        _ => {
            eprintln!("replay_and_diff: there must be two paths and at most one option; {USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.map_or_else(
        |problem| {
            eprintln!("replay_and_diff: {problem}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

async fn compare(path_a: &Path, path_b: &Path, option: &str) -> Outcome<()> {
    let db = Database::open_in_memory().await?;
    let mut runs = Vec::new();
    for (path, name) in [(path_a, "a"), (path_b, "b")] {
        let imported = async { Recording::read(path)?.store(&db, name).await };
        let run = imported.await.map_err(|problem| format!("{}: {problem}", path.display()))?;
        let view = db.replay_run(run).await?;
        if option != "--json" {
            println!("{name}: {}, {} steps, {} records", path.display(), view.steps().len(), view.records());
        }
        runs.push(run);
    }
    let diff = db.diff_runs(runs[0], runs[1]).await?;
    match option {
        "--json" => println!("{:#}", diff.to_json()),
        "--full" => println!("{diff:#}"),
        _ => println!("{diff}"),
    }
    Ok(db.close().await?)
}
