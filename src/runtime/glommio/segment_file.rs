//! Segment files on `io_uring`.
//!
//! - One write is durable when it completes: `O_DIRECT | O_DSYNC`. Where the file system refuses that, a plain write
//!   and fdatasync on the executor's blocking thread.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;

use glommio::GlommioError;
use glommio::io::{DmaFile, OpenOptions};

use crate::disk::progress::Progress;
use crate::format::BLOCK;
use crate::runtime::segment_file::{BufferedFile, SegmentFile, lock};

/// An open segment.
#[derive(Clone, Debug)]
pub(super) enum GlommioFile {
    Direct(Rc<DmaFile>),
    Buffered(BufferedFile),
}

impl GlommioFile {
    /// Opens a segment for writing, and locks it.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        // T2: write-only, so that glommio's probe (a read) fails and it never takes the file for a polled one.
        let direct = OpenOptions::new().write(true).custom_flags(libc::O_DSYNC).dma_open(path).await;
        match direct {
            Ok(file) => match lock(&file, path) {
                Ok(()) => Ok(Self::Direct(Rc::new(file))),
                Err(error) => {
                    let _ = file.close().await;
                    Err(error)
                }
            },
            Err(error) if os_error(&error) == Some(libc::EINVAL) => {
                tracing::warn!(file = %path.display(), "the file system refuses O_DIRECT, writing through the page cache");
                BufferedFile::open(path).map(Self::Buffered)
            }
            Err(error) => Err(to_io(&error)),
        }
    }
}

impl SegmentFile for GlommioFile {
    async fn write(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        assert!(bytes.len().is_multiple_of(BLOCK) && offset.is_multiple_of(BLOCK as u64), "batches are whole blocks");
        match self {
            Self::Direct(file) => write_direct(file, &bytes, offset).await,
            Self::Buffered(file) => {
                let file = file.clone();
                // T6: a panic in there would hang the executor.
                let write = move || {
                    catch_unwind(AssertUnwindSafe(|| file.write(&bytes, offset)))
                        .unwrap_or_else(|_| Err(io::Error::other("the write panicked")))
                };
                glommio::executor().spawn_blocking(write).await
            }
        }
    }

    /// glommio's drop would only queue the close.
    async fn close(self) {
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
