//! Recovery of the fake disk: the code of `disk::recovery`, one shard after the other, and what it must have found.

use std::collections::BTreeMap;

use super::disk::Disk;
use crate::base::error::Result;
use crate::base::key::{Name, Space};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::disk::directory::Directory;
use crate::disk::recovery::{Failure, Plan, Recovery, RecoveryReport};
use crate::format::manifest::Manifest;
use crate::format::record::RecordKind;
use crate::format::scan::scan_segment;
use crate::format::segment::SegmentHeader;
use crate::store::chain::Revision;
use crate::store::memory::Memory;

/// What every segment is stamped with.
pub(super) const DATABASE: [u8; 16] = [0xda; 16];

/// What is served from.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) memories: Vec<Memory>,
    pub(super) manifest: Manifest,
    pub(super) report: RecoveryReport,
}

/// Recovers the database. `start` is told what time begins behind, and says up to where it is reserved.
pub(super) fn recover(disk: &Disk, plan: Plan, start: impl FnOnce(Version) -> Version) -> Result<Recovered> {
    let directory = Directory::new(disk);
    let mut recovery = Recovery::decide(&directory, plan, DATABASE)?;
    let built = loop {
        let load = |shard| recovery.load_snapshot(shard, recovery.read_snapshot(shard));
        let each = |shard| recovery.build_shard(shard, || load(shard));
        match (0..plan.layout.shards).map(each).collect::<Result<Vec<_>, _>>() {
            Ok(built) => break built,
            Err(Failure::Snapshot(damage)) => recovery.fall_back(damage)?,
            Err(Failure::Other(error)) => return Err(error),
        }
    };
    let (manifest, report) = recovery.finish(&built, start)?;
    let memories = built.into_iter().map(|shard| shard.memory).collect();
    Ok(Recovered { memories, manifest, report })
}

/// Every revision of every key that is kept for good, by shard. What else a memory holds depends on what it was built from: a
/// snapshot is without what was forgotten when it was taken, a log is not.
pub(super) type Revisions = Vec<BTreeMap<(RunId, Space, Name), Vec<Revision>>>;

pub(super) fn revisions(memories: &[Memory]) -> Revisions {
    let revisions = memories.iter().map(|memory| {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (run, space, name, revision) in memory.every_revision().filter(|(run, ..)| memory.deleted(run).is_none()) {
            let of_key: &mut Vec<Revision> = all.entry((run, space, name.clone())).or_default();
            if !memory.keeps_all(&run, space) {
                of_key.clear();
            }
            of_key.push(revision.clone());
        }
        let is_gone = |revision: &Revision| revision.gone_at() != Version::MAX;
        all.retain(|(run, space, _), of_key| memory.keeps_all(run, *space) || !of_key.last().is_some_and(is_gone));
        all
    });
    revisions.collect()
}

/// What the logs of an opening hold of what counts above a version: how many commits, and the version of the last, by shard.
pub(super) fn commits_of(
    disk: &Disk,
    manifest: &Manifest,
    incarnation: u32,
    above: Version,
) -> BTreeMap<u32, (usize, Version)> {
    let mut found: BTreeMap<u32, (usize, Version)> = BTreeMap::new();
    for segment in manifest.sealed.iter().filter(|segment| segment.id.incarnation == incarnation) {
        let bytes = disk.segment(segment.id);
        let header = SegmentHeader::read(&bytes).expect("a header is whole");
        scan_segment(&bytes, &header, Some(segment.end), |_, record, _| {
            let counts = record.version() > above && record.version() <= segment.cut;
            if record.kind() == Some(RecordKind::Commit) && counts {
                let (count, last) = found.entry(segment.id.shard).or_default();
                (*count, *last) = (*count + 1, record.version());
            }
        });
    }
    found
}

/// The cut of an opening, if it wrote anything.
pub(super) fn cut_of(manifest: &Manifest, incarnation: u32) -> Option<Version> {
    let of_opening = manifest.sealed.iter().filter(|segment| segment.id.incarnation == incarnation);
    of_opening.map(|segment| segment.cut).max()
}
