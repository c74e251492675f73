//! Lineage: what a commit read, from the reads that its validation looks at, and as a person would write it.
//!
//! - What was read is as it was at the transaction's snapshot: the commit is there because nothing of it has changed since.
//! - What every write looks at itself is left out: the metadata of its run, and the end of the log that it appends to.
//! - Of a JSON document the places count that were read. Their version is that of the document.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::digest::Links;
use super::history::{complete, incomplete};
use super::output::Output;
use super::trace_store::{format_id, parse_id};
use crate::base::error::{Error, Result};
use crate::base::json::path::Path;
use crate::base::key::{Name, NameBuffer, Space, leading_texts, number_at_end, number_name, prefix_end, unit_name};
use crate::base::lineage::{ReadSet, Source};
use crate::base::primitive::Primitive;
use crate::base::run_id::RunId;
use crate::base::stored::Write;
use crate::base::value::Text;
use crate::base::version::Version;
use crate::commit::access::Access;
use crate::commit::part::Part;
use crate::store::memory::{Memory, NameRange};

/// How the key of what is known about a run is written.
const METADATA: &str = "metadata";

/// What a part read, if the database keeps that.
pub(crate) fn read_by(memory: &Memory, part: &Part) -> Option<Arc<ReadSet>> {
    (memory.keeps_lineage() && part.is_tracking()).then(|| Arc::new(Reading::new(memory, part).all()))
}

/// What a commit with this one part read, if that is kept of any of its runs.
pub(crate) fn read_by_commit(memory: &Memory, part: &Part, links: &Links) -> Option<Arc<ReadSet>> {
    if links.iter().any(|(_, link)| link.is_known()) { read_by(memory, part) } else { None }
}

/// Remembers what a commit read, for the runs that it left something in.
pub(crate) fn note(
    memory: &mut Memory,
    version: Version,
    runs: impl IntoIterator<Item = RunId>,
    reads: Option<&Arc<ReadSet>>,
) {
    let Some(reads) = reads else { return };
    for run in runs {
        memory.note_lineage(run, version, Arc::clone(reads));
    }
}

/// What a part read.
struct Reading<'a> {
    memory: &'a Memory,
    part: &'a Part,
    written: BTreeSet<RunId>,
    appended: BTreeSet<RunId>,
}

impl<'a> Reading<'a> {
    fn new(memory: &'a Memory, part: &'a Part) -> Self {
        let appends = |write: &&Write| matches!(write, Write::Put { space: Space::Event, .. });
        Self {
            memory,
            part,
            written: part.writes().iter().map(Write::run).collect(),
            appended: part.writes().iter().filter(appends).map(Write::run).collect(),
        }
    }

    fn all(&self) -> ReadSet {
        let keys = self.part.reads().iter().filter_map(|(run, space, name)| self.key(*run, *space, name));
        let ranges = self.part.ranges().iter().filter_map(|(run, space, range)| self.range(*run, *space, range));
        ReadSet::of(keys.chain(ranges))
    }

    fn key(&self, run: RunId, space: Space, name: &Name) -> Option<(RunId, Source)> {
        let counts = match space {
            // The range says the same, and what is in it.
            Space::JsonPath => false,
            Space::Run => !self.written.contains(&run),
            Space::EventHead => !self.appended.contains(&run),
            _ => true,
        };
        (counts && run != RunId::DIRECTORY).then(|| (run, self.held(run, space, (space, name), name)))
    }

    fn range(&self, run: RunId, space: Space, (from, to): &NameRange) -> Option<(RunId, Source)> {
        if run == RunId::DIRECTORY {
            return None;
        }
        let from = match from {
            Bound::Included(from) => from.clone(),
            Bound::Excluded(before) => next_name(before),
            Bound::Unbounded => Name::new(),
        };
        let to = match to {
            Bound::Included(last) => Some(next_name(last)),
            Bound::Excluded(to) => Some(to.clone()),
            Bound::Unbounded => None,
        };
        let source = match space {
            Space::JsonPath => {
                let document = leading_texts(&from).into_iter().next().unwrap_or_default();
                self.held(run, space, (Space::Json, &Name::from(document.as_str())), &from)
            }
            Space::JsonKey if to.as_ref() == Some(&next_name(&from)) => {
                self.held(run, Space::Json, (Space::Json, &from), &from)
            }
            _ => Source::Range { space, from, to, at: self.part.snapshot },
        };
        Some((run, source))
    }

    /// A source that holds what a key held.
    fn held(&self, run: RunId, space: Space, (held_in, key): (Space, &Name), name: &Name) -> Source {
        let snapshot = self.part.snapshot;
        let revision = self.memory.at(&run, held_in, key, snapshot);
        let version = revision.filter(|revision| revision.live_at(snapshot).is_some());
        let version = version.map_or(Version::ZERO, |revision| revision.version);
        Source::Key { space, name: name.clone(), version }
    }
}

