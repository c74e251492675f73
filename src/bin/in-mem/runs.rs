//! `runs`: the runs of a database.

use clap::Args;
use in_mem::blocking::RunStatus;
use in_mem::blocking::serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Place, Session};
use crate::time::{day, time};

const EXAMPLES: &str = "\
Examples:
  in-mem runs agents.db
  in-mem runs agents.db --status failed
  in-mem runs agents.db --tag nightly --json";

/// The width of a terminal from which on two times to the millisecond have room beside the ids. Below, there is a day.
const WIDE: u16 = 110;
const STATUSES: &str = "active, completed, failed, cancelled, paused or archived";

/// Lists the runs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Runs {
    #[command(flatten)]
    place: Place,
    #[arg(long, value_parser = status, help = format!("Only those with this status: {STATUSES}"))]
    status: Option<RunStatus>,
    /// Only those with this tag
    #[arg(long)]
    tag: Option<String>,
}

impl Runs {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let database = session.open(&self.place)?;
        let mut runs = database.runs().list_runs()?;
        runs.retain(|run| self.status.is_none_or(|status| run.status == status));
        runs.retain(|run| self.tag.as_ref().is_none_or(|tag| run.tags.contains(tag)));
        if !output.is_json() && Output::width() < WIDE {
            let rows = runs.into_iter().map(|run| {
                let created = json!(day(run.created_at));
                [json!(run.run_id), json!(run.name), json!(run.status.as_str()), created, json!(run.tags)]
            });
            let rows: Vec<_> = rows.collect();
            return output.rows(["run", "name", "status", "created_at", "tags"], rows);
        }
        let rows = runs.into_iter().map(|run| {
            let status = run.status.as_str();
            let (created, updated) = (time(output, run.created_at), time(output, run.updated_at));
            [json!(run.run_id), json!(run.name), json!(status), created, updated, json!(run.tags)]
        });
        let rows: Vec<_> = rows.collect();
        output.rows(["run", "name", "status", "created_at", "updated_at", "tags"], rows)
    }
}

fn status(text: &str) -> Result<RunStatus, String> {
    use RunStatus::{Active, Archived, Cancelled, Completed, Failed, Paused};
    let all = [Active, Completed, Failed, Cancelled, Paused, Archived];
    let found = all.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("it is one of {STATUSES}"))
}
