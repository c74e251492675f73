//! `show`: what is known about a run, and how much it holds.

use clap::Args;
use in_mem::blocking::serde_json::{Value as Json, json};

use crate::change::run_json;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Place, Session};
use crate::time::time;

const EXAMPLES: &str = "\
Examples:
  in-mem show agents.db nightly
  in-mem show agents.db 0199f3c2 --json | jq .events";

/// Shows what is known about a run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Show {
    #[command(flatten)]
    place: Place,
    /// The run
    run: String,
}

impl Show {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let (database, run) = session.open_run(&self.place, &self.run)?;
        let about = database.runs().get_run(run)?;
        let children = database.runs().children(run).map_or(0, |children| children.len());
        let times = ["created_at", "updated_at", "completed_at"];
        let known = about.as_ref().map(run_json).unwrap_or_default();
        let of = |name: &str| match known[name].as_i64() {
            Some(at) if times.contains(&name) => time(output, at),
            _ => known[name].clone(),
        };
        let keys = database.kv().count(run, None)?;
        let states = database.states().list(run)?.len();
        let documents = database.json().list(run, None)?.len();
        let names =
            ["name", "status", "parent", "created_at", "updated_at", "completed_at", "tags", "metadata", "error"];
        let known: Vec<(&str, Json)> = names.into_iter().map(|name| (name, of(name))).collect();
        let counts = [
            ("children", json!(children)),
            ("keys", json!(keys)),
            ("events", json!(database.events().len(run)?)),
            ("states", json!(states)),
            ("traces", json!(database.traces().count(run)?)),
            ("documents", json!(documents)),
        ];
        output.record([("run", json!(run))].into_iter().chain(known).chain(counts))
    }
}
