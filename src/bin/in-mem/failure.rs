//! Why a command did not end well, and its exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

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
    pub(crate) const FINDING: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const FAILED: u8 = 3;

    /// Says what went wrong, and how the process ends.
    pub(crate) fn exit(self) -> ExitCode {
        match &self {
            Self::Usage(_) | Self::Failed(_) => eprintln!("in-mem: {self}"),
            Self::Finding | Self::NobodyReads => {}
        }
        match self {
            Self::Finding => Self::FINDING.into(),
            Self::Usage(_) => Self::USAGE.into(),
            Self::Failed(_) => Self::FAILED.into(),
            Self::NobodyReads => ExitCode::SUCCESS,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finding => f.write_str("something was found"),
            Self::Usage(what) | Self::Failed(what) => f.write_str(what),
            Self::NobodyReads => f.write_str("nobody reads the output"),
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
