//! Planted bugs: faults put into the driver, the disk or the recovery on purpose. The simulator must catch each.

use super::swarm::Swarm;
use crate::base::stored::Write;
use crate::base::version::Version;
use crate::format::record::{self, HEADER_BYTES, RecordHeader};
use crate::format::segment::SegmentHeader;
use crate::format::{BLOCK, round_up_to_block};
use crate::primitive::index;
use crate::format::record::RecordKind;
use crate::shard::replay::{Extent, Target};
use crate::store::memory::Memory;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// A batch is reported durable as soon as its write is started.
    AcknowledgedEarly,
    /// A write is reported durable and was dropped.
    WriteForgotten,
    /// A write lands one block further.
    WriteMisdirected,
    /// A write that failed is reported durable, as if a second try had worked.
    FailedWriteRetried,
    /// Some replies never leave.
    ReplyLost,
    /// Nobody ticks: what is due is not done.
    TicksForgotten,
    /// Reads of a transaction bypass it, so that nobody validates them.
    ReadsUntracked,
    /// Segments are made of old ones, whose bytes and salt stay.
    SaltReused,
    /// Decisions of earlier recoveries are made again, not read from the manifest.
    DecisionsForgotten,
    /// The clock starts from the wall, which may have stepped back.
    ClockBack,
    /// The last batch of a log does not count.
    LastBatchDropped,
    /// After a change of the number of shards, records go to where they were.
    OldShardCount,
    /// Recovery does not test checksums.
    ChecksumsIgnored,
    /// Recovery steps over what it cannot read and goes on behind it.
    BadRecordSkipped,
    /// Recovery forgets deletes.
    DeletesForgotten,
    /// Recovery applies the first write of a commit only.
    HalfCommit,
    /// Recovery forgets when entries expire.
    ExpiryForgotten,
    /// Recovery keeps of each shard what that shard has marked, whatever the others have.
    CutOfOneShard,
    /// Recovery keeps everything it finds, marked or not.
    CutIgnored,
    /// What a shard says about its marks does not arrive.
    MarksUnheard,
    /// Nobody hears that a shard can write no more.
    PoisonUnheard,
    /// Nobody hears how far others still look back.
    HorizonsUnheard,
    /// A database closes without the flush.
    FlushLeftOut,
}

impl Bug {
    /// Whether it is in how records are applied.
    pub(super) fn is_in_replay(self) -> bool {
        matches!(
            self,
            Self::ChecksumsIgnored
                | Self::BadRecordSkipped
                | Self::DeletesForgotten
                | Self::HalfCommit
                | Self::ExpiryForgotten
        )
    }

    /// Gives the bug a chance to show.
    pub(super) fn adjust(self, swarm: &mut Swarm) {
        swarm.crash_in_write = swarm.crash_in_write.max(30);
        match self {
            Self::FailedWriteRetried => swarm.write_fails = 50,
            Self::ExpiryForgotten => swarm.ttl = 500,
            Self::ReadsUntracked => swarm.transactions = 700,
            Self::PoisonUnheard => (swarm.write_fails, swarm.shards) = (50, 3),
            Self::CutOfOneShard | Self::CutIgnored => swarm.shards = swarm.shards.max(2),
            _ => {}
        }
    }
}

/// Applies the records of a segment wrongly.
pub(super) fn replay_with(
    bug: Bug,
    bytes: &[u8],
    header: &SegmentHeader,
    extent: Extent<'_>,
    target: Target,
    memory: &mut Memory,
) -> (u64, Version) {
    let trusts = matches!(bug, Bug::ChecksumsIgnored | Bug::BadRecordSkipped);
    let end = if trusts { bytes.len() } else { usize::try_from(extent.end).unwrap() };
    let (mut records, mut latest, mut at) = (0, Version::ZERO, BLOCK);
    while at + HEADER_BYTES <= end {
        let place = record::Position::new(header.id.index, at as u64);
        let found = if bug == Bug::ChecksumsIgnored {
            read_unchecked(&bytes[at..])
        } else {
            record::read(&bytes[at..end], place, header.salt)
        };
        let Some((record, writes)) =
            found.and_then(|(record, body)| Some((record, record::decode_body(body).ok()?.writes)))
        else {
            at = round_up_to_block(at + 1);
            continue;
        };
        latest = record.version();
        if record.kind() == Some(RecordKind::Commit) && latest <= extent.cut {
            records += 1;
            apply(bug, writes, &record, target, memory);
        }
        at += HEADER_BYTES + usize::try_from(record.length.get()).unwrap();
    }
    (records, latest)
}

