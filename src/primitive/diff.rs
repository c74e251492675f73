//! Diff: what differs between two runs that were rebuilt from their histories.
//!
//! - A function of the two, and of nothing else. Named the other way round, everything is mirrored.
//! - What has keys is compared key by key; events and traces are aligned, so that one more of them shifts the others but does
//!   not change them.
//! - Everything is in order: pairs, events, states, traces, documents, the run itself, each by key, path or position.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::action::{Action, Actions, facts};
use super::alignment::{align, align_between};
use super::inheritance::inherited;
use super::path_diff::{PathDiff, path_diff};
use super::text_of;
use crate::base::key::Space;
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::value::{Value, write_canonical};
use crate::base::version::Version;
use crate::store::memory::Memory;

/// One thing that differs between two runs: what is there in run `a`, and what in run `b`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiffEntry {
    /// `kv`, `events`, `states`, `traces`, `json` or `runs`.
    pub primitive: &'static str,
    /// The key; the cell; the position of the event or trace in its run, and if they are two, `1->2`; of the run itself,
    /// `status`, `tags`, `metadata` or `error`.
    pub key: String,
    /// The path (JSON Pointer) within a JSON document; otherwise `None`: the whole differs.
    pub path: Option<String>,
    /// What run `a` has; `None`: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<Value>,
    /// What run `b` has; `None`: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<Value>,
}

type Hash = [u8; 32];

/// One of the two runs that are compared.
pub(crate) struct Side<'a> {
    pub(crate) run: RunId,
    pub(crate) memory: &'a Memory,
    pub(crate) version: Version,
    pub(crate) commits: &'a [(Version, Vec<Write>)],
}

/// What differs between two runs.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    pub(crate) added: Vec<DiffEntry>,
    pub(crate) removed: Vec<DiffEntry>,
    pub(crate) modified: Vec<DiffEntry>,
    pub(crate) divergence: Option<Parting>,
}

/// The first commits that did different things.
#[derive(Debug)]
pub(crate) struct Parting {
    /// The places of the commits in `a` and `b`.
    pub(crate) steps: [usize; 2],
    /// What the commit did; `None`: the run has ended.
    pub(crate) a: Option<Vec<Action>>,
    pub(crate) b: Option<Vec<Action>>,
}

/// What differs between two runs.
pub(crate) fn diff(a: &Side<'_>, b: &Side<'_>) -> Differences {
    let (commits_a, commits_b) = (a.actions(), b.actions());
    let mut found = Differences::default();
    for space in [Space::Kv, Space::Event, Space::State, Space::Trace, Space::Json, Space::Run] {
        match space {
            Space::Json => found.compare_documents(a.values(space), b.values(space)),
            Space::Event | Space::Trace => found.align(&all(space, &commits_a), &all(space, &commits_b)),
            _ => found.compare(space, a.values(space), b.values(space)),
        }
    }
    let [from_a, from_b] = match (inherited(a, b), inherited(b, a)) {
        (Some(commits), _) => [commits, 1],
        (_, Some(commits)) => [1, commits],
        (None, None) => [0, 0],
    };
    let rest = commits_a[from_a..].iter().zip(&commits_b[from_b..]);
    let common = rest.take_while(|(a, b)| a == b).count();
    let steps = [from_a + common, from_b + common];
    let (a, b) = (commits_a.into_iter().nth(steps[0]), commits_b.into_iter().nth(steps[1]));
    found.divergence = (a.is_some() || b.is_some()).then_some(Parting { steps, a, b });
    found
}

impl Side<'_> {
    fn actions(&self) -> Vec<Vec<Action>> {
        let mut actions = Actions::default();
        self.commits.iter().map(|commit| actions.next(commit)).collect()
    }

    /// What there is in the end.
    fn values(&self, space: Space) -> BTreeMap<String, Value> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let mut values = BTreeMap::new();
        for (name, revision) in self.memory.range(&self.run, space, everything, self.version) {
            match revision.live_at(self.version) {
                Some(Stored::Value(value)) => values.extend([(text_of(name), value.to_value())]),
                Some(Stored::State(state)) => values.extend([(text_of(name), state.value.clone())]),
                Some(Stored::Json(document)) => values.extend([(text_of(name), document.root.to_value().into())]),
                Some(Stored::Run(about)) => values.extend(facts(about)),
                _ => {}
            }
        }
        values
    }
}

/// The actions in one space, in order.
fn all(space: Space, commits: &[Vec<Action>]) -> Vec<&Action> {
    commits.iter().flatten().filter(|action| action.space == space).collect()
}

