//! `state`: the state cells of a run.

use clap::Args;
use in_mem::blocking::serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Place, Session};
use crate::time::time;

const EXAMPLES: &str = "\
Examples:
  in-mem state agents.db nightly
  in-mem state agents.db nightly phase --at 1763900000000000000";

/// Shows the state cells of a run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct State {
    #[command(flatten)]
    place: Place,
    /// The run
    run: String,
    /// Only this cell
    name: Option<String>,
    /// As it was at this version
    #[arg(long, value_name = "VERSION")]
    at: Option<u64>,
}

impl State {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let (database, run) = session.open_run(&self.place, &self.run)?;
        let view = match self.at {
            Some(at) => database.snapshot_at(run, at.into())?,
            None => database.snapshot_now(run)?,
        };
        let names = match &self.name {
            Some(name) => vec![name.clone()],
            None => view.states().list()?,
        };
        let mut rows = Vec::new();
        for name in names {
            if let Some(state) = view.states().read(&name)? {
                let updated = time(output, state.updated_at);
                rows.push([json!(name), state.value.to_json(), json!(state.version), updated]);
            }
        }
        if let Some(name) = self.name.filter(|_| rows.is_empty()) {
            return Err(Failure::Usage(format!("there is no such cell, without a name all are shown: name={name:?}")));
        }
        output.rows(["name", "value", "version", "updated_at"], rows)
    }
}
