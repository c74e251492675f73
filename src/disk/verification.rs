//! Verification: every checksum of every file that a manifest names.
//!
//! - Of the segments that are being written, what was durable when it began: what is behind that may be under way.
//! - The first wrong place ends the check of its file. The other files are checked all the same.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::directory::{Directory, MANIFEST, segment_name, snapshot_name};
use super::file_system::FileSystem;
use crate::base::error::Error;
use crate::base::run_id::RunId;
use crate::format::manifest::{Manifest, SealedSegment};
use crate::format::record::Position;
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::format::snapshot::{SnapshotFile, SnapshotId, Wrong};
use crate::shard::replay::survey;

/// What was verified, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// How many log segments were read.
    pub segments: u64,
    /// How many records were found in them.
    pub records: u64,
    /// How many files of snapshots were read.
    pub snapshot_files: u64,
    /// How many bytes of files were read.
    pub bytes: u64,
    /// How many event logs were checked.
    pub event_logs: u64,
    /// Everything that is wrong.
    pub problems: Vec<VerifyProblem>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyProblem {
    /// A file is damaged or missing.
    File {
        /// The file.
        file: PathBuf,
        /// Where in the file the damage is, or the record or block that it is in.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The hash chain of an event log is broken.
    EventLog {
        /// The run whose log it is.
        run: RunId,
        /// The first event that is wrong or missing.
        sequence: u64,
        /// What is wrong.
        what: String,
    },
}

impl fmt::Display for VerifyProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, offset, what } => write!(formatter, "{what}: file={} offset={offset}", file.display()),
            Self::EventLog { run, sequence, what } => write!(formatter, "{what}: run={run} sequence={sequence}"),
        }
    }
}

/// A file of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseFile {
    Manifest,
    Segment(SegmentId),
    Snapshot(SnapshotId),
}

impl DatabaseFile {
    fn name(self) -> String {
        match self {
            Self::Manifest => MANIFEST.into(),
            Self::Segment(id) => segment_name(id),
            Self::Snapshot(id) => snapshot_name(id),
        }
    }
}

/// The files that a manifest names, and the manifest itself.
pub(crate) fn files_of(manifest: &Manifest) -> impl Iterator<Item = DatabaseFile> {
    let segments = manifest.sealed.iter().map(|segment| segment.id).chain(manifest.own_segments());
    let of_shards = |shards: u32, number: u64| (0..shards).map(move |shard| SnapshotId { number, shard });
    let snapshots = manifest.snapshots.iter().flat_map(move |snapshot| of_shards(snapshot.shards, snapshot.number));
    let segments = segments.map(DatabaseFile::Segment);
    std::iter::once(DatabaseFile::Manifest).chain(segments).chain(snapshots.map(DatabaseFile::Snapshot))
}

/// How far a segment counts.
enum Extent<'a> {
    Sealed(&'a SealedSegment),
    /// Below this place everything is durable.
    Written(u64),
    /// The next segment is being written.
    Finished,
}

/// A verification that goes on.
pub(crate) struct Verification<'a, F> {
    directory: &'a Directory<F>,
    manifest: &'a Manifest,
    /// By shard: how far its log was durable before the manifest was asked for.
    durable: Vec<Position>,
    /// The last segment that was finished, and where it seems to end.
    finished: Option<(SegmentId, u64)>,
    report: VerifyReport,
    problems: Vec<(DatabaseFile, Wrong)>,
}

impl<'a, F: FileSystem> Verification<'a, F> {
    pub(crate) fn new(directory: &'a Directory<F>, manifest: &'a Manifest, durable: Vec<Position>) -> Self {
        Self { directory, manifest, durable, finished: None, report: VerifyReport::default(), problems: Vec::new() }
    }

    /// Checks a file. They come in the order of `files_of`.
    pub(crate) fn check(&mut self, file: DatabaseFile) {
        let checked = match file {
            DatabaseFile::Manifest => self.check_manifest(),
            DatabaseFile::Segment(id) => self.check_segment(id),
            DatabaseFile::Snapshot(id) => self.check_snapshot(id),
        };
        self.problems.extend(checked.err().map(|wrong| (file, wrong)));
    }

