//! A log written at once: commits that are known become the sealed segments of a new database.

use std::sync::Arc;

use super::directory::Directory;
use super::file_system::FileSystem;
use crate::base::error::Result;
use crate::base::lineage::ReadSet;
use crate::base::options::Partitioning;
use crate::base::stored::Write;
use crate::base::version::Version;
use crate::format::manifest::{Manifest, SealedSegment};
use crate::format::record::{self, CommitBody, Position, RecordHeader, TransactionId};
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::format::{BLOCK, round_up_to_block};

/// The opening that the log looks as if it came from.
const INCARNATION: u32 = 1;
/// How many bytes of records are sealed together.
const BATCH_BYTES: usize = 1 << 20;
/// How many bytes of batches a segment takes, unless a single one is longer.
const SEGMENT_BYTES: usize = 64 << 20;

/// Writes a database with one shard.
pub(crate) struct LogWriter<'a, F, S> {
    directory: &'a Directory<F>,
    database: [u8; 16],
    salts: S,
    /// That of the segment that is being filled.
    salt: u64,
    sealed: Vec<SealedSegment>,
    /// The batches of the segment that is being filled, each padded to whole blocks.
    segment: Vec<u8>,
    batch: Vec<u8>,
    commits: u64,
    latest: Version,
}

impl<'a, F: FileSystem, S: FnMut() -> u64> LogWriter<'a, F, S> {
    /// `salts` gives a new salt for every segment.
    pub(crate) const fn new(directory: &'a Directory<F>, database: [u8; 16], salts: S) -> Self {
        Self {
            directory,
            database,
            salts,
            salt: 0,
            sealed: Vec::new(),
            segment: Vec::new(),
            batch: Vec::new(),
            commits: 0,
            latest: Version::ZERO,
        }
    }

    /// Adds a commit; versions rise.
    ///
    /// # Errors
    /// `Io` if a segment cannot be written.
    pub(crate) fn push(&mut self, version: Version, writes: &[Write], reads: Option<Arc<ReadSet>>) -> Result<()> {
        let id = TransactionId { incarnation: INCARNATION, shard: 0, number: self.commits };
        let body = CommitBody { reads, ..CommitBody::of(writes) };
        record::stage(&mut self.batch, RecordHeader::commit(version, id), &body)?;
        self.commits += 1;
        self.latest = self.latest.max(version);
        if self.batch.len() >= BATCH_BYTES { self.end_batch() } else { Ok(()) }
    }

    /// Writes what is left, and the manifest: the database is there when this returns. Returns how many commits it has.
    ///
    /// # Errors
    /// `Io` if it cannot be written.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.end_batch()?;
        self.end_segment()?;
        let manifest = Manifest {
            clock_reserved: self.latest,
            closed: true,
            sealed: self.sealed,
            ..Manifest::new(self.database, INCARNATION, 1, Partitioning::ByRun)
        };
        self.directory.write_manifest(&manifest)?;
        Ok(self.commits)
    }

    fn id(&self) -> SegmentId {
        let index = u32::try_from(self.sealed.len()).unwrap_or(u32::MAX);
        SegmentId { incarnation: INCARNATION, shard: 0, index }
    }

    fn end_batch(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if !self.segment.is_empty() && self.segment.len() + self.batch.len() > SEGMENT_BYTES {
            self.end_segment()?;
        }
        if self.segment.is_empty() {
            self.salt = (self.salts)();
            // The header's place.
            self.segment.resize(BLOCK, 0);
        }
        let place = Position::new(self.id().index, self.segment.len() as u64);
        record::seal(&mut self.batch, place, place, self.salt);
        self.segment.append(&mut self.batch);
        self.segment.resize(round_up_to_block(self.segment.len()), 0);
        Ok(())
    }

    fn end_segment(&mut self) -> Result<()> {
        if self.segment.is_empty() {
            return Ok(());
        }
        let (id, salt, end) = (self.id(), self.salt, self.segment.len() as u64);
        let header = SegmentHeader { id, database: self.database, salt, capacity: end, strict: true };
        self.segment[..BLOCK].copy_from_slice(&header.to_block());
        self.directory.write_segment(id, &self.segment)?;
        self.sealed.push(SealedSegment {
            id,
            shards: 1,
            partitioning: Partitioning::ByRun,
            salt,
            end,
            cut: Version::MAX,
            has_parts: false,
        });
        self.segment.clear();
        Ok(())
    }
}
