//! The floor of what survives the machine: one aligned block, made durable through `io_uring`, in a file that was filled with
//! zeros before.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};

const BLOCK: u32 = 4096;
const BLOCKS: u64 = 4096;

/// How a block is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `O_DIRECT | O_DSYNC`
    DirectSync,
    /// `O_DIRECT`, and `fdatasync` linked behind each write.
    Sync,
}

impl Way {
    pub(crate) const ALL: [Self; 2] = [Self::DirectSync, Self::Sync];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::DirectSync => "raw device, O_DSYNC",
            Self::Sync => "raw device, fdatasync",
        }
    }
}

/// A file of the device.
pub(crate) struct RawDevice {
    file: File,
    way: Way,
    ring: IoUring,
    buffer: Vec<u8>,
    next: u64,
}

impl RawDevice {
    /// Makes the file `raw` in a directory.
    pub(crate) fn open(directory: &Path, way: Way) -> Result<Self> {
        let path = directory.join("raw");
        let zeros = File::create(&path)?;
        for block in 0..BLOCKS {
            zeros.write_all_at(&[0; BLOCK as usize], block * u64::from(BLOCK))?;
        }
        zeros.sync_all()?;
        let sync = if way == Way::DirectSync { libc::O_DSYNC } else { 0 };
        let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | sync).open(path)?;
        Ok(Self { file, way, ring: IoUring::new(4)?, buffer: vec![1; 2 * BLOCK as usize], next: 0 })
    }

    /// Writes the next block; it is durable when this returns.
    pub(crate) fn write(&mut self) -> Result<()> {
        let block = self.buffer.as_ptr().wrapping_add(self.buffer.as_ptr().align_offset(BLOCK as usize));
        let file = types::Fd(self.file.as_raw_fd());
        let write = opcode::Write::new(file, block, BLOCK).offset(self.next * u64::from(BLOCK)).build();
        self.next = (self.next + 1) % BLOCKS;
        if self.way == Way::DirectSync {
            return self.submit(&[(write, BLOCK)]);
        }
        let sync = opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build();
        self.submit(&[(write.flags(Flags::IO_LINK), BLOCK), (sync, 0)])
    }

    /// Waits for all of them; each must return the number beside it.
    #[allow(unsafe_code, reason = "the kernel is given an address")]
    fn submit(&mut self, entries: &[(Entry, u32)]) -> Result<()> {
        for (entry, expected) in entries {
            let entry = entry.clone().user_data(u64::from(*expected));
            // SAFETY: the buffer and the file live as long as the ring, and what is submitted ends before this returns.
            unsafe { self.ring.submission().push(&entry) }.map_err(Error::other)?;
        }
        self.ring.submit_and_wait(entries.len())?;
        for completed in self.ring.completion() {
            if u64::try_from(completed.result()) != Ok(completed.user_data()) {
                return Err(Error::from_raw_os_error(-completed.result()));
            }
        }
        Ok(())
    }
}
