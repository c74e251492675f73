//! `import`: a run from a file, commit by commit.
//!
//! - Writes: into the database at the path, which is made if it is not there.
//! - A run that exists is refused before anything is written. Nothing is written before the whole file was read.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use clap::Args;
use in_mem::blocking::primitives::{EventLogExt, JsonStoreExt, KVStoreExt, StateCellExt};
use in_mem::blocking::serde_json::{self, Value as Json, json};
use in_mem::blocking::{Database, DurabilityMode, Error, RunId, RunMetadata, RunOptions, RunStatus, Transaction};
use in_mem::blocking::{TraceType, Value};

use crate::failure::Failure;
use crate::jsonl::Recording;
use crate::output::Output;
use crate::progress::Progress;
use crate::session::{Place, Session, holds_anything};

const EXAMPLES: &str = "\
Examples:
  in-mem import copy.db nightly.jsonl
  in-mem export agents.db nightly | in-mem import copy.db -";

/// Durable when the database is closed: nobody is told anything before.
const MODE: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 50, max_pending_writes: 10_000 };

/// Writes a run that `export --jsonl` has written into a database
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Import {
    #[command(flatten)]
    place: Place,
    /// The file; `-` is standard input
    file: PathBuf,
}

impl Import {
    pub(crate) fn run(self, output: &mut Output) -> Result<(), Failure> {
        let recording = if self.file.as_os_str() == "-" {
            Recording::read(io::stdin().lock().lines())?
        } else {
            let file = File::open(&self.file)
                .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", self.file.display())))?;
            Recording::read(BufReader::new(file).lines())?
        };
        let run = recording.run;
        let database = self.open(run)?;
        let progress = Progress::new("importing");
        let mut importing = Importing { database: &database, run, about: None, traces: HashMap::new() };
        for changes in &recording.commits {
            importing.commit(changes)?;
        }
        importing.forget(&recording.expired)?;
        importing.end()?;
        database.close().map_err(|error| Failure::Failed(error.to_string()))?;
        drop(progress);
        output.record([("run", json!(run)), ("commits", json!(recording.commits.len()))])
    }

    /// Opens the database, in the layout that it has.
    fn open(&self, run: RunId) -> Result<Database, Failure> {
        let mut builder = Database::builder().path(&self.place.path).durability(MODE).lineage(true);
        let is_there = std::fs::read_dir(&self.place.path).is_ok_and(|mut entries| entries.next().is_some());
        if is_there {
            let found = Session::default().open(&self.place)?;
            if found.runs().exists(run)? || holds_anything(&found, run) {
                return Err(Failure::Usage(format!("the database has this run already: run={run}")));
            }
            let info = found.info();
            builder = builder.shards(info.shards).partitioning(info.partitioning);
        }
        builder.open().map_err(|error| Failure::Failed(error.to_string()))
    }
}

/// A run that is being written.
struct Importing<'a> {
    database: &'a Database,
    run: RunId,
    /// What was known about the run after the last commit.
    about: Option<RunMetadata>,
    /// The new id of each trace.
    traces: HashMap<String, String>,
}

