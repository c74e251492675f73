//! Intents: the locks that prepared transactions hold from their prepare to their decision.
//!
//! - A part that voted yes holds a write intent on every key it changes, derived entries and deleted runs included,
//!   and a shared read intent on every key and range it read.
//! - A write intent excludes everything of others; read intents exclude writes of others.
//! - A reader at S waits for a write intent with a prepare timestamp at or below S: its outcome may be below S.
//! - A single write that waits for read intents bars new ones on its keys, so that it does not starve.

use std::collections::BTreeMap;

use super::message::TransactionNumber;
use super::part::Part;
use crate::base::error::Conflict;
use crate::base::key::{Name, Space};
use crate::base::planted::{Bug, planted};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::store::memory::NameRange;

/// A key of the shard.
pub(crate) type Key = (RunId, Space, Name);

/// What a write that waits is going to change: no new read intents are granted on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bar {
    pub(crate) keys: Vec<Key>,
    /// Runs that it deletes.
    pub(crate) runs: Vec<RunId>,
}

/// A prepared transaction in the way of another.
#[derive(Clone, Debug)]
pub(crate) struct Obstacle {
    /// Whose intent it is.
    pub(crate) holder: TransactionNumber,
    /// Where they meet.
    pub(crate) key: Key,
}

impl Obstacle {
    fn new(holder: TransactionNumber, run: RunId, space: Space, name: &Name) -> Self {
        Self { holder, key: (run, space, Name::from_slice(name)) }
    }

    /// The conflict to report; nobody has won yet.
    pub(crate) fn conflict(&self) -> Conflict {
        let (run, space, name) = &self.key;
        Conflict { run: *run, primitive: space.primitive(), key: space.show(name), winner: None }
    }
}

/// The locks of a shard.
#[derive(Debug, Default)]
pub(crate) struct Intents {
    writes: BTreeMap<Key, (TransactionNumber, Version)>,
    reads: BTreeMap<Key, Vec<TransactionNumber>>,
    ranges: Vec<(TransactionNumber, RunId, Space, NameRange)>,
    deleted: BTreeMap<RunId, (TransactionNumber, Version)>,
    barred: BTreeMap<Key, u32>,
    barred_runs: BTreeMap<RunId, u32>,
    holders: u32,
}

impl Intents {
    /// Whether nobody holds any.
    pub(crate) const fn is_empty(&self) -> bool {
        self.holders == 0
    }

    /// No commit that is in doubt comes below this version.
    pub(crate) fn lowest(&self) -> Option<Version> {
        self.writes.values().chain(self.deleted.values()).map(|(_, timestamp)| *timestamp).min()
    }

    /// Whether any commit may still come at or below a version.
    pub(crate) fn is_in_doubt(&self, version: Version) -> bool {
        self.lowest().is_some_and(|lowest| lowest <= version)
    }

    /// Grants a prepared part its intents.
    ///
    /// # Panics
    /// If somebody else holds one of its write intents: two would write one key.
    pub(crate) fn grant(&mut self, number: TransactionNumber, timestamp: Version, part: &Part) {
        self.holders += 1;
        for key in part.written() {
            let before = self.writes.insert(key, (number, timestamp));
            assert!(before.is_none_or(|(holder, _)| holder == number), "one transaction at a time writes a key");
        }
        for run in part.deleted_runs() {
            self.deleted.insert(*run, (number, timestamp));
        }
        for key in part.reads().iter().filter(|_| !planted(Bug::NoReadIntents)) {
            let readers = self.reads.entry(key.clone()).or_default();
            if readers.last() != Some(&number) {
                readers.push(number);
            }
        }
        for (run, space, range) in part.ranges().iter().filter(|_| !planted(Bug::NoRangeIntents)) {
            self.ranges.push((number, *run, *space, range.clone()));
        }
    }

    /// Takes back everything that a part was granted.
    pub(crate) fn release(&mut self, number: TransactionNumber, part: &Part) {
        self.holders -= 1;
        for key in part.written() {
            self.writes.remove(&key);
        }
        for run in part.deleted_runs() {
            self.deleted.remove(run);
        }
        for key in part.reads() {
            if let Some(readers) = self.reads.get_mut(key) {
                readers.retain(|reader| *reader != number);
                if readers.is_empty() {
                    self.reads.remove(key);
                }
            }
        }
        self.ranges.retain(|(holder, ..)| *holder != number);
    }

    /// Who may yet change what a reader at this snapshot sees of a key.
    pub(crate) fn writer_of(
        &self,
        run: RunId,
        space: Space,
        name: &Name,
        snapshot: Version,
    ) -> Option<TransactionNumber> {
        if self.is_empty() {
            return None;
        }
        let write = self.writes.get(&(run, space, Name::from_slice(name)));
        let found = write.or_else(|| self.deleted.get(&run));
        found.filter(|(_, timestamp)| *timestamp <= snapshot).map(|(holder, _)| *holder)
    }

    /// Who may yet change what a reader at this snapshot sees of a range.
    pub(crate) fn writer_in(
        &self,
        run: RunId,
        space: Space,
        range: &NameRange,
        snapshot: Version,
    ) -> Option<TransactionNumber> {
        if self.is_empty() {
            return None;
        }
        let deleted = self.deleted.get(&run).filter(|(_, timestamp)| *timestamp <= snapshot);
        let mut in_range = self.writes_in(run, space, range);
        let found = in_range.find(|(_, (_, timestamp))| *timestamp <= snapshot).map(|(_, intent)| intent);
        deleted.or(found).map(|(holder, _)| *holder)
    }

