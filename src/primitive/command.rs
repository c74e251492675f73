//! Commands: what a shard can be asked to do to a run.
//!
//! - Everything in a command was checked for size and shape at the door (`api`).
//! - Whatever is random or comes from outside (ids, numbers of traces) is in the command, so that handling it is a
//!   function of the shard's state and the time.
//! - Commands are moved often: what is large and rare in them is boxed.

use std::ops::Range;
use std::time::Duration;

use crate::base::json::Json;
use crate::base::json::path::Path;
use crate::base::key::{Name, Space};
use crate::base::options::HistoryRetention;
use crate::base::run::RunStatus;
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::trace::Trace;
use crate::base::value::Value;
use crate::base::version::Version;

/// What a shard can be asked to do to a run.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Kv(KvCommand),
    Event(EventCommand),
    State(StateCommand),
    Trace(TraceCommand),
    Json(JsonCommand),
    Run(RunCommand),
}

/// Key-value pairs.
#[derive(Clone, Debug)]
pub(crate) enum KvCommand {
    /// -> `Value`
    Get { key: Name },
    /// -> `Versioned`
    GetVersioned { key: Name },
    /// -> `Values`
    GetMany { keys: Vec<Name> },
    /// -> `Flag`
    Exists { key: Name },
    /// -> `History`
    History { key: Name },
    /// -> `Unit`
    Put { key: Name, value: Value, ttl: Option<Duration> },
    /// -> `Unit`
    PutMany { pairs: Vec<(Name, Value)> },
    /// -> `Flag`: whether there was something
    Delete { key: Name },
    /// -> `Count`: how many there were
    DeleteMany { keys: Vec<Name> },
    /// -> `Unit`; the reply's version is the new one. `expected: None` means that the key must not exist.
    CompareAndPut { key: Name, expected: Option<Version>, value: Value },
    /// -> `Texts`
    List { prefix: Option<String> },
    /// -> `Pairs`
    ListWithValues { prefix: Option<String> },
    /// -> `Count`
    Count { prefix: Option<String> },
    /// -> `Pairs`, at most `limit` of them
    Scan(Box<KvScan>),
}

/// Which pairs, in which order, how many.
#[derive(Clone, Debug)]
pub(crate) struct KvScan {
    pub(crate) prefix: Option<String>,
    pub(crate) start: Option<String>,
    pub(crate) end: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) reverse: bool,
    pub(crate) limit: usize,
}

/// The event log.
#[derive(Clone, Debug)]
pub(crate) enum EventCommand {
    /// -> `Appended`. `expected_len`: fail with `VersionMismatch` unless the log has that length.
    Append { event_type: String, payload: Value, expected_len: Option<u64> },
    /// -> `Range`
    AppendMany { events: Vec<(String, Value)> },
    /// -> `Event`
    Read { sequence: u64 },
    /// -> `Events`, [start, end), at most `limit` of them
    ReadRange { range: Range<u64>, limit: usize },
    /// -> `Event`
    Head,
    /// -> `Count`
    Len,
    /// -> `Events`
    ReadByType { event_type: String },
    /// -> `Events`; microseconds
    ReadByTime { range: Range<i64> },
    /// -> `Texts`
    Types,
    /// -> `Chain`
    Verify,
}

/// State cells.
#[derive(Clone, Debug)]
pub(crate) enum StateCommand {
    /// -> `Count`: the new version; `AlreadyExists`
    Init { name: Name, value: Value },
    /// -> `State`
    Read { name: Name },
    /// -> `Count`: the new version
    Set { name: Name, value: Value },
    /// -> `Count`: the new version. `expected: 0` means that the cell must not exist; `VersionMismatch`
    CompareAndSwap { name: Name, expected: u64, value: Value },
    /// -> `Number`: the new value; an absent cell counts as 0
    Increment { name: Name, by: i64 },
    /// -> `Flag`: whether there was one
    Delete { name: Name },
    /// -> `Flag`
    Exists { name: Name },
    /// -> `Texts`
    List,
}

/// Traces. A trace's id is the 16 hexadecimal digits of its number, which rises with the time of recording.
#[derive(Clone, Debug)]
pub(crate) enum TraceCommand {
    /// -> `TraceId`; `KeyNotFound` if there is no such parent. The trace gets its id and its time when it is recorded.
    Record { number: u64, trace: Box<Trace> },
    /// -> `Trace`
    Get { id: String },
    /// -> `Traces`
    ByKind { kind: String },
    /// -> `Traces`
    ByTag { tag: String },
    /// -> `Traces`; microseconds
    ByTime { range: Range<i64> },
    /// -> `Traces`
    Children { id: String },
    /// -> `Traces`
    Roots,
    /// -> `Tree`
    Tree { id: String },
    /// -> `Count`
    Count,
    /// -> `Traces` with numbers above `after`, at most `limit` of them
    Page { after: u64, limit: usize },
}

