//! Planted bugs: rules of the commit protocol that tests break on purpose, to see that the simulator notices.
//!
//! - In a build that is not a test, `planted` is the constant `false`, and nothing of it is left.
//! - In a test, a bug is planted for one thread.

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Prepared reads lock nothing.
    NoReadIntents,
    /// Validation looks at keys only.
    RangesNotValidated,
    /// Prepared scans lock nothing.
    NoRangeIntents,
    /// A read does not raise the commit floor.
    FloorIgnored,
    /// The coordinator commits with the first yes.
    DecisionBeforeVotes,
    /// A single read does not wait for a prepared write.
    ReadInDoubt,
    /// A read in a transaction does not wait for a prepared write.
    StepInDoubt,
    /// A mark does not raise the commit floor.
    MarkBelowFloor,
    /// A shard does not advance past a timestamp that it learns.
    NotLearned,
    /// Recovery commits what has any part.
    MissingPartIgnored,
    /// The intents of a failed transaction go before its abort record is durable.
    AbortNotAwaited,
    /// A part that only read is not logged.
    ReadPartNotLogged,
    /// A retry has the number of the attempt before.
    #[cfg_attr(not(test), expect(dead_code, reason = "callers choose numbers, and here the simulator is the caller"))]
    NumberReused,
    /// Old versions go without asking the other shards.
    CollectedEarly,
    /// A scan does not see the transaction's own writes.
    OwnWritesNotScanned,
    /// A transaction does not see its own writes that were postponed.
    PostponedNotSeen,
    /// A part's writes that were postponed are not locked.
    PostponedNotLocked,
    /// In `Strict`, a vote does not wait for its part.
    VoteNotDurable,
    /// In `Strict`, a reply does not wait for what it saw.
    ReplyNotDurable,
    /// In `Strict`, a shard whose log has failed tells what may be lost.
    LostTold,
    /// In `Strict`, a shard whose log has failed does not tell of what became durable elsewhere behind what may be lost.
    KeptMissed,
    /// An outcome wakes the first of those who wait.
    WakeLost,
    /// The coordinator does not look at expiries.
    ExpiryIgnored,
    /// A part that lacks operations is promised.
    OperationsNotCounted,
    /// Recovery does not look at abort records.
    AbortRecordIgnored,
    /// One shard does not wait for the others' marks.
    CutIgnored,
    /// Recovery commits a part at its own prepare timestamp.
    OwnTimestamp,
    /// The coordinator commits at the timestamp of the last vote, not at the highest.
    LastTimestamp,
    /// Validation looks at ranges only.
    ReadsNotValidated,
    /// Two may write one key: a prepare does not look at write intents.
    WriteIntentsIgnored,
    /// In `Buffered`, recovery keeps what is above the cut on shard 0.
    CutIgnoredAtRecovery,
    /// A dump does not wait for prepared transactions.
    DumpInDoubt,
    /// A single write does not look at intents.
    SingleWriteIgnoresIntents,
    /// Recovery decides about earlier openings again, in place of reading what was decided.
    DecisionsForgotten,
    /// The clock starts from the wall, which may have stepped back.
    ClockBack,
    /// The last batch of a log does not count.
    LastBatchDropped,
    /// After a change of the number of shards, records go to where they were.
    OldShardCount,
    /// Nobody tests checksums of records.
    ChecksumsIgnored,
    /// A scan steps over what it cannot read and goes on behind it.
    BadRecordSkipped,
    /// A scan takes zeros behind any record of a batch for its end.
    BatchEndIgnored,
    /// Recovery forgets deletes.
    DeletesForgotten,
    /// Recovery applies the first write of a commit only.
    HalfCommit,
    /// Recovery forgets when entries expire.
    ExpiryForgotten,
    /// Recovery reads segments into which a dead process still writes.
    SegmentsNotFenced,
    /// A commit is staged, and applied, though there is no room for it in the log.
    RoomNotChecked,
    /// A refused commit is applied to memory all the same.
    RefusedIsApplied,
    /// A segment that could not be made once is never asked for again.
    NeverAskedAgain,
    /// Recovery keeps of each shard what that shard has marked, whatever the others have.
    CutOfOneShard,
    /// A new manifest gets its name before it is synced.
    ManifestNotSynced,
    /// The name of a new manifest is not synced.
    ManifestNameNotSynced,
    /// The manifest is written where it is, not in a file of its own that then gets its name.
    ManifestInPlace,
    /// Nobody tests the checksum of the manifest.
    ManifestChecksumIgnored,
    /// A new segment gets its name before it is synced.
    SegmentNotSynced,
    /// The name of a new segment is not synced.
    SegmentNameNotSynced,
    /// A segment is written to that no manifest lists.
    SegmentNotListed,
    /// A new segment has no zeros.
    ZerosLeftOut,
    /// A sync that failed is tried again, and believed.
    FailedSyncRetried,
    /// What a device took is taken for all it was given.
    ShortWriteIgnored,
    /// Recovery syncs no segment that it reads.
    NotSettled,
    /// Recovery does not sync the names of the segments.
    NamesNotSettled,
    /// Recovery believes what it has in memory of a file, though a sync of it may have failed.
    CacheBelieved,
    /// Recovery reads on behind the end of a segment.
    TailTrusted,
    /// A torn tail is not cut off, only not read.
    TornTailKept,
    /// Whatever is damaged at the end of a log is taken for torn.
    WholeRecordTorn,
    /// Whatever is damaged is taken for a torn tail, though later records know that it was durable.
    DurableIgnored,
    /// Records of another life of a segment are believed.
    SaltIgnored,
    /// Nobody compares the header of a segment with its name and the manifest.
    HeaderNotCompared,
    /// Recovery forgets up to which time was reserved.
    ReservationNotRead,
    /// A new opening has the number of the one before.
    IncarnationNotAdvanced,
    /// The log is cut off behind parts whose transactions are not decided.
    UndecidedCut,
    /// The log is cut off behind the segment that is being written.
    LogStartTooLate,
    /// What a snapshot replaces goes before the manifest says so.
    CutBeforeManifest,
    /// What is read of JSON documents is not noted.
    PathsNotNoted,
    /// A read in a JSON document is not noted at what it is in.
    AncestorsNotNoted,
    /// A read in a JSON document is not noted at what is inside.
    DescendantsNotNoted,
    /// An edit of a JSON document marks nothing.
    EditsNotMarked,
    /// A JSON document that is made or deleted is not marked for lists.
    KeysNotMarked,
    /// A JSON document is edited while others in doubt have edited it below the snapshot.
    EditedInDoubt,
    /// A changed JSON document is no conflict though its marks are gone.
    LooksIgnored,
    /// Two shards may give one version.
    VersionsShared,
    /// A commit's digest leaves out its last write.
    WriteNotDigested,
    /// Every commit is chained to the first one of its run.
    ChainedToFirst,
    /// Of so many commits, history keeps one fewer.
    HistoryCutShort,
    /// History that is kept for a time is not.
    HistoryTimeIgnored,
    /// What a run itself says of its history does not count.
    OwnHistoryIgnored,
    /// In `Strict`, a subscriber is told of a change before it is durable.
    ChangeNotDurable,
    /// A subscriber is told of what may come behind a transaction in doubt.
    ToldInDoubt,
    /// A subscriber whose queue was emptied does not catch up.
    OverflowForgotten,
    /// A subscriber that has read one page of history is taken to have caught up.
    LiveTooEarly,
    /// A subscriber that catches up begins where it began before.
    PlaceForgotten,
    /// Recovery reads segments in the order of a hash.
    HashOrder,
}

#[cfg(test)]
impl Bug {
    /// Whether it shows only when something goes wrong on the disk.
    pub(crate) const fn is_of_disk(self) -> bool {
        matches!(
            self,
            Self::ManifestNotSynced
                | Self::ManifestNameNotSynced
                | Self::ManifestInPlace
                | Self::ManifestChecksumIgnored
                | Self::SegmentNotSynced
                | Self::SegmentNameNotSynced
                | Self::SegmentNotListed
                | Self::FailedSyncRetried
                | Self::NotSettled
                | Self::NamesNotSettled
                | Self::CacheBelieved
                | Self::TailTrusted
                | Self::TornTailKept
                | Self::WholeRecordTorn
                | Self::DurableIgnored
                | Self::BatchEndIgnored
                | Self::HeaderNotCompared
        )
    }
}

/// Whether a bug is planted.
#[cfg(not(test))]
#[inline]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether a bug is planted.
#[cfg(test)]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Plants a bug in this thread, or takes out the one that is there.
#[cfg(test)]
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}
