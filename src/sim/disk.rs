//! The fake disk: files and their names, the writes of logs that are under way, and what goes wrong.
//!
//! - It is the file system of `disk::directory`, and takes the writes of the shards' logs. A log's write that completed
//!   is durable (`O_DIRECT | O_DSYNC`). Until then any of its sectors may be there.
//! - When power is lost, whatever was not synced is kept or lost, sector by sector and name by name. When the process is
//!   killed, all that is seen stays, still volatile, and its writes may land after the next process has read the disk.
//! - Nothing is ever written twice to the same place of a log, and nothing outside a segment.
//! - The process can die in the middle of a call: then every call fails until the disk is told of the crash.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::faults::{Fault, Faults, How, Operation, Site, Verdict, When};
use super::file::{File, SECTOR};
use super::names::{Inode, Names};
use super::rng::Rng;
use crate::disk::directory::{MANIFEST, segment_name};
use crate::disk::file_system::FileSystem;
use crate::format::BLOCK;
use crate::format::manifest::Manifest;
use crate::format::segment::SegmentId;

/// The chance in 1000 that the late writes of dead processes land before a call.
const LANDS: u64 = 100;

/// A write to a log.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// Names a write under way.
pub(super) type Ticket = u64;

/// A write that was started and has not completed; the device has taken what is in front of `from`.
#[derive(Clone, Debug)]
struct UnderWay {
    inode: Inode,
    write: Write,
    from: usize,
}

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

