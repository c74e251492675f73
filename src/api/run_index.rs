//! Runs: making, finding and ending them.
//!
//! - A run is meant by its id or its name; a name that is the text of an id means the run with that id.
//! - How names stay unique is in `run_names`.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use futures::future::try_join_all;

use super::database::Database;
use super::op::{Op, read};
use super::run_names;
use super::transacting::Transacting;
use crate::base::error::{Error, Result};
use crate::base::limits::{VALUE_BYTES, check_key, check_tags, check_value};
use crate::base::run::{RunMetadata, RunOptions, RunStatus};
use crate::base::run_id::RunId;
use crate::base::value::Value;
use crate::primitive::command::{Command, NewRun, RunCommand, RunFilter};
use crate::primitive::output::Reply;
use crate::runtime::engine::Engine;

/// The runs of a database: their names, statuses, tags and metadata. Guarantee: no two runs have one name, and a run
/// found by its name is the one that has it.
///
/// ```
/// use in_mem::prelude::*;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let db = Database::open_in_memory().await?;
/// let runs = RunIndex::new(&db);
/// let parent = runs.create_run("nightly").await?;
/// runs.create_run_with_options("nightly/1", Some("nightly"), vec!["ci".into()], Value::Null).await?;
/// assert_eq!(runs.children("nightly").await?.len(), 1);
/// assert!(matches!(runs.create_run("nightly").await, Err(Error::AlreadyExists(_))));
///
/// runs.fail_run("nightly/1", "the disk was full").await?;
/// assert_eq!(runs.query_by_status(RunStatus::Failed).await?[0].error.as_deref(), Some("the disk was full"));
/// runs.delete_run(parent.run_id).await?;
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct RunIndex {
    pub(super) database: Database,
}

/// Which run is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunRef {
    /// The one with this name. The text of an id means the run with that id.
    Name(String),
    /// The one with this id.
    Id(RunId),
}

impl RunRef {
    /// The same run, by its id if the name is the text of one.
    fn resolved(self) -> Result<Self> {
        let Self::Name(name) = self else { return Ok(self) };
        if let Ok(id) = RunId::parse(&name) {
            return Ok(Self::Id(id));
        }
        check_key("run name", &name)?;
        Ok(Self::Name(name))
    }
}

impl fmt::Display for RunRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "name={name:?}"),
            Self::Id(id) => write!(f, "run={id}"),
        }
    }
}

impl From<&str> for RunRef {
    fn from(name: &str) -> Self {
        Self::from(name.to_owned())
    }
}

impl From<&String> for RunRef {
    fn from(name: &String) -> Self {
        Self::from(name.to_owned())
    }
}

impl From<String> for RunRef {
    fn from(name: String) -> Self {
        RunId::parse(&name).map_or(Self::Name(name), Self::Id)
    }
}

impl From<RunId> for RunRef {
    fn from(id: RunId) -> Self {
        Self::Id(id)
    }
}

impl From<&RunId> for RunRef {
    fn from(id: &RunId) -> Self {
        Self::Id(*id)
    }
}

/// Makes a run.
pub(crate) fn create(engine: Arc<Engine>, options: RunOptions) -> Op<RunMetadata> {
    let (id, own_name, new) = match beginning(options) {
        Ok(beginning) => beginning,
        Err(error) => return Op::done(Err(error)),
    };
    if own_name.is_some() || new.history.is_some() {
        return Op::steps(run_names::create(engine, id, own_name, new));
    }
    let create = RunCommand::Create(Box::new(new));
    on_id(&engine, id, create, read!(Run(run) => Arc::unwrap_or_clone(run)))
}

/// The id, the name if it is not the id's text, and what is known of the run.
pub(super) fn beginning(options: RunOptions) -> Result<(RunId, Option<String>, NewRun)> {
    let RunOptions { mut id, name, parent, mut tags, metadata, history } = options;
    if id == Some(RunId::DIRECTORY) {
        return Err(Error::InvalidOperation("the nil uuid is not a run id".into()));
    }
    check_tags(&tags)?;
    check_value(&metadata)?;
    let mut own_name = None;
    match name.map(|name| RunRef::from(name).resolved()).transpose()? {
        Some(RunRef::Id(named)) if id.is_some_and(|id| id != named) => {
            let reason = "the name is the text of another run's id, choose another name";
            return Err(Error::InvalidOperation(format!("{reason}: name={named}")));
        }
        Some(RunRef::Id(named)) => id = Some(named),
        Some(RunRef::Name(name)) => own_name = Some(name),
        None => {}
    }
    let mut seen = HashSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    let id = id.unwrap_or_else(RunId::new);
    let name = own_name.clone().unwrap_or_else(|| id.to_string());
    Ok((id, own_name, NewRun { name, parent, tags, metadata, history }))
}

