//! The white-box checker: every read is held against the state at its transaction's timestamps.
//!
//! - A transaction that wrote sees the state at its snapshot, and what it saw is still so just before its commit.
//! - One that only read sees the state at its snapshot.
//! - Who is invoked after another completed has a snapshot at or above all that the other committed or saw, deletions
//!   included. As a snapshot is below the commit, it commits later.
//! - A key that was absent at the snapshot and is absent just before the commit has not changed, whatever was between.
//!
//! Hence the order of commit timestamps is a serial order that agrees with real time; a reader stands between the last
//! change it saw and its snapshot. That a transaction is all or nothing follows. Transactions may share a timestamp if
//! they write different keys and are not before each other both ways.
//!
//! Time: O(n log n) in the reads, the writes and the keys within ranges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::ops::RangeBounds;

use super::Place;
use super::ties::circles;
pub use super::timed_history::{Outcome, RangeRead, Read, Seen, Transaction, Write};
use super::timeline::{Revision, at, unchanged_since, visible};
use super::unknown::{Outcomes, resolve};
pub use super::violation::{Fault, Violation};

/// How much was checked, so that a test can see that it was something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub committed: usize,
    pub read_only: usize,
    /// Of unknown outcome, but somebody saw them.
    pub found_out: usize,
    /// Reads of single keys.
    pub reads: usize,
    /// Keys that ranges found or did not find.
    pub range_keys: usize,
    /// Keys seen absent that only a deletion of unknown outcome explains.
    pub excused: usize,
}

/// Checks a history.
///
/// # Errors
/// Everything that was found; if the input is malformed, only that.
pub fn check<K: Ord + Clone + Debug>(history: &[Transaction<K>]) -> Result<Statistics, Vec<Violation>> {
    let mut checker = Checker {
        history,
        outcomes: resolve(history),
        sights: vec![0; history.len()],
        deletions: BTreeMap::new(),
        statistics: Statistics::default(),
        violations: Vec::new(),
    };
    checker.check_form();
    if !checker.violations.is_empty() {
        return Err(checker.violations);
    }
    checker.check_timestamps();
    checker.check_strangers();
    checker.collect_deletions();
    for (place, transaction) in history.iter().enumerate() {
        let commit = checker.outcomes.commits[place];
        match transaction.outcome {
            Outcome::Committed(_) => checker.statistics.committed += 1,
            Outcome::ReadOnly => checker.statistics.read_only += 1,
            Outcome::Unknown if commit.is_some() => checker.statistics.found_out += 1,
            Outcome::Unknown => continue,
        }
        checker.check_reads(place, commit);
        checker.check_ranges(place, commit);
    }
    checker.check_ties();
    checker.check_real_time();
    if checker.violations.is_empty() { Ok(checker.statistics) } else { Err(checker.violations) }
}

struct Checker<'a, K> {
    history: &'a [Transaction<K>],
    outcomes: Outcomes<'a, K>,
    /// The last change each transaction saw.
    sights: Vec<u64>,
    /// The deletions of a key that may have happened.
    deletions: BTreeMap<&'a K, Vec<Place>>,
    statistics: Statistics,
    violations: Vec<Violation>,
}

