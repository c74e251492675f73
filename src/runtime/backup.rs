//! Backup: a consistent copy of a running database, as a database of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::files::Files;
use super::snapshotting::Occasion;
use crate::base::error::Result;
use crate::base::kill_point::{KillPoint, kill_point};
use crate::base::version::Version;
use crate::disk::directory::Directory;
use crate::disk::snapshotting::Taken;
use crate::format::manifest::{Manifest, SnapshotRecord};
use crate::format::record::Position;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Everything that was committed at or below this version is in it, and nothing else.
    pub version: Version,
    /// How many keys it holds, those of indexes included.
    pub keys: u64,
    /// How many bytes its files take.
    pub bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Copies what is committed now into a new directory; blocks while it does.
///
/// # Errors
/// See `Database::backup`.
pub(crate) fn backup(engine: &Engine, path: &Path) -> Result<BackupReport> {
    let _span = tracing::info_span!("backup", to = %path.display()).entered();
    let started = Instant::now();
    let directory = Directory::new(Files::open_new(path)?);
    kill_point(KillPoint::BackupBegun);
    let layout = engine.setup().layout;
    let shards = u32::try_from(layout.shards).unwrap_or(u32::MAX);
    let manifest = Manifest::new(*uuid::Uuid::new_v4().as_bytes(), 1, shards, layout.partitioning);
    let Some(Taken { record, .. }) = engine.snapshotter().take(&directory, &manifest, 1, Occasion::Size)? else {
        unreachable!("nothing keeps a backup from being taken")
    };
    let (version, keys, bytes) = (record.version, record.keys, record.bytes);
    // There is no log behind it.
    let durable = vec![Position::START; layout.shards];
    let record = SnapshotRecord { log_from: vec![0; layout.shards], durable, ..record };
    kill_point(KillPoint::BackupCopied);
    directory.write_manifest(&Manifest {
        clock_reserved: version,
        closed: true,
        snapshots: vec![record],
        last_snapshot: 1,
        is_cut: true,
        ..manifest
    })?;
    let duration = started.elapsed();
    tracing::info!(%version, keys, bytes, took = ?duration, "backed up");
    Ok(BackupReport { version, keys, bytes, duration })
}
