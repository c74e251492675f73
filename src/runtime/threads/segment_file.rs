//! Segment files on plain threads: positioned writes, each followed by fdatasync, on the shard's writer.

use std::io;
use std::path::PathBuf;

use super::writer::Jobs;
use crate::runtime::segment_file::{BufferedFile, SegmentFile};

/// An open segment.
#[derive(Clone, Debug)]
pub(super) struct WrittenFile {
    file: BufferedFile,
    jobs: Jobs,
}

impl WrittenFile {
    /// Opens a segment for writing, and locks it.
    pub(super) async fn open(path: PathBuf, jobs: Jobs) -> io::Result<Self> {
        let file = jobs.run(move || BufferedFile::open(&path)).await?;
        Ok(Self { file, jobs })
    }
}

impl SegmentFile for WrittenFile {
    async fn write(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        let file = self.file.clone();
        self.jobs.run(move || file.write(&bytes, offset)).await
    }

    async fn close(self) {}
}
