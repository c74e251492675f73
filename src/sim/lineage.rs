//! Lineage: what the memory says that commits read is what they were asked to read, as the model had it.
//!
//! - What is kept of a commit is compared with the model just below it: nothing that it read had changed since.
//! - What the commands of a commit name must be there, unless the commit wrote it itself.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Chain, Model, Run};
use super::world::World;
use crate::base::key::{Name, Space, number_at_end};
use crate::base::lineage::Source;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::primitive::command::{Command, KvCommand, RunCommand, StateCommand};
use crate::store::memory::Memory;

type Key = (RunId, Space, Name);

/// What commits were asked to read, by the runs they name and their versions.
#[derive(Debug, Default)]
pub(super) struct Reads(BTreeMap<(RunId, Version), BTreeSet<Key>>);

impl Reads {
    /// Notes the commands of a commit, which were all answered.
    pub(super) fn note<'a>(&mut self, version: Version, commands: impl Iterator<Item = (RunId, &'a Command)>) {
        let (mut read, mut written, mut runs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (run, command) in commands {
            runs.insert(run);
            if matches!(command, Command::Run(RunCommand::Delete)) {
                return;
            }
            let keyed = |(space, key): (Space, &Name)| (run, space, key.clone());
            let own: Vec<Key> = writes_of(command).into_iter().map(keyed).collect();
            read.extend(reads_of(command).into_iter().map(keyed).filter(|key| !written.contains(key)));
            written.extend(own);
        }
        for run in runs {
            self.0.insert((run, version), read.clone());
        }
    }
}

/// The pairs and cells that a command reads, whatever it finds.
fn reads_of(command: &Command) -> Vec<(Space, &Name)> {
    match command {
        Command::Kv(
            KvCommand::Get { key }
            | KvCommand::GetVersioned { key }
            | KvCommand::Exists { key }
            | KvCommand::Delete { key }
            | KvCommand::CompareAndPut { key, .. },
        ) => vec![(Space::Kv, key)],
        Command::Kv(KvCommand::GetMany { keys } | KvCommand::DeleteMany { keys }) => {
            keys.iter().map(|key| (Space::Kv, key)).collect()
        }
        Command::State(
            StateCommand::Read { name }
            | StateCommand::Exists { name }
            | StateCommand::Init { name, .. }
            | StateCommand::Set { name, .. }
            | StateCommand::CompareAndSwap { name, .. }
            | StateCommand::Increment { name, .. }
            | StateCommand::Delete { name },
        ) => vec![(Space::State, name)],
        _ => Vec::new(),
    }
}

/// The pairs and cells that a command may write.
fn writes_of(command: &Command) -> Vec<(Space, &Name)> {
    match command {
        Command::Kv(KvCommand::Put { key, .. }) => vec![(Space::Kv, key)],
        Command::Kv(KvCommand::PutMany { pairs }) => pairs.iter().map(|(key, _)| (Space::Kv, key)).collect(),
        command if command.is_read() => Vec::new(),
        command => reads_of(command),
    }
}

impl World {
    /// What is kept of the commits of a run is what they read.
    pub(super) fn assert_lineage(&self, run: RunId, chain: &Chain<Run>, memory: &Memory) -> u64 {
        if !self.swarm.history.lineage {
            return 0;
        }
        for version in chain.versions() {
            let reads = memory.lineage_of(&run, version);
            let Some(reads) = reads else { panic!("nobody knows what a commit read: {run} at {version}") };
            let before = version.previous();
            for (of, source) in reads.iter() {
                assert!(was_current(&self.oracle.model, of, source, before), "{run} at {version} read {of} {source:?}");
            }
            let known: BTreeSet<(RunId, Space, &Name)> = reads
                .iter()
                .filter_map(|(of, source)| match source {
                    Source::Key { space, name, .. } => Some((of, *space, name)),
                    Source::Range { .. } => None,
                })
                .collect();
            let asked = self.oracle.reads.0.get(&(run, version)).into_iter().flatten();
            for (of, space, name) in asked.filter(|_| !reads.is_truncated) {
                assert!(known.contains(&(*of, *space, name)), "{run} at {version} read {space:?} {name:?} of {of}");
            }
        }
        chain.versions().count() as u64
    }
}

/// Whether somebody who looked just before a commit found this.
fn was_current(model: &Model, run: RunId, source: &Source, before: Version) -> bool {
    let (space, name, version) = match source {
        Source::Range { at, .. } => return *at <= before,
        Source::Key { space, name, version } => (*space, name, *version),
    };
    if !matches!(space, Space::Kv | Space::State | Space::Event | Space::Trace | Space::Json) {
        return version <= before;
    }
    let Some(chain) = model.runs.get(&run) else { return version == Version::ZERO };
    let text = String::from_utf8_lossy(name);
    let found = |at: Version| held(&chain.at(at), space, &text, name, before);
    match found(before) {
        None => version == Version::ZERO,
        // A document is read by its places: others may have changed since.
        Some(_) if space == Space::Json => version <= before && found(version) != found(version.previous()),
        Some(now) => found(version).as_ref() == Some(&now) && found(version.previous()).as_ref() != Some(&now),
    }
}

/// What tells one thing that a key held from the next; `None` if it holds nothing.
fn held(state: &Run, space: Space, text: &str, name: &Name, now: Version) -> Option<u64> {
    match space {
        Space::Kv => {
            let last = state.pairs.get(text)?.last()?;
            (last.value.is_some() && now < last.expires).then(|| last.version.get())
        }
        // One that was deleted still counts.
        Space::State => {
            let cell = state.cells.get(text).filter(|cell| cell.version > 0)?;
            Some(2 * cell.version + u64::from(cell.state.is_some()))
        }
        Space::Event => number_at_end(name).filter(|sequence| *sequence < state.events.len() as u64),
        Space::Trace => number_at_end(name).filter(|number| state.traces.contains_key(number)),
        _ => state.documents.get(text).map(|document| document.version.get()),
    }
}
