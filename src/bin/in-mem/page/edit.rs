//! Edits: what leads from one JSON document to the next.
//!
//! - Made one after the other, in order; a place in a list is the one it has at that moment.

use in_mem::blocking::serde_json::{Map, Value as Json};
use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

/// One change of one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(super) struct Edit {
    change: Change,
    path: Vec<String>,
    /// What is there from then on, as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Set,
    /// Into a list, before what is there.
    Insert,
    Remove,
}

/// The edits that make one document the other; `None`: there is none.
pub(super) fn edits(from: Option<&Json>, to: Option<&Json>) -> Vec<Edit> {
    let mut edits = Edits::default();
    match (from, to) {
        (Some(from), Some(to)) => edits.compare(from, to),
        (None, Some(to)) => edits.add(Change::Set, Some(to)),
        (_, None) => edits.add(Change::Remove, None),
    }
    edits.made
}

#[derive(Default)]
struct Edits {
    /// The place that is looked at.
    path: Vec<String>,
    made: Vec<Edit>,
}

impl Edits {
    fn compare(&mut self, from: &Json, to: &Json) {
        match (from, to) {
            (Json::Object(from), Json::Object(to)) => self.compare_objects(from, to),
            (Json::Array(from), Json::Array(to)) => self.compare_arrays(from, to),
            (from, to) if from == to => {}
            (_, to) => self.add(Change::Set, Some(to)),
        }
    }

    fn compare_objects(&mut self, from: &Map<String, Json>, to: &Map<String, Json>) {
        for key in from.keys().filter(|key| !to.contains_key(*key)) {
            self.below(key.clone(), |edits| edits.add(Change::Remove, None));
        }
        for (key, to) in to {
            match from.get(key) {
                Some(from) => self.below(key.clone(), |edits| edits.compare(from, to)),
                None => self.below(key.clone(), |edits| edits.add(Change::Set, Some(to))),
            }
        }
    }

    fn compare_arrays(&mut self, from: &[Json], to: &[Json]) {
        let same = |(from, to): &(&Json, &Json)| from == to;
        let before = from.iter().zip(to).take_while(same).count();
        let (from_rest, to_rest) = (&from[before..], &to[before..]);
        let behind = from_rest.iter().rev().zip(to_rest.iter().rev()).take_while(same).count();
        let texts = |rest: &[Json]| rest[..rest.len() - behind].iter().map(Json::to_string).collect::<Vec<_>>();
        for operation in capture_diff_slices(Algorithm::Myers, &texts(from_rest), &texts(to_rest)) {
            if matches!(operation, DiffOp::Equal { .. }) {
                continue;
            }
            // Everything before the place is as it is to be already: it is the one in the new list.
            let (gone, come) = (operation.old_range(), operation.new_range());
            for (was, place) in gone.clone().zip(come.clone()) {
                self.below((before + place).to_string(), |edits| edits.compare(&from_rest[was], &to_rest[place]));
            }
            for place in come.clone().skip(gone.len()) {
                self.below((before + place).to_string(), |edits| edits.add(Change::Insert, Some(&to_rest[place])));
            }
            for _ in gone.skip(come.len()) {
                self.below((before + come.end).to_string(), |edits| edits.add(Change::Remove, None));
            }
        }
    }

    fn add(&mut self, change: Change, value: Option<&Json>) {
        self.made.push(Edit { change, path: self.path.clone(), value: value.map(Json::to_string) });
    }

    fn below(&mut self, place: String, compare: impl FnOnce(&mut Self)) {
        self.path.push(place);
        compare(self);
        self.path.pop();
    }
}

#[cfg(test)]
mod tests {
    use in_mem::blocking::serde_json::{self, json};
    use proptest::prelude::*;

    use super::*;

    /// What edits make of a document, as the page does it.
    fn after(edits: &[Edit], mut document: Json) -> Json {
        for Edit { change, path, value } in edits {
            let value = value.as_ref().map(|text| serde_json::from_str(text).unwrap());
            let Some((step, above)) = path.split_last() else {
                document = value.unwrap_or_default();
                continue;
            };
            let place = |step: &String| step.parse::<usize>().unwrap();
            let branch = above.iter().fold(&mut document, |branch, step| match branch {
                Json::Array(items) => &mut items[place(step)],
                branch => &mut branch[step.as_str()],
            });
            match (branch, change, value) {
                (Json::Array(items), Change::Insert, Some(value)) => items.insert(place(step), value),
                (Json::Array(items), Change::Set, Some(value)) => items[place(step)] = value,
                (Json::Array(items), Change::Remove, None) => drop(items.remove(place(step))),
                (Json::Object(fields), Change::Set, Some(value)) => drop(fields.insert(step.clone(), value)),
                (Json::Object(fields), Change::Remove, None) => drop(fields.shift_remove(step)),
                (branch, ..) => panic!("{change:?} of {step} in {branch}"),
            }
        }
        document
    }

    #[test]
    fn a_list_that_moves_on_is_edited_at_its_ends() {
        let (from, to) = (json!({"last": [1, 2, 3, 4]}), json!({"last": [2, 3, 4, 5]}));
        let made: Vec<_> =
            edits(Some(&from), Some(&to)).into_iter().map(|edit| (edit.change, edit.path.join("/"))).collect();
        assert_eq!(made, [(Change::Remove, "last/0".into()), (Change::Insert, "last/3".into())]);
        assert_eq!(edits(Some(&to), Some(&to)), []);
    }

    fn any_document() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![Just(Json::Null), (0..4).prop_map(Json::from), "[<a]{0,2}".prop_map(Json::from)];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
                prop::collection::btree_map("[ab/~]{1,2}", inner, 0..6).prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn edits_lead_from_one_document_to_the_other(from in any_document(), to in any_document()) {
            prop_assert_eq!(after(&edits(Some(&from), Some(&to)), from), to.clone());
            prop_assert_eq!(after(&edits(None, Some(&to)), Json::Null), to);
        }
    }
}
