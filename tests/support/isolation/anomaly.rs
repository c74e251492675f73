//! Anomalies: what a list-append history must not show.
//!
//! - Names are those of Adya (1999) and of Elle, so that they can be looked up.

use std::fmt;

use super::Place;

/// A kind of anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Two appends of one value to one key. The history says nothing about such a key.
    DuplicateAppend,
    /// A list shows a value twice: an append was applied twice.
    DuplicateElements,
    /// A list shows a value that nobody appended.
    Garbage,
    /// Two lists of a key, and none is the beginning of the other; or one transaction's appends are shown in another
    /// order, or with a gap.
    IncompatibleOrder,
    /// A transaction does not see its own appends, or reads differ within it.
    Internal,
    /// G1a: a list ends in a value of a transaction that failed.
    AbortedRead,
    /// G1b: a list shows a part of what another transaction appended to the key.
    IntermediateRead,
    /// A committed append stands behind one that failed.
    DirtyUpdate,
    /// Two transactions read the same version of a key, and both append to it.
    LostUpdate,
    G0,
    G1c,
    GSingle,
    G2Item,
    /// With a dependency on a key that a scan did not find.
    G2,
    G0RealTime,
    G1cRealTime,
    GSingleRealTime,
    G2ItemRealTime,
    G2RealTime,
}

impl Class {
    pub const fn name(self) -> &'static str {
        match self {
            Self::DuplicateAppend => "duplicate-append",
            Self::DuplicateElements => "duplicate-elements",
            Self::Garbage => "garbage",
            Self::IncompatibleOrder => "incompatible-order",
            Self::Internal => "internal",
            Self::AbortedRead => "G1a",
            Self::IntermediateRead => "G1b",
            Self::DirtyUpdate => "dirty-update",
            Self::LostUpdate => "lost-update",
            Self::G0 => "G0",
            Self::G1c => "G1c",
            Self::GSingle => "G-single",
            Self::G2Item => "G2-item",
            Self::G2 => "G2",
            Self::G0RealTime => "G0-realtime",
            Self::G1cRealTime => "G1c-realtime",
            Self::GSingleRealTime => "G-single-realtime",
            Self::G2ItemRealTime => "G2-item-realtime",
            Self::G2RealTime => "G2-realtime",
        }
    }
}

/// An anomaly that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    pub class: Class,
    /// Places in the history; a cycle in its order.
    pub transactions: Vec<Place>,
    /// What it consists of; the dependencies of a cycle.
    pub steps: Vec<String>,
}

impl Anomaly {
    pub(super) fn new(class: Class, transactions: Vec<Place>, step: String) -> Self {
        Self { class, transactions, steps: vec![step] }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.class.name(), self.steps.join("; "))
    }
}
