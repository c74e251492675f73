//! `export`: a run in a form for other programs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::output::Output;
use crate::page::page;
use crate::session::{Place, Session, find_run};

const EXAMPLES: &str = "\
Examples:
  in-mem export agents.db nightly > nightly.jsonl
  in-mem export agents.db nightly --output nightly.jsonl
  in-mem export agents.db nightly --html --with nightly-retry --output nightly.html";

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
    /// Everything the run did, a line of JSON each: what `import` reads (the default)
    #[arg(long)]
    jsonl: bool,
    /// One page for a browser that needs nothing else: what the run did, and its state at every commit
    #[arg(long)]
    html: bool,
}

impl Export {
    pub(crate) fn run(self, session: &Session, _output: &mut Output) -> Result<(), Failure> {
        let database = session.open(&self.place)?;
        let run = find_run(&database, &self.run)?;
        let other = self.with.as_ref().map(|with| find_run(&database, with)).transpose()?;
        let _is_jsonl = self.form.jsonl;
        let mut out: Box<dyn Write> = match &self.output {
            Some(path) => Box::new(BufWriter::new(File::create_new(path)?)),
            None => Box::new(io::stdout().lock()),
        };
        if self.form.html {
            out.write_all(page(&database, run, other)?.as_bytes())?;
        }
        Ok(out.flush()?)
    }
}
