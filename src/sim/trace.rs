//! The trace: every input and effect, in order. The same seed gives the same one. It takes longer to tell than to simulate:
//! it is told only to whoever asks.

use std::fmt::{self, Write};

use sha2::{Digest, Sha256};

use crate::shard::effect::Effect;

/// How many bytes of a line count.
const LINE: usize = 2_000;

/// Everything that happened: counted at least.
#[derive(Default)]
pub(super) struct Trace {
    lines: u64,
    hash: Option<Sha256>,
    is_printed: bool,
}

impl Trace {
    pub(super) fn hashed() -> Self {
        Self { hash: Some(Sha256::new()), ..Self::default() }
    }

    pub(super) fn printed(is_printed: bool) -> Self {
        Self { is_printed, ..Self::default() }
    }

    pub(super) fn note(&mut self, at: u64, what: fmt::Arguments<'_>) {
        self.lines += 1;
        if let Some(hash) = &mut self.hash {
            // An error says that the line was long enough.
            let _ = writeln!(Hasher { hash, left: LINE }, "{at} {what}");
        }
        if self.is_printed {
            let line = what.to_string();
            println!("{at:>12} {}", line.chars().take(600).collect::<String>());
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
        format!("{:x}", self.hash.expect("it is hashed").finalize())
    }
}

struct Hasher<'a> {
    hash: &'a mut Sha256,
    left: usize,
}

impl Write for Hasher<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.hash.update(&text.as_bytes()[..text.len().min(self.left)]);
        self.left = self.left.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}
