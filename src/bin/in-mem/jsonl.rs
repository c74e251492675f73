//! A run as lines of JSON: what `export` writes and `import` reads.
//!
//! - The first line says what it is and of which run; then a line for each commit, in order: its version and its changes, in the
//!   form of `timeline`; the last line says how many there were, and which keys had expired.
//! - What a commit is given anew cannot be carried over: versions, times, ids of traces, hashes.

use std::io::Write;

use in_mem::blocking::serde_json::{self, Value as Json, json};
use in_mem::blocking::{Change, Database, RunId};

use crate::change::change_json;
use crate::failure::Failure;

/// The form, as the first line names it.
pub(crate) const FORM: &str = "in-mem run, form 1";

/// Writes a run.
pub(crate) fn write(database: &Database, run: RunId, out: &mut dyn Write) -> Result<(), Failure> {
    let view = database.replay_run(run)?;
    line(out, &json!({"form": FORM, "run": run, "commits": view.steps().len(), "version": view.version().get()}))?;
    let mut expired = std::collections::BTreeSet::new();
    for step in view.steps() {
        let changes: Json = step.changes.iter().map(change_json).collect();
        line(out, &json!({"version": step.version.get(), "changes": changes}))?;
        for change in step.changes {
            match change {
                Change::Kv { key, value: Some(_) } => _ = expired.insert(key),
                Change::Kv { key, value: None } => _ = expired.remove(&key),
                _ => {}
            }
        }
    }
    for key in database.kv().list(run, None)? {
        expired.remove(&key);
    }
    line(out, &json!({"end": true, "expired": expired}))
}

fn line(out: &mut dyn Write, value: &Json) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, value).map_err(std::io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

/// A run that was read: its id, the changes of each commit, and the keys that had expired.
pub(crate) struct Recording {
    pub(crate) run: RunId,
    pub(crate) commits: Vec<Vec<Json>>,
    pub(crate) expired: Vec<String>,
}

impl Recording {
    /// Reads all lines before anything is made of them.
    pub(crate) fn read(lines: impl Iterator<Item = std::io::Result<String>>) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::Usage(format!("this is not what `in-mem export --jsonl` writes: {what}"));
        let mut read = Vec::new();
        for (number, line) in (1..).zip(lines) {
            let json: Json =
                serde_json::from_str(&line?).map_err(|error| wrong(&format!("line {number} is no JSON ({error})")))?;
            read.push(json);
        }
        let [first, commits @ .., last] = &mut read[..] else { return Err(wrong("it ends too early")) };
        if first["form"] != FORM {
            return Err(wrong("its first line says another form, or none"));
        }
        let run =
            first["run"].as_str().and_then(|run| RunId::parse(run).ok()).ok_or_else(|| wrong("it names no run"))?;
        if last["end"] != true || first["commits"] != commits.len() {
            return Err(wrong("lines are missing"));
        }
        let changes = |commit: &mut Json| match commit["changes"].take() {
            Json::Array(changes) => Ok(changes),
            _ => Err(wrong("a commit has no changes")),
        };
        let expired = serde_json::from_value(last["expired"].take())?;
        Ok(Self { run, commits: commits.iter_mut().map(changes).collect::<Result<_, _>>()?, expired })
    }
}
