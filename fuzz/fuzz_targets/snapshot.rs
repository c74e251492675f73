//! See `in_mem::fuzzing::snapshot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    in_mem::fuzzing::snapshot(bytes);
});
