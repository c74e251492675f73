//! Drafts: a JSON document as a command changes it.
//!
//! - Everything is checked against what the command sees, edit by edit, before the first write.
//! - JSON Patch and JSON Merge Patch become edits of single places here, which keep the order of what they do not touch.

use std::sync::Arc;

use super::command::JsonOperation;
use super::index;
use super::json_store::look;
use super::output::Output;
use crate::base::error::{Error, Result};
use crate::base::json::edit::{Change, Edit};
use crate::base::json::path::{self, Path};
use crate::base::json::{Document, Json};
use crate::base::key::{Name, Space};
use crate::base::limits;
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::value::Text;
use crate::commit::access::Access;

/// A document as it will be, and how it comes to that.
pub(super) struct Draft<'a, 'm> {
    access: &'a mut Access<'m>,
    run: RunId,
    key: Name,
    /// Nothing if there is no document.
    document: Option<Document>,
    edits: Vec<Edit>,
    /// Whether it was made or replaced as a whole: the edits do not count then.
    is_whole: bool,
}

impl<'a, 'm> Draft<'a, 'm> {
    pub(super) fn open(access: &'a mut Access<'m>, run: RunId, key: Name) -> Self {
        access.note_edit(run, &key);
        let document = look(access, run, &key).map(|(document, _)| document.draft());
        Self { access, run, key, document, edits: Vec::new(), is_whole: false }
    }

    /// The draft of a document that must be there.
    pub(super) fn open_existing(access: &'a mut Access<'m>, run: RunId, key: Name) -> Result<Self> {
        access.note_key(run, &key);
        let mut draft = Self::open(access, run, key);
        if draft.document.is_none() { Err(draft.missing(&Path::default())) } else { Ok(draft) }
    }

    /// Notes that a path is read.
    fn note(&mut self, path: &Path) {
        self.access.note_path(self.run, &self.key, path);
    }

    /// What is at a path.
    pub(super) fn read(&mut self, path: &Path) -> Option<Json> {
        self.note(path);
        self.peek(path.segments()).cloned()
    }

    /// What is at a path that is noted otherwise.
    fn peek(&self, path: &[Text]) -> Option<&Json> {
        self.document.as_ref()?.root.at(path)
    }

