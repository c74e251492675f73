//! Access: what a command sees and changes.
//!
//! - Reads see the snapshot with the transaction's own writes laid over it, inside ranges too.
//! - `seen` is the highest version that a read met, deletes included: a reply that depends on it waits in `Strict` mode
//!   until it is durable.
//! - A read that meets a write intent at or below the snapshot is `blocked`: what it returned counts for nothing, and the
//!   command runs again when the outcome is known.

use std::ops::Bound;
use std::sync::Arc;

use super::intents::Intents;
use super::message::TransactionNumber;
use super::part::{Overlaid, Part};
use crate::base::commit_digest::CommitDigest;
use crate::base::error::Result;
use crate::base::json::edit::Edit;
use crate::base::json::path::Path;
use crate::base::key::{Name, NameBuffer, Space, prefix_end, push_bytes, push_text};
use crate::base::lineage::ReadSet;
use crate::base::planted::{Bug, planted};
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::version::Version;
use crate::format::snapshot::Piece;
use crate::store::dump::Page;
use crate::store::memory::{ALL_SPACES, Memory, NameRange};

/// How many commits are told at once.
const COMMITS: usize = 4096;

/// What a command sees and changes.
#[derive(Debug)]
pub(crate) struct Access<'a> {
    memory: &'a Memory,
    part: &'a mut Part,
    now: Version,
    seen: Version,
    is_too_old: bool,
    intents: Option<&'a Intents>,
    blocked: Option<TransactionNumber>,
}

/// Which names, in which order, how many.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) range: NameRange,
    pub(crate) reverse: bool,
    pub(crate) limit: usize,
}

impl Scan {
    /// Every name that starts with this.
    pub(crate) fn prefix(prefix: &[u8]) -> Self {
        let end = prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Self::range((Bound::Included(Name::from_slice(prefix)), end))
    }

    /// Every name in a range.
    pub(crate) const fn range(range: NameRange) -> Self {
        Self { range, reverse: false, limit: usize::MAX }
    }

    /// Every name in the space.
    pub(crate) const fn all() -> Self {
        Self::range((Bound::Unbounded, Bound::Unbounded))
    }
}

impl<'a> Access<'a> {
    /// `now` is the version that a write made now would have.
    pub(crate) const fn new(memory: &'a Memory, part: &'a mut Part, now: Version) -> Self {
        Self { memory, part, now, seen: Version::ZERO, is_too_old: false, intents: None, blocked: None }
    }

    /// The same, where prepared transactions hold intents.
    pub(crate) const fn beside(mut self, intents: &'a Intents) -> Self {
        self.intents = Some(intents);
        self
    }

    /// The prepared transaction whose outcome must be known first.
    pub(crate) const fn blocked(&self) -> Option<TransactionNumber> {
        self.blocked
    }

    pub(crate) const fn now(&self) -> Version {
        self.now
    }

    /// The highest version that was read.
    pub(crate) const fn seen(&self) -> Version {
        self.seen
    }

    /// Whether anything that was read may have been different at the snapshot: what was current then is not kept.
    pub(crate) const fn is_too_old(&self) -> bool {
        self.is_too_old
    }

    /// What a key holds.
    pub(crate) fn get(&mut self, run: RunId, space: Space, name: &Name) -> Option<Stored> {
        self.get_versioned(run, space, name).map(|(stored, _)| stored)
    }

    /// What a key holds, and the version of the commit that wrote it (the snapshot's, for the transaction's own).
    pub(crate) fn get_versioned(&mut self, run: RunId, space: Space, name: &Name) -> Option<(Stored, Version)> {
        if self.part.is_deleted(run) {
            return None;
        }
        if let Some(overlaid) = self.part.overlaid(run, space, name) {
            let (stored, _) = overlaid.as_ref().filter(|(_, expires)| self.part.snapshot < *expires)?;
            return Some((stored.clone(), self.part.snapshot));
        }
        self.part.note_read(run, space, name);
        self.meet_writer(run, space, name);
        self.find(run, space, name)
    }

    /// What a JSON document's key holds, and the version of the commit that wrote it: a read of what is noted beside it with
    /// `note_path` or `note_key`.
    pub(crate) fn look(&mut self, run: RunId, name: &Name) -> Option<(Stored, Version)> {
        let space = Space::Json;
        if self.part.is_deleted(run) {
            return None;
        }
        if let Some(overlaid) = self.part.overlaid(run, space, name) {
            let (stored, _) = overlaid.as_ref()?;
            return Some((stored.clone(), self.part.snapshot));
        }
        if self.part.is_tracking() {
            let name = name.clone();
            self.part.note_look(run, space, (Bound::Included(name.clone()), Bound::Included(name)));
        }
        self.look_back(run, space);
        self.find(run, space, name)
    }

