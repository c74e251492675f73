//! `export`: a run in a form for other programs.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use in_mem::blocking::{Database, RunId, serde_json};

use crate::failure::Failure;
use crate::output::Output;
use crate::page::page;
use crate::session::{Place, Session, find_run};
use crate::{jsonl, otlp};

const EXAMPLES: &str = "\
Examples:
  in-mem export agents.db nightly > nightly.jsonl
  in-mem export agents.db nightly --output nightly.jsonl
  in-mem export agents.db nightly --html --with nightly-retry --output nightly.html
  in-mem export agents.db nightly --otlp-json | curl -H 'content-type: application/json' -d @- localhost:4318/v1/traces";

/// Writes a run in a form for other programs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Export {
    #[command(flatten)]
    place: Place,
    /// The run
    run: String,
    #[command(flatten)]
    form: Form,
    /// Another run, to see both side by side
    #[arg(long, value_name = "RUN", requires = "html")]
    with: Option<String>,
    /// Into this new file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The form of an export.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Form {
    /// Everything the run did, a line of JSON for each commit: what `import` reads (the default)
    #[arg(long)]
    jsonl: bool,
    /// One page for a browser that needs nothing else: what the run did, and its state at every commit
    #[arg(long)]
    html: bool,
    /// Its traces as spans, for OpenTelemetry collectors: OTLP in its JSON form
    #[arg(long)]
    otlp_json: bool,
}

impl Export {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let (database, run) = session.open_run(&self.place, &self.run)?;
        match &self.output {
            None => self.write(&database, run, output.raw()),
            Some(path) => {
                let cannot = |error: io::Error| {
                    Failure::Failed(format!("cannot write, give another file: file={} reason={error}", path.display()))
                };
                let mut file = BufWriter::new(File::create_new(path).map_err(cannot)?);
                // Half of it would be taken for the whole, and be in the way of the next.
                self.write(&database, run, &mut file).inspect_err(|_| drop(fs::remove_file(path)))?;
                file.into_inner()
                    .map_err(io::IntoInnerError::into_error)
                    .and_then(|file| file.sync_all())
                    .map_err(cannot)
            }
        }
    }

    fn write(&self, database: &Database, run: RunId, out: &mut dyn Write) -> Result<(), Failure> {
        if self.form.otlp_json {
            let document = otlp::document(database, run)?;
            serde_json::to_writer(&mut *out, &document).map_err(io::Error::from)?;
            return Ok(out.write_all(b"\n")?);
        }
        if self.form.html {
            let other = self.with.as_ref().map(|with| find_run(database, with)).transpose()?;
            return Ok(out.write_all(page(database, run, other)?.as_bytes())?);
        }
        jsonl::write(database, run, out)
    }
}
