//! Observations: what the reads of a transaction say about the state it ran on.
//!
//! - A read shows the state of others followed by the transaction's own appends so far. Only the former is observed.
//! - All reads of a key within a transaction observe the same, so that one observation of each key is kept.
//! - A scan observes the empty list of every key in its range that it did not find.
//! - A read that contradicts its own transaction is reported and observes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::Place;
use super::anomaly::{Anomaly, Class};
use super::appends::Appends;
use super::history::{Operation, Transaction};

/// What a transaction saw of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation<'a> {
    pub(super) reader: Place,
    pub(super) key: i64,
    /// The whole list that was read.
    pub(super) values: &'a [i64],
    /// How many of the values were there before the transaction.
    pub(super) length: usize,
    /// Whether a scan did not find the key.
    pub(super) is_absent: bool,
}

/// What a transaction knows about a key.
#[derive(Debug, Default)]
struct Known<'a> {
    read: Option<&'a [i64]>,
    own: Vec<i64>,
    /// How many of its own appends the last read could show.
    shown: usize,
    is_observed: bool,
}

impl Known<'_> {
    /// Whether a list is what the transaction must see now.
    fn allows(&self, values: &[i64]) -> bool {
        match self.read {
            Some(read) => values.strip_prefix(read) == Some(&self.own[self.shown..]),
            None => values.ends_with(&self.own),
        }
    }
}

/// Reads one transaction.
struct Reader<'a, 'b> {
    place: Place,
    known: BTreeMap<i64, Known<'a>>,
    /// The ranges that were scanned.
    scanned: Vec<(i64, i64)>,
    observations: &'b mut Vec<Observation<'a>>,
    anomalies: &'b mut Vec<Anomaly>,
}

/// Adds what a transaction observed.
pub(super) fn observe<'a>(
    place: Place,
    transaction: &'a Transaction,
    appends: &Appends,
    observations: &mut Vec<Observation<'a>>,
    anomalies: &mut Vec<Anomaly>,
) {
    let mut reader = Reader { place, known: BTreeMap::new(), scanned: Vec::new(), observations, anomalies };
    for operation in &transaction.operations {
        match operation {
            Operation::Append { key, value } => reader.known(*key).own.push(*value),
            Operation::Read { key, values: Some(values) } => reader.read(*key, values, false),
            Operation::Scan { low, high, keys: Some(keys) } => reader.scan(*low, *high, keys, appends),
            Operation::Read { values: None, .. } | Operation::Scan { keys: None, .. } => {}
        }
    }
}

impl<'a> Reader<'a, '_> {
    fn known(&mut self, key: i64) -> &mut Known<'a> {
        let is_absent = self.scanned.iter().any(|(low, high)| (low..=high).contains(&&key));
        let read: Option<&[i64]> = is_absent.then_some(&[]);
        self.known.entry(key).or_insert_with(|| Known { read, ..Known::default() })
    }

    fn read(&mut self, key: i64, values: &'a [i64], is_absent: bool) {
        let place = self.place;
        let known = self.known(key);
        if !known.allows(values) {
            let own = &known.own;
            let before = known.read.map_or_else(String::new, |read| format!(" after {read:?}"));
            let step = format!("T{place} reads {values:?}{before}, its own appends are {own:?}: key={key}");
            self.report(step);
            return;
        }
        known.read = Some(values);
        known.shown = known.own.len();
        let length = values.len() - known.own.len();
        if !known.is_observed {
            known.is_observed = !is_absent;
            self.observations.push(Observation { reader: place, key, values, length, is_absent });
        }
    }

    fn scan(&mut self, low: i64, high: i64, keys: &'a [(i64, Vec<i64>)], appends: &Appends) {
        let place = self.place;
        let mut found = BTreeSet::new();
        for (key, _) in keys {
            if !(low..=high).contains(key) || !found.insert(*key) {
                self.report(format!("T{place} scans {low} to {high} and finds a key beyond it or twice: key={key}"));
                return;
            }
        }
        for (key, values) in keys {
            self.read(*key, values, false);
        }
        for key in appends.keys_within(low, high).filter(|key| !found.contains(key)) {
            self.read(key, &[], true);
        }
        self.scanned.push((low, high));
    }

    fn report(&mut self, step: String) {
        self.anomalies.push(Anomaly::new(Class::Internal, vec![self.place], step));
    }
}
