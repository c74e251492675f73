//! Run identifiers: 16 bytes, a UUID.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::{Error, Result};

/// The identifier of a run: a UUID, version 7 (ordered by time of creation) when made by [`RunId::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

impl RunId {
    /// The directory: the run that holds a shard's own bookkeeping. No user's run has this id.
    pub(crate) const DIRECTORY: Self = Self(Uuid::nil());

    /// Makes a new identifier, unique, and ordered by time of creation.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "two calls give two different ids, which a default should not")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Reads the text form of a UUID.
    ///
    /// # Errors
    /// `InvalidOperation` if the text is no UUID, or the nil UUID.
    pub fn parse(text: &str) -> Result<Self> {
        let uuid = Uuid::parse_str(text)
            .map_err(|error| Error::InvalidOperation(format!("not a run id: text={text:?} reason={error}")))?;
        if uuid.is_nil() {
            return Err(Error::InvalidOperation("the nil uuid is not a run id".into()));
        }
        Ok(Self(uuid))
    }

    /// Makes an identifier of 16 bytes. The nil UUID (16 zero bytes) is reserved: operations on it are refused.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the identifier, in the order of its text form.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_round_trip() {
        let id = RunId::new();
        assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
        assert_eq!(RunId::from_bytes(*id.as_bytes()), id);
    }

    #[test]
    fn what_is_no_uuid_and_the_nil_uuid_are_refused() {
        assert!(matches!(RunId::parse("run-1"), Err(Error::InvalidOperation(_))));
        assert!(matches!(RunId::parse(&RunId::DIRECTORY.to_string()), Err(Error::InvalidOperation(_))));
    }
}
