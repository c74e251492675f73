//! Recovery: what is on disk becomes the memory of the shards.
//!
//! - First everything there is is read and made durable, then every decision is made, then all decisions are written in
//!   one manifest, and only then anything is served.
//! - Three steps, so that whoever recovers can build the memories in parallel: `decide`, `build_shard` for each of the
//!   new shards, `finish`. With an unchanged layout each shard reads its own segments; otherwise each reads all of them
//!   and keeps what it owns.

use std::io;
use std::time::Duration;

use super::directory::Directory;
use super::file_system::FileSystem;
use super::opening;
use super::regrouping::Regrouping;
use super::snapshots::{Block, SnapshotReader};
use crate::base::error::{Error, Result};
use crate::base::kill_point::{KillPoint, kill_point};
use crate::base::options::{HistoryPolicy, Partitioning};
use crate::base::planted::{Bug, planted};
use crate::base::version::Version;
use crate::format::manifest::{Manifest, SealedSegment, SnapshotRecord};
use crate::format::snapshot::SnapshotId;
use crate::primitive::digest;
use crate::shard::decisions::Decisions;
use crate::shard::replay::{Extent, Target, replay_segment, survey};
use crate::shard::route::Layout;
use crate::shard::sealing;
use crate::store::backlog::{BACKLOG, Backlog};
use crate::store::dump::Loader;
use crate::store::memory::Memory;

/// What opening the database found on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the directory was new.
    pub created: bool,
    /// Whether the last opening was closed in good order.
    pub clean: bool,
    /// How many log segments were replayed.
    pub segments: u64,
    /// How many records were applied.
    pub records: u64,
    /// How many torn tails (batches that were being written when the process died) were cut off.
    pub torn_tails: u64,
    /// How many transactions over several shards left parts in the last opening's log and are not committed: some part was
    /// refused, or was not on disk yet when the process died.
    pub discarded_transactions: u64,
    /// The version of the snapshot that recovery started from; `None` if there is none.
    pub snapshot: Option<Version>,
    /// What is wrong with each newer snapshot, which could not be used. Nothing is missing: the log behind the older one, or
    /// from the beginning, has it all.
    pub damaged_snapshots: Vec<String>,
    /// The highest version found.
    pub latest: Version,
    /// How many shards the last opening had.
    pub previous_shards: u32,
    /// Who had the database open and may have gone on writing, if it was opened read-only: it is shown as it was a moment before.
    pub writer: Option<String>,
    /// How long it took.
    pub duration: Duration,
}

/// What the new opening is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) layout: Layout,
    pub(crate) history: HistoryPolicy,
    pub(crate) read_only: bool,
    /// Whether another process writes meanwhile; read-only then.
    pub(crate) beside: bool,
}

/// The memory of one of the new shards, and what it was built from.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) memory: Memory,
    records: u64,
    latest: Version,
}

/// A recovery that has decided everything.
#[derive(Debug)]
pub(crate) struct Recovery<'a, F> {
    directory: &'a Directory<F>,
    plan: Plan,
    /// That of the last opening; its own segments are among the sealed ones, and its snapshots are those that can be read, as
    /// far as is known.
    manifest: Manifest,
    decisions: Decisions,
    report: RecoveryReport,
}

/// Why a shard was not built.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The snapshot that it was built from is damaged.
    Snapshot(Error),
    Other(Error),
}

