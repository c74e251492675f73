//! Version orders: what all reads of a key together say about the order of its values, and what depends on what.
//!
//! - The order of a key is the longest list that was read. Every other list must be its beginning.
//! - Appends of one transaction are in the order it made them, without gaps.
//! - Appends nobody saw are behind all that were seen, in no order among themselves.
//! - A key whose order is broken is reported, once for each kind of anomaly, and gives no edges.

use std::collections::{BTreeMap, BTreeSet};

use super::Place;
use super::anomaly::{Anomaly, Class};
use super::appends::Appended;
use super::graph::{Edge, Kind};
use super::observation::Observation;

/// A key, what was appended to it and what was seen of it.
pub(super) struct Order<'a> {
    key: i64,
    values: &'a [i64],
    appended: &'a Appended,
    observations: Vec<Observation<'a>>,
}

impl<'a> Order<'a> {
    pub(super) fn new(key: i64, appended: &'a Appended, observations: Vec<Observation<'a>>) -> Self {
        let longest = observations.iter().max_by_key(|observation| observation.values.len());
        Self { key, values: longest.map_or(&[], |longest| longest.values), appended, observations }
    }

    pub(super) fn versions(&self) -> usize {
        self.values.len()
    }

    /// Adds what is wrong with the key, and the edges it gives.
    pub(super) fn judge(&mut self, is_committed: &[bool], anomalies: &mut Vec<Anomaly>, edges: &mut Vec<Edge>) {
        let broken = self.broken_lists();
        if !broken.is_empty() {
            anomalies.extend(broken);
            return;
        }
        let writers: Vec<Place> = self.values.iter().map(|value| self.appended.writers[value]).collect();
        if let Some(mixed) = self.mixed_up(&writers) {
            anomalies.push(mixed);
            return;
        }
        let aborted = self.aborted(&writers, is_committed);
        if !aborted.is_empty() {
            anomalies.extend(aborted);
            return;
        }
        anomalies.extend(self.take_own_later(&writers));
        anomalies.extend(self.take_intermediate(&writers));
        let unseen = self.unseen(is_committed);
        anomalies.extend(self.lost_updates(&writers, &unseen));
        self.add_edges(&writers, &unseen, edges);
    }

    /// Lists that are no beginning of the order, or with values that cannot be.
    fn broken_lists(&self) -> Vec<Anomaly> {
        let mut found = BTreeMap::new();
        let mut add = |class: Class, readers: Vec<Place>, step: String| {
            found.entry(class).or_insert_with(|| Anomaly::new(class, readers, step));
        };
        let longest = self.observations.iter().max_by_key(|observation| observation.values.len());
        for observation in &self.observations {
            let Observation { reader, key, values, .. } = observation;
            let is_beginning = self.values.starts_with(values);
            if is_beginning && values.len() < self.values.len() {
                continue;
            }
            let what = format!("T{reader} reads {values:?}: key={key}");
            let mut seen = BTreeSet::new();
            if !values.iter().all(|value| seen.insert(value)) {
                add(Class::DuplicateElements, vec![*reader], what);
            } else if let Some(value) = values.iter().find(|value| !self.appended.writers.contains_key(value)) {
                add(Class::Garbage, vec![*reader], format!("{what} value={value}"));
            } else if let Some(longest) = longest.filter(|_| !is_beginning) {
                let step =
                    format!("T{reader} reads {values:?}, T{} reads {:?}: key={key}", longest.reader, self.values);
                add(Class::IncompatibleOrder, vec![*reader, longest.reader], step);
            }
        }
        found.into_values().collect()
    }

    /// A transaction whose appends are not in its order, or with a gap.
    fn mixed_up(&self, writers: &[Place]) -> Option<Anomaly> {
        let mut counts: BTreeMap<Place, usize> = BTreeMap::new();
        for (value, writer) in self.values.iter().zip(writers) {
            let count = counts.entry(*writer).or_default();
            let sequence = &self.appended.sequences[writer];
            if sequence[*count] != *value {
                let (key, list) = (self.key, self.values);
                let step = format!("T{writer} appends {sequence:?}, and the list is {list:?}: key={key}");
                return Some(Anomaly::new(Class::IncompatibleOrder, vec![*writer], step));
            }
            *count += 1;
        }
        None
    }

    /// Values of failed transactions: read, or under a committed one.
    fn aborted(&self, writers: &[Place], is_committed: &[bool]) -> Vec<Anomaly> {
        let mut found = Vec::new();
        let key = self.key;
        let read = self.observations.iter().find_map(|observation| {
            let last = observation.length.checked_sub(1)?;
            (!is_committed[writers[last]]).then_some((observation.reader, writers[last], self.values[last]))
        });
        if let Some((reader, writer, value)) = read {
            let step = format!("T{reader} reads the append of T{writer}, which failed: key={key} value={value}");
            found.push(Anomaly::new(Class::AbortedRead, vec![writer, reader], step));
        }
        let under = writers.windows(2).find(|pair| !is_committed[pair[0]] && is_committed[pair[1]]);
        if let Some([failed, above]) = under {
            let step = format!("T{above} appends behind the append of T{failed}, which failed: key={key}");
            found.push(Anomaly::new(Class::DirtyUpdate, vec![*failed, *above], step));
        }
        found
    }