impl Importing<'_> {
    fn commit(&mut self, changes: &[Json]) -> Result<(), Failure> {
        let (abouts, others): (Vec<&Json>, Vec<&Json>) =
            changes.iter().partition(|change| change["primitive"] == "runs");
        for about in abouts {
            self.describe(about)?;
        }
        if others.is_empty() {
            return Ok(());
        }
        let traces = &self.traces;
        let made = self.database.transaction(self.run, |txn| {
            let mut made = HashMap::new();
            for change in &others {
                write(&txn, change, traces, &mut made)?;
            }
            Ok(made)
        })?;
        self.traces.extend(made);
        Ok(())
    }

    /// Begins the run, or changes what is known about it. It ends when all is written: from then on it takes nothing more.
    fn describe(&mut self, about: &Json) -> Result<(), Failure> {
        let mut known = about.clone();
        known["run_id"] = about["run"].clone();
        known["parent_run"] = about["parent"].clone();
        let about: RunMetadata = serde_json::from_value(known)?;
        let runs = self.database.runs();
        match &self.about {
            None => {
                let parent = about.parent_run.filter(|_| self.has_parent(&about));
                let (name, tags) = (Some(about.name.clone()), about.tags.clone());
                let metadata = about.metadata.clone();
                let options = RunOptions { id: Some(self.run), name, parent, tags, metadata, history: None };
                self.database.begin_run_with(options)?;
            }
            Some(before) => {
                let missing = |tags: &[String], others: &[String]| -> Vec<String> {
                    tags.iter().filter(|tag| !others.contains(tag)).cloned().collect()
                };
                let (new, gone) = (missing(&about.tags, &before.tags), missing(&before.tags, &about.tags));
                if !new.is_empty() {
                    runs.add_tags(self.run, new)?;
                }
                if !gone.is_empty() {
                    runs.remove_tags(self.run, gone)?;
                }
                if about.metadata != before.metadata {
                    runs.update_metadata(self.run, about.metadata.clone())?;
                }
                if about.status != before.status && !about.status.is_ended() {
                    runs.update_status(self.run, about.status)?;
                }
            }
        }
        self.about = Some(about);
        Ok(())
    }

    fn has_parent(&self, about: &RunMetadata) -> bool {
        about.parent_run.is_some_and(|parent| self.database.runs().exists(parent).unwrap_or(false))
    }

    /// Deletes what had expired.
    fn forget(&self, expired: &[String]) -> Result<(), Failure> {
        if !expired.is_empty() {
            self.database.kv().delete_many(self.run, expired)?;
        }
        Ok(())
    }

    /// Ends the run as it had ended.
    fn end(&self) -> Result<(), Failure> {
        let Some(about) = self.about.as_ref().filter(|about| about.status.is_ended()) else { return Ok(()) };
        let runs = self.database.runs();
        match (about.status, &about.error) {
            (RunStatus::Failed, Some(error)) => runs.fail_run(self.run, error.clone())?,
            (RunStatus::Archived, Some(error)) => {
                runs.fail_run(self.run, error.clone())?;
                runs.archive_run(self.run)?
            }
            (status, _) => runs.update_status(self.run, status)?,
        };
        Ok(())
    }
}

/// Makes one change in a transaction. `made` are the traces that it has recorded.
fn write(
    txn: &Transaction,
    change: &Json,
    traces: &HashMap<String, String>,
    made: &mut HashMap<String, String>,
) -> Result<(), Error> {
    let key = change["key"].as_str().unwrap_or_default();
    let is_deleted = change["deleted"] == true;
    let value = |name: &str| Value::from_json(change[name].clone());
    match change["primitive"].as_str().unwrap_or_default() {
        "kv" if is_deleted => _ = txn.kv_delete(key)?,
        "kv" => txn.kv_put(key, value("value"))?,
        "states" if is_deleted => _ = txn.states().delete(key)?,
        "states" => _ = txn.state_set(key, value("value"))?,
        "json" if is_deleted => _ = txn.json_delete(key)?,
        "json" => _ = txn.json_set(key, "", change["document"].clone())?,
        "events" => _ = txn.event_append(change["type"].as_str().unwrap_or_default(), value("payload"))?,
        "traces" => {
            let trace: TraceType = serde_json::from_value(change["trace"].clone())?;
            let tags: Vec<String> = serde_json::from_value(change["tags"].clone())?;
            let parent = change["parent"].as_str().map(|parent| {
                let new = made.get(parent).or_else(|| traces.get(parent));
                new.map_or(parent, String::as_str)
            });
            let id = match parent {
                Some(parent) => txn.traces().record_child(parent, trace, tags, value("metadata"))?,
                None => txn.traces().record(trace, tags, value("metadata"))?,
            };
            made.insert(key.to_owned(), id);
        }
        other => return Err(Error::InvalidOperation(format!("a change of an unknown kind: primitive={other:?}"))),
    }
    Ok(())
}
