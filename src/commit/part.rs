//! Parts: what one shard keeps of a transaction.
//!
//! - Reads are kept as keys and ranges, absent keys and empty ranges included; blind writes read nothing.
//! - `operations` counts the transaction's operations on this shard. Every further operation and the commit name the
//!   count they expect, so that a lost part can never look like an empty one.
//! - What is read of JSON documents is kept as paths. The documents themselves are `looks`: that one has changed is no
//!   conflict, unless the marks of who changed what are gone.
//! - A part that read something that expires commits only at a version below the earliest expiry it saw.
//! - The overlay is for the transaction's own later reads and for intents. Most transactions never look at what they have
//!   written: a write can be postponed, and is laid over when somebody may look.

use std::collections::{BTreeMap, BTreeSet};

use super::coordinator::{expired, is_in_time};
use super::intents::{Bar, Key};
use crate::base::error::{Conflict, Error, Result};
use crate::base::key::{Name, Space, unit_name};
use crate::base::limits;
use crate::base::planted::{Bug, planted};
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::version::Version;
use crate::store::memory::{Memory, NameRange};

/// What a key will hold once the transaction has committed; `None` is a delete.
pub(crate) type Overlaid = Option<(Stored, Version)>;

/// The most bytes that a write takes in the log beside its weight, with the digest of its commit.
const LOGGED_WITH_WRITE: usize = 112;

/// What one shard keeps of a transaction.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) snapshot: Version,
    /// Operations handled so far.
    pub(crate) operations: u64,
    /// Whether reads are recorded and writes are overlaid: not needed when a command commits at once.
    tracking: bool,
    reads: Vec<Key>,
    ranges: Vec<(RunId, Space, NameRange)>,
    looks: Vec<(RunId, Space, NameRange)>,
    earliest_expiry: Version,
    writes: Vec<Write>,
    weight: usize,
    /// How many of the writes the overlay holds.
    laid_over: usize,
    /// The spaces of the others, as bits.
    postponed: u32,
    /// Where it stands in `overlaid` what a key will hold.
    overlay: BTreeMap<Key, usize>,
    overlaid: Vec<Overlaid>,
    /// Traces recorded in this part, by run: the count itself is kept when they are applied.
    recorded: BTreeMap<RunId, u64>,
    /// Runs deleted in this part.
    deleted: BTreeSet<RunId>,
    /// What the overlay held before the operation that may have to be taken back.
    journal: Option<Vec<(Key, Option<usize>)>>,
}

/// What a part was like before an operation.
#[derive(Debug)]
pub(crate) struct Savepoint {
    writes: usize,
    undo: Option<Undo>,
}

/// What it takes to take an operation back.
#[derive(Debug)]
struct Undo {
    overlaid: usize,
    reads: usize,
    ranges: usize,
    looks: usize,
    earliest_expiry: Version,
    weight: usize,
    recorded: BTreeMap<RunId, u64>,
    deleted: BTreeSet<RunId>,
}

impl Part {
    /// A part that commits as soon as its only command has run: nothing can come between.
    pub(crate) const fn immediate(snapshot: Version) -> Self {
        Self {
            snapshot,
            operations: 0,
            tracking: false,
            reads: Vec::new(),
            ranges: Vec::new(),
            looks: Vec::new(),
            earliest_expiry: Version::MAX,
            writes: Vec::new(),
            weight: 0,
            laid_over: 0,
            postponed: 0,
            overlay: BTreeMap::new(),
            overlaid: Vec::new(),
            recorded: BTreeMap::new(),
            deleted: BTreeSet::new(),
            journal: None,
        }
    }

    /// The part of a transaction of several operations.
    pub(crate) const fn tracked(snapshot: Version) -> Self {
        let mut part = Self::immediate(snapshot);
        part.tracking = true;
        part
    }

    pub(crate) fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// About how many bytes its writes take.
    pub(crate) const fn weight(&self) -> usize {
        self.weight
    }

    /// The most bytes that its writes take in the log.
    pub(crate) fn logged_bytes(&self) -> usize {
        self.weight + self.writes.len() * LOGGED_WITH_WRITE
    }

    pub(crate) fn into_writes(self) -> Vec<Write> {
        self.writes
    }

    pub(crate) const fn is_tracking(&self) -> bool {
        self.tracking
    }

    /// The keys it read.
    pub(crate) fn reads(&self) -> &[Key] {
        &self.reads
    }

    /// The ranges it scanned.
    pub(crate) fn ranges(&self) -> &[(RunId, Space, NameRange)] {
        &self.ranges
    }

    /// The keys it changes, those derived from its writes included; of a tracked part.
    ///
    /// # Panics
    /// If some of its writes are postponed.
    pub(crate) fn written(&self) -> impl Iterator<Item = Key> {
        assert!(self.is_complete() || planted(Bug::PostponedNotLocked), "all that is written is laid over");
        let counts = self.recorded.keys().map(|run| (*run, Space::TraceCount, unit_name()));
        self.overlay.keys().cloned().chain(counts)
    }

