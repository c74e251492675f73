//! `backup`: a copy of a database.

use std::path::PathBuf;

use clap::Args;
use in_mem::blocking::serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;
use crate::session::{Place, Session};

const EXAMPLES: &str = "\
Examples:
  in-mem backup agents.db agents-copy.db";

/// Copies a database into a new directory
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Backup {
    #[command(flatten)]
    place: Place,
    /// The new directory
    to: PathBuf,
}

impl Backup {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let database = session.open(&self.place)?;
        let progress = Progress::new("copying");
        let result = database.backup(&self.to);
        drop(progress);
        let report = result.map_err(|error| Failure::Failed(error.to_string()))?;
        let seconds = report.duration.as_secs_f64();
        output.record([
            ("version", json!(report.version.get())),
            ("keys", json!(report.keys)),
            ("bytes", json!(report.bytes)),
            ("seconds", json!(seconds)),
        ])
    }
}
