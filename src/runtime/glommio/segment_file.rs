//! Segment files: where batches become durable.
//!
//! - One write is durable when it completes: `O_DIRECT | O_DSYNC`. Where the file system refuses that, a plain write
//!   and fdatasync on the executor's blocking thread.
//! - A short write is continued; an error is final.
//! - A segment is locked before it is written, through the same description: who opens the database after a kill waits
//!   for that lock, and so for the last write to land.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use glommio::GlommioError;
use glommio::io::{DmaFile, OpenOptions};

use crate::disk::progress::Progress;
use crate::format::BLOCK;
use crate::runtime::sys::lock;

/// An open segment.
#[derive(Clone, Debug)]
pub(super) enum SegmentFile {
    Direct(Rc<DmaFile>),
    Buffered(Arc<File>),
}

impl SegmentFile {
    /// Opens a segment for writing, and locks it.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let file = Self::open_unlocked(path).await?;
        let locked = match &file {
            Self::Direct(file) => lock(&**file),
            Self::Buffered(file) => lock(&**file),
        };
        if let Err(error) = locked {
            file.close().await;
            return Err(io::Error::new(error.kind(), format!("cannot lock: file={} reason={error}", path.display())));
        }
        Ok(file)
    }

    async fn open_unlocked(path: &Path) -> io::Result<Self> {
        // T2: write-only, so that glommio's probe (a read) fails and it never takes the file for a polled one.
        let direct = OpenOptions::new().write(true).custom_flags(libc::O_DSYNC).dma_open(path).await;
        match direct {
            Ok(file) => Ok(Self::Direct(Rc::new(file))),
            Err(error) if os_error(&error) == Some(libc::EINVAL) => {
                tracing::warn!(file = %path.display(), "the file system refuses O_DIRECT, writing through the page cache");
                std::fs::OpenOptions::new().write(true).open(path).map(|file| Self::Buffered(Arc::new(file)))
            }
            Err(error) => Err(to_io(&error)),
        }
    }

    /// Writes a whole number of blocks at a block boundary; durable when it returns.
    pub(super) async fn write(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        assert!(bytes.len().is_multiple_of(BLOCK) && offset.is_multiple_of(BLOCK as u64), "batches are whole blocks");
        match self {
            Self::Direct(file) => write_direct(file, &bytes, offset).await,
            Self::Buffered(file) => {
                let file = file.clone();
                // T6: a panic in there would hang the executor.
                let write = move || {
                    let write = || file.write_all_at(&bytes, offset).and_then(|()| file.sync_data());
                    catch_unwind(AssertUnwindSafe(write))
                        .unwrap_or_else(|_| Err(io::Error::other("the write panicked")))
                };
                glommio::executor().spawn_blocking(write).await
            }
        }
    }

    /// Closes the file; glommio's drop would only queue the close.
    pub(super) async fn close(self) {
        if let Self::Direct(file) = self {
            let _ = file.close_rc().await;
        }
    }
}

async fn write_direct(file: &DmaFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut progress = Progress::new(bytes.len());
    while let Some(written) = progress.next() {
        let rest = &bytes[written..];
        let mut buffer = file.alloc_dma_buffer(rest.len());
        buffer.as_bytes_mut().copy_from_slice(rest);
        let count = file.write_at(buffer, offset + written as u64).await.map_err(|error| to_io(&error))?;
        progress.took(count)?;
    }
    Ok(())
}

fn os_error<T>(error: &GlommioError<T>) -> Option<i32> {
    error.raw_os_error()
}

/// glommio's own conversion drops the number of the error.
fn to_io<T>(error: &GlommioError<T>) -> io::Error {
    os_error(error).map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}