    /// A JSON document will be edited. What comes of that is all that the transaction sees of it from then on, so that
    /// everything must be in it that is committed at or below the snapshot, at siblings too.
    pub(crate) fn note_edit(&mut self, run: RunId, document: &Name) {
        if !planted(Bug::EditedInDoubt) {
            let snapshot = self.part.snapshot;
            self.meet(self.intents.and_then(|intents| intents.writer_of(run, Space::Json, document, snapshot)));
        }
    }

    /// The path of a JSON document is read: what it holds, and that it is there.
    pub(crate) fn note_path(&mut self, run: RunId, document: &Name, path: &Path) {
        let is_noted = self.part.is_tracking() || !self.intents.is_none_or(Intents::is_empty);
        if !is_noted || planted(Bug::PathsNotNoted) {
            return;
        }
        let space = Space::JsonPath;
        let mut path_name = NameBuffer::new();
        push_bytes(&mut path_name, document);
        for segment in path.segments() {
            let name = Name::from_slice(&path_name);
            self.meet(self.intents.and_then(|intents| intents.writer_of(run, space, &name, self.part.snapshot)));
            if !planted(Bug::AncestorsNotNoted) {
                self.part.note_read(run, space, &name);
            }
            push_text(&mut path_name, segment);
        }
        let name = Name::from_slice(&path_name);
        let is_narrow = planted(Bug::DescendantsNotNoted);
        let range =
            if is_narrow { (Bound::Included(name.clone()), Bound::Included(name)) } else { Scan::prefix(&name).range };
        self.note_marks(run, space, range);
    }

    /// Whether there is a JSON document is read.
    pub(crate) fn note_key(&mut self, run: RunId, document: &Name) {
        let name = document.clone();
        self.note_marks(run, Space::JsonKey, (Bound::Included(name.clone()), Bound::Included(name)));
    }

    fn note_marks(&mut self, run: RunId, space: Space, range: NameRange) {
        self.meet(self.intents.and_then(|intents| intents.writer_in(run, space, &range, self.part.snapshot)));
        self.part.note_range(run, space, range);
    }

    fn meet(&mut self, met: Option<TransactionNumber>) {
        self.blocked = self.blocked.or(met);
    }

    fn find(&mut self, run: RunId, space: Space, name: &Name) -> Option<(Stored, Version)> {
        let found = self.memory.look_up(&run, space, name, self.part.snapshot);
        self.seen = self.seen.max(
            found.map_or_else(|deleted| deleted, |found| found.map_or(Version::ZERO, |revision| revision.version)),
        );
        let revision = found.ok()??;
        let stored = revision.live_at(self.part.snapshot)?;
        self.part.note_expiry(revision.expires);
        Some((stored.clone(), revision.version))
    }

    /// A single command reads what is current, and that is always kept.
    fn look_back(&mut self, run: RunId, space: Space) {
        let is_tracking = self.part.is_tracking();
        self.is_too_old |= is_tracking && self.memory.is_collected(&run, space, self.part.snapshot);
    }

    /// Whether what was in a space of a run at the snapshot is still there.
    pub(crate) fn is_kept(&self, run: RunId, space: Space) -> bool {
        !self.part.is_tracking() || !self.memory.is_collected(&run, space, self.part.snapshot)
    }

    fn meet_writer(&mut self, run: RunId, space: Space, name: &Name) {
        self.look_back(run, space);
        self.meet(self.intents.and_then(|intents| intents.writer_of(run, space, name, self.part.snapshot)));
    }

    /// Whether the run is deleted at the snapshot, or by this transaction.
    pub(crate) fn is_deleted(&mut self, run: RunId) -> bool {
        if self.part.is_deleted(run) {
            return true;
        }
        let deleted = self.memory.deleted(&run).filter(|deleted| *deleted <= self.part.snapshot);
        self.seen = self.seen.max(deleted.unwrap_or_default());
        deleted.is_some()
    }

    /// Calls `visit` with every live name of a scan and what it holds, until it returns false or the limit is reached.
    pub(crate) fn scan(&mut self, run: RunId, space: Space, scan: &Scan, visit: impl FnMut(&Name, &Stored) -> bool) {
        self.note_marks(run, space, scan.range.clone());
        self.walk(run, space, scan, visit);
    }

