//! Snapshot files on the fake disk: what a snapshot is made of is on the device, or the one who makes it is told.

use super::disk::Disk;
use super::rng::Rng;
use crate::base::error::{Error, Result};
use crate::base::key::{Name, Space};
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::value::Value;
use crate::base::version::Version;
use crate::disk::directory::{Directory, snapshot_name};
use crate::disk::snapshots::SnapshotWriter;
use crate::format::BLOCK;
use crate::format::snapshot::{Entry, Held, Kept, Piece, SnapshotHeader, SnapshotId};

const HEADER: SnapshotHeader =
    SnapshotHeader { id: SnapshotId { number: 1, shard: 0 }, database: [5; 16], version: Version::MAX, salt: 9 };

fn write_snapshot(disk: &Disk) -> Result<u64> {
    let directory = Directory::new(disk);
    let mut writer = SnapshotWriter::create(&directory, HEADER)?;
    let held = Some(Held::Stored(Stored::Value(Value::from("x".repeat(BLOCK)).into())));
    let kept = Kept { version: Version::from(3), expires: Version::MAX, held };
    let names = vec![Entry { name: Name::from_slice(b"k"), kept: [kept].into() }];
    writer.push(&directory, &[Piece::Names { run: RunId::from_bytes([7; 16]), space: Space::Kv, names }])?;
    writer.finish(&directory)
}

/// The device says that it has written something, and has not. What was written is in memory still, and would be read
/// back from there.
#[test]
fn a_snapshot_that_a_device_did_not_keep_is_not_taken_for_one() {
    let disk = Disk::new(Rng::new(1)).steady_copy();
    let length = write_snapshot(&disk).expect("the device keeps it");
    assert_eq!(length, disk.bytes(&snapshot_name(HEADER.id)).len() as u64);
    let disk = Disk::new(Rng::new(1)).steady_copy();
    disk.lie();
    let refused = write_snapshot(&disk).expect_err("the device has something else");
    assert!(
        matches!(&refused, Error::Corruption(what) if what.contains(".snap") && what.contains("offset=")),
        "{refused}"
    );
}
