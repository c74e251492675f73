//! The JSON form of values: `to_json`, `from_json`, and serde with human-readable formats.
//!
//! Lossless both ways. What JSON cannot say is a tag: an object of exactly one entry, whose text is one of these:
//!
//! | value | JSON |
//! |-------|------|
//! | bytes | `{"$bytes": "00ff"}`: two lower-case hexadecimal digits per byte |
//! | NaN (bits 7ff8000000000000) | `{"$f64": "NaN"}` |
//! | the infinities | `{"$f64": "Infinity"}`, `{"$f64": "-Infinity"}` |
//! | any other NaN | `{"$f64": "7ff8000000000001"}`: its bits, 16 lower-case hexadecimal digits |
//!
//! A map that looks exactly like a tag gets one more `$` before its key, and loses it when it is read: the map
//! `{"$bytes": "00ff"}` is `{"$$bytes": "00ff"}` in JSON, and the map `{"$$bytes": "00ff"}` is `{"$$$bytes": "00ff"}`.
//! A map that only resembles a tag (another text, a second entry) stays as it is. So no two values share a JSON form,
//! and every JSON document is the form of one value.
//!
//! This is about documents (`serde_json::Value`). Reading JSON text is up to `serde_json`, which may miss the last bit
//! of a float unless its feature `float_roundtrip` is on.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Number};

use super::serde::{Inside, Node};
use super::{MAX_DEPTH, Value};

/// The newtype struct in which serde sees a tag; formats other than our own ignore the name.
pub(crate) const TAG: &str = "$in_mem::tag";

const PLAIN_NAN: u64 = 0x7ff8_0000_0000_0000;

/// The message for a value that is nested too deep.
pub(crate) struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value is nested too deep: limit={MAX_DEPTH}")
    }
}

impl Value {
    /// Makes a JSON document of the value.
    ///
    /// Bytes become `{"$bytes": "00ff"}` (hexadecimal), NaN and the infinities `{"$f64": "NaN"}` (or `Infinity`,
    /// `-Infinity`, or the bits of an unusual NaN). A map that looks like one of these gets one more `$` before its key
    /// (`{"$$bytes": "00ff"}`), so that [`Value::from_json`] always gives back the same value.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null => Json::Null,
            Self::Bool(bool) => Json::Bool(*bool),
            Self::I64(number) => Json::Number((*number).into()),
            Self::U64(number) => Json::Number((*number).into()),
            Self::F64(number) => match Number::from_f64(*number) {
                Some(number) => Json::Number(number),
                None => object("$f64".into(), float_text(*number)),
            },
            Self::String(text) => Json::String(text.as_str().to_owned()),
            Self::Bytes(bytes) => object("$bytes".into(), to_hex(bytes)),
            Self::Array(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(entries) => match escaped(entries) {
                Some((key, text)) => object(key, text.to_owned()),
                None => entries.iter().map(|(key, item)| (key.clone(), item.to_json())).collect(),
            },
        }
    }

    /// Makes a value of a JSON document: the opposite of [`Value::to_json`], whose tags it understands.
    ///
    /// Numbers become `I64`, `U64` or `F64`, whichever holds them first.
    #[must_use]
    pub fn from_json(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Null,
            Json::Bool(bool) => Self::Bool(bool),
            Json::Number(number) => from_number(&number),
            Json::String(text) => Self::from(text),
            Json::Array(items) => Self::Array(items.into_iter().map(Self::from_json).collect()),
            Json::Object(entries) => {
                untag(entries.into_iter().map(|(key, item)| (key, Self::from_json(item))).collect())
            }
        }
    }
}

/// As [`Value::from_json`]: tags of bytes and floats are understood.
impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        Self::from_json(json)
    }
}

/// As [`Value::to_json`].
impl From<Value> for serde_json::Value {
    fn from(value: Value) -> Self {
        value.to_json()
    }
}

fn object(key: String, text: String) -> serde_json::Value {
    serde_json::Value::Object(Map::from_iter([(key, serde_json::Value::String(text))]))
}

fn from_number(number: &Number) -> Value {
    if let Some(number) = number.as_i64() {
        Value::I64(number)
    } else if let Some(number) = number.as_u64() {
        Value::U64(number)
    } else if let Some(number) = number.as_f64() {
        Value::F64(number)
    } else {
        // Only with serde_json's `arbitrary_precision`: a number that no float holds stays its text.
        Value::from(number.to_string())
    }
}

/// Takes a map as JSON has it and returns what it stands for: bytes, a float, or a map.
pub(crate) fn untag(entries: BTreeMap<String, Value>) -> Value {
    let Some((key, text, tagged)) = tag_of(&entries) else {
        return Value::Map(entries);
    };
    match key.strip_prefix('$') {
        Some(shorter) if shorter.starts_with('$') => {
            Value::Map(BTreeMap::from([(shorter.to_owned(), Value::from(text))]))
        }
        _ => tagged,
    }
}

/// The only entry of a map that looks like a tag, as JSON must have it: with one more `$`.
fn escaped(entries: &BTreeMap<String, Value>) -> Option<(String, &str)> {
    let (key, text, _) = tag_of(entries)?;
    Some((format!("${key}"), text))
}

/// The key, the text and the meaning of a map that looks like a tag, whatever the number of its `$`.
fn tag_of(entries: &BTreeMap<String, Value>) -> Option<(&str, &str, Value)> {
    let (key, Value::String(text)) = entries.first_key_value()? else {
        return None;
    };
    let name = key.trim_start_matches('$');
    if entries.len() > 1 || name.len() == key.len() {
        return None;
    }
    let tagged = match name {
        "bytes" => Value::from(from_hex(text)?),
        "f64" => Value::F64(float_from_text(text)?),
        _ => return None,
    };
    Some((key, text, tagged))
}

