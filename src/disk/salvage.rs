//! Salvage: what is provably intact in a damaged database, as a new one.
//!
//! - A record proves itself by its checksum. A transaction over several shards is salvaged whole or not at all.
//! - Where the manifest says how far a log counts, no more of it counts here. Where it is lost, or for the opening that
//!   did not end in good order, every intact record does; in `Buffered` mode up to the last mark of the shards whose logs
//!   are whole.
//! - The newest snapshot that is whole stands for every log record up to its version; if none is, the newest, block by block.
//! - Nothing is ever written to the damaged directory.
//! - An abort record or a deleted run that stood in a damaged place is not known: what it took away is there again. The
//!   report names every damaged place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::directory::{Directory, segment_name, snapshot_name};
use super::file_system::FileSystem;
use super::log_writer::LogWriter;
use crate::base::error::Result;
use crate::base::json::Document;
use crate::base::key::{Name, Space};
use crate::base::lineage::ReadSet;
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::version::Version;
use crate::format::BLOCK;
use crate::format::manifest::{Manifest, SealedSegment, SnapshotRecord};
use crate::format::record::{RecordHeader, RecordKind, TransactionId, decode_body, decode_part_head};
use crate::format::rescue::{rescue_segment, salt_of_first_record};
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::format::snapshot::{Piece, SnapshotFile, SnapshotId};
use crate::primitive::history::writes_of;
use crate::shard::decisions::{Decisions, Evidence, cut_of};

/// What was salvaged, and what is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SalvageReport {
    /// Why the manifest could not be read; `None` if it was. Without it nobody knows whether whole files are missing: they
    /// are in no other number here.
    pub lost_manifest: Option<String>,
    /// How many log segments were read.
    pub segments: u64,
    /// How many transactions the new database has.
    pub transactions: u64,
    /// Transactions over several shards of which a part is missing: nothing of them is salvaged. Those that had failed, or
    /// were being committed when the process died, count here too.
    pub incomplete_transactions: u64,
    /// Intact transactions that do not fit to the rest, because what was between is missing. They are not salvaged.
    pub unfit_transactions: u64,
    /// Every place that is damaged.
    pub damage: Vec<SalvageDamage>,
    /// Runs whose event log has a gap: events are missing from the middle, and `verify_chain` says where.
    pub broken_event_logs: Vec<RunId>,
    /// The highest version in the new database.
    pub latest: Version,
}

impl SalvageReport {
    /// Whether nothing is damaged or missing. Never so without a manifest.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.lost_manifest.is_none() && self.damage.is_empty() && self.unfit_transactions == 0
    }
}

/// A damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalvageDamage {
    /// The file.
    pub file: PathBuf,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// How many bytes are damaged; zero if that is not known.
    pub bytes: u64,
    /// What is wrong.
    pub what: String,
}

/// An intact record of something that may be committed.
struct Found {
    header: RecordHeader,
    salvaged: Salvaged,
}

/// What a commit wrote and read.
#[derive(Default)]
struct Salvaged {
    writes: Vec<Write>,
    reads: Option<Arc<ReadSet>>,
}

impl Salvaged {
    fn add(&mut self, writes: impl IntoIterator<Item = Write>, reads: Option<Arc<ReadSet>>) {
        self.writes.extend(writes.into_iter().filter(counts_on_one_shard));
        drop_repeated_deletes(&mut self.writes);
        let all: Vec<Arc<ReadSet>> = self.reads.take().into_iter().chain(reads).collect();
        self.reads = ReadSet::union_of_parts(&all);
    }
}

/// What the segments of one opening hold.
struct Opening {
    found: Vec<Found>,
    evidence: Vec<Evidence>,
    /// By shard: the last mark, if no later one can be in a damaged place.
    marks: BTreeMap<u32, Option<Version>>,
    is_buffered: bool,
    /// What the manifest says of it.
    cut: Option<Version>,
}

/// Transactions in the order of their versions; those of one version by their names.
type Transactions = BTreeMap<(Version, bool, TransactionId), Salvaged>;