/// JSON documents.
#[derive(Clone, Debug)]
pub(crate) enum JsonCommand {
    /// -> `Json`
    Get { key: Name, path: Path },
    /// -> `Version`: of the commit that changed the document last
    Version { key: Name },
    /// -> `Flag`
    Exists { key: Name },
    /// -> `Texts`
    List { prefix: Option<String> },
    /// -> `Unit`; `AlreadyExists`
    Create { key: Name, document: Json },
    /// -> `Unit`; `KeyNotFound` if there is nothing that it could be in. The whole of a document is made if need be.
    Set { key: Name, path: Path, value: Json },
    /// -> `Unit`; `VersionMismatch` unless the document has that version
    CompareAndSet { key: Name, expected: Version, path: Path, value: Json },
    /// -> `Unit`; `KeyNotFound`, `InvalidOperation` if a test fails
    Patch { key: Name, operations: Vec<JsonOperation> },
    /// -> `Unit`; `KeyNotFound` if there is no document
    Merge { key: Name, patch: Json },
    /// -> `Unit`; `KeyNotFound`, `InvalidOperation` if there is no array
    Push { key: Name, path: Path, value: Json },
    /// -> `Flag`: whether there was something
    DeleteAt { key: Name, path: Path },
    /// -> `Flag`: whether there was one
    Delete { key: Name },
}

/// One operation of a JSON Patch (RFC 6902).
#[derive(Clone, Debug)]
pub(crate) enum JsonOperation {
    Add { path: Path, value: Json },
    Remove { path: Path },
    Replace { path: Path, value: Json },
    Move { from: Path, path: Path },
    Copy { from: Path, path: Path },
    Test { path: Path, value: Json },
}

impl JsonOperation {
    /// The most bytes that it logs beside what it finds.
    fn logged_bytes(&self) -> usize {
        match self {
            Self::Add { path, value } | Self::Replace { path, value } => 2 * path.weight() + value.size().weight(),
            Self::Move { from, path } => 2 * (from.weight() + path.weight()),
            Self::Remove { path } | Self::Copy { path, .. } => 2 * path.weight(),
            Self::Test { .. } => 0,
        }
    }
}

/// Runs and their names.
#[derive(Clone, Debug)]
pub(crate) enum RunCommand {
    /// -> `Run`; `AlreadyExists` if the run is there, `InvalidOperation` if it was deleted
    Create(Box<NewRun>),
    /// -> `MaybeRun`
    Get,
    /// -> `Records`: those of the run behind a place, from its beginning
    Records { after: Option<(Space, Name)> },
    /// -> `Commits`: the next ones above a version
    Commits { above: Version },
    /// -> `Lineage`: what the commit read that wrote a key at a version; `KeyNotFound`, `InvalidOperation`
    Explain { space: Space, name: Name, version: Version },
    /// -> `Records`: what the run holds behind a place
    State { after: Option<(Space, Name)> },
    /// -> `Unit`: the run holds what another one held
    Adopt { held: Vec<Held> },
    /// -> `Run`; `InvalidStatusTransition`, `KeyNotFound`
    UpdateStatus { to: RunStatus, error: Option<String> },
    /// -> `Run`; `KeyNotFound`
    AddTags { tags: Vec<String> },
    /// -> `Run`; `KeyNotFound`
    RemoveTags { tags: Vec<String> },
    /// -> `Run`; `KeyNotFound`
    UpdateMetadata { metadata: Value },
    /// -> `Flag`: whether there was anything here. Nothing of the run can be written here again.
    Delete,
    /// On a shard that is not the run's home. -> `Unit`: the run takes no more writes here
    End { status: RunStatus },
    /// On a shard that is not the run's home. -> `Unit`: so much history is kept of the run here
    Retain { history: HistoryRetention },
    /// In the directory. -> `MaybeRunId`: the id that holds the name; `None` if this id holds it now
    ClaimName { name: String, id: RunId },
    /// In the directory. -> `MaybeRunId`
    LookUpName { name: String },
    /// In the directory. -> `Unit`: the name is free again if this id holds it
    ReleaseName { name: String, id: RunId },
    /// In the directory. -> `Runs`: those whose home is this shard, in order of their ids
    List(RunFilter),
}

