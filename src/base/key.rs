//! Keys: where something is kept.
//!
//! - A key is (run, space, name). Within one run and one space, names are ordered as bytes.
//! - Numbers in names are big endian, so that their order as bytes is their order as numbers.
//! - Texts inside composite names are written so that none is a prefix of another (see `push_text`); an index on
//!   tag `a` can never match `a__b`.
//! - The slot of a key, and so its shard, depends on the partition key alone, by a hash that never changes.

use serde::{Deserialize, Serialize};

use super::limits::SLOTS;
pub(crate) use super::name::{Name, NameBuffer};
use super::primitive::Primitive;
use super::run_id::RunId;

/// The spaces of a run. The numbers are a disk format: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Space {
    /// key -> value
    Kv,
    /// sequence -> event
    Event,
    /// () -> end of the event log (derived)
    EventHead,
    /// type, sequence -> () (derived)
    EventType,
    /// name -> state, or the count of a deleted one
    State,
    /// trace number -> trace
    Trace,
    /// kind, trace number -> () (derived)
    TraceKind,
    /// tag, trace number -> () (derived)
    TraceTag,
    /// parent's number, trace number -> (); roots have parent 0 (derived)
    TraceChild,
    /// () -> number of traces (derived)
    TraceCount,
    /// () -> metadata of the run
    Run,
    /// In the directory: name -> run id
    RunName,
    /// In the directory: run id -> () (derived)
    RunAll,
    /// In the directory: status, run id -> () (derived)
    RunStatus,
    /// In the directory: tag, run id -> () (derived)
    RunTag,
    /// In the directory: parent's id, run id -> () (derived)
    RunChild,
    /// () -> how much history is kept of the run, if not as the database says
    RunHistory,
    /// key -> JSON document
    Json,
    /// key of a JSON document, segments of a path -> a mark that somebody wrote there (derived)
    JsonPath,
    /// key of a JSON document -> a mark that somebody made or deleted it (derived)
    JsonKey,
}

impl Space {
    /// How many spaces there are.
    pub(crate) const COUNT: usize = 20;

    /// The position in an array of spaces.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Whether it holds entries by which something else is found.
    pub(crate) const fn is_index(self) -> bool {
        matches!(
            self,
            Self::EventType
                | Self::TraceKind
                | Self::TraceTag
                | Self::TraceChild
                | Self::RunAll
                | Self::RunStatus
                | Self::RunTag
                | Self::RunChild
                | Self::JsonPath
                | Self::JsonKey
        )
    }

    /// Whether what it holds follows from what others hold.
    pub(crate) const fn is_derived(self) -> bool {
        self.is_index() || matches!(self, Self::EventHead | Self::TraceCount)
    }

    /// Whether older revisions are kept as the run's retention says. What never changes needs none of that, nor what is
    /// derived.
    pub(crate) const fn keeps_history(self) -> bool {
        matches!(self, Self::Kv | Self::State | Self::Json | Self::Run)
    }

    /// The primitive, as errors name it.
    pub(crate) const fn primitive(self) -> &'static str {
        Primitive::of(self).name()
    }

    /// The name of something in this space as a person would write it.
    pub(crate) fn show(self, name: &[u8]) -> String {
        match self {
            Self::Event | Self::Trace => number_at_end(name).map_or_else(String::new, |number| number.to_string()),
            Self::EventType | Self::TraceKind | Self::TraceTag | Self::RunStatus | Self::RunTag | Self::JsonPath => {
                leading_text(name).unwrap_or_default()
            }
            Self::TraceChild => "the children of a trace".into(),
            Self::RunAll | Self::RunChild => run_at_end(name).map_or_else(String::new, |run| run.to_string()),
            Self::EventHead => "the end of the log".into(),
            Self::TraceCount => "the number of traces".into(),
            Self::Run => "metadata".into(),
            Self::RunHistory => "how much history is kept".into(),
            _ => String::from_utf8_lossy(name).into_owned(),
        }
    }
}

const _: () = assert!(Space::JsonKey.index() + 1 == Space::COUNT, "the count names the last space");

/// A number as a name.
pub(crate) fn number_name(number: u64) -> Name {
    Name::from_slice(&number.to_be_bytes())
}

/// The name of the only thing in its space.
pub(crate) fn unit_name() -> Name {
    Name::new()
}

/// Appends a text to a composite name: every zero byte becomes 0x00 0xff, the end is 0x00 0x00. The order is that of
/// the texts, and no text's form is a prefix of another's.
pub(crate) fn push_text(name: &mut NameBuffer, text: &str) {
    push_bytes(name, text.as_bytes());
}

