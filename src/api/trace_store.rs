//! Traces.

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::Arc;

use super::database::Database;
use super::kv_store::check_count;
use super::op::{Op, read};
use super::pages::{PAGE, PageStream, Pages};
use super::scope::Scope;
use crate::base::error::{Error, Result};
use crate::base::limits::{VALUE_BYTES, check_key, check_tags, check_value};
use crate::base::run_id::RunId;
use crate::base::trace::{Trace, TraceTree, TraceType};
use crate::base::value::Value;
use crate::primitive::command::{Command, TraceCommand};
use crate::primitive::output::Reply;

/// The traces of every run: what an agent did and thought, step by step, steps below steps. Guarantee: a read sees
/// every trace that was acknowledged before it began.
///
/// ```
/// use in_mem::prelude::*;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let db = Database::open_in_memory().await?;
/// let (traces, run) = (TraceStore::new(&db), db.begin_run().await);
/// let why = TraceType::Thought { content: "the log will say".into(), confidence: Some(0.8) };
/// let thought = traces.record(&run, why, vec!["planning".into()], Value::Null).await?;
/// let call = TraceType::ToolCall { tool_name: "cat".into(), arguments: "build.log".into(), result: None, duration_ms: Some(3) };
/// traces.record_child(&run, &thought, call, vec![], Value::Null).await?;
/// let tree = traces.get_tree(&run, &thought).await?;
/// assert_eq!(tree.map(|tree| tree.children.len()), Some(1));
/// assert_eq!(traces.query_by_tag(&run, "planning").await?.len(), 1);
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct TraceStore {
    database: Database,
}

/// The traces of one run; in a transaction, as the transaction sees and records them.
#[derive(Clone, Debug)]
pub struct RunTraces {
    scope: Scope,
}

/// Traces in recording order, all at one snapshot.
pub type TraceStream = PageStream<Trace>;

impl RunTraces {
    pub(crate) const fn new(scope: Scope) -> Self {
        Self { scope }
    }

