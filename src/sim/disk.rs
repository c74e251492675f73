//! The fake disk: files and their names, the writes of logs that are under way, and what goes wrong.
//!
//! - It is the file system of `disk::directory`, and takes the writes of the shards' logs. A log's write that completed
//!   is durable (`O_DIRECT | O_DSYNC`). Until then any of its sectors may be there.
//! - When power is lost, whatever was not synced is kept or lost, sector by sector and name by name. When the process is
//!   killed, all that is seen stays, still volatile, and its writes may land after the next process has read the disk.
//! - Nothing is ever written twice to the same place of a log, and nothing outside a segment.
//! - The process can die in the middle of a call: then every call fails until the disk is told of the crash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::faults::{Fault, Faults, Operation, Verdict};
use super::file::File;
use super::names::{Inode, Names};
use super::rng::Rng;
use crate::disk::directory::segment_name;
use crate::disk::file_system::FileSystem;
use crate::format::BLOCK;
use crate::format::segment::SegmentId;

/// The chance in 1000 that the late writes of dead processes land before a call.
const LANDS: u64 = 30;

/// A write to a log.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// Names a write under way.
pub(super) type Ticket = u64;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// Power is lost: each sector and name that is not durable is kept with this chance in 1000, or with one of none, half
    /// and all for each write.
    Power(Option<u64>),
    /// It is killed: writes land in part, and later once more.
    Kill,
    /// It is killed, and its writes land later.
    KillLate,
}

/// The disk of one database.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    state: RefCell<State>,
}

#[derive(Clone, Debug)]
struct State {
    rng: Rng,
    names: Names,
    files: BTreeMap<Inode, File>,
    inodes: Inode,
    under_way: BTreeMap<Ticket, (Inode, Write)>,
    /// Writes of a dead process that have not landed yet.
    late: Vec<(Inode, Write)>,
    landed: usize,
    /// Whether they land by chance, or only when asked to.
    lands_by_chance: bool,
    tickets: Ticket,
    faults: Faults,
}

impl Disk {
    pub(super) fn new(rng: Rng) -> Self {
        let state = State {
            rng,
            names: Names::default(),
            files: BTreeMap::new(),
            inodes: 0,
            under_way: BTreeMap::new(),
            late: Vec::new(),
            landed: 0,
            lands_by_chance: true,
            tickets: 0,
            faults: Faults::default(),
        };
        Self { state: RefCell::new(state) }
    }

    /// A copy on which nothing goes wrong but what it is told to.
    pub(super) fn steady_copy(&self) -> Self {
        let copy = self.clone();
        copy.disarm();
        copy.state.borrow_mut().lands_by_chance = false;
        copy
    }

    /// Lets a fault happen behind so many calls.
    pub(super) fn arm(&self, after: u64, fault: Fault) {
        self.state.borrow_mut().faults.arm(after, fault);
    }

    /// The fault does not happen any more. Returns whether it has.
    pub(super) fn disarm(&self) -> bool {
        self.state.borrow_mut().faults.disarm()
    }

    /// Whether the fault that is armed has happened.
    pub(super) fn was_reached(&self) -> bool {
        self.state.borrow().faults.was_reached()
    }

    /// Whether the process has died in a call.
    pub(super) fn is_dead(&self) -> bool {
        self.state.borrow().faults.is_dead()
    }

    /// How many calls there were, those for the writes of logs included.
    pub(super) fn calls(&self) -> u64 {
        self.state.borrow().faults.calls()
    }

    /// All calls so far.
    pub(super) fn log(&self) -> Vec<Operation> {
        self.state.borrow().faults.log().to_vec()
    }

    /// All of a segment as a reader sees it, whatever goes wrong.
    pub(super) fn segment(&self, id: SegmentId) -> Vec<u8> {
        let state = self.state.borrow();
        state.files[&state.names.get(&segment_name(id)).expect("the segment is there")].read()
    }

    /// The segments there are, in order of their names.
    pub(super) fn segments(&self) -> Vec<SegmentId> {
        let state = self.state.borrow();
        state.names.list("log").iter().filter_map(|name| SegmentId::parse(name)).collect()
    }

