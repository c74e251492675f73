//! Settling, as stories: what a recovery decides from can not be taken from it any more.
//!
//! - Each story is a batch that nobody was told of, what a dead process left of it or of its segment, and a power cut
//!   behind the recovery that saw it. Whatever that recovery decided, the next one opens and finds the same.

use super::disk::{Crash, Disk, Lands, Write};
use super::faults::{Fault, Operation, When};
use super::recovery::{DATABASE, Recovered, recover, revisions};
use super::rng::Rng;
use crate::base::error::Result;
use crate::base::options::{HistoryRetention, Partitioning};
use crate::base::planted::{Bug, plant};
use crate::base::run_id::RunId;
use crate::base::stored::{self, Stored};
use crate::base::value::Value;
use crate::base::version::Version;
use crate::disk::directory::Directory;
use crate::disk::recovery::Plan;
use crate::format::record::{self, CommitBody, Position, RecordHeader, TransactionId};
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::format::{BLOCK, round_up_to_block};
use crate::shard::route::Layout;

const SEGMENT: SegmentId = SegmentId { incarnation: 1, shard: 0, index: 0 };
const SALT: u64 = 5;

fn open(disk: &Disk) -> Result<Recovered> {
    let layout = Layout { shards: 1, partitioning: Partitioning::ByRun };
    let plan = Plan { layout, history: HistoryRetention::Forever.into(), read_only: false, beside: false };
    recover(disk, plan, Version::next)
}

/// A database that is open for the first time, and its segment.
fn stage(seed: u64) -> Disk {
    let disk = Disk::new(Rng::new(seed)).steady_copy();
    open(&disk).expect("a new database opens");
    create_segment(&disk).expect("the segment is made");
    disk
}

fn create_segment(disk: &Disk) -> Result<()> {
    let header = SegmentHeader { id: SEGMENT, database: DATABASE, salt: SALT, capacity: 1 << 20, strict: true };
    Directory::new(disk).create_segment(&header)
}

/// A batch of two blocks is being written when the process is killed.
fn write_and_die(disk: &Disk) {
    let place = Position::new(0, BLOCK as u64);
    let stored = Stored::Value(Value::from("x".repeat(BLOCK)).into());
    let put = stored::Write::Put {
        run: RunId::from_bytes([7; 16]),
        space: crate::base::key::Space::Kv,
        name: crate::base::key::Name::from_slice(b"k"),
        stored,
        expires: None,
    };
    let mut bytes = Vec::new();
    let header = RecordHeader::commit(Version::from(100), TransactionId::default());
    record::stage(&mut bytes, header, &CommitBody::of(vec![put])).expect("it can be encoded");
    record::seal(&mut bytes, place, Position::START, SALT);
    bytes.resize(round_up_to_block(bytes.len()), 0);
    disk.start(Write { segment: SEGMENT, offset: BLOCK as u64, bytes }).expect("it begins");
    disk.crash(Crash::KillLate);
}

/// Power is lost: what the last recovery found is there.
fn assert_kept(disk: &Disk, found: &Recovered) {
    disk.crash(Crash::Power(Some(0)));
    let again = open(disk).unwrap_or_else(|error| panic!("refused to open: {error}"));
    assert_eq!(revisions(&found.memories), revisions(&again.memories));
}

/// A process was killed between the rename of a new segment and the sync of its directory. The next one saw the name and
/// listed it, a power cut took it, and the database did not open any more.
fn a_segment_that_was_being_made_may_lose_its_name() {
    for calls in 0..6 {
        let disk = Disk::new(Rng::new(1)).steady_copy();
        open(&disk).expect("a new database opens");
        disk.arm(When::Call(calls), Fault::Die { is_after: true });
        create_segment(&disk).expect_err("the process dies");
        disk.disarm();
        disk.crash(Crash::Kill);
        let found = open(&disk).expect("it opens");
        assert_kept(&disk, &found);
    }
}

/// A write of a killed process landed when its segment had been synced and not read yet. It was read and counted, a power
/// cut took it from the cache of the device, and the database did not open any more.
fn a_write_may_land_between_any_two_calls_of_a_recovery() {
    for seed in 0..20 {
        for calls in 0..30 {
            let disk = stage(seed);
            write_and_die(&disk);
            disk.land(Lands::Before(disk.calls() + calls));
            let found = open(&disk).expect("it opens");
            disk.land_late_writes();
            assert_kept(&disk, &found);
        }
    }
}

/// The sync of a segment failed, and with it the opening. The next one saw what was still in memory of the file, a sync
/// of it had nothing to do, and a power cut took what was never written.
fn what_a_failed_sync_left_in_memory_is_not_there() {
    for seed in 0..40 {
        let disk = stage(seed);
        write_and_die(&disk);
        disk.land_late_writes();
        let error = std::io::ErrorKind::Other;
        let fault = Fault::Fail { error, is_after: false, is_for_ever: false, keep: 0 };
        disk.arm(When::Operation(Operation::Sync, 0), fault);
        open(&disk).expect_err("the sync fails");
        disk.disarm();
        let found = open(&disk).expect("it opens");
        assert_kept(&disk, &found);
    }
}

/// A story is fine, and not with the bug.
fn assert_told(story: fn(), bug: Bug) {
    story();
    plant(Some(bug));
    let caught = std::panic::catch_unwind(story);
    plant(None);
    assert!(caught.is_err(), "{bug:?} is not noticed");
}

#[test]
fn names_of_segments_are_synced_before_they_are_listed() {
    assert_told(a_segment_that_was_being_made_may_lose_its_name, Bug::NamesNotSettled);
}

#[test]
fn segments_are_synced_behind_the_reading() {
    assert_told(a_write_may_land_between_any_two_calls_of_a_recovery, Bug::NotSettled);
}

#[test]
fn segments_are_read_from_the_device() {
    assert_told(what_a_failed_sync_left_in_memory_is_not_there, Bug::CacheBelieved);
}
