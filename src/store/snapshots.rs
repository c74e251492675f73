//! Snapshots being read: which versions somebody still looks at.
//!
//! - A snapshot is registered before it is used and until its transaction's outcome is known.

use std::collections::BTreeMap;

use crate::base::version::Version;

/// The registered snapshots of a shard.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    readers: BTreeMap<Version, u32>,
}

impl Snapshots {
    pub(crate) fn register(&mut self, snapshot: Version) {
        *self.readers.entry(snapshot).or_insert(0) += 1;
    }

    /// # Panics
    /// If the snapshot is not registered.
    pub(crate) fn release(&mut self, snapshot: Version) {
        let Some(readers) = self.readers.get_mut(&snapshot) else {
            panic!("a snapshot is released once for every time it was registered");
        };
        *readers -= 1;
        if *readers == 0 {
            self.readers.remove(&snapshot);
        }
    }

    /// The oldest registered snapshot.
    pub(crate) fn oldest(&self) -> Option<Version> {
        self.readers.keys().next().copied()
    }
}
