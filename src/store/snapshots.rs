//! Snapshots being read: which versions somebody still looks at.
//!
//! - A snapshot is registered before it is used and until its transaction's outcome is known.

use crate::base::version::Version;

/// The registered snapshots of a shard.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// In order; how many read each. There are few, and a new one nearly always comes last.
    readers: Vec<(Version, u32)>,
}

impl Snapshots {
    pub(crate) fn register(&mut self, snapshot: Version) {
        match self.place(snapshot) {
            Ok(at) => self.readers[at].1 += 1,
            Err(at) => self.readers.insert(at, (snapshot, 1)),
        }
    }

    /// # Panics
    /// If the snapshot is not registered.
    pub(crate) fn release(&mut self, snapshot: Version) {
        let Ok(at) = self.place(snapshot) else {
            panic!("a snapshot is released once for every time it was registered");
        };
        self.readers[at].1 -= 1;
        if self.readers[at].1 == 0 {
            self.readers.remove(at);
        }
    }

    /// The oldest registered snapshot.
    pub(crate) fn oldest(&self) -> Option<Version> {
        self.readers.first().map(|(snapshot, _)| *snapshot)
    }

    fn place(&self, snapshot: Version) -> Result<usize, usize> {
        self.readers.binary_search_by_key(&snapshot, |(snapshot, _)| *snapshot)
    }
}
