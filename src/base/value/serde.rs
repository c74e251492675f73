//! Values in serde: the binary form of the log, and `Decoder`, which shows a value to any serde type.
//!
//! - Human-readable formats get the form of `json`. All others get an enum whose variant indexes are a disk format and
//!   never change: 0 Null, 1 Bool, 2 I64, 3 U64, 4 F64 (its bits), 5 String, 6 Bytes, 7 Array, 8 Map.
//! - The binary form is canonical: integers up to `i64::MAX` are I64, the keys of a map rise strictly. A map whose keys
//!   do not is refused when read; an integer in the wrong variant is put right.
//! - Hostile bytes take memory in proportion to their length: the lengths they claim are not believed when memory is
//!   set aside. Nesting stops at `MAX_DEPTH` both ways.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess};
use serde::de::{VariantAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer, forward_to_deserialize_any, ser};

use super::json::{self, TooDeep};
use super::text::KeyDecoder;
use super::{MAX_DEPTH, Text, Value};

type Error = de::value::Error;

const NAME: &str = "Value";
const VARIANTS: &[&str] = &["Null", "Bool", "I64", "U64", "F64", "String", "Bytes", "Array", "Map"];
const MAP: u32 = 8;

/// The newtype struct a `Value` asks human-readable formats for; `Decoder` knows it, others ignore it.
const WHOLE: &str = "$in_mem::value";

/// The most items for which memory is set aside before they are read. Arrays can be nested, and each level claims anew.
const BELIEVED_ITEMS: usize = 16;

/// A value on its way into a serializer; `left` levels may still be nested in it.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) value: &'a Value,
    left: usize,
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (value, left) = (self, MAX_DEPTH);
        Node { value, left }.serialize(serializer)
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return json::serialize(*self, serializer);
        }
        let inside = Inside(*self);
        match self.value {
            Value::Null => serializer.serialize_unit_variant(NAME, 0, "Null"),
            Value::Bool(bool) => serializer.serialize_newtype_variant(NAME, 1, "Bool", bool),
            Value::I64(number) => serializer.serialize_newtype_variant(NAME, 2, "I64", number),
            Value::U64(number) => match i64::try_from(*number) {
                Ok(number) => serializer.serialize_newtype_variant(NAME, 2, "I64", &number),
                Err(_) => serializer.serialize_newtype_variant(NAME, 3, "U64", number),
            },
            Value::F64(number) => serializer.serialize_newtype_variant(NAME, 4, "F64", number),
            Value::String(text) => serializer.serialize_newtype_variant(NAME, 5, "String", text),
            Value::Bytes(bytes) => serializer.serialize_newtype_variant(NAME, 6, "Bytes", bytes),
            Value::Array(_) => serializer.serialize_newtype_variant(NAME, 7, "Array", &inside),
            Value::Map(_) => serializer.serialize_newtype_variant(NAME, MAP, "Map", &inside),
        }
    }
}

/// What an array or a map holds, on its way into a serializer.
pub(crate) struct Inside<'a>(pub(crate) Node<'a>);

impl Serialize for Inside<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(left) = self.0.left.checked_sub(1) else {
            return Err(ser::Error::custom(TooDeep));
        };
        match self.0.value {
            Value::Array(items) => serializer.collect_seq(items.iter().map(|value| Node { value, left })),
            Value::Map(entries) => {
                let pairs = entries.iter().map(|(key, value)| (key, Node { value, left }));
                serializer.collect_map(pairs)
            }
            scalar => scalar.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Seed { left: MAX_DEPTH }.deserialize(deserializer)
    }
}

/// Reads a value in which `left` more levels may be nested.
#[derive(Clone, Copy)]
struct Seed {
    left: usize,
}

/// Reads what an array or a map holds in the binary form: keys must rise, and nothing is a tag.
enum Content {
    Items(Seed),
    Entries(Seed),
}

impl Seed {
    fn below<E: de::Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1).ok_or_else(|| E::custom(TooDeep))?;
        Ok(Self { left })
    }
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_newtype_struct(WHOLE, self)
        } else {
            deserializer.deserialize_enum(NAME, VARIANTS, self)
        }
    }
}

macro_rules! visit_into {
    ($($method:ident($type:ty))*) => {$(
        fn $method<E: de::Error>(self, value: $type) -> Result<Value, E> {
            Ok(Value::from(value))
        }
    )*};
}