    /// What it bars while it waits.
    pub(crate) fn bar(&self) -> Bar {
        Bar { keys: self.written().collect(), runs: self.deleted.iter().copied().collect() }
    }

    /// The runs it deletes.
    pub(crate) fn deleted_runs(&self) -> impl Iterator<Item = &RunId> {
        self.deleted.iter()
    }

    /// The versions of everything that is kept of what it read, newer ones included.
    pub(crate) fn versions_read(&self, memory: &Memory) -> impl Iterator<Item = Version> {
        let keys = self.reads.iter().flat_map(|(run, space, name)| memory.revisions(run, *space, name));
        let ranges = self.ranges.iter().chain(&self.looks);
        let ranges = ranges.flat_map(|(run, space, range)| memory.versions_in(run, *space, range));
        let runs = self.reads.iter().map(|(run, ..)| run).chain(self.ranges.iter().map(|(run, ..)| run));
        let deleted = runs.filter_map(|run| memory.deleted(run));
        keys.map(|revision| revision.version).chain(ranges).chain(deleted)
    }

    /// The earliest expiry of anything it read.
    pub(crate) const fn earliest_expiry(&self) -> Version {
        self.earliest_expiry
    }

    pub(super) fn note_read(&mut self, run: RunId, space: Space, name: &Name) {
        if self.tracking {
            self.reads.push((run, space, name.clone()));
        }
    }

    pub(super) fn note_range(&mut self, run: RunId, space: Space, range: NameRange) {
        if self.tracking {
            self.ranges.push((run, space, range));
        }
    }

    pub(super) fn note_look(&mut self, run: RunId, space: Space, range: NameRange) {
        if self.tracking {
            self.looks.push((run, space, range));
        }
    }

    pub(super) fn note_expiry(&mut self, expires: Version) {
        self.earliest_expiry = self.earliest_expiry.min(expires);
    }

    pub(super) fn overlaid(&self, run: RunId, space: Space, name: &Name) -> Option<&Overlaid> {
        if self.overlay.is_empty() {
            return None;
        }
        self.overlay.get(&(run, space, name.clone())).map(|at| &self.overlaid[*at])
    }

    /// What the overlay holds of one space of one run.
    pub(super) fn overlay_of(&self, run: RunId, space: Space) -> impl DoubleEndedIterator<Item = (&Name, &Overlaid)> {
        self.overlay
            .range((run, space, Name::new())..)
            .take_while(move |((other, in_space, _), _)| *other == run && *in_space == space)
            .map(|((_, _, name), at)| (name, &self.overlaid[*at]))
            .collect::<Vec<_>>()
            .into_iter()
    }

    pub(super) fn overlay_put(&mut self, run: RunId, space: Space, name: Name, overlaid: Overlaid) {
        if !self.tracking {
            return;
        }
        let key = (run, space, name);
        let at = self.overlaid.len();
        self.overlaid.push(overlaid);
        if let Some(journal) = &mut self.journal {
            let before = self.overlay.insert(key.clone(), at);
            journal.push((key, before));
        } else {
            self.overlay.insert(key, at);
        }
    }

    pub(super) fn note_deleted(&mut self, run: RunId) {
        if self.tracking {
            self.deleted.insert(run);
        }
    }

    pub(super) fn is_deleted(&self, run: RunId) -> bool {
        self.deleted.contains(&run)
    }

    /// Whether the overlay lacks writes of a space.
    pub(super) const fn is_postponed(&self, space: Space) -> bool {
        self.postponed & bit(space) != 0
    }

    /// Whether the overlay lacks no writes.
    pub(crate) const fn is_complete(&self) -> bool {
        self.postponed == 0
    }

    /// The next write that the overlay lacks; it is laid over with that.
    pub(super) fn next_postponed(&mut self) -> Option<Write> {
        while let Some(write) = self.writes.get(self.laid_over).filter(|_| self.postponed != 0) {
            self.laid_over += 1;
            // Whatever else there is was laid over when it was written.
            if matches!(write, Write::Put { space, .. } if self.is_postponed(*space)) {
                return Some(write.clone());
            }
        }
        self.postponed = 0;
        None
    }

    /// Writes something that is laid over later.
    pub(super) fn postpone(&mut self, space: Space, write: Write) -> Result<()> {
        if self.is_complete() {
            self.laid_over = self.writes.len();
        }
        self.push_write(write)?;
        self.postponed |= bit(space);
        Ok(())
    }

