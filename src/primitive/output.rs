//! Outputs: what commands answer.

use std::ops::Range;
use std::sync::Arc;

use crate::base::commit_digest::CommitDigest;
use crate::base::event::{ChainVerification, Event};
use crate::base::json::Json;
use crate::base::lineage::ReadSet;
use crate::base::metrics::ShardMetrics;
use crate::base::run::RunMetadata;
use crate::base::run_id::RunId;
use crate::base::state::State;
use crate::base::trace::{Trace, TraceTree};
use crate::base::value::Value;
use crate::base::version::{Version, Versioned};
use crate::format::record::Position;
use crate::format::snapshot::Piece;
use crate::store::changes::Changes;
use crate::store::dump::Page;

/// What a command answers. Records are shared with the store; the caller's side copies them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    Unit,
    Flag(bool),
    Count(u64),
    Number(i64),
    Value(Option<Value>),
    Values(Vec<Option<Value>>),
    Versioned(Option<Box<Versioned<Value>>>),
    History(Vec<Versioned<Option<Value>>>),
    Texts(Vec<String>),
    Pairs(Vec<(String, Value)>),
    Appended(u64, [u8; 32]),
    Range(Range<u64>),
    Event(Option<Arc<Event>>),
    Events(Vec<Arc<Event>>),
    Chain(Box<ChainVerification>),
    State(Option<Arc<State>>),
    Json(Option<Json>),
    Version(Option<Version>),
    TraceId(String),
    Trace(Option<Arc<Trace>>),
    Traces(Vec<Arc<Trace>>),
    Tree(Option<Box<TraceTree>>),
    Run(Arc<RunMetadata>),
    MaybeRun(Option<Arc<RunMetadata>>),
    Runs(Vec<Arc<RunMetadata>>),
    MaybeRunId(Option<RunId>),
    RunIds(Vec<RunId>),
    Position(Position),
    Metrics(Box<ShardMetrics>),
    Pieces(Option<Vec<Piece>>),
    Records(Box<Page>),
    Commits(Vec<CommitDigest>),
    Lineage(Arc<ReadSet>),
    Changes(Box<Changes>),
    /// So many records were logged, none above this version; whatever may be committed above it is in this segment or behind.
    LogStart {
        segment: u32,
        records: u64,
        latest: Version,
    },
}

/// An output and what the caller should know with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) output: Output,
    /// The version of the commit that produced it, if something was written.
    pub(crate) version: Option<Version>,
    /// The snapshot of the transaction it belongs to, if it belongs to one.
    pub(crate) snapshot: Option<Version>,
}

impl Reply {
    /// What was read.
    pub(crate) const fn read(output: Output) -> Self {
        Self { output, version: None, snapshot: None }
    }

    /// What was done at a version.
    pub(crate) const fn written(output: Output, version: Version) -> Self {
        Self { output, version: Some(version), snapshot: None }
    }

    /// What an operation of a transaction with this snapshot answers.
    pub(crate) const fn in_transaction(output: Output, snapshot: Version) -> Self {
        Self { output, version: None, snapshot: Some(snapshot) }
    }
}
