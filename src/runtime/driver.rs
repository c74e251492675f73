//! Which driver runs the shards, and why.

use super::shard_thread::{ShardThread, Started};
use super::threads;
use crate::base::error::{Error, Result};
use crate::base::options::Driver;

/// A driver that can run here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Chosen {
    #[cfg(target_os = "linux")]
    IoUring {
        shards: usize,
        /// Bytes of locked memory for each executor's buffers.
        io_memory: usize,
    },
    Threads,
}

impl Chosen {
    pub(crate) const fn driver(self) -> Driver {
        match self {
            #[cfg(target_os = "linux")]
            Self::IoUring { .. } => Driver::IoUring,
            Self::Threads => Driver::Threads,
        }
    }

    /// Makes sure that the shards can be started.
    ///
    /// # Errors
    /// `RuntimeUnavailable`: what to change.
    #[cfg_attr(not(target_os = "linux"), expect(clippy::unnecessary_wraps, reason = "threads need nothing"))]
    pub(crate) fn prepare(self) -> Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::IoUring { shards, .. } => {
                super::glommio::requirements::prepare(shards).map_err(Error::RuntimeUnavailable)
            }
            Self::Threads => Ok(()),
        }
    }

    /// Runs a shard on this thread until it has stopped.
    pub(crate) fn run(self, thread: ShardThread, started: Started) {
        match self {
            #[cfg(target_os = "linux")]
            Self::IoUring { io_memory, .. } => super::glommio::thread::run(thread, started, io_memory),
            Self::Threads => threads::thread::run(thread, started),
        }
    }
}

/// Chooses what runs so many shards, and says why.
///
/// # Errors
/// `RuntimeUnavailable` if `io_uring` is asked for and cannot be had: what to change.
pub(crate) fn choose(asked: Driver, shards: usize) -> Result<(Chosen, String)> {
    if asked == Driver::Threads {
        return Ok((Chosen::Threads, "threads were asked for".into()));
    }
    match io_uring(shards) {
        Ok(chosen) => Ok((chosen, "io_uring is available".into())),
        Err(reason) if asked == Driver::Auto => Ok((Chosen::Threads, reason)),
        Err(reason) => Err(Error::RuntimeUnavailable(reason)),
    }
}

#[cfg(target_os = "linux")]
fn io_uring(shards: usize) -> Result<Chosen, String> {
    super::glommio::requirements::io_memory(shards).map(|io_memory| Chosen::IoUring { shards, io_memory })
}

#[cfg(not(target_os = "linux"))]
fn io_uring(_: usize) -> Result<Chosen, String> {
    Err("io_uring is there on Linux only".into())
}
