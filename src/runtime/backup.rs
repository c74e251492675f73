//! Backup: a consistent copy of a running database, as a database of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{Call, Progress};
use super::engine::Engine;
use super::files::Files;
use crate::base::error::{Error, Result};
use crate::base::kill_point::{KillPoint, kill_point};
use crate::base::version::Version;
use crate::disk::directory::Directory;
use crate::disk::snapshots::SnapshotWriter;
use crate::format::manifest::{Manifest, SnapshotRecord};
use crate::format::snapshot::{Piece, SnapshotHeader, SnapshotId};
use crate::primitive::output::{Output, Reply};
use crate::shard::input::Request;

/// How long to wait for transactions that are being committed.
const DOUBT: Duration = Duration::from_secs(30);

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
pub(crate) fn backup(engine: &Arc<Engine>, path: &Path) -> Result<BackupReport> {
    let started = Instant::now();
    let directory = Directory::new(Files::open_new(path)?);
    kill_point(KillPoint::BackupBegun);
    let version = begin(engine)?;
    let report = copy(engine, &directory, version);
    if report.is_err() {
        // Nothing is kept any longer for a copy that nobody makes.
        (0..engine.shards()).for_each(|shard| engine.tell(shard, Request::EndDump { at: version }));
    }
    let report = BackupReport { duration: started.elapsed(), ..report? };
    tracing::info!(%version, keys = report.keys, bytes = report.bytes, took = ?report.duration, "backed up");
    Ok(report)
}

fn copy(engine: &Arc<Engine>, directory: &Directory<Files>, version: Version) -> Result<BackupReport> {
    let layout = engine.setup().layout;
    let database = *uuid::Uuid::new_v4().as_bytes();
    let shards = u32::try_from(layout.shards).unwrap_or(u32::MAX);
    let mut report = BackupReport { version, keys: 0, bytes: 0, duration: Duration::ZERO };
    for shard in 0..shards {
        let id = SnapshotId { number: 1, shard };
        let salt = uuid::Uuid::new_v4().as_u64_pair().0;
        let mut writer = SnapshotWriter::create(directory, SnapshotHeader { id, database, version, salt })?;
        while let Some(pieces) = next_pieces(engine, shard as usize, version)? {
            report.keys += pieces.iter().map(keys).sum::<u64>();
            writer.push(&pieces)?;
        }
        report.bytes += writer.finish()?;
    }
    kill_point(KillPoint::BackupCopied);
    directory.write_manifest(&Manifest {
        clock_reserved: version,
        closed: true,
        snapshots: vec![SnapshotRecord {
            number: 1,
            version,
            shards,
            partitioning: layout.partitioning,
            incarnation: 1,
            log_from: vec![0; layout.shards],
        }],
        ..Manifest::new(database, 1, shards, layout.partitioning)
    })?;
    Ok(report)
}

/// Chooses a version, and begins a dump at it on every shard: from then on, each keeps what is visible there.
fn begin(engine: &Arc<Engine>) -> Result<Version> {
    let progress = Arc::new(Progress::new(engine.next_transaction()));
    let transaction = progress.number();
    let begun = ask(Call::begin(engine.clone(), 0, progress, None));
    let version = begun?.snapshot.unwrap_or_default();
    let keep = |shard: usize| ask(engine.request(shard, Request::BeginDump { at: version })).map(drop);
    let all = (0..engine.shards()).try_for_each(keep);
    engine.tell(0, Request::Abort { transaction });
    if all.is_err() {
        (0..engine.shards()).for_each(|shard| engine.tell(shard, Request::EndDump { at: version }));
    }
    all.map(|()| version)
}

fn next_pieces(engine: &Arc<Engine>, shard: usize, at: Version) -> Result<Option<Vec<Piece>>> {
    let started = Instant::now();
    loop {
        match ask(engine.request(shard, Request::Dump { at }))?.output {
            Output::Pieces(Some(pieces)) if pieces.is_empty() => {
                if started.elapsed() > DOUBT {
                    return Err(Error::Timeout(DOUBT));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Output::Pieces(pieces) => return Ok(pieces),
            other => unreachable!("the shard answered another question: {other:?}"),
        }
    }
}

fn ask(call: Call) -> Result<Reply> {
    futures::executor::block_on(call)
}

fn keys(piece: &Piece) -> u64 {
    match piece {
        Piece::Run { .. } => 0,
        Piece::Names { names, .. } => names.len() as u64,
    }
}
