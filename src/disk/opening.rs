//! One opening as it is on disk: judged after a crash, sealed when it closes.
//!
//! - Only the opening that wrote the manifest is judged. Those before it are sealed: the manifest says how far each of
//!   their segments counts.

use super::directory::Directory;
use super::file_system::FileSystem;
use crate::base::error::{Error, Result};
use crate::base::kill_point::{KillPoint, kill_point};
use crate::base::planted::{Bug, planted};
use crate::base::version::Version;
use crate::format::BLOCK;
use crate::format::manifest::{Manifest, SnapshotRecord};
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::shard::replay::survey;
use crate::shard::sealing::{Opening, Sealing};

/// The newest, and one to fall back to.
const SNAPSHOTS_KEPT: usize = 2;

/// Makes a segment and lists it in the manifest; only then anything may be written to it.
///
/// # Errors
/// `Io` if there is no room; the segment may be there, unused.
pub(crate) fn add_segment<F: FileSystem>(
    directory: &Directory<F>,
    manifest: &mut Manifest,
    header: &SegmentHeader,
) -> Result<()> {
    directory.create_segment(header)?;
    let SegmentId { shard, index, .. } = header.id;
    let is_listed = manifest.segments[shard as usize].end > index;
    if !is_listed && !planted(Bug::SegmentNotListed) {
        directory.change_manifest(manifest, |next| next.segments[shard as usize].end = index + 1)?;
        kill_point(KillPoint::SegmentListed);
    }
    Ok(())
}

/// Makes a snapshot what recovery starts from. The manifest forgets what nobody needs any more: snapshots but the last two, and
/// the log before the older of them. If the newer turns out to be damaged, the older and the log behind it give the same.
///
/// # Errors
/// `Io` if the manifest cannot be written.
pub(crate) fn install_snapshot<F: FileSystem>(
    directory: &Directory<F>,
    manifest: &mut Manifest,
    record: SnapshotRecord,
) -> Result<()> {
    directory.change_manifest(manifest, |next| {
        next.last_snapshot = record.number;
        next.snapshots.push(record);
        if next.snapshots.len() > SNAPSHOTS_KEPT {
            next.snapshots.drain(..next.snapshots.len() - SNAPSHOTS_KEPT);
            next.cut_log();
        }
        if planted(Bug::CutBeforeManifest) {
            let _ = directory.remove_obsolete(next);
        }
    })?;
    kill_point(KillPoint::SnapshotInstalled);
    Ok(())
}

/// Forgets a snapshot.
///
/// # Errors
/// `InvalidOperation` if there is none of this number, or if nothing else can be recovered from; `Io`.
pub(crate) fn remove_snapshot<F: FileSystem>(
    directory: &Directory<F>,
    manifest: &mut Manifest,
    number: u64,
) -> Result<()> {
    if !manifest.names_snapshot(number) {
        return Err(Error::InvalidOperation(format!("there is no such snapshot: id={number}")));
    }
    if manifest.is_cut && manifest.snapshots.len() == 1 {
        let what = "the log goes back to this snapshot only, take another one before you delete it";
        return Err(Error::InvalidOperation(format!("{what}: id={number}")));
    }
    directory.change_manifest(manifest, |next| {
        next.snapshots.retain(|snapshot| snapshot.number != number);
        if next.is_cut {
            next.cut_log();
        }
    })
}

