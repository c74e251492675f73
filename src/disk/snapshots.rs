//! Snapshot files: written piece by piece, whole and durable before anybody names them.

use std::ops::Range;

use super::directory::Directory;
use super::file_system::FileSystem;
use crate::base::error::Result;
use crate::base::kill_point::{KillPoint, kill_point};
use crate::base::version::Version;
use crate::format::snapshot::{Piece, SnapshotEncoder, SnapshotFile, SnapshotFrame, SnapshotHeader, SnapshotId, Wrong};

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
        let wrong = |(offset, what): Wrong| directory.damaged_snapshot(self.header.id, offset, &what);
        let file = SnapshotFile::open_of(self.header.id, &self.header.database, &bytes).map_err(wrong)?;
        file.check().map_err(wrong)?;
        if file.frame.header != self.header || file.frame.keys != keys {
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

/// A block of a snapshot's file, decoded.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) id: SnapshotId,
    pub(crate) offset: u64,
    pub(crate) pieces: Vec<Piece>,
}

/// Reads the snapshot of one shard, block by block.
pub(super) struct SnapshotReader<'a, F: FileSystem> {
    directory: &'a Directory<F>,
    id: SnapshotId,
    file: F::File,
    frame: SnapshotFrame,
    places: std::vec::IntoIter<Range<u64>>,
}

impl<'a, F: FileSystem> SnapshotReader<'a, F> {
    /// Opens a file and reads its frame.
    ///
    /// # Errors
    /// `Corruption` if the frame is damaged, or if it is that of another snapshot; `Io`.
    pub(super) fn open(
        directory: &'a Directory<F>,
        id: SnapshotId,
        database: &[u8; 16],
        version: Version,
    ) -> Result<Self> {
        let wrong = |(offset, what): Wrong| directory.damaged_snapshot(id, offset, &what);
        let (file, length) = directory.open_snapshot(id)?;
        let ends = SnapshotFrame::BYTES as u64;
        let first = directory.read_snapshot_at(id, &file, 0..ends)?;
        let last = directory.read_snapshot_at(id, &file, length.saturating_sub(ends)..length)?;
        let frame = SnapshotFrame::open(&first, &last, length).map_err(wrong)?;
        let index = directory.read_snapshot_at(id, &file, frame.index_place())?;
        let places = frame.blocks(&index).map_err(wrong)?.into_iter();
        frame.check_is(id, database).map_err(wrong)?;
        if frame.header.version != version {
            return Err(wrong((0, "the snapshot is not the one the manifest names".into())));
        }
        Ok(Self { directory, id, file, frame, places })
    }
}

impl<F: FileSystem> Iterator for SnapshotReader<'_, F> {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Result<Block>> {
        let place = self.places.next()?;
        let bytes = self.directory.read_snapshot_at(self.id, &self.file, place.clone());
        Some(bytes.and_then(|bytes| {
            let pieces = self.frame.pieces(&place, &bytes);
            let wrong = |(offset, what): Wrong| self.directory.damaged_snapshot(self.id, offset, &what);
            Ok(Block { id: self.id, offset: place.start, pieces: pieces.map_err(wrong)? })
        }))
    }
}
