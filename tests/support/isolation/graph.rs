//! A directed graph of transactions, its edges of several kinds.
//!
//! - The edges of a node stand together, in the order they were given.
//! - No edge leads from a node to itself.
//! - Nothing here recurses, so that a history may be as long as it likes.

use super::Place;

/// Why one transaction must be before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The other's version follows.
    WriteWrite,
    /// The other read its version.
    WriteRead,
    /// It read the version before the other's.
    ReadWrite,
    /// It scanned and did not find the other's key.
    PredicateReadWrite,
    /// It completed before the other was invoked.
    RealTime,
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self(0b1_1111);

    pub(super) const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn contains(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A dependency between two transactions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) kind: Kind,
    /// The append it is about; 0 if it is about time.
    pub(super) key: i64,
    pub(super) value: i64,
}

/// The graph.
#[derive(Debug)]
pub(super) struct Graph {
    edges: Vec<Edge>,
    /// Where each node's edges begin, and at the end their number.
    starts: Vec<usize>,
}

impl Graph {
    pub(super) fn new(nodes: usize, edges: &[Edge]) -> Self {
        let mut starts = vec![0; nodes + 1];
        for edge in edges {
            assert!(edge.from != edge.to, "an edge leads from a node to itself: node={}", edge.from);
            starts[edge.from + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut sorted = edges.to_vec();
        for edge in edges {
            sorted[next[edge.from]] = *edge;
            next[edge.from] += 1;
        }
        Self { edges: sorted, starts }
    }

    pub(super) fn nodes(&self) -> usize {
        self.starts.len() - 1
    }

    /// The edges of a node as numbers.
    pub(super) fn edges_from(&self, node: Place) -> std::ops::Range<usize> {
        self.starts[node]..self.starts[node + 1]
    }

    pub(super) fn edge(&self, number: usize) -> Edge {
        self.edges[number]
    }

    pub(super) fn edge_count(&self) -> usize {
        self.edges.len()
    }

    /// The strongly connected components of two nodes or more, over edges of these kinds. Linear (Tarjan, 1972).
    pub(super) fn components(&self, kinds: Kinds) -> Vec<Vec<Place>> {
        let mut search = Components::new(self, kinds);
        for node in 0..self.nodes() {
            if search.numbers[node] == UNSEEN {
                search.visit(node);
            }
        }
        search.found
    }
}

const UNSEEN: usize = usize::MAX;

/// Tarjan's search, with a stack of its own.
struct Components<'a> {
    graph: &'a Graph,
    kinds: Kinds,
    count: usize,
    /// When a node was first seen.
    numbers: Vec<usize>,
    /// The earliest open node that a node leads to.
    lowest: Vec<usize>,
    is_open: Vec<bool>,
    open: Vec<Place>,
    found: Vec<Vec<Place>>,
}

impl<'a> Components<'a> {
    fn new(graph: &'a Graph, kinds: Kinds) -> Self {
        let nodes = graph.nodes();
        Self {
            graph,
            kinds,
            count: 0,
            numbers: vec![UNSEEN; nodes],
            lowest: vec![UNSEEN; nodes],
            is_open: vec![false; nodes],
            open: Vec::new(),
            found: Vec::new(),
        }
    }

    fn enter(&mut self, node: Place) {
        self.numbers[node] = self.count;
        self.lowest[node] = self.count;
        self.count += 1;
        self.is_open[node] = true;
        self.open.push(node);
    }

    fn visit(&mut self, root: Place) {
        self.enter(root);
        let mut path = vec![(root, self.graph.edges_from(root))];
        while let Some((node, edges)) = path.last_mut() {
            let node = *node;
            let Some(number) = edges.next() else {
                path.pop();
                if let Some((parent, _)) = path.last() {
                    self.lowest[*parent] = self.lowest[*parent].min(self.lowest[node]);
                }
                self.leave(node);
                continue;
            };
            let Edge { to, kind, .. } = self.graph.edge(number);
            if !self.kinds.contains(kind) {
                continue;
            }
            if self.numbers[to] == UNSEEN {
                self.enter(to);
                path.push((to, self.graph.edges_from(to)));
            } else if self.is_open[to] {
                self.lowest[node] = self.lowest[node].min(self.numbers[to]);
            }
        }
    }

    /// Closes a component if the node is its first.
    fn leave(&mut self, node: Place) {
        if self.lowest[node] != self.numbers[node] {
            return;
        }
        let at = self.open.iter().rposition(|open| *open == node).unwrap_or(0);
        let mut component = self.open.split_off(at);
        for member in &component {
            self.is_open[*member] = false;
        }
        if component.len() > 1 {
            component.sort_unstable();
            self.found.push(component);
        }
    }
}
