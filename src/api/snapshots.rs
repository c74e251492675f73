//! Snapshots, backups and verification of the database.

use std::path::Path;

use super::builder::on_thread;
use super::database::Database;
use super::op::Op;
use crate::disk::verification::VerifyReport;
use crate::runtime::backup::{BackupReport, backup};
use crate::runtime::checkpoints::SnapshotInfo;
use crate::runtime::keeper::Task;
use crate::runtime::verification::verify;

impl Database {
    /// Takes a snapshot of everything that is committed now, while others read and write. When it completes, recovery starts
    /// from it, and the log before the snapshot before it is removed.
    ///
    /// # Errors
    /// `InvalidOperation` if the database is in memory only or open read-only; `Io` if the snapshot cannot be written;
    /// `Unavailable`. The log has everything all the same.
    ///
    /// # Cancel safety
    /// Once polled, the snapshot is taken whether or not the future is dropped.
    pub fn checkpoint(&self) -> Op<SnapshotInfo> {
        let engine = self.engine().clone();
        Op::steps(async move { engine.ask_keeper(|done| Task::Checkpoint { done }).await })
    }

    /// The snapshots there are, the oldest first. Recovery starts from the last; if that turns out to be damaged, from the one
    /// before.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn list_snapshots(&self) -> Op<Vec<SnapshotInfo>> {
        let engine = self.engine().clone();
        Op::steps(async move { engine.ask_keeper(|done| Task::ListSnapshots { done }).await })
    }

    /// Deletes a snapshot. The last one cannot be deleted once the log before it is gone.
    ///
    /// # Errors
    /// `InvalidOperation` if there is none with this id, or if nothing else can be recovered from; `Io`; `Unavailable`.
    ///
    /// # Cancel safety
    /// Once polled, the snapshot is deleted whether or not the future is dropped.
    pub fn delete_snapshot(&self, id: u64) -> Op<()> {
        let engine = self.engine().clone();
        Op::steps(async move { engine.ask_keeper(|done| Task::DeleteSnapshot { id, done }).await })
    }

    /// Copies the database into a new directory while others go on reading and writing. The copy is consistent over all
    /// shards, holds what was committed when it began, and opens as a database of its own.
    ///
    /// `path` must not exist or be empty. Until it is finished the
    /// directory is no database, and opening it is refused: remove what a failed or killed backup leaves.
    ///
    /// # Errors
    /// `InvalidOperation` if there is something at `path`, or if another backup began meanwhile; `Io` if the copy cannot be
    /// written; `Unavailable`.
    ///
    /// # Cancel safety
    /// The backup goes on; its report is lost.
    pub fn backup(&self, path: impl AsRef<Path>) -> Op<BackupReport> {
        let (engine, path) = (self.engine().clone(), path.as_ref().to_owned());
        Op::steps(on_thread("in-mem-backup", move || backup(&engine, &path)))
    }

    /// Checks every checksum of every file, read from the device, and the hash chain of every event log in memory, while
    /// others read and write. What is wrong is in the report, not in an error. Of the log, what was durable when it began is
    /// checked; in memory only, there are no files.
    ///
    /// A file is read as a whole, and the chain of an event log is checked on its shard, in one go.
    ///
    /// # Errors
    /// `Unavailable`, also if the database is closed meanwhile.
    ///
    /// # Cancel safety
    /// Reads only. The verification goes on; its report is lost.
    pub fn verify(&self) -> Op<VerifyReport> {
        let engine = self.engine().clone();
        Op::steps(on_thread("in-mem-verify", move || verify(&engine)))
    }
}
