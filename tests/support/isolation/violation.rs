//! Violations: what a history with timestamps must not show.

use std::fmt;

/// A kind of violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Two transactions have one id, or one writes a key twice or writes although it only reads.
    Malformed,
    /// Two transactions wrote a key at the same timestamp.
    SharedTimestamp,
    /// The snapshot is not below the commit.
    SnapshotNotBelowCommit,
    /// A version was seen that nobody can have written.
    UnwrittenVersion,
    /// A version was seen that several transactions of unknown outcome can have written.
    AmbiguousVersion,
    /// A version was seen with the content of another transaction.
    WrongWriter,
    /// A read is not of the state at the snapshot.
    WrongRead,
    /// A range is not the state at the snapshot.
    WrongRange,
    /// A key that was read changed between snapshot and commit.
    ChangedRead,
    /// A range that was read changed between snapshot and commit.
    ChangedRange,
    /// Two transactions or more committed at the same timestamp, and each did not see another's write.
    TiedCommits,
    /// A commit that completed before is not in the snapshot.
    MissedCommit,
    /// A version or a deletion that was seen before is not in the snapshot.
    MissedVersion,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub fault: Fault,
    /// The ids of the transactions.
    pub transactions: Vec<u64>,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.fault, self.text)
    }
}
