//! Chains: the revisions of one key.
//!
//! - Versions rise along a chain. Two writes of one commit to one key leave the later one.
//! - Revision i is needed by readers at versions from its own up to the next one's.

use super::footprint::{self, Footprint};
use crate::base::options::HistoryRetention;
use crate::base::planted::{Bug, planted};
use crate::base::stored::Stored;
use crate::base::version::Version;

/// What a key held from one version on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Revision {
    /// The version of the commit that wrote it.
    pub(crate) version: Version,
    /// From this version on it counts as deleted; `MAX` is never.
    pub(crate) expires: Version,
    /// What was written; `None` is a delete.
    pub(crate) stored: Option<Stored>,
}

impl Revision {
    /// What a reader at this version sees.
    pub(crate) fn live_at(&self, snapshot: Version) -> Option<&Stored> {
        if snapshot < self.expires { self.stored.as_ref() } else { None }
    }

    /// From which version on it holds nothing; `MAX` is never.
    pub(crate) const fn gone_at(&self) -> Version {
        if self.stored.is_none() { self.version } else { self.expires }
    }
}

/// The revisions of one key.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    newest: Revision,
    /// Older ones, oldest first; boxed because most keys have none.
    older: Option<Box<Past>>,
}

/// A node of the maps that hold names and chains has room for eleven: together they stay below a kilobyte, above which
/// allocators take a slower way.
const _: () = assert!(size_of::<Chain>() <= 48);

#[derive(Clone, Debug, Default)]
struct Past {
    revisions: Vec<Revision>,
    /// What they take.
    footprint: usize,
}

/// What decides whether an old revision may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// No reader is at or will come below this version.
    pub(crate) horizon: Version,
    /// What history asks to keep.
    pub(crate) history: HistoryRetention,
}

impl Retention {
    /// Whether a revision may go that was replaced at `replaced` and has `newer` revisions after it.
    fn lets_go(&self, replaced: Version, newer: u64) -> bool {
        replaced <= self.horizon
            && match self.history {
                HistoryRetention::Off => true,
                HistoryRetention::For(duration) => {
                    replaced <= self.horizon.before(duration) || planted(Bug::HistoryTimeIgnored)
                }
                HistoryRetention::Commits(count) => newer >= count.max(1) - u64::from(planted(Bug::HistoryCutShort)),
                HistoryRetention::Forever => false,
            }
    }

    /// The first horizon at which something replaced at `replaced` may be let go because of time alone.
    fn due(&self, replaced: Version) -> Option<Version> {
        match self.history {
            HistoryRetention::Off | HistoryRetention::Commits(_) => Some(replaced),
            HistoryRetention::For(duration) => Some(replaced.after(duration)),
            HistoryRetention::Forever => None,
        }
    }
}

/// What came of looking at a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) leftover: Leftover,
    /// A reader below this version could miss what was forgotten.
    pub(crate) forgotten: Version,
}

/// What is left to do about a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// Nothing.
    Settled,
    /// Look again when the horizon has reached this version.
    LookAgain(Version),
    /// The chain holds nothing any more: remove the key.
    Empty,
}

impl Chain {
    pub(crate) const fn new(newest: Revision) -> Self {
        Self { newest, older: None }
    }

    /// A chain of revisions, oldest first; `None` if there are none, or if their versions do not rise.
    pub(crate) fn of(revisions: impl IntoIterator<Item = Revision>) -> Option<Self> {
        let mut revisions = revisions.into_iter();
        let mut chain = Self::new(revisions.next()?);
        for revision in revisions {
            if revision.version <= chain.newest.version {
                return None;
            }
            chain.put_on_top(revision);
        }
        Some(chain)
    }

    pub(crate) const fn newest(&self) -> &Revision {
        &self.newest
    }

    /// The revision a reader at this version sees, deletes included.
    pub(crate) fn at(&self, snapshot: Version) -> Option<&Revision> {
        if self.newest.version <= snapshot {
            return Some(&self.newest);
        }
        let older = &self.older.as_ref()?.revisions;
        let above = older.partition_point(|revision| revision.version <= snapshot);
        above.checked_sub(1).map(|at| &older[at])
    }

    /// All revisions, oldest first.
    pub(crate) fn revisions(&self) -> impl Iterator<Item = &Revision> {
        self.older.iter().flat_map(|past| past.revisions.iter()).chain(std::iter::once(&self.newest))
    }

    /// The revisions from a version on, oldest first, without deletes of what was not there.
    pub(crate) fn changes_from(&self, version: Version) -> impl Iterator<Item = &Revision> {
        let older = self.older.as_ref().map_or(&[][..], |past| &past.revisions);
        let (before, from) = older.split_at(older.partition_point(|revision| revision.version < version));
        let mut was_there = before.last().is_some_and(|last| last.stored.is_some());
        let newest = std::iter::once(&self.newest).filter(move |newest| newest.version >= version);
        from.iter().chain(newest).filter(move |revision| {
            let is_there = revision.stored.is_some();
            std::mem::replace(&mut was_there, is_there) || is_there
        })
    }

