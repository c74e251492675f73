//! Story: what a run did, commit by commit, as plain data.
//!
//! - Nothing of it is a whole state: a commit has what it changed, and of a document the edits since the form before.
//! - Values are the text of their JSON form: no number is rounded by who reads it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use in_mem::blocking::primitives::{Event, RunMetadata, RunStatus, Trace, TraceType};
use in_mem::blocking::serde_json::{self, Value as Json};
use in_mem::blocking::{ChainVerification, Change, Database, ReplayView, Result, RunId, Version};
use serde::{Serialize, Serializer};

use super::edit::{Edit, edits};

/// What a run did.
#[derive(Serialize)]
pub(super) struct Story {
    id: RunId,
    about: Option<About>,
    chain: ChainVerification,
    pub(super) commits: Vec<Commit>,
    pub(super) events: Vec<Appended>,
    pub(super) traces: Vec<Recorded>,
}

/// What is known about a run.
#[derive(Serialize)]
struct About {
    name: String,
    status: RunStatus,
    parent: Option<Parent>,
    created_at: i64,
    updated_at: i64,
    completed_at: Option<i64>,
    tags: Vec<String>,
    metadata: String,
    error: Option<String>,
}

#[derive(Serialize)]
struct Parent {
    id: RunId,
    /// `None`: it is not there any more.
    name: Option<String>,
}

/// One commit, and what it changed in what has keys. `None`: gone from then on.
#[derive(Serialize)]
pub(super) struct Commit {
    /// As text: it is more than a browser's numbers can tell apart.
    #[serde(serialize_with = "as_text")]
    pub(super) version: Version,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) kv: BTreeMap<String, Option<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) states: BTreeMap<String, Option<Cell>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) json: BTreeMap<String, Vec<Edit>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<Facts>,
}

#[derive(Serialize)]
pub(super) struct Cell {
    pub(super) value: String,
    version: u64,
}

/// What a commit made known about the run.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(super) struct Facts {
    status: RunStatus,
    tags: Vec<String>,
    metadata: String,
    error: Option<String>,
}

/// An event; its sequence is its place.
#[derive(Serialize)]
pub(super) struct Appended {
    pub(super) commit: usize,
    #[serde(rename = "type")]
    pub(super) event_type: String,
    pub(super) payload: String,
    timestamp: i64,
}

/// A trace.
#[derive(Serialize)]
pub(super) struct Recorded {
    pub(super) commit: usize,
    id: String,
    /// The place of the trace it belongs under.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<usize>,
    pub(super) kind: String,
    /// Nothing if it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    timestamp: i64,
    /// In milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<String>,
    pub(super) contents: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<String>,
}

/// How a trace ended, if not well.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// A call of a tool without a result.
    Unanswered,
    /// An error after which the agent can go on.
    Recoverable,
    Failed,
}

impl Story {
    pub(super) fn of(db: &Database, run: RunId) -> Result<Self> {
        let view = db.replay_run(run)?;
        let mut story = Self {
            id: run,
            about: view.metadata().map(|about| About::of(db, about)).transpose()?,
            chain: db.events().verify_chain(run)?,
            commits: Vec::new(),
            events: Vec::new(),
            traces: Vec::new(),
        };
        let (mut pairs, mut documents, mut places) = (BTreeSet::new(), HashMap::new(), HashMap::new());
        for step in view.steps() {
            story.commits.push(Commit::at(step.version));
            for change in step.changes {
                match change {
                    Change::Kv { key, .. } => drop(pairs.insert(key)),
                    change => story.add(change, &mut documents, &mut places)?,
                }
            }
        }
        story.add_pairs(&view, pairs)?;
        Ok(story)
    }

