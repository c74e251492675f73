//! History: what a run was, commit by commit.
//!
//! - The records of a run are the revisions of its primary keys. They are found without reading any other run's.
//! - A replay is a pure function of them: it gives the same memory on every machine, however many shards they came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index;
use super::output::Output;
use crate::base::error::{Error, Result};
use crate::base::json::{Document, Json};
use crate::base::key::{Name, Space};
use crate::base::options::HistoryRetention;
use crate::base::packed::Packed;
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::version::Version;
use crate::commit::access::Access;
use crate::format::snapshot::{Entry, Held, Kept, Piece};
use crate::store::dump::Page;
use crate::store::memory::Memory;

/// The next records of a run.
///
/// # Errors
/// `KeyNotFound` if the run was deleted, `InvalidOperation` if not all of its history is kept.
pub(super) fn page(access: &mut Access<'_>, run: RunId, after: Option<(Space, Name)>) -> Result<Output> {
    complete(access, run)?;
    Ok(Output::Records(Box::new(access.history(run, after))))
}

/// Whether all history of a run is kept, and there is the run.
///
/// # Errors
/// Those of `page`.
pub(super) fn complete(access: &mut Access<'_>, run: RunId) -> Result<()> {
    if access.is_deleted(run) {
        return Err(Error::KeyNotFound(format!("the run was deleted, and its history with it: run={run}")));
    }
    let complete_since = access.history_since(run);
    if complete_since > Version::ZERO { Err(incomplete(run, complete_since)) } else { Ok(()) }
}

pub(super) fn incomplete(run: RunId, since: Version) -> Error {
    let reason = "not all of the run's history is kept, give it `HistoryRetention::Forever` when it begins";
    Error::InvalidOperation(format!("{reason}: run={run} since={since}"))
}

/// The next commits of a run.
///
/// # Errors
/// Those of `page`.
pub(super) fn commits(access: &mut Access<'_>, run: RunId, above: Version) -> Result<Output> {
    complete(access, run)?;
    Ok(Output::Commits(access.commits(run, above)))
}

/// What the run holds beyond a place.
///
/// # Errors
/// `KeyNotFound` if the run was deleted.
pub(super) fn state(access: &mut Access<'_>, run: RunId, after: Option<(Space, Name)>) -> Result<Output> {
    if access.is_deleted(run) {
        return Err(Error::KeyNotFound(format!("run: run={run}")));
    }
    Ok(Output::Records(Box::new(access.state(run, after))))
}

/// The writes that led to a piece, and their versions.
pub(crate) fn writes_of(piece: Piece) -> Vec<(Version, Write)> {
    match piece {
        Piece::Run { run, deleted, .. } => {
            deleted.map(|version| (version, Write::DeleteRun { run })).into_iter().collect()
        }
        Piece::Commits { .. } | Piece::Lineage { .. } => Vec::new(),
        Piece::Names { run, space, names } => {
            let mut all = Vec::new();
            for Entry { name, kept } in names {
                // What the commit itself put there before it deleted it is not known any more.
                let is_deleted_first =
                    matches!(space, Space::Kv | Space::Json) && kept.first().is_some_and(|first| first.held.is_none());
                if let Some(first) = kept.first().filter(|_| is_deleted_first) {
                    let stored = match space {
                        Space::Json => Stored::Json(Arc::new(Document::new(Json::Null))),
                        _ => Stored::Value(Packed::Null),
                    };
                    all.push((first.version, Write::Put { run, space, name: name.clone(), stored, expires: None }));
                }
                for kept in kept {
                    let version = kept.version;
                    all.extend(write_of(run, space, &name, kept).map(|write| (version, write)));
                }
            }
            all
        }
    }
}

