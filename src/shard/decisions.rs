//! Decisions: which transactions of an opening are committed, after the fact.
//!
//! - A transaction over several shards is committed iff all its parts are there and no abort record is, at the highest
//!   of the parts' timestamps, if that is below the earliest expiry of what was read.
//! - In `Buffered` mode nothing above the cut counts: the lowest, over all shards, of each one's last mark.
//! - A pure function of the sealed bytes: every later opening decides the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::lineage::ReadSet;
use crate::base::planted::{Bug, planted};
use crate::base::version::Version;
use crate::commit::coordinator::is_in_time;
use crate::format::record::{PartHead, RecordHeader, RecordKind, TransactionId, decode_part_head};

/// What one segment says about transactions over several shards, and its marks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    parts: Vec<PartFound>,
    aborts: Vec<TransactionId>,
    /// The highest mark.
    mark: Version,
    /// The first record that cannot be understood: its offset, and why.
    pub(crate) malformed: Option<(u64, String)>,
}

#[derive(Clone, Debug)]
struct PartFound {
    id: TransactionId,
    part: u16,
    timestamp: Version,
    head: PartHead,
}

impl Evidence {
    /// Notes what a record says.
    pub(crate) fn note(&mut self, offset: u64, record: &RecordHeader, body: &[u8]) {
        match record.kind() {
            Some(RecordKind::Commit) if record.parts.get() == 1 => {}
            Some(RecordKind::Part) => match decode_part_head(body) {
                Ok((head, _)) if head.participants.len() == usize::from(record.parts.get()) => {
                    let (id, timestamp) = (record.transaction(), record.version());
                    self.parts.push(PartFound { id, part: record.part.get(), timestamp, head });
                }
                Ok(_) => self.malformed(offset, "a part names another number of participants".into()),
                Err(error) => self.malformed(offset, error.to_string()),
            },
            Some(RecordKind::Abort) => self.aborts.push(record.transaction()),
            Some(RecordKind::Mark) => self.mark = self.mark.max(record.version()),
            Some(RecordKind::Commit) | None => {
                self.malformed(
                    offset,
                    format!("a record of an unknown kind: kind={} parts={}", record.kind, record.parts),
                );
            }
        }
    }

    fn malformed(&mut self, offset: u64, what: String) {
        self.malformed.get_or_insert((offset, what));
    }

    /// Whether it says anything about transactions over several shards.
    pub(crate) fn has_parts(&self) -> bool {
        !self.parts.is_empty() || !self.aborts.is_empty()
    }

    /// The highest mark; zero if there is none.
    pub(crate) const fn mark(&self) -> Version {
        self.mark
    }
}

/// The cut of a `Buffered` opening, from the last mark of each of its shards.
pub(crate) fn cut_of(marks: impl Iterator<Item = Version>) -> Version {
    marks.min().unwrap_or(Version::ZERO)
}

/// The committed transactions over several shards, and at which version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    committed: BTreeMap<TransactionId, Decided>,
}

/// A committed transaction over several shards.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) version: Version,
    /// What all its parts read, if that was kept.
    pub(crate) reads: Option<Arc<ReadSet>>,
}

impl Decisions {
    /// Adds those of one opening, from all its segments. Returns how many others had parts.
    pub(crate) fn add(&mut self, evidence: &[Evidence], cut: Version) -> u64 {
        let mut discarded = 0;
        let aborted: BTreeSet<TransactionId> = evidence.iter().flat_map(|found| found.aborts.iter().copied()).collect();
        let mut found: BTreeMap<TransactionId, Vec<&PartFound>> = BTreeMap::new();
        for part in evidence.iter().flat_map(|found| &found.parts) {
            found.entry(part.id).or_default().push(part);
        }
        for (id, parts) in found {
            let numbers: BTreeSet<u16> = parts.iter().map(|part| part.part).collect();
            let timestamp = parts.iter().map(|part| part.timestamp).max().unwrap_or_default();
            let earliest_expiry = parts.iter().map(|part| part.head.earliest_expiry).min().unwrap_or(Version::MAX);
            let is_complete = planted(Bug::MissingPartIgnored) || numbers.len() == parts[0].head.participants.len();
            let is_committed = is_complete
                && (!aborted.contains(&id) || planted(Bug::AbortRecordIgnored))
                && is_in_time(timestamp, earliest_expiry)
                && timestamp <= cut;
            if is_committed {
                let reads: Vec<Arc<ReadSet>> = parts.iter().filter_map(|part| part.head.reads.clone()).collect();
                let decided = Decided { version: timestamp, reads: ReadSet::union_of_parts(&reads) };
                self.committed.insert(id, decided);
            } else {
                discarded += 1;
            }
        }
        discarded
    }

    /// A transaction over several shards, if it is committed.
    pub(crate) fn of(&self, id: TransactionId) -> Option<&Decided> {
        self.committed.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> TransactionId {
        TransactionId { incarnation: 1, shard: 0, number }
    }

    fn part(number: u64, part: u16, timestamp: u64, earliest_expiry: u64) -> Evidence {
        let head = PartHead { participants: vec![0, 1], earliest_expiry: earliest_expiry.into(), reads: None };
        let found = PartFound { id: id(number), part, timestamp: timestamp.into(), head };
        Evidence { parts: vec![found], ..Evidence::default() }
    }

    fn decide(evidence: &[Evidence], cut: u64) -> Option<u64> {
        let mut decisions = Decisions::default();
        decisions.add(evidence, cut.into());
        decisions.of(id(1)).map(|decided| decided.version.get())
    }

    #[test]
    fn all_parts_commit_at_the_highest_timestamp() {
        let both = [part(1, 0, 10, u64::MAX), part(1, 1, 30, u64::MAX)];
        assert_eq!(decide(&both, u64::MAX), Some(30));
        assert_eq!(decide(&both, 30), Some(30));
        assert_eq!(decide(&both, 29), None, "above the cut");
    }

    #[test]
    fn a_missing_part_an_abort_record_and_an_expiry_discard() {
        assert_eq!(decide(&[part(1, 0, 10, u64::MAX)], u64::MAX), None);
        assert_eq!(decide(&[part(1, 0, 10, u64::MAX), part(1, 0, 10, u64::MAX)], u64::MAX), None, "one part twice");
        let aborted = Evidence { aborts: vec![id(1)], ..Evidence::default() };
        assert_eq!(decide(&[part(1, 0, 10, u64::MAX), part(1, 1, 30, u64::MAX), aborted], u64::MAX), None);
        assert_eq!(decide(&[part(1, 0, 10, 30), part(1, 1, 30, u64::MAX)], u64::MAX), None, "expired");
    }

    #[test]
    fn the_cut_is_the_lowest_last_mark() {
        assert_eq!(cut_of([5, 3].map(Version::from).into_iter()), 3.into());
        assert_eq!(cut_of(std::iter::empty()), Version::ZERO);
    }
}