/// What is known about a run.
pub(crate) fn get(engine: Arc<Engine>, which: RunRef) -> Op<Option<RunMetadata>> {
    match which.resolved() {
        Err(error) => Op::done(Err(error)),
        Ok(RunRef::Id(id)) => {
            on_id(&engine, id, RunCommand::Get, read!(MaybeRun(run) => run.map(Arc::unwrap_or_clone)))
        }
        Ok(RunRef::Name(name)) => Op::steps(async move {
            let run = run_names::look_up(&engine, &name).await?;
            Ok(run.map(Arc::unwrap_or_clone))
        }),
    }
}

/// Changes the status of a run.
pub(crate) fn update_status(
    engine: Arc<Engine>,
    which: RunRef,
    to: RunStatus,
    error: Option<String>,
) -> Op<RunMetadata> {
    let bytes = error.as_ref().map_or(0, String::len);
    let fits = bytes <= VALUE_BYTES;
    let checked = if fits { Ok(()) } else { Err(Error::limit("error bytes", VALUE_BYTES, bytes)) };
    match checked.and_then(|()| which.resolved()) {
        Err(error) => Op::done(Err(error)),
        Ok(which) => Op::steps(async move {
            let run = id_of(&engine, &which).await?;
            run_names::update_status(&engine, run, to, error).await
        }),
    }
}

/// The runs that pass a filter, at one snapshot, in the order in which they began.
pub(crate) fn list(engine: Arc<Engine>, filter: RunFilter) -> Op<Vec<RunMetadata>> {
    Op::steps(async move {
        let mut runs = gather(&engine, &filter).await?;
        runs.sort_unstable_by_key(|run| (run.created_at, run.run_id));
        Ok(runs.into_iter().map(Arc::unwrap_or_clone).collect())
    })
}

/// Asks every shard for the runs that pass a filter.
async fn gather(engine: &Arc<Engine>, filter: &RunFilter) -> Result<Vec<Arc<RunMetadata>>> {
    let transacting = Transacting::new(engine.clone());
    transacting.begin(0, None).await?;
    let asked = (0..engine.shards()).map(|shard| {
        let command = Command::Run(RunCommand::List(filter.clone()));
        Op::call(transacting.step_on(shard, RunId::DIRECTORY, command), read!(Runs(runs) => runs))
    });
    Ok(try_join_all(asked).await?.concat())
}

fn on_id<T>(engine: &Arc<Engine>, id: RunId, command: RunCommand, read: fn(Reply) -> Result<T>) -> Op<T> {
    Op::call(engine.command(id, Command::Run(command)), read)
}

/// Changes what is known about a run that exists.
fn change(engine: Arc<Engine>, which: RunRef, checked: Result<()>, command: RunCommand) -> Op<RunMetadata> {
    let changed = read!(Run(run) => Arc::unwrap_or_clone(run));
    match checked.and_then(|()| which.resolved()) {
        Err(error) => Op::done(Err(error)),
        Ok(RunRef::Id(id)) => on_id(&engine, id, command, changed),
        Ok(name) => Op::steps(async move {
            let id = id_of(&engine, &name).await?;
            on_id(&engine, id, command, changed).await
        }),
    }
}

/// The id of the run that is meant; one that is meant by its id need not exist.
async fn id_of(engine: &Arc<Engine>, which: &RunRef) -> Result<RunId> {
    match which {
        RunRef::Id(id) => Ok(*id),
        RunRef::Name(_) => existing(engine, which).await,
    }
}

/// The id of the run that is meant, which exists.
async fn existing(engine: &Arc<Engine>, which: &RunRef) -> Result<RunId> {
    let run = match which {
        RunRef::Id(id) => run_names::find(engine, *id).await?,
        RunRef::Name(name) => run_names::look_up(engine, name).await?,
    };
    run.map(|run| run.run_id).ok_or_else(|| Error::KeyNotFound(format!("run: {which}")))
}

impl RunIndex {
    /// The runs of a database.
    pub fn new(database: impl Into<Database>) -> Self {
        Self { database: database.into() }
    }

    fn engine(&self) -> Arc<Engine> {
        self.database.engine().clone()
    }