    fn add(
        &mut self,
        change: Change,
        documents: &mut HashMap<String, Json>,
        places: &mut HashMap<String, usize>,
    ) -> Result<()> {
        let at = self.commits.len() - 1;
        let commit = &mut self.commits[at];
        match change {
            Change::State { name, state } => {
                let cell = state.map(|state| Cell { value: state.value.to_string(), version: state.version });
                commit.states.insert(name, cell);
            }
            Change::Json { key, document } => {
                let before = documents.remove(&key);
                let made = edits(before.as_ref(), document.as_ref());
                documents.extend(document.map(|document| (key.clone(), document)));
                commit.json.insert(key, made);
            }
            Change::Run(about) => commit.run = Some(Facts::of(about)),
            Change::Event(event) => self.events.push(Appended::at(at, event)),
            Change::Trace(trace) => {
                let parent = trace.parent_id.as_ref().and_then(|parent| places.get(parent).copied());
                places.insert(trace.id.clone(), self.traces.len());
                self.traces.push(Recorded::at(at, parent, trace)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The pairs come from their own histories, which also say when one expired: gone from the first commit after that.
    fn add_pairs(&mut self, view: &ReplayView, keys: BTreeSet<String>) -> Result<()> {
        for key in keys {
            for entry in view.kv().history(&key)? {
                let at = self.commits.partition_point(|commit| commit.version < entry.version);
                if let Some(commit) = self.commits.get_mut(at) {
                    commit.kv.insert(key.clone(), entry.value.map(|value| value.to_string()));
                }
            }
        }
        Ok(())
    }
}

impl About {
    fn of(db: &Database, about: RunMetadata) -> Result<Self> {
        let parent = match about.parent_run {
            Some(id) => Some(Parent { id, name: db.runs().get_run(id)?.map(|parent| parent.name) }),
            None => None,
        };
        Ok(Self {
            parent,
            name: about.name,
            status: about.status,
            created_at: about.created_at,
            updated_at: about.updated_at,
            completed_at: about.completed_at,
            tags: about.tags,
            metadata: about.metadata.to_string(),
            error: about.error,
        })
    }
}

impl Commit {
    const fn at(version: Version) -> Self {
        Self { version, kv: BTreeMap::new(), states: BTreeMap::new(), json: BTreeMap::new(), run: None }
    }
}

impl Facts {
    fn of(about: RunMetadata) -> Self {
        let RunMetadata { status, tags, metadata, error, .. } = about;
        Self { status, tags, metadata: metadata.to_string(), error }
    }
}

impl Appended {
    fn at(commit: usize, event: Event) -> Self {
        let Event { event_type, payload, timestamp, .. } = event;
        Self { commit, event_type, payload: payload.to_string(), timestamp }
    }
}

impl Recorded {
    fn at(commit: usize, parent: Option<usize>, trace: Trace) -> Result<Self> {
        let (outcome, duration) = match &trace.trace_type {
            TraceType::ToolCall { result, duration_ms, .. } => {
                (result.is_none().then_some(Outcome::Unanswered), *duration_ms)
            }
            TraceType::Error { recoverable: true, .. } => (Some(Outcome::Recoverable), None),
            TraceType::Error { .. } => (Some(Outcome::Failed), None),
            _ => (None, None),
        };
        Ok(Self {
            commit,
            parent,
            kind: trace.trace_type.kind(),
            outcome,
            duration,
            id: trace.id,
            timestamp: trace.timestamp,
            tags: trace.tags,
            contents: contents(&trace.trace_type)?,
            metadata: (!trace.metadata.is_null()).then(|| trace.metadata.to_string()),
        })
    }
}

/// The fields of a trace of its kind, without its duration.
fn contents(trace_type: &TraceType) -> Result<String> {
    let tagged = serde_json::to_value(trace_type)?;
    let fields = tagged.as_object().into_iter().flat_map(serde_json::Map::values).filter_map(Json::as_object).flatten();
    let kept = fields.filter(|(name, _)| *name != "duration_ms");
    Ok(kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Json>().to_string())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn as_text<S: Serializer>(version: &Version, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}