fn read_unchecked(bytes: &[u8]) -> Option<(RecordHeader, &[u8])> {
    let length = usize::try_from(u32::from_le_bytes(bytes[4..8].try_into().unwrap())).unwrap();
    let version = Version::from(u64::from_le_bytes(bytes[24..32].try_into().unwrap()));
    let body = bytes[HEADER_BYTES..].get(..length).filter(|_| length > 0)?;
    let mut header = RecordHeader::commit(version, record::TransactionId::default());
    header.length = u32::try_from(length).unwrap().into();
    Some((header, body))
}

fn apply(bug: Bug, writes: Vec<Write>, record: &RecordHeader, target: Target, memory: &mut Memory) {
    let version = record.version();
    let count = if bug == Bug::HalfCommit { 1 } else { writes.len() };
    for mut write in writes.into_iter().take(count) {
        match &mut write {
            Write::Delete { .. } if bug == Bug::DeletesForgotten => continue,
            Write::Put { expires, .. } if bug == Bug::ExpiryForgotten => *expires = None,
            _ => {}
        }
        let write = match target.moved_from {
            None => Some(write),
            Some(source) => target.layout.taken_over(target.shard, write, source),
        };
        if let Some(write) = write {
            index::apply(memory, write, version, version.previous());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::run_seed;
    use super::super::swarm::Mode;
    use super::*;

    /// How many seeds a bug may hide from.
    const SEEDS: u64 = 300;

    fn assert_caught(bug: Bug, mode: Mode) {
        let caught = (0..SEEDS).find_map(|seed| Some((seed, run_seed(seed, mode, Some(bug), false).err()?)));
        let Some((seed, what)) = caught else { panic!("{bug:?} was not caught by {SEEDS} seeds") };
        let what: String = what.lines().next().unwrap_or_default().chars().take(90).collect();
        println!("{bug:?} ({mode:?}): caught by seed {seed}: {what}");
    }

    #[test]
    fn bugs_of_the_driver_are_caught() {
        assert_caught(Bug::AcknowledgedEarly, Mode::Strict);
        assert_caught(Bug::WriteForgotten, Mode::Strict);
        assert_caught(Bug::WriteMisdirected, Mode::Strict);
        assert_caught(Bug::FailedWriteRetried, Mode::Strict);
        assert_caught(Bug::ReplyLost, Mode::Buffered);
        assert_caught(Bug::TicksForgotten, Mode::Buffered);
        assert_caught(Bug::ReadsUntracked, Mode::InMemory);
        assert_caught(Bug::SaltReused, Mode::Strict);
    }

    #[test]
    fn bugs_of_what_shards_tell_each_other_are_caught() {
        assert_caught(Bug::MarksUnheard, Mode::Buffered);
        assert_caught(Bug::PoisonUnheard, Mode::Buffered);
        assert_caught(Bug::HorizonsUnheard, Mode::InMemory);
    }

    #[test]
    fn bugs_of_the_cut_are_caught() {
        assert_caught(Bug::AcknowledgedEarly, Mode::Buffered);
        assert_caught(Bug::WriteForgotten, Mode::Buffered);
        assert_caught(Bug::CutOfOneShard, Mode::Buffered);
        assert_caught(Bug::CutIgnored, Mode::Buffered);
        assert_caught(Bug::FlushLeftOut, Mode::Buffered);
    }

    #[test]
    fn bugs_of_what_recovery_decides_are_caught() {
        assert_caught(Bug::DecisionsForgotten, Mode::Strict);
        assert_caught(Bug::ClockBack, Mode::Buffered);
        assert_caught(Bug::LastBatchDropped, Mode::Strict);
        assert_caught(Bug::OldShardCount, Mode::Strict);
    }

    #[test]
    fn bugs_of_how_recovery_applies_are_caught() {
        assert_caught(Bug::ChecksumsIgnored, Mode::Strict);
        assert_caught(Bug::BadRecordSkipped, Mode::Strict);
        assert_caught(Bug::DeletesForgotten, Mode::Strict);
        assert_caught(Bug::HalfCommit, Mode::Strict);
        assert_caught(Bug::ExpiryForgotten, Mode::Strict);
    }
}
