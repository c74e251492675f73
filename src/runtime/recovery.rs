//! Recovery: what is on disk becomes the memory of the shards.
//!
//! - First everything there is is made durable, then it is read, then every decision is made, then all decisions are
//!   written in one manifest, and only then anything is served.
//! - The new shards are built in parallel. With an unchanged number of shards each reads its own segments; otherwise
//!   each reads all of them and keeps what it owns.

use std::time::{Duration, Instant};

use super::clock::{Clock, RESERVATION};
use super::directory::{Directory, corruption};
use crate::base::error::{Error, Result};
use crate::base::options::{HistoryRetention, Partitioning};
use crate::base::version::Version;
use crate::format::manifest::{Manifest, SealedSegment};
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::shard::replay::{Damage, ScannedSegment, Target, judge, replay_segment, survey};
use crate::store::memory::Memory;

/// What opening the database found on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the directory was new.
    pub created: bool,
    /// Whether the last opening was closed in good order.
    pub clean: bool,
    /// How many log segments were read.
    pub segments: u64,
    /// How many records were applied.
    pub records: u64,
    /// How many torn tails (batches that were being written when the process died) were cut off.
    pub torn_tails: u64,
    /// The highest version found.
    pub latest: Version,
    /// How many shards the last opening had.
    pub previous_shards: u32,
    /// How long it took.
    pub duration: Duration,
}

/// What recovery hands to the shards.
pub(crate) struct Recovered {
    pub(crate) memories: Vec<Memory>,
    pub(crate) manifest: Manifest,
    pub(crate) clock: Clock,
    pub(crate) report: RecoveryReport,
}

/// What the new opening is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) shards: usize,
    pub(crate) partitioning: Partitioning,
    pub(crate) history: HistoryRetention,
    pub(crate) read_only: bool,
}

/// Recovers a database, or begins a new one.
///
/// # Errors
/// `Corruption` with file and offset if anything that was durable is damaged; `Io`.
pub(crate) fn recover(directory: &Directory, layout: Layout) -> Result<Recovered> {
    let started = Instant::now();
    let mut report = RecoveryReport::default();
    let before = directory.read_manifest()?;
    report.created = before.is_none();
    let (database, incarnation, reserved, mut sealed) = match before {
        None => (*uuid::Uuid::new_v4().as_bytes(), 0, Version::ZERO, Vec::new()),
        Some(manifest) => {
            report.clean = manifest.closed;
            report.previous_shards = manifest.shards;
            let mut sealed = manifest.sealed.clone();
            if !manifest.closed {
                let last = judge_opening(directory, &manifest, true)?;
                report.torn_tails = last.torn.len() as u64;
                report.latest = last.latest;
                sealed.extend(last.sealed);
            }
            (manifest.database, manifest.incarnation, manifest.clock_reserved, sealed)
        }
    };
    sealed.sort_unstable_by_key(|segment| segment.id);
    let built = build(directory, &database, &sealed, layout)?;
    report.segments = sealed.len() as u64;
    let mut memories = Vec::with_capacity(built.len());
    for shard in built {
        report.records += shard.records;
        report.latest = report.latest.max(shard.latest);
        memories.push(shard.memory);
    }
    let clock = Clock::start_after(reserved.max(report.latest));
    let manifest = Manifest {
        database,
        incarnation: incarnation + 1,
        shards: u32::try_from(layout.shards).unwrap_or(u32::MAX),
        partitioning: layout.partitioning,
        clock_reserved: clock.start().after(RESERVATION),
        closed: false,
        sealed,
    };
    // Nothing is written at the times of a read-only opening: they need no reservation.
    if !layout.read_only {
        directory.write_manifest(&manifest)?;
        remove_strays(directory, &manifest)?;
        clock.reserve(manifest.clock_reserved);
    }
    report.duration = started.elapsed();
    tracing::info!(records = report.records, torn = report.torn_tails, took = ?report.duration, "recovered");
    Ok(Recovered { memories, manifest, clock, report })
}

/// What the segments of one opening come to.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// How far each segment counts.
    pub(crate) sealed: Vec<SealedSegment>,
    /// Torn tails, at most one a shard.
    pub(crate) torn: Vec<(SegmentId, u64)>,
    /// The highest version in them.
    pub(crate) latest: Version,
}

