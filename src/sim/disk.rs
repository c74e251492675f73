//! The fake disk: segments in sectors of 512 bytes, a manifest, and writes under way.
//!
//! - A write that completed is durable (`O_DIRECT | O_DSYNC`). Until then it is volatile: a crash keeps each of its
//!   sectors or loses it, and some writes of a killed process land only after the next one has read the disk.
//! - Nothing is ever written twice to the same place, and nothing outside a segment.

use std::collections::{BTreeMap, BTreeSet};

use super::rng::Rng;
use crate::format::BLOCK;
use crate::format::segment::{SegmentHeader, SegmentId};

pub(super) const SECTOR: usize = 512;

/// The durable image of a segment: its bytes up to the last one ever written; zeros follow to its capacity.
#[derive(Clone, Debug)]
struct File {
    capacity: usize,
    bytes: Vec<u8>,
    /// Everything below was given to a write once.
    claimed: usize,
}

/// A write that was started and has not completed.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// Names a write under way.
pub(super) type Ticket = u64;

/// The disk of one database.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    files: BTreeMap<SegmentId, File>,
    manifest: Option<Vec<u8>>,
    under_way: BTreeMap<Ticket, Write>,
    /// Writes of a dead process that have not landed yet.
    late: Vec<Write>,
    tickets: Ticket,
}

impl Disk {
    pub(super) fn manifest(&self) -> Option<&[u8]> {
        self.manifest.as_deref()
    }