    /// Everything was checked. What the manifest by now does not name any more may be gone.
    pub(crate) fn finish(mut self, by_now: &Manifest) -> VerifyReport {
        let named: Vec<DatabaseFile> = files_of(by_now).collect();
        let still_named = self.problems.into_iter().filter(|(file, _)| named.contains(file));
        let directory = self.directory;
        self.report.problems.extend(still_named.map(|(file, (offset, what))| VerifyProblem::File {
            file: directory.path(&file.name()),
            offset,
            what,
        }));
        self.report
    }

    fn check_manifest(&mut self) -> Result<(), Wrong> {
        match self.directory.read_manifest() {
            Ok(Some(found)) if found.database == self.manifest.database => Ok(()),
            Ok(Some(_)) => Err((0, "the manifest belongs to another database".into())),
            Ok(None) => Err((0, MISSING.into())),
            Err(error) => Err((0, error.to_string())),
        }
    }

    fn check_segment(&mut self, id: SegmentId) -> Result<(), Wrong> {
        let Some(extent) = self.extent(id) else { return Ok(()) };
        let length = self.directory.segment_length(id).map_err(unreadable)?;
        let end = match extent {
            Extent::Sealed(sealed) => sealed.end,
            Extent::Written(end) => end,
            Extent::Finished => length,
        };
        if length < end {
            return Err((length, format!("the segment is cut off: end={end}")));
        }
        let bytes = self.directory.read_segment_to(id, end).map_err(unreadable)?;
        self.report.segments += 1;
        self.report.bytes += bytes.len() as u64;
        let header = SegmentHeader::read_of(id, &self.manifest.database, &bytes).map_err(|what| (0, what))?;
        if let Extent::Sealed(sealed) = extent
            && sealed.salt != header.salt
        {
            return Err((0, "the segment is not the one the manifest names".into()));
        }
        if !matches!(extent, Extent::Sealed(_)) && length < header.capacity {
            return Err((length, format!("the segment is cut off: capacity={}", header.capacity)));
        }
        let found = survey(&bytes, &header, Some(end));
        self.report.records += found.records;
        let before =
            self.finished.take().filter(|(before, _)| before.shard == id.shard && before.index + 1 == id.index);
        if let Some(((before, end), told)) = before.zip(found.scan.before)
            && told != Position::new(before.index, end)
        {
            let what = format!("the segment ends early, the next one knows its end: end={}", told.offset());
            self.problems.push((DatabaseFile::Segment(before), (end, what)));
        }
        if let Some(offset) = found.scan.damage {
            return Err((offset, "a record is damaged".into()));
        }
        if let Some(wrong) = found.evidence.malformed {
            return Err(wrong);
        }
        if matches!(extent, Extent::Finished) {
            self.finished = Some((id, found.scan.end));
        } else if found.scan.end < end {
            return Err((found.scan.end, format!("the segment ends early: end={end}")));
        }
        Ok(())
    }

    /// How far a segment counts; `None` if nothing of it is durable yet.
    fn extent(&self, id: SegmentId) -> Option<Extent<'a>> {
        if let Some(sealed) = self.manifest.sealed.iter().find(|sealed| sealed.id == id) {
            return Some(Extent::Sealed(sealed));
        }
        let durable = *self.durable.get(id.shard as usize)?;
        match id.index.cmp(&durable.segment()) {
            _ if durable == Position::START => None,
            std::cmp::Ordering::Less => Some(Extent::Finished),
            std::cmp::Ordering::Equal => Some(Extent::Written(durable.offset())),
            std::cmp::Ordering::Greater => None,
        }
    }

    fn check_snapshot(&mut self, id: SnapshotId) -> Result<(), Wrong> {
        let bytes = self.directory.read_snapshot(id, true).map_err(unreadable)?;
        self.report.snapshot_files += 1;
        self.report.bytes += bytes.len() as u64;
        let file = SnapshotFile::open_of(id, &self.manifest.database, &bytes)?;
        let record = self.manifest.snapshots.iter().find(|snapshot| snapshot.number == id.number);
        if record.is_none_or(|record| record.version != file.frame.header.version) {
            return Err((0, "the snapshot is not the one the manifest names".into()));
        }
        file.read(|_| Ok(()))
    }
}

const MISSING: &str = "the file is missing";

fn unreadable(error: Error) -> Wrong {
    match error {
        Error::Io(error) if error.kind() == ErrorKind::NotFound => (0, MISSING.into()),
        error => (0, error.to_string()),
    }
}
