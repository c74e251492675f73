//! Verified replay: a run is rebuilt from its history and compared with its digests and with what is there.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::database::Database;
use super::op::{Op, read};
use super::replay::{ReplayView, records_on, state_on};
use super::run_names::shards_of;
use super::transacting::Transacting;
use crate::base::commit_digest::CommitDigest;
use crate::base::error::Result;
use crate::base::key::{Name, Space};
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::version::Version;
use crate::primitive::command::{Command, RunCommand};
use crate::primitive::digest::prove;
use crate::primitive::history::Records;
use crate::runtime::engine::Engine;

/// What came of verifying a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayVerification {
    /// Whether every commit is what its digest says, and what is there is what the commits lead to.
    pub is_valid: bool,
    /// How many commits are what their digests say; a commit over several shards counts on each.
    pub commits: u64,
    /// How many commits were made before all history of the run was kept, and have no digest.
    pub unproven: u64,
    /// The digest of the whole history: [`ReplayView::digest`].
    pub digest: [u8; 32],
    /// The first commit that is not what its digest says.
    pub first_invalid: Option<Version>,
    /// What is wrong.
    pub error: Option<String>,
}

impl Database {
    /// Rebuilds a run from its history and proves that every commit is what its digest says it was, and that what is there
    /// is what the commits lead to. Names the first commit that differs.
    ///
    /// # Errors
    /// Those of [`replay_run`](Self::replay_run). What is found wrong is no error, but in the result.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn verify_run(&self, run: impl Borrow<RunId>) -> Op<ReplayVerification> {
        let (engine, run) = (self.engine().clone(), *run.borrow());
        Op::steps(verify(engine, run))
    }
}

async fn verify(engine: Arc<Engine>, run: RunId) -> Result<ReplayVerification> {
    let transacting = Transacting::new(engine.clone());
    let at = transacting.begin(engine.shard_of(&run), None).await?;
    let (mut all, mut live) = (Records::default(), BTreeMap::new());
    let (mut commits, mut unproven, mut invalid) = (0, 0, None);
    for shard in shards_of(&engine, run) {
        let records = records_on(&transacting, shard, run).await?;
        let proof = prove(run, records.by_commit(), &digests(&transacting, shard, run).await?);
        commits += proof.proven;
        unproven += proof.unproven;
        invalid = [invalid, proof.first_invalid].into_iter().flatten().min();
        all.join(records);
        live.extend(state_on(&transacting, shard, run).await?.into_iter().filter_map(held));
    }
    let view = ReplayView::of(engine, run, all, None)?;
    let rebuilt: BTreeMap<_, _> = view.state(at).into_iter().filter_map(held).collect();
    let differs = live.iter().chain(&rebuilt).find(|(key, _)| live.get(*key) != rebuilt.get(*key));
    let error = match (invalid, differs) {
        (Some((version, what)), _) => Some(format!("{what}: run={run} version={version}")),
        (None, Some(((space, name), _))) => {
            let (primitive, key) = (space.primitive(), space.show(name));
            Some(format!("what is there is not what the commits lead to: run={run} primitive={primitive} key={key:?}"))
        }
        (None, None) => None,
    };
    let first_invalid = invalid.map(|(version, _)| version);
    Ok(ReplayVerification {
        is_valid: error.is_none(),
        commits,
        unproven,
        digest: view.digest()?,
        first_invalid,
        error,
    })
}

async fn digests(transacting: &Transacting, shard: usize, run: RunId) -> Result<Vec<CommitDigest>> {
    let mut all: Vec<CommitDigest> = Vec::new();
    loop {
        let above = all.last().map_or(Version::ZERO, |last| last.version);
        let call = transacting.step_on(shard, run, Command::Run(RunCommand::Commits { above }));
        let page = Op::call(call, read!(Commits(commits) => commits)).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// What a write put, unless the run's home says the same.
fn held((_, write): (Version, Write)) -> Option<((Space, Name), Stored)> {
    match write {
        Write::Put { stored: Stored::RunEnded(_) | Stored::Retention(_), .. } => None,
        Write::Put { space, name, stored, .. } => Some(((space, name), stored)),
        _ => None,
    }
}