/// Appends the bytes of a text, which may be none in what was read from a disk.
pub(crate) fn push_bytes(name: &mut NameBuffer, text: &[u8]) {
    for (at, run) in text.split(|byte| *byte == 0).enumerate() {
        if at > 0 {
            name.extend_from_slice(&[0, 0xff]);
        }
        name.extend_from_slice(run);
    }
    name.extend_from_slice(&[0, 0]);
}

/// Reads the text that starts a composite name.
pub(crate) fn leading_text(name: &[u8]) -> Option<String> {
    take_text(&mut name.iter())
}

/// Reads the texts that start a composite name.
pub(crate) fn leading_texts(name: &[u8]) -> Vec<String> {
    let mut rest = name.iter();
    std::iter::from_fn(|| take_text(&mut rest)).collect()
}

fn take_text(rest: &mut std::slice::Iter<'_, u8>) -> Option<String> {
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some(&byte) = rest.next() {
        if byte != 0 {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(0xff) => bytes.push(0),
            Some(0) => return String::from_utf8(bytes).ok(),
            _ => return None,
        }
    }
    None
}

/// A composite name of a text and a number.
pub(crate) fn text_number_name(text: &str, number: u64) -> Name {
    text_name(text, &number.to_be_bytes())
}

/// The start of every composite name that begins with this text.
pub(crate) fn text_prefix(text: &str) -> Name {
    text_name(text, &[])
}

/// A composite name of a text and something that has a fixed length.
pub(crate) fn text_name(text: &str, end: &[u8]) -> Name {
    let mut name = NameBuffer::new();
    push_text(&mut name, text);
    name.extend_from_slice(end);
    Name::from_slice(&name)
}

/// A composite name of two numbers.
pub(crate) fn number_pair_name(first: u64, second: u64) -> Name {
    Name::from_slice(&(u128::from(first) << 64 | u128::from(second)).to_be_bytes())
}

/// The number that ends a name.
pub(crate) fn number_at_end(name: &[u8]) -> Option<u64> {
    let start = name.len().checked_sub(8)?;
    Some(u64::from_be_bytes(name.get(start..)?.try_into().ok()?))
}

/// The run id that ends a name.
pub(crate) fn run_at_end(name: &[u8]) -> Option<RunId> {
    let start = name.len().checked_sub(16)?;
    Some(RunId::from_bytes(name.get(start..)?.try_into().ok()?))
}

/// The smallest name that is greater than every name with this prefix; `None` if there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Name> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = NameBuffer::from_slice(&prefix[..=last]);
    end[last] += 1;
    Some(Name::from_slice(&end))
}

/// The slot of a run.
pub(crate) fn run_slot(run: &RunId) -> u64 {
    partition_hash(run.as_bytes()) % SLOTS
}

/// The slot of a key, where keys of one run are spread.
pub(crate) fn key_slot(run: &RunId, space: Space, name: &[u8]) -> u64 {
    let mut bytes = NameBuffer::from_slice(run.as_bytes());
    bytes.push(space as u8);
    bytes.extend_from_slice(name);
    partition_hash(&bytes) % SLOTS
}

/// The slot of a run's name.
pub(crate) fn name_slot(name: &str) -> u64 {
    partition_hash(name.as_bytes()) % SLOTS
}

/// The hash that spreads partition keys: FNV-1a over the bytes, then the finalizer of `MurmurHash3`. A disk format:
/// never changes.
fn partition_hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_hash_never_changes() {
        assert_eq!(partition_hash(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(run_slot(&RunId::from_bytes([7; 16])), run_slot(&RunId::from_bytes([7; 16])));
    }

    #[test]
    fn no_text_is_a_prefix_of_another() {
        for (a, b) in [("a", "a__b"), ("a", "a\0"), ("a\0", "a\0\0"), ("", "\0")] {
            assert!(!text_prefix(b).starts_with(&text_prefix(a)), "{a:?} {b:?}");
            assert!(text_prefix(a) < text_prefix(b), "{a:?} {b:?}");
        }
        assert_eq!(leading_text(&text_number_name("a\0b", 3)).as_deref(), Some("a\0b"));
    }

    #[test]
    fn names_are_shown_as_a_person_would_write_them() {
        assert_eq!(Space::Kv.show(b"key"), "key");
        assert_eq!(Space::EventType.show(&text_number_name("step", 7)), "step");
        assert_eq!(Space::TraceTag.show(&text_number_name("a__b", 7)), "a__b");
        let run = RunId::from_bytes([7; 16]);
        assert_eq!(Space::RunAll.show(run.as_bytes()), run.to_string());
    }

    #[test]
    fn the_end_of_a_prefix_is_above_all_it_starts() {
        assert_eq!(prefix_end(b"ab").as_deref(), Some(&b"ac"[..]));
        assert_eq!(prefix_end(b"a\xff").as_deref(), Some(&b"b"[..]));
        assert_eq!(prefix_end(b"\xff\xff"), None);
    }
}