    /// The array or object that a path ends in, and the last segment.
    fn parent<'p>(&self, path: &'p Path) -> Option<(&Json, &'p Text)> {
        let (last, parent) = path.segments().split_last()?;
        Some((self.peek(parent)?, last))
    }

    pub(super) fn set(&mut self, path: Path, value: Json) -> Result<()> {
        self.note(&path);
        if path.is_root() {
            limits::check_json_bytes(value.size().text())?;
            self.document = Some(Document::new(value));
            self.edits.clear();
            self.is_whole = true;
            return Ok(());
        }
        match self.parent(&path) {
            Some((Json::Object(_), _)) => {}
            Some((Json::Array(array), at)) if path::index(at).is_some_and(|at| at < array.items().len()) => {}
            _ => return Err(self.missing(&path)),
        }
        self.edit(path, Change::Set(value))
    }

    /// Takes away what is there.
    pub(super) fn remove(&mut self, path: Path) -> Result<()> {
        match self.parent(&path) {
            Some((Json::Object(_), _)) => self.edit(path, Change::Remove),
            Some((Json::Array(_), _)) => {
                self.note(&path.parent().unwrap_or_default());
                self.edit(path, Change::Take)
            }
            _ => Err(self.missing(&path)),
        }
    }

    pub(super) fn insert(&mut self, array: &Path, at: usize, value: Json) -> Result<()> {
        self.note(array);
        let items = match self.peek(array.segments()) {
            Some(Json::Array(array)) => array.items().len(),
            _ => return Err(self.missing(array)),
        };
        limits::check_json_items(items + 1)?;
        self.edit(array.child(at.to_string().into()), Change::Insert(value))
    }

    /// Adds a member to an object, or an item to an array, where RFC 6902 says.
    fn add(&mut self, path: Path, value: Json) -> Result<()> {
        self.note(&path);
        let Some((Json::Array(array), last)) = self.parent(&path) else { return self.set(path, value) };
        let length = array.items().len();
        let at = if last == "-" { Some(length) } else { path::index(last).filter(|at| *at <= length) };
        match at.zip(path.parent()) {
            Some((at, array)) => self.insert(&array, at, value),
            None => Err(self.missing(&path)),
        }
    }

    fn edit(&mut self, path: Path, change: Change) -> Result<()> {
        if let Change::Set(value) | Change::Insert(value) = &change {
            limits::check_json_depth(path.segments().len() + value.depth())?;
        }
        let edit = Edit { path, change };
        let edited = self.document.as_mut().map_or(Err(()), |document| {
            let before = document.root.size().text();
            let edited = document.edit(&edit);
            edited.map(|()| (before, document.root.size().text())).map_err(drop)
        });
        let Ok((before, after)) = edited else { return Err(self.missing(&edit.path)) };
        // Siblings that grew at the same time may have gone past the limit: what makes it smaller is welcome.
        if after > before {
            limits::check_json_bytes(after)?;
        }
        if !self.is_whole {
            self.edits.push(edit);
        }
        Ok(())
    }

    /// One operation of a JSON Patch.
    pub(super) fn patch(&mut self, number: usize, operation: JsonOperation) -> Result<()> {
        match operation {
            JsonOperation::Add { path, value } => self.add(path, value),
            JsonOperation::Remove { path } if path.is_root() => {
                Err(self.refused("a patch does not remove the whole document", &path))
            }
            JsonOperation::Remove { path } => {
                self.need(&path)?;
                self.remove(path)
            }
            JsonOperation::Replace { path, value } => {
                self.need(&path)?;
                self.set(path, value)
            }
            JsonOperation::Move { from, path } if from.holds(&path) => {
                Err(self.refused("a patch does not move a value into itself", &path))
            }
            JsonOperation::Move { from, path } => {
                let value = self.need(&from)?;
                if from == path {
                    return Ok(());
                }
                self.remove(from)?;
                self.add(path, value)
            }
            JsonOperation::Copy { from, path } => {
                let value = self.need(&from)?;
                self.add(path, value)
            }
            JsonOperation::Test { path, value } => match self.read(&path) {
                Some(found) if found.is_same(&value) => Ok(()),
                _ => Err(self.refused(&format!("a test of the patch failed: operation={number}"), &path)),
            },
        }
    }

    fn need(&mut self, path: &Path) -> Result<Json> {
        self.read(path).ok_or_else(|| self.missing(path))
    }

    /// A JSON Merge Patch of what is at a path.
    pub(super) fn merge(&mut self, path: Path, merged: &Json) -> Result<()> {
        let Json::Object(members) = merged else { return self.set(path, merged.clone()) };
        if !matches!(self.peek(path.segments()), Some(Json::Object(_))) {
            return self.set(path, merged.without_nulls());
        }
        if members.is_empty() {
            self.note(&path);
        }
        for (key, member) in members.iter() {
            let path = path.child(key.clone());
            match member {
                Json::Null if self.read(&path).is_some() => self.remove(path)?,
                Json::Null => {}
                member => self.merge(path, member)?,
            }
        }
        Ok(())
    }

    /// Writes what has changed, if anything has.
    pub(super) fn write(self) -> Result<Output> {
        let name = Name::from_slice(&self.key);
        match self.document {
            Some(document) if self.is_whole => {
                let stored = Stored::Json(Arc::new(Document::new(document.root)));
                index::put(self.access, self.run, Space::Json, name, stored, None)?;
            }
            Some(document) if !self.edits.is_empty() => {
                index::edit_json(self.access, self.run, &name, self.edits, document)?;
            }
            _ => {}
        }
        Ok(Output::Unit)
    }

    /// There is nothing at a path, or nothing that it could be in.
    pub(super) fn missing(&mut self, path: &Path) -> Error {
        self.note(path);
        let (run, key) = (self.run, self.key.as_str());
        match self.document {
            Some(_) => Error::KeyNotFound(format!("place in a JSON document: run={run} key={key:?} path={path}")),
            None => Error::KeyNotFound(format!("JSON document: run={run} key={key:?}")),
        }
    }

    pub(super) fn refused(&self, why: &str, path: &Path) -> Error {
        Error::InvalidOperation(format!("{why}: run={} key={:?} path={path}", self.run, self.key.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::command::JsonCommand;
    use super::super::harness::{Harness, assert_refused};
    use super::*;

    fn json(value: Value) -> Json {
        Json::from_value(value).unwrap()
    }

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    fn get() -> JsonCommand {
        JsonCommand::Get { key: "d".into(), path: Path::default() }
    }

    fn set(at: &str, value: impl Into<Value>) -> JsonCommand {
        JsonCommand::Set { key: "d".into(), path: path(at), value: json(value.into()) }
    }

    fn merge(patch: Value) -> JsonCommand {
        JsonCommand::Merge { key: "d".into(), patch: json(patch) }
    }

    fn with(document: Value) -> Harness {
        let mut harness = Harness::new();
        harness.run(JsonCommand::Create { key: "d".into(), document: json(document) }).unwrap();
        harness
    }

    fn add(at: &str, value: Value) -> JsonOperation {
        JsonOperation::Add { path: path(at), value: json(value) }
    }

    fn patch(operations: Vec<JsonOperation>) -> JsonCommand {
        JsonCommand::Patch { key: "d".into(), operations }
    }

    #[test]
    fn a_patch_that_fails_changes_nothing() {
        let document = json!({"a": 1});
        let mut harness = with(document.clone());
        let test = JsonOperation::Test { path: path("a"), value: json(json!(2)) };
        assert_refused(harness.run(patch(vec![add("b", json!(1)), test])), "a test of the patch failed: operation=1");
        let remove = JsonOperation::Remove { path: path("x") };
        assert!(matches!(harness.run(patch(vec![add("b", json!(1)), remove])), Err(Error::KeyNotFound(_))));
        assert_eq!(harness.run(get()).unwrap(), Output::Json(Some(json(document))));
    }

    #[test]
    fn a_patch_cannot_grow_a_document_beyond_its_limits() {
        let mut harness = with(json!({"a": "x".repeat(100_000)}));
        let double = |number: usize| JsonOperation::Copy { from: Path::default(), path: path(&format!("c{number}")) };
        let result = harness.run(patch((0..200).map(double).collect()));
        assert!(matches!(result, Err(Error::LimitExceeded { .. })), "{result:?}");
        let deep = (0..99).fold(json!(1), |inner, _| json!({"k": inner}));
        harness.run(set("deep", deep)).unwrap();
        let bottom = format!("deep{}", ".k".repeat(99));
        let result = harness.run(set(&bottom, json!([])));
        assert!(matches!(result, Err(Error::LimitExceeded { .. })), "{result:?}");
        harness.run(set(&bottom, 2)).unwrap();
    }

    /// Places of a small document.
    const PLACES: [&str; 8] = ["/a", "/a/b", "/a/b/0", "/a/b/1", "/a/c", "/ab", "/d", "/d/e"];

    proptest! {
        /// Patches do what the json-patch crate does with them, which keeps no order (and panics where it cannot undo).
        #[test]
        fn a_patch_does_what_the_json_patch_crate_does(operations in prop::collection::vec(operation(), 0..6)) {
            let document = json!({"a": {"b": [1, 2], "c": null}, "ab": "text", "d": {"e": {}}});
            let mut harness = with(document.clone());
            let mut expected = document.clone();
            let theirs: json_patch::Patch = serde_json::from_value(Value::Array(operations.clone())).unwrap();
            let accepted = json_patch::patch_unsafe(&mut expected, &theirs).is_ok();
            let ours = operations.iter().map(ours).collect();
            prop_assert_eq!(harness.run(patch(ours)).is_ok(), accepted, "{}", theirs);
            match harness.run(get()).unwrap() {
                Output::Json(Some(found)) => prop_assert_eq!(found.to_value(), if accepted { expected } else { document }),
                other => panic!("no document: {other:?}"),
            }
            let now = harness.version();
            prop_assert_eq!(harness.recovered().dump(now), harness.memory.dump(now));
        }

        #[test]
        fn a_merge_does_what_the_json_patch_crate_does(patch in value(3)) {
            let mut document = json!({"a": {"b": [1, 2], "c": null}, "ab": "text", "d": {"e": {}}});
            let mut harness = with(document.clone());
            harness.run(merge(patch.clone())).unwrap();
            json_patch::merge(&mut document, &patch);
            match harness.run(get()).unwrap() {
                Output::Json(Some(found)) => prop_assert_eq!(found.to_value(), document),
                other => panic!("no document: {other:?}"),
            }
        }
    }

    fn value(depth: u32) -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(null)), Just(json!(1)), Just(json!("text")), Just(json!([]))];
        leaf.prop_recursive(depth, 12, 3, |inner| {
            let key = prop::sample::select(vec!["a", "b", "c", "d", "e"]);
            prop::collection::btree_map(key, inner, 0..4).prop_map(|members| json!(members))
        })
    }

    /// An operation of a patch, as JSON.
    fn operation() -> impl Strategy<Value = Value> {
        let place = || prop::sample::select([&PLACES[..], &["/a/b/2", "/a/b/-", "/x/y", "/d/e/f"]].concat());
        let name = prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test"]);
        (name, place(), place(), value(2))
            .prop_map(|(op, from, path, value)| json!({"op": op, "from": from, "path": path, "value": value}))
    }

    fn ours(operation: &Value) -> JsonOperation {
        let at = |name: &str| path(operation[name].as_str().unwrap());
        let (path, from, value) = (at("path"), at("from"), json(operation["value"].clone()));
        match operation["op"].as_str().unwrap() {
            "add" => JsonOperation::Add { path, value },
            "remove" => JsonOperation::Remove { path },
            "replace" => JsonOperation::Replace { path, value },
            "move" => JsonOperation::Move { from, path },
            "copy" => JsonOperation::Copy { from, path },
            _ => JsonOperation::Test { path, value },
        }
    }
}
