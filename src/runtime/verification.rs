//! Verification of a running database: its files, then the hash chain of every event log.

use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;

use super::engine::Engine;
use super::files::Files;
use super::keeper::Task;
use crate::base::error::{Error, Result};
use crate::disk::directory::Directory;
use crate::disk::verification::{Verification, VerifyProblem, VerifyReport, files_of};
use crate::format::manifest::Manifest;
use crate::format::record::Position;
use crate::primitive::command::{Command, EventCommand};
use crate::primitive::output::Output;
use crate::shard::input::Request;

/// Checks everything; blocks while it does.
///
/// # Errors
/// See `Database::verify`.
pub(crate) fn verify(engine: &Arc<Engine>) -> Result<VerifyReport> {
    let mut report = match &engine.setup().path {
        Some(path) => verify_files(engine, path)?,
        None => VerifyReport::default(),
    };
    verify_event_logs(engine, &mut report)?;
    let problems = report.problems.len();
    tracing::info!(segments = report.segments, event_logs = report.event_logs, problems, "verified");
    Ok(report)
}

fn verify_files(engine: &Arc<Engine>, path: &Path) -> Result<VerifyReport> {
    // First how far the logs are durable: the manifest lists a segment before anything is written to it.
    let durable = (0..engine.shards()).map(|shard| durable(engine, shard)).collect::<Result<Vec<Position>>>()?;
    let manifest = manifest(engine)?;
    let directory = Directory::new(Files::beside(path));
    let mut verification = Verification::new(&directory, &manifest, durable);
    for file in files_of(&manifest) {
        if engine.health().is_closed() {
            return Err(engine.gone());
        }
        verification.check(file);
    }
    // Beside a database that was opened to read it, another process may write.
    let on_disk = if engine.setup().read_only { directory.read_manifest().ok().flatten() } else { None };
    match on_disk.filter(|on_disk| on_disk.database == manifest.database) {
        Some(by_now) => Ok(verification.finish(&by_now)),
        None => Ok(verification.finish(&self::manifest(engine)?)),
    }
}

fn durable(engine: &Arc<Engine>, shard: usize) -> Result<Position> {
    match block_on(engine.request(shard, Request::AskDurable))?.output {
        Output::Position(position) => Ok(position),
        other => unreachable!("a shard says how far its log is durable, not {other:?}"),
    }
}

fn manifest(engine: &Engine) -> Result<Manifest> {
    let manifest = block_on(engine.ask_keeper(|done| Task::CopyManifest { done }))?;
    manifest.ok_or_else(|| Error::Unavailable("the database is closed".into()))
}

fn verify_event_logs(engine: &Arc<Engine>, report: &mut VerifyReport) -> Result<()> {
    for shard in 0..engine.shards() {
        let runs = match block_on(engine.request(shard, Request::ListEventLogs))?.output {
            Output::RunIds(runs) => runs,
            other => unreachable!("a shard says which event logs there are, not {other:?}"),
        };
        for run in runs {
            let chain = match block_on(engine.command(run, Command::Event(EventCommand::Verify)))?.output {
                Output::Chain(chain) => *chain,
                other => unreachable!("a chain is verified with {other:?}"),
            };
            report.event_logs += 1;
            if !chain.is_valid {
                let sequence = chain.first_invalid.unwrap_or(chain.length);
                let what = chain.error.unwrap_or_default();
                report.problems.push(VerifyProblem::EventLog { run, sequence, what });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::Event;
    use crate::base::key::{Space, number_name};
    use crate::base::options::{Driver, DurabilityMode, HistoryRetention, Partitioning, SnapshotConfig};
    use crate::base::run_id::RunId;
    use crate::base::stored::{Stored, Write};
    use crate::base::version::Version;
    use crate::disk::log_writer::LogWriter;
    use crate::runtime::open::{OpenOptions, open};

    const RUN: RunId = RunId::from_bytes([1; 16]);

    /// Every checksum on disk holds, and an event has another hash than its own.
    #[test]
    fn an_event_with_a_wrong_hash_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("database");
        let directory = Directory::new(Files::open_new(&path).unwrap());
        let mut writer = LogWriter::new(&directory, [3; 16], || 7);
        let mut prev_hash = [0; 32];
        for sequence in 0..4 {
            let (event_type, payload) = ("kind".into(), 1.into());
            let mut event = Event { sequence, event_type, payload, timestamp: 5, prev_hash, hash: [0; 32] };
            event.hash = event.compute_hash();
            event.hash[7] ^= u8::from(sequence == 2);
            prev_hash = event.hash;
            let put = Write::Put {
                run: RUN,
                space: Space::Event,
                name: number_name(sequence),
                stored: Stored::Event(Arc::new(event)),
                expires: None,
            };
            writer.push(Version::from(sequence + 1), &[put], None).unwrap();
        }
        writer.finish().unwrap();
        drop(directory);
        let options = OpenOptions {
            path: Some(path),
            mode: DurabilityMode::Strict,
            shards: Some(2),
            partitioning: Partitioning::ByRun,
            driver: Driver::Auto,
            pin_cores: None,
            spin: None,
            history: HistoryRetention::Off,
            history_of_ended_runs: None,
            lineage: false,
            read_only: true,
            memory_limit: None,
            snapshots: SnapshotConfig::default(),
        };
        let engine = Arc::new(open(&options).unwrap());
        let report = verify(&engine).unwrap();
        assert_eq!((report.event_logs, report.records > 0), (1, true));
        let [VerifyProblem::EventLog { run: RUN, sequence: 2, what }] = &report.problems[..] else {
            panic!("{report:?}")
        };
        assert!(what.contains("hash"), "{what}");
        block_on(engine.close()).unwrap();
    }
}
