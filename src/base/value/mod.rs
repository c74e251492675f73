//! Values: what a key, an event, a state cell or a trace holds.
//!
//! - An integer has one meaning whichever variant carries it: `U64(5)` equals `I64(5)`, and is stored and hashed as
//!   `I64(5)`. Everything in this module makes `U64` only above `i64::MAX`.
//! - Floats are their bits: storing, hashing and comparing never change, merge or lose a NaN or a negative zero.
//! - Strings and bytes are shared by clones, not copied.
//! - [`Value::depth`] and [`Value::weight`] use no recursion, so that the door can refuse a value of any depth. The
//!   serde forms refuse more than `MAX_DEPTH` levels both ways, so what is written can be read. `Display`, the JSON
//!   conversions, the canonical encoding, comparing and dropping recurse: they are for values the door has let in.

mod canonical;
mod convert;
mod json;
mod serde;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use ::serde::{Serialize, de::DeserializeOwned};
use bytes::Bytes;

pub(crate) use self::canonical::write_canonical;
pub use self::text::Text;
use super::error::{Error, Result};

/// The most levels of arrays and maps in the serde forms of a value, read or written.
pub(crate) const MAX_DEPTH: usize = 128;

/// A value: what JSON can say, and also bytes, all of `i64` and `u64`, NaN and the infinities.
///
/// Two values are equal if they have the same shape and content. Floats are compared by their bits, so that what was
/// stored equals what is read back: a NaN equals the same NaN, and `0.0` differs from `-0.0`. Integers are compared as
/// numbers (`U64(5) == I64(5)`); an integer never equals a float.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    I64(i64),
    /// An integer above `i64::MAX`. A smaller one is taken for the `I64` of the same number.
    U64(u64),
    /// A floating point number, NaN and the infinities included.
    F64(f64),
    /// A text.
    String(Text),
    /// Any bytes.
    Bytes(Bytes),
    /// Values in order.
    Array(Vec<Value>),
    /// Values by name, in byte order of the names.
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// Returns the text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns an integer that an `i64` can hold. Floats are not integers, even `1.0`.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::I64(number) => Some(*number),
            Self::U64(number) => i64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Returns an integer that a `u64` can hold. Floats are not integers, even `1.0`.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::I64(number) => u64::try_from(*number).ok(),
            Self::U64(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns a number as a float. Integers beyond 2^53 are rounded to the nearest float.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "rounding is documented")]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::I64(number) => Some(*number as f64),
            Self::U64(number) => Some(*number as f64),
            Self::F64(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns a boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(bool) => Some(*bool),
            _ => None,
        }
    }

    /// Returns bytes. A string is not bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the items of an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the entries of a map.
    #[must_use]
    pub fn as_map(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Returns the value of a key, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: impl AsRef<str>) -> Option<&Value> {
        self.as_map()?.get(key.as_ref())
    }

    /// Whether this is `Null`.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Turns anything that serde can serialize into a value, without going through text.
    ///
    /// The shape is the one `serde_json` would give, except that bytes stay bytes (`serde_bytes`, [`Bytes`]; a
    /// `Vec<u8>` is an array of numbers to serde) and that NaN and the infinities stay what they are. Integer, float
    /// and boolean keys of maps become their text.
    ///
    /// A `Value` encodes to itself, also inside other types. Only where serde buffers (`flatten`, `untagged`,
    /// `tag = ".."`) is a map that looks like a tag of [`Value::to_json`] taken for one when it is decoded.
    ///
    /// # Errors
    ///
    /// `Serialization` if the type refuses, if an integer needs more than 64 bits, if a key of a map is not a text or a
    /// number, or if it is nested deeper than 128 levels.
    pub fn encode<T: Serialize + ?Sized>(source: &T) -> Result<Self> {
        source.serialize(convert::Encoder::new()).map_err(|error| Error::Serialization(error.to_string()))
    }

    /// Reads anything that serde can deserialize out of a value: the opposite of [`Value::encode`].
    ///
    /// `decode::<Value>()` gives the value itself. `decode::<serde_json::Value>()` refuses bytes and gives null for
    /// NaN and the infinities, because JSON has neither; [`Value::to_json`] keeps them.
    ///
    /// # Errors
    ///
    /// `Serialization` if the value has another shape than the type; the message says what was expected.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(serde::Decoder(self)).map_err(|error| Error::Serialization(error.to_string()))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::I64(a), Self::I64(b)) => a == b,
            (Self::U64(a), Self::U64(b)) => a == b,
            (Self::I64(signed), Self::U64(unsigned)) | (Self::U64(unsigned), Self::I64(signed)) => {
                u64::try_from(*signed) == Ok(*unsigned)
            }
            (Self::F64(a), Self::F64(b)) => a.to_bits() == b.to_bits(),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// Compact JSON; bytes, NaN and the infinities as [`Value::to_json`] writes them. `{:#}` is indented.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_json(), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::canonical::tests::{any_value, nested, odd_values};
    use super::*;

    #[test]
    fn a_value_is_five_words() {
        assert!(size_of::<Value>() <= 40);
    }

    #[test]
    fn integers_are_numbers_and_floats_are_bits() {
        assert_eq!(Value::U64(5), Value::I64(5));
        assert_ne!(Value::U64(u64::MAX), Value::I64(-1));
        assert_ne!(Value::F64(1.0), Value::I64(1));
        assert_ne!(Value::F64(0.0), Value::F64(-0.0));
        assert_eq!(Value::F64(f64::NAN), Value::F64(f64::NAN));
        assert_ne!(Value::F64(f64::NAN), Value::F64(f64::from_bits(0xfff8_0000_0000_0001)));
        assert_eq!(Value::U64(5).as_i64(), Some(5));
        assert_eq!(Value::I64(-5).as_u64(), None);
        assert_eq!(Value::I64(2).as_f64(), Some(2.0));
    }

    #[test]
    fn accessors_see_only_their_own_kind() {
        let value = Value::from(BTreeMap::from([("k", vec![1, 2])]));
        assert_eq!(value.get("k").and_then(Value::as_array).map(<[_]>::len), Some(2));
        assert!(value.get("other").is_none() && Value::Null.get("k").is_none());
        assert!(value.as_str().is_none() && value.as_bytes().is_none() && !value.is_null());
        assert_eq!(Value::from("x").as_str(), Some("x"));
        assert_eq!(Value::from(b"x".to_vec()).as_bytes(), Some(&b"x"[..]));
        assert_eq!(Value::from(true).as_bool(), Some(true));
        assert_eq!(value.to_string(), r#"{"k":[1,2]}"#);
    }

    #[derive(Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
    enum Shape {
        Unit,
        Newtype(Option<char>),
        Tuple(i128, f32),
        Struct { by_number: BTreeMap<i8, [u8; 2]>, bytes: Bytes },
    }

    #[derive(Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        Step { value: Value, data: Bytes, count: u64, score: f64 },
    }

    #[test]
    fn encode_and_decode_keep_every_shape() {
        let shapes = vec![
            Shape::Unit,
            Shape::Newtype(Some('x')),
            Shape::Newtype(None),
            Shape::Tuple(i128::from(u64::MAX), f32::NEG_INFINITY),
            Shape::Struct { by_number: BTreeMap::from([(-1, [0, 255])]), bytes: Bytes::from_static(b"\0") },
        ];
        let encoded = Value::encode(&shapes).unwrap_or_default();
        assert_eq!(encoded.to_string().matches("$bytes").count(), 1);
        assert_eq!(encoded.decode::<Vec<Shape>>().ok(), Some(shapes));
    }

    #[test]
    fn what_serde_buffers_keeps_bytes_and_floats() {
        let value = Value::from(vec![Value::from(vec![0_u8]), Value::F64(f64::NAN)]);
        let data = Bytes::from_static(b"\0");
        let step = Tagged::Step { value, data, count: u64::MAX, score: f64::INFINITY };
        let encoded = Value::encode(&step).unwrap_or_default();
        assert!(matches!(encoded.get("data"), Some(Value::Bytes(_))));
        assert_eq!(encoded.decode::<Tagged>().ok(), Some(step));
    }

    #[test]
    fn decode_refuses_another_shape_and_accepts_bytes_as_numbers() {
        assert!(Value::from("5").decode::<u64>().is_err());
        assert!(Value::from(vec![1, 2]).decode::<(u8,)>().is_err());
        assert!(Value::from(-1).decode::<u8>().is_err());
        assert_eq!(Value::from(vec![1_u8, 2]).decode::<[u8; 2]>().ok(), Some([1, 2]));
        assert!(matches!(Value::encode(&f64::NAN), Ok(Value::F64(nan)) if nan.is_nan()));
        assert!(matches!(Value::encode(&nested(129)), Err(Error::Serialization(_))));
    }

    #[test]
    fn odd_values_survive_encode_and_decode() {
        for value in odd_values() {
            assert_eq!(Value::encode(&value).ok(), Some(value.clone()));
            assert_eq!(value.decode::<Value>().ok(), Some(value));
        }
    }

    #[test]
    fn what_is_too_deep_to_read_is_not_written() {
        let read = |value| postcard::from_bytes(&postcard::to_allocvec(&value)?);
        assert_eq!(read(nested(128)), Ok(nested(128)));
        assert!(read(nested(129)).is_err());
    }

    proptest! {
        #[test]
        fn any_value_survives_encode_and_decode(value in any_value()) {
            let wrapped = Some(vec![value.clone()]);
            let encoded = Value::encode(&wrapped).unwrap_or_default();
            prop_assert_eq!(&encoded, &Value::Array(vec![value]));
            prop_assert_eq!(encoded.decode::<Option<Vec<Value>>>().ok(), Some(wrapped));
        }
    }
}
