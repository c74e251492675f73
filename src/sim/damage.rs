//! Damage at rest: what a device does to bytes that it had acknowledged.
//!
//! - A bit that flips, a sector or a batch that was never written, one that was written elsewhere, files that are gone,
//!   cut off, or under each other's names.
//! - Whoever opens then is told of corruption and where it is, or finds what was there. Only the last batch behind a crash
//!   may be taken for a torn tail, and only where nobody could tell.
//! - A verification that knows how far each file counted tells of it too, and of nothing before.
//! - Done to copies of the disk, before a recovery, with what the recovery of an undamaged copy finds beside it.

use std::collections::BTreeMap;

use super::disk::Disk;
use super::file::SECTOR;
use super::recovery::{Recovered, recover, revisions};
use super::rng::Rng;
use crate::base::error::Error;
use crate::base::version::Version;
use crate::disk::directory::{Directory, LOG, segment_name};
use crate::disk::recovery::Plan;
use crate::disk::verification::{Verification, VerifyProblem, VerifyReport, files_of};
use crate::format::BLOCK;
use crate::format::record::{self, HEADER_BYTES, Position};
use crate::format::scan::scan_segment;
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::shard::replay::survey;

/// What is done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    BitRot,
    LostSector,
    LostBlock,
    Misdirected,
    Swapped,
    Removed,
    CutOff,
}

pub(super) const KINDS: [Kind; 7] =
    [Kind::BitRot, Kind::LostSector, Kind::LostBlock, Kind::Misdirected, Kind::Swapped, Kind::Removed, Kind::CutOff];

/// What was done, and where.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    kind: Kind,
    /// The files that are not as they were.
    files: Vec<String>,
    offset: usize,
}

/// How an opening behind damage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    Told,
    Harmless,
    /// The last batch was taken for a torn tail.
    TailLost,
}

/// Damages copies of a disk, and says what came of it.
pub(super) fn rehearse(disk: &Disk, plan: Plan, rng: &mut Rng, count: u64) -> Vec<(Kind, Ending)> {
    let plan = Plan { read_only: true, ..plan };
    let disk = disk.steady_copy();
    let sound = disk.steady_copy();
    let Ok(whole) = recover(&sound, plan, Version::next) else { panic!("undamaged, it opens") };
    assert_eq!(verify(&sound, &whole).problems, [], "undamaged, it is sound");
    let mut endings = Vec::new();
    for _ in 0..count {
        let name = rng.pick(&disk.names()).clone();
        let offset = rng.index(used(&disk, &name) + 64);
        endings.extend(rehearse_one(&disk, &whole, plan, (*rng.pick(&KINDS), &name, offset), rng));
    }
    endings
}

/// How many bytes of a file are not the zeros at its end.
fn used(disk: &Disk, name: &str) -> usize {
    let bytes = disk.bytes(name);
    bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count()
}

fn rehearse_one(
    disk: &Disk,
    whole: &Recovered,
    plan: Plan,
    what: (Kind, &str, usize),
    rng: &mut Rng,
) -> Option<(Kind, Ending)> {
    let copy = disk.steady_copy();
    let damage = do_damage(&copy, what, rng)?;
    let ending = match recover(&copy, plan, Version::next) {
        Ok(found) => judge(disk, whole, &found, &damage, plan),
        Err(error) => {
            assert_names_place(&error, &damage);
            Ending::Told
        }
    };
    if ending != Ending::Harmless && !is_behind_end(whole, &damage) {
        let report = verify(&copy, whole);
        let names = |problem: &VerifyProblem| damage.files.iter().any(|file| problem.to_string().contains(file));
        assert!(
            report.problems.iter().any(names),
            "{ending:?}, and a verification does not tell: {damage:?} {report:?}"
        );
    }
    Some((damage.kind, ending))
}

/// Verifies what an undamaged recovery had found.
fn verify(disk: &Disk, whole: &Recovered) -> VerifyReport {
    let directory = Directory::new(disk);
    let mut verification = Verification::new(&directory, &whole.manifest, Vec::new());
    files_of(&whole.manifest).for_each(|file| verification.check(file));
    verification.finish(&whole.manifest)
}

/// Whether it was done where nothing counts.
fn is_behind_end(whole: &Recovered, damage: &Damage) -> bool {
    let segment = whole.manifest.sealed.iter().find(|segment| damage.files[0] == segment_name(segment.id));
    segment.is_some_and(|segment| damage.offset as u64 >= segment.end) || damage.kind == Kind::Misdirected
}

