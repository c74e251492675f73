//! Changes: what was written above a place in history, oldest first.
//!
//! - Their order is that of their versions, and of their names within one.
//! - Looking back takes time by the number of names, and memory by what is asked for.

use std::collections::BTreeMap;

use super::chain::Revision;
use super::memory::{Memory, NameRange};
use crate::base::cursor::Cursor;
use crate::base::key::{Name, Space};
use crate::base::limits::SUBSCRIPTION_BYTES;
use crate::base::run::RunStatus;
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::version::Version;

/// One change: what a key holds from a version on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) run: RunId,
    pub(crate) name: Name,
    pub(crate) version: Version,
    /// `None` is a delete.
    pub(crate) stored: Option<Stored>,
}

impl Change {
    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.stored.as_ref().map_or(0, Stored::weight)
    }
}

/// A piece of what a subscription is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Changes {
    pub(crate) changes: Vec<Change>,
    /// Nothing up to here is missing.
    pub(crate) through: Cursor,
    /// Whether nothing will ever come behind them.
    pub(crate) is_end: bool,
}

/// The oldest changes above a place, so many at most.
struct Oldest<'a> {
    above: &'a Cursor,
    count: usize,
    found: BTreeMap<(Version, &'a [u8]), (RunId, &'a Revision)>,
    /// Whether some were too many.
    is_cut: bool,
}

impl<'a> Oldest<'a> {
    fn add(&mut self, run: RunId, name: &'a [u8], revisions: impl Iterator<Item = &'a Revision>) {
        for revision in revisions {
            let key = (revision.version, name);
            if !self.above.is_before(revision.version, name) {
                continue;
            }
            if self.found.len() == self.count && self.found.last_key_value().is_some_and(|(last, _)| *last < key) {
                self.is_cut = true;
                return;
            }
            self.found.insert(key, (run, revision));
            if self.found.len() > self.count {
                self.found.pop_last();
                self.is_cut = true;
            }
        }
    }

    /// As many as fit, one at least, and whether these are all.
    fn into_changes(self) -> (Vec<Change>, bool) {
        let mut changes = Vec::with_capacity(self.found.len());
        let mut bytes = 0;
        for ((version, name), (run, revision)) in self.found {
            let change = Change { run, name: Name::from_slice(name), version, stored: revision.stored.clone() };
            bytes += change.weight();
            if bytes > SUBSCRIPTION_BYTES && !changes.is_empty() {
                return (changes, false);
            }
            changes.push(change);
        }
        (changes, !self.is_cut)
    }
}

impl Memory {
    /// The oldest changes in a range of names above a place, so many at most, and whether these are all. What a commit wrote
    /// in a run that it deleted was never there.
    pub(crate) fn changes(
        &self,
        run: RunId,
        space: Space,
        range: NameRange,
        above: &Cursor,
        count: usize,
    ) -> (Vec<Change>, bool) {
        let mut oldest = Oldest { above, count, found: BTreeMap::new(), is_cut: false };
        let end = self.deleted(&run).unwrap_or(Version::MAX);
        for (name, chain) in self.chains(&run, space, range, above.version().previous()) {
            oldest.add(run, name, chain.changes_from(above.version()).filter(|revision| revision.version < end));
        }
        oldest.into_changes()
    }

    /// The same of what is known about the runs that are at home here and not deleted, where it has this status; a change's
    /// name is the run's id.
    ///
    /// # Errors
    /// The version from which on all of it is still kept.
    pub(crate) fn changes_of_runs(
        &self,
        status: Option<RunStatus>,
        above: &Cursor,
        count: usize,
    ) -> Result<(Vec<Change>, bool), Version> {
        let kept_from = self.runs.values().filter(|table| table.deleted.is_none());
        let kept_from = kept_from.map(|table| table.collected[Space::Run.index()]).max().unwrap_or(Version::ZERO);
        if above.whole() < kept_from {
            return Err(kept_from);
        }
        let is_meant = |revision: &Revision| match &revision.stored {
            Some(Stored::Run(metadata)) => status.is_none_or(|status| metadata.status == status),
            _ => false,
        };
        let mut oldest = Oldest { above, count, found: BTreeMap::new(), is_cut: false };
        for (run, table) in &self.runs {
            if table.deleted.is_some() {
                continue;
            }
            for chain in table.spaces[Space::Run.index()].values() {
                oldest.add(
                    *run,
                    run.as_bytes(),
                    chain.changes_from(above.version()).filter(|revision| is_meant(revision)),
                );
            }
        }
        Ok(oldest.into_changes())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use super::*;
    use crate::base::options::HistoryRetention;

    const RUN: RunId = RunId::from_bytes([1; 16]);

    fn found(memory: &Memory, above: &Cursor, count: usize) -> (Vec<(u64, String)>, bool) {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let (changes, is_all) = memory.changes(RUN, Space::Kv, all, above, count);
        let shown = |change: &Change| (change.version.get(), String::from_utf8_lossy(&change.name).into_owned());
        (changes.iter().map(shown).collect(), is_all)
    }

    fn write(memory: &mut Memory, version: u64, name: &str, value: Option<i64>) {
        let stored = value.map(|value| Stored::Value(value.into()));
        let revision = Revision { version: version.into(), expires: Version::MAX, stored };
        let name = Name::from_slice(name.as_bytes());
        memory.push(RUN, Space::Kv, name, revision, Version::from(version).previous()).unwrap();
    }

    #[test]
    fn they_come_in_order_page_by_page_also_from_within_a_commit_and_with_what_is_out_of_the_way() {
        let mut memory = Memory::new(HistoryRetention::Forever);
        write(&mut memory, 10, "b", Some(1));
        write(&mut memory, 20, "a", Some(2));
        write(&mut memory, 20, "b", Some(3));
        write(&mut memory, 20, "c", Some(4));
        write(&mut memory, 30, "b", None);
        memory.sweep(30.into(), 9);
        let at = |version: u64, name: &str| (version, name.to_owned());
        let all = [at(10, "b"), at(20, "a"), at(20, "b"), at(20, "c"), at(30, "b")];
        assert_eq!(found(&memory, &Version::ZERO.into(), 9), (all.to_vec(), true));
        assert_eq!(found(&memory, &Version::ZERO.into(), 2), (all[..2].to_vec(), false));
        assert_eq!(found(&memory, &Cursor::at(20.into(), b"a"), 2), (all[2..4].to_vec(), false));
        assert_eq!(found(&memory, &Cursor::at(20.into(), b"b"), 2), (all[3..].to_vec(), true));
        assert_eq!(found(&memory, &Version::from(20).into(), 9), (all[4..].to_vec(), true));
        assert_eq!(found(&memory, &Version::from(30).into(), 9), (Vec::new(), true));
    }
}
