//! Edits: what a commit changes in a JSON document, as the log carries it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::path::{Path, index};
use super::size::{self, Size};
use super::{Array, Document, Json, Object};
use crate::base::limits;
use crate::base::value::Text;

/// Why an edit does not fit a document.
const NO_PLACE: &str = "an edit of a place that is not in the document";

/// One change at one place of a document, never of the whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Edit {
    pub(crate) path: Path,
    pub(crate) change: Change,
}

/// What happens there. The order of the variants is a disk format: it never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// The member of an object is this, whether or not there was one; or the item of an array that is there.
    Set(Json),
    /// The member of an object goes.
    Remove,
    /// An array gets this item at this place, before those from there on.
    Insert(Json),
    /// The item of an array goes, and those behind it move up.
    Take,
}

impl Edit {
    /// The path that it writes: what moves the items of an array writes the array.
    pub(crate) fn written(&self) -> &[Text] {
        let segments = self.path.segments();
        match self.change {
            Change::Set(_) | Change::Remove => segments,
            Change::Insert(_) | Change::Take => segments.split_last().map_or(&[], |(_, array)| array),
        }
    }

    /// About how many bytes it takes in the log.
    pub(crate) fn weight(&self) -> usize {
        self.path.weight() + self.value().map_or(0, |value| value.size().weight())
    }

    /// Whether it takes away and adds nothing.
    pub(crate) const fn only_removes(&self) -> bool {
        matches!(self.change, Change::Remove | Change::Take)
    }

    fn value(&self) -> Option<&Json> {
        match &self.change {
            Change::Set(value) | Change::Insert(value) => Some(value),
            Change::Remove | Change::Take => None,
        }
    }

    /// Whether anybody would log this.
    pub(crate) fn is_possible(&self) -> bool {
        let depth = self.path.segments().len();
        (1..=limits::JSON_SEGMENTS).contains(&depth)
            && self.value().is_none_or(|value| depth + value.depth() <= limits::JSON_DEPTH)
    }
}

impl Document {
    /// The document, to be edited.
    pub(crate) fn draft(&self) -> Self {
        Self { root: self.root.clone(), added: 0, edits: Vec::new() }
    }

    /// The document with these edits.
    ///
    /// # Errors
    /// Why one of them does not fit.
    pub(crate) fn edited(&self, edits: Vec<Edit>) -> Result<Self, &'static str> {
        let mut document = self.draft();
        edits.iter().try_for_each(|edit| document.edit(edit))?;
        document.edits = edits;
        Ok(document)
    }

    /// What these edits and those that made the document before make together, in one commit.
    pub(crate) fn continuing(mut self, before: &Self) -> Self {
        self.added += before.added;
        let edits = std::mem::take(&mut self.edits);
        // A document that was made as a whole in this commit is one that was made as a whole.
        if !before.edits.is_empty() {
            self.edits = before.edits.iter().cloned().chain(edits).collect();
        }
        self
    }

    /// Edits the document.
    ///
    /// # Errors
    /// Why the edit does not fit; the document is of no use then.
    pub(crate) fn edit(&mut self, Edit { path, change }: &Edit) -> Result<(), &'static str> {
        self.added += path.weight();
        self.root.edit(path.segments(), change, &mut self.added)
    }
}

impl Json {
    fn edit(&mut self, path: &[Text], change: &Change, added: &mut usize) -> Result<(), &'static str> {
        let (first, rest) = path.split_first().ok_or(NO_PLACE)?;
        match self {
            Self::Object(object) => {
                owned(object, |object| object.members.len(), added).edit(first, rest, change, added)
            }
            Self::Array(array) => owned(array, |array| array.items.len(), added).edit(first, rest, change, added),
            _ => Err(NO_PLACE),
        }
    }
}

/// An array or an object that is not shared any more.
fn owned<'a, T: Clone>(shared: &'a mut Arc<T>, members: impl Fn(&T) -> usize, added: &mut usize) -> &'a mut T {
    if Arc::get_mut(shared).is_none() {
        *added += size::of_copy(members(shared));
    }
    Arc::make_mut(shared)
}

impl Object {
    fn edit(&mut self, key: &Text, rest: &[Text], change: &Change, added: &mut usize) -> Result<(), &'static str> {
        if !rest.is_empty() {
            let member = self.members.get_mut(key).ok_or(NO_PLACE)?;
            return within(&mut self.inside, member, |member| member.edit(rest, change, added));
        }
        let gone = match change {
            Change::Set(value) => {
                *added += (Size::of_key(key) + value.size()).weight();
                self.inside = self.inside + Size::of_key(key) + value.size();
                self.members.insert(key.clone(), value.clone())
            }
            Change::Remove => Some(self.members.shift_remove(key).ok_or(NO_PLACE)?),
            Change::Insert(_) | Change::Take => return Err(NO_PLACE),
        };
        self.inside = self.inside - gone.map_or(Size::default(), |gone| Size::of_key(key) + gone.size());
        Ok(())
    }
}

