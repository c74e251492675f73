//! The names of runs: unique in the database, though a name and its run may live on different shards.
//!
//! - A run's name never changes, and an id is good for one run: one that was deleted is never made again.
//! - A name that is the text of its run's id needs no entry, for no other run can have it. Every other name has one on
//!   the name's shard, made and deleted in one transaction with the run.

use std::sync::Arc;

use super::op::{Op, read};
use super::transacting::{Bounds, Transacting, until_it_wins};
use crate::base::error::{Error, Result};
use crate::base::options::Partitioning;
use crate::base::run::{RunMetadata, RunStatus};
use crate::base::run_id::RunId;
use crate::primitive::command::{Command, NewRun, RunCommand};
use crate::runtime::engine::Engine;

/// The run with this id.
pub(crate) async fn find(engine: &Arc<Engine>, run: RunId) -> Result<Option<Arc<RunMetadata>>> {
    Op::call(engine.command(run, Command::Run(RunCommand::Get)), read!(MaybeRun(run) => run)).await
}

/// The run with this name, which is not the text of an id.
pub(crate) async fn look_up(engine: &Arc<Engine>, name: &str) -> Result<Option<Arc<RunMetadata>>> {
    let transacting = Transacting::new(engine.clone());
    let command = Command::Run(RunCommand::LookUpName { name: name.into() });
    let call = transacting.step_on(engine.shard_of_name(name), RunId::DIRECTORY, command);
    match Op::call(call, read!(MaybeRunId(holder) => holder)).await? {
        Some(holder) => known(&transacting, holder).await,
        None => Ok(None),
    }
}

/// What a transaction knows about a run.
async fn known(transacting: &Transacting, run: RunId) -> Result<Option<Arc<RunMetadata>>> {
    Op::call(transacting.step(run, Command::Run(RunCommand::Get)), read!(MaybeRun(run) => run)).await
}

/// Makes a run. `name` is the one to hold, if it is not the text of the run's id. Where its keys are spread, every shard
/// hears of a history of its own.
pub(crate) async fn create(engine: Arc<Engine>, run: RunId, name: Option<String>, new: NewRun) -> Result<RunMetadata> {
    until_it_wins(engine.clone(), Bounds::default(), async |transacting| {
        make(&engine, &transacting, run, name.as_deref(), &new).await
    })
    .await
}

/// The same within a transaction.
pub(super) async fn make(
    engine: &Arc<Engine>,
    transacting: &Transacting,
    run: RunId,
    name: Option<&str>,
    new: &NewRun,
) -> Result<RunMetadata> {
    if let Some(name) = name {
        let claim = Command::Run(RunCommand::ClaimName { name: name.into(), id: run });
        let call = transacting.step_on(engine.shard_of_name(name), RunId::DIRECTORY, claim);
        if let Some(holder) = Op::call(call, read!(MaybeRunId(holder) => holder)).await? {
            return Err(Error::AlreadyExists(format!("run: name={name:?} run={holder}")));
        }
    }
    let create = Command::Run(RunCommand::Create(Box::new(new.clone())));
    let created = Op::call(transacting.step(run, create), read!(Run(run) => Arc::unwrap_or_clone(run))).await?;
    if let Some(history) = new.history {
        for shard in shards_of(engine, run).skip(1) {
            let retain = Command::Run(RunCommand::Retain { history });
            Op::call(transacting.step_on(shard, run, retain), read!(Unit => ())).await?;
        }
    }
    Ok(created)
}

/// Deletes a run and everything in it, and frees its name.
pub(crate) async fn delete(engine: &Arc<Engine>, run: RunId) -> Result<()> {
    until_it_wins(engine.clone(), Bounds::default(), async |transacting| {
        let metadata = known(&transacting, run).await?;
        let mut found = false;
        for shard in shards_of(engine, run) {
            let call = transacting.step_on(shard, run, Command::Run(RunCommand::Delete));
            found |= Op::call(call, read!(Flag(found) => found)).await?;
        }
        if !found {
            return Err(Error::KeyNotFound(format!("run: run={run}")));
        }
        if let Some(metadata) = metadata.filter(|metadata| metadata.name != run.to_string()) {
            let name = metadata.name.clone();
            let shard = engine.shard_of_name(&name);
            let command = Command::Run(RunCommand::ReleaseName { name, id: run });
            let call = transacting.step_on(shard, RunId::DIRECTORY, command);
            Op::call(call, read!(Unit => ())).await?;
        }
        Ok(())
    })
    .await
}

/// Changes the status of a run. Where its keys are spread, every shard hears of its end in the same transaction.
pub(crate) async fn update_status(
    engine: &Arc<Engine>,
    run: RunId,
    to: RunStatus,
    error: Option<String>,
) -> Result<RunMetadata> {
    let command = Command::Run(RunCommand::UpdateStatus { to, error });
    let changed = read!(Run(run) => Arc::unwrap_or_clone(run));
    if engine.setup().layout.partitioning == Partitioning::ByRun || !to.is_ended() {
        return Op::call(engine.command(run, command), changed).await;
    }
    until_it_wins(engine.clone(), Bounds::default(), async |transacting| {
        let metadata = Op::call(transacting.step(run, command.clone()), changed).await?;
        for shard in shards_of(engine, run).skip(1) {
            let end = Command::Run(RunCommand::End { status: to });
            Op::call(transacting.step_on(shard, run, end), read!(Unit => ())).await?;
        }
        Ok(metadata)
    })
    .await
}

/// The shards that hold anything of a run, its home first.
pub(super) fn shards_of(engine: &Arc<Engine>, run: RunId) -> impl Iterator<Item = usize> + Send {
    let home = engine.shard_of(&run);
    let others = match engine.setup().layout.partitioning {
        Partitioning::ByRun => 0..0,
        Partitioning::ByKey => 0..engine.shards(),
    };
    std::iter::once(home).chain(others.filter(move |shard| *shard != home))
}
