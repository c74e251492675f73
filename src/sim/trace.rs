//! The trace: a hash of every input and effect, in order. The same seed gives the same hash.

use std::fmt::{self, Write};

use sha2::{Digest, Sha256};

use crate::shard::effect::Effect;

/// A hash of everything that happened.
pub(super) struct Trace {
    hash: Sha256,
    lines: u64,
    /// Whether every line is printed too.
    verbose: bool,
}

impl Trace {
    pub(super) fn new(verbose: bool) -> Self {
        Self { hash: Sha256::new(), lines: 0, verbose }
    }

    pub(super) fn note(&mut self, at: u64, what: fmt::Arguments<'_>) {
        self.lines += 1;
        writeln!(Hasher(&mut self.hash), "{at} {what}").unwrap();
        if self.verbose {
            let line = what.to_string();
            println!("{at:>12} {}", line.chars().take(400).collect::<String>());
        }
    }

    pub(super) fn effect(&mut self, at: u64, shard: usize, effect: &Effect) {
        match effect {
            Effect::Append(append) => {
                let crc = crc32c::crc32c(&append.bytes);
                let (segment, offset, length) = (append.segment, append.offset, append.bytes.len());
                self.note(at, format_args!("{shard} -> append {segment}:{offset}+{length} {crc:08x}"));
            }
            effect => self.note(at, format_args!("{shard} -> {effect:?}")),
        }
    }

    pub(super) const fn lines(&self) -> u64 {
        self.lines
    }

    pub(super) fn finish(self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

struct Hasher<'a>(&'a mut Sha256);

impl Write for Hasher<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