/// Decides how far the segments of the opening that wrote the manifest count; with `settle`, makes durable what is in
/// them before they are read.
///
/// # Errors
/// `Corruption` with file and offset if anything that was durable is damaged; `Io`.
pub(crate) fn judge_opening(directory: &Directory, manifest: &Manifest, settle: bool) -> Result<Opening> {
    let mut opening = Opening::default();
    let is_of_opening = |id: &SegmentId| id.incarnation == manifest.incarnation;
    let all: Vec<SegmentId> = directory.segments()?.into_iter().filter(is_of_opening).collect();
    for shard in all.chunk_by(|a, b| a.shard == b.shard) {
        let mut scanned: Vec<ScannedSegment> = Vec::new();
        let mut salts = Vec::new();
        for id in shard {
            let bytes = directory.read_segment(*id, settle)?;
            let header = read_header(directory, *id, &bytes, &manifest.database)?;
            salts.push(header.salt);
            scanned.push(survey(&bytes, &header));
        }
        let judgement = judge(&scanned).map_err(|damage| damaged(directory, &damage))?;
        opening.torn.extend(judgement.torn);
        opening.latest = opening.latest.max(judgement.latest);
        let ends = shard.iter().zip(salts).zip(judgement.ends);
        let sealed = ends.map(|((id, salt), end)| SealedSegment { id: *id, shards: manifest.shards, salt, end });
        opening.sealed.extend(sealed);
    }
    Ok(opening)
}

struct Built {
    memory: Memory,
    records: u64,
    latest: Version,
}

fn build(directory: &Directory, database: &[u8; 16], sealed: &[SealedSegment], layout: Layout) -> Result<Vec<Built>> {
    std::thread::scope(|scope| {
        let builders: Vec<_> = (0..layout.shards)
            .map(|shard| scope.spawn(move || build_shard(directory, database, sealed, layout, shard)))
            .collect();
        let join = |builder: std::thread::ScopedJoinHandle<'_, Result<Built>>| {
            builder.join().unwrap_or_else(|_| Err(Error::Unavailable("recovery of a shard panicked".into())))
        };
        builders.into_iter().map(join).collect()
    })
}

fn build_shard(
    directory: &Directory,
    database: &[u8; 16],
    sealed: &[SealedSegment],
    layout: Layout,
    shard: usize,
) -> Result<Built> {
    let mut built = Built { memory: Memory::new(layout.history), records: 0, latest: Version::ZERO };
    let target = Target { shard, shards: layout.shards };
    for opening in sealed.chunk_by(|a, b| a.id.incarnation == b.id.incarnation) {
        for segment in opening.iter().filter(|segment| segment.concerns(shard, layout.shards)) {
            let bytes = directory.read_segment(segment.id, false)?;
            let header = read_header(directory, segment.id, &bytes, database)?;
            if header.salt != segment.salt {
                let path = directory.segment_path(segment.id);
                return Err(corruption(&path, 0, "the segment is not the one the manifest names"));
            }
            let (records, latest) = replay_segment(&bytes, &header, segment.end, target, &mut built.memory)
                .map_err(|damage| damaged(directory, &damage))?;
            // Of those that every shard reads, one counts.
            if shard == 0 || segment.is_of(layout.shards) {
                built.records += records;
            }
            built.latest = built.latest.max(latest);
        }
    }
    Ok(built)
}

fn read_header(directory: &Directory, id: SegmentId, bytes: &[u8], database: &[u8; 16]) -> Result<SegmentHeader> {
    let wrong = |what: &str| corruption(&directory.segment_path(id), 0, what);
    let header = SegmentHeader::read(bytes).map_err(|what| wrong(&what))?;
    if header.id != id {
        return Err(wrong("the segment's header names another segment"));
    }
    if header.database != *database {
        return Err(wrong("the segment belongs to another database"));
    }
    Ok(header)
}

fn damaged(directory: &Directory, damage: &Damage) -> Error {
    corruption(&directory.segment_path(damage.segment), damage.offset, &damage.what)
}

/// Removes segments that the manifest does not name: made ahead of need by an earlier opening and never used.
fn remove_strays(directory: &Directory, manifest: &Manifest) -> Result<()> {
    directory.remove_unfinished()?;
    for id in directory.segments()? {
        if !manifest.sealed.iter().any(|segment| segment.id == id) {
            directory.remove_segment(id)?;
        }
    }
    Ok(())
}
