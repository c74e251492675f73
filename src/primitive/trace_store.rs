//! Traces.
//!
//! - A trace's number comes from the database's clock, in nanoseconds, just before it is recorded. Its id is the number
//!   in hexadecimal and its timestamp is the number in microseconds, so that the order of ids, of times and of
//!   recording are one order, and a range of time is a range of numbers.
//! - Numbers start at 1. Parent 0 stands for none.
//! - A parent exists before its children, so that no trace is below itself.

use std::ops::{Bound, Range};
use std::sync::Arc;

use super::command::TraceCommand;
use super::output::Output;
use super::{index, missing, writable};
use crate::base::error::{Error, Result};
use crate::base::key::{Space, number_at_end, number_name, text_prefix, unit_name};
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::trace::{Trace, TraceTree};
use crate::base::version::Version;
use crate::commit::access::{Access, Scan};

/// How deep a tree of traces may be to be answered as one. Dropping a `TraceTree` takes stack by its depth: in a thread
/// of 2 MiB, a debug build can drop 10,800 levels, a release build 32,000.
const TREE_DEPTH: usize = 5_000;

/// What stands for the parent of a trace without one.
const NO_PARENT: u64 = 0;

pub(super) fn execute(access: &mut Access<'_>, run: RunId, command: TraceCommand) -> Result<Output> {
    match command {
        TraceCommand::Record { number, trace } => {
            writable(access, run)?;
            record(access, run, number, *trace)
        }
        TraceCommand::Get { id } => Ok(Output::Trace(parse_id(&id).and_then(|number| get(access, run, number)))),
        TraceCommand::ByKind { kind } => {
            let numbers = numbers(access, run, Space::TraceKind, &text_prefix(&kind));
            Ok(Output::Traces(fetch(access, run, numbers)?))
        }
        TraceCommand::ByTag { tag } => {
            let numbers = numbers(access, run, Space::TraceTag, &text_prefix(&tag));
            Ok(Output::Traces(fetch(access, run, numbers)?))
        }
        TraceCommand::ByTime { range } => Ok(Output::Traces(by_time(access, run, range))),
        TraceCommand::Children { id } => {
            let children = parse_id(&id).map_or_else(Vec::new, |number| children(access, run, number));
            Ok(Output::Traces(fetch(access, run, children)?))
        }
        TraceCommand::Roots => {
            let roots = children(access, run, NO_PARENT);
            Ok(Output::Traces(fetch(access, run, roots)?))
        }
        TraceCommand::Tree { id } => {
            let root = parse_id(&id).and_then(|number| get(access, run, number).map(|root| (number, root)));
            let tree = root.map(|(number, root)| tree(access, run, number, &root)).transpose()?;
            Ok(Output::Tree(tree.map(Box::new)))
        }
        TraceCommand::Count => Ok(Output::Count(count(access, run))),
        TraceCommand::Page { after, limit } => {
            let range = (Bound::Excluded(number_name(after)), Bound::Unbounded);
            Ok(Output::Traces(scan(access, run, &Scan { limit, ..Scan::range(range) })))
        }
    }
}

/// The id of the trace with this number.
pub(super) fn format_id(number: u64) -> String {
    format!("{number:016x}")
}

/// The number in a trace's id: exactly 16 hexadecimal digits in lower case, not all zero.
pub(super) fn parse_id(id: &str) -> Option<u64> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if id.len() != 16 || !id.bytes().all(is_digit) {
        return None;
    }
    u64::from_str_radix(id, 16).ok().filter(|number| *number != NO_PARENT)
}

/// Records a trace under its number, or under the next free one: a trace never replaces another.
fn record(access: &mut Access<'_>, run: RunId, number: u64, mut trace: Trace) -> Result<Output> {
    if let Some(parent) = &trace.parent_id
        && parse_id(parent).and_then(|number| get(access, run, number)).is_none()
    {
        return Err(Error::KeyNotFound(format!("parent trace: run={run} id={parent:?}")));
    }
    let mut number = number.max(NO_PARENT + 1);
    while get(access, run, number).is_some() {
        number += 1;
    }
    trace.id = format_id(number);
    trace.timestamp = Version::from(number).as_micros();
    let id = trace.id.clone();
    index::put(access, run, Space::Trace, number_name(number), Stored::Trace(Arc::new(trace)), None)?;
    Ok(Output::TraceId(id))
}

