//! `Text`: an immutable string shared by its clones.
//!
//! - Compares, orders and hashes exactly like the `str` it holds: maps keyed by `Text` can be asked with `&str`.
//! - `KeyDecoder` is for the other texts of a value, the keys of its maps: a type with number keys finds its numbers.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::value::{BorrowedStrDeserializer, Error};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer, forward_to_deserialize_any};

/// An immutable string; cloning it shares the bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Arc<str>);

impl Text {
    /// Returns the string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Self(text.as_str().into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self(text)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(text.into())
    }
}

/// Shows a key of a map to serde: a text, or the number or boolean that the text spells.
#[derive(Clone, Copy)]
pub(crate) struct KeyDecoder<'de>(pub(crate) &'de str);

impl<'de> IntoDeserializer<'de, Error> for KeyDecoder<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! spelled {
    ($($deserialize:ident $visit:ident $type:ty;)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse::<$type>() {
                Ok(value) => visitor.$visit(value),
                Err(_) => visitor.visit_borrowed_str(self.0),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for KeyDecoder<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }

    spelled! {
        deserialize_bool visit_bool bool;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.0))
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    #[test]
    fn clones_share_the_bytes() {
        let text = Text::from("shared");
        assert!(Arc::ptr_eq(&text.0, &text.clone().0));
    }

    #[test]
    fn compares_and_prints_like_a_string() {
        let text = Text::from(String::from("a\"b"));
        assert_eq!(text, "a\"b");
        assert_eq!(text, *"a\"b");
        assert_eq!(text, String::from("a\"b"));
        assert_eq!(text, Text::from(&String::from("a\"b")));
        assert_eq!([Text::from("a"), Text::from("b")].iter().max(), Some(&Text::from("b")));
        assert_eq!(format!("{text} {text:?} {:>4}|", Text::from("x")), "a\"b \"a\\\"b\"    x|");
        assert_eq!(text.len(), 3);
        assert_eq!(String::from(text.clone()), text.as_str());
        assert_eq!(Text::default(), "");
    }

    #[test]
    fn maps_keyed_by_it_are_asked_with_str() {
        let hashed = HashMap::from([(Text::from("k"), 1)]);
        let ordered = BTreeMap::from([(Text::from(Arc::<str>::from("k")), 1)]);
        assert_eq!((hashed.get("k"), ordered.get("k")), (Some(&1), Some(&1)));
    }

    #[test]
    fn serde_writes_a_plain_string() {
        let text = Text::from("\u{e9}");
        assert_eq!(serde_json::to_string(&text).ok().as_deref(), Some("\"\u{e9}\""));
        assert_eq!(serde_json::from_str::<Text>("\"\\u00e9\"").ok(), Some(text.clone()));
        let bytes = postcard::to_allocvec(&text).unwrap_or_default();
        assert_eq!(bytes, [2, 0xc3, 0xa9]);
        assert_eq!(postcard::from_bytes::<Text>(&bytes).ok(), Some(text));
        assert!(postcard::from_bytes::<Text>(&[2, 0xff, 0xff]).is_err());
        assert!(postcard::from_bytes::<Text>(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    }
}
