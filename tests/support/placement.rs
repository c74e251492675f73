//! Placement: which shard owns a run or a key, by the partition hash of `docs/FORMAT.md`, written down a second time.
//!
//! - With `Partitioning::ByKey`, what is hashed for a key-value pair is the run's 16 bytes, a zero byte and the key.

use in_mem::prelude::*;

const SLOTS: u64 = 4096;
/// The number of the space of key-value pairs.
const KV: u8 = 0;

fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn shard(bytes: impl IntoIterator<Item = u8>, shards: usize) -> usize {
    usize::try_from(hash(bytes) % SLOTS).expect("a slot is small") % shards
}

/// The home of a run.
pub fn shard_of_run(run: RunId, shards: usize) -> usize {
    shard(run.as_bytes().iter().copied(), shards)
}

/// The shard of a run's name.
pub fn shard_of_name(name: &str, shards: usize) -> usize {
    shard(name.bytes(), shards)
}

/// The shard of a key-value pair, if keys are spread.
pub fn shard_of_key(run: RunId, key: &str, shards: usize) -> usize {
    shard(run.as_bytes().iter().copied().chain([KV]).chain(key.bytes()), shards)
}

/// A new run whose home is this shard.
pub fn run_on(home: usize, shards: usize) -> RunId {
    std::iter::repeat_with(RunId::new).find(|run| shard_of_run(*run, shards) == home).expect("some run falls there")
}

/// A name that starts with `start` and belongs to this shard.
pub fn name_on(start: &str, home: usize, shards: usize) -> String {
    let names = (0..).map(|number| format!("{start}-{number}"));
    names.into_iter().find(|name| shard_of_name(name, shards) == home).expect("some name falls there")
}

/// A key that starts with `start` and belongs to this shard, if keys are spread.
pub fn key_on(run: RunId, start: &str, home: usize, shards: usize) -> String {
    let keys = (0..).map(|number| format!("{start}-{number}"));
    keys.into_iter().find(|key| shard_of_key(run, key, shards) == home).expect("some key falls there")
}
