//! Snapshot files: written piece by piece, whole and durable before anybody names them.

use super::directory::Directory;
use super::file_system::FileSystem;
use crate::base::error::Result;
use crate::base::kill_point::{KillPoint, kill_point};
use crate::format::snapshot::{Piece, SnapshotEncoder, SnapshotFile, SnapshotHeader, SnapshotId};

/// Writes the snapshot of one shard.
pub(crate) struct SnapshotWriter<T> {
    header: SnapshotHeader,
    file: T,
    encoder: SnapshotEncoder,
    offset: u64,
}

impl<T> SnapshotWriter<T> {
    /// Begins a file.
    ///
    /// # Errors
    /// `Io` if it cannot be made.
    pub(crate) fn create<F: FileSystem<File = T>>(directory: &Directory<F>, header: SnapshotHeader) -> Result<Self> {
        let file = directory.create_snapshot(header.id)?;
        let (encoder, first) = SnapshotEncoder::new(&header);
        let mut writer = Self { header, file, encoder, offset: 0 };
        writer.write(directory, &first)?;
        Ok(writer)
    }

    /// Writes pieces, in the order they were dumped.
    ///
    /// # Errors
    /// `Io` if they cannot be written.
    pub(crate) fn push<F: FileSystem<File = T>>(&mut self, directory: &Directory<F>, pieces: &[Piece]) -> Result<()> {
        let bytes = self.encoder.block(pieces)?;
        self.write(directory, &bytes)
    }

    /// The file is whole: makes it durable, gives it its name, and reads it back from the device. Returns its length.
    ///
    /// # Errors
    /// `Io` if it cannot be written, `Corruption` if something else is read than was written.
    pub(crate) fn finish<F: FileSystem<File = T>>(mut self, directory: &Directory<F>) -> Result<u64> {
        let (keys, last) = (self.encoder.keys(), std::mem::take(&mut self.encoder).finish()?);
        self.write(directory, &last)?;
        directory.publish_snapshot(self.header.id, &self.file)?;
        let bytes = directory.read_snapshot(self.header.id, true)?;
        let file = open(directory, &bytes, self.header.id, &self.header.database)?;
        let wrong = |(offset, what): (u64, String)| directory.damaged_snapshot(self.header.id, offset, &what);
        file.check().map_err(wrong)?;
        if file.header != self.header || file.keys != keys {
            return Err(wrong((0, "the file is not the one that was written".into())));
        }
        kill_point(KillPoint::SnapshotChecked);
        Ok(self.offset)
    }

    fn write<F: FileSystem<File = T>>(&mut self, directory: &Directory<F>, bytes: &[u8]) -> Result<()> {
        directory.write_snapshot(self.header.id, &self.file, bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// A snapshot's file, as it was read.
///
/// # Errors
/// `Corruption` if its frame is damaged, or if it is another snapshot's.
pub(crate) fn open<'a, F: FileSystem>(
    directory: &Directory<F>,
    bytes: &'a [u8],
    id: SnapshotId,
    database: &[u8; 16],
) -> Result<SnapshotFile<'a>> {
    SnapshotFile::open_of(id, database, bytes).map_err(|(offset, what)| directory.damaged_snapshot(id, offset, &what))
}
