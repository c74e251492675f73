//! `replay`: a run rebuilt from its history, and what it held then.

use clap::Args;
use in_mem::blocking::ReplayView;
use in_mem::blocking::serde_json::{Value as Json, json};

use crate::change::{run_json, trace_json};
use crate::failure::Failure;
use crate::output::{Output, hex};
use crate::session::{Place, Session};

const EXAMPLES: &str = "\
Examples:
  in-mem replay agents.db nightly
  in-mem replay agents.db nightly --until 1763900000000000000";

/// Rebuilds a run from its history, and shows what it held
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Replay {
    #[command(flatten)]
    place: Place,
    /// The run
    run: String,
    /// As it was at this version
    #[arg(long, value_name = "VERSION")]
    until: Option<u64>,
}

impl Replay {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let view = session.replay(&self.place, &self.run, self.until)?;
        let held = held(&view)?;
        output.rows(["primitive", "key", "value"], held)?;
        if output.is_json() {
            return Ok(());
        }
        let (version, commits, digest) = (view.version(), view.steps().len(), hex(&view.digest()?));
        output.text(&format!("version {version}, {commits} commits, digest {digest}"))
    }
}

/// Everything that the run held: primitive, key, value.
fn held(view: &ReplayView) -> Result<Vec<[Json; 3]>, Failure> {
    let mut rows = Vec::new();
    if let Some(about) = view.metadata() {
        rows.push([json!("runs"), json!(about.name), run_json(&about)]);
    }
    for (key, value) in view.kv().list_with_values(None)? {
        rows.push([json!("kv"), json!(key), value.to_json()]);
    }
    for name in view.states().list()? {
        if let Some(state) = view.states().read(&name)? {
            rows.push([json!("states"), json!(name), state.value.to_json()]);
        }
    }
    for key in view.json().list(None)? {
        if let Some(document) = view.json().get(&key, "")? {
            rows.push([json!("json"), json!(key), document]);
        }
    }
    for event in view.events().stream(0) {
        let event = event?;
        let value = json!({"type": event.event_type, "payload": event.payload.to_json()});
        rows.push([json!("events"), json!(event.sequence.to_string()), value]);
    }
    for trace in view.traces().stream() {
        let trace = trace?;
        rows.push([json!("traces"), json!(trace.id), trace_json(&trace)]);
    }
    Ok(rows)
}
