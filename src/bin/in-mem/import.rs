//! `import`: a run from a file, commit by commit.
//!
//! - Writes: into the database at the path, which is made if it is not there.
//! - A run that exists is refused before anything is written. So is what cannot be written: all of it is first written into a
//!   database in memory, which says no to the same.
//! - What fails after all, because the files do, is deleted. The id of a deleted run is used up, which is why this is not how
//!   a wrong file is found.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use clap::Args;
use in_mem::blocking::primitives::{EventLogExt, JsonStoreExt, KVStoreExt, StateCellExt};
use in_mem::blocking::serde_json::{self, Value as Json, json};
use in_mem::blocking::{Database, Driver, DurabilityMode, Error, HistoryRetention, RunId, RunMetadata, RunOptions};
use in_mem::blocking::{RunStatus, TraceType, Transaction, Value};

use crate::failure::Failure;
use crate::jsonl::{Recording, other_form};
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
        let progress = Progress::new("importing");
        rehearse(&recording)?;
        let database = self.open(&recording)?;
        if let Err((_, error)) = write_all(&database, &recording) {
            return Err(delete_half(&database, run, error));
        }
        database.close().map_err(|error| Failure::Failed(error.to_string()))?;
        drop(progress);
        output.record([("run", json!(run)), ("commits", json!(recording.commits.len()))])
    }

    /// Opens the database, in the layout that it has, if the run can be written into it.
    fn open(&self, recording: &Recording) -> Result<Database, Failure> {
        let run = recording.run;
        let mut builder = Database::builder().path(&self.place.path).durability(MODE).lineage(true);
        if self.is_there()? {
            let found = Session::default().open(&self.place)?;
            if found.runs().exists(run)? || holds_anything(&found, run) {
                return Err(Failure::Usage(format!("the database has this run already: run={run}")));
            }
            let mut abouts = recording.commits.iter().flatten().filter(|change| change["primitive"] == "runs");
            if let Some(name) = abouts.next().and_then(|about| about["name"].as_str())
                && let Some(other) = found.runs().get_run(name)?
            {
                let what = "another run of the database has this name";
                return Err(Failure::Usage(format!("{what}: name={name:?} run={}", other.run_id)));
            }
            let info = found.info();
            builder = builder.shards(info.shards).partitioning(info.partitioning);
        }
        builder.open().map_err(|error| Failure::Failed(error.to_string()))
    }

    /// Whether there is anything to import beside.
    fn is_there(&self) -> Result<bool, Failure> {
        match std::fs::read_dir(&self.place.path) {
            Ok(mut entries) => Ok(entries.next().is_some()),
            // Who opens it says what is wrong with a file.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(Failure::Failed(format!("cannot read {}: {error}", self.place.path.display()))),
        }
    }
}

/// Writes a recording into a database that is forgotten again.
fn rehearse(recording: &Recording) -> Result<(), Failure> {
    let builder = Database::builder().shards(1).driver(Driver::Threads).spin(None).history(HistoryRetention::Off);
    let database = builder.open()?;
    write_all(&database, recording).map_err(|(line, error)| other_form(&format!("line {line}: {error}")))?;
    Ok(database.close()?)
}

/// Writes a recording. Of what cannot be written it says in which line it is.
fn write_all(database: &Database, recording: &Recording) -> Result<(), (usize, Error)> {
    let mut importing = Importing { database, run: recording.run, about: None, traces: HashMap::new() };
    for (commit, changes) in recording.commits.iter().enumerate() {
        importing.commit(changes).map_err(|error| (Recording::line_of(commit), error))?;
    }
    let end = importing.forget(&recording.expired).and_then(|()| importing.end());
    end.map_err(|error| (Recording::line_of(recording.commits.len()), error))
}

/// Takes back what was written of a run that was not there before.
fn delete_half(database: &Database, run: RunId, error: Error) -> Failure {
    let left = match database.runs().delete_run(run) {
        Ok(()) => "what was written of the run is deleted and its id used up, give another in the first line",
        Err(Error::KeyNotFound(_)) => return error.into(),
        Err(_) => "what was written of the run could not be deleted",
    };
    Failure::Failed(format!("{left}: run={run} reason={error}"))
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
    fn commit(&mut self, changes: &[Json]) -> Result<(), Error> {
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
    fn describe(&mut self, about: &Json) -> Result<(), Error> {
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
    fn forget(&self, expired: &[String]) -> Result<(), Error> {
        if !expired.is_empty() {
            self.database.kv().delete_many(self.run, expired)?;
        }
        Ok(())
    }

    /// Ends the run as it had ended.
    fn end(&self) -> Result<(), Error> {
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
    let key = text(change, "key")?;
    let is_deleted = change["deleted"] == true;
    match change["primitive"].as_str().unwrap_or_default() {
        "kv" if is_deleted => _ = txn.kv_delete(key)?,
        "kv" => txn.kv_put(key, value(change, "value")?)?,
        "states" if is_deleted => _ = txn.states().delete(key)?,
        "states" => _ = txn.state_set(key, value(change, "value")?)?,
        "json" if is_deleted => _ = txn.json_delete(key)?,
        "json" => _ = txn.json_set(key, "", held(change, "document")?.clone())?,
        "events" => _ = txn.event_append(text(change, "type")?, value(change, "payload")?)?,
        "traces" => {
            let trace: TraceType = serde_json::from_value(change["trace"].clone())?;
            let tags: Vec<String> = serde_json::from_value(change["tags"].clone())?;
            let metadata = value(change, "metadata")?;
            let parent = change["parent"].as_str().map(|parent| {
                let new = made.get(parent).or_else(|| traces.get(parent));
                new.map_or(parent, String::as_str)
            });
            let id = match parent {
                Some(parent) => txn.traces().record_child(parent, trace, tags, metadata)?,
                None => txn.traces().record(trace, tags, metadata)?,
            };
            made.insert(key.to_owned(), id);
        }
        other => return Err(Error::InvalidOperation(format!("a change of an unknown kind: primitive={other:?}"))),
    }
    Ok(())
}

/// What a change has under a name: nothing is not null.
fn held<'a>(change: &'a Json, name: &str) -> Result<&'a Json, Error> {
    change.get(name).ok_or_else(|| Error::InvalidOperation(format!("a change lacks something: name={name:?}")))
}

fn value(change: &Json, name: &str) -> Result<Value, Error> {
    Ok(Value::from_json(held(change, name)?.clone()))
}

fn text<'a>(change: &'a Json, name: &str) -> Result<&'a str, Error> {
    let held = held(change, name)?.as_str();
    held.ok_or_else(|| Error::InvalidOperation(format!("a change has no text where one belongs: name={name:?}")))
}