    /// A planted bug: a segment made of an old one keeps the old one's bytes.
    pub(super) fn recycle(&self, new: SegmentId, old: SegmentId) {
        let left_over = self.segment(old).split_off(BLOCK);
        let mut state = self.state.borrow_mut();
        let file = state.file_mut(&segment_name(new)).expect("the segment was made");
        file.write(BLOCK, &left_over[..left_over.len().min(file.length() - BLOCK)]);
        file.sync();
    }

    /// A write to a log begins.
    pub(super) fn start(&self, write: Write) -> io::Result<Ticket> {
        self.call(Operation::Append, |state| {
            let inode = state.names.get(&segment_name(write.segment)).expect("a write goes to a segment that is there");
            let file = state.files.get_mut(&inode).expect("a name is that of a file");
            let start = usize::try_from(write.offset).unwrap();
            let end = start + write.bytes.len();
            assert!(start.is_multiple_of(BLOCK) && end.is_multiple_of(BLOCK), "writes are aligned: {start}..{end}");
            assert!(start >= file.claimed.max(BLOCK), "nothing is written twice: {start} < {}", file.claimed);
            assert!(end <= file.length(), "a write stays inside its segment: {end} > {}", file.length());
            file.claimed = end;
            state.tickets += 1;
            state.under_way.insert(state.tickets, (inode, write));
            Ok(state.tickets)
        })
    }

    /// Whether a write of a shard is under way.
    pub(super) fn is_writing(&self, shard: u32) -> bool {
        self.state.borrow().under_way.values().any(|(_, write)| write.segment.shard == shard)
    }

    /// The write is complete: every sector is durable, unless it fails.
    pub(super) fn complete(&self, ticket: Ticket) -> io::Result<()> {
        let keep = self.state.borrow().faults.keep();
        self.call(Operation::Appended, |state| {
            state.persist(ticket, 1_000);
            Ok(())
        })
        .inspect_err(|_| {
            if !self.is_dead() {
                self.state.borrow_mut().persist(ticket, keep);
            }
        })
    }

    /// The write failed: each of its sectors is durable with this chance in 1000, or with any.
    pub(super) fn fail(&self, ticket: Ticket, keep: Option<u64>) {
        let mut state = self.state.borrow_mut();
        let keep = keep.unwrap_or_else(|| state.any());
        state.persist(ticket, keep);
    }

    /// The process dies. Returns how many writes were under way.
    pub(super) fn crash(&self, crash: Crash) -> usize {
        let state = &mut *self.state.borrow_mut();
        state.faults.revive();
        let under_way = std::mem::take(&mut state.under_way);
        let count = under_way.len();
        for (inode, write) in under_way.into_values() {
            let (keep, comes_late) = match crash {
                Crash::Power(keep) => (keep.unwrap_or_else(|| state.any()), false),
                Crash::Kill => (state.any(), state.rng.chance(500)),
                Crash::KillLate => (0, true),
            };
            state.land(inode, &write, keep, false);
            if comes_late {
                state.late.push((inode, write));
            }
        }
        if let Crash::Power(keep) = crash {
            state.lose_power(keep);
        }
        count
    }

    /// Writes of dead processes land, whole or in part. Returns how many.
    pub(super) fn land_late_writes(&self) -> usize {
        self.state.borrow_mut().land_late_writes()
    }

    /// How many writes of dead processes have landed.
    pub(super) fn landed(&self) -> usize {
        self.state.borrow().landed
    }

    fn call<T>(&self, operation: Operation, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let state = &mut *self.state.borrow_mut();
        if state.lands_by_chance && !state.late.is_empty() && state.rng.chance(LANDS) {
            state.land_late_writes();
        }
        match state.faults.verdict(operation) {
            Verdict::Go => act(state),
            Verdict::Refuse(error) => Err(error),
            Verdict::RefuseAfter(error) => act(state).and(Err(error)),
        }
    }
}

