//! Decoders, given arbitrary bytes, damaged bytes, and whole ones: no panic, no deep recursion, no memory by a length
//! that only claims to be one; whole ones are accepted.

mod mutation;
mod sample;

use super::rng::Rng;
use super::seeds::{self, caught};
use crate::base::value::Value;
use crate::format::manifest::Manifest;
use crate::format::record;
use crate::fuzzing;

/// Memory that decoding may take for every byte of the input. A map of one entry is three bytes in the binary form, and
/// a whole node of a B-tree in memory.
const DECODING: u64 = 256;
/// The same for a target, which writes and reads again what it has decoded, and holds up to six copies at a time.
const TARGET: u64 = 6 * DECODING;
/// Memory for whatever does not depend on the input: error texts, tables, one block.
const MEMORY: u64 = 64 << 10;

/// Inputs for every seed: one of arbitrary bytes, one whole, the others damaged.
const INPUTS: u64 = 10;

#[derive(Debug, Default)]
struct Total {
    inputs: u64,
    accepted: u64,
    /// The most memory that was in use at a time, for every byte of an input of some size.
    memory_per_byte: u64,
}

type Sample = fn(&mut Rng) -> Vec<u8>;

/// A target of `fuzzing`, which accepts the samples.
fn check(test: &str, target: fn(&[u8]) -> bool, sample: Sample, count: u64) {
    for seed in 0..count {
        let bytes = sample(&mut Rng::new(seed));
        assert!(target(&bytes), "seed {seed}: refused what is whole: {}", bytes.escape_ascii());
    }
    run(test, target, TARGET, sample, count);
}

fn run(test: &str, target: fn(&[u8]) -> bool, memory: u64, sample: Sample, count: u64) {
    let mut total = Total::default();
    seeds::run_seeds(&format!("decoders::{test}"), count, |seed, verbose| {
        let mut rng = Rng::new(seed);
        for input in 0..INPUTS {
            let bytes = match input {
                0 => mutation::arbitrary(&mut rng),
                1 => sample(&mut rng),
                _ => {
                    let (mut bytes, other) = (sample(&mut rng), sample(&mut rng));
                    mutation::damage(&mut rng, &mut bytes, &other);
                    bytes
                }
            };
            if verbose {
                println!("input {input}: {}", bytes.escape_ascii());
            }
            caught(|| measured(target, memory, &bytes, &mut total))?;
        }
        Ok(())
    });
    println!("{test}: {total:?}");
}

fn measured(target: fn(&[u8]) -> bool, limit: u64, bytes: &[u8], total: &mut Total) {
    let mut accepted = false;
    let memory = allocation_counter::measure(|| accepted = target(bytes)).bytes_max;
    let length = bytes.len() as u64;
    assert!(memory <= limit * length + MEMORY, "{length} bytes took {memory} bytes of memory");
    total.inputs += 1;
    total.accepted += u64::from(accepted);
    if length >= 64 {
        total.memory_per_byte = total.memory_per_byte.max(memory / length);
    }
}

#[test]
fn records() {
    check("records", fuzzing::record, sample::record, 200);
}

#[test]
fn commit_bodies() {
    check("commit_bodies", fuzzing::commit_body, sample::commit_body, 300);
}

#[test]
fn part_heads() {
    check("part_heads", fuzzing::part_head, sample::part_body, 100);
}

#[test]
fn segment_headers() {
    check("segment_headers", fuzzing::segment_header, sample::segment_header, 100);
}

#[test]
fn manifests() {
    check("manifests", fuzzing::manifest, sample::manifest, 200);
}

#[test]
fn snapshots() {
    check("snapshots", fuzzing::snapshot, sample::snapshot, 200);
}

#[test]
fn segments() {
    check("segments", fuzzing::segment, sample::segment, 100);
}

/// Sound records that contradict each other and themselves: what is in them was not written by a shard.
#[test]
fn forged_segments() {
    run("forged_segments", fuzzing::segment, TARGET, sample::forged_segment, 150);
}

#[test]
fn values() {
    check("values", fuzzing::value, sample::value, 300);
}

#[test]
fn memory_of_decoding_alone() {
    let body = |bytes: &[u8]| record::decode_body(bytes).is_ok();
    run("memory_of_decoding_alone", body, DECODING, sample::commit_body, 300);
    let value = |bytes: &[u8]| postcard::from_bytes::<Value>(bytes).is_ok();
    run("memory_of_decoding_alone", value, DECODING, sample::value, 300);
    let manifest = |bytes: &[u8]| Manifest::read(bytes).is_ok();
    run("memory_of_decoding_alone", manifest, DECODING, sample::manifest, 100);
}

/// Arrays in arrays, each of which claims as many items as there are bytes left.
#[test]
fn claims_of_nested_arrays() {
    for levels in 0..140 {
        let bytes = [&[7, 127].repeat(levels)[..], &[0; 127]].concat();
        let decode = |bytes: &[u8]| postcard::from_bytes::<Value>(bytes).is_ok();
        measured(decode, DECODING, &bytes, &mut Total::default());
    }
}

#[test]
fn json() {
    check("json", fuzzing::json, sample::json, 300);
}

#[test]
fn texts() {
    check("texts", fuzzing::text, sample::text, 200);
}

#[test]
fn names() {
    check("names", fuzzing::name, sample::name, 100);
}
