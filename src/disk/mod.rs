//! Layer 6: what a database does with files, as a sequence of calls to a file system.
//!
//! - The file system is a trait: `runtime` has the real one, the simulator one that loses, tears and refuses. Both run
//!   this code.
//! - Nothing here waits for anything but the disk; no clock, no thread, no random source.

pub(crate) mod directory;
pub(crate) mod file_system;
pub(crate) mod log_writer;
pub(crate) mod opening;
pub(crate) mod progress;
pub(crate) mod recovery;
mod regrouping;
pub(crate) mod salvage;
pub(crate) mod snapshots;
pub(crate) mod snapshotting;
pub(crate) mod verification;
