//! The canonical encoding of values, what the hash chain of an event log is computed over; and the measures of a value
//! that are checked before it is encoded: its depth, because encoding recurses, and its weight, about the length.
//!
//! One value has exactly one encoding, two different values never share one, and no encoding is a prefix of another.
//! It never changes: hashes that were published depend on it. Integers are little endian; lengths and counts are `u64`.
//!
//! | tag  | value | what follows the tag |
//! |------|-------|----------------------|
//! | 0x00 | null  | nothing |
//! | 0x01 | false | nothing |
//! | 0x02 | true  | nothing |
//! | 0x03 | integer up to 2^63 - 1 | `i64`, 8 bytes |
//! | 0x04 | integer from 2^63 | `u64`, 8 bytes |
//! | 0x05 | float | the IEEE 754 bits, 8 bytes; every NaN as the bits it has |
//! | 0x06 | string | length in bytes, then UTF-8 |
//! | 0x07 | bytes | length, then the bytes |
//! | 0x08 | array | count, then each item |
//! | 0x09 | map | count, then each entry: length of the key, key in UTF-8, value; in ascending byte order of keys |
//!
//! Worked example: `{"a": [true, "x"]}` is
//! `09 0100000000000000 0100000000000000 61 08 0200000000000000 02 06 0100000000000000 78`.

use std::collections::btree_map;
use std::slice;

use super::Value;

/// What an item of an array or an entry of a map weighs beside its content.
const ITEM_WEIGHT: usize = 8;

/// Appends the canonical encoding of `value` to `out`.
pub(crate) fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0x00),
        Value::Bool(false) => out.push(0x01),
        Value::Bool(true) => out.push(0x02),
        Value::I64(number) => tagged(0x03, number.to_le_bytes(), out),
        Value::U64(number) => match i64::try_from(*number) {
            Ok(number) => tagged(0x03, number.to_le_bytes(), out),
            Err(_) => tagged(0x04, number.to_le_bytes(), out),
        },
        Value::F64(number) => tagged(0x05, number.to_bits().to_le_bytes(), out),
        Value::String(text) => {
            tagged(0x06, length(text.len()), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Bytes(bytes) => {
            tagged(0x07, length(bytes.len()), out);
            out.extend_from_slice(bytes);
        }
        Value::Array(items) => {
            tagged(0x08, length(items.len()), out);
            for item in items {
                write_canonical(item, out);
            }
        }
        Value::Map(entries) => {
            tagged(0x09, length(entries.len()), out);
            for (key, item) in entries {
                out.extend_from_slice(&length(key.len()));
                out.extend_from_slice(key.as_bytes());
                write_canonical(item, out);
            }
        }
    }
}

fn tagged(tag: u8, payload: [u8; 8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&payload);
}

const fn length(length: usize) -> [u8; 8] {
    (length as u64).to_le_bytes()
}

impl Value {
    /// Returns how many arrays and maps are nested in each other: 0 for a scalar, 1 for an empty array.
    #[must_use]
    pub fn depth(&self) -> usize {
        let mut deepest = 0;
        self.walk(|depth, _| deepest = deepest.max(depth));
        deepest
    }

    /// Returns about how many bytes the value takes when it is stored; limits are checked against it.
    ///
    /// A string or bytes: their length. A number: 8. Null or a boolean: 1. An array or a map: the weights of its items,
    /// the lengths of its keys, and 8 for each item. Takes time proportional to the number of items, not of bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let mut weight = 0_usize;
        self.walk(|_, value| weight = weight.saturating_add(value.own_weight()));
        weight
    }

    /// The weight without what the items of an array or a map weigh themselves.
    fn own_weight(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 1,
            Self::I64(_) | Self::U64(_) | Self::F64(_) => 8,
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Array(items) => items.len().saturating_mul(ITEM_WEIGHT),
            Self::Map(entries) => {
                let keys = entries.keys().map(|key| key.len().saturating_add(ITEM_WEIGHT));
                keys.fold(0, usize::saturating_add)
            }
        }
    }

    /// Shows this value and every value in it to `visit`, with their depths. Keeps its own stack, one entry per level,
    /// and none for a scalar.
    fn walk<'a>(&'a self, mut visit: impl FnMut(usize, &'a Value)) {
        let mut open = Vec::new();
        let mut next = Some(self);
        loop {
            match next {
                Some(value) => {
                    open.extend(Children::of(value));
                    visit(open.len(), value);
                }
                None if open.pop().is_none() => return,
                None => {}
            }
            next = open.last_mut().and_then(Children::next);
        }
    }
}