impl Failure {
    /// What cannot be read now may be read later, unless it is damaged or gone.
    fn of_snapshot(error: Error) -> Self {
        match error {
            Error::Io(error) if error.kind() != io::ErrorKind::NotFound => Self::Other(Error::Io(error)),
            damage => Self::Snapshot(damage),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl<'a, F: FileSystem> Recovery<'a, F> {
    /// Reads the manifest and what the last opening has written, and decides what of it counts. `identity` is that of
    /// the database if it is new.
    ///
    /// # Errors
    /// `Corruption` with file and offset if anything that was durable is damaged; `Io`.
    pub(crate) fn decide(directory: &'a Directory<F>, plan: Plan, identity: [u8; 16]) -> Result<Self> {
        let mut report = RecoveryReport::default();
        let before = directory.read_manifest()?;
        report.created = before.is_none();
        let mut manifest = match before {
            None => Manifest::new(identity, 0, 0, plan.layout.partitioning),
            Some(mut manifest) => {
                report.clean = manifest.closed;
                report.previous_shards = manifest.shards;
                report.snapshot = manifest.snapshots.last().map(|snapshot| snapshot.version);
                report.latest = report.snapshot.unwrap_or_default();
                let mut sealed = sealed_before(directory, &manifest)?;
                if !manifest.closed {
                    let last = if plan.beside {
                        opening::judge_beside(directory, &manifest)?
                    } else {
                        opening::judge(directory, &manifest, true)?
                    };
                    kill_point(KillPoint::RecoveryJudged);
                    report.torn_tails = last.torn.len() as u64;
                    report.latest = report.latest.max(last.latest);
                    sealed.extend(last.sealed);
                }
                manifest.sealed = sealed;
                manifest
            }
        };
        manifest.sealed.sort_unstable_by_key(|segment| segment.id);
        let (decisions, discarded) = sealing::decide(&manifest.sealed, |segment| {
            let bytes = directory.read_segment(segment.id, false)?;
            let header = directory.read_header(segment.id, &bytes, &manifest.database)?;
            Ok::<_, Error>(survey(&bytes, &header, Some(segment.end)).evidence)
        })?;
        kill_point(KillPoint::RecoveryDecided);
        report.discarded_transactions = discarded.get(&manifest.incarnation).copied().unwrap_or_default();
        Ok(Self { directory, plan, manifest, decisions, report })
    }

    /// The newest snapshot is damaged: from now on, builds from the one before and the log behind it.
    ///
    /// # Errors
    /// The damage, if there is nothing to fall back to.
    pub(crate) fn fall_back(&mut self, damage: Error) -> Result<()> {
        self.manifest.snapshots.pop();
        if self.manifest.snapshots.is_empty() && self.manifest.is_cut {
            return Err(damage);
        }
        self.report.snapshot = self.manifest.snapshots.last().map(|snapshot| snapshot.version);
        self.report.damaged_snapshots.push(damage.to_string());
        Ok(())
    }

    /// Builds the memory of one of the new shards from all that counts. `load` says what it was when the snapshot was taken:
    /// `load_snapshot`.
    ///
    /// # Errors
    /// `Snapshot` if its snapshot is damaged: `fall_back`. Otherwise `Corruption` with file and offset; `Io`.
    pub(crate) fn build_shard(
        &self,
        shard: usize,
        load: impl Fn() -> Result<Memory, Failure>,
    ) -> Result<Built, Failure> {
        match self.replay(shard, load()?, BACKLOG) {
            // A write that waited is noticed late: where it stands says who lets none wait.
            Err(Failure::Other(Error::Corruption(_))) => self.replay(shard, load()?, 1),
            built => built,
        }
    }

    /// Replays the log behind the snapshot; that many writes wait at most.
    fn replay(&self, shard: usize, memory: Memory, waiting: usize) -> Result<Built, Failure> {
        let layout = self.layout();
        let Layout { shards, partitioning } = layout;
        let mut backlog = Backlog::new(memory, waiting);
        let (mut counted, mut highest, mut end, mut is_scattered) = (0, Version::ZERO, None, false);
        let above = self.manifest.snapshots.last().map_or(Version::ZERO, |snapshot| snapshot.version);
        let mut sealed: Vec<&SealedSegment> = self.behind_snapshot().collect();
        if planted(Bug::HashOrder) {
            sealed.sort_by_key(|segment| segment.salt);
        }
        for segment in sealed.into_iter().filter(|segment| segment.concerns(shard, shards, partitioning)) {
            let bytes = self.directory.read_segment(segment.id, false)?;
            let header = self.directory.read_header(segment.id, &bytes, &self.manifest.database)?;
            if header.salt != segment.salt && !planted(Bug::HeaderNotCompared) {
                let what = "the segment is not the one the manifest names";
                return Err(self.directory.corruption(segment.id, 0, what).into());
            }
            let has_moved = !segment.is_of(shards, partitioning);
            let moved_from = has_moved.then_some((segment.id.shard as usize, segment.shards as usize));
            let by_run = [partitioning, segment.partitioning].iter().all(|kind| *kind == Partitioning::ByRun);
            is_scattered |= has_moved && !by_run;
            let target = Target { shard, layout, moved_from, by_run };
            let extent = Extent { end: segment.end, above, cut: segment.cut, decisions: &self.decisions };
            let (records, latest) = replay_segment(&bytes, &header, extent, target, &mut backlog)
                .map_err(|damage| self.directory.damaged(&damage))?;
            // Of those that every shard reads, one counts.
            if shard == 0 || !has_moved {
                counted += records;
            }
            highest = highest.max(latest);
            end = Some((segment.id, segment.end));
        }
        match (backlog.finish(), end) {
            (Ok(mut memory), _) => {
                if is_scattered {
                    digest::complete(&mut memory);
                }
                Ok(Built { memory, records: counted, latest: highest })
            }
            (Err(what), Some((segment, end))) => Err(self.directory.corruption(segment, end, what).into()),
            (Err(_), None) => unreachable!("what waits was read from a segment"),
        }
    }

    /// The segments that may hold something that is not in the snapshot.
    fn behind_snapshot(&self) -> impl Iterator<Item = &SealedSegment> {
        let newest = self.manifest.snapshots.last();
        self.manifest.sealed.iter().filter(move |segment| newest.is_none_or(|snapshot| snapshot.is_before(segment.id)))
    }

    /// The snapshot that recovery starts from, block by block: the files that one of the new shards needs, one after the
    /// other.
    pub(crate) fn read_snapshot(&self, shard: usize) -> impl Iterator<Item = Result<Block>> {
        let snapshot = self.manifest.snapshots.last();
        let files = snapshot.into_iter().flat_map(move |snapshot| {
            let all = 0..snapshot.shards as usize;
            let of_shard = if is_of(snapshot, self.layout()) { shard..shard + 1 } else { all };
            of_shard.map(move |shard| (snapshot, shard))
        });
        files.flat_map(|(snapshot, shard)| {
            let id = SnapshotId { number: snapshot.number, shard: u32::try_from(shard).unwrap_or(u32::MAX) };
            let reader = SnapshotReader::open(self.directory, id, &self.manifest.database, snapshot.version);
            let (blocks, error) = match reader {
                Ok(blocks) => (Some(blocks), None),
                Err(error) => (None, Some(Err(error))),
            };
            error.into_iter().chain(blocks.into_iter().flatten())
        })
    }

    /// The memory of one of the new shards as it was when the snapshot was taken, from what `read_snapshot` reads.
    ///
    /// # Errors
    /// `Snapshot` if it is damaged; `Io`.
    pub(crate) fn load_snapshot(
        &self,
        shard: usize,
        blocks: impl IntoIterator<Item = Result<Block>>,
    ) -> Result<Memory, Failure> {
        self.load(shard, blocks.into_iter()).map_err(Failure::of_snapshot)
    }

    fn load(&self, shard: usize, mut blocks: impl Iterator<Item = Result<Block>>) -> Result<Memory> {
        let layout = self.layout();
        let Some(snapshot) = self.manifest.snapshots.last() else { return Ok(Memory::new(self.plan.history)) };
        if is_of(snapshot, layout) {
            let mut loader = Loader::new(self.plan.history, snapshot.version);
            blocks.try_for_each(|block| {
                let Block { id, offset, pieces } = block?;
                let result = pieces.into_iter().try_for_each(|piece| loader.load(piece));
                result.map_err(|what| self.directory.damaged_snapshot(id, offset, &what))
            })?;
            return Ok(loader.finish());
        }
        let by_run = [layout.partitioning, snapshot.partitioning].iter().all(|kind| *kind == Partitioning::ByRun);
        let mut regrouping = Regrouping::new(shard, layout, by_run);
        for block in blocks {
            let Block { id, pieces, .. } = block?;
            let from = (id.shard as usize, snapshot.shards as usize);
            for piece in pieces {
                regrouping.add(piece, from);
            }
        }
        let id = SnapshotId { number: snapshot.number, shard: 0 };
        regrouping.finish(self.plan.history).map_err(|what| self.directory.damaged_snapshot(id, 0, what))
    }

    /// By what the shards are built.
    fn layout(&self) -> Layout {
        let mut layout = self.plan.layout;
        if planted(Bug::OldShardCount) && self.report.previous_shards > 0 {
            layout.shards = self.report.previous_shards as usize;
        }
        layout
    }

    /// Everything is built: writes all decisions into the manifest of the new opening, unless it is read-only. `start`
    /// is told the highest time that may have been given out, and says up to which time is reserved now.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn finish(
        mut self,
        built: &[Built],
        start: impl FnOnce(Version) -> Version,
    ) -> Result<(Manifest, RecoveryReport)> {
        kill_point(KillPoint::RecoveryBuilt);
        self.report.segments = self.behind_snapshot().count() as u64;
        for shard in built {
            self.report.records += shard.records;
            self.report.latest = self.report.latest.max(shard.latest);
        }
        let mut last = self.report.latest;
        // What another process goes on reserving is no time that has passed here.
        if !self.plan.beside {
            last = last.max(self.manifest.clock_reserved);
        }
        if planted(Bug::ClockBack) {
            last = Version::ZERO;
        }
        if planted(Bug::ReservationNotRead) {
            last = self.report.latest;
        }
        let Layout { shards, partitioning } = self.plan.layout;
        let shards = u32::try_from(shards).unwrap_or(u32::MAX);
        let is_new = self.manifest.incarnation == 0;
        let manifest = Manifest {
            incarnation: self.manifest.incarnation + u32::from(!planted(Bug::IncarnationNotAdvanced) || is_new),
            shards,
            partitioning,
            clock_reserved: start(last),
            closed: false,
            segments: vec![0..0; shards as usize],
            ..self.manifest
        };
        // Nothing is written at the times of a read-only opening: they need no reservation.
        if !self.plan.read_only {
            self.directory.write_manifest(&manifest)?;
            kill_point(KillPoint::RecoverySaved);
            self.directory.remove_strays(&manifest)?;
            kill_point(KillPoint::StraysRemoved);
        }
        Ok((manifest, self.report))
    }
}

/// Whether the shards are those that took the snapshot.
fn is_of(snapshot: &SnapshotRecord, layout: Layout) -> bool {
    snapshot.shards as usize == layout.shards && snapshot.partitioning == layout.partitioning
}

/// What the manifest says of earlier openings.
fn sealed_before<F: FileSystem>(directory: &Directory<F>, manifest: &Manifest) -> Result<Vec<SealedSegment>> {
    if !planted(Bug::DecisionsForgotten) {
        return Ok(manifest.sealed.clone());
    }
    let mut sealed = Vec::new();
    for opening in manifest.sealed.chunk_by(|a, b| a.id.incarnation == b.id.incarnation) {
        let (incarnation, shards) = (opening[0].id.incarnation, opening[0].shards);
        let manifest = Manifest { incarnation, shards, ..manifest.clone() };
        sealed.extend(opening::judge(directory, &manifest, true)?.sealed);
    }
    Ok(sealed)
}