impl<K: Ord + Clone + Debug> Checker<'_, K> {
    fn report(&mut self, fault: Fault, places: &[Place], text: String) {
        let transactions = places.iter().map(|place| self.history[*place].id).collect();
        self.violations.push(Violation { fault, transactions, text });
    }

    fn id(&self, place: Place) -> u64 {
        self.history[place].id
    }

    fn check_form(&mut self) {
        let mut ids = BTreeMap::new();
        for (place, transaction) in self.history.iter().enumerate() {
            let id = transaction.id;
            if let Some(other) = ids.insert(id, place) {
                self.report(Fault::Malformed, &[other, place], format!("two transactions have one id: id={id}"));
            }
            let mut written = BTreeSet::new();
            if let Some(write) = transaction.writes.iter().find(|write| !written.insert(&write.key)) {
                self.report(Fault::Malformed, &[place], format!("T{id} lists a write twice: key={:?}", write.key));
            }
            if transaction.outcome == Outcome::ReadOnly && !transaction.writes.is_empty() {
                self.report(Fault::Malformed, &[place], format!("T{id} only reads, and writes"));
            }
            if transaction.outcome != Outcome::Unknown && transaction.completed < transaction.invoked {
                self.report(Fault::Malformed, &[place], format!("T{id} completed before it was invoked"));
            }
        }
    }

    fn check_timestamps(&mut self) {
        let mut shared = Vec::new();
        for (key, revisions) in self.outcomes.timeline.iter() {
            let pairs = revisions.windows(2).filter(|pair| pair[0].version == pair[1].version);
            let pairs = pairs.filter(|pair| pair[0].writer != pair[1].writer);
            shared.extend(
                pairs.map(|pair| (format!("key={key:?} version={}", pair[0].version), pair[0].writer, pair[1].writer)),
            );
        }
        for (what, first, second) in shared {
            let text = format!("T{} and T{} share a timestamp: {what}", self.id(first), self.id(second));
            self.report(Fault::SharedTimestamp, &[first, second], text);
        }
        for (place, transaction) in self.history.iter().enumerate() {
            let Transaction { id, snapshot, .. } = transaction;
            if let Some(commit) = self.outcomes.commits[place].filter(|commit| commit <= snapshot) {
                let text = format!("T{id} commits at or below its snapshot: snapshot={snapshot} commit={commit}");
                self.report(Fault::SnapshotNotBelowCommit, &[place], text);
            }
        }
    }

    fn check_strangers(&mut self) {
        for stranger in std::mem::take(&mut self.outcomes.strangers) {
            let what =
                format!("T{} sees key={:?} version={}", self.id(stranger.reader), stranger.key, stranger.version);
            let places = [&[stranger.reader], &stranger.candidates[..]].concat();
            if stranger.candidates.is_empty() {
                self.report(Fault::UnwrittenVersion, &places, format!("{what}, which nobody wrote"));
            } else {
                let count = stranger.candidates.len();
                let text = format!("{what}, which {count} transactions of unknown outcome can have written");
                self.report(Fault::AmbiguousVersion, &places, text);
            }
        }
    }

    fn collect_deletions(&mut self) {
        let history = self.history;
        for (place, transaction) in history.iter().enumerate() {
            if transaction.outcome == Outcome::Unknown && self.outcomes.commits[place].is_none() {
                for write in transaction.writes.iter().filter(|write| !write.is_present) {
                    self.deletions.entry(&write.key).or_default().push(place);
                }
            }
        }
    }

    /// Whether a deletion of unknown outcome explains that a reader did not see a version.
    fn is_excused(&self, reader: Place, key: &K, missing: Revision) -> bool {
        let Transaction { snapshot, outcome, completed, .. } = &self.history[reader];
        self.deletions.get(key).is_some_and(|deletions| {
            deletions.iter().any(|place| {
                let deletion = &self.history[*place];
                let is_in_time = *outcome == Outcome::Unknown || deletion.invoked < *completed;
                is_in_time && deletion.snapshot < *snapshot && missing.version < *snapshot
            })
        })
    }

    fn check_reads(&mut self, place: Place, commit: Option<u64>) {
        for read in &self.history[place].reads {
            self.statistics.reads += 1;
            self.check_key(place, commit, &read.key, read.seen, (Fault::WrongRead, Fault::ChangedRead));
        }
    }

    fn check_ranges(&mut self, place: Place, commit: Option<u64>) {
        for range in &self.history[place].ranges {
            let found: BTreeMap<&K, Seen> = range.found.iter().map(|(key, seen)| (key, *seen)).collect();
            let is_outside = |key: &&K| !(range.low.as_ref(), range.high.as_ref()).contains(*key);
            let id = self.id(place);
            if found.len() < range.found.len() {
                self.report(Fault::WrongRange, &[place], format!("T{id} finds a key twice in a range"));
            }
            if let Some(key) = found.keys().copied().find(is_outside) {
                self.report(Fault::WrongRange, &[place], format!("T{id} finds a key beyond its range: key={key:?}"));
            }
            let mut keys: BTreeSet<K> = found.keys().map(|key| (*key).clone()).collect();
            keys.extend(self.outcomes.timeline.within(&range.low, &range.high).map(|(key, _)| key.clone()));
            self.statistics.range_keys += keys.len();
            for key in keys {
                let seen = found.get(&key).copied();
                self.check_key(place, commit, &key, seen, (Fault::WrongRange, Fault::ChangedRange));
            }
        }
    }

    /// Holds what was seen of a key against the state at the snapshot and just before the commit.
    fn check_key(&mut self, place: Place, commit: Option<u64>, key: &K, seen: Option<Seen>, faults: (Fault, Fault)) {
        let revisions = self.outcomes.timeline.revisions(key);
        let Transaction { id, snapshot, .. } = &self.history[place];
        if let Some(seen) = seen {
            let written: Vec<Revision> =
                at(revisions, seen.version).iter().filter(|revision| revision.is_present).copied().collect();
            let Some(first) = written.first() else { return };
            if seen.writer.is_some_and(|writer| written.iter().all(|revision| self.id(revision.writer) != writer)) {
                let (version, other) = (seen.version, self.id(first.writer));
                let text = format!("T{id} sees another writer than T{other}: key={key:?} version={version}");
                self.report(Fault::WrongWriter, &[place, first.writer], text);
                return;
            }
        }
        self.sights[place] = self.sights[place].max(unchanged_since(revisions, *snapshot));
        let version = seen.map(|seen| seen.version);
        let expected = visible(revisions, *snapshot);
        let last = commit.and_then(|commit| visible(revisions, commit.saturating_sub(1)));
        if version != expected.map(|revision| revision.version) {
            if version.is_none() && expected.is_some_and(|missing| self.is_excused(place, key, missing)) {
                self.statistics.excused += 1;
                return;
            }
            let (seen, expected) = (show(version), show(expected.map(|revision| revision.version)));
            let text = format!("T{id} sees {seen} instead of {expected}: key={key:?} snapshot={snapshot}");
            self.report(faults.0, &[place], text);
        } else if let Some(commit) = commit
            && version != last.map(|revision| revision.version)
        {
            let (seen, last) = (show(version), show(last.map(|revision| revision.version)));
            let what = format!("key={key:?} snapshot={snapshot} commit={commit}");
            let text = format!("T{id} sees {seen}, and {last} is there before it commits: {what}");
            self.report(faults.1, &[place], text);
        }
    }

    fn check_ties(&mut self) {
        for circle in circles(self.history, &self.outcomes.commits, &self.outcomes.timeline) {
            let names: Vec<String> = circle.iter().map(|place| format!("T{}", self.id(*place))).collect();
            let commit = self.outcomes.commits[circle[0]].unwrap_or(0);
            let text = format!("{} did not see each other's writes: commit={commit}", names.join(", "));
            self.report(Fault::TiedCommits, &circle, text);
        }
    }

    /// Compares each snapshot with the highest that completed before.
    fn check_real_time(&mut self) {
        let counts = |place: &Place| self.history[*place].outcome != Outcome::Unknown;
        let mut completed: Vec<Place> = (0..self.history.len()).filter(counts).collect();
        completed.sort_by_key(|place| self.history[*place].completed);
        let highest = |value: &dyn Fn(Place) -> u64| -> Vec<(u64, Place)> {
            let values = completed.iter().map(|place| (value(*place), *place));
            let highest = values.scan((0, 0), |highest, value| {
                *highest = value.max(*highest);
                Some(*highest)
            });
            highest.collect()
        };
        let commits = highest(&|place| self.outcomes.commits[place].unwrap_or(0));
        let sights = highest(&|place| self.sights[place]);
        for (place, transaction) in self.history.iter().enumerate() {
            let Transaction { id, snapshot, invoked, outcome, .. } = transaction;
            let before = completed.partition_point(|place| self.history[*place].completed < *invoked);
            let is_settled = *outcome != Outcome::Unknown || self.outcomes.commits[place].is_some();
            let Some(last) = before.checked_sub(1).filter(|_| is_settled) else { continue };
            let (commit, committer) = commits[last];
            let (version, witness) = sights[last];
            if commit > *snapshot {
                let other = self.id(committer);
                let text = format!(
                    "T{other} committed and completed before T{id} was invoked: snapshot={snapshot} commit={commit}"
                );
                self.report(Fault::MissedCommit, &[committer, place], text);
            } else if version > *snapshot {
                let other = self.id(witness);
                let what = format!("snapshot={snapshot} change={version}");
                let text = format!("T{other} saw a change and completed before T{id} was invoked: {what}");
                self.report(Fault::MissedVersion, &[witness, place], text);
            }
        }
    }
}

fn show(version: Option<u64>) -> String {
    version.map_or_else(|| "nothing".into(), |version| format!("version {version}"))
}
