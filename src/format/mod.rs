//! Layer 1: bytes. Records, segments and the manifest, as `docs/FORMAT.md` draws them.
//!
//! - Integers are little endian. Fixed headers are zerocopy structs; bodies are postcard.
//! - Whatever is read from disk may be anything: a decoder returns an error, it never panics and never allocates by
//!   an unchecked length.

pub(crate) mod manifest;
pub(crate) mod record;
pub(crate) mod rescue;
pub(crate) mod scan;
pub(crate) mod segment;
pub(crate) mod snapshot;

/// The version of the whole on-disk format.
pub(crate) const FORMAT_VERSION: u32 = 3;
/// The unit of writing: every batch starts and ends on a multiple of it.
pub(crate) const BLOCK: usize = 4096;

/// Rounds up to a whole number of blocks.
pub(crate) const fn round_up_to_block(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK) * BLOCK
}

/// CRC-32C that starts from a salt: bytes of another life of a file, or of another file, fail it.
pub(crate) fn seeded_checksum(bytes: &[u8], salt: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}
