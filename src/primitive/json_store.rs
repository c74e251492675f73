//! JSON documents.
//!
//! - What a command changes is worked out against what it sees, into edits of single places. These are logged; only a
//!   document that is made, or replaced as a whole, is logged whole.
//! - Every path that is read or written is noted as read: two transactions conflict if one writes what the other reads or
//!   writes, or something inside or around it. What moves the items of an array writes the array.
//! - Whether there is a document at all is noted beside: lists conflict with documents made and deleted, and not with
//!   edits.

use std::sync::Arc;

use super::command::JsonCommand;
use super::draft::Draft;
use super::output::Output;
use super::{index, text_of, writable};
use crate::base::error::{Error, Result};
use crate::base::json::path::Path;
use crate::base::json::{Document, Json};
use crate::base::key::Name;
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::version::Version;
use crate::commit::access::{Access, Scan};

pub(super) fn execute(access: &mut Access<'_>, run: RunId, command: JsonCommand) -> Result<Output> {
    match command {
        JsonCommand::Get { key, path } => {
            access.note_path(run, &key, &path);
            let found = look(access, run, &key);
            Ok(Output::Json(found.and_then(|(document, _)| document.root.at(path.segments()).cloned())))
        }
        JsonCommand::Version { key } => Ok(Output::Version(version(access, run, &key))),
        JsonCommand::Exists { key } => {
            access.note_key(run, &key);
            Ok(Output::Flag(look(access, run, &key).is_some()))
        }
        JsonCommand::List { prefix } => {
            let mut keys = Vec::new();
            let scan = prefix.map_or_else(Scan::all, |prefix| Scan::prefix(prefix.as_bytes()));
            access.scan_keys(run, &scan, |name| keys.push(text_of(name)));
            Ok(Output::Texts(keys))
        }
        write => {
            writable(access, run)?;
            change(access, run, write)
        }
    }
}

fn change(access: &mut Access<'_>, run: RunId, command: JsonCommand) -> Result<Output> {
    match command {
        JsonCommand::Create { key, document } => {
            if version(access, run, &key).is_some() {
                return Err(Error::AlreadyExists(format!("JSON document: run={run} key={:?}", key.as_str())));
            }
            let mut draft = Draft::open(access, run, key);
            draft.set(Path::default(), document)?;
            draft.write()
        }
        JsonCommand::Set { key, path, value } => {
            let mut draft = Draft::open(access, run, key);
            draft.set(path, value)?;
            draft.write()
        }
        JsonCommand::CompareAndSet { key, expected, path, value } => {
            let actual = version(access, run, &key);
            if actual != Some(expected) {
                let actual = actual.unwrap_or_default().get();
                return Err(Error::VersionMismatch { expected: expected.get(), actual });
            }
            let mut draft = Draft::open(access, run, key);
            draft.set(path, value)?;
            draft.write()
        }
        JsonCommand::Patch { key, operations } => {
            let mut draft = Draft::open_existing(access, run, key)?;
            for (number, operation) in operations.into_iter().enumerate() {
                draft.patch(number, operation)?;
            }
            draft.write()
        }
        JsonCommand::Merge { key, patch } => {
            let mut draft = Draft::open_existing(access, run, key)?;
            draft.merge(Path::default(), &patch)?;
            draft.write()
        }
        JsonCommand::Push { key, path, value } => {
            let mut draft = Draft::open(access, run, key);
            let length = match draft.read(&path) {
                Some(Json::Array(array)) => array.items().len(),
                Some(_) => return Err(draft.refused("there is no array", &path)),
                None => return Err(draft.missing(&path)),
            };
            draft.insert(&path, length, value)?;
            draft.write()
        }
        JsonCommand::DeleteAt { key, path } if !path.is_root() => {
            let mut draft = Draft::open(access, run, key);
            let is_there = draft.read(&path).is_some();
            if is_there {
                draft.remove(path)?;
            }
            draft.write()?;
            Ok(Output::Flag(is_there))
        }
        JsonCommand::Delete { key } | JsonCommand::DeleteAt { key, .. } => {
            let is_there = version(access, run, &key).is_some();
            if is_there {
                index::delete_json(access, run, &key)?;
            }
            Ok(Output::Flag(is_there))
        }
        read => unreachable!("answered above: {read:?}"),
    }
}

