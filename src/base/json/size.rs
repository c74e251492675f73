//! Sizes of JSON: of its text, and of what it takes.

use std::iter::Sum;
use std::ops::{Add, Sub};

use serde_json::Number;

/// What a value takes in memory beside its text, roughly.
const NODE_BYTES: usize = 16;

/// The size of a JSON value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Bytes of its compact text.
    text: usize,
    /// Values in it, itself included.
    nodes: usize,
}

impl Size {
    /// A scalar with a text of that length.
    pub(super) const fn of_text(text: usize) -> Self {
        Self { text, nodes: 1 }
    }

    pub(super) fn of_number(number: &Number) -> Self {
        Self::of_text(number.to_string().len())
    }

    pub(super) fn of_string(text: &str) -> Self {
        Self::of_text(quoted(text))
    }

    /// The key of a member, with its colon.
    pub(super) fn of_key(key: &str) -> Self {
        Self { text: quoted(key) + 1, nodes: 0 }
    }

    /// An array or an object with so many members that have this size together.
    pub(super) const fn within(self, members: usize) -> Self {
        Self { text: self.text + 2 + members.saturating_sub(1), nodes: self.nodes + 1 }
    }

    /// Bytes of its compact text.
    pub(crate) const fn text(self) -> usize {
        self.text
    }

    /// About how many bytes it takes in memory; no fewer than its text.
    pub(crate) const fn weight(self) -> usize {
        self.text + NODE_BYTES * self.nodes
    }
}

/// What the members of an array or an object take when it is copied without what is in them.
pub(super) const fn of_copy(members: usize) -> usize {
    NODE_BYTES * (members + 1)
}

impl Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { text: self.text + other.text, nodes: self.nodes + other.nodes }
    }
}

impl Sub for Size {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { text: self.text - other.text, nodes: self.nodes - other.nodes }
    }
}

impl Sum for Size {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), Self::add)
    }
}

/// The length of a text in quotes, escaped.
fn quoted(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    });
    escaped.sum::<usize>() + 2
}