/// The write that left a revision; `None` if it was derived.
fn write_of(run: RunId, space: Space, name: &Name, kept: Kept) -> Option<Write> {
    let name = name.clone();
    match kept.held {
        Some(Held::Stored(stored)) => {
            let expires = Some(kept.expires).filter(|expires| *expires != Version::MAX);
            Some(Write::Put { run, space, name, stored, expires })
        }
        Some(Held::Edited(edits)) => Some(Write::EditJson { run, name, edits }),
        None if matches!(space, Space::Kv | Space::RunName | Space::Json) => Some(Write::Delete { run, space, name }),
        Some(Held::EventHead { .. } | Held::Count(_) | Held::Marker) | None => None,
    }
}

/// The records of one run, from all shards that hold some, by commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    commits: BTreeMap<Version, Vec<Write>>,
}

impl Records {
    /// Those that a memory holds of a run, as of a version.
    pub(crate) fn of(memory: &Memory, run: RunId, at: Version) -> Self {
        let (mut records, mut after) = (Self::default(), None);
        loop {
            after = records.add(memory.records_of(run, after, at));
            if after.is_none() {
                return records;
            }
        }
    }

    /// Adds what a shard answered, and says what to ask it next, if anything.
    pub(crate) fn add(&mut self, page: Page) -> Option<(Space, Name)> {
        for piece in page.pieces {
            for (version, write) in writes_of(piece) {
                self.commits.entry(version).or_default().push(write);
            }
        }
        page.last
    }

    /// Adds what other shards hold.
    pub(crate) fn join(&mut self, other: Self) {
        for (version, writes) in other.commits {
            self.commits.entry(version).or_default().extend(writes);
        }
    }

    /// How many revisions there are, and about how many bytes they take.
    pub(crate) fn size(&self) -> (u64, u64) {
        let left = self.commits.values().flat_map(|writes| left_by(writes)).filter(|write| !is_for_one_shard(write));
        left.fold((0, 0), |(count, bytes), write| (count + 1, bytes + write.weight() as u64))
    }

    /// What is left of each commit, as one shard holds it.
    pub(crate) const fn by_commit(&self) -> &BTreeMap<Version, Vec<Write>> {
        &self.commits
    }

    /// The version of the last commit.
    pub(crate) fn last(&self) -> Version {
        self.commits.keys().next_back().copied().unwrap_or(Version::ZERO)
    }

    /// The commits at or below a version, in order. What each of them left of a key is one write, in the order of their keys.
    pub(crate) fn commits_until(&mut self, until: Version) -> Vec<(Version, Vec<Write>)> {
        let kept = std::mem::take(&mut self.commits).into_iter().filter(|(version, _)| *version <= until);
        let sorted = kept.map(|(version, mut writes)| {
            writes.retain(|write| !is_for_one_shard(write));
            writes.sort_by(|a, b| a.key().cmp(&b.key()));
            (version, writes)
        });
        sorted.filter(|(_, writes)| !writes.is_empty()).collect()
    }
}

/// What a commit left of each key: of two writes to one, which stand next to each other, the later.
pub(crate) fn left_by(writes: &[Write]) -> impl Iterator<Item = &Write> {
    let is_last = |at: &usize| writes.get(at + 1).is_none_or(|next| next.key() != writes[*at].key());
    (0..writes.len()).filter(is_last).map(|at| &writes[at])
}

/// What a shard is told that is not the run's home: the home says the same in the run's metadata, or says it too.
const fn is_for_one_shard(write: &Write) -> bool {
    matches!(write, Write::Put { stored: Stored::RunEnded(_) | Stored::Retention(_), .. })
}

/// The memory that commits lead to.
///
/// # Errors
/// `Corruption` if no shard can have committed that.
pub(crate) fn replay(commits: &[(Version, Vec<Write>)]) -> Result<Memory> {
    let mut memory = Memory::new(HistoryRetention::Forever);
    for (version, writes) in commits {
        for write in writes {
            index::replay(&mut memory, write.clone(), *version, version.previous()).map_err(|what| {
                Error::Corruption(format!("history does not fit together: {what}: version={version}"))
            })?;
        }
    }
    Ok(memory)
}