/// Decides how far the segments of the opening that wrote the manifest count; with `settle`, after a crash, nothing of it
/// is read while it may still change, and what it decides from is made durable: which segments there are, and what was
/// read.
///
/// # Errors
/// `Corruption` with file and offset if anything that was durable is damaged; `Locked` if a dead process still writes;
/// `Io`.
pub(crate) fn judge<F: FileSystem>(directory: &Directory<F>, manifest: &Manifest, settle: bool) -> Result<Opening> {
    if settle {
        directory.settle_segments()?;
    }
    let mut sealing = Sealing::new(manifest);
    // Those before the first are not needed any more.
    let first = |shard: u32| manifest.segments.get(shard as usize).map_or(0, |segments| segments.start);
    let is_of_opening = |id: &SegmentId| id.incarnation == manifest.incarnation && id.index >= first(id.shard);
    let all: Vec<SegmentId> = directory.segments()?.into_iter().filter(is_of_opening).collect();
    if let Some(id) = manifest.own_segments().find(|id| !all.contains(id)) {
        return Err(directory.corruption(id, 0, "the segment is missing, restore a backup or salvage the rest"));
    }
    if settle {
        let written = all.iter().filter(|_| !planted(Bug::SegmentsNotFenced));
        written.copied().try_for_each(|id| directory.fence_segment(id))?;
        kill_point(KillPoint::RecoverySettled);
    }
    for shard in all.chunk_by(|a, b| a.shard == b.shard) {
        let mut scanned = Vec::new();
        for id in shard {
            let bytes = directory.read_segment(*id, settle)?;
            let header = directory.read_header(*id, &bytes, &manifest.database)?;
            // A segment is made whole before it is used: what is missing may have been acknowledged.
            let length = directory.segment_length(*id)?;
            if length < header.capacity {
                let what = format!("the segment is cut off: capacity={}", header.capacity);
                return Err(directory.corruption(*id, length, &what));
            }
            scanned.push(survey(&bytes, &header, None));
        }
        sealing.add_shard(&scanned).map_err(|damage| directory.damaged(&damage))?;
    }
    Ok(sealing.finish())
}

/// Decides how far the segments of an opening count that goes on: for a view of one moment, as far as a second reading finds
/// them, up to the highest version that the first one found. Decision 23 says why that is one.
///
/// # Errors
/// `Corruption` with file and offset, also of what was seen half written; `Io`, also for a file that was replaced.
pub(crate) fn judge_beside<F: FileSystem>(directory: &Directory<F>, manifest: &Manifest) -> Result<Opening> {
    let latest = judge(directory, manifest, false)?.latest;
    let mut opening = judge(directory, manifest, false)?;
    for segment in &mut opening.sealed {
        segment.cut = segment.cut.min(latest);
    }
    opening.latest = latest;
    Ok(opening)
}

