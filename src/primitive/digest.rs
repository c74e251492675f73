//! Digests: what a commit did to a run, hashed the same whether it is asked of the commit or of what it left.
//!
//! - What counts is what the commit left under each key. How often it wrote there does not.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use smallvec::SmallVec;

use super::history::Records;
use crate::base::commit_digest::{CommitDigest, Link};
use crate::base::json::edit::Edit;
use crate::base::key::{Name, Space};
use crate::base::options::HistoryRetention;
use crate::base::planted::{Bug, planted};
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::version::Version;
use crate::store::memory::Memory;

/// Room for the effects of most commits.
const ROOM: usize = 256;

/// The links of a commit, by run.
pub(crate) type Links = SmallVec<[(RunId, Link); 1]>;

/// What a commit left under a key. The order of the variants is a disk format: it never changes.
#[derive(Debug, Serialize)]
enum Effect<'a> {
    Held(Cow<'a, Stored>, Version),
    Edited(Vec<&'a Edit>),
    Gone,
}

/// The runs that a commit leaves something in, in the order in which it first writes there.
pub(crate) fn runs_of(writes: &[Write]) -> SmallVec<[RunId; 1]> {
    let mut runs = SmallVec::new();
    for write in writes {
        let run = write.run();
        if run != RunId::DIRECTORY && !runs.contains(&run) {
            runs.push(run);
        }
    }
    let deleted =
        |run: &RunId| writes.iter().any(|write| matches!(write, Write::DeleteRun { run: gone } if gone == run));
    runs.retain(|run| !deleted(run));
    runs
}

/// The links of a commit that is about to be applied to memory, chained to what is there; none for runs of which not all
/// history is kept.
pub(crate) fn chained(memory: &Memory, writes: &[Write], version: Version) -> Links {
    let first = |run: &RunId| memory.commits_of(run, Version::ZERO, version, 1).first().copied();
    let before = |run: &RunId| if planted(Bug::ChainedToFirst) { first(run) } else { memory.last_commit(run) };
    let digested = match writes.split_last() {
        Some((_, rest)) if planted(Bug::WriteNotDigested) => rest,
        _ => writes,
    };
    let link = |run: &RunId| link(before(run), version, digested, *run);
    let links = runs_of(writes).into_iter();
    links.map(|run| (run, if keeps(memory, writes, &run) { link(&run) } else { Link::default() })).collect()
}

/// The links of a commit that is chained to nothing.
pub(crate) fn alone(memory: &Memory, writes: &[Write], version: Version) -> Links {
    logged(memory, writes, version, &Links::new())
}

/// The links of a commit as they were logged; those that were not are chained to nothing.
pub(crate) fn logged(memory: &Memory, writes: &[Write], version: Version, logged: &Links) -> Links {
    let known = |run: &RunId| logged.iter().find(|(other, link)| other == run && link.is_known());
    let runs = runs_of(writes).into_iter().filter(|run| keeps(memory, writes, run));
    runs.map(|run| known(&run).copied().unwrap_or_else(|| (run, link(None, version, writes, run)))).collect()
}

/// Gives a link, chained to nothing, to every commit that has none. Where keys of a run are spread, a change of layout brings
/// together what several shards had of a commit, in logs and snapshots: what it did is known only when all of it is there.
pub(crate) fn complete(memory: &mut Memory) {
    for run in memory.runs_with_commits() {
        let records = Records::of(memory, run, Version::MAX);
        let known = memory.commits_of(&run, Version::ZERO, Version::MAX, usize::MAX);
        let known: BTreeSet<Version> = known.iter().map(|commit| commit.version).collect();
        for (version, writes) in records.by_commit().iter().filter(|(version, _)| !known.contains(version)) {
            let link = link(None, *version, writes, run);
            memory.note_commit(run, CommitDigest { version: *version, link });
        }
    }
}

/// Remembers a commit that was applied.
pub(crate) fn note(memory: &mut Memory, version: Version, links: Links) {
    for (run, link) in links.into_iter().filter(|(_, link)| link.is_known()) {
        memory.note_commit(run, CommitDigest { version, link });
    }
}

/// What the records of a run that one shard holds say of its commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    /// How many commits are as their digests say.
    pub(crate) proven: u64,
    /// How many were made before digests were kept of the run.
    pub(crate) unproven: u64,
    /// The first commit that is not, and why.
    pub(crate) first_invalid: Option<(Version, &'static str)>,
}

/// Compares what commits have left with what their digests say they did.
pub(crate) fn prove(run: RunId, records: &BTreeMap<Version, Vec<Write>>, digests: &[CommitDigest]) -> Proof {
    let mut proof = Proof::default();
    let known: BTreeMap<Version, CommitDigest> = digests.iter().map(|digest| (digest.version, *digest)).collect();
    let versions: BTreeSet<Version> = records.keys().chain(known.keys()).copied().collect();
    // The first digest says whether there was one before it.
    let begun = known
        .values()
        .next()
        .map_or(Version::MAX, |first| if first.link.before == Version::ZERO { first.version } else { Version::ZERO });
    let mut last_chained = Version::ZERO;
    for version in versions {
        let what = match (records.get(&version), known.get(&version)) {
            (Some(_), None) if version < begun => {
                proof.unproven += 1;
                continue;
            }
            (Some(_), None) => Some("nobody knows of the commit"),
            (None, Some(_)) => Some("what the commit did is missing"),
            (Some(writes), Some(digest)) => {
                let before = known.get(&digest.link.before).copied();
                let is_chained = digest.link.before > Version::ZERO;
                if is_chained && before.is_none() {
                    Some("the commit before it is missing")
                } else if is_chained && digest.link.before < last_chained {
                    Some("the commit is not chained to the one before it")
                } else {
                    last_chained = if is_chained { version } else { last_chained };
                    let differs = link(before, version, writes, run) != digest.link;
                    differs.then_some("the commit is not what its digest says")
                }
            }
            (None, None) => None,
        };
        if let Some(what) = what {
            proof.first_invalid = Some((version, what));
            return proof;
        }
        proof.proven += 1;
    }
    proof
}

/// Whether all history of a run is kept, or will be from this commit on.
fn keeps(memory: &Memory, writes: &[Write], run: &RunId) -> bool {
    let forever =
        |write: &Write| matches!(write, Write::Put { stored: Stored::Retention(HistoryRetention::Forever), .. });
    memory.keeps_commits(run) || writes.iter().any(|write| write.run() == *run && forever(write))
}

/// The link of a commit to the one before it, from what it wrote or what it left.
pub(crate) fn link(before: Option<CommitDigest>, version: Version, writes: &[Write], run: RunId) -> Link {
    let mut bytes = Vec::with_capacity(ROOM);
    bytes.extend_from_slice(&before.map_or([0; 32], |before| before.link.hash));
    bytes.extend_from_slice(&version.get().to_be_bytes());
    let hash = match postcard::to_extend(&effects(writes, version, run), bytes) {
        Ok(bytes) => blake3::hash(&bytes).into(),
        Err(error) => unreachable!("what a commit logs can be encoded: {error}"),
    };
    Link { before: before.map_or(Version::ZERO, |before| before.version), hash }
}

/// What writes leave in a run, in the order of its keys.
fn effects(writes: &[Write], version: Version, run: RunId) -> SmallVec<[(Space, &[u8], Effect<'_>); 1]> {
    let mut keyed: SmallVec<[(Space, &Name, &Write); 1]> = writes
        .iter()
        .filter(|write| write.run() == run)
        .filter_map(|write| write.key().map(|(space, name)| (space, name, write)))
        .collect();
    keyed.sort_by(|(one_space, one, _), (other_space, other, _)| (one_space, one).cmp(&(other_space, other)));
    let mut effects: SmallVec<[(Space, &[u8], Effect<'_>); 1]> = SmallVec::new();
    for (space, name, write) in keyed {
        let before = match effects.last() {
            Some((last_space, last, _)) if (*last_space, *last) == (space, name.as_bytes()) => {
                effects.pop().map(|(.., effect)| effect)
            }
            _ => None,
        };
        effects.push((space, name.as_bytes(), after(before, write, version)));
    }
    effects
}

/// What a write leaves of what the writes before it had left.
fn after<'a>(before: Option<Effect<'a>>, write: &'a Write, version: Version) -> Effect<'a> {
    match write {
        Write::Put { stored, expires, .. } => {
            Effect::Held(Cow::Borrowed(stored), expires.unwrap_or(Version::MAX).max(version))
        }
        Write::Delete { .. } | Write::DeleteRun { .. } => Effect::Gone,
        Write::EditJson { edits, .. } => match before {
            Some(Effect::Edited(mut all)) => {
                all.extend(edits);
                Effect::Edited(all)
            }
            Some(Effect::Held(stored, expires)) => match &*stored {
                // A document that was made and edited in one commit; what does not fit is refused when it is applied.
                Stored::Json(document) => document.edited(edits.clone()).map_or(Effect::Gone, |document| {
                    Effect::Held(Cow::Owned(Stored::Json(Arc::new(document))), expires)
                }),
                _ => Effect::Gone,
            },
            Some(Effect::Gone) | None => Effect::Edited(edits.iter().collect()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::index;
    use super::*;
    use crate::base::json::Json;
    use crate::base::json::edit::Change;

    const RUN: RunId = RunId::from_bytes([1; 16]);

    fn put(name: &str, stored: Stored) -> Write {
        let space = if matches!(stored, Stored::Json(_)) { Space::Json } else { Space::Kv };
        Write::Put { run: RUN, space, name: Name::from_slice(name.as_bytes()), stored, expires: None }
    }

    fn value(number: i64) -> Stored {
        Stored::Value(number.into())
    }

    fn document(text: &str) -> Stored {
        let json = Json::from_value(serde_json::from_str(text).unwrap()).unwrap();
        Stored::Json(Arc::new(crate::base::json::Document::new(json)))
    }

    fn set(path: &str, number: i64) -> Write {
        let path = crate::base::json::path::Path::parse(path).unwrap();
        let edits = vec![Edit { path, change: Change::Set(Json::Number(number.into())) }];
        Write::EditJson { run: RUN, name: Name::from_slice(b"doc"), edits }
    }

    fn delete(space: Space, name: &str) -> Write {
        Write::Delete { run: RUN, space, name: Name::from_slice(name.as_bytes()) }
    }

    fn commits() -> Vec<Vec<Write>> {
        vec![
            vec![put("a", value(1)), put("b", value(1)), put("a", value(2))],
            vec![put("doc", document(r#"{"x": 1}"#)), set("/y", 2), delete(Space::Kv, "a")],
            vec![set("/x", 5), put("c", value(1)), delete(Space::Kv, "c"), set("/y", 6)],
            vec![put("b", value(2))],
            vec![delete(Space::Json, "doc"), put("doc", document("[1]"))],
        ]
    }

    /// What the commits leave, and their digests.
    fn applied() -> (BTreeMap<Version, Vec<Write>>, Vec<CommitDigest>) {
        let mut memory = Memory::new(HistoryRetention::Forever);
        for (at, writes) in commits().into_iter().enumerate() {
            let version = Version::from(10 * (at as u64 + 1));
            let links = chained(&memory, &writes, version);
            for write in writes {
                index::replay(&mut memory, write, version, version.previous()).unwrap();
            }
            note(&mut memory, version, links);
        }
        let records = Records::of(&memory, RUN, Version::MAX);
        (records.by_commit().clone(), memory.commits_of(&RUN, Version::ZERO, Version::MAX, usize::MAX).to_vec())
    }

    #[test]
    fn the_example_in_the_documentation_is_hashed_so() {
        let version = Version::from(1_700_000_000_000_000_000);
        let link = link(None, version, &[put("k", value(1))], RUN);
        let hash: String = link.hash.map(|byte| format!("{byte:02x}")).concat();
        let drawn: String = include_str!("../../docs/FORMAT.md").split_whitespace().collect();
        assert!(link.before == Version::ZERO && drawn.contains(&hash), "{hash}");
    }

    #[test]
    fn a_commit_is_hashed_the_same_by_what_it_wrote_and_by_what_it_left() {
        let (records, digests) = applied();
        assert_eq!(prove(RUN, &records, &digests), Proof { proven: 5, ..Proof::default() });
    }

    #[test]
    fn the_first_commit_that_was_tampered_with_is_named() {
        let (records, digests) = applied();
        let first = |records: &BTreeMap<Version, Vec<Write>>, digests: &[CommitDigest]| {
            prove(RUN, records, digests).first_invalid.map(|(version, _)| version.get())
        };
        for version in [10, 20, 30, 40, 50] {
            let mut changed = records.clone();
            let writes = changed.get_mut(&version.into()).unwrap();
            writes.push(put("b", value(77)));
            assert_eq!(first(&changed, &digests), Some(version), "a record was changed");
            let mut gone = records.clone();
            gone.remove(&version.into());
            assert_eq!(first(&gone, &digests), Some(version), "a record is gone");
            let left: Vec<CommitDigest> =
                digests.iter().copied().filter(|digest| digest.version != version.into()).collect();
            assert_eq!(first(&records, &left), Some(version), "a digest is gone");
            let mut elsewhere = digests.clone();
            if let Some(at) = digests.iter().position(|digest| digest.version == version.into() && version > 20) {
                elsewhere[at].link = link(Some(digests[0]), version.into(), &records[&version.into()], RUN);
                assert_eq!(first(&records, &elsewhere), Some(version), "it is chained to another commit");
            }
            let both = first(&gone, &left);
            assert_eq!(
                both,
                Some(version + 10).filter(|next| *next <= 50),
                "the next one knows of it, if there is one"
            );
        }
    }
}
