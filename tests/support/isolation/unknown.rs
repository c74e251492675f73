//! Unknown outcomes: which transactions must have committed, judged by what others saw.
//!
//! - A version that no committed transaction wrote is that of a transaction whose outcome is not known, and there must
//!   be exactly one that it can be. From then on that one counts as committed at that version, with all its writes.
//! - What it read then counts too, and may decide about others.

use std::fmt::Debug;

use super::Place;
use super::timed_history::{Outcome, Seen, Transaction};
use super::timeline::{Revision, Timeline, at};

/// A version that was seen and that nobody is known to have written.
#[derive(Debug)]
pub(super) struct Stranger<'a, K> {
    pub(super) reader: Place,
    pub(super) key: &'a K,
    pub(super) version: u64,
    /// Who may have written it.
    pub(super) candidates: Vec<Place>,
}

/// What is known about outcomes.
#[derive(Debug)]
pub(super) struct Outcomes<'a, K> {
    /// The commit timestamps, of those that were found out too.
    pub(super) commits: Vec<Option<u64>>,
    pub(super) timeline: Timeline<K>,
    pub(super) strangers: Vec<Stranger<'a, K>>,
}

/// Finds out what can be found out.
pub(super) fn resolve<K: Ord + Clone + Debug>(history: &[Transaction<K>]) -> Outcomes<'_, K> {
    let known = |transaction: &Transaction<K>| match transaction.outcome {
        Outcome::Committed(version) => Some(version),
        Outcome::ReadOnly | Outcome::Unknown => None,
    };
    let mut commits: Vec<Option<u64>> = history.iter().map(known).collect();
    loop {
        let timeline = Timeline::new(writes(history, &commits));
        let strangers = strangers(history, &commits, &timeline);
        let mut is_settled = true;
        for stranger in &strangers {
            if let [writer] = stranger.candidates[..]
                && commits[writer].is_none()
            {
                commits[writer] = Some(stranger.version);
                is_settled = false;
            }
        }
        if is_settled {
            return Outcomes { commits, timeline, strangers };
        }
    }
}

fn writes<'a, K: Ord>(
    history: &'a [Transaction<K>],
    commits: &'a [Option<u64>],
) -> impl Iterator<Item = (&'a K, Revision)> {
    let committed =
        history.iter().enumerate().filter_map(|(place, transaction)| Some((place, transaction, commits[place]?)));
    committed.flat_map(|(writer, transaction, version)| {
        let writes = transaction.writes.iter();
        writes.map(move |write| (&write.key, Revision { version, writer, is_present: write.is_present }))
    })
}

fn strangers<'a, K: Ord + Clone + Debug>(
    history: &'a [Transaction<K>],
    commits: &[Option<u64>],
    timeline: &Timeline<K>,
) -> Vec<Stranger<'a, K>> {
    let unknown: Vec<Place> = (0..history.len()).filter(|place| history[*place].outcome == Outcome::Unknown).collect();
    let counts = |place: &Place| history[*place].outcome != Outcome::Unknown || commits[*place].is_some();
    let mut strangers = Vec::new();
    for reader in (0..history.len()).filter(counts) {
        for (key, seen) in history[reader].sees() {
            if at(timeline.revisions(key), seen.version).iter().any(|revision| revision.is_present) {
                continue;
            }
            let may_be = |place: &&Place| {
                let writer = &history[**place];
                commits[**place].is_none()
                    && **place != reader
                    && fits(writer, key, seen)
                    && (history[reader].outcome == Outcome::Unknown || writer.invoked < history[reader].completed)
            };
            let candidates = unknown.iter().filter(may_be).copied().collect();
            strangers.push(Stranger { reader, key, version: seen.version, candidates });
        }
    }
    strangers
}

/// Whether a transaction can have written this version.
fn fits<K: Ord>(writer: &Transaction<K>, key: &K, seen: Seen) -> bool {
    writer.snapshot < seen.version
        && seen.writer.is_none_or(|id| id == writer.id)
        && writer.writes.iter().any(|write| write.is_present && write.key == *key)
}
