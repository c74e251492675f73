//! Segment files: where batches become durable.
//!
//! - A short write is continued; an error is final.
//! - A segment is locked before it is written, through the same open file description: who opens the database after a
//!   kill waits for that lock, and so for the last write to land.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::sys;
use crate::disk::progress::Progress;

/// A segment, open and locked, as a driver writes it.
pub(crate) trait SegmentFile: Clone + 'static {
    /// Writes a whole number of blocks at a block boundary; durable when it returns.
    async fn write(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()>;

    /// Closes the file.
    async fn close(self);
}

/// Locks a segment.
///
/// # Errors
/// Which one, and why not.
pub(crate) fn lock(file: &impl AsRawFd, path: &Path) -> io::Result<()> {
    sys::lock(file)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot lock: file={} reason={error}", path.display())))
}

/// A segment that is written through the page cache, by calls that block.
#[derive(Clone, Debug)]
pub(crate) struct BufferedFile(Arc<File>);

impl BufferedFile {
    /// Opens a segment for writing, and locks it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        lock(&file, path)?;
        Ok(Self(Arc::new(file)))
    }

    /// Writes, and makes it durable: `fdatasync`, or what the system has that reaches the device.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut progress = Progress::new(bytes.len());
        while let Some(written) = progress.next() {
            let count = self.0.write_at(&bytes[written..], offset + written as u64)?;
            progress.took(count)?;
        }
        self.0.sync_data()
    }
}
