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
    /// In `Strict`, a vote does not wait for its part.
    VoteNotDurable,
    /// In `Strict`, a reply does not wait for what it saw.
    ReplyNotDurable,
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
    /// Recovery forgets deletes.
    DeletesForgotten,
    /// Recovery applies the first write of a commit only.
    HalfCommit,
    /// Recovery forgets when entries expire.
    ExpiryForgotten,
    /// Recovery keeps of each shard what that shard has marked, whatever the others have.
    CutOfOneShard,
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
