//! Errors: what went wrong and what to do about it.
//!
//! - Messages are lowercase, variables last as key=`value`.
//! - A conflict is an outcome: the closure form of a transaction retries it.
//! - No variant stands for a bug: bugs panic, and the panic reaches callers as `Unavailable`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::run::RunStatus;
use super::run_id::RunId;
use super::version::Version;

/// The result of an operation of the database.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a transaction collided with: somebody else committed something it had read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The run in which the collision happened.
    pub run: RunId,
    /// The primitive that holds the key: `kv`, `events`, `states`, `traces`, `runs` or `transaction`.
    pub primitive: &'static str,
    /// The key, name or sequence, as text.
    pub key: String,
    /// The version of the commit that won, if one is known.
    pub winner: Option<Version>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run={} primitive={} key={:?}", self.run, self.primitive, self.key)?;
        match self.winner {
            Some(version) => write!(f, " winner={version}"),
            None => Ok(()),
        }
    }
}

/// Why an operation did not happen. `Debug` is the message too: a `main` that returns an error prints that, and it says what to
/// do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something. A write that is refused because the log cannot grow (`StorageFull`,
    /// `QuotaExceeded`, `FileTooLarge`) left no trace; reads go on, and writes do when there is room again.
    #[error("input or output failed: {0}")]
    Io(#[from] io::Error),
    /// A value could not be turned into the asked-for type, or the other way round.
    #[error("serialization failed: {0}")]
    Serialization(String),
    /// Stored bytes are not what was written. Names the file, the offset and what is wrong.
    #[error("corruption: {0}")]
    Corruption(String),
    /// Something that must exist does not.
    #[error("not found: {0}")]
    KeyNotFound(String),
    /// Something that must not exist does.
    #[error("already exists: {0}")]
    AlreadyExists(String),
    /// The operation makes no sense here; the message says why.
    #[error("invalid operation: {0}")]
    InvalidOperation(String),
    /// Somebody else committed what this transaction had read. Run it again.
    #[error("transaction conflict, run it again: {0}")]
    TransactionConflict(Conflict),
    /// A run cannot go from one status to the other.
    #[error("invalid status transition: from={from} to={to}")]
    InvalidStatusTransition {
        /// The status the run has.
        from: RunStatus,
        /// The status that was asked for.
        to: RunStatus,
    },
    /// A compare-and-swap found another version.
    #[error("version mismatch: expected={expected} actual={actual}")]
    VersionMismatch {
        /// The version the caller expected.
        expected: u64,
        /// The version there is (0: there is none).
        actual: u64,
    },
    /// The database directory is open elsewhere, or a process that was killed still writes to it.
    #[error("the database is open elsewhere, close it there or wait for it to end: path={} holder={holder}", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// Something is larger than its limit.
    #[error("limit exceeded: what={what} limit={limit} actual={actual}")]
    LimitExceeded {
        /// What was too large.
        what: String,
        /// The limit.
        limit: u64,
        /// The size it had.
        actual: u64,
    },
    /// The memory limit given at open is reached. Delete something or raise it.
    #[error("the memory limit is reached, delete something or raise it: limit={limit}")]
    OutOfMemory {
        /// The limit in bytes.
        limit: u64,
    },
    /// A subscription cannot go on without a gap: history does not reach back to where it stands. Look at the current
    /// state and subscribe anew.
    #[error(
        "changes since that version are no longer kept, look at the current state and subscribe anew: version={version} kept_from={kept_from}"
    )]
    NotKept {
        /// Where the subscription stands.
        version: Version,
        /// From this version on, all changes are kept.
        kept_from: Version,
    },
    /// The operation did not finish in the time it was given.
    #[error("timed out: after={0:?}")]
    Timeout(Duration),
    /// The commit was under way when its shard failed: it may or may not be there after the database is reopened.
    #[error("the outcome of the commit is unknown, reopen the database and look: {0}")]
    CommitUnknown(String),
    /// The database is closed, or one of its shards has failed.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The runtime cannot be started here. Says what to change.
    #[error("the runtime is unavailable: {0}")]
    RuntimeUnavailable(String),
    /// An error of the caller's own, passed through.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// Wraps an error of the caller's own, so that a transaction's closure can return it.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// Whether a transaction lost against another one.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::TransactionConflict(_))
    }

    /// Whether the same call may succeed when made again.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::TransactionConflict(_) | Self::Timeout(_) | Self::VersionMismatch { .. })
    }

    pub(crate) fn limit(what: &str, limit: usize, actual: usize) -> Self {
        Self::LimitExceeded { what: what.into(), limit: limit as u64, actual: actual as u64 }
    }
}

/// Why the operating system refused something, to be told to everybody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IoFailure {
    kind: io::ErrorKind,
    what: String,
}

impl IoFailure {
    pub(crate) fn new(kind: io::ErrorKind, what: String) -> Self {
        Self { kind, what }
    }
}

impl From<Error> for IoFailure {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => Self { kind: error.kind(), what: error.to_string() },
            other => Self { kind: io::ErrorKind::Other, what: other.to_string() },
        }
    }
}

impl fmt::Display for IoFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl IoFailure {
    /// The error of a write that was refused because the log has no room for it.
    pub(crate) fn refused(&self) -> Error {
        let what = format!("the write was refused and left no trace, writes go on when there is room: {self}");
        Error::Io(io::Error::new(self.kind, what))
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Serialization(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_main_that_fails_prints_what_to_do() {
        let error = Error::Locked { path: "agents.db".into(), holder: "process 7".into() };
        assert_eq!(format!("{error:?}"), error.to_string());
        assert!(format!("{error:?}").contains("close it there"), "{error:?}");
    }
}
