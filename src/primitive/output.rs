//! Outputs: what commands answer.

use std::ops::Range;
use std::sync::Arc;

use crate::base::event::{ChainVerification, Event};
use crate::base::run::RunMetadata;
use crate::base::run_id::RunId;
use crate::base::state::State;
use crate::base::trace::{Trace, TraceTree};
use crate::base::value::Value;
use crate::base::version::{Version, Versioned};

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
    TraceId(String),
    Trace(Option<Arc<Trace>>),
    Traces(Vec<Arc<Trace>>),
    Tree(Option<Box<TraceTree>>),
    Run(Arc<RunMetadata>),
    MaybeRun(Option<Arc<RunMetadata>>),
    Runs(Vec<Arc<RunMetadata>>),
    MaybeRunId(Option<RunId>),
    /// What was current at the asked-for snapshot is no longer kept: ask again at a later one.
    TooOld,
}

/// An output, and the version of the commit that produced it, if something was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) output: Output,
    pub(crate) version: Option<Version>,
}
