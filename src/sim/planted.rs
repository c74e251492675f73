//! Planted bugs: faults put into the driver, the disk or the database itself on purpose. The simulator must catch each.

use super::swarm::Swarm;
use crate::base::planted;

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
    /// What a shard says about its marks does not arrive.
    MarksUnheard,
    /// Nobody hears that a shard can write no more.
    PoisonUnheard,
    /// Nobody hears how far others still look back.
    HorizonsUnheard,
    /// A write that completed is in the cache of the device, and nobody syncs it.
    WriteInCache,
    /// A write begins in the last block of the one before.
    TailRewritten,
    /// Logs go on in the segments of the opening before.
    OldSegmentAppended,
    /// The clock goes on, and the manifest does not say up to where.
    ReservationNotWritten,
    /// The manifest says that the database has closed before it is flushed.
    SealedBeforeFlush,
    /// A database closes without the flush.
    FlushLeftOut,
    /// The code of the database itself is wrong.
    Planted(planted::Bug),
}

impl Bug {
    /// Whether only subscribers notice it.
    pub(super) const fn is_of_subscriptions(self) -> bool {
        matches!(
            self,
            Self::Planted(
                planted::Bug::ChangeNotDurable
                    | planted::Bug::OverflowForgotten
                    | planted::Bug::LiveTooEarly
                    | planted::Bug::PlaceForgotten
            )
        )
    }

