//! Classes of cycles: which anomaly a cycle of dependencies is.
//!
//! - Classes are looked for from the gravest to the least, first without real time and then with it.
//! - A component in which something was reported already is not looked at again: one cycle of it is enough.
//! - Hence a cycle that is found has none of a graver class in its component, and needs what its class names.

use super::anomaly::{Anomaly, Class};
use super::cycle::{self, Rule};
use super::graph::{Edge, Graph, Kind, Kinds};

const WRITES: Kinds = Kinds::NONE.with(Kind::WriteWrite);
const READS: Kinds = WRITES.with(Kind::WriteRead);
const ITEMS: Kinds = READS.with(Kind::ReadWrite);
const PREDICATES: Kinds = ITEMS.with(Kind::PredicateReadWrite);
const ONCE: Kinds = Kinds::NONE.with(Kind::ReadWrite).with(Kind::PredicateReadWrite);
const TIME: Kinds = Kinds::NONE.with(Kind::RealTime);

const CLASSES: [(Class, Class, Rule); 5] = [
    (Class::G0, Class::G0RealTime, Rule { any: WRITES, once: Kinds::NONE }),
    (Class::G1c, Class::G1cRealTime, Rule { any: READS, once: Kinds::NONE }),
    (Class::GSingle, Class::GSingleRealTime, Rule { any: READS, once: ONCE }),
    (Class::G2Item, Class::G2ItemRealTime, Rule { any: ITEMS, once: Kinds::NONE }),
    (Class::G2, Class::G2RealTime, Rule { any: PREDICATES, once: Kinds::NONE }),
];

/// Adds one anomaly for each component of the graph that has a cycle and no reported transaction.
pub(super) fn add_cycles(graph: &Graph, anomalies: &mut Vec<Anomaly>) {
    if graph.components(Kinds::ALL).is_empty() {
        return;
    }
    let mut is_reported = vec![false; graph.nodes()];
    for place in anomalies.iter().flat_map(|anomaly| &anomaly.transactions) {
        is_reported[*place] = true;
    }
    let timeless = CLASSES.iter().map(|(class, _, rule)| (*class, *rule));
    let timed = CLASSES.iter().map(|(_, class, rule)| (*class, Rule { any: rule.any.and(TIME), once: rule.once }));
    for (class, rule) in timeless.chain(timed) {
        for component in graph.components(rule.any.and(rule.once)) {
            if component.iter().any(|place| is_reported[*place]) {
                continue;
            }
            if let Some(cycle) = cycle::find(graph, &component, rule) {
                for edge in &cycle {
                    is_reported[edge.from] = true;
                }
                let transactions = cycle.iter().map(|edge| edge.from).collect();
                anomalies.push(Anomaly { class, transactions, steps: cycle.iter().map(describe).collect() });
            }
        }
    }
}

fn describe(edge: &Edge) -> String {
    let Edge { from, to, kind, key, value } = edge;
    match kind {
        Kind::WriteWrite => format!("T{from} -ww-> T{to}, which appends behind it: key={key} value={value}"),
        Kind::WriteRead => format!("T{from} -wr-> T{to}, which reads its append: key={key} value={value}"),
        Kind::ReadWrite => format!("T{from} -rw-> T{to}, whose append it does not see: key={key} value={value}"),
        Kind::PredicateReadWrite => {
            format!("T{from} -rw-> T{to}, whose key it does not find by scanning: key={key} value={value}")
        }
        Kind::RealTime => format!("T{from} -rt-> T{to}, which is invoked after it completed"),
    }
}