    /// Replaces the manifest: rename is atomic and the directory is synced.
    pub(super) fn write_manifest(&mut self, bytes: Vec<u8>) {
        self.manifest = Some(bytes);
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = SegmentId> {
        self.files.keys().copied()
    }

    /// Makes a segment, in place of an unused one of the same name.
    pub(super) fn create(&mut self, header: &SegmentHeader) {
        if let Some(old) = self.files.get(&header.id) {
            assert_eq!(old.claimed, BLOCK, "a segment in use is never made anew: {:?}", header.id);
        }
        let capacity = usize::try_from(header.capacity).unwrap();
        self.files.insert(header.id, File { capacity, bytes: header.to_block(), claimed: BLOCK });
    }

    /// A planted bug: a segment made of an old one without writing zeros. The old one's salt is kept.
    pub(super) fn recycle(&mut self, header: &SegmentHeader, old: SegmentId) {
        let stale = self.files[&old].bytes[BLOCK..].to_vec();
        self.create(header);
        self.files.get_mut(&header.id).unwrap().bytes.extend(stale);
    }

    /// The whole of a segment as a new process reads it. Zeros behind the last written byte are cut short.
    pub(super) fn read(&self, segment: SegmentId) -> Vec<u8> {
        let file = &self.files[&segment];
        let length = file.capacity.min(file.bytes.len().next_multiple_of(BLOCK) + 2 * BLOCK);
        let mut bytes = vec![0; length];
        bytes[..file.bytes.len()].copy_from_slice(&file.bytes);
        bytes
    }

    /// The first block of a segment.
    pub(super) fn read_header(&self, segment: SegmentId) -> &[u8] {
        &self.files[&segment].bytes[..BLOCK]
    }

    pub(super) fn remove(&mut self, segment: SegmentId) {
        self.files.remove(&segment).unwrap();
    }

    /// Cuts off what lies behind the end of a finished segment.
    pub(super) fn trim(&mut self, segment: SegmentId, end: u64) {
        let file = self.files.get_mut(&segment).unwrap();
        file.capacity = usize::try_from(end).unwrap();
        file.bytes.truncate(file.capacity);
    }

    pub(super) fn start(&mut self, write: Write) -> Ticket {
        let file = self.files.get_mut(&write.segment).expect("a write goes to a segment that is there");
        let start = usize::try_from(write.offset).unwrap();
        let end = start + write.bytes.len();
        assert!(start.is_multiple_of(BLOCK) && end.is_multiple_of(BLOCK), "writes are aligned: {start}..{end}");
        assert!(start >= file.claimed, "nothing is written twice: {start} < {}", file.claimed);
        assert!(end <= file.capacity, "a write stays inside its segment: {end} > {}", file.capacity);
        file.claimed = end;
        self.tickets += 1;
        self.under_way.insert(self.tickets, write);
        self.tickets
    }

    /// Whether a write of a shard is under way.
    pub(super) fn is_writing(&self, shard: u32) -> bool {
        self.under_way.values().any(|write| write.segment.shard == shard)
    }

    /// The write is complete: every sector is durable.
    pub(super) fn complete(&mut self, ticket: Ticket) {
        let write = self.under_way.remove(&ticket).unwrap();
        self.persist(&write, |_| true);
    }

    /// The write failed: any of its sectors may be durable.
    pub(super) fn fail(&mut self, ticket: Ticket, rng: &mut Rng) {
        let write = self.under_way.remove(&ticket).unwrap();
        self.tear(&write, rng);
    }

    /// The write failed: each of its sectors is durable with this probability.
    pub(super) fn fail_keeping(&mut self, ticket: Ticket, keep: u64, rng: &mut Rng) {
        let write = self.under_way.remove(&ticket).unwrap();
        self.tear_keeping(&write, keep, rng);
    }

    /// A planted bug: the write is forgotten.
    pub(super) fn drop_write(&mut self, ticket: Ticket) {
        self.under_way.remove(&ticket).unwrap();
    }

    /// The process dies. Returns how many writes were under way.
    pub(super) fn crash(&mut self, rng: &mut Rng) -> usize {
        self.late.clear();
        let under_way = std::mem::take(&mut self.under_way);
        for write in under_way.values() {
            if rng.chance(250) {
                self.late.push(write.clone());
            } else {
                self.tear(write, rng);
            }
        }
        under_way.len()
    }

    /// The process dies: each sector under way is durable with this probability, or lands later.
    pub(super) fn crash_keeping(&mut self, keep: Option<u64>, rng: &mut Rng) -> usize {
        self.late.clear();
        let under_way = std::mem::take(&mut self.under_way);
        for write in under_way.values() {
            match keep {
                Some(keep) => self.tear_keeping(write, keep, rng),
                None => self.late.push(write.clone()),
            }
        }
        under_way.len()
    }

    /// Writes of the dead process land, whole or in part.
    pub(super) fn land_late_writes(&mut self, rng: &mut Rng) -> usize {
        let late = std::mem::take(&mut self.late);
        for write in &late {
            self.tear(write, rng);
        }
        late.len()
    }

    /// Keeps each sector with a probability of 0, a half or 1.
    fn tear(&mut self, write: &Write, rng: &mut Rng) {
        let keep = *rng.pick(&[0, 500, 500, 1000]);
        self.tear_keeping(write, keep, rng);
    }

    fn tear_keeping(&mut self, write: &Write, keep: u64, rng: &mut Rng) {
        let sectors = write.bytes.len() / SECTOR;
        let kept: BTreeSet<usize> = (0..sectors).filter(|_| rng.chance(keep)).collect();
        self.persist(write, |sector| kept.contains(&sector));
    }

    fn persist(&mut self, write: &Write, keeps: impl Fn(usize) -> bool) {
        // Removed or trimmed since: the bytes go nowhere.
        let Some(file) = self.files.get_mut(&write.segment) else { return };
        let start = usize::try_from(write.offset).unwrap();
        for (sector, bytes) in write.bytes.chunks(SECTOR).enumerate().filter(|(sector, _)| keeps(*sector)) {
            let at = start + sector * SECTOR;
            if at + SECTOR > file.capacity {
                return;
            }
            while file.bytes.len() < at + SECTOR {
                file.bytes.extend_from_slice(&[0; SECTOR]);
            }
            file.bytes[at..at + SECTOR].copy_from_slice(bytes);
        }
    }
}