impl Array {
    fn edit(&mut self, segment: &Text, rest: &[Text], change: &Change, added: &mut usize) -> Result<(), &'static str> {
        let at = index(segment).ok_or(NO_PLACE)?;
        if !rest.is_empty() {
            let item = self.items.get_mut(at).ok_or(NO_PLACE)?;
            return within(&mut self.inside, item, |item| item.edit(rest, change, added));
        }
        let gone = match change {
            Change::Set(value) => Some(std::mem::replace(self.items.get_mut(at).ok_or(NO_PLACE)?, value.clone())),
            Change::Insert(value) if at <= self.items.len() && at < limits::JSON_ITEMS => {
                self.items.insert(at, value.clone());
                None
            }
            Change::Take if at < self.items.len() => Some(self.items.remove(at)),
            Change::Insert(_) | Change::Take | Change::Remove => return Err(NO_PLACE),
        };
        if let Change::Set(value) | Change::Insert(value) = change {
            *added += value.size().weight();
            self.inside = self.inside + value.size();
        }
        self.inside = self.inside - gone.map_or(Size::default(), |gone| gone.size());
        Ok(())
    }
}

/// Changes a member, and the size of what it is in.
fn within(
    inside: &mut Size,
    member: &mut Json,
    change: impl FnOnce(&mut Json) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let before = member.size();
    change(member)?;
    *inside = *inside - before + member.size();
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(value: serde_json::Value) -> Document {
        Document::new(Json::from_value(value).unwrap())
    }

    fn edit(path: &str, change: Change) -> Edit {
        Edit { path: Path::parse(path).unwrap(), change }
    }

    fn set(path: &str, value: serde_json::Value) -> Edit {
        edit(path, Change::Set(Json::from_value(value).unwrap()))
    }

    fn insert(path: &str, value: serde_json::Value) -> Edit {
        edit(path, Change::Insert(Json::from_value(value).unwrap()))
    }

    #[test]
    fn edits_change_their_place_and_keep_the_order_of_the_rest() {
        let before = document(json!({"c": 1, "a": {"z": [1, 2, 3], "b": null}, "d": 4}));
        let edits = [
            set("a.y", json!({"new": true})),
            set("a.z[1]", json!("two")),
            insert("a.z[0]", json!(0)),
            edit("a.z[2]", Change::Take),
            edit("c", Change::Remove),
            set("a.b", json!([])),
        ];
        let after = before.edited(edits.to_vec()).unwrap();
        let expected = json!({"a": {"z": [0, 1, 3], "b": [], "y": {"new": true}}, "d": 4});
        assert_eq!(after.root.to_value().to_string(), expected.to_string());
        assert_eq!(after.root.size(), Json::from_value(expected).unwrap().size());
        assert_eq!(before.root.to_value()["c"], json!(1), "whoever reads the document before sees it as it was");
    }

    #[test]
    fn an_edit_that_does_not_fit_is_refused() {
        let before = document(json!({"o": {}, "a": [1], "s": "text"}));
        let edits = [
            edit("", Change::Remove),
            set("", json!(1)),
            edit("o.x", Change::Remove),
            set("o.x.y", json!(1)),
            insert("o.x", json!(1)),
            edit("o.x", Change::Take),
            set("a[1]", json!(1)),
            insert("a[2]", json!(1)),
            insert("/a/-", json!(1)),
            edit("a[0]", Change::Remove),
            edit("a[1]", Change::Take),
            set("s.x", json!(1)),
        ];
        for edit in edits {
            assert!(before.edited(vec![edit.clone()]).is_err(), "{edit:?}");
        }
    }

    #[test]
    fn an_edit_adds_its_path_and_what_it_sets() {
        let wide: Vec<String> = (0..1000).map(|number| format!("item {number}")).collect();
        let before = document(json!({"wide": wide, "small": {"a": 1}}));
        let after = before.edited(vec![set("small.a", json!(2))]).unwrap();
        assert!(after.added < 200, "{}", after.added);
        assert!(before.added > 10_000);
        let Json::Object(root) = &after.root else { panic!("an object stays one") };
        let (Some(Json::Array(now)), Json::Object(then)) = (root.get("wide"), &before.root) else {
            panic!("an array stays one")
        };
        assert!(matches!(then.get("wide"), Some(Json::Array(then)) if Arc::ptr_eq(now, then)), "the rest is shared");
    }

    #[test]
    fn an_edit_writes_its_path_and_one_that_moves_items_the_array() {
        let written = |edit: &Edit| Path::of(edit.written().to_vec()).unwrap().to_string();
        assert_eq!(written(&set("a[1]", json!(1))), "/a/1");
        assert_eq!(written(&edit("a.b", Change::Remove)), "/a/b");
        assert_eq!(written(&insert("a[1]", json!(1))), "/a");
        assert_eq!(written(&edit("a[1]", Change::Take)), "/a");
    }
}
