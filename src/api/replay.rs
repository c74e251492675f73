//! Replay: a run rebuilt from its history.
//!
//! - A view holds all it shows: it reads nothing from the database, and what is committed later does not change it.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::database::Database;
use super::event_log::RunEvents;
use super::json_store::RunJson;
use super::kv_store::RunKv;
use super::op::{Op, read};
use super::run_names::shards_of;
use super::scope::{Replayed, Scope};
use super::state_cell::RunStates;
use super::trace_store::RunTraces;
use super::transacting::Transacting;
use crate::base::error::{Error, Result};
use crate::base::event::Event;
use crate::base::key::{Name, Space, unit_name};
use crate::base::run::RunMetadata;
use crate::base::run_id::RunId;
use crate::base::state::State;
use crate::base::stored::{Stored, Write};
use crate::base::trace::Trace;
use crate::base::value::Value;
use crate::base::version::Version;
use crate::primitive::command::{Command, RunCommand};
use crate::primitive::diff::Side;
use crate::primitive::history::{Records, left_by, replay, writes_of};
use crate::runtime::engine::Engine;

impl Database {
    /// Rebuilds a run from its history, commit by commit, as it was after the last of them.
    ///
    /// Reads the records of this run only, and writes nothing. The same history gives the same view on every machine, on
    /// however many shards. All of it is held in memory while the view lives.
    ///
    /// # Errors
    /// `KeyNotFound` if there is no such run, or it was deleted; `InvalidOperation` if not all of its history is kept;
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn replay_run(&self, run: impl Borrow<RunId>) -> Op<ReplayView> {
        ReplayView::replay(self.engine().clone(), *run.borrow(), None)
    }

    /// Rebuilds a run from its history as it was at a version.
    ///
    /// # Errors
    /// `InvalidOperation` for a version in the future; those of [`replay_run`](Self::replay_run).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn replay_run_until(&self, run: impl Borrow<RunId>, version: Version) -> Op<ReplayView> {
        ReplayView::replay(self.engine().clone(), *run.borrow(), Some(version))
    }
}

/// A run rebuilt from its history: all of its primitives as they were, to read, and how it came to that.
#[derive(Clone)]
pub struct ReplayView {
    scope: Scope,
    replayed: Arc<Replayed>,
    commits: Arc<[(Version, Vec<Write>)]>,
    records: u64,
    bytes: u64,
}

/// One commit of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its version.
    pub version: Version,
    /// What it changed in the run, each key once, in a fixed order: pairs, events, states, traces, metadata, documents, each by name.
    pub changes: Vec<Change>,
}

/// What a commit changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// A key-value pair was put; `None`: deleted.
    Kv {
        /// The key.
        key: String,
        /// What it holds from then on.
        value: Option<Value>,
    },
    /// An event was appended.
    Event(Event),
    /// A state cell was set; `None`: deleted.
    State {
        /// The cell.
        name: String,
        /// What it holds from then on.
        state: Option<State>,
    },
    /// A trace was recorded.
    Trace(Trace),
    /// A JSON document was made or changed; `None`: deleted.
    Json {
        /// The key.
        key: String,
        /// The whole document from then on.
        document: Option<serde_json::Value>,
    },
    /// The run was begun, or what is known about it changed.
    Run(RunMetadata),
}

impl ReplayView {
    pub(crate) fn replay(engine: Arc<Engine>, run: RunId, until: Option<Version>) -> Op<Self> {
        Op::steps(async move {
            let transacting = Transacting::new(engine.clone());
            let current = transacting.begin(engine.shard_of(&run), None).await?;
            if let Some(until) = until.filter(|until| *until > current) {
                let reason = "a version in the future cannot be replayed";
                return Err(Error::InvalidOperation(format!("{reason}: version={until} current={current}")));
            }
            let records = records_of(&engine, &transacting, run).await?;
            Self::of(engine, run, records, until)
        })
    }

    /// The view of what all shards hold of a run.
    pub(crate) fn of(engine: Arc<Engine>, run: RunId, mut records: Records, until: Option<Version>) -> Result<Self> {
        let (revisions, bytes) = records.size();
        let commits = records.commits_until(until.unwrap_or(Version::MAX));
        let last = commits.last().map_or(Version::ZERO, |(version, _)| *version);
        let replayed = Arc::new(Replayed { memory: replay(&commits)?, version: until.unwrap_or(last) });
        let scope = Scope::of_replay(engine, run, Arc::clone(&replayed));
        Ok(Self { scope, replayed, commits: commits.into(), records: revisions, bytes })
    }

    /// The run.
    #[must_use]
    pub const fn run(&self) -> RunId {
        self.scope.run()
    }

