//! The same database for programs without async: the names and signatures of the asynchronous API, without `async`.
//!
//! ```
//! use in_mem::blocking::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let db = Database::open_in_memory()?;
//! let run = db.start_run(RunOptions::default())?;
//! run.kv().put("goal", "fix the bug")?;
//! let event = run.transaction(|txn| {
//!     txn.kv_put("next", "read the log")?;
//!     txn.event_append("decided", Value::Null)
//! })?;
//! assert_eq!((event, run.kv().list(None)?), (0, vec!["goal".to_owned(), "next".to_owned()]));
//! for pair in run.kv().scan(ScanOptions::default()) {
//!     let (key, value) = pair?;
//!     println!("{key} = {value}");
//! }
//! db.close()
//! # }
//! ```
//!
//! - A call blocks its thread, which may be any: no runtime is needed. Inside a task of one, its worker stands still meanwhile.
//! - On a thread that runs a shard, inside [`spawn_on`](Database::spawn_on), a call could wait for itself: it is refused with
//!   `InvalidOperation`. Await the operations of the [`LocalRun`] there.
//! - Streams are iterators. Closures of transactions are plain `FnMut`, need not be `Send`, and may change what is around
//!   them; they are still called again after a conflict.
//! - A handle of the asynchronous API becomes a blocking one by `From`; both share the database.
//! - What has no operations is the same type in both.

#[macro_use]
mod twin;
mod blocking_stream;
mod builder;
mod database;
mod extensions;
mod replay;
mod run_handle;
mod stores;
mod transaction;
mod wait;

pub use blocking_stream::Subscription;
pub use builder::DatabaseBuilder;
pub use database::Database;
pub use replay::ReplayView;
pub use run_handle::RunHandle;
pub use transaction::{MultiTransaction, OpenTransaction, ReadView, Transaction};

pub use crate::api::database::{DatabaseHealth, DatabaseInfo};
pub use crate::api::diff::{Divergence, RunDiff};
pub use crate::api::lineage::{Lineage, LineageOptions, Origin, Read};
pub use crate::api::local_run::LocalRun;
pub use crate::api::replay::{Change, Step};
pub use crate::api::transaction::{CommitOutcome, TransactionOptions};
pub use crate::api::verify_run::ReplayVerification;
pub use crate::api::watching::{JsonChange, KvChange, RunChange};
pub use crate::base::cursor::Cursor;
pub use crate::base::error::{Conflict, Error, Result};
pub use crate::base::event::{ChainVerification, Event};
pub use crate::base::metrics::{Metric, MetricKind, ShardMetrics};
pub use crate::base::options::{Driver, DurabilityMode, HistoryRetention, Partitioning, SnapshotConfig};
pub use crate::base::primitive::Primitive;
pub use crate::base::run::{RunMetadata, RunOptions, RunStatus};
pub use crate::base::run_id::RunId;
pub use crate::base::state::State;
pub use crate::base::trace::{Trace, TraceTree, TraceType};
pub use crate::base::value::{Text, Value};
pub use crate::base::version::{Version, Versioned};
pub use crate::disk::recovery::RecoveryReport;
pub use crate::disk::salvage::{SalvageDamage, SalvageReport};
pub use crate::disk::verification::{VerifyProblem, VerifyReport};
pub use crate::primitive::diff::DiffEntry;
pub use crate::runtime::backup::BackupReport;
pub use crate::runtime::checkpoints::SnapshotInfo;
pub use crate::runtime::metrics::{DiskMetrics, Metrics};

pub use bytes::Bytes;
pub use json_patch;
pub use serde_json;

/// The primitives: handles for the whole database, for one run, and short names for transactions.
pub mod primitives {
    pub use super::blocking_stream::{BlockingStream, EventStream, PageStream, Scan, Subscription, TraceStream};
    pub use super::extensions::{EventLogExt, JsonStoreExt, KVStoreExt, StateCellExt, TraceStoreExt};
    pub use super::stores::{
        EventLog, JsonStore, KVStore, KVTransaction, RunEvents, RunIndex, RunJson, RunKv, RunStates, RunTraces,
        StateCell, TraceStore,
    };
    pub use super::{
        ChainVerification, Cursor, Event, JsonChange, KvChange, RunChange, RunMetadata, RunStatus, State, Trace,
        TraceTree, TraceType, Versioned,
    };
    pub use crate::api::run_index::RunRef;
    pub use crate::api::scan::ScanOptions;
}

/// Everything most programs need.
pub mod prelude {
    pub use super::primitives::*;
    pub use super::{
        CommitOutcome, Database, DurabilityMode, Error, LocalRun, MultiTransaction, OpenTransaction, ReadView, Result,
        RunHandle, RunId, RunOptions, Transaction, TransactionOptions, Value, Version,
    };
}
