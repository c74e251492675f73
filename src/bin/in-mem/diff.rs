//! `diff`: what differs between two runs.

use clap::Args;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Place, Session, find_run};

const EXAMPLES: &str = "\
Examples:
  in-mem diff agents.db nightly nightly-retry
  in-mem diff agents.db nightly nightly-retry --json | jq .first_divergence";

/// Shows what differs between two runs; the exit code is 1 if anything does
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Diff {
    #[command(flatten)]
    place: Place,
    /// One run
    a: String,
    /// The other
    b: String,
    /// Long values as a whole
    #[arg(long)]
    full: bool,
}

impl Diff {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let database = session.open(&self.place)?;
        let (a, b) = (find_run(&database, &self.a)?, find_run(&database, &self.b)?);
        let diff = database.diff_runs(a, b)?;
        if output.is_json() {
            output.line(&diff.to_json())?;
        } else if self.full {
            output.text(&format!("{diff:#}"))?;
        } else {
            output.text(&diff.to_string())?;
        }
        if diff.is_empty() { Ok(()) } else { Err(Failure::Finding) }
    }
}
