//! JSON documents.
//!
//! - A document is a tree whose arrays and objects are shared: a changed document has new ones along the path of the
//!   change, and shares the rest with the document it was made from.
//! - The members of objects keep the order in which they came. Numbers are i64, u64 or f64, exactly.
//! - Every array and object knows the size of what is in it, so that a change costs its path and not the document.

pub(crate) mod edit;
pub(crate) mod path;
mod size;

use std::sync::Arc;

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Number;

use self::edit::Edit;
pub(crate) use self::size::Size;
use super::error::{Error, Result};
use super::limits;
use super::value::Text;

/// A JSON value. Cloning it shares what it holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(Text),
    Array(Arc<Array>),
    Object(Arc<Object>),
}

/// The items of an array.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Array {
    items: Vec<Json>,
    inside: Size,
}

/// The members of an object, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    members: IndexMap<Text, Json, FixedState>,
    inside: Size,
}

impl PartialEq for Object {
    /// The order counts: it is kept.
    fn eq(&self, other: &Self) -> bool {
        self.members.as_slice() == other.members.as_slice()
    }
}

impl Array {
    fn of(items: Vec<Json>) -> Self {
        let inside = items.iter().map(Json::size).sum();
        Self { items, inside }
    }

    pub(crate) fn items(&self) -> &[Json] {
        &self.items
    }
}

impl Object {
    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        self.members.get(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Text, &Json)> {
        self.members.iter()
    }

    /// The last of several members with one key counts, at the place of the first.
    fn of(members: IndexMap<Text, Json, FixedState>) -> Self {
        let inside = members.iter().map(|(key, member): (&Text, &Json)| Size::of_key(key) + member.size()).sum();
        Self { members, inside }
    }
}

impl Json {
    /// A document as callers have it.
    ///
    /// # Errors
    /// `LimitExceeded` if it is nested too deep, or an array in it is too long.
    pub(crate) fn from_value(value: serde_json::Value) -> Result<Self> {
        Self::nested(value, limits::JSON_DEPTH)
    }

    /// The same, where `left` levels may still be nested in it.
    fn nested(value: serde_json::Value, left: usize) -> Result<Self> {
        let below = || {
            let too_deep = || Error::limit("JSON depth", limits::JSON_DEPTH, limits::JSON_DEPTH + 1);
            left.checked_sub(1).ok_or_else(too_deep)
        };
        Ok(match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(bool) => Self::Bool(bool),
            serde_json::Value::Number(number) => Self::Number(number),
            serde_json::Value::String(text) => Self::String(text.into()),
            serde_json::Value::Array(items) => {
                limits::check_json_items(items.len())?;
                let left = below()?;
                let items = items.into_iter().map(|item| Self::nested(item, left)).collect::<Result<_>>()?;
                Self::Array(Arc::new(Array::of(items)))
            }
            serde_json::Value::Object(members) => {
                let left = below()?;
                let members = members.into_iter().map(|(key, member)| Ok((key.into(), Self::nested(member, left)?)));
                Self::Object(Arc::new(Object::of(members.collect::<Result<_>>()?)))
            }
        })
    }

    /// The document as callers have it.
    pub(crate) fn to_value(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(bool) => (*bool).into(),
            Self::Number(number) => serde_json::Value::Number(number.clone()),
            Self::String(text) => text.as_str().into(),
            Self::Array(array) => array.items.iter().map(Self::to_value).collect(),
            Self::Object(object) => {
                object.members.iter().map(|(key, member)| (key.as_str().to_owned(), member.to_value())).collect()
            }
        }
    }

    pub(crate) fn size(&self) -> Size {
        match self {
            Self::Null => Size::of_text(4),
            Self::Bool(bool) => Size::of_text(if *bool { 4 } else { 5 }),
            Self::Number(number) => Size::of_number(number),
            Self::String(text) => Size::of_string(text),
            Self::Array(array) => array.inside.within(array.items.len()),
            Self::Object(object) => object.inside.within(object.members.len()),
        }
    }

    /// How deep arrays and objects are nested in it; 0 for a scalar.
    pub(crate) fn depth(&self) -> usize {
        let deepest = |inside: Option<usize>| 1 + inside.unwrap_or(0);
        match self {
            Self::Array(array) => deepest(array.items.iter().map(Self::depth).max()),
            Self::Object(object) => deepest(object.members.values().map(Self::depth).max()),
            _ => 0,
        }
    }

    /// What a merge patch makes of nothing: without the members that are null.
    pub(crate) fn without_nulls(&self) -> Self {
        let Self::Object(object) = self else { return self.clone() };
        let members = object.members.iter().filter(|(_, member)| **member != Self::Null);
        let members = members.map(|(key, member)| (key.clone(), member.without_nulls()));
        Self::Object(Arc::new(Object::of(members.collect())))
    }

    /// The most bytes that the edits take in the log to which a merge patch comes that is for a place behind a path of
    /// this weight.
    pub(crate) fn merge_weight(&self, path: usize) -> usize {
        let Self::Object(object) = self else { return path + 16 + self.size().weight() };
        let edits = object.members.iter().map(|(key, member)| member.merge_weight(path + key.len() + 8));
        edits.sum::<usize>() + path + 16
    }

    /// Whether both are the same JSON: numbers by their values, whatever the order of members.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => is_same_number(a, b),
            (Self::Array(a), Self::Array(b)) => {
                a.items.len() == b.items.len() && a.items.iter().zip(&b.items).all(|(a, b)| a.is_same(b))
            }
            (Self::Object(a), Self::Object(b)) => {
                let has = |(key, member): (&Text, &Self)| b.get(key).is_some_and(|other| member.is_same(other));
                a.members.len() == b.members.len() && a.members.iter().all(has)
            }
            _ => self == other,
        }
    }
}

