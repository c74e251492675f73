//! Cursors: how far a subscription has come.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::version::Version;

/// How far a subscription has come: everything up to here was given out. It can be kept and taken up again, by another
/// process too. Cursors of one subscription rise.
///
/// A [`Version`] becomes the cursor behind the commit of that version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    version: Version,
    /// The last name of that version; `None` is behind all of them.
    name: Option<Vec<u8>>,
}

impl Cursor {
    /// At one of the names that a commit has written, which come in order.
    pub(crate) fn at(version: Version, name: &[u8]) -> Self {
        Self { version, name: Some(name.to_vec()) }
    }

    /// The version of the last commit of which something was given out.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The last version of which everything was given out, and of all before it.
    pub(crate) fn whole(&self) -> Version {
        if self.name.is_some() { self.version.previous() } else { self.version }
    }

    /// Whether this name of this version is still to come.
    pub(crate) fn is_before(&self, version: Version, name: &[u8]) -> bool {
        match version.cmp(&self.version) {
            Ordering::Less => false,
            Ordering::Equal => self.name.as_ref().is_some_and(|last| last.as_slice() < name),
            Ordering::Greater => true,
        }
    }
}

impl From<Version> for Cursor {
    fn from(version: Version) -> Self {
        Self { version, name: None }
    }
}

/// Where a subscription stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the event with this sequence, which is the next.
    Event(u64),
    /// Behind a change.
    Change(Cursor),
}
