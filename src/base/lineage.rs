//! Lineage: what a commit read.
//!
//! - Reads are in order and each is there once: whichever way those of several parts come together, the same comes of them.
//! - How many are kept of a commit is bounded, by their number and by their bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::key::{Name, Space};
use super::limits;
use super::run_id::RunId;
use super::version::Version;

/// What a source takes in memory beside its name; in the log it is less.
const SOURCE_BYTES: usize = 64;

/// Something that was read. The order of the variants is a disk format: it never changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Source {
    /// A key, or (space `JsonPath`) a place in a JSON document: the version of the commit that wrote what it held; zero if it
    /// held nothing.
    Key { space: Space, name: Name, version: Version },
    /// Everything from a name up to and without another, as it was at a version.
    Range { space: Space, from: Name, to: Option<Name>, at: Version },
}

impl Source {
    fn bytes(&self) -> usize {
        SOURCE_BYTES
            + match self {
                Self::Key { name, .. } => name.len(),
                Self::Range { from, to, .. } => from.len() + to.as_ref().map_or(0, |to| to.len()),
            }
    }
}

/// What a commit read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadSet {
    /// By run, in order.
    runs: Vec<(RunId, Vec<Source>)>,
    /// Whether it read more than is kept.
    pub(crate) is_truncated: bool,
}

impl ReadSet {
    pub(crate) fn of(reads: impl IntoIterator<Item = (RunId, Source)>) -> Self {
        let sorted: BTreeSet<(RunId, Source)> = reads.into_iter().collect();
        let mut set = Self::default();
        let (mut count, mut bytes) = (0, 0);
        for (run, source) in sorted {
            count += 1;
            bytes += source.bytes();
            if count > limits::LINEAGE_READS || bytes > limits::LINEAGE_BYTES {
                set.is_truncated = true;
                break;
            }
            match set.runs.last_mut() {
                Some((last, sources)) if *last == run => sources.push(source),
                _ => set.runs.push((run, vec![source])),
            }
        }
        set
    }

    /// What several parts of one transaction read.
    pub(crate) fn union<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        let (mut all, mut is_truncated) = (Vec::new(), false);
        for set in sets {
            is_truncated |= set.is_truncated;
            all.extend(set.iter().map(|(run, source)| (run, source.clone())));
        }
        let mut union = Self::of(all);
        union.is_truncated |= is_truncated;
        union
    }

    /// What a transaction read, from what each of its parts did; `None` if nobody keeps that.
    pub(crate) fn union_of_parts(parts: &[Arc<Self>]) -> Option<Arc<Self>> {
        match parts {
            [] => None,
            [only] => Some(Arc::clone(only)),
            _ => Some(Arc::new(Self::union(parts.iter().map(|part| &**part)))),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RunId, &Source)> {
        self.runs.iter().flat_map(|(run, sources)| sources.iter().map(|source| (*run, source)))
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.iter().map(|(_, source)| source.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId::from_bytes([1; 16]);
    const OTHER: RunId = RunId::from_bytes([2; 16]);

    fn key(name: &str) -> Source {
        Source::Key { space: Space::Kv, name: Name::from_slice(name.as_bytes()), version: 7.into() }
    }

    #[test]
    fn what_was_read_is_there_once_and_in_order() {
        let set = ReadSet::of([(OTHER, key("a")), (RUN, key("b")), (RUN, key("a")), (RUN, key("b"))]);
        let expected = [(RUN, key("a")), (RUN, key("b")), (OTHER, key("a"))];
        assert!(set.iter().eq(expected.iter().map(|(run, source)| (*run, source))));
        assert!(!set.is_truncated);
        let parts = [ReadSet::of([(OTHER, key("a"))]), ReadSet::of([(RUN, key("b")), (RUN, key("a"))])];
        assert_eq!(ReadSet::union(&parts), set);
        assert_eq!(ReadSet::union(parts.iter().rev().chain([&set])), set);
    }

    #[test]
    fn what_is_kept_of_it_is_bounded_and_it_says_so() {
        let many = |length: usize, count: usize| {
            ReadSet::of((0..count).map(|number| (RUN, key(&format!("{number:0length$}")))))
        };
        assert_eq!(many(4, limits::LINEAGE_READS).iter().count(), limits::LINEAGE_READS);
        assert!(!many(4, limits::LINEAGE_READS).is_truncated);
        let more = many(4, limits::LINEAGE_READS + 1);
        assert_eq!((more.iter().count(), more.is_truncated), (limits::LINEAGE_READS, true));
        let long = many(20_000, 100);
        assert!(long.is_truncated && long.bytes() <= limits::LINEAGE_BYTES && long.iter().count() > 2);
        assert!(ReadSet::union([&many(4, 1), &more]).is_truncated);
    }
}