    fn writes_in<'a>(
        &'a self,
        run: RunId,
        space: Space,
        range: &'a NameRange,
    ) -> impl Iterator<Item = (&'a Key, &'a (TransactionNumber, Version))> {
        of_space(&self.writes, run, space).filter(|((.., name), _)| holds(range, name))
    }

    /// The first intent that stands against a part, whose own are not granted yet.
    pub(crate) fn obstacle(&self, part: &Part) -> Option<Obstacle> {
        if self.is_empty() {
            return None;
        }
        self.against_reads(part).or_else(|| self.against_writes(part)).or_else(|| self.against_deletes(part))
    }

    fn against_reads(&self, part: &Part) -> Option<Obstacle> {
        let of_key = |(run, space, name): &Key| {
            let holder = self.writer_of(*run, *space, name, Version::MAX)?;
            Some(Obstacle::new(holder, *run, *space, name))
        };
        let of_range = |(run, space, range): &(RunId, Space, NameRange)| {
            let holder = self.writer_in(*run, *space, range, Version::MAX)?;
            Some(Obstacle::new(holder, *run, *space, &Name::new()))
        };
        part.reads().iter().find_map(of_key).or_else(|| part.ranges().iter().find_map(of_range))
    }

    fn against_writes(&self, part: &Part) -> Option<Obstacle> {
        part.written().find_map(|key| {
            let (run, space, name) = &key;
            let writer = self.writer_of(*run, *space, name, Version::MAX);
            let reader = || self.reads.get(&key).and_then(|readers| readers.first().copied());
            let scanner = || {
                let mut ranges = self.ranges.iter();
                let found = ranges
                    .find(|(_, in_run, in_space, range)| (in_run, in_space) == (run, space) && holds(range, name));
                found.map(|(holder, ..)| *holder)
            };
            let holder = writer.or_else(reader).or_else(scanner)?;
            Some(Obstacle::new(holder, *run, *space, name))
        })
    }

    /// Whoever deletes a run excludes everybody who reads or writes anything in it.
    fn against_deletes(&self, part: &Part) -> Option<Obstacle> {
        part.deleted_runs().find_map(|run| {
            let writer = || of_run(&self.writes, *run).map(|(_, (holder, _))| *holder).next();
            let reader = || of_run(&self.reads, *run).find_map(|(_, readers)| readers.first().copied());
            let scanner = || self.ranges.iter().find(|(_, in_run, ..)| in_run == run).map(|(holder, ..)| *holder);
            let deleter = self.deleted.get(run).map(|(holder, _)| *holder);
            let holder = deleter.or_else(writer).or_else(reader).or_else(scanner)?;
            Some(Obstacle::new(holder, *run, Space::Run, &Name::new()))
        })
    }

    /// Grants no new read intents on these keys and runs until `unbar`.
    pub(crate) fn bar(&mut self, bar: &Bar) {
        for key in &bar.keys {
            *self.barred.entry(key.clone()).or_insert(0) += 1;
        }
        for run in &bar.runs {
            *self.barred_runs.entry(*run).or_insert(0) += 1;
        }
    }

    /// Takes back one `bar`.
    pub(crate) fn unbar(&mut self, bar: &Bar) {
        for key in &bar.keys {
            lower(&mut self.barred, key);
        }
        for run in &bar.runs {
            lower(&mut self.barred_runs, run);
        }
    }

    /// Something that a part reads and that a waiting write has barred.
    pub(crate) fn barred(&self, part: &Part) -> Option<Conflict> {
        if self.barred.is_empty() && self.barred_runs.is_empty() {
            return None;
        }
        let is_barred = |key: &&Key| self.barred.contains_key(*key) || self.barred_runs.contains_key(&key.0);
        let key = part.reads().iter().find(is_barred).cloned();
        let in_range = || {
            part.ranges().iter().find_map(|(run, space, range)| {
                if self.barred_runs.contains_key(run) {
                    return Some((*run, *space, Name::new()));
                }
                let mut keys = of_space(&self.barred, *run, *space);
                keys.find(|((.., name), _)| holds(range, name)).map(|(key, _)| key.clone())
            })
        };
        let (run, space, name) = key.or_else(in_range)?;
        Some(Conflict { run, primitive: space.primitive(), key: space.show(&name), winner: None })
    }

    /// How many transactions hold intents, and how many keys are barred: both are zero at rest.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.writes.len()
            + self.reads.len()
            + self.ranges.len()
            + self.deleted.len()
            + self.barred.len()
            + self.barred_runs.len()
    }
}

fn of_run<V>(keys: &BTreeMap<Key, V>, run: RunId) -> impl Iterator<Item = (&Key, &V)> {
    keys.range((run, Space::Kv, Name::new())..).take_while(move |((in_run, ..), _)| *in_run == run)
}

fn of_space<V>(keys: &BTreeMap<Key, V>, run: RunId, space: Space) -> impl Iterator<Item = (&Key, &V)> {
    let in_space = move |((in_run, in_space, _), _): &(&Key, &V)| (*in_run, *in_space) == (run, space);
    keys.range((run, space, Name::new())..).take_while(in_space)
}

fn lower<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn holds(range: &NameRange, name: &Name) -> bool {
    std::ops::RangeBounds::<Name>::contains(range, name)
}