/// What a key holds.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) space: Space,
    pub(crate) name: Name,
    pub(crate) stored: Stored,
    pub(crate) expires: Option<Version>,
}

/// A run to be begun.
#[derive(Clone, Debug)]
pub(crate) struct NewRun {
    pub(crate) name: String,
    pub(crate) parent: Option<RunId>,
    pub(crate) tags: Vec<String>,
    pub(crate) metadata: Value,
    /// How much history is kept, if not as the database says.
    pub(crate) history: Option<HistoryRetention>,
}

/// Which runs.
#[derive(Clone, Debug)]
pub(crate) enum RunFilter {
    All,
    Status(RunStatus),
    Tag(String),
    Parent(RunId),
}

impl Command {
    /// The one key it names, if its place may depend on that.
    pub(crate) const fn key(&self) -> Option<(Space, &Name)> {
        match self {
            Self::Kv(command) => match command {
                KvCommand::Get { key }
                | KvCommand::GetVersioned { key }
                | KvCommand::Exists { key }
                | KvCommand::History { key }
                | KvCommand::Put { key, .. }
                | KvCommand::Delete { key }
                | KvCommand::CompareAndPut { key, .. } => Some((Space::Kv, key)),
                _ => None,
            },
            Self::State(command) => match command {
                StateCommand::Init { name, .. }
                | StateCommand::Read { name }
                | StateCommand::Set { name, .. }
                | StateCommand::CompareAndSwap { name, .. }
                | StateCommand::Increment { name, .. }
                | StateCommand::Delete { name }
                | StateCommand::Exists { name } => Some((Space::State, name)),
                StateCommand::List => None,
            },
            Self::Json(command) => match command {
                JsonCommand::Get { key, .. }
                | JsonCommand::Version { key }
                | JsonCommand::Exists { key }
                | JsonCommand::Create { key, .. }
                | JsonCommand::Set { key, .. }
                | JsonCommand::CompareAndSet { key, .. }
                | JsonCommand::Patch { key, .. }
                | JsonCommand::Merge { key, .. }
                | JsonCommand::Push { key, .. }
                | JsonCommand::DeleteAt { key, .. }
                | JsonCommand::Delete { key } => Some((Space::Json, key)),
                JsonCommand::List { .. } => None,
            },
            Self::Event(_) | Self::Trace(_) | Self::Run(_) => None,
        }
    }

