//! What benches share.

mod raw_device;

use std::path::Path;

use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use raw_device::{RawDevice, Way};

/// The floor of `Strict` in the same run and on the same file system.
pub(crate) fn bench_raw_device(group: &mut BenchmarkGroup<'_, WallTime>, directory: &Path) {
    for way in Way::ALL {
        let Ok(mut raw) = RawDevice::open(directory, way) else {
            println!("the file system refuses O_DIRECT: no raw device figure");
            return;
        };
        group.bench_function(way.name(), |bencher| bencher.iter(|| raw.write().expect("the block is written")));
    }
}