impl Differences {
    fn compare(&mut self, space: Space, mut a: BTreeMap<String, Value>, mut b: BTreeMap<String, Value>) {
        let keys: BTreeSet<String> = a.keys().chain(b.keys()).cloned().collect();
        for key in keys {
            let (a, b) = (a.remove(&key), b.remove(&key));
            if a != b {
                self.add(space, key, a, b);
            }
        }
    }

    /// Documents that both have differ in places.
    fn compare_documents(&mut self, mut a: BTreeMap<String, Value>, mut b: BTreeMap<String, Value>) {
        let keys: BTreeSet<String> = a.keys().chain(b.keys()).cloned().collect();
        for key in keys {
            match (a.remove(&key), b.remove(&key)) {
                (Some(a), Some(b)) => {
                    for PathDiff { path, a, b } in path_diff(&a.to_json(), &b.to_json()) {
                        self.add_at(Space::Json, key.clone(), Some(path), a.map(Into::into), b.map(Into::into));
                    }
                }
                (a, b) => self.add(Space::Json, key, a, b),
            }
        }
    }

    fn align(&mut self, a: &[&Action], b: &[&Action]) {
        let pairs = pairs(a, b);
        let mut counterparts = vec![None; a.len()];
        for (in_a, in_b) in &pairs {
            counterparts[*in_a] = Some(*in_b);
        }
        let corresponds = |a: &Action, b: &Action| match (a.parent, b.parent) {
            (Some(a), Some(b)) => counterparts[a] == Some(b),
            (a, b) => a == b,
        };
        let (mut next_a, mut next_b) = (0, 0);
        for &(in_a, in_b) in pairs.iter().chain([&(a.len(), b.len())]) {
            for action in &a[next_a..in_a] {
                self.add(action.space, action.key.clone(), action.whole(), None);
            }
            for action in &b[next_b..in_b] {
                self.add(action.space, action.key.clone(), None, action.whole());
            }
            if let (Some(a), Some(b)) = (a.get(in_a), b.get(in_b)) {
                let key = if a.key == b.key { a.key.clone() } else { format!("{}->{}", a.key, b.key) };
                if !corresponds(a, b) {
                    self.add(a.space, key, a.whole(), b.whole());
                } else if a.value != b.value {
                    self.add(a.space, key, a.value.clone(), b.value.clone());
                }
            }
            (next_a, next_b) = (in_a + 1, in_b + 1);
        }
    }

    fn add(&mut self, space: Space, key: String, a: Option<Value>, b: Option<Value>) {
        self.add_at(space, key, None, a, b);
    }

    fn add_at(&mut self, space: Space, key: String, path: Option<String>, a: Option<Value>, b: Option<Value>) {
        let list = match (&a, &b) {
            (None, _) => &mut self.added,
            (_, None) => &mut self.removed,
            _ => &mut self.modified,
        };
        list.push(DiffEntry { primitive: space.primitive(), key, path, a, b });
    }
}

/// Which actions correspond: those that are the same with all that is below them; between those, the ones that are the same
/// themselves; and between those, the ones of the same kind.
fn pairs(a: &[&Action], b: &[&Action]) -> Vec<(usize, usize)> {
    let (own_a, own_b) = (digests(a), digests(b));
    let pairs = align(&trees(a, &own_a), &trees(b, &own_b));
    let pairs = align_between(&pairs, &own_a, &own_b);
    let kinds = |actions: &[&Action]| actions.iter().map(|action| action.kind.clone()).collect::<Vec<_>>();
    align_between(&pairs, &kinds(a), &kinds(b))
}

/// What each action did, in a few bytes. The parent of a trace counts later: its position shifts.
fn digests(actions: &[&Action]) -> Vec<Hash> {
    let digest = |action: &&Action| {
        let mut bytes = Vec::new();
        write_canonical(action.value.as_ref().unwrap_or(&Value::Null), &mut bytes);
        Sha256::digest(&bytes).into()
    };
    actions.iter().map(digest).collect()
}

/// The same of each action and all that is below it.
fn trees(actions: &[&Action], own: &[Hash]) -> Vec<Hash> {
    let mut trees: Vec<Sha256> = own.iter().map(Sha256::new_with_prefix).collect();
    // A trace comes after its parent: when it is met, all of its children have been.
    let mut hashes: Vec<Hash> = vec![Hash::default(); actions.len()];
    for at in (0..actions.len()).rev() {
        hashes[at] = trees[at].finalize_reset().into();
        if let Some(parent) = actions[at].parent {
            trees[parent].update(hashes[at]);
        }
    }
    hashes
}
