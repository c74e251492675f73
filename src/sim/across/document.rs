//! Documents: JSON that transactions share, each place in it a cell.
//!
//! - Whoever writes a document has read that it is there, or makes it. The member `m` says who made it.
//! - A place that holds nothing is away, but the object `b` and the array `l`: they are always there, and hold things.
//! - A document whose key begins with `k` is made once and lasts: nothing but pushes change its list.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::super::rng::Rng;
use super::action::Action;
use super::cell::{Cell, Content, LASTING_RUNS, run_of};
use super::swarm::Swarm;
use super::view::View;
use crate::base::json::Json;
use crate::base::json::path::Path;
use crate::base::key::{Name, Space};
use crate::base::stored::Stored;
use crate::base::value::Text;
use crate::base::version::Version;
use crate::primitive::command::{Command, JsonCommand};
use crate::store::memory::Memory;

/// What a document may hold.
const PLACES: [&str; 5] = ["m", "a", "b/x", "b/y", "l"];
/// Those that come and go.
const MEMBERS: [&str; 3] = ["a", "b/x", "b/y"];

/// A JSON document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Document {
    pub(super) run: u8,
    pub(super) key: String,
}

impl Document {
    /// Any of some.
    pub(super) fn any(swarm: &Swarm, rng: &mut Rng) -> Self {
        let at = u8::try_from(rng.below(swarm.width)).unwrap();
        let run = if rng.chance(100) { LASTING_RUNS } else { at % LASTING_RUNS };
        Self { run, key: format!("{}{at}", rng.pick(&["j", "j", "k"])) }
    }

    /// All that a run may have.
    pub(super) fn all(run: u8) -> impl Iterator<Item = Self> {
        let keys = ["j", "k"].into_iter().flat_map(|kind| (0..6).map(move |at| format!("{kind}{at}")));
        keys.map(move |key| Self { run, key })
    }

    fn lasts(&self) -> bool {
        self.key.starts_with('k')
    }

    pub(super) fn place(&self, place: &str) -> Cell {
        Cell::place(self.run, format!("{}/{place}", self.key))
    }