    /// By how much it grows at most with a revision that holds this. What it holds now is taken to be replaced at the horizon.
    pub(crate) fn growth(&self, stored: &Stored, retention: Retention) -> usize {
        let past = self.older.as_ref().map_or(&[][..], |past| &past.revisions);
        let next = |at: usize| past.get(at + 1).unwrap_or(&self.newest);
        let goes = |at: usize| retention.lets_go(next(at).version, (past.len() + 1 - at) as u64);
        let gone = (0..past.len()).take_while(|&at| goes(at)).count();
        let freed: usize = (0..gone).map(|at| footprint::of_older(&past[at], next(at))).sum();
        if gone == past.len() && retention.lets_go(retention.horizon, 1) {
            return footprint::of_stored(Some(stored)).saturating_sub(freed + footprint::of_revision(&self.newest));
        }
        footprint::of_next(&self.newest, stored).saturating_sub(freed)
    }

    /// What its revisions take.
    pub(crate) fn footprint(&self) -> Footprint {
        let (bytes, older) = self.older.as_ref().map_or((0, 0), |past| (past.footprint, past.revisions.len()));
        Footprint { bytes: footprint::of_revision(&self.newest) + bytes, keys: 0, revisions: older + 1 }
    }

    /// Adds a revision on top.
    pub(crate) fn push(&mut self, revision: Revision, retention: Retention) -> Outcome {
        assert!(revision.version >= self.newest.version, "versions rise along a chain");
        let is_same_commit = revision.version == self.newest.version;
        if is_same_commit || (self.older.is_none() && retention.lets_go(revision.version, 1)) {
            let forgotten = if is_same_commit { Version::ZERO } else { revision.version };
            self.replace_newest(revision);
            return self.outcome(retention, forgotten);
        }
        self.put_on_top(revision);
        self.prune(retention)
    }

    fn put_on_top(&mut self, revision: Revision) {
        let before = std::mem::replace(&mut self.newest, revision);
        let past = self.older.get_or_insert_default();
        past.footprint += footprint::of_older(&before, &self.newest);
        past.revisions.push(before);
    }

    fn replace_newest(&mut self, revision: Revision) {
        if let Some(past) = &mut self.older
            && let Some(last) = past.revisions.last()
        {
            past.footprint -= footprint::of_older(last, &self.newest);
            past.footprint += footprint::of_older(last, &revision);
        }
        self.newest = revision;
    }

    /// The footprint, counted again.
    #[cfg(test)]
    pub(crate) fn count_footprint(&self) -> Footprint {
        let all: Vec<&Revision> = self.revisions().collect();
        let older = all.windows(2).map(|pair| footprint::of_older(pair[0], pair[1])).sum::<usize>();
        Footprint { bytes: older + footprint::of_revision(&self.newest), keys: 0, revisions: all.len() }
    }

    /// Forgets what may be forgotten.
    pub(crate) fn prune(&mut self, retention: Retention) -> Outcome {
        let mut forgotten = Version::ZERO;
        if let Some(past) = self.older.as_mut().filter(|_| retention.history != HistoryRetention::Forever) {
            let count = past.revisions.len();
            let replaced = |at: usize| past.revisions.get(at + 1).map_or(self.newest.version, |next| next.version);
            let gone = (0..count).take_while(|&at| retention.lets_go(replaced(at), (count - at) as u64)).count();
            forgotten = gone.checked_sub(1).map_or(Version::ZERO, replaced);
            let next = |at: usize| past.revisions.get(at + 1).unwrap_or(&self.newest);
            past.footprint -= (0..gone).map(|at| footprint::of_older(&past.revisions[at], next(at))).sum::<usize>();
            past.revisions.drain(..gone);
            if past.revisions.is_empty() {
                self.older = None;
            }
        }
        self.outcome(retention, forgotten)
    }

    fn outcome(&self, retention: Retention, forgotten: Version) -> Outcome {
        let leftover = self.leftover(retention);
        // A chain that goes as a whole held something until then.
        let gone = if leftover == Leftover::Empty { self.newest.gone_at() } else { Version::ZERO };
        Outcome { leftover, forgotten: forgotten.max(gone) }
    }

    fn leftover(&self, retention: Retention) -> Leftover {
        let gone_at = self.newest.gone_at();
        let next = match &self.older {
            None => gone_at,
            Some(past) => past.revisions.get(1).map_or(self.newest.version, |second| second.version),
        };
        if next == Version::MAX {
            return Leftover::Settled;
        }
        if self.older.is_none() && retention.lets_go(gone_at, u64::MAX) {
            return Leftover::Empty;
        }
        let is_within_count = match (&self.older, retention.history) {
            (Some(past), HistoryRetention::Commits(count)) => (past.revisions.len() as u64) < count.max(1),
            _ => false,
        };
        match retention.due(next) {
            Some(due) if !is_within_count => Leftover::LookAgain(due),
            Some(_) | None => Leftover::Settled,
        }
    }
}

