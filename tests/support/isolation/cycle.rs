//! Cycles: the shortest way from a transaction back to itself.
//!
//! - A component has a cycle, so one is always found where a rule asks for nothing else.
//! - Looking for the shortest stops after a bounded effort; looking for any does not.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::Place;
use super::graph::{Edge, Graph, Kinds};

/// How many edges are looked at to make a cycle that was found shorter.
const EFFORT: usize = 1_000_000;

const NOWHERE: usize = usize::MAX;

/// What a cycle may consist of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// As many of these as it likes.
    pub(super) any: Kinds,
    /// Exactly one of these, unless there are none. Then no cycle of `any` alone may exist in the component.
    pub(super) once: Kinds,
}

/// Looks for a short cycle in a strongly connected component.
pub(super) fn find(graph: &Graph, component: &[Place], rule: Rule) -> Option<Vec<Edge>> {
    let mut search = Search::new(graph, component, rule.any);
    if rule.once.is_empty() { search.any(component) } else { search.once(component, rule.once) }
}

struct Search<'a> {
    graph: &'a Graph,
    kinds: Kinds,
    /// Where a node stands. A path leads through no node beyond a bound; nodes outside are beyond all.
    ranks: Vec<usize>,
    /// The round in which a node was last reached, and over which edge.
    reached: Vec<(usize, usize)>,
    round: usize,
    effort: usize,
}

impl<'a> Search<'a> {
    fn new(graph: &'a Graph, component: &[Place], kinds: Kinds) -> Self {
        let mut ranks = vec![NOWHERE; graph.nodes()];
        for node in component {
            ranks[*node] = 0;
        }
        Self { graph, kinds, ranks, reached: vec![(0, 0); graph.nodes()], round: 0, effort: 0 }
    }

    /// A cycle of any length, as short as the effort allows.
    fn any(&mut self, component: &[Place]) -> Option<Vec<Edge>> {
        let mut best: Option<Vec<Edge>> = None;
        for node in component {
            let shorter =
                self.path(*node, *node).filter(|path| best.as_ref().is_none_or(|best| path.len() < best.len()));
            best = shorter.or(best);
            if best.as_ref().is_some_and(|best| best.len() == 2 || self.effort > EFFORT) {
                break;
            }
        }
        best
    }

    /// A cycle with exactly one edge of these kinds. The others are acyclic, so it leads back in their order.
    fn once(&mut self, component: &[Place], once: Kinds) -> Option<Vec<Edge>> {
        self.rank(component);
        let mut best: Option<Vec<Edge>> = None;
        for node in component {
            for number in self.graph.edges_from(*node) {
                let edge = self.graph.edge(number);
                if !once.contains(edge.kind) || self.ranks[edge.to] >= self.ranks[*node] {
                    continue;
                }
                let Some(path) = self.path(edge.to, *node) else { continue };
                if best.as_ref().is_none_or(|best| path.len() + 1 < best.len()) {
                    best = Some([vec![edge], path].concat());
                }
            }
            if best.as_ref().is_some_and(|best| best.len() == 2 || self.effort > EFFORT) {
                break;
            }
        }
        best
    }

    /// Ranks the nodes of a component so that every edge leads to a higher rank (Kahn, 1962), early nodes first.
    fn rank(&mut self, component: &[Place]) {
        let mut open = vec![0_usize; self.graph.nodes()];
        let inner = |search: &Self, node: Place| -> Vec<Place> {
            let edges = search.graph.edges_from(node).map(|number| search.graph.edge(number));
            let inner = edges.filter(|edge| search.kinds.contains(edge.kind) && search.ranks[edge.to] != NOWHERE);
            inner.map(|edge| edge.to).collect()
        };
        for node in component {
            for to in inner(self, *node) {
                open[to] += 1;
            }
        }
        let mut ready: BinaryHeap<_> =
            component.iter().filter(|node| open[**node] == 0).map(|node| Reverse(*node)).collect();
        let mut count = 0;
        while let Some(Reverse(node)) = ready.pop() {
            self.ranks[node] = count;
            count += 1;
            for to in inner(self, node) {
                open[to] -= 1;
                if open[to] == 0 {
                    ready.push(Reverse(to));
                }
            }
        }
        assert!(count == component.len(), "the component has a cycle that must be found first");
    }

    /// The shortest path over at least one edge, through nodes that are not beyond the last.
    fn path(&mut self, from: Place, to: Place) -> Option<Vec<Edge>> {
        self.round += 1;
        let bound = self.ranks[to];
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            for number in self.graph.edges_from(node) {
                self.effort += 1;
                let edge = self.graph.edge(number);
                if !self.kinds.contains(edge.kind)
                    || self.ranks[edge.to] > bound
                    || self.reached[edge.to].0 == self.round
                {
                    continue;
                }
                self.reached[edge.to] = (self.round, number);
                if edge.to == to {
                    return Some(self.walk_back(from, to));
                }
                queue.push_back(edge.to);
            }
        }
        None
    }

    fn walk_back(&self, from: Place, to: Place) -> Vec<Edge> {
        let mut path = vec![self.graph.edge(self.reached[to].1)];
        while let Some(first) = path.last().filter(|edge| edge.from != from) {
            path.push(self.graph.edge(self.reached[first.from].1));
        }
        path.reverse();
        path
    }
}