    /// Makes a run: active, with a new id. A name that is the text of an id makes the run with that id.
    ///
    /// # Errors
    /// `AlreadyExists` if another run has the name, `InvalidOperation` for an empty name or a run that was deleted,
    /// `LimitExceeded`, `Unavailable`, `CommitUnknown`.
    ///
    /// # Cancel safety
    /// Made or not, never half. If it was not made, the name is as free as before.
    pub fn create_run(&self, name: impl AsRef<str>) -> Op<RunMetadata> {
        create(self.engine(), RunOptions { name: Some(name.as_ref().into()), ..RunOptions::default() })
    }

    /// Makes a run with a parent (the name or the text of the id of a run that exists), tags and metadata. A tag that
    /// is given twice is kept once.
    ///
    /// # Errors
    /// `KeyNotFound` if there is no such parent; those of [`create_run`](Self::create_run).
    ///
    /// # Cancel safety
    /// Made or not, never half. If it was not made, the name is as free as before.
    pub fn create_run_with_options(
        &self,
        name: impl AsRef<str>,
        parent: Option<&str>,
        tags: Vec<String>,
        metadata: impl Into<Value>,
    ) -> Op<RunMetadata> {
        let (engine, name, metadata) = (self.engine(), Some(name.as_ref().into()), metadata.into());
        let options = RunOptions { name, tags, metadata, ..RunOptions::default() };
        match parent.map(|parent| RunRef::from(parent).resolved()).transpose() {
            Err(error) => Op::done(Err(error)),
            Ok(None) => create(engine, options),
            Ok(Some(parent)) => Op::steps(async move {
                let parent = Some(existing(&engine, &parent).await?);
                create(engine, RunOptions { parent, ..options }).await
            }),
        }
    }

