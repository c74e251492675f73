//! See `in_mem::fuzzing::commit_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    in_mem::fuzzing::commit_body(bytes);
});