fn do_damage(disk: &Disk, (kind, name, offset): (Kind, &str, usize), rng: &mut Rng) -> Option<Damage> {
    let names = disk.names();
    let mut bytes = disk.bytes(name);
    let name = name.to_owned();
    let offset = offset.min(bytes.len() - 1);
    let mut files = vec![name.clone()];
    match kind {
        Kind::BitRot => bytes[offset] ^= 1 << rng.index(8),
        Kind::LostSector => {
            let end = (offset / SECTOR * SECTOR + SECTOR).min(bytes.len());
            bytes[offset / SECTOR * SECTOR..end].fill(0);
        }
        Kind::LostBlock => {
            let end = (offset / BLOCK * BLOCK + BLOCK).min(bytes.len());
            bytes[offset / BLOCK * BLOCK..end].fill(0);
        }
        Kind::Misdirected => {
            let length = *rng.pick(&[SECTOR, BLOCK]);
            let from = offset / length * length;
            let block: Vec<u8> = bytes[from..(from + length).min(bytes.len())].to_vec();
            bytes[from..from + block.len()].fill(0);
            let to = rng.pick(&names).clone();
            if log_of(&to) == log_of(&name) && to > name {
                return None;
            }
            if to != name {
                disk.replace(&name, &bytes);
                bytes = disk.bytes(&to);
            }
            // What a log has behind it was written later.
            let places = if to == name { from.max(1) } else { bytes.len() };
            let at = rng.index(places) / length * length;
            let end = (at + block.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&block[..end - at]);
            disk.replace(&to, &bytes);
            files.push(to);
            return Some(Damage { kind, files, offset: from });
        }
        Kind::Swapped => {
            let other = rng.pick(&names).clone();
            if other == name {
                return None;
            }
            disk.replace(&name, &disk.bytes(&other));
            disk.replace(&other, &bytes);
            files.push(other);
            return Some(Damage { kind, files, offset: 0 });
        }
        Kind::Removed | Kind::CutOff if !is_listed(disk, &name) => return None,
        Kind::Removed => {
            disk.erase(&name);
            return Some(Damage { kind, files, offset: 0 });
        }
        Kind::CutOff => {
            disk.cut_off(&name, &bytes[..offset]);
            return Some(Damage { kind, files, offset });
        }
    }
    disk.replace(&name, &bytes);
    Some(Damage { kind, files, offset })
}

/// Whether it is the manifest, a snapshot, or a segment that the manifest lists.
fn is_listed(disk: &Disk, name: &str) -> bool {
    !name.starts_with(LOG) || disk.listed().iter().any(|id| segment_name(*id) == name)
}

/// What the names of all segments of a log begin with.
fn log_of(name: &str) -> &str {
    &name[..name.len().min("log/IIIIIIII-SSSS-".len())]
}

/// The error says which file it is about: one that was damaged, or one of the same log.
fn assert_names_place(error: &Error, damage: &Damage) {
    let text = error.to_string();
    let is_told = match error {
        Error::Corruption(_) => true,
        Error::Io(_) => damage.kind == Kind::Removed,
        _ => false,
    };
    let names = |file: &String| text.contains(log_of(file));
    assert!(is_told && damage.files.iter().any(names), "told of another place: {text} {damage:?}");
}

/// It opened: what is there was there before, and nothing is missing that could have been missed.
fn judge(disk: &Disk, whole: &Recovered, found: &Recovered, damage: &Damage, plan: Plan) -> Ending {
    if revisions(&whole.memories) == revisions(&found.memories) {
        return Ending::Harmless;
    }
    let ends: BTreeMap<SegmentId, u64> =
        found.manifest.sealed.iter().map(|segment| (segment.id, segment.end)).collect();
    let sealed = disk.sealed();
    let is_sealed = |id: &SegmentId| sealed.contains(id);
    // Cut an undamaged copy off where the damaged one ends: the same must be there.
    let cut = disk.steady_copy();
    for segment in whole.manifest.sealed.iter().filter(|segment| !is_sealed(&segment.id)) {
        let end = usize::try_from(ends.get(&segment.id).copied().unwrap_or(0)).unwrap();
        let name = segment_name(segment.id);
        let mut bytes = cut.bytes(&name);
        assert!(end >= BLOCK, "a segment is missing, and nobody was told: {damage:?}");
        if (end as u64) < segment.end {
            assert_behind_durable(disk, segment.id, end, damage);
            assert_cannot_be_told(&bytes, segment.id, damage);
            end_at(&mut bytes, segment.id, end);
            cut.replace(&name, &bytes);
        }
    }
    let expected = recover(&cut, plan, Version::next).expect("cut off, it opens");
    let (expected, found) = (revisions(&expected.memories), revisions(&found.memories));
    assert_eq!(expected, found, "what is there is not what was there: {damage:?}");
    Ending::TailLost
}