/// When the late writes of dead processes land.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lands {
    ByChance,
    WhenAsked,
    /// Before the call with this number.
    Before(u64),
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
    under_way: BTreeMap<Ticket, UnderWay>,
    /// Writes of a dead process that have not landed yet.
    late: Vec<(Inode, Write)>,
    landed: usize,
    lands: Lands,
    tickets: Ticket,
    faults: Faults,
    /// What is synced is only said to be on the device.
    lies: bool,
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
            lands: Lands::ByChance,
            tickets: 0,
            faults: Faults::default(),
            lies: false,
        };
        Self { state: RefCell::new(state) }
    }

    /// A copy on which nothing goes wrong but what it is told to.
    pub(super) fn steady_copy(&self) -> Self {
        let copy = self.clone();
        copy.disarm();
        copy.land(Lands::WhenAsked);
        copy
    }

    /// Says when the late writes of dead processes land.
    pub(super) fn land(&self, lands: Lands) {
        self.state.borrow_mut().lands = lands;
    }

    /// Lets a fault happen at one of the next calls.
    pub(super) fn arm(&self, when: When, fault: Fault) {
        self.state.borrow_mut().faults.arm(when, fault);
    }

    /// From now on the device says that it has written what is synced, and has not.
    pub(super) fn lie(&self) {
        self.state.borrow_mut().lies = true;
    }

    /// Whether a fault may still come, or has come and goes on.
    pub(super) fn is_armed(&self) -> bool {
        self.state.borrow().faults.is_armed()
    }

    /// Whether everything fails from now on.
    pub(super) fn fails_for_ever(&self) -> bool {
        self.state.borrow().faults.fails_for_ever()
    }

    /// What has gone wrong so far.
    pub(super) fn hits(&self) -> BTreeSet<Site> {
        self.state.borrow().faults.hits().clone()
    }

    /// Notes something that goes wrong with the writes of logs.
    pub(super) fn hit(&self, how: How) {
        self.state.borrow_mut().faults.hit(Operation::Appended, how);
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
        self.state.borrow().faults.calls().len() as u64
    }

    /// All calls so far.
    pub(super) fn log(&self) -> Vec<Operation> {
        self.state.borrow().faults.calls().to_vec()
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
            state.under_way.insert(state.tickets, UnderWay { inode, write, from: 0 });
            Ok(state.tickets)
        })
    }

    /// Whether a write of a shard is under way.
    pub(super) fn is_writing(&self, shard: u32) -> bool {
        self.state.borrow().under_way.values().any(|under_way| under_way.write.segment.shard == shard)
    }

    /// The write, or the rest of it, is complete: every sector is durable, unless it fails. Returns how many bytes the
    /// device took; a short write took any number less than it was given.
    pub(super) fn complete(&self, ticket: Ticket, is_short: bool) -> io::Result<usize> {
        let keep = self.state.borrow().faults.keep();
        let completed = self.call(Operation::Appended, |state| Ok(state.complete(ticket, is_short)));
        if completed.is_err() && !self.is_dead() {
            self.state.borrow_mut().persist(ticket, keep);
        }
        completed
    }

    /// A planted bug: the write is complete, and in the cache of the device.
    pub(super) fn complete_in_cache(&self, ticket: Ticket) {
        let mut state = self.state.borrow_mut();
        if let Some(UnderWay { inode, write, .. }) = state.under_way.remove(&ticket) {
            state.land(inode, &write, 0, 1_000, false);
        }
    }

    /// Where the batch of a short write goes on.
    pub(super) fn go_on(&self, ticket: Ticket, from: usize) {
        self.state.borrow_mut().under_way.get_mut(&ticket).expect("the write is under way").from = from;
    }

    /// How much of a segment was given to writes.
    pub(super) fn claimed(&self, id: SegmentId) -> usize {
        let mut state = self.state.borrow_mut();
        state.file_mut(&segment_name(id)).map_or(0, |file| file.claimed.max(BLOCK))
    }

    /// The segments of earlier openings that the manifest lists.
    pub(super) fn sealed(&self) -> Vec<SegmentId> {
        let manifest = Manifest::read(&self.bytes(MANIFEST)).expect("the manifest is whole");
        manifest.sealed.iter().map(|segment| segment.id).collect()
    }

    /// Those, and the segments of the opening that wrote it.
    pub(super) fn listed(&self) -> Vec<SegmentId> {
        let manifest = Manifest::read(&self.bytes(MANIFEST)).expect("the manifest is whole");
        self.sealed().into_iter().chain(manifest.own_segments()).collect()
    }

    /// How long a segment is.
    pub(super) fn length(&self, id: SegmentId) -> usize {
        self.state.borrow_mut().file_mut(&segment_name(id)).map_or(0, |file| file.length())
    }

    /// The names of all whole files that are not empty.
    pub(super) fn names(&self) -> Vec<String> {
        let state = self.state.borrow();
        let all = ["", "log"].iter().flat_map(|directory| {
            let path = move |name| if directory.is_empty() { name } else { format!("{directory}/{name}") };
            state.names.list(directory).into_iter().map(path)
        });
        let is_whole = |name: &String| name == MANIFEST || name.rsplit('/').next().and_then(SegmentId::parse).is_some();
        all.filter(is_whole)
            .filter(|name| state.names.get(name).is_some_and(|it| state.files[&it].length() > 0))
            .collect()
    }

    /// What is in a file.
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        self.state.borrow_mut().file_mut(name).expect("the file is there").read()
    }

    /// Damage: something else is in a file, which is as long as before.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state.borrow_mut();
        let file = state.file_mut(name).expect("the file is there");
        *file = File::holding(bytes, file.length());
    }

    /// Damage: a file is shorter.
    pub(super) fn cut_off(&self, name: &str, bytes: &[u8]) {
        *self.state.borrow_mut().file_mut(name).expect("the file is there") = File::holding(bytes, 0);
    }

    /// Damage: a file is gone.
    pub(super) fn erase(&self, name: &str) {
        let mut state = self.state.borrow_mut();
        state.names.remove(name);
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
        for UnderWay { inode, write, from } in under_way.into_values() {
            let how = if let Crash::Power(_) = crash { How::Torn } else { How::LandsLate };
            state.faults.hit(Operation::Appended, how);
            let (keep, comes_late) = match crash {
                Crash::Power(keep) => (keep.unwrap_or_else(|| state.any()), false),
                Crash::Kill => (state.any(), state.rng.chance(500)),
                Crash::KillLate => (0, true),
            };
            state.land(inode, &write, from, keep, false);
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
        self.state.borrow_mut().land_late_writes(|_| true)
    }

    /// How many writes of dead processes have landed.
    pub(super) fn landed(&self) -> usize {
        self.state.borrow().landed
    }

    fn call<T>(&self, operation: Operation, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let state = &mut *self.state.borrow_mut();
        let lands = match state.lands {
            Lands::ByChance => !state.late.is_empty() && state.rng.chance(LANDS),
            Lands::Before(call) => state.faults.calls().len() as u64 == call,
            Lands::WhenAsked => false,
        };
        if lands {
            state.land_late_writes(|_| true);
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
        if let Some(UnderWay { inode, write, from }) = self.under_way.remove(&ticket) {
            self.land(inode, &write, from, keep, true);
        }
    }

    fn complete(&mut self, ticket: Ticket, is_short: bool) -> usize {
        let UnderWay { inode, write, from } = self.under_way[&ticket].clone();
        let rest = write.bytes.len() - from;
        if !is_short {
            self.persist(ticket, 1_000);
            return rest;
        }
        self.faults.hit(Operation::Appended, How::Short);
        let taken = self.rng.index(rest / SECTOR) * SECTOR;
        let bytes = write.bytes[..from + taken].to_vec();
        self.land(inode, &Write { bytes, ..write }, from, 1_000, true);
        taken
    }

    fn land(&mut self, inode: Inode, write: &Write, from: usize, keep: u64, is_durable: bool) {
        let Some(file) = self.files.get_mut(&inode) else { return };
        let rng = &mut self.rng;
        let start = usize::try_from(write.offset).unwrap() + from;
        file.write_sectors(start, &write.bytes[from..], is_durable, || keep == 1_000 || rng.chance(keep));
    }

    fn land_late_writes(&mut self, is_meant: impl Fn(Inode) -> bool) -> usize {
        let all = std::mem::take(&mut self.late).into_iter();
        let (late, later): (Vec<_>, Vec<_>) = all.partition(|(inode, _)| is_meant(*inode));
        self.late = later;
        for (inode, write) in &late {
            let keep = if matches!(self.lands, Lands::WhenAsked) { 1_000 } else { self.any() };
            self.land(*inode, write, 0, keep, false);
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

    fn drop_cache(&self, file: &Inode) {
        let mut state = self.state.borrow_mut();
        if let Some(file) = state.files.get_mut(file) {
            file.drop_cache();
        }
    }

    fn read(&self, file: &Inode) -> io::Result<Vec<u8>> {
        self.call(Operation::Read, |state| Ok(state.files[file].read()))
    }

    fn read_at(&self, file: &Inode, place: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = self.read(file)?;
        bytes.truncate(usize::try_from(place.end).unwrap());
        Ok(bytes.split_off(bytes.len().min(usize::try_from(place.start).unwrap())))
    }

    /// Nothing of a dead process is under way to the file any more.
    fn fence(&self, file: &str) -> io::Result<()> {
        self.call(Operation::Fence, |state| {
            let inode = state.names.get(file).ok_or(io::ErrorKind::NotFound)?;
            state.land_late_writes(|late| late == inode);
            Ok(())
        })
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
            let file = state.files.get_mut(file).expect("an open file is there");
            if state.lies {
                file.fail_sync(|| false);
            } else {
                file.sync();
            }
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
