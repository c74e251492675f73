//! What every store here can do: keep bytes under a name.

use std::error::Error;
use std::path::Path;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What a put survives when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Nothing: what is fastest.
    None,
    /// The end of the process, or all but the last moments before it; not that of the machine.
    Process,
    /// The end of the machine: the device was told to keep it.
    Machine,
}

impl Durability {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Process, Self::Machine];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "survives nothing",
            Self::Process => "survives the process",
            Self::Machine => "survives the machine",
        }
    }
}

/// A store that is called from any thread.
pub(crate) trait Peer: Send + Sync {
    fn put(&self, key: &str, value: &[u8]) -> Result<()>;
    /// How many bytes are there.
    fn get(&self, key: &str) -> Result<Option<usize>>;
}

/// A store, if it has anything of the durability that was asked for.
pub(crate) type Opened = Option<Box<dyn Peer>>;

/// How to open a store in an empty directory.
pub(crate) struct Entrant {
    pub(crate) name: &'static str,
    pub(crate) open: fn(&Path, Durability) -> Result<Opened>,
}
