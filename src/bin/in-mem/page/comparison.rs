//! Comparison: the commits of two runs side by side, and what differs in the end.
//!
//! - Where they parted and what differs in the end is what [`RunDiff`] says. Before that, commits stand beside each other one
//!   by one; behind it, those that did the same do, and between them the others in order.

use in_mem::blocking::{DiffEntry, RunDiff, Step, Value};
use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::edit::Edit;
use super::story::{Facts, Story};

/// Two runs beside each other.
#[derive(Serialize)]
pub(super) struct Comparison {
    pub(super) rows: Vec<Row>,
    /// The row at which the runs parted.
    pub(super) divergence: Option<usize>,
    entries: Vec<Entry>,
}

/// The places of two commits; `None`: there is none beside the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) a: Option<usize>,
    pub(super) b: Option<usize>,
    pub(super) same: bool,
}

/// Something that differs in the end; of what is nothing but added or removed, one side.
#[derive(Serialize)]
struct Entry {
    primitive: &'static str,
    key: String,
    path: Option<String>,
    a: Option<String>,
    b: Option<String>,
}

/// What a commit did, without what differs between any two: ids, times, versions, durations, places.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Deeds<'a> {
    kv: Vec<(&'a str, Option<&'a str>)>,
    states: Vec<(&'a str, Option<&'a str>)>,
    json: Vec<(&'a str, &'a [Edit])>,
    run: Option<&'a Facts>,
    events: Vec<(&'a str, &'a str)>,
    traces: Vec<(&'a str, &'a str, &'a [String], Option<&'a str>)>,
}

impl Comparison {
    pub(super) fn of(diff: &RunDiff, a: &Story, b: &Story) -> Self {
        let entries = [&diff.added, &diff.removed, &diff.modified].into_iter().flatten().map(Entry::of).collect();
        let parting = diff.divergence.as_ref();
        let place = |story: &Story, step: Option<&Step>| {
            step.map_or(story.commits.len(), |step| {
                story.commits.partition_point(|commit| commit.version < step.version)
            })
        };
        let until_a = place(a, parting.and_then(|parting| parting.a.as_ref()));
        let until_b = place(b, parting.and_then(|parting| parting.b.as_ref()));
        let mut rows = rows_in_common(until_a, until_b);
        let divergence = parting.map(|_| rows.len());
        rows.extend(rows_behind(until_a, until_b, &deeds(a)[until_a..], &deeds(b)[until_b..]));
        if let Some(first) = divergence.and_then(|at| rows.get_mut(at)) {
            first.same = false;
        }
        Self { rows, divergence, entries }
    }
}

/// Before two runs parted, their last commits are beside each other. What one did more is in the first commit of the other:
/// what a child begins with is what its parent did until then.
fn rows_in_common(a: usize, b: usize) -> Vec<Row> {
    let rows = a.max(b);
    let place = |row: usize, length: usize| (row + length).checked_sub(rows);
    (0..rows).map(|row| Row { a: place(row, a), b: place(row, b), same: true }).collect()
}

fn rows_behind(from_a: usize, from_b: usize, a: &[Deeds<'_>], b: &[Deeds<'_>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for operation in capture_diff_slices(Algorithm::Myers, a, b) {
        let same = matches!(operation, DiffOp::Equal { .. });
        let (a, b) = (operation.old_range(), operation.new_range());
        for row in 0..a.len().max(b.len()) {
            let a = (row < a.len()).then_some(from_a + a.start + row);
            let b = (row < b.len()).then_some(from_b + b.start + row);
            rows.push(Row { a, b, same });
        }
    }
    rows
}

/// What each commit of a run did.
fn deeds(story: &Story) -> Vec<Deeds<'_>> {
    let mut all: Vec<Deeds<'_>> = Vec::with_capacity(story.commits.len());
    for commit in &story.commits {
        let states = commit.states.iter();
        all.push(Deeds {
            kv: commit.kv.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect(),
            states: states.map(|(name, cell)| (name.as_str(), cell.as_ref().map(|cell| cell.value.as_str()))).collect(),
            json: commit.json.iter().map(|(key, edits)| (key.as_str(), edits.as_slice())).collect(),
            run: commit.run.as_ref(),
            ..Deeds::default()
        });
    }
    for event in &story.events {
        all[event.commit].events.push((&event.event_type, &event.payload));
    }
    for trace in &story.traces {
        all[trace.commit].traces.push((&trace.kind, &trace.contents, &trace.tags, trace.metadata.as_deref()));
    }
    all
}

impl Entry {
    fn of(entry: &DiffEntry) -> Self {
        let DiffEntry { primitive, key, path, a, b } = entry;
        let text = |value: &Option<Value>| value.as_ref().map(Value::to_string);
        Self { primitive, key: key.clone(), path: path.clone(), a: text(a), b: text(b) }
    }
}
