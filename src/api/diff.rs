//! Diff: what differs between two runs, and where they parted.

use std::borrow::Borrow;

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::builder::on_thread;
use super::database::Database;
use super::op::Op;
use super::replay::{ReplayView, Step, records_of};
use super::transacting::Transacting;
use crate::base::run_id::RunId;
use crate::base::value::Value;
use crate::primitive::action::Action;
use crate::primitive::diff::{DiffEntry, diff};

impl Database {
    /// Compares two runs, rebuilt from their histories, as they were after the later of their last commits: what `b` has that
    /// `a` has not, the other way round, and what both have in different forms; and the first step at which they did different
    /// things. Of a run and its child, what the child began with is what the parent did until then.
    ///
    /// What differs between any two runs does not count: ids, names, times, durations, versions, hashes, and the run they come
    /// from. [`ReplayView::diff`] compares runs as they were earlier, or a run with its own past. All records of both
    /// runs are held in memory. The time it takes is proportional to them, and bounded where many events or traces differ.
    ///
    /// # Errors
    /// Those of [`replay_run`](Self::replay_run), for either run.
    ///
    /// # Cancel safety
    /// Reads only. Dropped while the runs are compared, on a thread of their own, that goes on and its result is lost.
    pub fn diff_runs(&self, a: impl Borrow<RunId>, b: impl Borrow<RunId>) -> Op<RunDiff> {
        let (engine, a, b) = (self.engine().clone(), *a.borrow(), *b.borrow());
        Op::steps(async move {
            let transacting = Transacting::new(engine.clone());
            transacting.begin(engine.shard_of(&a), None).await?;
            let of_a = records_of(&engine, &transacting, a).await?;
            let of_b = records_of(&engine, &transacting, b).await?;
            drop(transacting);
            // What has expired before the later of their last commits is gone from both.
            let at = Some(of_a.last().max(of_b.last()));
            let compare = move || {
                let a = ReplayView::of(engine.clone(), a, of_a, at)?;
                Ok(a.diff(&ReplayView::of(engine, b, of_b, at)?))
            };
            on_thread("in-mem-diff", compare).await
        })
    }
}

impl ReplayView {
    /// Compares this run, as it is in this view, with another, or with itself at another version; see
    /// [`Database::diff_runs`].
    #[must_use]
    pub fn diff(&self, b: &Self) -> RunDiff {
        let found = diff(&self.side(), &b.side());
        let divergence = found.divergence.map(|parting| Divergence {
            index: parting.steps.into_iter().max().unwrap_or_default(),
            a: self.step(parting.steps[0]),
            b: b.step(parting.steps[1]),
            did: [parting.a, parting.b].map(|actions| actions.map(|actions| actions.iter().map(Deed::of).collect())),
        });
        let first_divergence = divergence.as_ref().and_then(|divergence| divergence.b.clone().or(divergence.a.clone()));
        RunDiff { added: found.added, removed: found.removed, modified: found.modified, first_divergence, divergence }
    }
}

/// What differs between two runs, in a fixed order: pairs, events, states, traces, the runs themselves, each by key or position.
///
/// - Pairs and states are compared by key.
/// - Events and traces are aligned as sequences: those that are the same in both stay out of it wherever they are, and between
///   them an event of the same type, or a trace of the same kind, counts as modified. The value of an event has `type` and
///   `payload`; that of a trace `type`, `tags`, `metadata`, and, where it differs, the position of its `parent`.
///
/// As text (`{}`, long values cut short; `{:#}`, all of them) and as JSON it is the same for runs that did the same, whenever
/// and wherever.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDiff {
    /// What only run `b` has.
    pub added: Vec<DiffEntry>,
    /// What only run `a` has.
    pub removed: Vec<DiffEntry>,
    /// What both have and is not the same.
    pub modified: Vec<DiffEntry>,
    /// The first step of run `b` that did something else than the step of run `a` at the same place; the step of run `a`, if
    /// `b` had none any more. `None`: they did the same, step by step.
    pub first_divergence: Option<Step>,
    /// Where that is, and the steps of both runs there.
    pub divergence: Option<Divergence>,
}

/// The place at which two runs first did different things.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// How many steps they have in common; those of a parent that its child began with count.
    pub index: usize,
    /// The next step of run `a`, if there is one.
    pub a: Option<Step>,
    /// The next step of run `b`, if there is one.
    pub b: Option<Step>,
    /// What those did, without what differs between any two steps.
    pub(super) did: [Option<Vec<Deed>>; 2],
}

/// One thing that a step did.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Deed {
    pub(super) primitive: &'static str,
    pub(super) key: String,
    pub(super) value: Option<Value>,
}

impl Deed {
    fn of(action: &Action) -> Self {
        Self { primitive: action.space.primitive(), key: action.key.clone(), value: action.whole() }
    }
}

impl RunDiff {
    /// Whether both runs did the same, step by step.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.modified.is_empty() && self.divergence.is_none()
    }

    /// The difference as JSON: `added`, `removed` and `modified`, lists of entries in which `a`, `b` and `path` are left out
    /// where there is nothing; and `first_divergence`, null or the `index` of the step and what it did in `a` and in `b`, where
    /// null means that there was none.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let list = |entries: &[DiffEntry]| entries.iter().map(entry_json).collect::<Json>();
        let did = |deeds: &Option<Vec<Deed>>| deeds.as_ref().map(|deeds| deeds.iter().map(deed_json).collect::<Json>());
        let divergence = self.divergence.as_ref().map(|divergence| {
            let [a, b] = &divergence.did;
            json!({"a": did(a), "b": did(b), "index": divergence.index})
        });
        json!({
            "added": list(&self.added),
            "first_divergence": divergence,
            "modified": list(&self.modified),
            "removed": list(&self.removed),
        })
    }
}

/// As [`RunDiff::to_json`].
impl Serialize for RunDiff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

fn entry_json(entry: &DiffEntry) -> Json {
    let text = |text: &str| Some(Json::from(text));
    let DiffEntry { primitive, key, path, a, b } = entry;
    let path = path.as_deref().and_then(text);
    object([
        ("a", json_of(a.as_ref())),
        ("b", json_of(b.as_ref())),
        ("key", text(key)),
        ("path", path),
        ("primitive", text(primitive)),
    ])
}

fn deed_json(deed: &Deed) -> Json {
    let Deed { primitive, key, value } = deed;
    object([
        ("key", Some(key.as_str().into())),
        ("primitive", Some((*primitive).into())),
        ("value", json_of(value.as_ref())),
    ])
}

fn json_of(value: Option<&Value>) -> Option<Json> {
    value.map(Value::to_json)
}

fn object<const N: usize>(fields: [(&str, Option<Json>); N]) -> Json {
    fields.into_iter().filter_map(|(name, json)| json.map(|json| (name.to_owned(), json))).collect()
}
