//! Taking a snapshot of all shards at one version, while they go on: what is asked of which shard, and what is written.
//!
//! - First where each shard's log begins that the snapshot does not replace; then one shard chooses the version, which is at
//!   or above everything in the logs before those places; then every shard keeps what is visible there; then each hands it
//!   out, when nothing at or below the version is in doubt any more. Last, all of that is made durable in the logs as well:
//!   whoever cannot use the snapshot finds the same there, or is told what is missing.
//! - One step after the other, and no thread, clock or waiting: whoever takes one brings the answers.

use super::directory::Directory;
use super::file_system::FileSystem;
use super::snapshots::SnapshotWriter;
use crate::base::error::Result;
use crate::base::version::Version;
use crate::format::manifest::{Manifest, SnapshotRecord};
use crate::format::record::Position;
use crate::format::snapshot::{self, SnapshotHeader, SnapshotId};
use crate::primitive::output::{Output, Reply};
use crate::shard::input::Request;

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    AskLogStart(u32),
    Choose,
    Begin(u32),
    Dump(u32),
    Flush(u32),
    AskDurable(u32),
    Done,
}

/// A snapshot that is being taken.
pub(crate) struct Snapshotting<T> {
    database: [u8; 16],
    record: SnapshotRecord,
    /// A salt for the file of each shard.
    salts: Vec<u64>,
    step: Step,
    writer: Option<SnapshotWriter<T>>,
    records: u64,
    rotates: bool,
}

/// A snapshot that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) record: SnapshotRecord,
    /// How many records the opening had logged when it began.
    pub(crate) records: u64,
}

/// What a shard's answer meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Ask on.
    WentOn,
    /// Something is in doubt: ask again in a while.
    Wait,
}

impl<T> Snapshotting<T> {
    /// The snapshot of this number of the opening that wrote a manifest; `salt` gives a new salt for every file. If it
    /// `rotates`, nothing of the log so far is needed with it, so that what was deleted goes with the log before it.
    pub(crate) fn new(manifest: &Manifest, number: u64, rotates: bool, salt: impl FnMut() -> u64) -> Self {
        let record = SnapshotRecord {
            number,
            version: Version::ZERO,
            shards: manifest.shards,
            partitioning: manifest.partitioning,
            incarnation: manifest.incarnation,
            log_from: vec![0; manifest.shards as usize],
            durable: vec![Position::START; manifest.shards as usize],
            keys: 0,
            bytes: 0,
        };
        let salts = std::iter::repeat_with(salt).take(manifest.shards as usize).collect();
        let step = Step::AskLogStart(0);
        Self { database: manifest.database, record, salts, step, writer: None, records: 0, rotates }
    }

    /// Whom to ask what next; `None` when it is taken.
    pub(crate) const fn next(&self) -> Option<(u32, Request)> {
        let at = self.record.version;
        match self.step {
            Step::AskLogStart(shard) => Some((shard, Request::AskLogStart { rotates: self.rotates })),
            Step::Choose => Some((0, Request::ChooseDump { above: at })),
            Step::Begin(shard) => Some((shard, Request::BeginDump { at })),
            Step::Dump(shard) => Some((shard, Request::Dump { at })),
            Step::Flush(shard) => Some((shard, Request::Flush)),
            Step::AskDurable(shard) => Some((shard, Request::AskDurable)),
            Step::Done => None,
        }
    }

    /// The shard has answered.
    ///
    /// # Errors
    /// `Io` if the snapshot cannot be written, `Corruption` if something else is read than was written.
    pub(crate) fn answered<F: FileSystem<File = T>>(
        &mut self,
        directory: &Directory<F>,
        reply: Reply,
    ) -> Result<Answered> {
        match (self.step, reply.output) {
            (Step::AskLogStart(shard), Output::LogStart { segment, records, latest }) => {
                self.records += records;
                self.record.log_from[shard as usize] = segment;
                self.record.version = self.record.version.max(latest);
                self.step = self.next_shard(shard).map_or(Step::Choose, Step::AskLogStart);
            }
            (Step::Choose, _) => {
                self.record.version = reply.snapshot.unwrap_or(self.record.version);
                self.step = self.next_shard(0).map_or(Step::Dump(0), Step::Begin);
            }
            (Step::Begin(shard), _) => self.step = self.next_shard(shard).map_or(Step::Dump(0), Step::Begin),
            (Step::Dump(_), Output::Pieces(Some(pieces))) if pieces.is_empty() => return Ok(Answered::Wait),
            (Step::Dump(shard), Output::Pieces(Some(pieces))) => {
                self.record.keys += snapshot::keys(&pieces);
                self.writer(directory, shard)?.push(directory, &pieces)?;
            }
            (Step::Dump(shard), Output::Pieces(None)) => {
                self.writer(directory, shard)?;
                if let Some(writer) = self.writer.take() {
                    self.record.bytes += writer.finish(directory)?;
                }
                self.step = self.next_shard(shard).map_or(Step::Flush(0), Step::Dump);
            }
            (Step::Flush(shard), _) => self.step = self.next_shard(shard).map_or(Step::AskDurable(0), Step::Flush),
            (Step::AskDurable(shard), Output::Position(durable)) => {
                self.record.durable[shard as usize] = durable;
                self.step = self.next_shard(shard).map_or(Step::Done, Step::AskDurable);
            }
            (_, other) => unreachable!("the shard answered another question: {other:?}"),
        }
        Ok(Answered::WentOn)
    }

    /// What to tell every shard if it is given up: then nothing is kept for it any longer.
    pub(crate) const fn end(&self) -> Request {
        Request::EndDump { at: self.record.version }
    }

    /// It is taken: every file is whole and durable.
    pub(crate) fn finish(self) -> Taken {
        Taken { record: self.record, records: self.records }
    }

    /// How many records all shards had logged when they were asked where their logs begin.
    pub(crate) const fn records(&self) -> u64 {
        self.records
    }

    fn next_shard(&self, shard: u32) -> Option<u32> {
        Some(shard + 1).filter(|next| *next < self.record.shards)
    }

    /// The file of the shard that hands out its pieces.
    fn writer<F: FileSystem<File = T>>(
        &mut self,
        directory: &Directory<F>,
        shard: u32,
    ) -> Result<&mut SnapshotWriter<T>> {
        let writer = if let Some(writer) = self.writer.take() {
            writer
        } else {
            let id = SnapshotId { number: self.record.number, shard };
            let (version, salt) = (self.record.version, self.salts[shard as usize]);
            SnapshotWriter::create(directory, SnapshotHeader { id, database: self.database, version, salt })?
        };
        Ok(self.writer.insert(writer))
    }
}
