//! Replays: every run whose whole history is kept is rebuilt from its records, and was at every version what the model says.

use std::collections::BTreeMap;

use super::model::{Home, Run, dump::Dump};
use super::world::World;
use crate::base::key::{Name, Space};
use crate::base::options::HistoryRetention;
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::version::Version;
use crate::primitive::digest::prove;
use crate::primitive::history::{Records, replay};

/// How many versions of a run are compared, about.
const COMPARED: usize = 20;

impl World {
    pub(super) fn assert_replays(&mut self) {
        let (shards, policy) = (self.nodes.len(), self.swarm.history);
        for (run, chain) in &self.oracle.model.runs {
            let last = chain.last();
            if last.deleted
                || last.retained(policy) != HistoryRetention::Forever
                || policy.active != HistoryRetention::Forever
            {
                continue;
            }
            let home = &self.nodes[Home::of_run(run, shards)].shard;
            assert_eq!(home.memory().history_since(run), Version::ZERO, "nothing of {run} was forgotten");
            let versions: Vec<Version> = chain.versions().collect();
            let mut records = Records::of(home.memory(), *run, home.latest());
            let digests = home.memory().commits_of(run, Version::ZERO, home.latest(), usize::MAX);
            let proof = prove(*run, records.by_commit(), digests);
            assert_eq!(proof.unproven, 0, "{run}: every commit has a digest");
            assert_eq!(proof.first_invalid, None, "{run}: {} commits are proven", proof.proven);
            self.stats.proven += proof.proven;
            self.stats.explained += self.assert_lineage(*run, chain, home.memory());
            let commits = records.commits_until(Version::MAX);
            assert!(commits.iter().all(|(version, _)| versions.binary_search(version).is_ok()), "who committed that?");
            let rebuilt = replay(&commits).expect("it fits together");
            let again = Records::of(home.memory(), *run, home.latest()).commits_until(Version::MAX);
            assert_eq!(commits, again, "the same history gives the same commits");
            let step = versions.len() / COMPARED + 1;
            for at in versions.iter().rev().step_by(step) {
                assert_eq!(primary(rebuilt.dump(*at)), primary(expected(*run, &chain.at(*at), *at)), "{run} at {at}");
            }
            if let Some(at) = versions.last() {
                let derived =
                    |(run, space, _): &(RunId, Space, Name)| *run != RunId::DIRECTORY && *space != Space::RunHistory;
                let mut rebuilt = rebuilt.dump(*at);
                rebuilt.retain(|key, _| derived(key));
                let mut expected = expected(*run, &last, *at);
                expected.retain(|key, _| derived(key));
                assert_eq!(rebuilt, expected, "{run}, and what follows from it");
            }
            self.stats.replays += 1;
        }
    }
}

fn expected(run: RunId, state: &Run, at: Version) -> Dump {
    let mut dump = Dump::new();
    super::model::dump::dump_run(&mut dump, run, state, at);
    dump
}

/// What somebody wrote in the run, without what was derived from it.
fn primary(dump: Dump) -> BTreeMap<(Space, Name), Stored> {
    let written = dump
        .into_iter()
        .filter(|((run, space, _), _)| *run != RunId::DIRECTORY && !space.is_derived() && *space != Space::RunHistory);
    written.map(|((_, space, name), stored)| ((space, name), stored)).collect()
}