/// The values directly in an array or a map that are still to be visited.
enum Children<'a> {
    Items(slice::Iter<'a, Value>),
    Entries(btree_map::Values<'a, String, Value>),
}

impl<'a> Children<'a> {
    fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(items) => Some(Self::Items(items.iter())),
            Value::Map(entries) => Some(Self::Entries(entries.values())),
            _ => None,
        }
    }

    fn next(&mut self) -> Option<&'a Value> {
        match self {
            Self::Items(items) => items.next(),
            Self::Entries(entries) => entries.next(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    /// Any value: every float there is, integers at the edges, keys that look like the tags of the JSON form.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::I64),
            Just(Value::I64(i64::MIN)),
            any::<u64>().prop_map(Value::U64),
            Just(Value::U64(u64::MAX)),
            any::<u64>().prop_map(|bits| Value::F64(f64::from_bits(bits))),
            (0x7ff0_0000_0000_0000_u64..).prop_map(|bits| Value::F64(f64::from_bits(bits))),
            Just(Value::F64(f64::INFINITY)),
            "(\\PC{0,6}|NaN|[0-9a-f]{16}|Infinity|(00)?)".prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..6).prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 5, |inner| {
            let key = "([$]{0,3}(bytes|f64)|\\PC{0,3})";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::btree_map(key, inner, 0..4).prop_map(Value::Map),
            ]
        })
    }

    /// Values that have gone wrong in other databases.
    pub(crate) fn odd_values() -> Vec<Value> {
        let nan = |bits| Value::F64(f64::from_bits(bits));
        let map = |key: &str, value: Value| Value::Map(BTreeMap::from([(key.into(), value)]));
        vec![
            Value::Null,
            Value::I64(i64::MIN),
            Value::I64(i64::MAX),
            Value::U64(u64::MAX),
            Value::F64(-0.0),
            Value::F64(f64::MIN_POSITIVE / 2.0),
            Value::F64(f64::INFINITY),
            Value::F64(f64::NEG_INFINITY),
            nan(0x7ff8_0000_0000_0000),
            nan(0xfff8_0000_0000_0000),
            nan(0x7ff0_0000_0000_0001),
            Value::from(""),
            Value::from("a\0\"\u{1f600}"),
            Value::Bytes(Bytes::new()),
            Value::Bytes(Bytes::from_static(&[0, 255, 10])),
            Value::Array(Vec::new()),
            Value::Map(BTreeMap::new()),
            map("", Value::Null),
            map("$bytes", Value::from("00ff")),
            map("$$bytes", Value::from("00ff")),
            map("$bytes", Value::from("not hex")),
            map("$f64", Value::from("NaN")),
            map("$f64", map("$f64", Value::F64(f64::NAN))),
            Value::from(vec![map("k", Value::from(vec![Value::Null, nan(u64::MAX)]))]),
        ]
    }

    pub(crate) fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
    }

    fn canonical(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        write_canonical(value, &mut out);
        out
    }

    fn hex(value: &Value) -> String {
        canonical(value).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    #[test]
    fn depth_and_weight_count_levels_and_content() {
        assert_eq!(Value::Null.depth(), 0);
        assert_eq!(Value::Array(Vec::new()).depth(), 1);
        assert_eq!(nested(100).depth(), 100);
        assert_eq!(Value::from("12345").weight(), 5);
        assert_eq!(Value::from(vec!["ab", "c"]).weight(), 3 + 2 * 8);
        assert_eq!(Value::from(BTreeMap::from([("key", 1)])).weight(), 3 + 8 + 8);
    }

    #[test]
    fn depth_of_a_very_deep_value_needs_no_stack() {
        let value = std::mem::ManuallyDrop::new(nested(300_000));
        assert_eq!(value.depth(), 300_000);
        assert_eq!(value.weight(), 300_000 * 8 + 1);
    }

    #[test]
    fn every_kind_has_the_bytes_that_are_documented() {
        assert_eq!(hex(&Value::Null), "00");
        assert_eq!(hex(&Value::Bool(false)), "01");
        assert_eq!(hex(&Value::Bool(true)), "02");
        assert_eq!(hex(&Value::I64(-2)), "03feffffffffffffff");
        assert_eq!(hex(&Value::U64(u64::MAX)), "04ffffffffffffffff");
        assert_eq!(hex(&Value::F64(-0.0)), "050000000000000080");
        assert_eq!(hex(&Value::F64(f64::from_bits(0x7ff0_0000_0000_0001))), "05010000000000f07f");
        assert_eq!(hex(&Value::from("\u{e9}")), "060200000000000000c3a9");
        assert_eq!(hex(&Value::from(vec![7_u8])), "07010000000000000007");
        let example = BTreeMap::from([("a", vec![Value::Bool(true), Value::from("x")])]);
        assert_eq!(
            hex(&Value::from(example)),
            "09010000000000000001000000000000006108020000000000000002\
             06010000000000000078"
        );
    }

    #[test]
    fn equal_integers_have_equal_bytes() {
        assert_eq!(canonical(&Value::U64(5)), canonical(&Value::I64(5)));
    }

    #[test]
    fn keys_are_in_byte_order() {
        let map = BTreeMap::from([("\u{e9}", 1), ("a", 2), ("B", 3)]);
        let bytes = canonical(&Value::from(map));
        let at = |key: &str| bytes.windows(key.len()).position(|part| part == key.as_bytes());
        assert!(at("B") < at("a") && at("a") < at("\u{e9}"));
    }

    #[test]
    fn odd_values_differ_from_each_other() {
        let values = odd_values();
        for (index, a) in values.iter().enumerate() {
            for b in values.iter().skip(index + 1) {
                assert!(!canonical(b).starts_with(&canonical(a)), "a={a} b={b}");
            }
        }
    }

    proptest! {
        #[test]
        fn same_bytes_exactly_if_equal(a in any_value(), b in any_value()) {
            prop_assert_eq!(canonical(&a) == canonical(&b), a == b);
            prop_assert_eq!(canonical(&a), canonical(&a.clone()));
        }
    }
}