    /// The cell that is there if the document is.
    pub(super) fn made(&self) -> Cell {
        self.place("m")
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = Cell> {
        PLACES.iter().map(|place| self.place(place))
    }

    fn name(&self) -> Name {
        self.key.as_str().into()
    }

    pub(super) fn get(&self, place: &str) -> Command {
        Command::Json(JsonCommand::Get { key: self.name(), path: path(place) })
    }

    pub(super) fn replace(&self, place: &str, contents: &BTreeMap<Cell, Content>) -> Command {
        Command::Json(JsonCommand::Set { key: self.name(), path: path(place), value: self.json(place, contents) })
    }

    pub(super) fn make(&self, contents: &BTreeMap<Cell, Content>) -> Command {
        Command::Json(JsonCommand::Create { key: self.name(), document: self.json("", contents) })
    }

    pub(super) fn delete(&self) -> Command {
        Command::Json(JsonCommand::Delete { key: self.name() })
    }

    /// What is at a place of a document with these contents.
    fn json(&self, place: &str, contents: &BTreeMap<Cell, Content>) -> Json {
        let mut whole = json!({"b": {}, "l": []});
        for at in PLACES {
            if let Some(content) = contents.get(&self.place(at)) {
                match at.split_once('/') {
                    Some((object, member)) => whole[object][member] = json!(content),
                    None => whole[at] = json!(content),
                }
            }
        }
        let at = if place.is_empty() { whole } else { whole["b"].take() };
        Json::from_value(at).expect("it is small")
    }
}

fn path(place: &str) -> Path {
    Path::of(place.split('/').filter(|segment| !segment.is_empty()).map(Text::from)).expect("it is short")
}

fn of_cell(cell: &Cell) -> (Name, Path) {
    let (key, place) = cell.in_document();
    (key.into(), path(place))
}

pub(super) fn read(cell: &Cell) -> Command {
    let (key, path) = of_cell(cell);
    Command::Json(JsonCommand::Get { key, path })
}

/// Sets a place, by a merge or as a path.
pub(super) fn put(cell: &Cell, content: &[i64]) -> Command {
    let (key, path) = of_cell(cell);
    let value = json!(content);
    if content.last().is_some_and(|stamp| stamp % 2 == 0) {
        let wrap = |inner, segment: &Text| Value::Object(Map::from_iter([(segment.to_string(), inner)]));
        let merged = path.segments().iter().rev().fold(value, wrap);
        return Command::Json(JsonCommand::Merge { key, patch: Json::from_value(merged).expect("it is small") });
    }
    Command::Json(JsonCommand::Set { key, path, value: Json::from_value(value).expect("it is small") })
}

pub(super) fn push(cell: &Cell, stamp: i64) -> Command {
    let (key, path) = of_cell(cell);
    Command::Json(JsonCommand::Push { key, path, value: Json::from_value(json!(stamp)).expect("it is small") })
}

pub(super) fn delete(cell: &Cell) -> Command {
    let (key, path) = of_cell(cell);
    Command::Json(JsonCommand::DeleteAt { key, path })
}

/// What a place holds: an array of numbers.
pub(super) fn content_of(json: &Json) -> Option<Content> {
    let Json::Array(array) = json else { panic!("every place holds a list: {json:?}") };
    let number = |item: &Json| match item {
        Json::Number(number) => number.as_i64().expect("every number is a stamp"),
        other => panic!("every list is of numbers: {other:?}"),
    };
    let content: Content = array.items().iter().map(number).collect();
    (!content.is_empty()).then_some(content)
}

/// What was found at a place of a document and inside, by cell.
pub(super) fn contents_inside(document: &Document, place: &str, json: &Json) -> BTreeMap<Cell, Content> {
    match json {
        Json::Object(members) => {
            let inner = |key: &Text| if place.is_empty() { key.to_string() } else { format!("{place}/{key}") };
            members.iter().flat_map(|(key, member)| contents_inside(document, &inner(key), member)).collect()
        }
        json => content_of(json).map(|content| (document.place(place), content)).into_iter().collect(),
    }
}

/// The documents that a transaction is about.
pub(super) fn some_documents(swarm: &Swarm, rng: &mut Rng) -> Vec<Document> {
    let some: BTreeSet<Document> = (0..=rng.below(2)).map(|_| Document::any(swarm, rng)).collect();
    some.into_iter().collect()
}

/// Whether they are there, and some of what is in them and in others.
pub(super) fn look(documents: &[Document], swarm: &Swarm, rng: &mut Rng) -> Vec<Action> {
    let mut actions: Vec<Action> = documents.iter().map(|document| Action::Read(document.made())).collect();
    for _ in 0..rng.below(3) {
        let document = if rng.chance(500) { rng.pick(documents).clone() } else { Document::any(swarm, rng) };
        actions.push(match rng.below(8) {
            0 | 1 => Action::Inside(document, ""),
            2 => Action::Inside(document, "b"),
            3 => Action::Documents(document.run),
            _ => Action::Read(document.place(rng.pick::<&str>(&PLACES))),
        });
    }
    actions
}

/// Contents for some of these places; who makes a document says so.
fn contents(
    document: &Document,
    places: &[&str],
    rng: &mut Rng,
    stamp: &mut impl FnMut() -> i64,
) -> BTreeMap<Cell, Content> {
    let some = places.iter().filter(|place| **place == "m" || rng.chance(500));
    some.map(|place| (document.place(place), vec![stamp()])).collect()
}

/// Changes them: whoever is not there is made.
pub(super) fn change(
    documents: &[Document],
    deletes: u64,
    view: &View,
    rng: &mut Rng,
    mut stamp: impl FnMut() -> i64,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for document in documents {
        if view.known(&document.made()).is_none() {
            actions
                .push(Action::Make(document.clone(), contents(document, &["m", "a", "b/x", "b/y"], rng, &mut stamp)));
            continue;
        }
        if !document.lasts() && rng.chance(deletes) {
            let contents = contents(document, &["m", "a", "b/x"], rng, &mut stamp);
            actions.extend(match rng.below(3) {
                0 => vec![Action::DeleteDocument(document.clone())],
                1 => vec![Action::DeleteDocument(document.clone()), Action::Make(document.clone(), contents)],
                _ => vec![Action::Replace(document.clone(), "", contents)],
            });
            continue;
        }
        for _ in 0..=rng.below(2) {
            actions.push(match rng.below(8) {
                0 => Action::Replace(document.clone(), "b", contents(document, &["b/x", "b/y"], rng, &mut stamp)),
                1..4 => Action::Push(document.place("l"), stamp()),
                4 if rng.chance(deletes) => Action::Delete(document.place(rng.pick::<&str>(&MEMBERS))),
                _ => Action::Put(document.place(rng.pick::<&str>(&MEMBERS)), vec![stamp()], None),
            });
        }
    }
    actions
}

/// A command of its own. It may find nothing to change, and be refused.
pub(super) fn single(swarm: &Swarm, rng: &mut Rng, stamp: i64) -> Action {
    let document = Document::any(swarm, rng);
    match rng.below(8) {
        0 => Action::Inside(document, ""),
        1 | 2 => Action::Read(document.place(rng.pick::<&str>(&PLACES))),
        3 => Action::Make(document.clone(), BTreeMap::from([(document.made(), vec![stamp])])),
        4 | 5 => Action::Push(document.place("l"), stamp),
        6 if !document.lasts() && rng.chance(swarm.deletes) => Action::DeleteDocument(document),
        _ => Action::Put(document.place(rng.pick::<&str>(&MEMBERS)), vec![stamp], None),
    }
}

/// What each kept revision of a document changed, and its version. Of the oldest nobody can say, if there were older ones.
pub(super) fn changes(memory: &Memory) -> Vec<(Content, Version)> {
    let mut changes = Vec::new();
    let mut before = None;
    for (run, space, name, revision) in memory.every_revision().filter(|(_, space, ..)| *space == Space::Json) {
        let key = String::from_utf8_lossy(name).into_owned();
        let document = Document { run: run_of(run), key };
        let contents = match &revision.stored {
            Some(Stored::Json(json)) => contents_inside(&document, "", &json.root),
            _ => BTreeMap::new(),
        };
        let older = match before.replace((document.clone(), contents.clone())) {
            Some((other, older)) if other == document => Some(older),
            _ if memory.is_collected(&run, space, Version::ZERO) => None,
            _ => Some(BTreeMap::new()),
        };
        if let Some(older) = older {
            let new = contents.into_iter().filter(|(cell, content)| older.get(cell) != Some(content));
            changes.extend(new.map(|(_, content)| (content, revision.version)));
        }
    }
    changes
}
