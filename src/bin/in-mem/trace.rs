//! `trace`: the traces of a run, as a list or as trees.

use clap::Args;
use in_mem::blocking::serde_json::{Value as Json, json};
use in_mem::blocking::{Trace as Recorded, TraceTree};

use crate::change::{shortened, trace_json, trace_line};
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Place, Session};
use crate::time::{date, time};

const EXAMPLES: &str = "\
Examples:
  in-mem trace agents.db nightly
  in-mem trace agents.db nightly --tree
  in-mem trace agents.db nightly --kind ToolCall --tag retried --json | jq .trace.ToolCall.tool_name";

const KINDS: [&str; 6] = ["ToolCall", "Decision", "Query", "Thought", "Error", "Custom"];

/// Shows the traces of a run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Trace {
    #[command(flatten)]
    place: Place,
    /// The run
    run: String,
    /// Each trace below the one it belongs to
    #[arg(long, conflicts_with_all = ["kind", "tag"])]
    tree: bool,
    #[arg(long, value_parser = kind, help = format!("Only of this kind: {}", kinds()))]
    kind: Option<String>,
    /// Only with this tag
    #[arg(long)]
    tag: Option<String>,
}

impl Trace {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let (database, run) = session.open_run(&self.place, &self.run)?;
        let traces = database.traces();
        if self.tree {
            for root in traces.get_roots(run)? {
                if let Some(tree) = traces.get_tree(run, &root.id)? {
                    print_tree(&tree, output)?;
                }
            }
            return Ok(());
        }
        let mut found = match &self.kind {
            Some(kind) => traces.query_by_type(run, kind)?,
            None => traces.stream(run).collect::<Result<_, _>>()?,
        };
        found.retain(|trace| self.tag.as_ref().is_none_or(|tag| trace.tags.contains(tag)));
        if output.is_json() {
            return found.iter().try_for_each(|trace| output.line(&trace_json(trace)));
        }
        let rows: Vec<_> = found.iter().map(|trace| row(output, trace)).collect();
        output.rows(["id", "parent", "time", "kind", "what", "tags"], rows)
    }
}

/// The kind that somebody means, in the case it is stored in.
fn kind(text: &str) -> Result<String, String> {
    if text.starts_with("Custom:") {
        return Ok(text.to_owned());
    }
    let found = KINDS.into_iter().find(|kind| kind.eq_ignore_ascii_case(text));
    found.map(str::to_owned).ok_or_else(|| format!("it is one of {}", kinds()))
}

fn kinds() -> String {
    format!("{} or Custom:NAME", KINDS.join(", "))
}

fn row(output: &Output, trace: &Recorded) -> [Json; 6] {
    let kind = trace.trace_type.kind();
    let what = shortened(&trace_line(&trace.trace_type));
    let at = time(output, trace.timestamp);
    [json!(trace.id), json!(trace.parent_id), at, json!(kind), json!(what), json!(trace.tags)]
}

/// A line of JSON for each tree, or a line of text for each trace.
fn print_tree(tree: &TraceTree, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.line(&tree_json(tree));
    }
    // Not by recursion: a tree is as deep as somebody made it.
    let mut open = vec![(tree, 0)];
    while let Some((TraceTree { trace, children }, depth)) = open.pop() {
        let (kind, what) = (trace.trace_type.kind(), shortened(&trace_line(&trace.trace_type)));
        output.text(&format!("{}  {}{kind} {what}", date(trace.timestamp), "  ".repeat(depth)))?;
        open.extend(children.iter().rev().map(|child| (child, depth + 1)));
    }
    Ok(())
}

fn tree_json(tree: &TraceTree) -> Json {
    let mut json = trace_json(&tree.trace);
    json["children"] = tree.children.iter().map(tree_json).collect();
    json
}