    fn op<T: 'static>(&self, checked: Result<()>, command: TraceCommand, read: fn(Reply) -> Result<T>) -> Op<T> {
        self.scope.op(checked, Command::Trace(command), read)
    }

    fn traces(&self, checked: Result<()>, command: TraceCommand) -> Op<Vec<Trace>> {
        self.op(checked, command, read!(Traces(traces) => traces.into_iter().map(Arc::unwrap_or_clone).collect()))
    }

    /// Records a trace that belongs under no other. Returns its id.
    ///
    /// A trace's id and timestamp are those of the moment the operation is first polled, and so is its place in the
    /// recording order. Recordings never conflict.
    ///
    /// # Errors
    /// `InvalidOperation` for a custom type or a tag without a name and for an ended run, `LimitExceeded`,
    /// `Unavailable`, `CommitUnknown`.
    ///
    /// # Cancel safety
    /// Recorded or not, never half.
    pub fn record(&self, trace_type: TraceType, tags: Vec<String>, metadata: impl Into<Value>) -> Op<String> {
        self.add(None, trace_type, tags, metadata.into())
    }

    /// Records a trace under another one. Returns its id.
    ///
    /// # Errors
    /// `KeyNotFound` if there is no such parent in the run; those of [`record`](Self::record).
    ///
    /// # Cancel safety
    /// Recorded or not, never half.
    pub fn record_child(
        &self,
        parent_id: impl AsRef<str>,
        trace_type: TraceType,
        tags: Vec<String>,
        metadata: impl Into<Value>,
    ) -> Op<String> {
        self.add(Some(parent_id.as_ref()), trace_type, tags, metadata.into())
    }

    fn add(&self, parent: Option<&str>, trace_type: TraceType, tags: Vec<String>, metadata: Value) -> Op<String> {
        let checked = parent.map_or(Ok(()), check_id);
        let checked = checked.and_then(|()| check_type(&trace_type));
        let checked = checked.and_then(|()| check_tags(&tags)).and_then(|()| check_value(&metadata));
        // Drawn when the operation is sent.
        let number = 0;
        let parent_id = parent.map(Into::into);
        let trace = Trace { id: String::new(), parent_id, trace_type, timestamp: 0, tags, metadata };
        let command = TraceCommand::Record { number, trace: Box::new(trace) };
        self.op(checked, command, read!(TraceId(id) => id))
    }

    /// Reads one trace; `None` if there is none with this id in the run.
    ///
    /// # Errors
    /// `InvalidOperation` or `LimitExceeded` for an id that is empty or too long, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get(&self, id: impl AsRef<str>) -> Op<Option<Trace>> {
        let id = id.as_ref();
        let command = TraceCommand::Get { id: id.into() };
        self.op(check_id(id), command, read!(Trace(trace) => trace.map(Arc::unwrap_or_clone)))
    }

    /// Reads the traces of a kind, in recording order: `ToolCall`, `Decision`, `Query`, `Thought`, `Error`, `Custom`, or
    /// `Custom:NAME`; see [`TraceType::kind`]. Takes time by their number, not by the number of all traces.
    ///
    /// # Errors
    /// `InvalidOperation` or `LimitExceeded` for a kind that is empty or too long, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn query_by_type(&self, kind: impl AsRef<str>) -> Op<Vec<Trace>> {
        let kind = kind.as_ref();
        self.traces(check_key("trace kind", kind), TraceCommand::ByKind { kind: kind.into() })
    }

    /// Reads the traces with a tag, in recording order. Takes time by their number, not by the number of all traces.
    ///
    /// # Errors
    /// `InvalidOperation` or `LimitExceeded` for a tag that is empty or too long, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn query_by_tag(&self, tag: impl AsRef<str>) -> Op<Vec<Trace>> {
        let tag = tag.as_ref().to_owned();
        self.traces(check_tags(std::slice::from_ref(&tag)), TraceCommand::ByTag { tag })
    }

    /// Reads the traces of a time, in recording order: from `range.start` up to but not including `range.end`, in
    /// microseconds since the Unix epoch.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn query_by_time(&self, range: Range<i64>) -> Op<Vec<Trace>> {
        self.traces(Ok(()), TraceCommand::ByTime { range })
    }

    /// Reads the traces directly under another one, in recording order; none if there is no such trace.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_children(&self, id: impl AsRef<str>) -> Op<Vec<Trace>> {
        let id = id.as_ref();
        self.traces(check_id(id), TraceCommand::Children { id: id.into() })
    }

    /// Reads a trace and everything under it, at one snapshot; `None` if there is none with this id in the run.
    ///
    /// # Errors
    /// `InvalidOperation` if the tree is deeper than 5,000 traces; those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_tree(&self, id: impl AsRef<str>) -> Op<Option<TraceTree>> {
        let id = id.as_ref();
        let command = TraceCommand::Tree { id: id.into() };
        self.op(check_id(id), command, read!(Tree(tree) => tree.map(|tree| *tree)))
    }

    /// Reads the traces that belong under no other, in recording order.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_roots(&self) -> Op<Vec<Trace>> {
        self.traces(Ok(()), TraceCommand::Roots)
    }

    /// Counts the traces.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn count(&self) -> Op<u64> {
        self.op(Ok(()), TraceCommand::Count, read!(Count(count) => count))
    }

    /// Streams all traces in recording order, at one snapshot, fetched page by page.
    ///
    /// # Errors
    /// The stream gives an error and ends: `Unavailable`; `Timeout` if nobody polled it for so long that its snapshot
    /// was given up.
    ///
    /// # Cancel safety
    /// Reads only; dropping the stream releases its snapshot.
    pub fn stream(&self) -> TraceStream {
        let reader = Self::new(self.scope.at_one_snapshot());
        let traces = reader.clone();
        let pages = Pages::new(reader.scope, move |last: Option<&Trace>| match last.map_or(Ok(0), number_of) {
            Ok(after) => traces.traces(Ok(()), TraceCommand::Page { after, limit: PAGE }),
            Err(error) => Op::done(Err(error)),
        });
        PageStream::new(pages)
    }
}

fn check_id(id: &str) -> Result<()> {
    check_key("trace id", id)
}

/// Checks the size and the shape of what an agent did.
fn check_type(trace_type: &TraceType) -> Result<()> {
    match trace_type {
        TraceType::ToolCall { arguments, result, .. } => {
            check_value(arguments)?;
            result.as_ref().map_or(Ok(()), check_value)?;
        }
        TraceType::Decision { options, .. } => check_count(options.len())?,
        TraceType::Custom { name, data } => {
            check_key("custom trace name", name)?;
            check_key("trace kind", &trace_type.kind())?;
            check_value(data)?;
        }
        TraceType::Query { .. } | TraceType::Thought { .. } | TraceType::Error { .. } => {}
    }
    let bytes = trace_type.weight();
    if bytes > VALUE_BYTES {
        return Err(Error::limit("trace type bytes", VALUE_BYTES, bytes));
    }
    Ok(())
}