    /// What the run held at a version, without what is derived.
    pub(super) fn state(&self, at: Version) -> Vec<(Version, Write)> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.replayed.memory.state_of(self.run(), after, at);
            all.extend(page.pieces.into_iter().flat_map(writes_of));
            after = page.last;
            if after.is_none() {
                return all;
            }
        }
    }

    /// The version that is shown: that of the last commit, or the one that was asked for.
    #[must_use]
    pub fn version(&self) -> Version {
        self.replayed.version
    }

    /// The run's key-value pairs.
    #[must_use]
    pub fn kv(&self) -> RunKv {
        RunKv::new(self.scope.clone())
    }

    /// The run's event log.
    #[must_use]
    pub fn events(&self) -> RunEvents {
        RunEvents::new(self.scope.clone())
    }

    /// The run's state cells.
    #[must_use]
    pub fn states(&self) -> RunStates {
        RunStates::new(self.scope.clone())
    }

    /// The run's traces.
    #[must_use]
    pub fn traces(&self) -> RunTraces {
        RunTraces::new(self.scope.clone())
    }

    /// The run's JSON documents.
    #[must_use]
    pub fn json(&self) -> RunJson {
        RunJson::new(self.scope.clone())
    }

    /// What was known about the run; `None` if nobody had begun it.
    #[must_use]
    pub fn metadata(&self) -> Option<RunMetadata> {
        let newest = self.replayed.memory.at(&self.run(), Space::Run, &unit_name(), self.version())?;
        match &newest.stored {
            Some(Stored::Run(metadata)) => Some(RunMetadata::clone(metadata)),
            _ => None,
        }
    }

    /// The commits of the run, one at a time, in order, and what each of them changed.
    #[must_use]
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = Step> + ExactSizeIterator + '_ {
        self.commits.iter().map(|commit| self.step_of(commit))
    }

    /// The step after so many others.
    pub(crate) fn step(&self, index: usize) -> Option<Step> {
        self.commits.get(index).map(|commit| self.step_of(commit))
    }

    fn step_of(&self, (version, writes): &(Version, Vec<Write>)) -> Step {
        let document = |name: &Name| self.replayed.memory.at(&self.run(), Space::Json, name, *version);
        let changes = left_by(writes).filter_map(|write| match write {
            Write::EditJson { name, .. } => change_of(name, document(name)?.stored.as_ref()?),
            Write::Put { name, stored, .. } => change_of(name, stored),
            Write::Delete { space: Space::Kv, name, .. } => Some(Change::Kv { key: text(name), value: None }),
            Write::Delete { space: Space::Json, name, .. } => Some(Change::Json { key: text(name), document: None }),
            Write::Delete { .. } | Write::DeleteRun { .. } => None,
        });
        Step { version: *version, changes: changes.collect() }
    }

    /// All of it, to be compared with another.
    pub(crate) fn side(&self) -> Side<'_> {
        Side { run: self.run(), memory: &self.replayed.memory, version: self.version(), commits: &self.commits }
    }

    /// A SHA-256 over all commits, in order, and everything they changed: two histories with the same digest are the same.
    ///
    /// # Errors
    /// `Serialization` if a record cannot be encoded.
    pub fn digest(&self) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        for commit in self.commits.iter() {
            let bytes = postcard::to_stdvec(commit)
                .map_err(|error| Error::Serialization(format!("a record cannot be encoded: reason={error}")))?;
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(&bytes);
        }
        Ok(hash.finalize().into())
    }

    /// How many records were read to rebuild the run: one for every key that a commit changed.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// About how many bytes they take.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The records of a run at a transaction's snapshot.
pub(crate) async fn records_of(engine: &Arc<Engine>, transacting: &Transacting, run: RunId) -> Result<Records> {
    let mut records = Records::default();
    for shard in shards_of(engine, run) {
        records.join(records_on(transacting, shard, run).await?);
    }
    if records.size().0 == 0 {
        return Err(Error::KeyNotFound(format!("run: run={run}")));
    }
    Ok(records)
}

/// Those that a shard holds.
pub(super) async fn records_on(transacting: &Transacting, shard: usize, run: RunId) -> Result<Records> {
    let (mut records, mut after) = (Records::default(), None);
    loop {
        let call = transacting.step_on(shard, run, Command::Run(RunCommand::Records { after }));
        let page = Op::call(call, read!(Records(page) => *page)).await?;
        after = records.add(page);
        if after.is_none() {
            return Ok(records);
        }
    }
}

/// What a shard holds of a run at a transaction's snapshot.
pub(super) async fn state_on(transacting: &Transacting, shard: usize, run: RunId) -> Result<Vec<(Version, Write)>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let call = transacting.step_on(shard, run, Command::Run(RunCommand::State { after }));
        let page = Op::call(call, read!(Records(page) => *page)).await?;
        all.extend(page.pieces.into_iter().flat_map(writes_of));
        after = page.last;
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// What somebody put under a name, if a user can see it.
fn change_of(name: &[u8], stored: &Stored) -> Option<Change> {
    match stored {
        Stored::Value(value) => Some(Change::Kv { key: text(name), value: Some(value.to_value()) }),
        Stored::Event(event) => Some(Change::Event(Event::clone(event))),
        Stored::State(state) => Some(Change::State { name: text(name), state: Some(State::clone(state)) }),
        Stored::DeletedState(_) => Some(Change::State { name: text(name), state: None }),
        Stored::Trace(trace) => Some(Change::Trace(Trace::clone(trace))),
        Stored::Json(document) => Some(Change::Json { key: text(name), document: Some(document.root.to_value()) }),
        Stored::Run(metadata) => Some(Change::Run(RunMetadata::clone(metadata))),
        _ => None,
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

impl fmt::Debug for ReplayView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayView")
            .field("run", &self.run())
            .field("version", &self.version())
            .field("commits", &self.commits.len())
            .finish_non_exhaustive()
    }
}
