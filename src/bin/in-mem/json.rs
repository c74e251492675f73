//! `json`: the JSON documents of a run.

use clap::Args;
use in_mem::blocking::serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Place, Session};

const EXAMPLES: &str = "\
Examples:
  in-mem json agents.db nightly
  in-mem json agents.db nightly plan
  in-mem json agents.db nightly plan --query '$.steps[0]'";

/// Shows the JSON documents of a run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Json {
    #[command(flatten)]
    place: Place,
    /// The run
    run: String,
    /// Only this document
    key: Option<String>,
    /// Only what this path finds in it
    #[arg(long, requires = "key", value_name = "JSONPATH")]
    query: Option<String>,
}

impl Json {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let (database, run) = session.open_run(&self.place, &self.run)?;
        let documents = database.json();
        if let (Some(key), Some(query)) = (&self.key, &self.query) {
            if !documents.exists(run, key)? {
                return Err(no_such_document(key));
            }
            return documents.query(run, key, query)?.iter().try_for_each(|found| output.line(found));
        }
        let keys = match &self.key {
            Some(key) => vec![key.clone()],
            None => documents.list(run, None)?,
        };
        let mut rows = Vec::new();
        for key in keys {
            if let Some(document) = documents.get(run, &key, "")? {
                rows.push([json!(key), document]);
            }
        }
        if let Some(key) = self.key.filter(|_| rows.is_empty()) {
            return Err(no_such_document(&key));
        }
        output.rows(["key", "document"], rows)
    }
}

fn no_such_document(key: &str) -> Failure {
    Failure::Usage(format!("there is no such document, without a key all are shown: key={key:?}"))
}
