//! Forks: a run that begins as another one was.
//!
//! - The child is made in one transaction: it is there with everything, or not at all.
//! - What it begins with is shared with the parent in memory; in the log it is the child's own.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::database::Database;
use super::op::{Op, read};
use super::replay::state_on;
use super::run_handle::RunHandle;
use super::run_index::beginning;
use super::run_names::{make, shards_of};
use super::transacting::{Bounds, Transacting, until_it_wins};
use crate::base::error::{Error, Result};
use crate::base::run::RunOptions;
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::version::Version;
use crate::primitive::command::{Command, Held, RunCommand};
use crate::runtime::engine::Engine;

/// How many bytes one step of the transaction carries, unless a single key is heavier.
const STEP_BYTES: usize = 1 << 20;

impl Database {
    /// Makes a run that begins as another one was at a version, or is now: with its pairs, events, states, traces and
    /// documents, its tags and metadata, and that run as its parent; but without pairs that have expired since. It is active, and its first commit made all of it.
    ///
    /// # Errors
    /// `KeyNotFound` if there is no such run or it was deleted, `AlreadyExists` if another run has the name,
    /// `InvalidOperation` for an empty name, a version in the future, or one at which not everything is kept any more, as of a
    /// run that was deleted later,
    /// `LimitExceeded` if the run is larger than a transaction may be, `Unavailable`, `CommitUnknown`.
    ///
    /// # Cancel safety
    /// Made with everything or not at all.
    pub fn fork_run(&self, run: impl Borrow<RunId>, at: Option<Version>, name: impl AsRef<str>) -> Op<RunHandle> {
        let (database, parent) = (self.clone(), *run.borrow());
        let name = Some(name.as_ref().to_owned());
        Op::steps(async move {
            let engine = database.engine();
            let mut origin = Origin::read(engine, parent, at).await?;
            origin.options.name = name;
            let (child, own_name, new) = beginning(origin.options)?;
            let steps = steps_for(engine, child, origin.held);
            until_it_wins(engine.clone(), Bounds::default(), async |transacting| {
                make(engine, &transacting, child, own_name.as_deref(), &new).await?;
                for (shard, held) in steps.clone() {
                    let adopt = Command::Run(RunCommand::Adopt { held });
                    Op::call(transacting.step_on(shard, child, adopt), read!(Unit => ())).await?;
                }
                Ok::<_, Error>(())
            })
            .await?;
            Ok(RunHandle::new(&database, child))
        })
    }
}

/// What a run was.
struct Origin {
    options: RunOptions,
    held: Vec<Held>,
}

impl Origin {
    async fn read(engine: &Arc<Engine>, run: RunId, at: Option<Version>) -> Result<Self> {
        let transacting = Transacting::new(engine.clone());
        transacting.begin(engine.shard_of(&run), at).await?;
        let mut origin = Self { options: RunOptions { parent: Some(run), ..RunOptions::default() }, held: Vec::new() };
        let mut is_known = false;
        for shard in shards_of(engine, run) {
            for (_, write) in state_on(&transacting, shard, run).await? {
                is_known = true;
                origin.add(write);
            }
        }
        if is_known { Ok(origin) } else { Err(Error::KeyNotFound(format!("run: run={run}"))) }
    }

    fn add(&mut self, write: Write) {
        let Write::Put { space, name, stored, expires, .. } = write else { return };
        match stored {
            Stored::Run(metadata) => {
                self.options.tags.clone_from(&metadata.tags);
                self.options.metadata = metadata.metadata.clone();
            }
            Stored::Retention(history) => self.options.history = Some(history),
            Stored::RunEnded(_) => {}
            stored => self.held.push(Held { space, name, stored, expires }),
        }
    }
}

/// Which shards are given what, in the order of the keys.
fn steps_for(engine: &Engine, run: RunId, held: Vec<Held>) -> Vec<(usize, Vec<Held>)> {
    let mut steps = Vec::new();
    let mut filling: BTreeMap<usize, (usize, Vec<Held>)> = BTreeMap::new();
    for held in held {
        let shard = engine.setup().layout.shard_of_key(&run, held.space, &held.name);
        let (bytes, step) = filling.entry(shard).or_default();
        *bytes += held.name.len() + held.stored.weight();
        step.push(held);
        if *bytes >= STEP_BYTES {
            *bytes = 0;
            steps.push((shard, std::mem::take(step)));
        }
    }
    steps.extend(filling.into_iter().map(|(shard, (_, step))| (shard, step)).filter(|(_, step)| !step.is_empty()));
    steps
}