    /// Calls `visit` with the keys of JSON documents: reads that they are there, and not what they hold.
    pub(crate) fn scan_keys(&mut self, run: RunId, scan: &Scan, mut visit: impl FnMut(&Name)) {
        self.note_marks(run, Space::JsonKey, scan.range.clone());
        self.part.note_look(run, Space::Json, scan.range.clone());
        self.walk(run, Space::Json, scan, |name, _| {
            visit(name);
            true
        });
    }

    fn walk(&mut self, run: RunId, space: Space, scan: &Scan, mut visit: impl FnMut(&Name, &Stored) -> bool) {
        self.look_back(run, space);
        if self.is_deleted(run) {
            return;
        }
        let snapshot = self.part.snapshot;
        let memory = self.memory;
        let in_range = |name: &Name| std::ops::RangeBounds::<Name>::contains(&scan.range, name);
        let own: Vec<(Name, Overlaid)> = self
            .part
            .overlay_of(run, space)
            .filter(|(name, _)| in_range(name) && !planted(Bug::OwnWritesNotScanned))
            .map(|(name, overlaid)| (name.clone(), overlaid.clone()))
            .collect();
        let mut left = scan.limit;
        let mut seen = self.seen;
        let mut expiry = Version::MAX;
        let mut emit = |name: &Name, stored: &Stored| {
            left = left.saturating_sub(1);
            visit(name, stored) && left > 0
        };
        let kept = memory.range(&run, space, scan.range.clone(), snapshot).map(|(name, revision)| {
            seen = seen.max(revision.version);
            let live = revision.live_at(snapshot);
            if live.is_some() {
                expiry = expiry.min(revision.expires);
            }
            (name, live)
        });
        let own = own.iter().map(|(name, overlaid)| {
            (name, overlaid.as_ref().filter(|(_, expires)| snapshot < *expires).map(|(stored, _)| stored))
        });
        if scan.limit > 0 {
            if scan.reverse {
                merge(kept.rev(), own.rev(), |a, b| b.cmp(a), &mut emit);
            } else {
                merge(kept, own, Ord::cmp, &mut emit);
            }
        }
        self.seen = seen;
        self.part.note_expiry(expiry);
    }

    /// All revisions of a key that a reader at the snapshot may know of: version, and what it held.
    pub(crate) fn revisions(&mut self, run: RunId, space: Space, name: &Name) -> Vec<(Version, Option<Stored>)> {
        self.part.note_read(run, space, name);
        self.meet_writer(run, space, name);
        if self.is_deleted(run) {
            return Vec::new();
        }
        let snapshot = self.part.snapshot;
        let revisions = self.memory.revisions(&run, space, name).filter(|revision| revision.version <= snapshot);
        let mut all = Vec::new();
        let mut ends = Version::MAX;
        for revision in revisions {
            self.seen = self.seen.max(revision.version);
            ends = if snapshot < revision.expires { revision.expires } else { Version::MAX };
            all.push((revision.version, revision.stored.clone()));
            if revision.stored.is_some() && revision.expires <= snapshot {
                all.push((revision.expires, None));
            }
        }
        self.part.note_expiry(ends);
        // What replaced a value before it expired ended it: the expiry never happened.
        let starts: Vec<Version> = all.iter().map(|(version, _)| *version).collect();
        let mut at = 0;
        all.retain(|_| {
            at += 1;
            starts.get(at).is_none_or(|next| starts[at - 1] < *next)
        });
        all
    }

    /// The next records of a run, with all revisions that a reader at the snapshot may know of.
    pub(crate) fn history(&mut self, run: RunId, after: Option<(Space, Name)>) -> Page {
        self.page(run, self.memory.records_of(run, after, self.part.snapshot))
    }

    /// The next commits of a run.
    pub(crate) fn commits(&self, run: RunId, above: Version) -> Vec<CommitDigest> {
        self.memory.commits_of(&run, above, self.part.snapshot, COMMITS).to_vec()
    }

    /// Whether a commit that a reader at the snapshot may know of wrote a key at a version, or deleted it.
    pub(crate) fn was_written(&mut self, run: RunId, space: Space, name: &Name, version: Version) -> bool {
        self.meet_writer(run, space, name);
        let mut versions = self.memory.revisions(&run, space, name).map(|revision| revision.version);
        let was_written = version <= self.part.snapshot && versions.any(|written| written == version);
        self.seen = self.seen.max(if was_written { version } else { Version::ZERO });
        was_written
    }

    /// Whether it is kept what commits read.
    pub(crate) const fn keeps_lineage(&self) -> bool {
        self.memory.keeps_lineage()
    }

    /// Whether all history of a run is kept.
    pub(crate) fn keeps_commits(&self, run: RunId) -> bool {
        self.memory.keeps_commits(&run)
    }