impl<'de> Visitor<'de> for Seed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    visit_into! {
        visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64)
        visit_str(&str) visit_string(String) visit_byte_buf(Vec<u8>)
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(Bytes::copy_from_slice(bytes)))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut items = Vec::with_capacity(access.size_hint().unwrap_or(0).min(BELIEVED_ITEMS));
        while let Some(item) = access.next_element_seed(below)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut entries = BTreeMap::new();
        while let Some(key) = access.next_key()? {
            entries.insert(key, access.next_value_seed(below)?);
        }
        Ok(json::untag(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let (index, access) = access.variant::<u32>()?;
        match index {
            0 => access.unit_variant().map(|()| Value::Null),
            1 => access.newtype_variant().map(Value::Bool),
            2 => access.newtype_variant().map(Value::I64),
            3 => access.newtype_variant::<u64>().map(Value::from),
            4 => access.newtype_variant().map(Value::F64),
            5 => access.newtype_variant::<Text>().map(Value::String),
            6 => access.newtype_variant::<Bytes>().map(Value::Bytes),
            7 => access.newtype_variant_seed(Content::Items(self)),
            MAP => access.newtype_variant_seed(Content::Entries(self)),
            _ => Err(de::Error::custom(format_args!("no such kind of value: index={index}"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Content {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self {
            Self::Items(seed) => deserializer.deserialize_seq(seed),
            Self::Entries(_) => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Content {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or a map of values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let (Self::Items(seed) | Self::Entries(seed)) = self;
        let below = seed.below()?;
        let mut entries = BTreeMap::<String, Value>::new();
        while let Some(key) = access.next_key::<String>()? {
            if entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(de::Error::custom("the keys of a map do not rise"));
            }
            entries.insert(key, access.next_value_seed(below)?);
        }
        Ok(Value::Map(entries))
    }
}

/// Shows a value to a type that reads itself with serde.
#[derive(Clone, Copy)]
pub(crate) struct Decoder<'de>(pub(crate) &'de Value);

impl<'de> IntoDeserializer<'de, Error> for Decoder<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Shows items as an array, all of which the visitor must take.
fn show_items<'de, V: Visitor<'de>>(
    items: impl Iterator<Item: IntoDeserializer<'de, Error>>,
    visitor: V,
) -> Result<V::Value, Error> {
    let mut items = SeqDeserializer::new(items);
    let value = visitor.visit_seq(&mut items)?;
    items.end().map(|()| value)
}

impl<'de> Deserializer<'de> for Decoder<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(bool) => visitor.visit_bool(*bool),
            Value::I64(number) => visitor.visit_i64(*number),
            Value::U64(number) => visitor.visit_u64(*number),
            Value::F64(number) => visitor.visit_f64(*number),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Value::Array(items) => show_items(items.iter().map(Self), visitor),
            Value::Map(entries) => {
                let pairs = entries.iter().map(|(key, item)| (KeyDecoder(key), Self(item)));
                let mut pairs = MapDeserializer::new(pairs);
                let value = visitor.visit_map(&mut pairs)?;
                pairs.end().map(|()| value)
            }
        }
    }

    /// Bytes are shown as numbers too, to a `Vec<u8>` or a `[u8; 16]`.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Bytes(bytes) => show_items(bytes.iter().copied(), visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A `Value` gets its maps as an enum, in which nothing is taken for a tag.
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Map(_) if name == WHOLE => {
                let pair = std::iter::once((MAP, self));
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(pair)))
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(BorrowedStrDeserializer::new(text)),
            Value::Map(entries) if entries.len() == 1 => {
                let pairs = entries.iter().map(|(key, item)| (key.as_str(), Self(item)));
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(pairs)))
            }
            _ => Err(de::Error::custom("expected a variant: a text, or a map with one key")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct map struct tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::canonical::tests::any_value;
    use super::*;

    #[test]
    fn the_binary_form_is_fixed() {
        let bytes = |value: Value| postcard::to_allocvec(&value).ok();
        assert_eq!(bytes(Value::Null), Some(vec![0]));
        assert_eq!(bytes(Value::Bool(true)), Some(vec![1, 1]));
        assert_eq!(bytes(Value::I64(-1)), Some(vec![2, 1]));
        assert_eq!(bytes(Value::U64(5)), Some(vec![2, 10]));
        assert_eq!(bytes(Value::F64(-0.0)), Some(vec![4, 0, 0, 0, 0, 0, 0, 0, 128]));
        assert_eq!(bytes(Value::from("a")), Some(vec![5, 1, 97]));
        assert_eq!(bytes(Value::from(vec![7_u8])), Some(vec![6, 1, 7]));
        assert_eq!(bytes(Value::from(vec![true])), Some(vec![7, 1, 1, 1]));
        let map = Value::from(BTreeMap::from([("k", Value::Null)]));
        assert_eq!(bytes(map), Some(vec![8, 1, 1, 107, 0]));
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let refused = |bytes: &[u8]| postcard::from_bytes::<Value>(bytes).is_err();
        assert!(refused(&[]) && refused(&[9]) && refused(&[7, 1]) && refused(&[1, 2]));
        assert!(refused(&[&[7, 1].repeat(129)[..], &[0]].concat()));
        assert!(refused(&[7, 1].repeat(1 << 20)) && refused(&[8, 1, 0].repeat(1 << 20)));
        for kind in 5..=8 {
            assert!(refused(&[&[kind][..], &[255; 9], &[1]].concat()));
        }
        assert!(refused(&[8, 2, 1, 98, 0, 1, 97, 0]), "keys must rise");
    }

    proptest! {
        #[test]
        fn any_value_survives(value in any_value()) {
            let bytes = postcard::to_allocvec(&value).unwrap_or_default();
            prop_assert_eq!(postcard::from_bytes::<Value>(&bytes), Ok(value));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(0..12_u8, 0..64)) {
            if let Ok(value) = postcard::from_bytes::<Value>(&bytes) {
                let again = postcard::to_allocvec(&value).unwrap_or_default();
                prop_assert_eq!(postcard::from_bytes::<Value>(&again), Ok(value));
            }
        }
    }
}