/// The number of a trace: what its id says.
fn number_of(trace: &Trace) -> Result<u64> {
    u64::from_str_radix(&trace.id, 16).map_err(|_| Error::Corruption(format!("not a trace id: id={:?}", trace.id)))
}

impl TraceStore {
    /// The traces of a database.
    pub fn new(database: impl Into<Database>) -> Self {
        Self { database: database.into() }
    }

    fn of(&self, run: impl Borrow<RunId>) -> RunTraces {
        RunTraces::new(Scope::of_run(self.database.engine(), run))
    }

    /// See [`RunTraces::record`].
    ///
    /// # Errors
    /// Those of [`RunTraces::record`].
    ///
    /// # Cancel safety
    /// Recorded or not, never half.
    pub fn record(
        &self,
        run: impl Borrow<RunId>,
        trace_type: TraceType,
        tags: Vec<String>,
        metadata: impl Into<Value>,
    ) -> Op<String> {
        self.of(run).record(trace_type, tags, metadata)
    }

    /// See [`RunTraces::record_child`].
    ///
    /// # Errors
    /// Those of [`RunTraces::record_child`].
    ///
    /// # Cancel safety
    /// Recorded or not, never half.
    pub fn record_child(
        &self,
        run: impl Borrow<RunId>,
        parent_id: impl AsRef<str>,
        trace_type: TraceType,
        tags: Vec<String>,
        metadata: impl Into<Value>,
    ) -> Op<String> {
        self.of(run).record_child(parent_id, trace_type, tags, metadata)
    }

    /// See [`RunTraces::get`].
    ///
    /// # Errors
    /// Those of [`RunTraces::get`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get(&self, run: impl Borrow<RunId>, id: impl AsRef<str>) -> Op<Option<Trace>> {
        self.of(run).get(id)
    }

    /// See [`RunTraces::query_by_type`].
    ///
    /// # Errors
    /// Those of [`RunTraces::query_by_type`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn query_by_type(&self, run: impl Borrow<RunId>, kind: impl AsRef<str>) -> Op<Vec<Trace>> {
        self.of(run).query_by_type(kind)
    }

    /// See [`RunTraces::query_by_tag`].
    ///
    /// # Errors
    /// Those of [`RunTraces::query_by_tag`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn query_by_tag(&self, run: impl Borrow<RunId>, tag: impl AsRef<str>) -> Op<Vec<Trace>> {
        self.of(run).query_by_tag(tag)
    }

    /// See [`RunTraces::query_by_time`].
    ///
    /// # Errors
    /// Those of [`RunTraces::query_by_time`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn query_by_time(&self, run: impl Borrow<RunId>, range: Range<i64>) -> Op<Vec<Trace>> {
        self.of(run).query_by_time(range)
    }

    /// See [`RunTraces::get_children`].
    ///
    /// # Errors
    /// Those of [`RunTraces::get_children`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_children(&self, run: impl Borrow<RunId>, id: impl AsRef<str>) -> Op<Vec<Trace>> {
        self.of(run).get_children(id)
    }

    /// See [`RunTraces::get_tree`].
    ///
    /// # Errors
    /// Those of [`RunTraces::get_tree`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_tree(&self, run: impl Borrow<RunId>, id: impl AsRef<str>) -> Op<Option<TraceTree>> {
        self.of(run).get_tree(id)
    }

    /// See [`RunTraces::get_roots`].
    ///
    /// # Errors
    /// Those of [`RunTraces::get_roots`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_roots(&self, run: impl Borrow<RunId>) -> Op<Vec<Trace>> {
        self.of(run).get_roots()
    }

    /// See [`RunTraces::count`].
    ///
    /// # Errors
    /// Those of [`RunTraces::count`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn count(&self, run: impl Borrow<RunId>) -> Op<u64> {
        self.of(run).count()
    }

    /// See [`RunTraces::stream`].
    ///
    /// # Errors
    /// Those of [`RunTraces::stream`].
    ///
    /// # Cancel safety
    /// Reads only; dropping the stream releases its snapshot.
    pub fn stream(&self, run: impl Borrow<RunId>) -> TraceStream {
        self.of(run).stream()
    }
}
