//! Packed values: a value as memory keeps it, in little more than half of the bytes.
//!
//! - Maps hold many of them, and most are texts and numbers. What is larger than those is shared behind a pointer.
//! - On disk it is what the value is.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::value::{Text, Value};

/// A value; cloning it shares the contents.
#[derive(Clone, Debug)]
pub(crate) enum Packed {
    Null,
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    Text(Text),
    /// Bytes, an array or a map.
    Large(Arc<Value>),
}

const _: () = assert!(size_of::<Packed>() == 24);

impl Packed {
    pub(crate) fn to_value(&self) -> Value {
        self.clone().into()
    }

    /// The weight of the value.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Large(value) => value.weight(),
            small => small.to_value().weight(),
        }
    }
}

/// They are equal as values are.
impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Large(a), Self::Large(b)) => a == b,
            (a, b) => a.to_value() == b.to_value(),
        }
    }
}

impl From<Value> for Packed {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(flag),
            Value::I64(number) => Self::I64(number),
            Value::U64(number) => Self::U64(number),
            Value::F64(number) => Self::F64(number),
            Value::String(text) => Self::Text(text),
            large @ (Value::Bytes(_) | Value::Array(_) | Value::Map(_)) => Self::Large(Arc::new(large)),
        }
    }
}

impl From<&str> for Packed {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

#[cfg(test)]
impl From<i64> for Packed {
    fn from(number: i64) -> Self {
        Self::I64(number)
    }
}

impl From<Packed> for Value {
    fn from(packed: Packed) -> Self {
        match packed {
            Packed::Null => Self::Null,
            Packed::Bool(flag) => Self::Bool(flag),
            Packed::I64(number) => Self::I64(number),
            Packed::U64(number) => Self::U64(number),
            Packed::F64(number) => Self::F64(number),
            Packed::Text(text) => Self::String(text),
            Packed::Large(value) => Arc::unwrap_or_clone(value),
        }
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Large(value) => value.serialize(serializer),
            small => small.to_value().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn values() -> Vec<Value> {
        let list = Value::Array(vec![1.into(), Value::Null]);
        let map = Value::Map([("key".to_owned(), list.clone())].into());
        let bytes = Value::Bytes(Bytes::from_static(b"some"));
        vec![Value::Null, true.into(), (-7).into(), u64::MAX.into(), f64::NAN.into(), "text".into(), bytes, list, map]
    }

    #[test]
    fn a_packed_value_is_the_value() {
        for value in values() {
            let packed = Packed::from(value.clone());
            assert_eq!(packed.weight(), value.weight());
            assert_eq!(packed.to_value(), value);
        }
    }

    #[test]
    fn on_disk_it_is_what_the_value_is() {
        for value in values() {
            let packed = Packed::from(value.clone());
            let bytes = postcard::to_allocvec(&value).unwrap();
            assert_eq!(postcard::to_allocvec(&packed).unwrap(), bytes);
            assert_eq!(postcard::from_bytes::<Packed>(&bytes).unwrap(), packed);
        }
    }
}
