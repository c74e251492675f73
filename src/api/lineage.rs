//! Lineage: what a commit read, and what the commits that wrote that had read.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::database::Database;
use super::op::{Op, read};
use super::transacting::Transacting;
use crate::base::error::{Error, Result};
use crate::base::key::{Name, Space};
use crate::base::limits;
use crate::base::lineage::{ReadSet, Source};
use crate::base::primitive::Primitive;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::primitive::command::{Command, RunCommand};
use crate::primitive::lineage::{place_of, place_of_source, shown};
use crate::runtime::engine::Engine;

/// How far a lineage goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineageOptions {
    /// How many commits deep, at most 256: 1 is what the commit itself read, 2 also what those had read that wrote it. Default: 8.
    pub depth: usize,
    /// How many commits are looked at, the nearest first. Default: 1,000.
    pub commits: usize,
}

impl Default for LineageOptions {
    fn default() -> Self {
        Self { depth: 8, commits: 1_000 }
    }
}

/// What led to the value of a key: what the commit read that wrote it, what the commits had read that wrote that, and so on.
///
/// As text (`{}`) a line for each read, indented below what it led to; as JSON the same tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lineage {
    /// The run.
    pub run: RunId,
    /// The primitive.
    pub primitive: Primitive,
    /// The key.
    pub key: String,
    /// The version of the commit that wrote it.
    pub version: Version,
    /// What that commit read, each thing once: by run, primitive and key.
    pub reads: Vec<Read>,
    /// Whether it read more than is kept: the first 1,000, or about 128 KiB.
    pub is_truncated: bool,
}

/// Something that a commit read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Read {
    /// The run it is in.
    pub run: RunId,
    /// The primitive.
    pub primitive: Primitive,
    /// The key; the cell; the sequence of an event; the id of a trace; of the run itself `metadata`. Of a scan what was looked
    /// for: `prefix*`, `from..to` without `to`, `type=`, `tag=` or `parent=` and which.
    pub key: String,
    /// The path (JSON Pointer) that was read in a JSON document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The version of the commit that wrote what was read, of a JSON document the last that changed it; of a scan, the version
    /// of the database at which it was made. `None`: nothing was there.
    pub version: Option<Version>,
    /// Where it came from.
    pub origin: Origin,
}

/// Where something that was read came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Origin {
    /// A commit, and this is what it read.
    Commit {
        /// What it read.
        reads: Vec<Read>,
        /// Whether it read more than is kept.
        is_truncated: bool,
    },
    /// A commit whose reads are already elsewhere in the lineage, at least as near.
    Repeated,
    /// A commit that is further away than was asked for.
    Further,
    /// A commit of which nobody knows what it read: the run was deleted, not all of its history is kept, or lineage was off.
    Unknown,
    /// Many commits: all there was in a range. Read it again at its version to see what that was.
    Scan,
    /// No commit: nothing was there.
    Nothing,
}

