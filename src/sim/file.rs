//! A file of the fake disk: what a reader sees, and what would be left of it after a power cut.
//!
//! - Sectors of 512 bytes are written whole or not at all; the sectors of one write have nothing to do with each other.
//! - A write is volatile until a sync. What a failed sync did not write is clean from then on, and no later sync writes
//!   it.

use std::collections::BTreeMap;

use crate::format::BLOCK;

pub(super) const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

/// What is in a file.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    length: usize,
    durable_length: usize,
    /// Up to the last byte ever written; zeros follow to the length.
    bytes: Vec<u8>,
    /// What the device holds of sectors that a reader sees otherwise.
    dirty: BTreeMap<usize, Sector>,
    /// The same, of sectors that a failed sync did not write.
    forgotten: BTreeMap<usize, Sector>,
    /// Everything below was given to a write of a log once.
    pub(super) claimed: usize,
}

impl File {
    /// A file with these bytes, all of them durable.
    pub(super) fn holding(bytes: &[u8], length: usize) -> Self {
        let length = length.max(bytes.len());
        Self { length, durable_length: length, bytes: bytes.to_vec(), ..Self::default() }
    }

    pub(super) const fn length(&self) -> usize {
        self.length
    }

    /// What a reader sees. The zeros at the end are cut short, so that recoveries take less time.
    pub(super) fn read(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(self.length.min(self.bytes.len().next_multiple_of(BLOCK) + 2 * BLOCK), 0);
        bytes
    }

    /// A write that makes the file longer if it must.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.length = self.length.max(offset + bytes.len());
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
            let mut sector = self.sector(at / SECTOR);
            sector[at % SECTOR..at % SECTOR + part.len()].copy_from_slice(part);
            self.put(at / SECTOR, &sector, false);
            (at, rest) = (at + part.len(), behind);
        }
    }

    /// Zeros behind everything that was written.
    pub(super) fn extend(&mut self, length: usize) {
        self.length = self.length.max(length);
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.length = length;
        for sector in length.div_ceil(SECTOR)..self.bytes.len().div_ceil(SECTOR) {
            self.put(sector, &[0; SECTOR], false);
        }
        if length < self.bytes.len() {
            self.bytes.truncate(length);
        }
    }

    /// Changes a sector for readers, and on the device if it is durable.
    pub(super) fn put(&mut self, sector: usize, bytes: &Sector, is_durable: bool) {
        let before = self.sector(sector);
        let on_device = self.dirty.remove(&sector).or_else(|| self.forgotten.remove(&sector)).unwrap_or(before);
        if !is_durable {
            self.dirty.insert(sector, on_device);
        }
        self.set(sector, bytes);
    }

    /// Changes what the device holds where no sync is needed, as long as the file is long enough.
    pub(super) fn write_sectors(
        &mut self,
        start: usize,
        bytes: &[u8],
        is_durable: bool,
        mut keeps: impl FnMut() -> bool,
    ) {
        let end = (start + bytes.len()).min(self.length);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        for (number, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let at = start / SECTOR + number;
            let sector: &Sector = sector.try_into().expect("chunks are sectors");
            if keeps() && (at + 1) * SECTOR <= self.length {
                self.put(at, sector, is_durable);
            }
        }
    }

    pub(super) fn sync(&mut self) {
        self.dirty.clear();
        self.durable_length = self.length;
    }

    /// A sync that fails: some of it is written, and the rest never.
    pub(super) fn fail_sync(&mut self, mut keeps: impl FnMut() -> bool) {
        for (sector, on_device) in std::mem::take(&mut self.dirty) {
            if !keeps() {
                self.forgotten.insert(sector, on_device);
            }
        }
        if keeps() {
            self.durable_length = self.length;
        }
    }

    /// What a failed sync did not write is read from the device again.
    pub(super) fn drop_cache(&mut self) {
        for (sector, on_device) in std::mem::take(&mut self.forgotten) {
            self.set(sector, &on_device);
        }
    }

    /// Power is lost: of what was not synced, any part is there.
    pub(super) fn lose_power(&mut self, mut keeps: impl FnMut() -> bool) {
        let dirty = std::mem::take(&mut self.dirty).into_iter().filter(|_| !keeps());
        let lost: Vec<(usize, Sector)> = dirty.chain(std::mem::take(&mut self.forgotten)).collect();
        for (sector, on_device) in lost {
            self.set(sector, &on_device);
        }
        if self.length != self.durable_length && !keeps() {
            self.length = self.durable_length;
        }
        self.durable_length = self.length;
        self.bytes.truncate(self.length);
    }

    fn sector(&self, number: usize) -> Sector {
        let mut sector = [0; SECTOR];
        let there = self.bytes.get(number * SECTOR..).unwrap_or_default();
        let length = there.len().min(SECTOR);
        sector[..length].copy_from_slice(&there[..length]);
        sector
    }

    fn set(&mut self, number: usize, bytes: &Sector) {
        let end = (number + 1) * SECTOR;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[end - SECTOR..end].copy_from_slice(bytes);
    }
}
