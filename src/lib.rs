//! in-mem: an embedded, async-first database for AI agents.
//!
//! Every operation belongs to a *run*. Six primitives (key-value pairs, an event log, state cells, traces, JSON documents and the
//! index of runs) share one transactional, durable store, partitioned over shards that each own a core, their memory and their
//! log. Callers live on any async runtime: operations are plain futures. Programs without one use [`blocking`].
//!
//! ```
//! use in_mem::prelude::*;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let db = Database::open_in_memory().await?;
//! let run = db.start_run(RunOptions::default()).await?;
//! run.kv().put("goal", "fix the bug").await?;
//! run.events().append("started", Value::Null).await?;
//! assert_eq!(run.kv().get("goal").await?, Some("fix the bug".into()));
//! # Ok::<(), Error>(())
//! # }).unwrap();
//! ```
//!
//! # Limits
//!
//! Checked before anything is sent; beyond them, [`Error::LimitExceeded`].
//!
//! | what | limit |
//! |---|---|
//! | key, name, event type | 1 byte to 64 KiB |
//! | value | 16 MiB, 100 levels deep |
//! | JSON document | 16 MiB of text, 100 levels deep, 1,000,000 items in an array |
//! | path into a JSON document | 256 segments |
//! | transaction | 64 MiB of writes, 100,000 operations |
//! | tags of a run or a trace | 256, of 1 to 256 bytes |
//! | shards | 1 to 1024 |
//!
//! # Features
//!
//! `tool`, on by default: the binary `in-mem` (`docs/TOOL.md`), and the dependencies that only it has. The library is the same without.
//!
//! Start with [`Database`] and the modules [`prelude`] and [`primitives`].

// What tests share names the crate as they do.
#[cfg(test)]
extern crate self as in_mem;

mod api;
mod base;
pub mod blocking;
mod commit;
mod disk;
mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod primitive;
mod runtime;
mod shard;
#[cfg(test)]
mod sim;
mod store;

pub use api::builder::DatabaseBuilder;
pub use api::database::{BeginRun, Database, DatabaseHealth, DatabaseInfo};
pub use api::diff::{Divergence, RunDiff};
pub use api::lineage::{Lineage, LineageOptions, Origin, Read};
pub use api::local_run::LocalRun;
pub use api::op::Op;
pub use api::replay::{Change, ReplayView, Step};
pub use api::run_handle::RunHandle;
pub use api::subscription::Subscription;
pub use api::transaction::{
    CommitOutcome, MultiTransaction, OpenTransaction, ReadView, Transaction, TransactionOptions,
};
pub use api::verify_run::ReplayVerification;
pub use api::watching::{JsonChange, KvChange, RunChange, WaitFor};
pub use base::cursor::Cursor;
pub use base::error::{Conflict, Error, Result};
pub use base::event::{ChainVerification, Event};
pub use base::options::{Driver, DurabilityMode, HistoryRetention, Partitioning, SnapshotConfig};
pub use base::primitive::Primitive;
pub use base::run::{RunMetadata, RunOptions, RunStatus};
pub use base::run_id::RunId;
pub use base::state::State;
pub use base::trace::{Trace, TraceTree, TraceType};
pub use base::value::{Text, Value};
pub use base::version::{Version, Versioned};
pub use disk::recovery::RecoveryReport;
pub use disk::salvage::{SalvageDamage, SalvageReport};
pub use disk::verification::{VerifyProblem, VerifyReport};
pub use primitive::diff::DiffEntry;
pub use runtime::backup::BackupReport;
pub use runtime::checkpoints::SnapshotInfo;

pub use bytes::Bytes;
pub use json_patch;
pub use serde_json;

/// The primitives: handles for the whole database, for one run, and short names for transactions.
pub mod primitives {
    pub use crate::api::event_log::{EventLog, EventStream, RunEvents};
    pub use crate::api::extensions::{EventLogExt, JsonStoreExt, KVStoreExt, StateCellExt, TraceStoreExt};
    pub use crate::api::json_store::{JsonStore, RunJson};
    pub use crate::api::kv_store::{KVStore, KVTransaction, RunKv};
    pub use crate::api::pages::PageStream;
    pub use crate::api::run_index::{RunIndex, RunRef};
    pub use crate::api::scan::{Scan, ScanOptions};
    pub use crate::api::state_cell::{RunStates, StateCell, Transition};
    pub use crate::api::trace_store::{RunTraces, TraceStore, TraceStream};
    pub use crate::{
        ChainVerification, Cursor, Event, JsonChange, KvChange, RunChange, RunMetadata, RunStatus, State, Subscription,
        Trace, TraceTree, TraceType, Versioned, WaitFor,
    };
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

/// Everything most programs need.
pub mod prelude {
    pub use crate::primitives::*;
    pub use crate::{
        CommitOutcome, Database, DurabilityMode, Error, LocalRun, MultiTransaction, OpenTransaction, ReadView, Result,
        RunHandle, RunId, RunOptions, Transaction, TransactionOptions, Value, Version,
    };
}