/// The text of a float that JSON cannot say.
fn float_text(number: f64) -> String {
    if number.is_infinite() {
        let text = if number > 0.0 { "Infinity" } else { "-Infinity" };
        return text.to_owned();
    }
    match number.to_bits() {
        PLAIN_NAN => "NaN".to_owned(),
        bits => format!("{bits:016x}"),
    }
}

/// The opposite of `float_text`; accepts nothing that it does not write.
fn float_from_text(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::from_bits(PLAIN_NAN)),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => {
            let bits = u64::from_be_bytes(from_hex(text)?.try_into().ok()?);
            let number = f64::from_bits(bits);
            (number.is_nan() && bits != PLAIN_NAN).then_some(number)
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(if half < 10 { b'0' + half } else { b'a' + half - 10 });
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

/// The opposite of `to_hex`; accepts nothing that it does not write.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let half = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(half(*high)? << 4 | half(*low)?)).collect()
}

/// A tag on its way into a serializer.
struct Tag<'a> {
    key: &'a str,
    text: &'a str,
}

impl Serialize for Tag<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.key, self.text)?;
        map.end()
    }
}

/// Writes a value in the JSON form to any human-readable format.
pub(crate) fn serialize<S: Serializer>(node: Node<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    match node.value {
        Value::Null => serializer.serialize_unit(),
        Value::Bool(bool) => serializer.serialize_bool(*bool),
        Value::I64(number) => serializer.serialize_i64(*number),
        Value::U64(number) => serializer.serialize_u64(*number),
        Value::F64(number) if number.is_finite() => serializer.serialize_f64(*number),
        Value::F64(number) => {
            let tag = Tag { key: "$f64", text: &float_text(*number) };
            serializer.serialize_newtype_struct(TAG, &tag)
        }
        Value::String(text) => serializer.serialize_str(text),
        Value::Bytes(bytes) => {
            let tag = Tag { key: "$bytes", text: &to_hex(bytes) };
            serializer.serialize_newtype_struct(TAG, &tag)
        }
        Value::Map(entries) => match escaped(entries) {
            Some((key, text)) => serializer.serialize_newtype_struct(TAG, &Tag { key: &key, text }),
            None => Inside(node).serialize(serializer),
        },
        Value::Array(_) => Inside(node).serialize(serializer),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::canonical::tests::{any_value, odd_values};
    use super::*;

    fn text_round_trip(value: &Value) -> Option<Value> {
        let text = serde_json::to_string(value).ok()?;
        assert_eq!(text, value.to_string());
        serde_json::from_str(&text).ok()
    }

    #[test]
    fn tags_look_as_documented() {
        assert_eq!(Value::from(vec![0_u8, 255]).to_json(), json!({"$bytes": "00ff"}));
        assert_eq!(Value::F64(f64::NAN).to_json(), json!({"$f64": "NaN"}));
        assert_eq!(Value::F64(f64::NEG_INFINITY).to_json(), json!({"$f64": "-Infinity"}));
        let nan = Value::F64(f64::from_bits(0x7ff8_0000_0000_0001));
        assert_eq!(nan.to_json(), json!({"$f64": "7ff8000000000001"}));
        let map = |key: &str, text: &str| Value::from(BTreeMap::from([(key, text)]));
        assert_eq!(map("$bytes", "00ff").to_json(), json!({"$$bytes": "00ff"}));
        assert_eq!(map("$$f64", "NaN").to_json(), json!({"$$$f64": "NaN"}));
        assert_eq!(map("$bytes", "00FF").to_json(), json!({"$bytes": "00FF"}));
    }

    #[test]
    fn documents_that_resemble_tags_keep_their_text() {
        for json in [
            json!({"$bytes": "0"}),
            json!({"$bytes": "\u{e9}"}),
            json!({"$bytes": 5}),
            json!({"$bytes": "00", "k": 1}),
            json!({"$$bytes": "00"}),
            json!({"$$bytes": "zz"}),
            json!({"bytes": "00"}),
            json!({"$f64": "nan"}),
            json!({"$f64": "7ff8000000000000"}),
            json!({"$f64": "3ff0000000000000"}),
            json!({"$f64": "+ff8000000000001"}),
            json!({"$": ""}),
            json!({"$map": {"$bytes": "00"}}),
        ] {
            let value = Value::from_json(json.clone());
            assert!(value.as_map().is_some(), "json={json}");
            assert_eq!(value.to_json(), json);
        }
    }

    #[test]
    fn odd_values_survive_json_and_its_text() {
        for value in odd_values() {
            assert_eq!(Value::from_json(value.to_json()), value, "value={value}");
            assert_eq!(text_round_trip(&value), Some(value));
        }
    }

    #[test]
    fn numbers_take_the_first_type_that_holds_them() {
        let value = Value::from(json!([1, -1, u64::MAX, 1.0, -0.0]));
        assert!(matches!(
            value.as_array(),
            Some([Value::I64(1), Value::I64(-1), Value::U64(u64::MAX), Value::F64(_), Value::F64(_)])
        ));
        assert_eq!(serde_json::Value::from(value), json!([1, -1, u64::MAX, 1.0, -0.0]));
    }

    proptest! {
        #[test]
        fn any_value_survives_json(value in any_value()) {
            let json = value.to_json();
            prop_assert_eq!(&Value::from_json(json.clone()), &value);
            prop_assert_eq!(serde_json::to_value(&value).ok(), Some(json.clone()));
            prop_assert_eq!(serde_json::from_value::<Value>(json).ok(), Some(value));
        }
    }
}
