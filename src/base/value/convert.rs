//! What becomes a value: the `From` conversions, and any serde type through `Encoder`.
//!
//! - An unsigned integer that fits `i64` becomes `I64`.
//! - There is no `From<u8>`: with it, `Vec<u8>` would be both bytes and an array of numbers.
//! - `Encoder` says it is human readable, so that ids and addresses become their text; it stops at `MAX_DEPTH`.
//! - A `Value` inside of what is encoded comes out as it went in: its tags (see `json`) arrive in a newtype struct of a
//!   reserved name and are taken apart again.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::ser::{self, Error as _, Serialize, Serializer};

use super::{MAX_DEPTH, Text, Value, json};

type Error = serde::de::value::Error;

macro_rules! from_types {
    ($($type:ty, $name:ident => $value:expr;)*) => {$(
        impl From<$type> for Value {
            fn from($name: $type) -> Self {
                $value
            }
        }
    )*};
}

from_types! {
    bool, bool => Self::Bool(bool);
    i8, number => Self::I64(number.into());
    i16, number => Self::I64(number.into());
    i32, number => Self::I64(number.into());
    i64, number => Self::I64(number);
    u16, number => Self::I64(number.into());
    u32, number => Self::I64(number.into());
    u64, number => i64::try_from(number).map_or(Self::U64(number), Self::I64);
    usize, number => Self::from(number as u64);
    f32, number => Self::F64(number.into());
    f64, number => Self::F64(number);
    &str, text => Self::String(text.into());
    &String, text => Self::String(text.into());
    String, text => Self::String(text.into());
    Text, text => Self::String(text);
    Bytes, bytes => Self::Bytes(bytes);
    Vec<u8>, bytes => Self::Bytes(bytes.into());
    &Value, value => value.clone();
}

/// `None` becomes `Null`.
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(option: Option<T>) -> Self {
        option.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

macro_rules! from_maps {
    ($($map:ident<K, T $(, $hasher:ident)?>)*) => {$(
        impl<K: Into<String>, T: Into<Value> $(, $hasher)?> From<$map<K, T $(, $hasher)?>> for Value {
            fn from(entries: $map<K, T $(, $hasher)?>) -> Self {
                Self::Map(entries.into_iter().map(|(key, item)| (key.into(), item.into())).collect())
            }
        }
    )*};
}

from_maps! { BTreeMap<K, T> HashMap<K, T, S> }

/// Makes a value of what serde shows; `left` more levels may follow.
#[derive(Clone, Copy)]
pub(crate) struct Encoder {
    left: usize,
}

impl Encoder {
    pub(crate) const fn new() -> Self {
        Self { left: MAX_DEPTH }
    }

    fn below(self, levels: usize) -> Result<Self, Error> {
        let left = self.left.checked_sub(levels).ok_or_else(|| Error::custom(json::TooDeep))?;
        Ok(Self { left })
    }

    fn items(self, variant: Option<&'static str>) -> Result<Items, Error> {
        let below = self.below(1 + usize::from(variant.is_some()))?;
        Ok(Items { below, variant, values: Vec::new() })
    }

    fn entries(self, variant: Option<&'static str>) -> Result<Entries, Error> {
        let below = self.below(1 + usize::from(variant.is_some()))?;
        Ok(Entries { below, variant, key: None, pairs: BTreeMap::new() })
    }
}

/// The items of an array, a tuple or a tuple variant.
pub(crate) struct Items {
    below: Encoder,
    variant: Option<&'static str>,
    values: Vec<Value>,
}

/// The entries of a map, a struct or a struct variant.
pub(crate) struct Entries {
    below: Encoder,
    variant: Option<&'static str>,
    key: Option<String>,
    pairs: BTreeMap<String, Value>,
}

fn in_variant(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(name) => Value::Map(BTreeMap::from([(name.to_owned(), value)])),
        None => value,
    }
}

fn key_text(key: Value) -> Result<String, Error> {
    match key {
        Value::String(text) => Ok(text.into()),
        Value::Bool(_) | Value::I64(_) | Value::U64(_) | Value::F64(_) => match key.to_json() {
            serde_json::Value::Object(_) => Err(Error::custom("a key of a map is not finite")),
            number => Ok(number.to_string()),
        },
        _ => Err(Error::custom("a key of a map is neither a text nor a number")),
    }
}

