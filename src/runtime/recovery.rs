//! Recovery as the runtime does it: on threads, and with the clock.

use std::sync::mpsc;
use std::time::Instant;

use super::clock::{Clock, RESERVATION};
use super::files::Files;
use crate::base::error::{Error, Result};
use crate::disk::directory::Directory;
use crate::disk::recovery::{Built, Failure, Plan, Recovery, RecoveryReport};
use crate::format::manifest::Manifest;
use crate::store::memory::Memory;

/// How many blocks of a snapshot wait at most to be loaded: reading goes on while the names of a run become a map. What waits
/// is memory of the database already.
const BLOCKS: usize = 512;

/// What recovery hands to the shards.
pub(crate) struct Recovered {
    pub(crate) memories: Vec<Memory>,
    pub(crate) manifest: Manifest,
    pub(crate) clock: Clock,
    pub(crate) report: RecoveryReport,
}

/// Recovers a database, or begins a new one.
///
/// # Errors
/// `Corruption` with file and offset if anything that was durable is damaged; `Io`.
pub(crate) fn recover(directory: &Directory<Files>, plan: Plan) -> Result<Recovered> {
    let _span = tracing::info_span!("recovery", shards = plan.layout.shards).entered();
    let started = Instant::now();
    let mut recovery = Recovery::decide(directory, plan, *uuid::Uuid::new_v4().as_bytes())?;
    let built = loop {
        match build(&recovery, plan.layout.shards) {
            Ok(built) => break built,
            Err(Failure::Snapshot(damage)) => {
                tracing::error!(%damage, "a snapshot cannot be used");
                recovery.fall_back(damage)?;
            }
            Err(Failure::Other(error)) => return Err(error),
        }
    };
    let mut clock = None;
    let start = |last| clock.insert(Clock::start_after(last)).start().after(RESERVATION);
    let (manifest, mut report) = recovery.finish(&built, start)?;
    let Some(clock) = clock else { unreachable!("whoever finishes asks when time starts") };
    if !plan.read_only {
        clock.reserve(manifest.clock_reserved);
    }
    report.duration = started.elapsed();
    tracing::info!(records = report.records, torn = report.torn_tails, took = ?report.duration, "recovered");
    let memories = built.into_iter().map(|shard| shard.memory).collect();
    Ok(Recovered { memories, manifest, clock, report })
}

/// Builds all shards at once.
fn build(recovery: &Recovery<'_, Files>, shards: usize) -> Result<Vec<Built>, Failure> {
    std::thread::scope(|scope| {
        let build = |shard| recovery.build_shard(shard, || load_snapshot(recovery, shard));
        let builders: Vec<_> = (0..shards).map(|shard| scope.spawn(move || build(shard))).collect();
        let join = |builder: std::thread::ScopedJoinHandle<'_, Result<Built, Failure>>| {
            let panicked = || Error::Unavailable("recovery of a shard panicked".into());
            builder.join().unwrap_or_else(|_| Err(panicked().into()))
        };
        builders.into_iter().map(join).collect()
    })
}

/// Reads the snapshot of a shard on a thread of its own, while what was read is loaded.
fn load_snapshot(recovery: &Recovery<'_, Files>, shard: usize) -> Result<Memory, Failure> {
    std::thread::scope(|scope| {
        let (sender, blocks) = mpsc::sync_channel(BLOCKS);
        scope.spawn(move || recovery.read_snapshot(shard).try_for_each(|block| sender.send(block)));
        recovery.load_snapshot(shard, blocks)
    })
}
