//! Timelines: for each key, its versions in the order of their timestamps.
//!
//! - A deletion is a version that is not present. A key before its first version is absent.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

use super::Place;

/// A version of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Revision {
    pub(super) version: u64,
    pub(super) writer: Place,
    pub(super) is_present: bool,
}

/// The versions of all keys.
#[derive(Debug)]
pub(super) struct Timeline<K> {
    keys: BTreeMap<K, Vec<Revision>>,
}

impl<K: Ord + Clone> Timeline<K> {
    pub(super) fn new<'a>(writes: impl Iterator<Item = (&'a K, Revision)>) -> Self
    where
        K: 'a,
    {
        let mut keys: BTreeMap<K, Vec<Revision>> = BTreeMap::new();
        for (key, revision) in writes {
            if let Some(revisions) = keys.get_mut(key) {
                revisions.push(revision);
            } else {
                keys.insert(key.clone(), vec![revision]);
            }
        }
        for revisions in keys.values_mut() {
            revisions.sort_by_key(|revision| revision.version);
        }
        Self { keys }
    }

    pub(super) fn revisions(&self, key: &K) -> &[Revision] {
        self.keys.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &[Revision])> {
        self.keys.iter().map(|(key, revisions)| (key, revisions.as_slice()))
    }

    /// The keys within bounds that were ever written.
    pub(super) fn within(&self, low: &Bound<K>, high: &Bound<K>) -> Range<'_, K, Vec<Revision>> {
        let is_empty = match (low, high) {
            (Bound::Included(low), Bound::Included(high)) => low > high,
            (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
            _ => false,
        };
        if is_empty { Range::default() } else { self.keys.range((low.as_ref(), high.as_ref())) }
    }
}

/// The versions with this timestamp: one, unless something is wrong.
pub(super) fn at(revisions: &[Revision], version: u64) -> &[Revision] {
    let start = revisions.partition_point(|revision| revision.version < version);
    let end = revisions.partition_point(|revision| revision.version <= version);
    &revisions[start..end]
}

/// The version that a reader at a time must see, `None` if the key is absent then.
pub(super) fn visible(revisions: &[Revision], time: u64) -> Option<Revision> {
    let end = revisions.partition_point(|revision| revision.version <= time);
    revisions[..end].last().copied().filter(|revision| revision.is_present)
}

/// Since when a key has been as a reader at a time must see it; 0 if it was never otherwise.
pub(super) fn unchanged_since(revisions: &[Revision], time: u64) -> u64 {
    let end = revisions.partition_point(|revision| revision.version <= time);
    let absent = revisions[..end].iter().rev().take_while(|revision| !revision.is_present).count();
    match (absent, end - absent) {
        (_, 0) => 0,
        (0, _) => revisions[end - 1].version,
        // The first deletion behind the last version that was present.
        (_, deletion) => revisions[deletion].version,
    }
}
