//! See `in_mem::fuzzing::segment_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    in_mem::fuzzing::segment_header(bytes);
});
