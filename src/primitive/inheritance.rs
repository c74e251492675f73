//! Inheritance: how much of its parent's history a run began with.

use std::collections::{BTreeMap, BTreeSet};

use super::diff::Side;
use super::history::left_by;
use crate::base::key::{Name, Space, unit_name};
use crate::base::stored::{Stored, Write};
use crate::base::version::Version;
use crate::store::chain::Revision;

/// How many commits of a run led to what its child began with; `None` if the other is no child of it, or began with
/// something else.
pub(super) fn inherited(parent: &Side<'_>, child: &Side<'_>) -> Option<usize> {
    let (began, first) = child.commits.first()?;
    let about = child.memory.at(&child.run, Space::Run, &unit_name(), *began)?;
    if !matches!(&about.stored, Some(Stored::Run(about)) if about.parent_run == Some(parent.run)) {
        return None;
    }
    let held = |key| revision(child, key, *began).filter(|revision| *began < revision.expires);
    let at_first = |key| held(key).map(|revision| (key, revision));
    let needed: BTreeMap<_, _> = keys(first).filter_map(at_first).collect();
    let (mut same, mut other) = (BTreeSet::new(), BTreeSet::new());
    let mut found = needed.is_empty().then_some(0);
    for (at, (version, writes)) in parent.commits.iter().enumerate().take_while(|(_, (version, _))| version <= began) {
        for key in keys(writes) {
            same.remove(&key);
            other.remove(&key);
            match (revision(parent, key, *version), needed.get(&key)) {
                (Some(held), Some(needed)) if held.stored == needed.stored && held.expires == needed.expires => {
                    same.insert(key);
                }
                // It had expired when the child began.
                (Some(held), None) if held.expires <= *began => {}
                (Some(_), _) => {
                    other.insert(key);
                }
                (None, _) => {}
            }
        }
        if same.len() == needed.len() && other.is_empty() {
            found = Some(at + 1);
        }
    }
    found
}

/// The keys that a commit wrote, beside what is known of the run.
fn keys(writes: &[Write]) -> impl Iterator<Item = (Space, &Name)> {
    left_by(writes).filter_map(Write::key).filter(|(space, _)| !matches!(space, Space::Run | Space::RunHistory))
}

/// What a key held from a version on; `None` if nothing.
fn revision<'a>(side: &Side<'a>, (space, name): (Space, &Name), version: Version) -> Option<&'a Revision> {
    side.memory.at(&side.run, space, name, version).filter(|revision| revision.stored.is_some())
}
