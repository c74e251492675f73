//! Footprint: about how many bytes of memory something takes.
//!
//! - An estimate with fixed rules, so that what is added and what is taken away agree to the byte: a run, a key and a
//!   revision count a fixed amount each, a key also its name, a revision also the weight of what it holds.
//! - Keys and revisions are counted with it.
//! - Derived entries count as others do. What allocators and maps keep for themselves is in the fixed amounts, roughly.

use std::ops::{AddAssign, SubAssign};

use super::chain::{Chain, Revision};
use crate::base::key::Name;
use crate::base::lineage::ReadSet;
use crate::base::stored::Stored;

/// How much something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) bytes: usize,
    pub(crate) keys: usize,
    pub(crate) revisions: usize,
}

impl Footprint {
    /// A part of it is another size now.
    pub(crate) fn change(&mut self, before: Self, after: Self) {
        *self += after;
        *self -= before;
    }
}

impl AddAssign for Footprint {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.keys += other.keys;
        self.revisions += other.revisions;
    }
}

impl SubAssign for Footprint {
    fn sub_assign(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.keys -= other.keys;
        self.revisions -= other.revisions;
    }
}

/// What a run takes without its keys.
pub(crate) const RUN_BYTES: usize = 1024;
/// What a run takes that was deleted and has no keys any more.
pub(crate) const TOMBSTONE_BYTES: usize = 64;
/// What is remembered of a commit of a run.
pub(crate) const COMMIT_BYTES: usize = 48;
/// What a key takes beside its name and its revisions.
const KEY_BYTES: usize = 64;
/// What a revision takes beside what it holds.
const REVISION_BYTES: usize = 64;

/// What a commit takes of which it is kept what it read.
pub(crate) fn of_lineage(reads: &ReadSet) -> usize {
    COMMIT_BYTES + reads.bytes()
}

/// What a key takes without its revisions.
pub(crate) fn of_key(name: &Name) -> usize {
    KEY_BYTES + name.len()
}

/// What a key takes with its revisions.
pub(crate) fn of_entry(name: &Name, chain: &Chain) -> Footprint {
    let Footprint { bytes, revisions, .. } = chain.footprint();
    Footprint { bytes: of_key(name) + bytes, keys: 1, revisions }
}

/// What a revision takes.
pub(crate) fn of_revision(revision: &Revision) -> usize {
    of_stored(revision.stored.as_ref())
}

/// What an older revision takes beside the one after it: JSON documents share what an edit did not change.
pub(crate) fn of_older(revision: &Revision, next: &Revision) -> usize {
    match (&revision.stored, &next.stored) {
        (Some(Stored::Json(before)), Some(Stored::Json(after))) => {
            let all = before.root.size().weight() + after.added;
            REVISION_BYTES + all.saturating_sub(after.root.size().weight())
        }
        _ => of_revision(revision),
    }
}

/// What is added by a revision that holds this after one that stays.
pub(crate) fn of_next(revision: &Revision, stored: &Stored) -> usize {
    match (&revision.stored, stored) {
        (Some(Stored::Json(_)), Stored::Json(after)) => REVISION_BYTES + after.added,
        _ => of_stored(Some(stored)),
    }
}

/// What a revision takes that holds this.
pub(crate) fn of_stored(stored: Option<&Stored>) -> usize {
    REVISION_BYTES + stored.map_or(0, Stored::weight)
}
