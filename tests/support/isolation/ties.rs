//! Ties: transactions that committed at the same timestamp.
//!
//! - Each saw what was there before that timestamp, so one that did not see another's write is before it.
//! - They need an order among themselves: two that did not see each other's writes have none.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::Place;
use super::graph::{Edge, Graph, Kind, Kinds};
use super::timed_history::Transaction;
use super::timeline::{Timeline, at};

/// Sets of transactions with one timestamp that are in no order.
pub(super) fn circles<K: Ord + Clone + Debug>(
    history: &[Transaction<K>],
    commits: &[Option<u64>],
    timeline: &Timeline<K>,
) -> Vec<Vec<Place>> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for commit in commits.iter().flatten() {
        *counts.entry(*commit).or_default() += 1;
    }
    let mut edges = Vec::new();
    for (reader, transaction) in history.iter().enumerate() {
        let Some(commit) = commits[reader].filter(|commit| counts[commit] > 1) else { continue };
        let reads = transaction.reads.iter().map(|read| timeline.revisions(&read.key));
        let ranges = transaction.ranges.iter().flat_map(|range| timeline.within(&range.low, &range.high));
        for revisions in reads.chain(ranges.map(|(_, revisions)| revisions.as_slice())) {
            let before = revisions.partition_point(|revision| revision.version < commit);
            let was_present = revisions[..before].last().is_some_and(|revision| revision.is_present);
            let changes = at(revisions, commit).iter().filter(|revision| revision.is_present || was_present);
            for writer in changes.map(|revision| revision.writer).filter(|writer| *writer != reader) {
                edges.push(Edge { from: reader, to: writer, kind: Kind::ReadWrite, key: 0, value: 0 });
            }
        }
    }
    if edges.is_empty() { Vec::new() } else { Graph::new(history.len(), &edges).components(Kinds::ALL) }
}