    /// Gives the bug a chance to show.
    pub(super) fn adjust(self, swarm: &mut Swarm) {
        swarm.crash_in_write = swarm.crash_in_write.max(30);
        match self {
            Self::FailedWriteRetried => swarm.write_fails = 50,
            Self::SealedBeforeFlush => swarm.close = 15,
            Self::ReservationNotWritten => swarm.reservation = 10_000_000,
            Self::Planted(planted::Bug::ShortWriteIgnored) => swarm.short_writes = 200,
            Self::Planted(bug) if bug.is_of_disk() => {
                swarm.faults = swarm.faults.max(500);
                swarm.crash = swarm.crash.max(100);
                swarm.damage = swarm.damage.max(500);
            }
            Self::Planted(planted::Bug::CutBeforeManifest | planted::Bug::LogStartTooLate) => {
                (swarm.snapshots, swarm.crash, swarm.faults) = (20_000, swarm.crash.max(1_000), 700);
                (swarm.large_values, swarm.largest_value, swarm.damage) = (250, 300_000, 0);
            }
            Self::ReadsUntracked => swarm.transactions = 700,
            Self::PoisonUnheard => (swarm.write_fails, swarm.shards) = (50, 3),
            Self::Planted(
                planted::Bug::RoomNotChecked | planted::Bug::RefusedIsApplied | planted::Bug::NeverAskedAgain,
            ) => swarm.prepare_fails = 500,
            Self::Planted(planted::Bug::ExpiryForgotten) => swarm.ttl = 500,
            Self::Planted(planted::Bug::CutOfOneShard | planted::Bug::CutIgnoredAtRecovery) => {
                swarm.shards = swarm.shards.max(2);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::seeds::caught;
    use super::super::swarm::Mode;
    use super::super::trace::Trace;
    use super::super::{run_seed, scenarios};
    use super::*;

    /// How many seeds a bug may hide from.
    const SEEDS: u64 = 600;

    fn assert_caught(bug: Bug, mode: Mode) {
        assert_caught_within(SEEDS, bug, mode);
    }

    fn assert_caught_within(seeds: u64, bug: Bug, mode: Mode) {
        let caught = (0..seeds).find_map(|seed| Some((seed, run_seed(seed, mode, Some(bug), Trace::default()).err()?)));
        let Some((seed, what)) = caught else { panic!("{bug:?} was not caught by {seeds} seeds") };
        let what: String = what.lines().next().unwrap_or_default().chars().take(90).collect();
        println!("{bug:?} ({mode:?}): caught by seed {seed}: {what}");
    }

    /// Seeds tell of it only if a torn batch is completed behind its judgement, and the fence is against that.
    #[test]
    fn a_bad_record_that_is_skipped_is_told_by_its_scenario() {
        let scenario = scenarios::a_batch_torn_inside_a_block_is_cut_behind_its_last_whole_record;
        scenario();
        planted::plant(Some(planted::Bug::BadRecordSkipped));
        let told = caught(scenario);
        planted::plant(None);
        assert!(told.is_err_and(|what| what.contains("a torn tail is there")));
    }

    #[test]
    fn a_batch_whose_end_is_not_looked_for_is_told_by_its_scenario() {
        let scenario = scenarios::a_lost_sector_with_the_last_records_of_a_batch_is_no_padding;
        scenario();
        planted::plant(Some(planted::Bug::BatchEndIgnored));
        let told = caught(scenario);
        planted::plant(None);
        assert!(told.is_err_and(|what| what.contains("a record is missing")));
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
    fn bugs_of_files_and_names_are_caught() {
        for bug in [
            planted::Bug::ManifestNotSynced,
            planted::Bug::ManifestNameNotSynced,
            planted::Bug::ManifestInPlace,
            planted::Bug::ManifestChecksumIgnored,
            planted::Bug::SegmentNotSynced,
            planted::Bug::SegmentNameNotSynced,
            planted::Bug::SegmentNotListed,
            planted::Bug::ZerosLeftOut,
        ] {
            assert_caught(Bug::Planted(bug), Mode::Strict);
        }
    }

    #[test]
    fn bugs_of_writes_are_caught() {
        assert_caught(Bug::WriteInCache, Mode::Strict);
        assert_caught(Bug::TailRewritten, Mode::Strict);
        assert_caught(Bug::OldSegmentAppended, Mode::Strict);
        assert_caught(Bug::SealedBeforeFlush, Mode::Buffered);
        assert_caught(Bug::ReservationNotWritten, Mode::Buffered);
        assert_caught(Bug::Planted(planted::Bug::ShortWriteIgnored), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::SaltIgnored), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::IncarnationNotAdvanced), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::ReservationNotRead), Mode::Buffered);
    }

    /// Those that seeds hardly find are told of in `settling`.
    #[test]
    fn bugs_of_what_recovery_believes_are_caught() {
        for bug in [
            planted::Bug::NotSettled,
            planted::Bug::TornTailKept,
            planted::Bug::DurableIgnored,
            planted::Bug::HeaderNotCompared,
            planted::Bug::HashOrder,
        ] {
            assert_caught(Bug::Planted(bug), Mode::Strict);
        }
        // Damage must hit the last batch of a dead process, and leave no sector of its record zero.
        assert_caught_within(10 * SEEDS, Bug::Planted(planted::Bug::WholeRecordTorn), Mode::Strict);
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
        assert_caught(Bug::FlushLeftOut, Mode::Buffered);
        assert_caught(Bug::Planted(planted::Bug::CutOfOneShard), Mode::Buffered);
        assert_caught(Bug::Planted(planted::Bug::CutIgnoredAtRecovery), Mode::Buffered);
    }

    #[test]
    fn bugs_of_a_log_without_room_are_caught() {
        assert_caught(Bug::Planted(planted::Bug::RoomNotChecked), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::RefusedIsApplied), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::RefusedIsApplied), Mode::Buffered);
        assert_caught(Bug::Planted(planted::Bug::NeverAskedAgain), Mode::Strict);
    }

    #[test]
    fn bugs_of_what_recovery_decides_are_caught() {
        assert_caught(Bug::Planted(planted::Bug::DecisionsForgotten), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::ClockBack), Mode::Buffered);
        assert_caught(Bug::Planted(planted::Bug::LastBatchDropped), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::OldShardCount), Mode::Strict);
    }

    #[test]
    fn bugs_of_digests_are_caught() {
        assert_caught(Bug::Planted(planted::Bug::WriteNotDigested), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::ChainedToFirst), Mode::Buffered);
    }

    #[test]
    fn bugs_of_retention_are_caught() {
        assert_caught(Bug::Planted(planted::Bug::HistoryTimeIgnored), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::OwnHistoryIgnored), Mode::Strict);
    }

    #[test]
    fn bugs_of_subscriptions_are_caught() {
        assert_caught(Bug::Planted(planted::Bug::ChangeNotDurable), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::OverflowForgotten), Mode::InMemory);
        assert_caught(Bug::Planted(planted::Bug::LiveTooEarly), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::PlaceForgotten), Mode::Buffered);
    }

    #[test]
    fn bugs_of_snapshots_are_caught() {
        assert_caught(Bug::Planted(planted::Bug::LogStartTooLate), Mode::Strict);
    }

    /// Those that take dozens of seeds: a process must die in the few calls between; damage must take a sector with the
    /// last records of a batch, and nothing else.
    #[test]
    #[ignore = "half a minute: cargo test --release --lib rare_bugs -- --ignored"]
    fn rare_bugs_are_caught() {
        assert_caught(Bug::Planted(planted::Bug::CutBeforeManifest), Mode::Strict);
        assert_caught_within(10 * SEEDS, Bug::Planted(planted::Bug::BatchEndIgnored), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::FailedSyncRetried), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::TailTrusted), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::HistoryCutShort), Mode::InMemory);
    }

    #[test]
    fn bugs_of_how_recovery_applies_are_caught() {
        assert_caught(Bug::Planted(planted::Bug::ChecksumsIgnored), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::DeletesForgotten), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::HalfCommit), Mode::Strict);
        assert_caught(Bug::Planted(planted::Bug::ExpiryForgotten), Mode::Strict);
    }
}