/// The first name behind another one.
fn next_name(name: &Name) -> Name {
    let mut next = NameBuffer::from_slice(name);
    next.push(0);
    Name::from_slice(&next)
}

/// What the commit read that wrote a key at a version.
///
/// # Errors
/// `KeyNotFound` if no commit of the run wrote the key at that version, `InvalidOperation` if nobody kept what it read.
pub(super) fn explain(
    access: &mut Access<'_>,
    run: RunId,
    (space, name): (Space, Name),
    version: Version,
) -> Result<Output> {
    if !access.keeps_lineage() {
        let reason = "what commits read is not kept, open the database with `DatabaseBuilder::lineage(true)`";
        return Err(Error::InvalidOperation(format!("{reason}: run={run}")));
    }
    complete(access, run)?;
    if !access.keeps_commits(run) {
        return Err(incomplete(run, version));
    }
    // What is derived from a write has no history.
    if !space.is_derived() && !access.was_written(run, space, &name, version) {
        let (primitive, key) = (space.primitive(), shown_key(space, &name));
        return Err(Error::KeyNotFound(format!(
            "no commit wrote that: run={run} primitive={primitive} key={key:?} version={version}"
        )));
    }
    access.lineage_of(run, version).map(Output::Lineage).ok_or_else(|| {
        let reason = "nobody kept what the commit read, lineage was not on then";
        Error::InvalidOperation(format!("{reason}: run={run} version={version}"))
    })
}

/// Where something is kept, by its key as a person would write it.
pub(crate) fn place_of(primitive: Primitive, key: &str) -> Option<(Space, Name)> {
    let name = || Name::from_slice(key.as_bytes());
    match primitive {
        Primitive::Kv => Some((Space::Kv, name())),
        Primitive::States => Some((Space::State, name())),
        Primitive::Json => Some((Space::Json, name())),
        Primitive::Events => {
            let sequence = key.parse().ok().filter(|sequence: &u64| sequence.to_string() == key);
            sequence.map(|sequence| (Space::Event, number_name(sequence)))
        }
        Primitive::Traces => parse_id(key).map(|number| (Space::Trace, number_name(number))),
        Primitive::Runs => (key == METADATA).then(|| (Space::Run, unit_name())),
    }
}

/// A source as a person would write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) primitive: Primitive,
    pub(crate) key: String,
    pub(crate) path: Option<String>,
}

/// A source as a person would write it: the key, or which keys.
pub(crate) fn shown(source: &Source) -> Shown {
    match source {
        Source::Key { space: Space::JsonPath, name, .. } => {
            let mut texts = leading_texts(name).into_iter();
            let key = texts.next().unwrap_or_default();
            let path = Path::of(texts.map(Text::from)).map_or_else(|_| String::new(), |path| path.to_string());
            Shown { primitive: Primitive::Json, key, path: Some(path) }
        }
        Source::Key { space, name, .. } => {
            Shown { primitive: Primitive::of(*space), key: shown_key(*space, name), path: None }
        }
        Source::Range { space, from, to, .. } => {
            Shown { primitive: Primitive::of(*space), key: shown_range(*space, from, to.as_ref()), path: None }
        }
    }
}

/// Where the commit is to be asked for that wrote a source.
pub(crate) fn place_of_source(space: Space, name: &Name) -> (Space, Name) {
    match space {
        Space::JsonPath => {
            let document = leading_texts(name).into_iter().next().unwrap_or_default();
            (Space::Json, Name::from_slice(document.as_bytes()))
        }
        _ => (space, name.clone()),
    }
}

fn shown_key(space: Space, name: &Name) -> String {
    match space {
        Space::Trace => number_at_end(name).map_or_else(String::new, format_id),
        _ => space.show(name),
    }
}

fn shown_range(space: Space, from: &Name, to: Option<&Name>) -> String {
    let is_prefix = prefix_end(from).as_ref() == to;
    match space {
        Space::Event | Space::Trace => {
            // The first number behind another one is that with a zero byte.
            let number = |name: &Name| {
                let whole = name.get(..8).map(Name::from_slice);
                whole.map_or_else(String::new, |name| shown_key(space, &name))
            };
            format!("{}..{}", number(from), to.map_or_else(String::new, number))
        }
        Space::EventType | Space::TraceKind => format!("type={}", space.show(from)),
        Space::TraceTag => format!("tag={}", space.show(from)),
        Space::TraceChild => number_at_end(from).map_or_else(
            || space.show(from),
            |parent| if parent == 0 { "roots".into() } else { format!("parent={}", format_id(parent)) },
        ),
        _ if is_prefix => format!("{}*", String::from_utf8_lossy(from)),
        _ => {
            let text = |name: &Name| String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned();
            format!("{}..{}", text(from), to.map_or_else(String::new, text))
        }
    }
}