/// A document as a command sees it. What is read of it is noted by whoever reads it.
pub(super) fn look(access: &mut Access<'_>, run: RunId, key: &Name) -> Option<(Arc<Document>, Version)> {
    access.look(run, key).map(|(stored, version)| match stored {
        Stored::Json(document) => (document, version),
        other => unreachable!("a document's key holds a document, not {other:?}"),
    })
}

/// The version of a document as a whole.
fn version(access: &mut Access<'_>, run: RunId, key: &Name) -> Option<Version> {
    access.note_path(run, key, &Path::default());
    look(access, run, key).map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::harness::{Harness, assert_collide, assert_refused};
    use super::*;
    use crate::base::stored::Write;

    fn json(value: Value) -> Json {
        Json::from_value(value).unwrap()
    }

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    fn create(document: Value) -> JsonCommand {
        JsonCommand::Create { key: "d".into(), document: json(document) }
    }

    fn get(at: &str) -> JsonCommand {
        JsonCommand::Get { key: "d".into(), path: path(at) }
    }

    fn set(at: &str, value: impl Into<Value>) -> JsonCommand {
        JsonCommand::Set { key: "d".into(), path: path(at), value: json(value.into()) }
    }

    fn push(at: &str) -> JsonCommand {
        JsonCommand::Push { key: "d".into(), path: path(at), value: json(json!(0)) }
    }

    fn delete_at(at: &str) -> JsonCommand {
        JsonCommand::DeleteAt { key: "d".into(), path: path(at) }
    }

    fn merge(patch: Value) -> JsonCommand {
        JsonCommand::Merge { key: "d".into(), patch: json(patch) }
    }

    fn delete() -> JsonCommand {
        JsonCommand::Delete { key: "d".into() }
    }

    fn exists() -> JsonCommand {
        JsonCommand::Exists { key: "d".into() }
    }

    fn list() -> JsonCommand {
        JsonCommand::List { prefix: None }
    }

    fn version_of() -> JsonCommand {
        JsonCommand::Version { key: "d".into() }
    }

    fn with(document: Value) -> Harness {
        let mut harness = Harness::new();
        harness.run(create(document)).unwrap();
        harness
    }

    #[track_caller]
    fn assert_document(harness: &mut Harness, expected: &Value) {
        match harness.run(get("")).unwrap() {
            Output::Json(Some(found)) => assert_eq!(found.to_value().to_string(), expected.to_string()),
            other => panic!("no document: {other:?}"),
        }
    }

    #[test]
    fn writes_change_their_place_and_keep_the_rest_in_order() {
        let mut harness = with(json!({"z": 1, "a": {"m": [1, 2, 3]}}));
        harness.run(set("a.b", json!({"x": null}))).unwrap();
        harness.run(set("a.m[1]", "two")).unwrap();
        harness.run(push("a.m")).unwrap();
        assert_eq!(harness.run(delete_at("a.m[0]")).unwrap(), Output::Flag(true));
        assert_eq!(harness.run(delete_at("a.m[9]")).unwrap(), Output::Flag(false));
        harness.run(merge(json!({"z": null, "n": {"deep": {"null": null}}, "a": {"b": 5}}))).unwrap();
        assert_document(&mut harness, &json!({"a": {"m": ["two", 3, 0], "b": 5}, "n": {"deep": {}}}));
        assert_eq!(harness.run(get("a.b.c")).unwrap(), Output::Json(None));
    }

    #[test]
    fn what_is_written_needs_a_place_to_be_in() {
        let mut harness = with(json!({"a": [1], "s": "text"}));
        for at in ["x.y", "a[1]", "/a/-", "s.x", "a.x"] {
            assert!(matches!(harness.run(set(at, 1)), Err(Error::KeyNotFound(_))), "{at}");
        }
        assert!(matches!(harness.run(push("x")), Err(Error::KeyNotFound(_))));
        assert_refused(harness.run(push("s")), "there is no array");
        assert!(matches!(harness.run(create(json!(1))), Err(Error::AlreadyExists(_))));
        harness.run(delete()).unwrap();
        assert!(matches!(harness.run(set("s", 1)), Err(Error::KeyNotFound(_))));
        assert!(matches!(harness.run(merge(json!({}))), Err(Error::KeyNotFound(_))));
        harness.run(set("", json!([]))).unwrap();
        assert_document(&mut harness, &json!([]));
    }

    #[test]
    fn the_log_carries_the_change_and_not_the_document() {
        let mut harness = with(json!({"large": "x".repeat(100_000), "list": [1, 2, 3]}));
        let mut part = harness.begin();
        for command in [set("small", 1), push("list"), delete_at("list[0]"), merge(json!({"small": 2, "new": 3}))] {
            harness.step(&mut part, command).unwrap();
        }
        assert!(part.weight() < 1_000, "{}", part.weight());
        assert!(part.writes().iter().all(|write| matches!(write, Write::EditJson { .. })));
        harness.commit(part).unwrap();
        let now = harness.version();
        assert_eq!(harness.recovered().dump(now), harness.memory.dump(now));
    }

    #[test]
    fn a_transaction_sees_its_own_edits() {
        let mut harness = with(json!({"a": {"b": 1}}));
        let mut part = harness.begin();
        harness.step(&mut part, set("a.c", 2)).unwrap();
        assert_eq!(harness.step(&mut part, get("a")).unwrap(), Output::Json(Some(json(json!({"b": 1, "c": 2})))));
        harness.step(&mut part, delete()).unwrap();
        assert_eq!(harness.step(&mut part, list()).unwrap(), Output::Texts(vec![]));
        assert_eq!(harness.step(&mut part, get("a")).unwrap(), Output::Json(None));
        harness.step(&mut part, create(json!([1]))).unwrap();
        harness.step(&mut part, push("")).unwrap();
        harness.commit(part).unwrap();
        assert_document(&mut harness, &json!([1, 0]));
    }

    #[test]
    fn siblings_do_not_conflict_and_what_overlaps_does() {
        let collide = |one: JsonCommand, other: JsonCommand, expected: bool| {
            let document = json!({"a": {"b": 1, "c": [1, 2]}, "ab": 1, "d": 1});
            assert_collide(&mut with(document), one, other, expected);
        };
        collide(set("a.b", 2), set("d", 2), false);
        collide(set("a.b", 2), set("a.x", 2), false);
        collide(set("a", 2), set("ab", 2), false);
        collide(set("a.c[0]", 2), set("a.c[1]", 2), false);
        collide(set("a.b", 2), set("a.b", 3), true);
        collide(set("a.b", 2), set("a", 3), true);
        collide(set("a", 2), set("a.b", 3), true);
        collide(set("", 2), set("a.b", 3), true);
        collide(set("a.b", 2), set("", 3), true);
        collide(push("a.c"), set("a.c[0]", 2), true);
        collide(set("a.c[0]", 2), push("a.c"), true);
        collide(push("a.c"), push("a.c"), true);
        collide(push("a.c"), set("a.b", 2), false);
        collide(delete_at("a.c[0]"), set("a.c[1]", 2), true);
        collide(delete_at("a.b"), set("a.x", 2), false);
        collide(merge(json!({"a": {"b": 5}})), set("d", 2), false);
        collide(merge(json!({"a": {"b": 5}})), set("a.x", 2), false);
        collide(merge(json!({"a": {"b": 5}})), set("a", 2), true);
        collide(delete(), set("a.b", 2), true);
        collide(set("a.b", 2), delete(), true);
    }

    #[test]
    fn reads_conflict_with_what_overlaps_and_lists_with_documents_made_and_deleted() {
        let collide = |one: JsonCommand, read: JsonCommand, expected: bool| {
            let mut harness = with(json!({"a": {"b": 1}, "d": 1}));
            let (mut first, mut second) = (harness.begin(), harness.begin());
            harness.step(&mut first, one).unwrap();
            harness.step(&mut second, read).unwrap();
            harness.step(&mut second, JsonCommand::Create { key: "other".into(), document: Json::Null }).unwrap();
            harness.commit(first).unwrap();
            assert_eq!(harness.commit(second).is_err(), expected);
        };
        collide(set("a.b", 2), get("a.b"), true);
        collide(set("a.b", 2), get("a"), true);
        collide(set("a", 2), get("a.b"), true);
        collide(set("a", 2), get("a.missing.deep"), true);
        collide(set("a.b", 2), get("d"), false);
        collide(set("a.b", 2), version_of(), true);
        for (change, expected) in [(set("a.b", 2), false), (set("", 2), false), (delete(), true)] {
            collide(change.clone(), list(), expected);
            collide(change, exists(), expected);
        }
        let create = JsonCommand::Create { key: "new".into(), document: Json::Null };
        collide(create.clone(), list(), true);
        collide(create, exists(), false);
    }

    /// Places of a small document, for a model of what overlaps: the whole, members inside each other and beside, items.
    const PLACES: [&str; 10] = ["", "/a", "/a/b", "/a/b/0", "/a/b/0/x", "/a/b/1", "/a/c", "/ab", "/d", "/d/e"];
    /// The one that is an array.
    const ARRAY: &str = "/a/b";

    fn is_within(inner: &str, outer: &str) -> bool {
        inner == outer || inner.starts_with(&format!("{outer}/"))
    }

    fn overlap(one: &str, other: &str) -> bool {
        is_within(one, other) || is_within(other, one)
    }

    #[derive(Clone, Copy, Debug)]
    enum Action {
        Get(&'static str),
        Set(&'static str),
        Push(&'static str),
        Delete(&'static str),
        Merge(&'static str),
    }

    impl Action {
        fn command(self, value: u64) -> JsonCommand {
            match self {
                Self::Get(place) => get(place),
                Self::Set(place) => set(place, value),
                Self::Push(place) => push(place),
                Self::Delete(place) => delete_at(place),
                Self::Merge(place) => {
                    let wrap = |inner, segment: &crate::base::value::Text| json!({segment.as_str(): inner});
                    merge(path(place).segments().iter().rev().fold(json!(value), wrap))
                }
            }
        }

        /// What it reads or writes. What moves the items of an array writes all of it, and a merge knows no items.
        fn place(self) -> &'static str {
            match self {
                Self::Delete("/a/b/0" | "/a/b/1") => ARRAY,
                Self::Merge(place) if is_within(place, ARRAY) => ARRAY,
                Self::Get(place) | Self::Set(place) | Self::Push(place) | Self::Delete(place) | Self::Merge(place) => {
                    place
                }
            }
        }

        /// Returns whether it has written something.
        fn step(self, harness: &mut Harness, part: &mut crate::commit::part::Part, value: u64) -> bool {
            let answer = harness.step(part, self.command(value));
            answer.is_ok_and(|output| !matches!((self, output), (Self::Get(_), _) | (_, Output::Flag(false))))
        }
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let kinds = [Action::Get, Action::Set, Action::Push, Action::Delete, Action::Merge];
        let action = (prop::sample::select(kinds.to_vec()), prop::sample::select(PLACES.to_vec()));
        prop::collection::vec(action.prop_map(|(kind, place)| kind(place)), 1..4)
    }

    proptest! {
        /// Of two transactions at once, the second fails exactly if it did something that overlaps with a write of the
        /// first; if it does not fail, the outcome is that of one after the other.
        #[test]
        fn transactions_conflict_exactly_if_they_overlap(first in actions(), second in actions()) {
            let document = json!({"a": {"b": [{"x": 0}, 0], "c": 0}, "ab": 0, "d": {"e": 0}});
            let (mut harness, mut serial) = (with(document.clone()), with(document));
            let (mut one, mut two) = (harness.begin(), harness.begin());
            let mut written = Vec::new();
            for (action, value) in first.iter().zip(100..) {
                if action.step(&mut harness, &mut one, value) {
                    written.push(action.place());
                }
            }
            let mut has_written = false;
            for (action, value) in second.iter().zip(200..) {
                has_written |= action.step(&mut harness, &mut two, value);
            }
            prop_assume!(has_written);
            let expected = written.iter().any(|one| second.iter().any(|other| overlap(one, other.place())));
            harness.commit(one).unwrap();
            prop_assert_eq!(harness.commit(two).is_err(), expected);
            if !expected {
                for (actions, from) in [(&first, 100), (&second, 200)] {
                    let mut part = serial.begin();
                    for (action, value) in actions.iter().zip(from..) {
                        action.step(&mut serial, &mut part, value);
                    }
                    serial.commit(part).unwrap();
                }
                prop_assert_eq!(harness.run(get("")).unwrap(), serial.run(get("")).unwrap());
            }
        }
    }
}