    /// What a commit of a run read; `None` if nobody took note of it.
    pub(crate) fn lineage_of(&self, run: RunId, version: Version) -> Option<Arc<ReadSet>> {
        self.memory.lineage_of(&run, version).cloned()
    }

    /// What a run holds at the snapshot, beyond a place.
    pub(crate) fn state(&mut self, run: RunId, after: Option<(Space, Name)>) -> Page {
        ALL_SPACES.into_iter().filter(|space| space.keeps_history()).for_each(|space| self.look_back(run, space));
        self.page(run, self.memory.state_of(run, after, self.part.snapshot))
    }

    fn page(&mut self, run: RunId, page: Page) -> Page {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let writer = |space| self.intents?.writer_in(run, space, &everything, self.part.snapshot);
        self.blocked = self.blocked.or_else(|| ALL_SPACES.into_iter().find_map(writer));
        let newest = page
            .pieces
            .iter()
            .flat_map(Piece::names)
            .filter_map(|entry| entry.kept.last().map(|kept| kept.version))
            .max();
        self.seen = self.seen.max(newest.unwrap_or_default());
        page
    }

    /// Whether anything is left of a run, if only its history.
    pub(crate) fn remembers(&self, run: RunId) -> bool {
        self.memory.remembers(&run, self.part.snapshot)
    }

    /// From which version on all of a run's history is kept.
    pub(crate) fn history_since(&self, run: RunId) -> Version {
        self.memory.history_since(&run)
    }

    /// Writes something. What later reads of this transaction see is left to the caller.
    ///
    /// # Errors
    /// `LimitExceeded` if the transaction becomes too large.
    pub(crate) fn push(&mut self, write: Write) -> Result<()> {
        self.part.push_write(write)
    }

    /// Puts something into a space, where later reads of this transaction see it only when it is laid over.
    ///
    /// # Errors
    /// `LimitExceeded` if the transaction becomes too large.
    pub(crate) fn postpone(&mut self, space: Space, put: Write) -> Result<()> {
        self.part.postpone(space, put)
    }

    /// Whether this transaction has written to a space what its reads do not see yet.
    pub(crate) const fn is_postponed(&self, space: Space) -> bool {
        self.part.is_postponed(space)
    }

    /// The next write that this transaction's reads do not see yet: the caller lays it over.
    pub(crate) fn next_postponed(&mut self) -> Option<Write> {
        self.part.next_postponed()
    }

    /// Lets later reads of this transaction see what it has put under a key.
    pub(crate) fn lay_over(&mut self, run: RunId, space: Space, name: Name, stored: Stored, expires: Option<Version>) {
        self.part.overlay_put(run, space, name, Some((stored, expires.unwrap_or(Version::MAX))));
    }

