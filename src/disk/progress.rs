//! How far the write of a batch has come: a device may take less than it was given.
//!
//! - The batch is durable when all of it was taken. What is left is written from the last whole block on: a short write
//!   may end inside one.

use std::io;

use crate::base::planted::{Bug, planted};
use crate::format::BLOCK;

/// A batch that is being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    written: usize,
    length: usize,
}

impl Progress {
    /// Nothing of a batch is written.
    pub(crate) const fn new(length: usize) -> Self {
        Self { written: 0, length }
    }

    /// Where the rest begins; `None` when all is written.
    pub(crate) fn next(&self) -> Option<usize> {
        Some(self.written).filter(|written| *written < self.length)
    }

    /// A write of the rest has ended, and so many bytes of it were taken.
    ///
    /// # Errors
    /// `WriteZero` if that was less than a block: it would never end.
    pub(crate) fn took(&mut self, count: usize) -> io::Result<()> {
        let is_all = self.written + count == self.length || planted(Bug::ShortWriteIgnored);
        let whole = if is_all { self.length - self.written } else { count / BLOCK * BLOCK };
        if whole == 0 {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the device took less than a block"));
        }
        self.written += whole;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_begins_at_the_last_whole_block_and_nothing_for_ever_is_an_error() {
        let mut progress = Progress::new(3 * BLOCK);
        progress.took(BLOCK + 512).unwrap();
        assert_eq!(progress.next(), Some(BLOCK));
        assert_eq!(progress.took(512).unwrap_err().kind(), io::ErrorKind::WriteZero);
        assert_eq!(progress.took(0).unwrap_err().kind(), io::ErrorKind::WriteZero);
        progress.took(2 * BLOCK).unwrap();
        assert_eq!(progress.next(), None);
    }
}
