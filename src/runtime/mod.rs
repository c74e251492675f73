//! Layer 6: everything that waits. Drivers, mailboxes, files, the clock.
//!
//! - The driver's loop awaits in one place. It never awaits a disk write or a peer while a request could be handled.
//! - glommio is named only below `runtime/glommio`.
//! - Unsafe code is only in `sys`, each use with its reason.

pub(crate) mod backup;
pub(crate) mod call;
pub(crate) mod checkpoints;
pub(crate) mod clock;
pub(crate) mod contention;
pub(crate) mod driver;
pub(crate) mod engine;
pub(crate) mod files;
#[cfg(target_os = "linux")]
pub(crate) mod glommio;
mod headroom;
pub(crate) mod host;
pub(crate) mod keeper;
pub(crate) mod local;
pub(crate) mod log_files;
pub(crate) mod mailbox;
pub(crate) mod metrics;
pub(crate) mod open;
pub(crate) mod pace;
#[cfg(feature = "metrics")]
mod publishing;
pub(crate) mod reading;
pub(crate) mod recovery;
pub(crate) mod reply;
pub(crate) mod salvage;
pub(crate) mod segment_file;
pub(crate) mod shard_thread;
mod slow_writes;
pub(crate) mod snapshotting;
pub(crate) mod spin;
pub(crate) mod sys;
pub(crate) mod threads;
mod throttle;
pub(crate) mod turn;
pub(crate) mod usage;
pub(crate) mod verification;
pub(crate) mod worker;