/// Retention for spaces that keep no history.
pub(crate) const fn without_history(horizon: Version) -> Retention {
    Retention { horizon, history: HistoryRetention::Off }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn revision(version: u64, value: Option<i64>) -> Revision {
        Revision {
            version: version.into(),
            expires: Version::MAX,
            stored: value.map(|value| Stored::Value(value.into())),
        }
    }

    fn keeping(horizon: u64, history: HistoryRetention) -> Retention {
        Retention { horizon: horizon.into(), history }
    }

    fn outcome(leftover: Leftover, forgotten: u64) -> Outcome {
        Outcome { leftover, forgotten: forgotten.into() }
    }

    fn settled(forgotten: u64) -> Outcome {
        outcome(Leftover::Settled, forgotten)
    }

    fn look_again(due: u64, forgotten: u64) -> Outcome {
        outcome(Leftover::LookAgain(due.into()), forgotten)
    }

    fn empty(forgotten: u64) -> Outcome {
        outcome(Leftover::Empty, forgotten)
    }

    fn versions(chain: &Chain) -> Vec<u64> {
        chain.revisions().map(|revision| revision.version.get()).collect()
    }

    #[test]
    fn a_reader_sees_the_newest_revision_at_or_below_its_snapshot() {
        let mut chain = Chain::new(revision(10, Some(1)));
        let _ = chain.push(revision(20, Some(2)), keeping(5, HistoryRetention::Off));
        let _ = chain.push(revision(30, None), keeping(5, HistoryRetention::Off));
        let at = |snapshot: u64| chain.at(snapshot.into()).map(|revision| revision.version.get());
        assert_eq!(
            [at(9), at(10), at(19), at(20), at(29), at(99)],
            [None, Some(10), Some(10), Some(20), Some(20), Some(30)]
        );
    }

    #[test]
    fn revisions_below_the_horizon_go_and_those_a_reader_needs_stay() {
        let mut chain = Chain::new(revision(10, Some(1)));
        for version in [20, 30, 40] {
            let _ = chain.push(revision(version, Some(0)), keeping(5, HistoryRetention::Off));
        }
        assert_eq!(chain.prune(keeping(25, HistoryRetention::Off)), look_again(30, 20));
        assert_eq!(versions(&chain), [20, 30, 40], "a reader at 25 needs the revision of 20");
        assert_eq!(chain.prune(keeping(40, HistoryRetention::Off)), settled(40));
        assert_eq!(versions(&chain), [40]);
    }

    #[test]
    fn an_overwrite_nobody_can_look_behind_allocates_nothing() {
        let mut chain = Chain::new(revision(10, Some(1)));
        assert_eq!(chain.push(revision(20, Some(2)), keeping(20, HistoryRetention::Off)), settled(20));
        assert!(chain.older.is_none());
    }

    #[test]
    fn deletes_do_not_erase_versions_while_history_keeps_them() {
        let mut chain = Chain::new(revision(10, Some(1)));
        assert_eq!(chain.push(revision(20, None), keeping(99, HistoryRetention::Forever)), settled(0));
        assert_eq!(versions(&chain), [10, 20]);
        let mut forgetful = Chain::new(revision(10, Some(1)));
        assert_eq!(forgetful.push(revision(20, None), keeping(99, HistoryRetention::Off)), empty(20));
    }

    #[test]
    fn counted_history_keeps_that_many() {
        let mut chain = Chain::new(revision(1, Some(0)));
        for version in 2..9 {
            let _ = chain.push(revision(version, Some(0)), keeping(99, HistoryRetention::Commits(3)));
        }
        let last = chain.push(revision(9, Some(0)), keeping(99, HistoryRetention::Commits(3)));
        assert_eq!(last, settled(7), "a reader at 7 misses nothing");
        assert_eq!(versions(&chain), [7, 8, 9]);
        let held_back = chain.push(revision(10, Some(0)), keeping(7, HistoryRetention::Commits(3)));
        assert_eq!(held_back, look_again(8, 0), "one more, as long as somebody reads it");
    }

    #[test]
    fn timed_history_keeps_what_was_current_within_the_time() {
        let mut chain = Chain::new(revision(100, Some(0)));
        let history = HistoryRetention::For(Duration::from_nanos(50));
        assert_eq!(chain.push(revision(200, Some(1)), keeping(200, history)), look_again(250, 0));
        assert_eq!(versions(&chain), [100, 200]);
        assert_eq!(chain.prune(keeping(250, history)), settled(200));
        assert_eq!(versions(&chain), [200]);
    }

    #[test]
    fn what_expired_is_invisible_at_once_and_removed_when_nobody_can_look() {
        let mut expiring = revision(10, Some(1));
        expiring.expires = 30.into();
        let mut chain = Chain::new(expiring);
        assert!(chain.newest().live_at(29.into()).is_some());
        assert!(chain.newest().live_at(30.into()).is_none());
        assert_eq!(chain.prune(keeping(29, HistoryRetention::Off)), look_again(30, 0));
        assert_eq!(chain.prune(keeping(30, HistoryRetention::Off)), empty(30));
    }
}