fn is_same_number(a: &Number, b: &Number) -> bool {
    match (integer(a), integer(b)) {
        (None, None) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

/// The integer that a number is, if it is one that JSON can say without a fraction or an exponent.
#[expect(clippy::cast_possible_truncation, reason = "a float below 2^64 without a fraction is an integer of 128 bits")]
fn integer(number: &Number) -> Option<i128> {
    number.as_i128().or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() < 18_446_744_073_709_551_616.0).then_some(float as i128)
    })
}

/// On disk, as compact JSON text.
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            let text = serde_json::to_vec(self).map_err(ser::Error::custom)?;
            return serializer.serialize_bytes(&text);
        }
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(bool) => serializer.serialize_bool(*bool),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(array) => serializer.collect_seq(&array.items),
            Self::Object(object) => serializer.collect_map(&object.members),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&[u8]>::deserialize(deserializer)?;
        let value = serde_json::from_slice(text).map_err(de::Error::custom)?;
        Self::from_value(value).map_err(de::Error::custom)
    }
}

/// What a document's key holds: the document, what of it is its own, and how it came to be.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) root: Json,
    /// About how many bytes it does not share with the document it was made from.
    pub(crate) added: usize,
    /// What made it of the revision before; nothing if it was made or replaced as a whole.
    pub(crate) edits: Vec<Edit>,
}

impl Document {
    /// A document that shares nothing.
    pub(crate) fn new(root: Json) -> Self {
        Self { added: root.size().weight(), root, edits: Vec::new() }
    }
}

impl PartialEq for Document {
    /// How it came to what it says is no part of that.
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.root.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Json::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn json(value: serde_json::Value) -> Json {
        Json::from_value(value).unwrap()
    }

    #[test]
    fn what_goes_in_comes_out_and_its_size_is_that_of_its_text() {
        let documents = [
            json!(null),
            json!([true, false, null, [], {}, [[]], {"": {}}]),
            json!({"z": 1, "a": -1, "m": {"y": u64::MAX, "b": i64::MIN, "x": 0.1, "e": 1e300, "w": -0.0}}),
            json!("quote \" slash \\ line \n bell \u{7} ä 𝄞"),
            json!({"\"\n\u{1}": "k"}),
        ];
        for value in documents {
            let document = json(value.clone());
            let text = serde_json::to_string(&value).unwrap();
            assert_eq!(document.to_value().to_string(), text, "the order is kept, and every number");
            assert_eq!(document.size().text(), text.len(), "{text}");
            let bytes = postcard::to_allocvec(&document).unwrap();
            let back: Json = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(back, document);
            assert_eq!(back.to_value().to_string(), text);
        }
    }

    #[test]
    fn what_is_too_deep_or_too_long_is_refused() {
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(json(nested(100)).depth(), 100);
        for value in [nested(101), nested(500), json!(vec![0; 1_000_001])] {
            assert!(matches!(Json::from_value(value), Err(Error::LimitExceeded { .. })));
        }
        let bytes = postcard::to_allocvec(&serde_bytes(&b"[".repeat(100_000))).unwrap();
        assert!(postcard::from_bytes::<Json>(&bytes).is_err());
    }

    fn serde_bytes(bytes: &[u8]) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(bytes)
    }

    #[test]
    fn the_same_json_is_the_same_whatever_its_order_and_the_form_of_its_numbers() {
        let same = |a: serde_json::Value, b: serde_json::Value| json(a).is_same(&json(b));
        assert!(same(json!({"a": 1, "b": [2.0]}), json!({"b": [2], "a": 1.0})));
        assert!(!same(json!({"a": 1}), json!({"a": 1, "b": 2})));
        assert!(!same(json!([1, 2]), json!([2, 1])));
        assert!(!same(json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992.0)));
        assert!(same(json!(1e30), json!(1e30)));
        assert!(!same(json!(0), json!(false)));
        assert_ne!(json(json!({"a": 1, "b": 2})), json(json!({"b": 2, "a": 1})), "the order counts where it is kept");
    }
}