    /// The spaces of its run that it may read and that what is elsewhere does not replace.
    pub(crate) const fn spaces(&self) -> &'static [Space] {
        match self {
            Self::Kv(_) if self.is_read() => &[Space::Kv],
            Self::Kv(_) => &[Space::Kv, Space::Run],
            Self::Event(_) => &[Space::Event, Space::EventType, Space::Run],
            Self::State(_) => &[Space::State, Space::Run],
            Self::Trace(_) => &[Space::Trace, Space::TraceKind, Space::TraceTag, Space::TraceChild, Space::Run],
            Self::Json(_) if self.is_read() => &[Space::Json],
            Self::Json(_) => &[Space::Json, Space::Run],
            Self::Run(RunCommand::Delete) => {
                &[Space::Run, Space::Kv, Space::Event, Space::State, Space::Trace, Space::Json]
            }
            Self::Run(_) => {
                const SPACES: &[Space] = &[
                    Space::Run,
                    Space::RunName,
                    Space::RunAll,
                    Space::RunStatus,
                    Space::RunTag,
                    Space::RunChild,
                    Space::RunHistory,
                ];
                SPACES
            }
        }
    }

    /// Whether it only reads.
    pub(crate) const fn is_read(&self) -> bool {
        match self {
            Self::Kv(command) => matches!(
                command,
                KvCommand::Get { .. }
                    | KvCommand::GetVersioned { .. }
                    | KvCommand::GetMany { .. }
                    | KvCommand::Exists { .. }
                    | KvCommand::History { .. }
                    | KvCommand::List { .. }
                    | KvCommand::ListWithValues { .. }
                    | KvCommand::Count { .. }
                    | KvCommand::Scan(_)
            ),
            Self::Event(command) => !matches!(command, EventCommand::Append { .. } | EventCommand::AppendMany { .. }),
            Self::State(command) => {
                matches!(command, StateCommand::Read { .. } | StateCommand::Exists { .. } | StateCommand::List)
            }
            Self::Trace(command) => !matches!(command, TraceCommand::Record { .. }),
            Self::Json(command) => matches!(
                command,
                JsonCommand::Get { .. }
                    | JsonCommand::Version { .. }
                    | JsonCommand::Exists { .. }
                    | JsonCommand::List { .. }
            ),
            Self::Run(command) => {
                matches!(
                    command,
                    RunCommand::Get
                        | RunCommand::Records { .. }
                        | RunCommand::Commits { .. }
                        | RunCommand::Explain { .. }
                        | RunCommand::State { .. }
                        | RunCommand::LookUpName { .. }
                        | RunCommand::List(_)
                )
            }
        }
    }

    /// Whether it takes away and adds nothing.
    pub(crate) const fn is_delete(&self) -> bool {
        matches!(
            self,
            Self::Kv(KvCommand::Delete { .. } | KvCommand::DeleteMany { .. })
                | Self::State(StateCommand::Delete { .. })
                | Self::Json(JsonCommand::DeleteAt { .. } | JsonCommand::Delete { .. })
                | Self::Run(RunCommand::Delete | RunCommand::ReleaseName { .. })
        )
    }

    /// The most bytes that it logs beside what it finds, which only changes of a run's metadata log again.
    pub(crate) fn logged_bytes(&self) -> usize {
        const WRITE: usize = 176;
        const RECORD: usize = 304;
        let texts = |texts: &[String]| texts.iter().map(|text| text.len() + 8).sum::<usize>();
        match self {
            Self::Kv(command) => match command {
                KvCommand::Put { key, value, .. } | KvCommand::CompareAndPut { key, value, .. } => {
                    WRITE + key.len() + value.weight()
                }
                KvCommand::PutMany { pairs } => {
                    pairs.iter().map(|(key, value)| WRITE + key.len() + value.weight()).sum()
                }
                KvCommand::Delete { key } => WRITE + key.len(),
                KvCommand::DeleteMany { keys } => keys.iter().map(|key| WRITE + key.len()).sum(),
                _ => 0,
            },
            Self::Event(command) => match command {
                EventCommand::Append { event_type, payload, .. } => RECORD + event_type.len() + payload.weight(),
                EventCommand::AppendMany { events } => {
                    events.iter().map(|(event_type, payload)| RECORD + event_type.len() + payload.weight()).sum()
                }
                _ => 0,
            },
            Self::State(command) => match command {
                StateCommand::Init { name, value }
                | StateCommand::Set { name, value }
                | StateCommand::CompareAndSwap { name, value, .. } => WRITE + name.len() + value.weight(),
                StateCommand::Increment { name, .. } | StateCommand::Delete { name } => WRITE + name.len(),
                _ => 0,
            },
            Self::Trace(TraceCommand::Record { trace, .. }) => {
                RECORD + texts(&trace.tags) + trace.metadata.weight() + trace.trace_type.weight()
            }
            Self::Trace(_) => 0,
            Self::Json(command) => match command {
                JsonCommand::Create { key, document: value } => WRITE + key.len() + value.size().weight(),
                JsonCommand::Set { key, path, value }
                | JsonCommand::CompareAndSet { key, path, value, .. }
                | JsonCommand::Push { key, path, value } => WRITE + key.len() + path.weight() + value.size().weight(),
                JsonCommand::Patch { key, operations } => {
                    WRITE + key.len() + operations.iter().map(JsonOperation::logged_bytes).sum::<usize>()
                }
                JsonCommand::Merge { key, patch } => WRITE + key.len() + patch.merge_weight(0),
                JsonCommand::DeleteAt { key, path } => WRITE + key.len() + path.weight(),
                JsonCommand::Delete { key } => WRITE + key.len(),
                _ => 0,
            },
            Self::Run(command) => match command {
                RunCommand::Create(run) => 2 * RECORD + 2 * run.name.len() + texts(&run.tags) + run.metadata.weight(),
                RunCommand::Adopt { held } => {
                    held.iter().map(|held| WRITE + held.name.len() + held.stored.weight()).sum()
                }
                RunCommand::UpdateStatus { error, .. } => RECORD + error.as_ref().map_or(0, String::len),
                RunCommand::AddTags { tags } => RECORD + texts(tags),
                RunCommand::UpdateMetadata { metadata } => RECORD + metadata.weight(),
                RunCommand::ClaimName { name, .. } | RunCommand::ReleaseName { name, .. } => RECORD + name.len(),
                _ => RECORD,
            },
        }
    }
}
