//! `salvage`: what is intact in a damaged database, as a new one.

use std::path::PathBuf;

use clap::Args;
use in_mem::blocking::serde_json::json;
use in_mem::blocking::{Database, RunId};

use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

const EXAMPLES: &str = "\
Examples:
  in-mem salvage damaged.db rescued.db
  in-mem salvage damaged.db rescued.db --json | jq .damage";

/// Copies what is intact in a damaged database into a new directory; the exit code is 1 if anything is missing
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Salvage {
    /// The damaged database; nothing in it is changed
    from: PathBuf,
    /// The new directory
    to: PathBuf,
}

impl Salvage {
    pub(crate) fn run(self, output: &mut Output) -> Result<(), Failure> {
        let progress = Progress::new("salvaging");
        let result = Database::salvage(&self.from, &self.to);
        drop(progress);
        let report = result.map_err(|error| Failure::Failed(error.to_string()))?;
        let damage = report.damage.iter().map(
            |damage| json!({"file": damage.file, "offset": damage.offset, "bytes": damage.bytes, "what": damage.what}),
        );
        let broken: Vec<String> = report.broken_event_logs.iter().map(RunId::to_string).collect();
        output.record([
            ("whole", json!(report.is_whole())),
            ("segments", json!(report.segments)),
            ("transactions", json!(report.transactions)),
            ("incomplete_transactions", json!(report.incomplete_transactions)),
            ("unfit_transactions", json!(report.unfit_transactions)),
            ("latest_version", json!(report.latest.get())),
            ("lost_manifest", json!(report.lost_manifest)),
            ("broken_event_logs", json!(broken)),
            ("damage", damage.collect()),
        ])?;
        if report.is_whole() { Ok(()) } else { Err(Failure::Finding) }
    }
}
