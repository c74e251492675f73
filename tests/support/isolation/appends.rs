//! Appends: who appended which value.
//!
//! - A key that got a value twice is left out of everything that follows: its values name nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::Place;
use super::anomaly::{Anomaly, Class};
use super::history::{Operation, Transaction};

/// The values appended to a key.
#[derive(Debug, Default)]
pub(super) struct Appended {
    /// Who appended a value.
    pub(super) writers: BTreeMap<i64, Place>,
    /// What each transaction appended, in order.
    pub(super) sequences: BTreeMap<Place, Vec<i64>>,
}

impl Appended {
    /// The last value a transaction appended.
    pub(super) fn last(&self, writer: Place) -> Option<i64> {
        self.sequences.get(&writer)?.last().copied()
    }
}

/// All appends of a history, by key.
#[derive(Debug, Default)]
pub(super) struct Appends {
    keys: BTreeMap<i64, Appended>,
    ambiguous: BTreeSet<i64>,
}

impl Appends {
    pub(super) fn new(history: &[Transaction], anomalies: &mut Vec<Anomaly>) -> Self {
        let mut appends = Self::default();
        for (place, transaction) in history.iter().enumerate() {
            for operation in &transaction.operations {
                if let Operation::Append { key, value } = operation {
                    appends.add(place, *key, *value, anomalies);
                }
            }
        }
        appends
    }

    fn add(&mut self, place: Place, key: i64, value: i64, anomalies: &mut Vec<Anomaly>) {
        let appended = self.keys.entry(key).or_default();
        if let Some(first) = appended.writers.insert(value, place)
            && self.ambiguous.insert(key)
        {
            let step = format!("T{first} and T{place} append the same value: key={key} value={value}");
            anomalies.push(Anomaly::new(Class::DuplicateAppend, vec![first, place], step));
        }
        appended.sequences.entry(place).or_default().push(value);
    }

    pub(super) fn key(&self, key: i64) -> Option<&Appended> {
        self.keys.get(&key)
    }

    pub(super) fn writer(&self, key: i64, value: i64) -> Option<Place> {
        self.keys.get(&key)?.writers.get(&value).copied()
    }

    pub(super) fn is_ambiguous(&self, key: i64) -> bool {
        self.ambiguous.contains(&key)
    }

    /// The keys from `low` to `high`, both included, that anybody appended to.
    pub(super) fn keys_within(&self, low: i64, high: i64) -> impl Iterator<Item = i64> {
        let is_empty = low > high;
        let range = if is_empty { 0..=0 } else { low..=high };
        self.keys.range(range).map(|(key, _)| *key).filter(move |_| !is_empty)
    }
}
