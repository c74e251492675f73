//! See `in_mem::fuzzing::part_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    in_mem::fuzzing::part_head(bytes);
});