fn get(access: &mut Access<'_>, run: RunId, number: u64) -> Option<Arc<Trace>> {
    access.get(run, Space::Trace, &number_name(number)).map(|stored| Arc::clone(trace_of(&stored)))
}

fn scan(access: &mut Access<'_>, run: RunId, scan: &Scan) -> Vec<Arc<Trace>> {
    let mut traces = Vec::new();
    access.scan(run, Space::Trace, scan, |_, stored| {
        traces.push(Arc::clone(trace_of(stored)));
        true
    });
    traces
}

/// The numbers that an index holds under a prefix, in order.
fn numbers(access: &mut Access<'_>, run: RunId, space: Space, prefix: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    access.scan(run, space, &Scan::prefix(prefix), |name, _| {
        numbers.extend(number_at_end(name));
        true
    });
    numbers
}

fn children(access: &mut Access<'_>, run: RunId, parent: u64) -> Vec<u64> {
    numbers(access, run, Space::TraceChild, &number_name(parent))
}

/// The traces that an index named.
fn fetch(access: &mut Access<'_>, run: RunId, numbers: Vec<u64>) -> Result<Vec<Arc<Trace>>> {
    let fetched = numbers
        .into_iter()
        .map(|number| get(access, run, number).ok_or_else(|| missing("trace", run, format_id(number))));
    fetched.collect()
}

/// The traces whose timestamp lies in a range of microseconds.
///
/// A trace's timestamp is its number divided by 1000 and rounded down, so that [start, end) in microseconds is
/// [start * 1000, end * 1000) in numbers: time 5 is the numbers 5000 to 5999.
fn by_time(access: &mut Access<'_>, run: RunId, range: Range<i64>) -> Vec<Arc<Trace>> {
    let number = |micros: i64| number_name(u64::try_from(micros).unwrap_or(0).saturating_mul(1_000));
    let range = (Bound::Included(number(range.start)), Bound::Excluded(number(range.end)));
    scan(access, run, &Scan::range(range))
}

fn count(access: &mut Access<'_>, run: RunId) -> u64 {
    if !access.is_kept(run, Space::TraceCount) {
        // Counts are not kept, traces are.
        return scan(access, run, &Scan::all()).len() as u64;
    }
    let kept = match access.get(run, Space::TraceCount, &unit_name()) {
        None => 0,
        Some(Stored::Count(count)) => count,
        Some(other) => unreachable!("the number of traces is a count, not {other:?}"),
    };
    kept + access.recorded(run)
}

/// The trace and everything below it. Walks down with a stack of its own, then puts the tree together from its end.
fn tree(access: &mut Access<'_>, run: RunId, number: u64, root: &Trace) -> Result<TraceTree> {
    let leaf = |trace: &Trace| TraceTree { trace: trace.clone(), children: Vec::new() };
    let mut root = leaf(root);
    // Every trace below the root and where its parent is; a parent comes before its children, and the children of one
    // parent come in the order of their recording.
    let mut below: Vec<(TraceTree, Option<usize>)> = Vec::new();
    // Parents whose children are still to be looked up: number, where it is, its depth.
    let mut open = vec![(number, None, 1)];
    while let Some((number, at, depth)) = open.pop() {
        let numbers = children(access, run, number);
        if depth == TREE_DEPTH && !numbers.is_empty() {
            return Err(Error::InvalidOperation(format!(
                "the tree is too deep to be answered as one, ask for children: run={run} limit={TREE_DEPTH}"
            )));
        }
        for number in numbers {
            let trace = get(access, run, number).ok_or_else(|| missing("trace", run, format_id(number)))?;
            open.push((number, Some(below.len()), depth + 1));
            below.push((leaf(&trace), at));
        }
    }
    while let Some((mut tree, parent)) = below.pop() {
        tree.children.reverse();
        match parent {
            Some(parent) => below[parent].0.children.push(tree),
            None => root.children.push(tree),
        }
    }
    root.children.reverse();
    Ok(root)
}