/// Copies everything that is provably intact. `database` is the identity of the new one, `salts` gives a new salt for every
/// segment.
///
/// # Errors
/// `Io` if the damaged directory cannot be listed, or the new one cannot be written.
pub(crate) fn salvage<F: FileSystem>(
    from: &Directory<F>,
    to: &Directory<F>,
    database: [u8; 16],
    salts: impl FnMut() -> u64,
) -> Result<SalvageReport> {
    let mut salvage = Salvage { from, report: SalvageReport::default(), manifest: None };
    let transactions = salvage.transactions()?;
    let mut writer = LogWriter::new(to, database, salts);
    let mut deleted = BTreeMap::new();
    let mut documents = Documents::default();
    let mut events = BTreeMap::new();
    let mut broken = BTreeSet::new();
    for ((version, ..), Salvaged { writes, reads }) in transactions {
        // Versions rise from one to the next: nothing but this can be in the way.
        let is_too_late = |write: &Write| deleted.get(&write.run()).is_some_and(|deleted| *deleted < version);
        if writes.iter().any(|write| deleted_run(write).is_none() && is_too_late(write)) || !documents.take(&writes) {
            salvage.report.unfit_transactions += 1;
            continue;
        }
        for run in writes.iter().filter_map(deleted_run) {
            deleted.entry(run).or_insert(version);
        }
        for (run, sequence) in writes.iter().filter_map(sequence_of) {
            let next = events.insert(run, sequence + 1).unwrap_or(0);
            if next != sequence {
                broken.insert(run);
            }
        }
        writer.push(version, &writes, reads)?;
        salvage.report.latest = version;
    }
    salvage.report.transactions = writer.finish()?;
    salvage.report.broken_event_logs = broken.into_iter().collect();
    Ok(salvage.report)
}

/// The JSON documents so far: an edit needs what it was made for.
#[derive(Default)]
struct Documents(BTreeMap<(RunId, Name), Document>);

impl Documents {
    /// Takes over what a transaction writes; `false` if its edits do not fit: then nothing.
    fn take(&mut self, writes: &[Write]) -> bool {
        let mut changed: BTreeMap<(RunId, Name), Option<Document>> = BTreeMap::new();
        for write in writes {
            match write {
                Write::Put { run, name, stored: Stored::Json(document), .. } => {
                    changed.insert((*run, name.clone()), Some(Document::clone(document)));
                }
                Write::Delete { run, space: Space::Json, name } => {
                    changed.insert((*run, name.clone()), None);
                }
                Write::EditJson { run, name, edits } => {
                    let key = (*run, name.clone());
                    let before = changed.get(&key).map_or_else(|| self.0.get(&key), Option::as_ref);
                    let Some(Ok(after)) = before.map(|document| document.edited(edits.clone())) else { return false };
                    changed.insert(key, Some(after));
                }
                _ => {}
            }
        }
        for (key, document) in changed {
            match document {
                Some(document) => self.0.insert(key, document),
                None => self.0.remove(&key),
            };
        }
        true
    }
}

/// What could be read of a snapshot.
struct Rescued {
    version: Version,
    is_whole: bool,
    writes: Vec<(Version, Write)>,
    lineage: Vec<(Version, Arc<ReadSet>)>,
}

impl Rescued {
    fn add_to(self, transactions: &mut Transactions) -> Version {
        for (version, write) in self.writes {
            let own = (version, false, TransactionId::default());
            transactions.entry(own).or_default().add([write], None);
        }
        for (version, reads) in self.lineage {
            if let Some(known) = transactions.get_mut(&(version, false, TransactionId::default())) {
                known.add([], Some(reads));
            }
        }
        self.version
    }
}

struct Salvage<'a, F> {
    from: &'a Directory<F>,
    report: SalvageReport,
    manifest: Option<Manifest>,
}

