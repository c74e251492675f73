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
    /// Reads all lines before anything is made of them. Blank lines at the end are none.
    pub(crate) fn read(lines: impl Iterator<Item = std::io::Result<String>>) -> Result<Self, Failure> {
        let mut read = Vec::new();
        let mut blank = None;
        for (number, line) in (1..).zip(lines) {
            let line = line?;
            if line.trim().is_empty() {
                blank = blank.or(Some(number));
                continue;
            }
            if let Some(number) = blank {
                return Err(other_form(&format!("line {number} is blank")));
            }
            let json: Json = serde_json::from_str(&line)
                .map_err(|error| other_form(&format!("line {number} is no JSON ({error})")))?;
            read.push(json);
        }
        let [first, commits @ .., last] = &mut read[..] else { return Err(other_form("it ends too early")) };
        if first["form"] != FORM {
            return Err(other_form("its first line says another form, or none"));
        }
        let run = first["run"]
            .as_str()
            .and_then(|run| RunId::parse(run).ok())
            .ok_or_else(|| other_form("it names no run"))?;
        if last["end"] != true || first["commits"] != commits.len() {
            return Err(other_form("lines are missing"));
        }
        let expired = serde_json::from_value(last["expired"].take())
            .map_err(|error| other_form(&format!("line {}: expired: {error}", Self::line_of(commits.len()))))?;
        let changes = |(commit, json): (usize, &mut Json)| match json.get_mut("changes").map(Json::take) {
            Some(Json::Array(changes)) => Ok(changes),
            _ => Err(other_form(&format!("line {} has no changes", Self::line_of(commit)))),
        };
        Ok(Self { run, commits: commits.iter_mut().enumerate().map(changes).collect::<Result<_, _>>()?, expired })
    }

    /// The line of a commit; that behind the last one is the last line.
    pub(crate) const fn line_of(commit: usize) -> usize {
        commit + 2
    }
}

/// Says why a file is not what `write` writes.
pub(crate) fn other_form(what: &str) -> Failure {
    Failure::Usage(format!("this is not what `in-mem export --jsonl` writes: {what}"))
}