fn trace_of(stored: &Stored) -> &Arc<Trace> {
    match stored {
        Stored::Trace(trace) => trace,
        other => unreachable!("a trace's number holds a trace, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::harness::{Harness, RUN, assert_collide, assert_refused, record};
    use super::*;
    use crate::base::trace::TraceType;

    fn thought() -> TraceType {
        TraceType::Thought { content: "so".into(), confidence: None }
    }

    fn tool_call() -> TraceType {
        TraceType::ToolCall { tool_name: "search".into(), arguments: 1.into(), result: None, duration_ms: None }
    }

    /// 1000 { 2000 { 4000 }, 3000 }, 5000
    fn family() -> Harness {
        let mut harness = Harness::new();
        for (number, parent) in [(1_000, 0), (2_000, 1_000), (3_000, 1_000), (4_000, 2_000), (5_000, 0)] {
            let parent = (parent > 0).then(|| format_id(parent));
            harness.run(record(number, parent.as_deref(), thought(), &[])).unwrap();
        }
        harness
    }

    fn numbers_of(output: Output) -> Vec<u64> {
        output.ids().iter().filter_map(|id| parse_id(id)).collect()
    }

    #[test]
    fn an_id_is_sixteen_lowercase_hexadecimal_digits() {
        assert_eq!(format_id(0xab), "00000000000000ab");
        assert_eq!(parse_id("00000000000000ab"), Some(0xab));
        for id in ["", "ab", "00000000000000AB", "+0000000000000ab", "0000000000000000", "000000000000000ab", "trace"] {
            assert_eq!(parse_id(id), None, "{id:?}");
        }
    }

    #[test]
    fn the_order_of_ids_of_times_and_of_recording_is_one_order() {
        let mut harness = Harness::new();
        for number in [5_000, 5_999, 6_000, 7_500] {
            harness.run(record(number, None, thought(), &[])).unwrap();
        }
        let mut within = |range| numbers_of(harness.run(TraceCommand::ByTime { range }).unwrap());
        assert_eq!(within(5..6), [5_000, 5_999]);
        assert_eq!(within(6..8), [6_000, 7_500]);
        assert_eq!(within(i64::MIN..i64::MAX), [5_000, 5_999, 6_000, 7_500]);
        #[expect(clippy::reversed_empty_ranges, reason = "callers can ask for anything")]
        let backwards = within(9..3);
        assert_eq!(backwards, [0; 0]);
        let all = harness.run(TraceCommand::Page { after: 0, limit: 99 }).unwrap().into_traces();
        assert_eq!(all.iter().map(|trace| trace.timestamp).collect::<Vec<_>>(), [5, 5, 6, 7]);
    }

    #[test]
    fn a_tag_finds_itself_only() {
        let mut harness = Harness::new();
        harness.run(record(1, None, thought(), &["a", "a"])).unwrap();
        harness.run(record(2, None, thought(), &["a__b"])).unwrap();
        harness.run(record(3, None, thought(), &["a\0", "b"])).unwrap();
        let mut tagged = |tag: &str| numbers_of(harness.run(TraceCommand::ByTag { tag: tag.into() }).unwrap());
        assert_eq!([tagged("a"), tagged("a__b"), tagged("b")], [vec![1], vec![2], vec![3]]);
        assert_eq!([tagged(""), tagged("a_")], [[0; 0]; 2]);
    }

    #[test]
    fn a_custom_trace_is_found_by_its_name_and_as_custom_and_is_never_taken_for_another_kind() {
        let mut harness = Harness::new();
        harness.run(record(1, None, tool_call(), &[])).unwrap();
        harness.run(record(2, None, TraceType::from("ToolCall"), &[])).unwrap();
        harness.run(record(3, None, TraceType::from("plan"), &[])).unwrap();
        harness.run(record(4, None, thought(), &[])).unwrap();
        let mut of_kind = |kind: &str| numbers_of(harness.run(TraceCommand::ByKind { kind: kind.into() }).unwrap());
        assert_eq!([of_kind("ToolCall"), of_kind("Thought")], [[1], [4]]);
        assert_eq!([of_kind("Custom:ToolCall"), of_kind("Custom:plan")], [[2], [3]]);
        assert_eq!(of_kind("Custom"), [2, 3]);
        assert_eq!([of_kind("plan"), of_kind("Custom:"), of_kind("Decision")], [[0; 0]; 3]);
    }

    #[test]
    fn a_parent_must_exist() {
        let mut harness = family();
        for parent in ["0000000000000063", "no id", "0000000000000000"] {
            let result = harness.run(record(9_000, Some(parent), thought(), &[]));
            assert!(matches!(result, Err(Error::KeyNotFound(_))), "{result:?}");
        }
        assert_eq!(harness.run(TraceCommand::Count).unwrap(), Output::Count(5));
    }

    #[test]
    fn families_are_found_from_every_side() {
        let mut harness = family();
        assert_eq!(numbers_of(harness.run(TraceCommand::Roots).unwrap()), [1_000, 5_000]);
        let mut children = |id: &str| numbers_of(harness.run(TraceCommand::Children { id: id.into() }).unwrap());
        assert_eq!(children(&format_id(1_000)), [2_000, 3_000]);
        assert_eq!([children(&format_id(5_000)), children("no id"), children(&format_id(0))], [[0; 0]; 3]);
        assert_eq!(numbers_of(harness.run(TraceCommand::Page { after: 2_000, limit: 2 }).unwrap()), [3_000, 4_000]);
        assert_eq!(harness.run(TraceCommand::Get { id: "no id".into() }).unwrap(), Output::Trace(None));
    }

    #[test]
    fn a_tree_has_every_descendant_in_recording_order() {
        fn outline(tree: &TraceTree) -> String {
            let children: Vec<_> = tree.children.iter().map(outline).collect();
            format!("{:?}[{}]", parse_id(&tree.trace.id).unwrap_or(0), children.join(" "))
        }
        let mut harness = family();
        harness.run(record(6_000, Some(&format_id(2_000)), thought(), &[])).unwrap();
        let output = harness.run(TraceCommand::Tree { id: format_id(1_000) }).unwrap();
        let Output::Tree(Some(tree)) = output else { panic!("{output:?}") };
        assert_eq!(outline(&tree), "1000[2000[4000[] 6000[]] 3000[]]");
        assert_eq!(harness.run(TraceCommand::Tree { id: format_id(7) }).unwrap(), Output::Tree(None));
    }

    #[test]
    fn a_tree_may_be_as_deep_as_the_limit_and_no_deeper() {
        let mut harness = Harness::new();
        let mut parent = None;
        for number in 1..=TREE_DEPTH as u64 {
            harness.run(record(number, parent.as_deref(), thought(), &[])).unwrap();
            parent = Some(format_id(number));
        }
        let tree_of = |number| TraceCommand::Tree { id: format_id(number) };
        let Ok(Output::Tree(Some(tree))) = harness.run(tree_of(1)) else { panic!("there is a tree") };
        let (mut tree, mut depth) = (&*tree, 1);
        while let Some(child) = tree.children.first() {
            (tree, depth) = (child, depth + 1);
        }
        assert_eq!(depth, TREE_DEPTH);
        harness.run(record(1 << 20, parent.as_deref(), thought(), &[])).unwrap();
        assert_refused(harness.run(tree_of(1)), "limit=5000");
        assert!(matches!(harness.run(tree_of(2)), Ok(Output::Tree(Some(_)))));
    }

    #[test]
    fn recordings_do_not_conflict_unless_they_look_at_what_is_recorded() {
        let mut harness = family();
        let child = |number| record(number, Some(&format_id(1_000)), thought(), &["t"]);
        assert_collide(&mut harness, child(11_000), child(12_000), false);
        assert_collide(&mut harness, child(13_000), TraceCommand::Count, true);
        assert_collide(&mut harness, child(14_000), TraceCommand::ByTag { tag: "t".into() }, true);
        assert_collide(&mut harness, child(15_000), TraceCommand::ByTag { tag: "u".into() }, false);
        assert_collide(&mut harness, child(16_000), TraceCommand::Children { id: format_id(2_000) }, false);
        assert_eq!(harness.run(TraceCommand::Count).unwrap(), Output::Count(11));
    }

    #[test]
    fn two_traces_with_one_number_are_both_kept() {
        let mut harness = Harness::new();
        let mut record_seven = || harness.run(record(7, None, thought(), &[])).unwrap();
        assert_eq!(record_seven(), Output::TraceId(format_id(7)));
        assert_eq!(record_seven(), Output::TraceId(format_id(8)));
        assert_collide(&mut harness, record(20, None, thought(), &[]), record(20, None, tool_call(), &[]), true);
        assert_eq!(harness.memory.deleted(&RUN), None);
    }
}
