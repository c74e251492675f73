//! The database that a command looks at, and the run that it means.

use std::path::{Path, PathBuf};

use clap::Args;
use in_mem::blocking::{Database, Driver, Error, ReplayView, RunId};

use crate::failure::Failure;

/// Where the database is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The directory of the database
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
}

/// What commands share: nothing, or in a shell the open database.
#[derive(Debug, Default)]
pub(crate) struct Session {
    held: Option<Database>,
}

impl Session {
    /// Opens a database once for many commands.
    pub(crate) fn hold(place: &Place) -> Result<Self, Failure> {
        Ok(Self { held: Some(Self::default().open(place)?) })
    }

    /// Whether other commands follow, as in a shell.
    pub(crate) const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Opens a database to read it.
    pub(crate) fn open(&self, place: &Place) -> Result<Database, Failure> {
        self.try_open(place).map_err(|error| Failure::Failed(error.to_string()))
    }

    /// Opens a database to read one of its runs.
    pub(crate) fn open_run(&self, place: &Place, which: &str) -> Result<(Database, RunId), Failure> {
        let database = self.open(place)?;
        let run = find_run(&database, which)?;
        Ok((database, run))
    }

    /// Rebuilds a run from its history, up to a version if one is given.
    pub(crate) fn replay(&self, place: &Place, which: &str, until: Option<u64>) -> Result<ReplayView, Failure> {
        let (database, run) = self.open_run(place, which)?;
        Ok(match until {
            Some(until) => database.replay_run_until(run, until.into())?,
            None => database.replay_run(run)?,
        })
    }

    /// Opens a database, for who looks at why that failed.
    pub(crate) fn try_open(&self, place: &Place) -> Result<Database, Error> {
        match &self.held {
            Some(database) => Ok(database.clone()),
            None => open(&place.path),
        }
    }
}

/// Opens a database to read it, whether or not another process has it open. What is kept of it is all that can be, for a copy.
fn open(path: &Path) -> Result<Database, Error> {
    Database::builder().path(path).read_only(true).driver(Driver::Threads).spin(None).lineage(true).open()
}

/// The run that somebody means: by its id, its name, or a part of its id that no other run has.
pub(crate) fn find_run(database: &Database, which: &str) -> Result<RunId, Failure> {
    const SHORTEST: usize = 4;
    let id = RunId::parse(which).ok();
    if let Some(run) = database.runs().get_run(which)? {
        return Ok(run.run_id);
    }
    // Runs that nobody began are in no list.
    if let Some(id) = id.filter(|id| holds_anything(database, *id)) {
        return Ok(id);
    }
    let part = which.to_ascii_lowercase();
    let is_meant = |id: &RunId| {
        let text = id.to_string();
        part.len() >= SHORTEST && (text.starts_with(&part) || text.ends_with(&part))
    };
    let found: Vec<RunId> = database.runs().list_runs()?.into_iter().map(|run| run.run_id).filter(is_meant).collect();
    match found[..] {
        [run] => Ok(run),
        [] => Err(Failure::Usage(format!("there is no such run, `in-mem runs` lists them: run={which}"))),
        _ => Err(Failure::Usage(format!("{} runs could be meant, give more of the id: run={which}", found.len()))),
    }
}

/// Whether there is anything of a run, begun or not: a run of which not all history is kept cannot be rebuilt, but is there.
pub(crate) fn holds_anything(database: &Database, run: RunId) -> bool {
    !matches!(database.replay_run(run), Err(Error::KeyNotFound(_)))
}
