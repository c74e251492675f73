//! The floor of what survives the machine: one aligned block, made durable, into a file that was filled with zeros before.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::peer::Result;
use crate::workload::{Contender, Measured, Workload, nanos};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 4096;

/// How a block is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `O_DIRECT | O_DSYNC`
    DirectSync,
    /// `O_DIRECT`, and `fdatasync` behind each write.
    Sync,
}

pub(crate) struct RawDevice {
    file: File,
    way: Way,
}

impl RawDevice {
    pub(crate) fn open(path: &Path, way: Way) -> Result<Self> {
        let path = path.join("raw");
        let zeros = File::create(&path)?;
        for block in 0..BLOCKS {
            zeros.write_all_at(&[0; BLOCK], block * BLOCK as u64)?;
        }
        zeros.sync_all()?;
        let sync = if way == Way::DirectSync { libc::O_DSYNC } else { 0 };
        Ok(Self { file: OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | sync).open(path)?, way })
    }
}

impl Contender for RawDevice {
    fn fill(&self, _: u64) -> Result<()> {
        Ok(())
    }

    fn run(&self, workload: Workload, _: u64, time: Duration) -> Result<Option<Measured>> {
        if workload != Workload::Put {
            return Ok(None);
        }
        let buffer = vec![1; 2 * BLOCK];
        let aligned = buffer.as_ptr().align_offset(BLOCK);
        let mut latencies = Histogram::new(3)?;
        let (started, mut block) = (Instant::now(), 0);
        while started.elapsed() < time {
            let begun = Instant::now();
            self.file.write_all_at(&buffer[aligned..aligned + BLOCK], block * BLOCK as u64)?;
            if self.way == Way::Sync {
                self.file.sync_data()?;
            }
            latencies.record(nanos(begun.elapsed()))?;
            block = (block + 1) % BLOCKS;
        }
        Measured::of(vec![latencies], started.elapsed()).map(Some)
    }
}
