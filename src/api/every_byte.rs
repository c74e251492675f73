//! Every byte of a small database, for tests: its files are cut off at every length, every byte of them is flipped, and
//! each time recovery reads what is left.
//!
//! - The files are those that running shards have written: as a process leaves them that dies while nothing is under
//!   way (a copy), as a close leaves them, as a backup and what was written to it leave them, and with
//!   two snapshots, where damage to the newer changes nothing.
//! - What is recovered is held against the state after each commit, which is kept in plain maps.
//! - Recovery is called as opening calls it, without the threads of the shards; `tests/suite/corruption.rs` opens a sample.
//! - `SIM_RUNS=n` flips n bits of every byte that something was written to, cuts at n times as many lengths, and looks
//!   at n times as many of the zeros behind. Of snapshots, every byte and every length behind the header is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::builder::DatabaseBuilder;
use super::database::Database;
use crate::base::error::Error;
use crate::base::key::Space;
use crate::base::options::{DurabilityMode, HistoryRetention, Partitioning};
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::version::Version;
use crate::disk::directory::{Directory, LOG, SNAPSHOTS};
use crate::disk::recovery::Plan;
use crate::format::BLOCK;
use crate::format::record::Position;
use crate::format::scan::scan_segment;
use crate::format::segment::SegmentHeader;
use crate::runtime::files::Files;
use crate::runtime::recovery::recover;
use crate::shard::route::Layout;

const SHARDS: usize = 2;
/// Which share of the zeros is looked at, unless told otherwise: every so manieth.
const ZEROS: usize = 61;
/// Which share of the lengths is cut at.
const CUTS: usize = 5;
/// A flush comes when it is asked for.
const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 3_600_000, max_pending_writes: 1 << 20 };

/// What is live: every pair and every event, by its place.
type State = BTreeMap<String, String>;

/// What one commit changes.
struct Change {
    shards: BTreeSet<usize>,
    sets: Vec<(String, String)>,
    removes: Vec<String>,
}

/// The files of a database, and what is in them.
struct Image {
    directory: TempDir,
    is_strict: bool,
    is_closed: bool,
    changes: Vec<Change>,
    whole: State,
}

/// What recovery made of damage.
#[derive(Debug, Default)]
struct Outcomes {
    openings: u64,
    refused: u64,
    /// Nothing was lost.
    whole: u64,
    /// The end of a log was taken for a torn tail.
    shorter: u64,
}

/// A directory in memory, if the machine has one: recovery syncs what it reads.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from.join("MANIFEST"), to.join("MANIFEST")).unwrap();
    for directory in [LOG, SNAPSHOTS] {
        fs::create_dir_all(to.join(directory)).unwrap();
        for file in files_in(from, directory) {
            fs::copy(&file, to.join(directory).join(file.file_name().unwrap())).unwrap();
        }
    }
}