/// A segment as if its last batch had ended there.
fn end_at(bytes: &mut [u8], id: SegmentId, end: usize) {
    let header = SegmentHeader::read(bytes).expect("a header is whole");
    let mut last = None;
    scan_segment(bytes, &header, Some(end as u64), |offset, record, body| {
        last = Some((usize::try_from(offset).unwrap(), record.durable(), body.len()));
    });
    if let Some((start, durable, length)) = last {
        let place = Position::new(id.index, start as u64);
        record::seal(&mut bytes[start..start + HEADER_BYTES + length], place, durable, header.salt);
    }
    bytes[end..].fill(0);
}

/// What is lost is behind every position that the log knows to be durable.
fn assert_behind_durable(disk: &Disk, id: SegmentId, end: usize, damage: &Damage) {
    let log = disk.segments().into_iter().filter(|of| (of.incarnation, of.shard) == (id.incarnation, id.shard));
    let durable = log.map(|of| {
        let bytes = disk.segment(of);
        survey(&bytes, &SegmentHeader::read(&bytes).expect("a header is whole"), None).scan.durable
    });
    let durable = durable.max().unwrap_or(Position::START);
    assert!(Position::new(id.index, end as u64) >= durable, "lost, and known to be durable: {damage:?} {durable:?}");
}

/// A flipped bit is taken for a tear only in the length of a record, or where a sector of a record is zero.
fn assert_cannot_be_told(bytes: &[u8], id: SegmentId, damage: &Damage) {
    if damage.kind != Kind::BitRot {
        return;
    }
    let header = SegmentHeader::read(bytes).expect("a header is whole");
    let mut could_tell = false;
    scan_segment(bytes, &header, None, |offset, _, body| {
        let start = usize::try_from(offset).unwrap();
        let end = start + HEADER_BYTES + body.len();
        let is_length = (start + 4..start + 8).contains(&damage.offset);
        let sectors = bytes[start / SECTOR * SECTOR..end].chunks(SECTOR);
        let has_hole = sectors.into_iter().any(|sector| sector.iter().all(|byte| *byte == 0));
        could_tell |= (start..end).contains(&damage.offset) && !is_length && !has_hole;
    });
    assert!(!could_tell, "a flipped bit was taken for a tear: {id:?} {damage:?}");
}

#[cfg(test)]
mod tests {
    use super::super::swarm::Mode;
    use super::super::trace::Trace;
    use super::super::{World, run_seed};
    use super::*;
    use crate::base::options::Partitioning;
    use crate::shard::route::Layout;

    /// What is left of a seed, damaged everywhere.
    fn damage_all(world: &World, total: &mut BTreeMap<(Kind, Ending), u64>) {
        let mut rng = Rng::new(1);
        let layout = Layout { shards: world.swarm.shards, partitioning: Partitioning::ByRun };
        let plan = Plan { layout, history: world.swarm.history, read_only: true, beside: false };
        let disk = world.disk.steady_copy();
        let whole = recover(&disk.steady_copy(), plan, Version::next).expect("undamaged, it opens");
        for name in disk.names() {
            for sector in (0..used(&disk, &name) + SECTOR).step_by(SECTOR) {
                for kind in [Kind::BitRot, Kind::LostSector, Kind::LostBlock, Kind::CutOff] {
                    let what = (kind, name.as_str(), sector + rng.index(SECTOR));
                    if let Some(ending) = rehearse_one(&disk, &whole, plan, what, &mut rng) {
                        *total.entry(ending).or_default() += 1;
                    }
                }
            }
        }
    }

    #[test]
    fn damage_to_any_sector_is_told_or_harmless() {
        let mut total = BTreeMap::new();
        for mode in [Mode::Strict, Mode::Buffered] {
            // Those that leave little behind, so that every sector takes its turn.
            let worlds = (0..60).map(|seed| run_seed(seed, mode, None, Trace::default()).expect("nothing is wrong"));
            let small = worlds.filter(|world| {
                let sectors: usize = world.disk.names().iter().map(|name| used(&world.disk, name) / SECTOR).sum();
                (20..300).contains(&sectors)
            });
            for world in small.take(2) {
                damage_all(&world, &mut total);
            }
        }
        println!("damage: {total:?}");
        assert!(KINDS[..3].iter().all(|kind| total.contains_key(&(*kind, Ending::Told))), "{total:?}");
    }
}
