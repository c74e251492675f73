//! What benches share.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;

const BLOCK: usize = 4096;

/// The floor of `Strict` in the same run: one aligned block made durable (`O_DIRECT | O_DSYNC`) on a pre-zeroed file of
/// the same file system.
pub(crate) fn bench_raw_device(group: &mut BenchmarkGroup<'_, WallTime>, directory: &Path) {
    const BLOCKS: u64 = 4096;
    let path = directory.join("raw");
    let zeros = File::create(&path).expect("the file is made");
    for block in 0..BLOCKS {
        zeros.write_all_at(&[0; BLOCK], block * BLOCK as u64).expect("zeros are written");
    }
    zeros.sync_all().expect("zeros are durable");
    let flags = libc::O_DIRECT | libc::O_DSYNC;
    let Ok(raw) = OpenOptions::new().write(true).custom_flags(flags).open(&path) else {
        println!("the file system refuses O_DIRECT: no raw device figure");
        return;
    };
    let buffer = vec![1; 2 * BLOCK];
    let aligned = buffer.as_ptr().align_offset(BLOCK);
    let mut block = 0;
    group.bench_function("raw device", |bencher| {
        bencher.iter(|| {
            raw.write_all_at(&buffer[aligned..aligned + BLOCK], block * BLOCK as u64).expect("the block is written");
            block = (block + 1) % BLOCKS;
        });
    });
}
