//! `timeline`: everything that a run did, commit by commit.

use clap::Args;
use in_mem::blocking::serde_json::json;

use crate::change::{change_cells, change_json};
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Place, Session};
use crate::time::moment;

const EXAMPLES: &str = "\
Examples:
  in-mem timeline agents.db nightly
  in-mem timeline agents.db nightly --json | jq 'select(.primitive == \"kv\")'";

/// Shows everything that a run did, in order
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Timeline {
    #[command(flatten)]
    place: Place,
    /// The run
    run: String,
    /// Only what was committed at or below this version
    #[arg(long, value_name = "VERSION")]
    until: Option<u64>,
}

impl Timeline {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let view = session.replay(&self.place, &self.run, self.until)?;
        let mut rows = Vec::new();
        for step in view.steps() {
            for change in &step.changes {
                if output.is_json() {
                    let mut line = json!({"version": step.version.get()});
                    if let (Some(line), Some(change)) = (line.as_object_mut(), change_json(change).as_object_mut()) {
                        line.append(change);
                    }
                    output.line(&line)?;
                } else {
                    let [primitive, key, what] = change_cells(change);
                    rows.push([json!(step.version.get()), moment(output, step.version), primitive, key, what]);
                }
            }
        }
        if output.is_json() { Ok(()) } else { output.rows(["version", "time", "primitive", "key", "what"], rows) }
    }
}
