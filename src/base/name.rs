//! Names: what something is called within a space.
//!
//! - They are ordered as bytes. A lookup compares names many times, so a short one is compared as three numbers.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

/// The longest name that needs no memory of its own.
const INLINE: usize = 22;

/// The name of something within a space.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    /// Zeros behind the end.
    Short { bytes: [u8; INLINE], length: u8 },
    /// More than `INLINE` bytes.
    Long(Box<[u8]>),
}

/// Where a composite name is put together.
pub(crate) type NameBuffer = SmallVec<[u8; 64]>;

/// Maps hold many of them.
const _: () = assert!(size_of::<Name>() == 24);

impl Name {
    pub(crate) const fn new() -> Self {
        Self(Repr::Short { bytes: [0; INLINE], length: 0 })
    }

    #[expect(clippy::cast_possible_truncation, reason = "a short name is short")]
    pub(crate) fn from_slice(name: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        match bytes.get_mut(..name.len()) {
            Some(start) => {
                start.copy_from_slice(name);
                Self(Repr::Short { bytes, length: name.len() as u8 })
            }
            None => Self(Repr::Long(name.into())),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { bytes, length } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Repr::Long(bytes) => bytes,
        }
    }

    /// The name as a text; empty if it is none.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Default for Name {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self::from_slice(name.as_bytes())
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self::from_slice(name.as_bytes())
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        let (Repr::Short { bytes: a, length }, Repr::Short { bytes: b, length: other_length }) = (&self.0, &other.0)
        else {
            return self.as_bytes().cmp(other.as_bytes());
        };
        // The last number begins with two bytes that are known to be equal; then the shorter name begins the other.
        let ([a0, a1, a2], [b0, b1, b2]) = (numbers(a), numbers(b));
        a0.cmp(&b0).then_with(|| a1.cmp(&b1)).then_with(|| a2.cmp(&b2)).then_with(|| length.cmp(other_length))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The bytes as big-endian numbers: 0 to 8, 8 to 16, 14 to 22.
fn numbers(bytes: &[u8; INLINE]) -> [u64; 3] {
    [0, 8, INLINE - 8].map(|at| bytes[at..].first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk)))
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_bytes(), f)
    }
}

/// On disk: as bytes, which are taken whole and not one by one.
impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self::from_slice)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that often agree at the beginning.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0, 1, 0x7f, 0x80, 0xff]), 0..40)
    }

    proptest! {
        #[test]
        fn names_are_ordered_as_their_bytes(
            start in bytes(),
            (a, b) in (bytes(), bytes()),
        ) {
            let join = |end: &[u8]| [start.as_slice(), end].concat();
            let (a, b) = (join(&a), join(&b));
            let names = (Name::from_slice(&a), Name::from_slice(&b));
            prop_assert_eq!(names.0.cmp(&names.1), a.cmp(&b));
            prop_assert_eq!(names.0 == names.1, a == b);
        }
    }

    #[test]
    fn a_name_that_begins_another_comes_first() {
        for length in 0..40 {
            let (shorter, longer) = (vec![0; length], vec![0; length + 1]);
            assert!(Name::from_slice(&shorter) < Name::from_slice(&longer), "{length}");
            assert_eq!(Name::from_slice(&shorter).cmp(&Name::from_slice(&shorter)), Ordering::Equal);
        }
    }
}
