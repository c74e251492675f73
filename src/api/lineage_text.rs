//! Lineage text: what led to a value, to be read.
//!
//! - One line for each read, indented below what it led to: primitive, key, path, version, and why it ends there. The run is
//!   named where it is another one.

use std::fmt;

use super::lineage::{Lineage, Origin, Read};
use crate::base::run_id::RunId;

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} @{} run={}", self.primitive, self.key.escape_debug(), self.version, self.run)?;
        write_reads(f, &self.reads, self.is_truncated, self.run, 1)
    }
}

fn write_reads(
    f: &mut fmt::Formatter<'_>,
    reads: &[Read],
    is_truncated: bool,
    run: RunId,
    depth: usize,
) -> fmt::Result {
    for read in reads {
        write!(f, "\n{:indent$}{} {}", "", read.primitive, read.key.escape_debug(), indent = 2 * depth)?;
        if let Some(path) = read.path.as_ref().filter(|path| !path.is_empty()) {
            write!(f, " {}", path.escape_debug())?;
        }
        if let Some(version) = read.version {
            write!(f, " @{version}")?;
        }
        if read.run != run {
            write!(f, " run={}", read.run)?;
        }
        match &read.origin {
            Origin::Commit { reads, is_truncated } => write_reads(f, reads, *is_truncated, read.run, depth + 1)?,
            Origin::Repeated => f.write_str(": see elsewhere")?,
            Origin::Further => f.write_str(": further back")?,
            Origin::Unknown => f.write_str(": not known")?,
            Origin::Scan => f.write_str(": scan")?,
            Origin::Nothing => f.write_str(": nothing")?,
        }
    }
    if is_truncated { write!(f, "\n{:indent$}and more", "", indent = 2 * depth) } else { Ok(()) }
}