impl<F: FileSystem> Salvage<'_, F> {
    fn transactions(&mut self) -> Result<Transactions> {
        match self.from.read_manifest() {
            Ok(Some(manifest)) => self.manifest = Some(manifest),
            Ok(None) => self.report.lost_manifest = Some("there is none".into()),
            Err(error) => self.report.lost_manifest = Some(error.to_string()),
        }
        let there = self.from.segments()?;
        let named = |manifest: &Manifest| -> Vec<SegmentId> {
            manifest.sealed.iter().map(|segment| segment.id).chain(manifest.own_segments()).collect()
        };
        let mut missing = self.manifest.as_ref().map(named).unwrap_or_default();
        missing.retain(|id| !there.contains(id));
        for id in missing {
            self.damaged(id, 0..0, "the segment is missing");
        }
        let mut transactions = Transactions::new();
        let above = self.read_snapshot(&mut transactions);
        for opening in there.chunk_by(|a, b| a.incarnation == b.incarnation) {
            let opening = self.read_opening(opening);
            self.decide(opening, above, &mut transactions);
        }
        Ok(transactions)
    }

    /// Adds what a snapshot holds; returns up to which version that is. The newest that is whole; the log behind it is there.
    /// If none is, and the log does not go back to the beginning, what is whole of the newest.
    fn read_snapshot(&mut self, transactions: &mut Transactions) -> Version {
        let mut newest = None;
        for files in self.snapshots() {
            let rescued = self.rescue_snapshot(&files);
            if rescued.is_whole {
                return rescued.add_to(transactions);
            }
            newest.get_or_insert(rescued);
        }
        let goes_back = self.manifest.as_ref().is_some_and(|manifest| !manifest.is_cut);
        newest.filter(|_| !goes_back).map_or(Version::ZERO, |newest| newest.add_to(transactions))
    }

    fn rescue_snapshot(&mut self, files: &[SnapshotId]) -> Rescued {
        let before = self.report.damage.len();
        let mut rescued = Rescued { version: Version::ZERO, is_whole: false, writes: Vec::new(), lineage: Vec::new() };
        for id in files {
            let bytes = match self.from.read_snapshot(*id, false) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.damaged_file(&snapshot_name(*id), 0..0, &error.to_string());
                    continue;
                }
            };
            let wrong = match SnapshotFile::open(&bytes) {
                Ok(file) => {
                    rescued.version = rescued.version.max(file.frame.header.version);
                    file.rescue(|piece| match piece {
                        Piece::Lineage { commits, .. } => rescued.lineage.extend(commits),
                        piece => rescued.writes.extend(writes_of(piece)),
                    })
                }
                Err(wrong) => vec![wrong],
            };
            for (offset, what) in wrong {
                self.damaged_file(&snapshot_name(*id), offset..offset, &what);
            }
        }
        rescued.is_whole = self.report.damage.len() == before;
        rescued
    }

    /// The files of the snapshots that the manifest names, the newest first. Without a manifest, of those there are: one that
    /// has fewer files than another was being made or removed, perhaps, and comes last.
    fn snapshots(&self) -> Vec<Vec<SnapshotId>> {
        let Some(manifest) = &self.manifest else {
            let all = self.from.snapshots().unwrap_or_default();
            let mut all: Vec<_> = all.chunk_by(|a, b| a.number == b.number).rev().map(<[SnapshotId]>::to_vec).collect();
            all.sort_by_key(|files| Reverse(files.len()));
            return all;
        };
        let files = |&SnapshotRecord { number, shards, .. }: &SnapshotRecord| {
            (0..shards).map(|shard| SnapshotId { number, shard }).collect()
        };
        manifest.snapshots.iter().rev().map(files).collect()
    }

    fn read_opening(&mut self, segments: &[SegmentId]) -> Opening {
        let mut opening =
            Opening { found: vec![], evidence: vec![], marks: BTreeMap::new(), is_buffered: false, cut: None };
        for id in segments {
            let manifest = self.manifest.as_ref();
            let sealed =
                manifest.and_then(|manifest| manifest.sealed.iter().find(|segment| segment.id == *id)).cloned();
            let is_over = manifest.is_some_and(|manifest| {
                id.incarnation < manifest.incarnation || (id.incarnation == manifest.incarnation && manifest.closed)
            });
            // A segment that the manifest does not name was made ahead of need and never used.
            if sealed.is_some() || !is_over {
                self.report.segments += 1;
                self.read_segment(*id, sealed.as_ref(), &mut opening);
            }
        }
        opening
    }

    fn read_segment(&mut self, id: SegmentId, sealed: Option<&SealedSegment>, opening: &mut Opening) {
        opening.cut = opening.cut.or(sealed.map(|segment| segment.cut));
        let before = self.report.damage.len();
        let (bytes, unreadable) = match self.from.read_damaged_segment(id) {
            Ok(read) => read,
            Err(error) => return self.damaged(id, 0..0, &error.to_string()),
        };
        for place in unreadable {
            self.damaged(id, place, "the place cannot be read");
        }
        let header = SegmentHeader::read(&bytes).ok().filter(|header| header.id == id);
        let foreign = header.zip(self.manifest.as_ref()).is_some_and(|(header, of)| header.database != of.database);
        if foreign {
            return self.damaged(id, 0..0, "the segment belongs to another database");
        }
        if header.is_none() {
            self.damaged(id, 0..BLOCK as u64, "the header is damaged");
        }
        let known = sealed.map(|segment| segment.salt).or(header.map(|header| header.salt));
        let Some(salt) = known.or_else(|| salt_of_first_record(&bytes, id)) else {
            return self.damaged(id, BLOCK as u64..bytes.len() as u64, "nothing says which records belong to it");
        };
        // A segment is made whole, and cut off when it is sealed; without a manifest nobody knows whether it is.
        let capacity = header.filter(|_| sealed.is_none() && self.manifest.is_some()).map(|header| header.capacity);
        let length = self.from.segment_length(id).unwrap_or(bytes.len() as u64);
        if let Some(capacity) = capacity.filter(|capacity| length < *capacity) {
            self.damaged(id, length..capacity, "the segment is cut off");
        }
        let mut evidence = Evidence::default();
        let mut malformed = Vec::new();
        let places =
            rescue_segment(
                &bytes,
                id,
                salt,
                sealed.map(|segment| segment.end),
                |offset, header, body| match salvaged_in(&header, body) {
                    Ok(salvaged) => {
                        evidence.note(offset, &header, body);
                        opening.found.push(Found { header, salvaged });
                    }
                    Err(what) => malformed.push((offset..offset + body.len() as u64, what)),
                },
            );
        for place in places {
            self.damaged(id, place, "no record can be read");
        }
        for (place, what) in malformed {
            self.damaged(id, place, &what);
        }
        opening.is_buffered |= header.map_or(evidence.mark() > Version::ZERO, |header| !header.strict);
        let is_damaged = self.report.damage.len() > before;
        let mark = opening.marks.entry(id.shard).or_insert(Some(Version::ZERO));
        *mark = mark.filter(|_| !is_damaged).map(|mark| mark.max(evidence.mark()));
        opening.evidence.push(evidence);
    }

    /// Adds what is committed in an opening above a version.
    fn decide(&mut self, opening: Opening, above: Version, transactions: &mut Transactions) {
        let marked = || opening.marks.values().flatten().copied();
        let cut = match opening.cut {
            Some(cut) => cut,
            None if opening.is_buffered && marked().next().is_some() => cut_of(marked()),
            None => Version::MAX,
        };
        let mut decisions = Decisions::default();
        self.report.incomplete_transactions += decisions.add(&opening.evidence, cut);
        for Found { header, salvaged: Salvaged { writes, reads } } in opening.found {
            let (is_part, id) = (header.kind() == Some(RecordKind::Part), header.transaction());
            let (version, reads) = if is_part {
                let decided = decisions.of(id);
                (decided.map(|decided| decided.version), decided.and_then(|decided| decided.reads.clone()))
            } else {
                (Some(header.version()).filter(|version| *version <= cut), reads)
            };
            if let Some(version) = version.filter(|version| *version > above && !writes.is_empty()) {
                transactions.entry((version, is_part, id)).or_default().add(writes, reads);
            }
        }
    }

    fn damaged(&mut self, id: SegmentId, place: Range<u64>, what: &str) {
        self.damaged_file(&segment_name(id), place, what);
    }

    fn damaged_file(&mut self, name: &str, place: Range<u64>, what: &str) {
        let file = self.from.path(name);
        let bytes = place.end - place.start;
        self.report.damage.push(SalvageDamage { file, offset: place.start, bytes, what: what.into() });
    }
}

