//! See `in_mem::fuzzing::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    in_mem::fuzzing::manifest(bytes);
});