/// Writes into the manifest how far every segment counts, and gives back the room that was not used. `last` is the
/// highest time given out.
///
/// # Errors
/// `Corruption` if not everything is there that was durable a moment ago; `Io`.
pub(crate) fn seal<F: FileSystem>(directory: &Directory<F>, manifest: &Manifest, last: Version) -> Result<()> {
    let mut manifest = manifest.clone();
    let opening = judge(directory, &manifest, false)?;
    if let Some((segment, offset)) = opening.torn.first() {
        // Everything was durable a moment ago: this is no torn tail, and it must not be sealed away.
        return Err(directory.corruption(*segment, *offset, "the log was damaged while the database closed"));
    }
    let (used, unused): (Vec<_>, Vec<_>) = opening.sealed.into_iter().partition(|segment| segment.end > BLOCK as u64);
    manifest.sealed.extend(used.iter().cloned());
    manifest.closed = true;
    manifest.segments.fill(0..0);
    manifest.clock_reserved = last;
    directory.write_manifest(&manifest)?;
    kill_point(KillPoint::ClosingSealed);
    for segment in used {
        directory.trim_segment(segment.id, segment.end)?;
        kill_point(KillPoint::SegmentTrimmed);
    }
    for segment in unused {
        directory.remove_segment(segment.id)?;
        kill_point(KillPoint::UnusedRemoved);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::io;
    use std::ops::Range;
    use std::path::PathBuf;

    use super::*;
    use crate::base::options::Partitioning;
    use crate::format::record::{self, CommitBody, Position, RecordHeader, TransactionId};

    const CAPACITY: u64 = 4 * BLOCK as u64;

    /// Two logs that another process writes to: what is read is as it was at that moment, and each reading is a later one.
    struct Moving {
        moments: Vec<BTreeMap<String, Vec<u8>>>,
        readings: Cell<usize>,
    }

    impl Moving {
        /// At each moment, the versions that each of the logs holds.
        fn new(moments: &[[&[u64]; 2]]) -> Self {
            let of_moment = |versions: &[&[u64]; 2]| {
                let logs = (0..).zip(versions).map(|(shard, versions)| {
                    let id = SegmentId { incarnation: 1, shard, index: 0 };
                    (id.file_name(), log(id, versions))
                });
                logs.collect()
            };
            Self { moments: moments.iter().map(of_moment).collect(), readings: Cell::default() }
        }
    }

    fn log(id: SegmentId, versions: &[u64]) -> Vec<u8> {
        let header = SegmentHeader { id, database: [0; 16], salt: 7, capacity: CAPACITY, strict: true };
        let mut bytes = header.to_block();
        for version in versions {
            let place = Position::new(0, bytes.len() as u64);
            let mut batch = Vec::new();
            let record = RecordHeader::commit(Version::from(*version), TransactionId::default());
            record::stage(&mut batch, record, &CommitBody::of(Vec::<u8>::new())).unwrap();
            record::seal(&mut batch, place, place, header.salt);
            bytes.extend(batch);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.resize(usize::try_from(CAPACITY).unwrap(), 0);
        bytes
    }

    const WRITES: &str = "who reads beside a writer changes nothing";

    impl FileSystem for Moving {
        type File = String;

        fn path(&self, name: &str) -> PathBuf {
            name.into()
        }

        fn list(&self, _: &str) -> io::Result<Vec<String>> {
            Ok(self.moments[0].keys().cloned().collect())
        }

        fn open(&self, file: &str) -> io::Result<String> {
            Ok(file.rsplit('/').next().unwrap_or_default().into())
        }

        fn read(&self, file: &String) -> io::Result<Vec<u8>> {
            let moment = self.readings.replace(self.readings.get() + 1);
            Ok(self.moments[moment][file].clone())
        }

        fn length(&self, _: &String) -> io::Result<u64> {
            Ok(CAPACITY)
        }

        fn fence(&self, _: &str) -> io::Result<()> {
            unreachable!("{WRITES}")
        }

        fn create(&self, _: &str, _: u64) -> io::Result<String> {
            unreachable!("{WRITES}")
        }

        fn drop_cache(&self, _: &String) {
            unreachable!("{WRITES}")
        }

        fn read_at(&self, _: &String, _: Range<u64>) -> io::Result<Vec<u8>> {
            unreachable!("a segment is read whole")
        }

        fn write_at(&self, _: &String, _: &[u8], _: u64) -> io::Result<()> {
            unreachable!("{WRITES}")
        }

        fn write_zeros(&self, _: &String, _: Range<u64>) -> io::Result<()> {
            unreachable!("{WRITES}")
        }

        fn sync(&self, _: &String) -> io::Result<()> {
            unreachable!("{WRITES}")
        }

        fn truncate(&self, _: &str, _: u64) -> io::Result<()> {
            unreachable!("{WRITES}")
        }

        fn rename(&self, _: &str, _: &str) -> io::Result<()> {
            unreachable!("{WRITES}")
        }

        fn remove(&self, _: &str) -> io::Result<()> {
            unreachable!("{WRITES}")
        }

        fn sync_directory(&self, _: &str) -> io::Result<()> {
            unreachable!("{WRITES}")
        }
    }

    /// While the logs are read one after the other, 20 is committed on shard 0 and 21, which follows from it, on shard 1; and so
    /// are 30 and 31 while they are read again. The first reading has 21 without 20, the second 31 without 30.
    #[test]
    fn a_view_beside_a_writer_has_nothing_without_what_it_follows_from() {
        let moments: [[&[u64]; 2]; 4] =
            [[&[10], &[]], [&[10, 20], &[21]], [&[10, 20], &[21]], [&[10, 20, 30], &[21, 31]]];
        let directory = Directory::new(Moving::new(&moments));
        let manifest = Manifest { segments: vec![0..1; 2], ..Manifest::new([0; 16], 1, 2, Partitioning::ByRun) };
        let opening = judge_beside(&directory, &manifest).unwrap();
        let block = BLOCK as u64;
        let found: Vec<_> = opening.sealed.iter().map(|segment| (segment.end / block, segment.cut.get())).collect();
        assert_eq!(found, [(3, 21), (3, 21)], "10 and 20, 21 and not 31");
        assert_eq!(opening.latest.get(), 21);
    }
}