macro_rules! serialize_into {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<Value, Error> {
            Ok(Value::from(value))
        }
    )*};
}

impl Serializer for Encoder {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    serialize_into! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_str(&str);
    }

    fn serialize_u8(self, value: u8) -> Result<Value, Error> {
        Ok(Value::I64(value.into()))
    }

    fn serialize_i128(self, value: i128) -> Result<Value, Error> {
        match i64::try_from(value) {
            Ok(number) => Ok(Value::I64(number)),
            Err(_) => u64::try_from(value).map(Value::U64).map_err(Error::custom),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<Value, Error> {
        u64::try_from(value).map(Value::from).map_err(Error::custom)
    }

    fn serialize_char(self, value: char) -> Result<Value, Error> {
        Ok(Value::from(value.to_string()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Value, Error> {
        Ok(Value::Bytes(Bytes::copy_from_slice(value)))
    }

    fn serialize_none(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, Error> {
        Ok(Value::from(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<Value, Error> {
        if name != json::TAG {
            return value.serialize(self);
        }
        match value.serialize(Self::new())? {
            Value::Map(entries) => Ok(json::untag(entries)),
            value => Ok(value),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        Ok(in_variant(Some(variant), value.serialize(self.below(1)?)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items, Error> {
        self.items(None)
    }

    fn serialize_tuple(self, _: usize) -> Result<Items, Error> {
        self.items(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items, Error> {
        self.items(None)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, variant: &'static str, _: usize) -> Result<Items, Error> {
        self.items(Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, Error> {
        self.entries(None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Entries, Error> {
        self.entries(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Entries, Error> {
        self.entries(Some(variant))
    }
}

macro_rules! serialize_items {
    ($($trait:ident $method:ident;)*) => {$(
        impl ser::$trait for Items {
            type Ok = Value;
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
                self.values.push(item.serialize(self.below)?);
                Ok(())
            }

            fn end(self) -> Result<Value, Error> {
                Ok(in_variant(self.variant, Value::Array(self.values)))
            }
        }
    )*};
}

serialize_items! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

impl ser::SerializeMap for Entries {
    type Ok = Value;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = Some(key_text(key.serialize(self.below)?)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or_else(|| Error::custom("a value of a map has no key"))?;
        self.pairs.insert(key, item.serialize(self.below)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Error> {
        Ok(in_variant(self.variant, Value::Map(self.pairs)))
    }
}

macro_rules! serialize_fields {
    ($($trait:ident)*) => {$(
        impl ser::$trait for Entries {
            type Ok = Value;
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, item: &T) -> Result<(), Error> {
                self.pairs.insert(key.to_owned(), item.serialize(self.below)?);
                Ok(())
            }

            fn end(self) -> Result<Value, Error> {
                ser::SerializeMap::end(self)
            }
        }
    )*};
}

serialize_fields! { SerializeStruct SerializeStructVariant }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_unsigned_integers_become_signed() {
        assert!(matches!(Value::from(5_u64), Value::I64(5)));
        assert!(matches!(Value::from(5_usize), Value::I64(5)));
        assert!(matches!(Value::from(u64::MAX), Value::U64(u64::MAX)));
    }

    #[test]
    fn everything_converts_to_what_it_says() {
        assert_eq!(Value::from("x"), Value::String("x".into()));
        assert_eq!(Value::from(&String::from("x")), Value::from(Text::from("x")));
        assert_eq!(Value::from(Some(1)), Value::I64(1));
        assert_eq!(Value::from(None::<i64>), Value::Null);
        assert_eq!(Value::from(0.5_f32), Value::F64(0.5));
        assert!(matches!(Value::from(vec![1_u8]), Value::Bytes(_)));
        assert!(matches!(Value::from(vec![1_u16]), Value::Array(_)));
        let hashed = HashMap::from([("k".to_owned(), vec!["v"])]);
        assert_eq!(Value::from(hashed), Value::from(BTreeMap::from([("k", vec!["v"])])));
        assert_eq!(Value::from(&Value::Null), Value::Null);
    }

    #[test]
    fn what_cannot_be_a_value_is_refused() {
        assert!(Value::encode(&u128::MAX).is_err());
        assert!(Value::encode(&i128::MIN).is_err());
        assert!(Value::encode(&BTreeMap::from([(vec![1], 1)])).is_err());
    }
}
