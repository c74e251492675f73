//! The black-box checker: list-append histories, nothing known but what clients asked and were told.
//!
//! - A transaction counts if it is `Ok`, or if its outcome is not known and one that counts saw one of its appends.
//! - An accepted history can be run one transaction after the other, in an order that agrees with real time, with the
//!   same answers; as far as the reads tell.
//! - What happens after a crash is checked by one more `Ok` transaction that reads everything.
//!
//! Time and memory: O(n log n) in the operations, the values in all lists, and the pairs of a reader of a key's newest
//! version and an append to that key nobody saw. So keys should be read now and then.

use std::collections::BTreeMap;

pub use super::anomaly::{Anomaly, Class};
use super::appends::{Appended, Appends};
use super::graph::Graph;
pub use super::history::{Operation, Status, Transaction};
use super::observation::{Observation, observe};
use super::orders::Order;
use super::{Place, classes, real_time};

/// How much was checked, so that a test can see that it was something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Those that count.
    pub transactions: usize,
    /// Keys that were read or scanned.
    pub keys: usize,
    /// Appends that somebody saw.
    pub versions: usize,
    /// What transactions saw of keys.
    pub observations: usize,
    /// Those of data.
    pub dependencies: usize,
    /// Those of real time that do not follow from others.
    pub real_time: usize,
}

/// Checks a history.
///
/// # Errors
/// Everything that was found; of a set of transactions that depend on each other, one cycle.
pub fn check(history: &[Transaction]) -> Result<Statistics, Vec<Anomaly>> {
    let mut anomalies = Vec::new();
    let appends = Appends::new(history, &mut anomalies);
    let counted = Counted::new(history, &appends, &mut anomalies);
    let mut statistics = Statistics { observations: counted.observations.len(), ..Statistics::default() };
    let mut keys: BTreeMap<i64, Vec<Observation<'_>>> = BTreeMap::new();
    for observation in counted.observations {
        keys.entry(observation.key).or_default().push(observation);
    }
    statistics.keys = keys.len();
    let nothing = Appended::default();
    let mut edges = Vec::new();
    for (key, observations) in keys {
        if !appends.is_ambiguous(key) {
            let mut order = Order::new(key, appends.key(key).unwrap_or(&nothing), observations);
            order.judge(&counted.is_counted, &mut anomalies, &mut edges);
            statistics.versions += order.versions();
        }
    }
    statistics.dependencies = edges.len();
    let places = (0..history.len()).filter(|place| counted.is_counted[*place]);
    statistics.transactions = places.clone().count();
    edges.extend(real_time::edges(history, places));
    statistics.real_time = edges.len() - statistics.dependencies;
    classes::add_cycles(&Graph::new(history.len(), &edges), &mut anomalies);
    if anomalies.is_empty() { Ok(statistics) } else { Err(anomalies) }
}

/// The transactions that count, and what they saw.
struct Counted<'a> {
    is_counted: Vec<bool>,
    observations: Vec<Observation<'a>>,
}

impl<'a> Counted<'a> {
    fn new(history: &'a [Transaction], appends: &Appends, anomalies: &mut Vec<Anomaly>) -> Self {
        let mut is_counted: Vec<bool> = history.iter().map(|transaction| transaction.status == Status::Ok).collect();
        let mut observations: Vec<Observation<'a>> = Vec::new();
        let mut lengths: BTreeMap<i64, usize> = BTreeMap::new();
        let mut open: Vec<Place> = (0..history.len()).rev().filter(|place| is_counted[*place]).collect();
        while let Some(place) = open.pop() {
            let start = observations.len();
            observe(place, &history[place], appends, &mut observations, anomalies);
            for observation in &observations[start..] {
                // Whoever saw a shorter list has looked at its values already.
                let looked_at = lengths.entry(observation.key).or_default();
                for value in observation.values.iter().skip(*looked_at) {
                    let writer = appends.writer(observation.key, *value);
                    if let Some(writer) = writer.filter(|writer| history[*writer].status == Status::Info)
                        && !is_counted[writer]
                    {
                        is_counted[writer] = true;
                        open.push(writer);
                    }
                }
                *looked_at = observation.values.len().max(*looked_at);
            }
        }
        Self { is_counted, observations }
    }
}