/// What a record says of its commit; the error says why it cannot be understood.
fn salvaged_in(header: &RecordHeader, body: &[u8]) -> Result<Salvaged, String> {
    let body = match header.kind() {
        Some(RecordKind::Commit) => body,
        Some(RecordKind::Part) => decode_part_head(body).map_err(|error| error.to_string())?.1,
        Some(RecordKind::Abort | RecordKind::Mark) => return Ok(Salvaged::default()),
        None => return Err(format!("a record of an unknown kind: kind={}", header.kind)),
    };
    let body = decode_body(body).map_err(|error| error.to_string())?;
    Ok(Salvaged { writes: body.writes, reads: body.reads })
}

fn deleted_run(write: &Write) -> Option<RunId> {
    if let Write::DeleteRun { run } = write { Some(*run) } else { None }
}

/// What a shard is told that is not the home of a run, the home knows from the run's metadata.
fn counts_on_one_shard(write: &Write) -> bool {
    !matches!(write, Write::Put { space: Space::Run, stored: Stored::RunEnded(_), .. })
}

/// A run is deleted on every shard.
fn drop_repeated_deletes(writes: &mut Vec<Write>) {
    let mut deleted = BTreeSet::new();
    writes.retain(|write| !matches!(write, Write::DeleteRun { run } if !deleted.insert(*run)));
}

/// The run and the sequence of an event.
fn sequence_of(write: &Write) -> Option<(RunId, u64)> {
    match write {
        Write::Put { run, stored: Stored::Event(event), .. } => Some((*run, event.sequence)),
        _ => None,
    }
}