    /// Adds a write; what is refused must not be in the overlay.
    pub(super) fn push_write(&mut self, write: Write) -> Result<()> {
        let weight = self.weight + write.weight();
        if weight > limits::TRANSACTION_BYTES {
            return Err(Error::limit("transaction bytes", limits::TRANSACTION_BYTES, weight));
        }
        if self.writes.len() >= limits::TRANSACTION_OPERATIONS {
            return Err(Error::limit("transaction operations", limits::TRANSACTION_OPERATIONS, self.writes.len() + 1));
        }
        self.writes.push(write);
        self.weight = weight;
        Ok(())
    }

    pub(super) fn count_trace(&mut self, run: RunId) {
        if self.tracking {
            *self.recorded.entry(run).or_insert(0) += 1;
        }
    }

    pub(super) fn recorded(&self, run: RunId) -> u64 {
        self.recorded.get(&run).copied().unwrap_or(0)
    }

    /// What the part is like before an operation; `journal` if that may have to be taken back.
    ///
    /// # Panics
    /// If it may have to be taken back, and some writes are postponed.
    pub(crate) fn savepoint(&mut self, journal: bool) -> Savepoint {
        assert!(!journal || self.is_complete() || planted(Bug::PostponedNotLocked), "all that is written is laid over");
        self.journal = journal.then(Vec::new);
        let undo = journal.then(|| Undo {
            overlaid: self.overlaid.len(),
            reads: self.reads.len(),
            ranges: self.ranges.len(),
            looks: self.looks.len(),
            earliest_expiry: self.earliest_expiry,
            weight: self.weight,
            recorded: self.recorded.clone(),
            deleted: self.deleted.clone(),
        });
        Savepoint { writes: self.writes.len(), undo }
    }

    /// Whether anything was written since a savepoint.
    pub(crate) const fn wrote_since(&self, savepoint: &Savepoint) -> bool {
        self.writes.len() != savepoint.writes
    }

    /// Takes the last operation back.
    ///
    /// # Panics
    /// If the savepoint was taken without a journal.
    pub(crate) fn roll_back(&mut self, savepoint: Savepoint) {
        let Some((journal, undo)) = self.journal.take().zip(savepoint.undo) else {
            panic!("only a journalled operation can be taken back")
        };
        for (key, before) in journal.into_iter().rev() {
            match before {
                Some(before) => self.overlay.insert(key, before),
                None => self.overlay.remove(&key),
            };
        }
        self.overlaid.truncate(undo.overlaid);
        self.reads.truncate(undo.reads);
        self.ranges.truncate(undo.ranges);
        self.looks.truncate(undo.looks);
        self.earliest_expiry = undo.earliest_expiry;
        self.writes.truncate(savepoint.writes);
        self.postponed = 0;
        self.weight = undo.weight;
        self.recorded = undo.recorded;
        self.deleted = undo.deleted;
    }

    /// Checks that nothing that was read has changed since the snapshot, and that it still holds at `version`.
    ///
    /// # Errors
    /// The conflict: what was read, and the version of the commit that won.
    pub(crate) fn validate(&self, memory: &Memory, version: Version) -> Result<(), Conflict> {
        let lost = |run: RunId, space: Space, name: &Name, winner: Option<Version>| Conflict {
            run,
            primitive: space.primitive(),
            key: space.show(name),
            winner,
        };
        for (run, space, name) in self.reads.iter().filter(|_| !planted(Bug::ReadsNotValidated)) {
            let newest = memory.newest_version(run, *space, name).max(memory.deleted(run));
            if newest.is_some_and(|newest| newest > self.snapshot) {
                return Err(lost(*run, *space, name, newest));
            }
        }
        for (run, space, range) in self.ranges.iter().filter(|_| !planted(Bug::RangesNotValidated)) {
            if let Some(deleted) = memory.deleted(run).filter(|deleted| *deleted > self.snapshot) {
                return Err(lost(*run, *space, &Name::new(), Some(deleted)));
            }
            if let Some((name, newest)) = memory.newer_in_range(run, *space, range, self.snapshot) {
                return Err(lost(*run, *space, name, Some(newest)));
            }
        }
        for (run, space, range) in self.looks.iter().filter(|_| !planted(Bug::LooksIgnored)) {
            let marks = [Space::JsonPath, Space::JsonKey];
            if marks.iter().any(|marks| memory.is_collected(run, *marks, self.snapshot))
                && let Some((name, newest)) = memory.newer_in_range(run, *space, range, self.snapshot)
            {
                return Err(lost(*run, *space, name, Some(newest)));
            }
        }
        for write in &self.writes {
            let run = write.run();
            if let Some(deleted) = memory.deleted(&run).filter(|deleted| *deleted > self.snapshot) {
                return Err(lost(run, Space::Run, &Name::new(), Some(deleted)));
            }
        }
        if !is_in_time(version, self.earliest_expiry) {
            return Err(expired(self.reads.first().map_or(RunId::DIRECTORY, |(run, ..)| *run)));
        }
        Ok(())
    }
}

const fn bit(space: Space) -> u32 {
    1 << space.index()
}

const _: () = assert!(Space::COUNT <= 32);
