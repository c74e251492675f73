//! `verify`: whether everything is as it was written.
//!
//! - Damage is what is looked for: also that of a database that does not open for it.

use std::io;

use clap::Args;
use in_mem::blocking::serde_json::{Value as Json, json};
use in_mem::blocking::{Database, Error, RunId, VerifyProblem, Version};

use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;
use crate::session::{Place, Session, find_run};

const EXAMPLES: &str = "\
Examples:
  in-mem verify agents.db && echo sound
  in-mem verify agents.db nightly
  in-mem verify agents.db --json | jq -r .what";

/// Checks every checksum, event log and commit digest; the exit code is 1 if anything is wrong
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Verify {
    #[command(flatten)]
    place: Place,
    /// Only this run, without the files
    run: Option<String>,
}

/// Something that is wrong: what kind of thing, which, where in it, and what.
type Problem = [Json; 4];

#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    summary: Vec<(&'static str, u64)>,
}

impl Findings {
    fn of_files(&mut self, database: &Database) -> Result<(), Failure> {
        let report = database.verify()?;
        self.problems.extend(report.problems.iter().map(problem));
        self.summary.extend([
            ("segments", report.segments),
            ("records", report.records),
            ("snapshot_files", report.snapshot_files),
            ("bytes", report.bytes),
            ("event_logs", report.event_logs),
        ]);
        Ok(())
    }
}

impl Verify {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let progress = Progress::new("verifying");
        let findings = self.check(session);
        drop(progress);
        let Findings { problems, summary } = findings?;
        let is_sound = problems.is_empty();
        let is_whole = self.run.is_none() && !summary.is_empty();
        if !is_sound {
            output.rows(["kind", "name", "place", "what"], problems)?;
        }
        if !output.is_json() {
            let counts = summary.into_iter().map(|(what, count)| format!("{what}: {count}"));
            let counts: Vec<String> = counts.collect();
            let counts = if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) };
            output.text(&format!("{}{counts}", if is_sound { "sound" } else { "not sound" }))?;
            if is_whole {
                output.text("commits of runs that nobody began are not among them, give the id of such a run")?;
            }
        } else if is_sound {
            let counts = summary.into_iter().map(|(what, count)| (what, json!(count)));
            output.record([("sound", json!(true))].into_iter().chain(counts))?;
        }
        if is_sound { Ok(()) } else { Err(Failure::Finding) }
    }

    fn check(&self, session: &Session) -> Result<Findings, Failure> {
        let database = match session.try_open(&self.place) {
            Ok(database) => database,
            Err(error) => {
                let what = match error {
                    Error::Corruption(what) => what,
                    // A file that is named is not there. Of a database that is not there, something else is said.
                    Error::Io(missing) if missing.kind() == io::ErrorKind::NotFound => missing.to_string(),
                    error => return Err(Failure::Failed(error.to_string())),
                };
                let problem = [json!("database"), json!(self.place.path), Json::Null, json!(what)];
                return Ok(Findings { problems: vec![problem], summary: Vec::new() });
            }
        };
        let mut findings = Findings::default();
        let runs = if let Some(run) = &self.run {
            vec![find_run(&database, run)?]
        } else {
            findings.of_files(&database)?;
            database.runs().list_runs()?.into_iter().map(|run| run.run_id).collect()
        };
        let (mut proven, mut unproven) = (0, 0);
        for run in runs {
            if self.run.is_some() {
                findings.problems.extend(broken_chain(&database, run)?);
            }
            match database.verify_run(run) {
                Ok(report) => {
                    proven += report.commits;
                    unproven += report.unproven;
                    if !report.is_valid {
                        let at = json!(report.first_invalid.map(Version::get));
                        findings.problems.push([json!("run"), json!(run), at, json!(report.error)]);
                    }
                }
                // Not all of its history is kept: there is nothing to prove.
                Err(Error::InvalidOperation(_)) if self.run.is_none() => {}
                Err(error) => return Err(error.into()),
            }
        }
        findings.summary.extend([("commits", proven), ("commits_without_digest", unproven)]);
        Ok(findings)
    }
}

fn broken_chain(database: &Database, run: RunId) -> Result<Option<Problem>, Failure> {
    let chain = database.events().verify_chain(run)?;
    let wrong = [json!("event log"), json!(run), json!(chain.first_invalid), json!(chain.error)];
    Ok((!chain.is_valid).then_some(wrong))
}

fn problem(problem: &VerifyProblem) -> Problem {
    match problem {
        VerifyProblem::File { file, offset, what } => [json!("file"), json!(file), json!(offset), json!(what)],
        VerifyProblem::EventLog { run, sequence, what } => {
            [json!("event log"), json!(run), json!(sequence), json!(what)]
        }
        other => [json!("other"), Json::Null, Json::Null, json!(other.to_string())],
    }
}