    /// Takes out the reads that saw an append their own transaction made only later.
    fn take_own_later(&mut self, writers: &[Place]) -> Option<Anomaly> {
        let key = self.key;
        let is_own = |observation: &Observation<'_>| {
            writers[..observation.length].last().is_some_and(|writer| *writer == observation.reader)
        };
        let reader = self.observations.iter().find(|observation| is_own(observation))?.reader;
        self.observations.retain(|observation| !is_own(observation));
        let step = format!("T{reader} reads an append it makes only later: key={key}");
        Some(Anomaly::new(Class::Internal, vec![reader], step))
    }

    /// Takes out the reads that saw a part of what a transaction appended.
    fn take_intermediate(&mut self, writers: &[Place]) -> Option<Anomaly> {
        let positions: BTreeMap<i64, usize> = self.values.iter().enumerate().map(|(at, value)| (*value, at)).collect();
        // For each length, how long a list must be to show all appends of everybody in its beginning, and who needs it.
        let mut needed = vec![(0, 0)];
        for (at, writer) in writers.iter().enumerate() {
            let end =
                self.appended.last(*writer).and_then(|last| positions.get(&last)).map_or(usize::MAX, |last| last + 1);
            needed.push(needed[at].max((end, *writer)));
        }
        let is_partial = |observation: &Observation<'_>| needed[observation.length].0 > observation.length;
        let Observation { reader, length, .. } =
            *self.observations.iter().find(|observation| is_partial(observation))?;
        self.observations.retain(|observation| !is_partial(observation));
        let writer = needed[length].1;
        let (key, last) = (self.key, self.appended.last(writer)?);
        let step =
            format!("T{reader} reads a part of what T{writer} appends, without the last: key={key} value={last}");
        Some(Anomaly::new(Class::IntermediateRead, vec![writer, reader], step))
    }

    /// Committed appends that are in no list, one of each transaction.
    fn unseen(&self, is_committed: &[bool]) -> BTreeMap<Place, i64> {
        let seen: BTreeSet<i64> = self.values.iter().copied().collect();
        let unseen =
            self.appended.writers.iter().filter(|(value, writer)| is_committed[**writer] && !seen.contains(value));
        unseen.map(|(value, writer)| (*writer, *value)).collect()
    }

    fn lost_updates(&self, writers: &[Place], unseen: &BTreeMap<Place, i64>) -> Vec<Anomaly> {
        let writers: BTreeSet<Place> = writers.iter().chain(unseen.keys()).copied().collect();
        let mut updates: BTreeMap<usize, BTreeSet<Place>> = BTreeMap::new();
        for observation in &self.observations {
            if !observation.is_absent && writers.contains(&observation.reader) {
                updates.entry(observation.length).or_default().insert(observation.reader);
            }
        }
        let lost = updates.into_iter().filter(|(_, readers)| readers.len() > 1);
        let anomaly = |(length, readers): (usize, BTreeSet<Place>)| {
            let names: Vec<String> = readers.iter().map(|reader| format!("T{reader}")).collect();
            let read = &self.values[..length];
            let step = format!("{} all read {read:?} and append: key={}", names.join(", "), self.key);
            Anomaly::new(Class::LostUpdate, readers.into_iter().collect(), step)
        };
        lost.map(anomaly).collect()
    }

    fn add_edges(&self, writers: &[Place], unseen: &BTreeMap<Place, i64>, edges: &mut Vec<Edge>) {
        let key = self.key;
        let mut add = |from: Place, to: Place, kind: Kind, value: i64| {
            if from != to {
                edges.push(Edge { from, to, kind, key, value });
            }
        };
        for (at, pair) in writers.windows(2).enumerate() {
            add(pair[0], pair[1], Kind::WriteWrite, self.values[at + 1]);
        }
        if let Some(last) = writers.last() {
            for (writer, value) in unseen {
                add(*last, *writer, Kind::WriteWrite, *value);
            }
        }
        for observation in &self.observations {
            let Observation { reader, length, is_absent, .. } = *observation;
            if let Some(at) = length.checked_sub(1) {
                add(writers[at], reader, Kind::WriteRead, self.values[at]);
            }
            let kind = if is_absent { Kind::PredicateReadWrite } else { Kind::ReadWrite };
            if let Some(next) = writers.get(length) {
                add(reader, *next, kind, self.values[length]);
            } else {
                for (writer, value) in unseen {
                    add(reader, *writer, kind, *value);
                }
            }
        }
    }
}