    /// Reads what is known about a run; `None` if there is no such run.
    ///
    /// # Errors
    /// `InvalidOperation` or `LimitExceeded` for a name that is empty or too long, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_run(&self, which: impl Into<RunRef>) -> Op<Option<RunMetadata>> {
        get(self.engine(), which.into())
    }

    /// Whether there is such a run. One that was written into and never begun does not count.
    ///
    /// # Errors
    /// Those of [`get_run`](Self::get_run).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn exists(&self, which: impl Into<RunRef>) -> Op<bool> {
        self.get_run(which).then(|run| Ok(run.is_some()))
    }

    /// Lists all runs, at one snapshot, in the order in which they began.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn list_runs(&self) -> Op<Vec<RunMetadata>> {
        list(self.engine(), RunFilter::All)
    }

    /// Counts all runs. Takes time by their number.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn count(&self) -> Op<u64> {
        let engine = self.engine();
        Op::steps(async move { Ok(gather(&engine, &RunFilter::All).await?.len() as u64) })
    }

    /// Lists the runs that came from a run, in the order in which they began. A run that was deleted still has its
    /// children, by its id.
    ///
    /// # Errors
    /// `KeyNotFound` if there is no run with this name; those of [`get_run`](Self::get_run).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn children(&self, which: impl Into<RunRef>) -> Op<Vec<RunMetadata>> {
        let engine = self.engine();
        match which.into().resolved() {
            Err(error) => Op::done(Err(error)),
            Ok(which) => Op::steps(async move {
                let parent = id_of(&engine, &which).await?;
                list(engine, RunFilter::Parent(parent)).await
            }),
        }
    }

    /// Changes the status of a run.
    ///
    /// # Errors
    /// `InvalidStatusTransition` if the run cannot go there from where it is, `KeyNotFound` if there is no such run,
    /// `InvalidOperation` or `LimitExceeded` for a name that is empty or too long, `Unavailable`, `CommitUnknown`.
    ///
    /// # Cancel safety
    /// Changed or not, never half.
    pub fn update_status(&self, which: impl Into<RunRef>, to: RunStatus) -> Op<RunMetadata> {
        update_status(self.engine(), which.into(), to, None)
    }

    /// Ends a run well. It takes no more writes.
    ///
    /// # Errors
    /// Those of [`update_status`](Self::update_status).
    ///
    /// # Cancel safety
    /// Ended or not, never half.
    pub fn complete_run(&self, which: impl Into<RunRef>) -> Op<RunMetadata> {
        self.update_status(which, RunStatus::Completed)
    }

    /// Ends a run with an error. It takes no more writes.
    ///
    /// # Errors
    /// `LimitExceeded` for an error larger than a value may be; those of [`update_status`](Self::update_status).
    ///
    /// # Cancel safety
    /// Ended or not, never half.
    pub fn fail_run(&self, which: impl Into<RunRef>, error: impl Into<String>) -> Op<RunMetadata> {
        update_status(self.engine(), which.into(), RunStatus::Failed, Some(error.into()))
    }

    /// Pauses a run. It still takes writes.
    ///
    /// # Errors
    /// Those of [`update_status`](Self::update_status).
    ///
    /// # Cancel safety
    /// Paused or not, never half.
    pub fn pause_run(&self, which: impl Into<RunRef>) -> Op<RunMetadata> {
        self.update_status(which, RunStatus::Paused)
    }

    /// Makes a paused run active again.
    ///
    /// # Errors
    /// Those of [`update_status`](Self::update_status).
    ///
    /// # Cancel safety
    /// Active or not, never half.
    pub fn resume_run(&self, which: impl Into<RunRef>) -> Op<RunMetadata> {
        self.update_status(which, RunStatus::Active)
    }

    /// Ends a run by somebody's wish. It takes no more writes.
    ///
    /// # Errors
    /// Those of [`update_status`](Self::update_status).
    ///
    /// # Cancel safety
    /// Ended or not, never half.
    pub fn cancel_run(&self, which: impl Into<RunRef>) -> Op<RunMetadata> {
        self.update_status(which, RunStatus::Cancelled)
    }

    /// Puts a run away for good. It takes no more writes and no other status.
    ///
    /// # Errors
    /// Those of [`update_status`](Self::update_status).
    ///
    /// # Cancel safety
    /// Archived or not, never half.
    pub fn archive_run(&self, which: impl Into<RunRef>) -> Op<RunMetadata> {
        self.update_status(which, RunStatus::Archived)
    }

    /// Adds tags to a run, ended or not. Those it has already are left out.
    ///
    /// # Errors
    /// `KeyNotFound` if there is no such run, `InvalidOperation` for an empty tag, `LimitExceeded`, `Unavailable`,
    /// `CommitUnknown`.
    ///
    /// # Cancel safety
    /// All added or none.
    pub fn add_tags(&self, which: impl Into<RunRef>, tags: Vec<String>) -> Op<RunMetadata> {
        change(self.engine(), which.into(), check_tags(&tags), RunCommand::AddTags { tags })
    }

    /// Removes tags from a run, ended or not. Those it does not have are left out.
    ///
    /// # Errors
    /// Those of [`add_tags`](Self::add_tags).
    ///
    /// # Cancel safety
    /// All removed or none.
    pub fn remove_tags(&self, which: impl Into<RunRef>, tags: Vec<String>) -> Op<RunMetadata> {
        change(self.engine(), which.into(), check_tags(&tags), RunCommand::RemoveTags { tags })
    }

    /// Replaces the metadata of a run, ended or not.
    ///
    /// # Errors
    /// `KeyNotFound` if there is no such run, `LimitExceeded`, `Unavailable`, `CommitUnknown`.
    ///
    /// # Cancel safety
    /// Replaced or not, never half.
    pub fn update_metadata(&self, which: impl Into<RunRef>, metadata: impl Into<Value>) -> Op<RunMetadata> {
        let metadata = metadata.into();
        change(self.engine(), which.into(), check_value(&metadata), RunCommand::UpdateMetadata { metadata })
    }

    /// Lists the runs with a status, at one snapshot, in the order in which they began.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn query_by_status(&self, status: RunStatus) -> Op<Vec<RunMetadata>> {
        list(self.engine(), RunFilter::Status(status))
    }

    /// Lists the runs with a tag, at one snapshot, in the order in which they began.
    ///
    /// # Errors
    /// `InvalidOperation` or `LimitExceeded` for a tag that is empty or too long, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn query_by_tag(&self, tag: impl AsRef<str>) -> Op<Vec<RunMetadata>> {
        let tag = tag.as_ref().to_owned();
        match check_tags(std::slice::from_ref(&tag)) {
            Ok(()) => list(self.engine(), RunFilter::Tag(tag)),
            Err(error) => Op::done(Err(error)),
        }
    }

    /// Deletes a run and everything in it at once. Its id can never be used again; its name can.
    ///
    /// # Errors
    /// `KeyNotFound` if there is no such run and nothing was written under its id, `Unavailable`, `CommitUnknown`.
    ///
    /// # Cancel safety
    /// Deleted or not, never half. If it was deleted, its name is free.
    pub fn delete_run(&self, which: impl Into<RunRef>) -> Op<()> {
        let engine = self.engine();
        match which.into().resolved() {
            Err(error) => Op::done(Err(error)),
            Ok(which) => Op::steps(async move {
                let run = id_of(&engine, &which).await?;
                run_names::delete(&engine, run).await
            }),
        }
    }
}