fn files_in(path: &Path, directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(path.join(directory)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A run whose home is the shard.
fn run_on(database: &Database, shard: usize) -> RunId {
    (1..=255).map(|byte| RunId::from_bytes([byte; 16])).find(|run| database.shard_of(run) == shard).unwrap()
}

/// Commits on one shard and on both, one after the other, and three together, which share a batch.
async fn fill(database: &Database) -> Vec<Change> {
    let runs = [run_on(database, 0), run_on(database, 1)];
    let mut changes = Vec::new();
    let pair = |shard: usize, key: &str, value: i64| (format!("{} {key}", runs[shard]), value.to_string());
    let on = |shard: usize, sets: Vec<_>, removes: Vec<_>| Change { shards: [shard].into(), sets, removes };
    for round in 0..2_i64 {
        for (shard, run) in runs.into_iter().enumerate() {
            database.kv().put(run, "key", round).await.unwrap();
            changes.push(on(shard, vec![pair(shard, "key", round)], vec![]));
            database.flush().await.unwrap();
        }
        let both = database.transaction_across(runs, async |txn| {
            for run in runs {
                txn.run(run).kv().put("both", round).await?;
            }
            Ok(())
        });
        both.await.unwrap();
        let sets = vec![pair(0, "both", round), pair(1, "both", round)];
        changes.push(Change { shards: [0, 1].into(), sets, removes: vec![] });
        database.flush().await.unwrap();
        database.events().append(runs[1], "step", round).await.unwrap();
        changes.push(on(1, vec![(format!("{} {round}", runs[1]), round.to_string())], vec![]));
        let names = ["a", "b", "c"];
        futures::future::join_all(names.map(|name| database.kv().put(runs[0], name, round))).await;
        changes.extend(names.map(|name| on(0, vec![pair(0, name, round)], vec![])));
        database.flush().await.unwrap();
    }
    database.kv().delete(runs[0], "key").await.unwrap();
    changes.push(on(0, vec![], vec![pair(0, "key", 0).0]));
    database.flush().await.unwrap();
    changes
}

/// Makes the segments of an image as small as they can be, as if they had been made so: recovery reads them whole.
fn shrink(path: &Path) {
    for file in files_in(path, LOG) {
        let bytes = fs::read(&file).unwrap();
        let mut header = SegmentHeader::read(&bytes).unwrap();
        let end = scan_segment(&bytes, &header, None, |_, _, _| {}).end;
        header.capacity = end + 2 * BLOCK as u64;
        let file = OpenOptions::new().write(true).open(&file).unwrap();
        file.write_all_at(&header.to_block(), 0).unwrap();
        file.set_len(header.capacity).unwrap();
    }
}

fn image(is_strict: bool, is_closed: bool) -> Image {
    let written = directory();
    let directory = directory();
    let mode = if is_strict { DurabilityMode::Strict } else { BUFFERED };
    let changes = futures::executor::block_on(async {
        let database = DatabaseBuilder::new().path(written.path()).durability(mode).shards(SHARDS).await.unwrap();
        let changes = fill(&database).await;
        if is_closed {
            database.close().await.unwrap();
        }
        copy(written.path(), directory.path());
        changes
    });
    if !is_closed {
        shrink(directory.path());
    }
    // Recovery for reading only makes no lock file, and takes none without.
    File::create(directory.path().join("LOCK")).unwrap();
    let whole = state(&changes, |_| true);
    Image { directory, is_strict, is_closed, changes, whole }
}

/// A backup that was opened, filled once more and closed: snapshots and logs.
fn image_of_a_backup() -> Image {
    let (written, directory) = (directory(), directory());
    let (from, to) = (written.path().join("from"), written.path().join("to"));
    let changes = futures::executor::block_on(async {
        let database = DatabaseBuilder::new().path(&from).shards(SHARDS).await.unwrap();
        let mut changes = fill(&database).await;
        database.backup(&to).await.unwrap();
        let copy = DatabaseBuilder::new().path(&to).shards(SHARDS).await.unwrap();
        for shard in 0..SHARDS {
            let run = run_on(&copy, shard);
            copy.kv().put(run, "later", 1).await.unwrap();
            let sets = vec![(format!("{run} later"), "1".into())];
            changes.push(Change { shards: [shard].into(), sets, removes: vec![] });
        }
        copy.close().await.unwrap();
        changes
    });
    copy(&to, directory.path());
    File::create(directory.path().join("LOCK")).unwrap();
    let whole = state(&changes, |_| true);
    Image { directory, is_strict: true, is_closed: true, changes, whole }
}

/// A database with two snapshots, the log behind the older, and a bit more, closed: damage to the newer is made up for.
fn image_of_checkpoints() -> Image {
    let (written, directory) = (directory(), directory());
    let changes = futures::executor::block_on(async {
        let database = DatabaseBuilder::new().path(written.path()).shards(SHARDS).await.unwrap();
        let mut changes = fill(&database).await;
        for round in 0..4 {
            for shard in 0..SHARDS {
                let run = run_on(&database, shard);
                database.kv().put(run, "later", round).await.unwrap();
                let sets = vec![(format!("{run} later"), round.to_string())];
                changes.push(Change { shards: [shard].into(), sets, removes: vec![] });
            }
            if round < 3 {
                database.checkpoint().await.unwrap();
            }
        }
        database.close().await.unwrap();
        changes
    });
    copy(written.path(), directory.path());
    File::create(directory.path().join("LOCK")).unwrap();
    let whole = state(&changes, |_| true);
    Image { directory, is_strict: true, is_closed: true, changes, whole }
}

/// The state after the commits of which `counts` says that they count.
fn state(changes: &[Change], counts: impl Fn(usize) -> bool) -> State {
    let mut state = State::new();
    for (_, change) in changes.iter().enumerate().filter(|(at, _)| counts(*at)) {
        state.extend(change.sets.iter().cloned());
        for key in &change.removes {
            state.remove(key);
        }
    }
    state
}

impl Image {
    /// Recovers, as opening for reading does.
    fn open(&self) -> Result<State, Error> {
        let directory = Directory::new(Files::open_to_read(self.directory.path())?.0);
        let layout = Layout { shards: SHARDS, partitioning: Partitioning::ByRun };
        let plan = Plan { layout, history: HistoryRetention::Off.into(), read_only: true, beside: false };
        let recovered = recover(&directory, plan)?;
        let mut state = State::new();
        for memory in &recovered.memories {
            for ((run, space, name), stored) in memory.dump(Version::MAX.previous()) {
                let (name, value) = match &stored {
                    Stored::Value(value) => (space.show(&name), value.to_value().to_string()),
                    Stored::Event(event) => (space.show(&name), event.payload.to_string()),
                    _ => {
                        assert!(matches!(space, Space::EventHead | Space::EventType), "{space:?} {stored:?}");
                        continue;
                    }
                };
                state.insert(format!("{run} {name}"), value);
            }
        }
        Ok(state)
    }

    /// What is left if the last commits on a shard are taken for a torn tail: in `Strict` mode they are gone, with all
    /// their parts, and nothing else.
    fn without_last(&self, shard: usize, commits: usize) -> State {
        let on_shard = self.changes.iter().enumerate().filter(|(_, change)| change.shards.contains(&shard));
        let gone: Vec<usize> = on_shard.map(|(at, _)| at).collect();
        let gone = &gone[gone.len() - commits..];
        state(&self.changes, |at| !gone.contains(&at))
    }

    /// Opens, and counts what came of it. Damage is refused with its place, unless nothing or only what `may_be_lost`
    /// says is lost.
    fn look(&self, file: &Path, what: &str, may_be_lost: &[State], outcomes: &mut Outcomes) {
        outcomes.openings += 1;
        match self.open() {
            Ok(state) if state == self.whole => outcomes.whole += 1,
            Ok(state) => {
                assert!(may_be_lost.contains(&state), "{what}: commits are lost or wrong: {state:#?}");
                outcomes.shorter += 1;
            }
            Err(error) => {
                let message = error.to_string();
                assert!(matches!(error, Error::Corruption(_)), "{what}: {message}");
                let name = file.file_name().and_then(|name| name.to_str()).unwrap();
                assert!(message.contains(name) && message.contains("offset="), "{what}: {message}");
                outcomes.refused += 1;
            }
        }
    }

    /// The files whose damage matters.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = files_in(self.directory.path(), LOG);
        files.push(self.directory.path().join("MANIFEST"));
        files.extend(files_in(self.directory.path(), SNAPSHOTS));
        files
    }
}

/// How thoroughly, as the environment says.
fn runs() -> usize {
    std::env::var("SIM_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(1)
}

/// The places that are looked at: a share of those where something is written and around it, and of the zeros.
fn places(bytes: &[u8], written: usize, zeros: usize) -> Vec<usize> {
    let is_near = |at: usize| bytes[at.saturating_sub(1)..bytes.len().min(at + 2)].iter().any(|byte| *byte != 0);
    let is_looked_at = |at: &usize| {
        let share = if is_near(*at) { written } else { zeros };
        at.is_multiple_of((share / runs()).max(1))
    };
    (0..bytes.len()).filter(is_looked_at).collect()
}

/// The same of a file: behind the header of a snapshot, all of them, or in a debug build some.
fn places_of(file: &Path, bytes: &[u8], written: usize) -> Vec<usize> {
    if file.extension().is_none_or(|extension| extension != "snap") {
        return places(bytes, written, ZEROS);
    }
    let header = places(&bytes[..BLOCK], written, ZEROS);
    let share = if cfg!(debug_assertions) { 4_usize.div_ceil(runs()) } else { 1 };
    header.into_iter().chain((BLOCK..bytes.len()).step_by(share)).collect()
}

/// The bytes of a log whose damage can look like a torn tail, and how many commits are then lost: the lengths of the
/// records in the last batch. A length that reaches into zeros is one of a record that was never written whole.
fn lengths_in_last_batch(bytes: &[u8]) -> (BTreeSet<usize>, usize) {
    let header = SegmentHeader::read(bytes).unwrap();
    let mut records: Vec<(usize, Position)> = Vec::new();
    scan_segment(bytes, &header, None, |offset, record, _| {
        records.push((usize::try_from(offset).unwrap(), record.durable()));
    });
    let last = records.last().unwrap().1;
    let in_last: Vec<usize> = records.iter().filter(|(_, durable)| *durable == last).map(|(at, _)| *at).collect();
    (in_last.iter().flat_map(|at| at + 4..at + 8).collect(), in_last.len())
}

fn flip_every_byte(image: &Image) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for (shard, file) in image.files().iter().enumerate() {
        let bytes = fs::read(file).unwrap();
        let is_log = shard < SHARDS;
        let (lengths, commits) =
            if is_log && !image.is_closed { lengths_in_last_batch(&bytes) } else { (BTreeSet::new(), 0) };
        let may_be_lost: Vec<State> = if image.is_strict && is_log {
            (1..=commits).map(|commits| image.without_last(shard, commits)).collect()
        } else {
            (0..image.changes.len()).map(|end| state(&image.changes, |at| at < end)).collect()
        };
        let damaged = OpenOptions::new().write(true).open(file).unwrap();
        for at in places_of(file, &bytes, 1) {
            let may_be_lost = if lengths.contains(&at) { &may_be_lost[..] } else { &[] };
            for bit in 0..runs().min(8) {
                damaged.write_all_at(&[bytes[at] ^ (1 << ((at + bit) % 8))], at as u64).unwrap();
                image.look(file, &format!("flipped {at} of {}", file.display()), may_be_lost, &mut outcomes);
            }
            damaged.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
    }
    outcomes
}

fn cut_at_every_length(image: &Image) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for file in image.files() {
        let bytes = fs::read(&file).unwrap();
        let damaged = OpenOptions::new().write(true).open(&file).unwrap();
        for length in places_of(&file, &bytes, CUTS).into_iter().rev() {
            damaged.set_len(length as u64).unwrap();
            image.look(&file, &format!("cut {} at {length}", file.display()), &[], &mut outcomes);
        }
        damaged.write_all_at(&bytes, 0).unwrap();
    }
    outcomes
}

fn damage_everywhere(image: &Image) {
    let Image { is_strict, is_closed, .. } = image;
    assert_eq!(image.open().unwrap(), image.whole, "undamaged, it is whole");
    println!("strict={is_strict} closed={is_closed} flips: {:?}", flip_every_byte(image));
    println!("strict={is_strict} closed={is_closed} cuts: {:?}", cut_at_every_length(image));
    assert_eq!(image.open().unwrap(), image.whole, "mended, it is whole");
}

#[test]
fn of_a_strict_database_whose_process_died() {
    damage_everywhere(&image(true, false));
}

#[test]
fn of_a_strict_database_that_was_closed() {
    damage_everywhere(&image(true, true));
}

#[test]
fn of_a_buffered_database_whose_process_died() {
    damage_everywhere(&image(false, false));
}

#[test]
fn of_a_buffered_database_that_was_closed() {
    damage_everywhere(&image(false, true));
}

#[test]
fn of_a_backup_that_was_written_to() {
    let image = image_of_a_backup();
    assert_eq!(files_in(image.directory.path(), SNAPSHOTS).len(), SHARDS);
    damage_everywhere(&image);
}

#[test]
fn of_a_database_with_two_snapshots() {
    let image = image_of_checkpoints();
    assert_eq!(files_in(image.directory.path(), SNAPSHOTS).len(), 2 * SHARDS);
    damage_everywhere(&image);
}
