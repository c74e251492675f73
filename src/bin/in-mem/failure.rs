//! Why a command did not end well, and its exit code.

use std::io;

use in_mem::blocking::{Error, serde_json};

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It found what it looked for: damage, or a difference. It is printed already.
    Finding,
    /// What was asked for makes no sense.
    Usage(String),
    /// The database, or what was read or written, failed.
    Failed(String),
    /// Nobody reads the output any more.
    NobodyReads,
}

impl Failure {
    /// Says what went wrong, if that is not printed already.
    pub(crate) fn say(&self) {
        if let Self::Usage(what) | Self::Failed(what) = self {
            eprintln!("in-mem: {what}");
        }
    }

    /// How the process ends.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::NobodyReads => 0,
            Self::Finding => 1,
            Self::Usage(_) => 2,
            Self::Failed(_) => 3,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::KeyNotFound(_) | Error::AlreadyExists(_) | Error::InvalidOperation(_) => {
                Self::Usage(error.to_string())
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