impl Database {
    /// Says what the commit read that wrote a key at a version, and, up to eight commits deep, what those had read that wrote
    /// that. Of a database that keeps it: [`lineage`](crate::DatabaseBuilder::lineage).
    ///
    /// The key is written as [`Read::key`] is. The version is that of the commit: [`Versioned`](crate::Versioned) and
    /// [`Step`](crate::Step) say it. A put or an append that looked at nothing has no reads; who
    /// sets a cell, edits a document or records a trace looks at what is there. Whatever else a commit left has the same
    /// reads: they are those of the whole transaction, on all shards.
    ///
    /// # Errors
    /// `KeyNotFound` if no commit wrote the key at that version, or the run was deleted; `InvalidOperation` if lineage is off,
    /// was off when it was committed, or not all history of the run is kept; `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn explain(
        &self,
        run: impl Borrow<RunId>,
        primitive: Primitive,
        key: impl AsRef<str>,
        version: Version,
    ) -> Op<Lineage> {
        self.explain_with(run, primitive, key, version, LineageOptions::default())
    }

    /// The same, as far as the options say.
    ///
    /// # Errors
    /// Those of [`explain`](Self::explain); `LimitExceeded` if the depth is above 256.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn explain_with(
        &self,
        run: impl Borrow<RunId>,
        primitive: Primitive,
        key: impl AsRef<str>,
        version: Version,
        options: LineageOptions,
    ) -> Op<Lineage> {
        let (engine, run, key) = (self.engine().clone(), *run.borrow(), key.as_ref().to_owned());
        Op::steps(async move {
            if options.depth > limits::LINEAGE_DEPTH {
                return Err(Error::limit("lineage depth", limits::LINEAGE_DEPTH, options.depth));
            }
            let Some((space, name)) = place_of(primitive, &key) else {
                return Err(Error::KeyNotFound(format!("no such key: run={run} primitive={primitive} key={key:?}")));
            };
            let first = Commit { run, version };
            let found = Ancestry::trace(engine, options, first, (space, name)).await?;
            let (reads, is_truncated) = found.reads_of(first);
            Ok(Lineage { run, primitive, key, version, reads, is_truncated })
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Commit {
    run: RunId,
    version: Version,
}

/// A read of a commit, by its number: where the lineage of another commit is shown.
type Place = (Commit, usize);

/// A commit that led to another.
struct Ancestor {
    shown_at: Option<Place>,
    /// `None`: nobody knows.
    reads: Option<Arc<ReadSet>>,
}

/// All commits that led to one, as far as was asked for.
struct Ancestry {
    found: BTreeMap<Commit, Ancestor>,
}

impl Ancestry {
    /// Level by level, so that each is found where it is nearest.
    async fn trace(engine: Arc<Engine>, options: LineageOptions, first: Commit, at: (Space, Name)) -> Result<Self> {
        let transacting = Transacting::new(engine.clone());
        let mut ancestry = Self { found: BTreeMap::new() };
        let mut level = vec![(first, at, None)];
        for depth in 0..options.depth {
            let mut next = Vec::new();
            for (commit, (space, name), shown_at) in level {
                if ancestry.found.len() >= options.commits || ancestry.found.contains_key(&commit) {
                    continue;
                }
                let shard = engine.setup().layout.shard_of_key(&commit.run, space, &name);
                let command = RunCommand::Explain { space, name, version: commit.version };
                let call = transacting.step_on(shard, commit.run, Command::Run(command));
                let reads = match Op::call(call, read!(Lineage(reads) => reads)).await {
                    Ok(reads) => Some(reads),
                    Err(Error::KeyNotFound(_) | Error::InvalidOperation(_)) if depth > 0 => None,
                    Err(error) => return Err(error),
                };
                for (number, (run, source)) in reads.iter().flat_map(|reads| reads.iter()).enumerate() {
                    if let Source::Key { space, name, version } = source
                        && *version > Version::ZERO
                    {
                        let at = place_of_source(*space, name);
                        next.push((Commit { run, version: *version }, at, Some((commit, number))));
                    }
                }
                ancestry.found.insert(commit, Ancestor { shown_at, reads });
            }
            level = next;
        }
        Ok(ancestry)
    }

    /// What a commit read, and whether that is not all.
    fn reads_of(&self, commit: Commit) -> (Vec<Read>, bool) {
        let Some(reads) = self.found.get(&commit).and_then(|found| found.reads.as_ref()) else {
            return (Vec::new(), false);
        };
        let all = reads.iter().enumerate().map(|(number, (run, source))| {
            let (version, origin) = match source {
                Source::Range { at, .. } => (Some(*at), Origin::Scan),
                Source::Key { version: Version::ZERO, .. } => (None, Origin::Nothing),
                Source::Key { version, .. } => {
                    (Some(*version), self.origin(Commit { run, version: *version }, (commit, number)))
                }
            };
            let shown = shown(source);
            Read { run, primitive: shown.primitive, key: shown.key, path: shown.path, version, origin }
        });
        (all.collect(), reads.is_truncated)
    }

    fn origin(&self, commit: Commit, place: Place) -> Origin {
        match self.found.get(&commit) {
            None => Origin::Further,
            Some(Ancestor { reads: None, .. }) => Origin::Unknown,
            Some(Ancestor { shown_at, .. }) if *shown_at == Some(place) => {
                let (reads, is_truncated) = self.reads_of(commit);
                Origin::Commit { reads, is_truncated }
            }
            Some(_) => Origin::Repeated,
        }
    }
}