    /// Changes a JSON document in some places; with the edits, it holds this.
    ///
    /// # Errors
    /// `LimitExceeded` if the transaction becomes too large.
    pub(crate) fn edit_json(&mut self, run: RunId, name: Name, edits: Vec<Edit>, stored: Stored) -> Result<()> {
        self.part.push_write(Write::EditJson { run, name: name.clone(), edits })?;
        self.part.overlay_put(run, Space::Json, name, Some((stored, Version::MAX)));
        Ok(())
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// `LimitExceeded` if the transaction becomes too large.
    pub(crate) fn delete(&mut self, run: RunId, space: Space, name: Name) -> Result<()> {
        self.part.push_write(Write::Delete { run, space, name: name.clone() })?;
        self.part.overlay_put(run, space, name, None);
        Ok(())
    }

    /// Deletes a whole run.
    ///
    /// # Errors
    /// `LimitExceeded` if the transaction becomes too large.
    pub(crate) fn delete_run(&mut self, run: RunId) -> Result<()> {
        self.part.push_write(Write::DeleteRun { run })?;
        self.part.note_deleted(run);
        Ok(())
    }

    /// Lets later reads of this transaction see something derived from a write; the commit derives it anew.
    pub(crate) fn overlay(&mut self, run: RunId, space: Space, name: Name, stored: Option<Stored>) {
        self.part.overlay_put(run, space, name, stored.map(|stored| (stored, Version::MAX)));
    }

    /// Whether later reads of this transaction may look for what is derived from writes.
    pub(crate) const fn needs_overlay(&self) -> bool {
        self.part.is_tracking()
    }

    /// Counts a trace that this transaction recorded.
    pub(crate) fn count_trace(&mut self, run: RunId) {
        self.part.count_trace(run);
    }

    /// How many traces this transaction recorded.
    pub(crate) fn recorded(&self, run: RunId) -> u64 {
        if self.part.is_deleted(run) { 0 } else { self.part.recorded(run) }
    }
}

/// Merges two ordered sequences of names; of equal names, the second's counts. Ends when `emit` returns false.
fn merge<'n>(
    kept: impl Iterator<Item = (&'n Name, Option<&'n Stored>)>,
    own: impl Iterator<Item = (&'n Name, Option<&'n Stored>)>,
    order: impl Fn(&Name, &Name) -> std::cmp::Ordering,
    emit: &mut impl FnMut(&Name, &Stored) -> bool,
) {
    let mut kept = kept.peekable();
    let mut own = own.peekable();
    loop {
        let next = match (kept.peek(), own.peek()) {
            (None, None) => return,
            (Some(_), None) => kept.next(),
            (None, Some(_)) => own.next(),
            (Some((theirs, _)), Some((ours, _))) => match order(theirs, ours) {
                std::cmp::Ordering::Less => kept.next(),
                std::cmp::Ordering::Greater => own.next(),
                std::cmp::Ordering::Equal => {
                    kept.next();
                    own.next()
                }
            },
        };
        if let Some((name, Some(stored))) = next
            && !emit(name, stored)
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::HistoryRetention;
    use crate::store::chain::Revision;

    const RUN: RunId = RunId::from_bytes([1; 16]);

    fn name(text: &str) -> Name {
        Name::from_slice(text.as_bytes())
    }

    fn memory(keys: &[&str]) -> Memory {
        let mut memory = Memory::new(HistoryRetention::Off);
        for (at, key) in keys.iter().enumerate() {
            let stored = Some(Stored::Value((*key).into()));
            let version = Version::from(at as u64 + 1);
            let revision = Revision { version, expires: Version::MAX, stored };
            memory.push(RUN, Space::Kv, name(key), revision, Version::ZERO).unwrap();
        }
        memory
    }

    fn put(access: &mut Access<'_>, key: &str, stored: Stored) {
        let write = Write::Put { run: RUN, space: Space::Kv, name: name(key), stored: stored.clone(), expires: None };
        access.push(write).unwrap();
        access.lay_over(RUN, Space::Kv, name(key), stored, None);
    }

    fn names(access: &mut Access<'_>, reverse: bool, limit: usize) -> Vec<String> {
        let mut found = vec![];
        access.scan(RUN, Space::Kv, &Scan { reverse, limit, ..Scan::all() }, |name, _| {
            found.push(Space::Kv.show(name));
            true
        });
        found
    }

    #[test]
    fn own_writes_and_deletes_are_seen_inside_own_scans() {
        let memory = memory(&["a", "c", "e"]);
        let mut part = Part::tracked(Version::from(10));
        let mut access = Access::new(&memory, &mut part, Version::from(11));
        put(&mut access, "d", Stored::Value(1.into()));
        put(&mut access, "e", Stored::Value(2.into()));
        access.delete(RUN, Space::Kv, name("a")).unwrap();
        assert_eq!(names(&mut access, false, 99), ["c", "d", "e"]);
        assert_eq!(names(&mut access, true, 2), ["e", "d"]);
        put(&mut access, "a", Stored::Value(3.into()));
        assert_eq!(names(&mut access, false, 1), ["a"], "deleted, then inserted");
    }

    #[test]
    fn a_read_key_a_read_absence_and_a_scanned_range_conflict_and_a_blind_write_does_not() {
        let check = |act: &dyn Fn(&mut Access<'_>), newcomer: &str| {
            let mut memory = memory(&["a", "c"]);
            let mut part = Part::tracked(Version::from(10));
            act(&mut Access::new(&memory, &mut part, Version::from(11)));
            let revision = Revision { version: 20.into(), expires: Version::MAX, stored: Some(Stored::Marker) };
            memory.push(RUN, Space::Kv, name(newcomer), revision, Version::from(10)).unwrap();
            part.validate(&memory, Version::from(21)).err().map(|conflict| conflict.key)
        };
        let get = |key: &'static str| move |access: &mut Access<'_>| drop(access.get(RUN, Space::Kv, &key.into()));
        assert_eq!(check(&get("a"), "a").as_deref(), Some("a"));
        assert_eq!(check(&get("a"), "b"), None);
        assert_eq!(check(&get("b"), "b").as_deref(), Some("b"), "an absent key that somebody filled");
        let scan = |access: &mut Access<'_>| drop(names(access, false, 99));
        assert_eq!(check(&scan, "b").as_deref(), Some("b"), "a phantom");
        let put = |access: &mut Access<'_>| {
            put(access, "a", Stored::Marker);
        };
        assert_eq!(check(&put, "a"), None, "a blind write");
    }
}
