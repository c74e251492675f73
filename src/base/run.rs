//! Runs: their status and what is known about them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::options::HistoryRetention;
use super::run_id::RunId;
use super::value::Value;

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RunStatus {
    /// At work.
    Active,
    /// Ended well.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended by somebody's wish.
    Cancelled,
    /// Stopped for now; writes are still taken.
    Paused,
    /// Put away for good.
    Archived,
}

impl RunStatus {
    /// Whether a run can go from this status to that one.
    #[must_use]
    pub const fn can_become(self, to: Self) -> bool {
        use RunStatus::{Active, Archived, Cancelled, Completed, Failed, Paused};
        match self {
            Active => matches!(to, Completed | Failed | Cancelled | Paused | Archived),
            Paused => matches!(to, Active | Cancelled | Archived),
            Completed | Failed | Cancelled => matches!(to, Archived),
            Archived => false,
        }
    }

    /// Whether the run is over and takes no more writes.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Archived)
    }

    /// The name of the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Paused => "Paused",
            Self::Archived => "Archived",
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known about a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunMetadata {
    /// Its name, unique in the database; the text of its id if none was given.
    pub name: String,
    /// Its id.
    pub run_id: RunId,
    /// The run it came from.
    pub parent_run: Option<RunId>,
    /// Where it is in its life.
    pub status: RunStatus,
    /// When it began, in microseconds since the Unix epoch.
    pub created_at: i64,
    /// When anything here last changed, in microseconds since the Unix epoch.
    pub updated_at: i64,
    /// When it ended, in microseconds since the Unix epoch.
    pub completed_at: Option<i64>,
    /// Labels to find it by.
    pub tags: Vec<String>,
    /// Anything else worth keeping.
    pub metadata: Value,
    /// What it failed with.
    pub error: Option<String>,
}

/// What a run begins with. The default is a new id, the id's text as the name, and nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunOptions {
    /// The id; a new one if `None`.
    pub id: Option<RunId>,
    /// The name, unique in the database; the text of the id if `None`.
    pub name: Option<String>,
    /// The run it comes from, by id.
    pub parent: Option<RunId>,
    /// Labels to find it by.
    pub tags: Vec<String>,
    /// Anything else worth keeping.
    pub metadata: Value,
    /// How much of its past is kept, if not as the database says.
    pub history: Option<HistoryRetention>,
}
