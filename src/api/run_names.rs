//! The names of runs: unique in the database, though a name and its run may live on different shards.
//!
//! - A run's name never changes, and an id is good for one run: one that was deleted or forbidden is never made again.
//! - A name that is the text of its run's id needs no claim, for no other run can have it. Every other name is claimed
//!   on the name's shard first, and then the run is made on its own shard: a run that exists holds its name.
//! - A claim whose run does not exist, or exists under another name, is *void*. It stands for nothing: looking up its
//!   name finds no run, and whoever wants the name may replace it. Before it is replaced or released it is void for
//!   good: the run exists under another name, or was deleted, or has been forbidden so that it can never be made.
//! - So a future dropped between the steps leaves a run with its name, or a void claim, or a deleted run with a void
//!   claim; never a run without its name, or two runs with one.
//! - In `Buffered` mode a crash may take back what was acknowledged, on one shard and not on another. A step that relies
//!   on a step on another shard waits until that one is on disk.
//!
//! Example: A claims `n` for run 1. B wants `n` for run 2, finds the claim of run 1 and no run 1, and forbids it. If A
//! made run 1 before that, B hears of it: the name is taken. If not, A is refused, because run 1 counts as deleted, and
//! B replaces the claim.

use std::sync::Arc;

use super::op::{Op, read};
use super::turn::let_others_run;
use crate::base::error::{Error, Result};
use crate::base::options::DurabilityMode;
use crate::base::run::RunMetadata;
use crate::base::run_id::RunId;
use crate::primitive::command::{Command, RunCommand};
use crate::runtime::engine::Engine;
use crate::shard::input::Request;

/// How many ids, and how many void claims, one creation goes through.
const ATTEMPTS: usize = 16;
/// How often the run of a claim is looked for before it is forbidden: somebody may be just about to make it.
const PATIENCE: usize = 8;

/// The run with this id.
pub(crate) async fn find(engine: &Arc<Engine>, run: RunId) -> Result<Option<Arc<RunMetadata>>> {
    Op::call(engine.command(run, Command::Run(RunCommand::Get)), read!(MaybeRun(run) => run)).await
}

/// The run with this name, which is not the text of an id.
pub(crate) async fn look_up(engine: &Arc<Engine>, name: &str) -> Result<Option<Arc<RunMetadata>>> {
    let command = Command::Run(RunCommand::LookUpName { name: name.into() });
    let call = engine.directory(engine.shard_of_name(name), command, None);
    match Op::call(call, read!(MaybeRunId(holder) => holder)).await? {
        Some(holder) => Ok(find(engine, holder).await?.filter(|run| run.name == name)),
        None => Ok(None),
    }
}

/// Makes a run with a name that is not the text of an id. `create` is its `Create` command.
pub(crate) async fn create(
    engine: Arc<Engine>,
    id: Option<RunId>,
    name: String,
    create: RunCommand,
) -> Result<RunMetadata> {
    for _ in 0..ATTEMPTS {
        let run = id.unwrap_or_else(RunId::new);
        claim(&engine, &name, run).await?;
        settle(&engine, engine.shard_of_name(&name), engine.shard_of(&run)).await?;
        let call = engine.command(run, Command::Run(create.clone()));
        match Op::call(call, read!(Run(run) => Arc::unwrap_or_clone(run))).await {
            // Deleted, or forbidden by somebody who saw the claim before there was a run.
            Err(Error::InvalidOperation(_)) if id.is_none() => release(&engine, &name, run).await?,
            Err(error @ Error::InvalidOperation(_)) => {
                release(&engine, &name, run).await?;
                return Err(error);
            }
            Err(error @ Error::AlreadyExists(_)) => {
                if find(&engine, run).await?.is_none_or(|known| known.name != name) {
                    release(&engine, &name, run).await?;
                }
                return Err(error);
            }
            // After any other failure the run may still be made by somebody who makes it under the same name.
            result => return result,
        }
    }
    Err(contended(&name))
}

/// Makes a run the holder of a name, unless a run that exists holds it.
async fn claim(engine: &Arc<Engine>, name: &str, id: RunId) -> Result<()> {
    let shard = engine.shard_of_name(name);
    let mut replaces = None;
    for _ in 0..ATTEMPTS {
        let command = Command::Run(RunCommand::ClaimName { name: name.into(), id, replaces });
        let call = engine.directory(shard, command, None);
        let Some(holder) = Op::call(call, read!(MaybeRunId(holder) => holder)).await? else { return Ok(()) };
        if !is_void(engine, name, holder).await? {
            return Err(Error::AlreadyExists(format!("run: name={name:?} run={holder}")));
        }
        settle(engine, engine.shard_of(&holder), shard).await?;
        replaces = Some(holder);
    }
    Err(contended(name))
}

/// Whether a claim on a name is void; if it is, it is void for good from now on.
async fn is_void(engine: &Arc<Engine>, name: &str, holder: RunId) -> Result<bool> {
    for _ in 0..PATIENCE {
        if let Some(run) = find(engine, holder).await? {
            return Ok(run.name != name);
        }
        let_others_run().await;
    }
    let call = engine.command(holder, Command::Run(RunCommand::Forbid));
    let exists = Op::call(call, read!(Flag(exists) => exists)).await?;
    // A run that existed just now and does not any more was deleted.
    Ok(!exists || find(engine, holder).await?.is_none_or(|run| run.name != name))
}

/// Gives up a claim that is void for good.
async fn release(engine: &Arc<Engine>, name: &str, id: RunId) -> Result<()> {
    let shard = engine.shard_of_name(name);
    settle(engine, engine.shard_of(&id), shard).await?;
    let command = Command::Run(RunCommand::ReleaseName { name: name.into(), id });
    Op::call(engine.directory(shard, command, None), read!(Unit => ())).await
}

/// Deletes a run and everything in it, and frees its name.
pub(crate) async fn delete(engine: &Arc<Engine>, run: RunId) -> Result<()> {
    let known = find(engine, run).await?;
    let call = engine.command(run, Command::Run(RunCommand::Delete));
    Op::call(call, read!(Flag(deleted) => deleted)).await?;
    match known {
        Some(known) if known.name != run.to_string() => release(engine, &known.name, run).await,
        _ => Ok(()),
    }
}

/// Waits until what a shard has acknowledged survives a crash, so that the next step, on another shard, may rely on it.
async fn settle(engine: &Arc<Engine>, shard: usize, next: usize) -> Result<()> {
    if shard != next && matches!(engine.setup().mode, DurabilityMode::Buffered { .. }) {
        engine.request(shard, Request::Flush).await?;
    }
    Ok(())
}

fn contended(name: &str) -> Error {
    Error::AlreadyExists(format!("run: name={name:?}, which several others are claiming at this moment"))
}
