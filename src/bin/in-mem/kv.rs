//! `kv`: the key-value pairs of a run, now and in its past.

use clap::{Args, Subcommand};
use in_mem::blocking::Value;
use in_mem::blocking::serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Place, Session};
use crate::time::moment;

const EXAMPLES: &str = "\
Examples:
  in-mem kv agents.db nightly list --prefix file/
  in-mem kv agents.db nightly get goal
  in-mem kv agents.db nightly get goal --at 1763900000000000000
  in-mem kv agents.db nightly history goal";

/// Shows the key-value pairs of a run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Kv {
    #[command(flatten)]
    place: Place,
    /// The run
    run: String,
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Shows what a key holds
    Get {
        /// The key
        key: String,
        /// As it was at this version
        #[arg(long, value_name = "VERSION")]
        at: Option<u64>,
    },
    /// Lists keys and values
    List {
        /// Only keys that begin so
        #[arg(long)]
        prefix: Option<String>,
        /// As it was at this version
        #[arg(long, value_name = "VERSION")]
        at: Option<u64>,
    },
    /// Lists everything a key has held, oldest first
    History {
        /// The key
        key: String,
    },
}

impl Kv {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let (database, run) = session.open_run(&self.place, &self.run)?;
        match self.question {
            Question::Get { key, at } => {
                let found = match at {
                    None => database.kv().get_versioned(run, &key)?,
                    Some(at) => database.snapshot_at(run, at.into())?.kv().get_versioned(&key)?,
                };
                let Some(found) = found else {
                    return Err(missing(&key));
                };
                output.record([
                    ("key", json!(key)),
                    ("value", found.value.to_json()),
                    ("version", json!(found.version.get())),
                ])
            }
            Question::List { prefix, at } => {
                let prefix = prefix.as_deref();
                let pairs = match at {
                    None => database.kv().list_with_values(run, prefix)?,
                    Some(at) => database.snapshot_at(run, at.into())?.kv().list_with_values(prefix)?,
                };
                output.rows(["key", "value"], pairs.into_iter().map(|(key, value)| [json!(key), value.to_json()]))
            }
            Question::History { key } => {
                let revisions = database.kv().history(run, &key)?;
                if revisions.is_empty() {
                    return Err(missing(&key));
                }
                let rows = revisions.into_iter().map(|revision| {
                    let (is_deleted, value) = (revision.value.is_none(), revision.value.unwrap_or(Value::Null));
                    let at = moment(output, revision.version);
                    [json!(revision.version.get()), at, json!(is_deleted), value.to_json()]
                });
                let rows: Vec<_> = rows.collect();
                output.rows(["version", "time", "deleted", "value"], rows)
            }
        }
    }
}

fn missing(key: &str) -> Failure {
    Failure::Usage(format!("there is no such key, `in-mem kv PATH RUN list` lists those there are: key={key:?}"))
}