impl State {
    fn file_mut(&mut self, name: &str) -> io::Result<&mut File> {
        let inode = self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.files.get_mut(&inode).expect("a name is that of a file"))
    }

    /// None, half or all.
    fn any(&mut self) -> u64 {
        *self.rng.pick(&[0, 500, 500, 1_000])
    }

    /// A write has ended, and each of its sectors is durable with this chance.
    fn persist(&mut self, ticket: Ticket, keep: u64) {
        if let Some((inode, write)) = self.under_way.remove(&ticket) {
            self.land(inode, &write, keep, true);
        }
    }

    fn land(&mut self, inode: Inode, write: &Write, keep: u64, is_durable: bool) {
        let Some(file) = self.files.get_mut(&inode) else { return };
        let rng = &mut self.rng;
        let start = usize::try_from(write.offset).unwrap();
        file.write_sectors(start, &write.bytes, is_durable, || keep == 1_000 || rng.chance(keep));
    }

    fn land_late_writes(&mut self) -> usize {
        let late = std::mem::take(&mut self.late);
        for (inode, write) in &late {
            let keep = self.any();
            self.land(*inode, write, keep, false);
        }
        self.landed += late.len();
        late.len()
    }

    fn lose_power(&mut self, keep: Option<u64>) {
        self.late.clear();
        for file in self.files.values_mut() {
            let keep = keep.unwrap_or_else(|| *self.rng.pick(&[0, 500, 500, 1_000]));
            file.lose_power(|| self.rng.chance(keep));
        }
        let keep = keep.unwrap_or_else(|| self.any());
        self.names.lose_power(|| self.rng.chance(keep));
        self.files.retain(|inode, _| self.names.has(*inode));
    }
}

impl FileSystem for &Disk {
    type File = Inode;

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.call(Operation::List, |state| Ok(state.names.list(directory)))
    }

    fn open(&self, file: &str) -> io::Result<Inode> {
        self.call(Operation::Open, |state| state.names.get(file).ok_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn create(&self, file: &str, _: u64) -> io::Result<Inode> {
        self.call(Operation::Create, |state| {
            if let Some(inode) = state.names.get(file) {
                state.files.get_mut(&inode).expect("a name is that of a file").truncate(0);
                return Ok(inode);
            }
            state.inodes += 1;
            state.files.insert(state.inodes, File::default());
            state.names.make(file, state.inodes);
            Ok(state.inodes)
        })
    }

    fn read(&self, file: &Inode) -> io::Result<Vec<u8>> {
        self.call(Operation::Read, |state| Ok(state.files[file].read()))
    }

    fn read_at(&self, file: &Inode, place: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = self.read(file)?;
        bytes.truncate(usize::try_from(place.end).unwrap());
        Ok(bytes.split_off(bytes.len().min(usize::try_from(place.start).unwrap())))
    }

    fn length(&self, file: &Inode) -> io::Result<u64> {
        Ok(self.state.borrow().files[file].length() as u64)
    }

    fn write_at(&self, file: &Inode, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.call(Operation::Write, |state| {
            let file = state.files.get_mut(file).expect("an open file is there");
            assert_eq!(file.claimed, 0, "a log is written by its shard");
            file.write(usize::try_from(offset).unwrap(), bytes);
            Ok(())
        })
    }

    fn write_zeros(&self, file: &Inode, place: Range<u64>) -> io::Result<()> {
        self.call(Operation::WriteZeros, |state| {
            let file = state.files.get_mut(file).expect("an open file is there");
            file.extend(usize::try_from(place.end).unwrap());
            Ok(())
        })
    }

    fn sync(&self, file: &Inode) -> io::Result<()> {
        let result = self.call(Operation::Sync, |state| {
            state.files.get_mut(file).expect("an open file is there").sync();
            Ok(())
        });
        if result.is_err() && !self.is_dead() {
            let state = &mut *self.state.borrow_mut();
            let keep = state.any();
            state.files.get_mut(file).expect("an open file is there").fail_sync(|| state.rng.chance(keep));
        }
        result
    }

    fn truncate(&self, file: &str, bytes: u64) -> io::Result<()> {
        self.call(Operation::Truncate, |state| {
            state.file_mut(file)?.truncate(usize::try_from(bytes).unwrap());
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(Operation::Rename, |state| {
            let claimed = state.file_mut(to).map_or(0, |file| file.claimed);
            assert_eq!(claimed, 0, "a segment in use is never made anew: {to}");
            let inode = state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.rename(from, to, inode);
            Ok(())
        })
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        self.call(Operation::Remove, |state| {
            state.names.get(file).ok_or(io::ErrorKind::NotFound)?;
            state.names.remove(file);
            Ok(())
        })
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.call(Operation::SyncDirectory, |state| {
            state.names.sync(directory);
            Ok(())
        })
    }
}
