//! The names of files on the fake disk: those that a process sees, and those that a power cut leaves.
//!
//! - A name that was made, changed or removed is durable when its directory was synced. Until then a power cut keeps
//!   each change or loses it, whatever became of the others.

use std::collections::BTreeMap;

/// Names a file, whatever it is called.
pub(super) type Inode = u64;

#[derive(Clone, Debug)]
enum Change {
    Made(String, Inode),
    Renamed(String, String, Inode),
    Removed(String),
}

impl Change {
    fn directory(&self) -> &str {
        let (Self::Made(name, _) | Self::Renamed(_, name, _) | Self::Removed(name)) = self;
        directory_of(name)
    }

    fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        match self {
            Self::Made(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Renamed(from, to, inode) => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            Self::Removed(name) => {
                names.remove(name);
            }
        }
    }
}

fn directory_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// All names.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    seen: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
    changes: Vec<Change>,
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<Inode> {
        self.seen.get(name).copied()
    }

    /// The files in a directory, without it.
    pub(super) fn list(&self, directory: &str) -> Vec<String> {
        let names = self.seen.keys().filter(|name| directory_of(name) == directory);
        names.map(|name| name.rsplit('/').next().unwrap_or_default().to_owned()).collect()
    }

    pub(super) fn make(&mut self, name: &str, inode: Inode) {
        self.change(Change::Made(name.into(), inode));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, inode: Inode) {
        self.change(Change::Renamed(from.into(), to.into(), inode));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.change(Change::Removed(name.into()));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.changes.push(change);
    }

    /// Makes the changes in a directory durable.
    pub(super) fn sync(&mut self, directory: &str) {
        let changes = std::mem::take(&mut self.changes);
        let (synced, rest): (Vec<_>, _) = changes.into_iter().partition(|change| change.directory() == directory);
        self.changes = rest;
        for change in synced {
            change.apply(&mut self.durable);
        }
    }

    /// Power is lost.
    pub(super) fn lose_power(&mut self, mut keeps: impl FnMut() -> bool) {
        for change in std::mem::take(&mut self.changes) {
            if keeps() {
                change.apply(&mut self.durable);
            }
        }
        self.seen = self.durable.clone();
    }

    /// Whether a file has a name, or may have one after a power cut.
    pub(super) fn has(&self, inode: Inode) -> bool {
        self.seen.values().chain(self.durable.values()).any(|named| *named == inode)
    }
}
