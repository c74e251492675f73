//! Kill points: the steps at which tests kill the process, to see what the next one finds.
//!
//! - In a build that is not a test, `kill_point` does nothing, and nothing of it is left.
//! - In a test, the process dies when it comes to the point it was armed with for the last of so many times.

use std::time::Duration;

macro_rules! kill_points {
    ($($(#[$what:meta])* $point:ident,)*) => {
        /// A step at which a process can be killed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum KillPoint {
            $($(#[$what])* $point,)*
        }

        #[cfg(test)]
        impl KillPoint {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$point),*];
        }
    };
}

kill_points! {
    /// A segment has its temporary name, and nothing in it.
    SegmentCreated,
    /// Its header and its zeros are written.
    SegmentZeroed,
    /// They are on disk.
    SegmentSynced,
    /// It has its name.
    SegmentRenamed,
    /// The name is on disk.
    SegmentNamed,
    /// The manifest lists it, and its shard does not know.
    SegmentListed,
    /// Its shard has opened and locked it.
    SegmentOpened,
    /// A manifest names a new snapshot, and nothing that it replaces is gone.
    SnapshotInstalled,
    /// A segment is gone that a snapshot replaces.
    SegmentCut,
    /// A batch is given to the kernel next.
    BatchBegun,
    /// A batch is on disk, and its shard does not know.
    BatchWritten,
    /// The shard knows, and nobody was answered.
    BatchTold,
    /// A manifest is written under its temporary name.
    ManifestWritten,
    /// It is on disk.
    ManifestSynced,
    /// It has its name.
    ManifestRenamed,
    /// The name is on disk.
    ManifestNamed,
    /// A backup has its directory, and nothing in it.
    BackupBegun,
    /// A snapshot's file has its temporary name, and nothing in it.
    SnapshotCreated,
    /// A part of it is written.
    SnapshotWritten,
    /// It is on disk.
    SnapshotSynced,
    /// It has its name.
    SnapshotRenamed,
    /// The name is on disk.
    SnapshotNamed,
    /// It was read back, and is as it should be.
    SnapshotChecked,
    /// A backup has all its snapshots, and no manifest.
    BackupCopied,
    /// Recovery has made durable which segments there are, and nobody writes to them.
    RecoverySettled,
    /// It knows how far they count.
    RecoveryJudged,
    /// It knows which transactions are committed.
    RecoveryDecided,
    /// The memories are built.
    RecoveryBuilt,
    /// All decisions are in the manifest.
    RecoverySaved,
    /// Something left over was removed, and there may be more.
    StrayRemoved,
    /// Nothing is left over.
    StraysRemoved,
    /// The clock's reservation is about to be extended.
    ReservationDue,
    /// The manifest has the new one, and the clock does not.
    ReservationSaved,
    /// Nobody may begin anything any more.
    ClosingBegun,
    /// Everything is on disk.
    ClosingFlushed,
    /// The manifest says how far every segment counts.
    ClosingSealed,
    /// A segment was cut off behind its end.
    SegmentTrimmed,
    /// A segment that nothing was written to was removed.
    UnusedRemoved,
    /// A coordinator has asked another shard.
    PrepareSent,
    /// A shard has staged its part of a transaction.
    PartLogged,
    /// It has said so.
    VoteSent,
    /// The coordinator has told another shard that the transaction is committed.
    DecisionSent,
    /// Or that it is not.
    AbortSent,
    /// A shard has staged an abort record.
    AbortLogged,
    /// A shard has staged a mark.
    MarkLogged,
    /// It has asked another shard for one.
    MarkSent,
    /// It has told another shard that its own is on disk.
    MarkedSent,
}

/// The process may be killed here.
#[cfg(not(test))]
#[inline]
pub(crate) const fn kill_point(_: KillPoint) {}

/// How long to wait for what comes rarely.
#[cfg(not(test))]
#[inline]
pub(crate) const fn hastened(usual: Duration) -> Duration {
    usual
}

/// Where this process is to die, and how many times it still comes there.
#[cfg(test)]
static ARMED: std::sync::OnceLock<(KillPoint, std::sync::atomic::AtomicU32)> = std::sync::OnceLock::new();

/// Makes this process die when it comes to a point for the last of so many times.
#[cfg(test)]
pub(crate) fn arm(point: KillPoint, times: u32) {
    ARMED.set((point, times.into())).expect("a process dies once");
}

/// The process may be killed here.
#[cfg(test)]
pub(crate) fn kill_point(point: KillPoint) {
    use std::io::Write;
    let Some((armed, left)) = ARMED.get() else { return };
    if *armed != point || left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) != 1 {
        return;
    }
    // Whoever acknowledges something holds this lock while it does: a line is told whole.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "killed at {point:?}").and_then(|()| out.flush());
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL).expect("a process can kill itself");
    unreachable!("nobody survives that");
}

/// How long to wait for what comes rarely: in a process that is to die, hardly at all.
#[cfg(test)]
pub(crate) fn hastened(usual: Duration) -> Duration {
    if ARMED.get().is_some() { Duration::from_millis(30) } else { usual }
}
