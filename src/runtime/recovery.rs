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
use crate::base::options::HistoryRetention;
use crate::base::version::Version;
use crate::format::manifest::{Manifest, SealedSegment};
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::shard::decisions::Decisions;
use crate::shard::replay::{Damage, Extent, Target, replay_segment, survey};
use crate::shard::route::Layout;
use crate::shard::sealing::{Opening, Sealing, decide};
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
    /// How many transactions over several shards left parts in the last opening's log and are not committed: some part was
    /// refused, or was not on disk yet when the process died.
    pub discarded_transactions: u64,
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
pub(crate) struct Plan {
    pub(crate) layout: Layout,
    pub(crate) history: HistoryRetention,
    pub(crate) read_only: bool,
}

/// Recovers a database, or begins a new one.
///
/// # Errors
/// `Corruption` with file and offset if anything that was durable is damaged; `Io`.
pub(crate) fn recover(directory: &Directory, plan: Plan) -> Result<Recovered> {
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
    let (decisions, discarded) = decide(&sealed, |segment| {
        let bytes = directory.read_segment(segment.id, false)?;
        let header = read_header(directory, segment.id, &bytes, &database)?;
        Ok::<_, Error>(survey(&bytes, &header, Some(segment.end)).evidence)
    })?;
    report.discarded_transactions = discarded.get(&incarnation).copied().unwrap_or_default();
    let source = Source { directory, database: &database, sealed: &sealed, decisions: &decisions };
    let built = build(source, plan)?;
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
        shards: u32::try_from(plan.layout.shards).unwrap_or(u32::MAX),
        partitioning: plan.layout.partitioning,
        clock_reserved: clock.start().after(RESERVATION),
        closed: false,
        sealed,
    };
    // Nothing is written at the times of a read-only opening: they need no reservation.
    if !plan.read_only {
        directory.write_manifest(&manifest)?;
        remove_strays(directory, &manifest)?;
        clock.reserve(manifest.clock_reserved);
    }
    report.duration = started.elapsed();
    tracing::info!(records = report.records, torn = report.torn_tails, took = ?report.duration, "recovered");
    Ok(Recovered { memories, manifest, clock, report })
}

/// Decides how far the segments of the opening that wrote the manifest count; with `settle`, makes durable what is in
/// them before they are read.
///
/// # Errors
/// `Corruption` with file and offset if anything that was durable is damaged; `Io`.
pub(crate) fn judge_opening(directory: &Directory, manifest: &Manifest, settle: bool) -> Result<Opening> {
    let mut sealing = Sealing::new(manifest);
    let is_of_opening = |id: &SegmentId| id.incarnation == manifest.incarnation;
    let all: Vec<SegmentId> = directory.segments()?.into_iter().filter(is_of_opening).collect();
    for shard in all.chunk_by(|a, b| a.shard == b.shard) {
        let mut scanned = Vec::new();
        for id in shard {
            let bytes = directory.read_segment(*id, settle)?;
            let header = read_header(directory, *id, &bytes, &manifest.database)?;
            scanned.push(survey(&bytes, &header, None));
        }
        sealing.add_shard(&scanned).map_err(|damage| damaged(directory, &damage))?;
    }
    Ok(sealing.finish())
}

struct Built {
    memory: Memory,
    records: u64,
    latest: Version,
}

/// What memories are built from.
#[derive(Clone, Copy)]
struct Source<'a> {
    directory: &'a Directory,
    database: &'a [u8; 16],
    sealed: &'a [SealedSegment],
    decisions: &'a Decisions,
}

fn build(source: Source<'_>, plan: Plan) -> Result<Vec<Built>> {
    std::thread::scope(|scope| {
        let builders: Vec<_> =
            (0..plan.layout.shards).map(|shard| scope.spawn(move || build_shard(source, plan, shard))).collect();
        let join = |builder: std::thread::ScopedJoinHandle<'_, Result<Built>>| {
            builder.join().unwrap_or_else(|_| Err(Error::Unavailable("recovery of a shard panicked".into())))
        };
        builders.into_iter().map(join).collect()
    })
}

fn build_shard(source: Source<'_>, plan: Plan, shard: usize) -> Result<Built> {
    let mut built = Built { memory: Memory::new(plan.history), records: 0, latest: Version::ZERO };
    let Layout { shards, partitioning } = plan.layout;
    let directory = source.directory;
    for segment in source.sealed.iter().filter(|segment| segment.concerns(shard, shards, partitioning)) {
        let bytes = directory.read_segment(segment.id, false)?;
        let header = read_header(directory, segment.id, &bytes, source.database)?;
        if header.salt != segment.salt {
            let path = directory.segment_path(segment.id);
            return Err(corruption(&path, 0, "the segment is not the one the manifest names"));
        }
        let has_moved = !segment.is_of(shards, partitioning);
        let moved_from = has_moved.then_some((segment.id.shard as usize, segment.shards as usize));
        let target = Target { shard, layout: plan.layout, moved_from };
        let extent = Extent { end: segment.end, cut: segment.cut, decisions: source.decisions };
        let (records, latest) = replay_segment(&bytes, &header, extent, target, &mut built.memory)
            .map_err(|damage| damaged(directory, &damage))?;
        // Of those that every shard reads, one counts.
        if shard == 0 || !has_moved {
            built.records += records;
        }
        built.latest = built.latest.max(latest);
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
