//! Layer 6: everything that waits. Drivers, mailboxes, files, the clock.
//!
//! - The driver's loop awaits in one place. It never awaits a disk write or a peer while a request could be handled.
//! - glommio is named only below `runtime/glommio`.
//! - Unsafe code is only in `sys`, each use with its reason.

pub(crate) mod backup;
pub(crate) mod call;
pub(crate) mod checkpoints;
pub(crate) mod clock;
pub(crate) mod engine;
pub(crate) mod files;
pub(crate) mod glommio;
pub(crate) mod keeper;
pub(crate) mod local;
pub(crate) mod mailbox;
pub(crate) mod open;
pub(crate) mod recovery;
pub(crate) mod salvage;
pub(crate) mod snapshotting;
pub(crate) mod spin;
pub(crate) mod sys;
pub(crate) mod usage;
pub(crate) mod verification;
