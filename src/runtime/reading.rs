//! Opening to read: alone, or beside the process that writes.
//!
//! - Files may be replaced while they are read, and a write is seen before it is whole. What then looks damaged or is missing is
//!   looked at again, a bounded number of times, from the manifest on.
//! - Nothing is locked when this has ended: what was read is in memory.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::files::{Files, nothing_to_read};
use super::recovery::{Recovered, recover};
use crate::base::error::{Error, Result};
use crate::base::options::HistoryPolicy;
use crate::disk::directory::Directory;
use crate::disk::recovery::Plan;
use crate::format::manifest::Manifest;
use crate::shard::route::Layout;

/// How often it begins again.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Reads a database, in its own layout if none is given. Returns that layout too.
///
/// # Errors
/// `Locked` if it is replaced faster than it can be read; `Corruption` with file and offset; `InvalidOperation` if there is no
/// database; `Io`.
pub(super) fn read(path: &Path, layout: Option<Layout>, history: HistoryPolicy) -> Result<(Layout, Recovered)> {
    let mut attempt = 1;
    loop {
        let (files, writer) = Files::open_to_read(path)?;
        let result = read_once(path, &Directory::new(files), layout, history, writer.clone());
        match (result, writer) {
            (Err(error), Some(_)) if attempt < ATTEMPTS && may_pass(&error) => std::thread::sleep(PAUSE),
            (Err(Error::Io(error)), Some(writer)) if error.kind() == ErrorKind::NotFound => {
                let holder = format!("{writer}, which replaces files faster than they are read here ({error})");
                return Err(Error::Locked { path: path.to_owned(), holder });
            }
            (result, _) => return result,
        }
        attempt += 1;
    }
}

fn read_once(
    path: &Path,
    directory: &Directory<Files>,
    layout: Option<Layout>,
    history: HistoryPolicy,
    writer: Option<String>,
) -> Result<(Layout, Recovered)> {
    let Some(Manifest { shards, partitioning, .. }) = directory.read_manifest()? else {
        return Err(nothing_to_read(path));
    };
    let layout = layout.unwrap_or(Layout { shards: shards as usize, partitioning });
    let plan = Plan { layout, history, read_only: true, beside: writer.is_some() };
    let mut recovered = recover(directory, plan)?;
    recovered.report.writer = writer;
    Ok((layout, recovered))
}

/// Whether the process that writes may have been about to change what was found.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Corruption(_) => true,
        Error::Io(error) => error.kind() == ErrorKind::NotFound,
        _ => false,
    }
}
