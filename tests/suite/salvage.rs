//! Salvage: what is intact in a damaged directory, and a report of what is not.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::{BUFFERED, directory, on_tokio, open, part, segments, spawn_part};
use in_mem::prelude::*;
use in_mem::{Partitioning, SalvageReport};

const RUN: RunId = RunId::from_bytes([9; 16]);
const OTHER: RunId = RunId::from_bytes([3; 16]);
const KEYS: u64 = 40;

/// Everything that is in a database, as text.
async fn contents(path: &Path) -> BTreeMap<String, String> {
    let database = open(path, DurabilityMode::Strict, 1).await;
    let mut all = BTreeMap::new();
    for run in [RUN, OTHER] {
        for (key, value) in database.kv().list_with_values(run, None).await.expect("the pairs are listed") {
            all.insert(format!("{run} kv {key}"), format!("{value:?}"));
        }
        for event in database.events().read_range(run, 0, u64::MAX).await.expect("the events are read") {
            all.insert(format!("{run} event {}", event.sequence), format!("{event:?}"));
        }
        for name in database.states().list(run).await.expect("the states are listed") {
            let state = database.states().read(run, &name).await.expect("the state is read");
            all.insert(format!("{run} state {name}"), format!("{state:?}"));
        }
        all.insert(format!("{run} metadata"), format!("{:?}", database.runs().get_run(run).await.expect("it is read")));
        all.insert(
            format!("{run} traces"),
            format!("{}", database.traces().count(run).await.expect("they are counted")),
        );
    }
    database.close().await.expect("the database closes");
    all
}

/// One commit at a time, so that each has a batch of its own.
async fn fill(path: &Path, mode: DurabilityMode, partitioning: Partitioning) {
    let builder = Database::builder().path(path).durability(mode).shards(2).partitioning(partitioning);
    let database = builder.open().await.expect("the database opens");
    for run in [RUN, OTHER] {
        let options = RunOptions { id: Some(run), name: Some(format!("run {run}")), ..RunOptions::default() };
        database.start_run(options).await.expect("the run begins");
    }
    for number in 0..KEYS {
        database.kv().put(RUN, format!("key-{number:02}"), number).await.expect("the pair is written");
        database.events().append(OTHER, "step", number).await.expect("the event is appended");
        database.states().set(RUN, "counter", number).await.expect("the state is written");
    }
    database.traces().record(RUN, "plan".into(), vec!["tag".into()], "so").await.expect("the trace is recorded");
    let both = async |transaction: MultiTransaction| {
        transaction.run(RUN).kv_put("both", 1).await?;
        transaction.run(OTHER).kv_put("both", 1).await
    };
    database.transaction_across([RUN, OTHER], both).await.expect("the transaction commits");
    database.end_run(OTHER).await.expect("the run ends");
    database.close().await.expect("the database closes");
}

async fn salvage(from: &Path, to: &Path) -> SalvageReport {
    Database::salvage(from, to).await.expect("something is salvaged")
}

fn overwrite(file: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(file).expect("the file opens");
    file.write_all_at(bytes, offset).expect("the bytes are written");
}

/// Destroys some of the names in a snapshot.
fn destroy_names(file: &Path) {
    let bytes = std::fs::read(file).expect("the snapshot is read");
    let of = |text: &[u8]| bytes.windows(4).position(|window| window == text);
    let at = of(b"key-").or_else(|| of(b"step")).expect("it holds a key or an event");
    overwrite(file, at as u64, &[0xa5; 2]);
}

const PARTITIONINGS: [Partitioning; 2] = [Partitioning::ByRun, Partitioning::ByKey];

#[test]
fn a_sound_database_is_salvaged_whole_with_and_without_its_manifest() {
    on_tokio(async {
        for (mode, partitioning) in [BUFFERED, DurabilityMode::Strict].into_iter().zip(PARTITIONINGS) {
            let root = directory();
            let (from, to, again) = (root.path().join("from"), root.path().join("to"), root.path().join("again"));
            fill(&from, mode, partitioning).await;
            let report = salvage(&from, &to).await;
            assert!(report.is_whole() && report.broken_event_logs.is_empty(), "{report:?}");
            std::fs::remove_file(from.join("MANIFEST")).expect("the manifest is removed");
            assert!(matches!(Database::open(&from).await, Err(Error::Corruption(_))));
            let blind = salvage(&from, &again).await;
            assert!(blind.lost_manifest.is_some() && blind.damage.is_empty(), "{blind:?}");
            assert!(!blind.is_whole(), "nobody knows whether files are missing");
            assert_eq!(blind.transactions, report.transactions);
            let salvaged = contents(&to).await;
            assert_eq!(salvaged.len() as u64, 2 * KEYS + 2 + 1 + 4, "pairs and events, both, the counter, the runs");
            assert_eq!(contents(&again).await, salvaged);
        }
    });
}

#[test]
fn whatever_block_is_destroyed_the_rest_is_salvaged_and_nothing_is_invented() {
    on_tokio(async {
        let root = directory();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fill(&from, DurabilityMode::Strict, Partitioning::ByRun).await;
        let sound = root.path().join("sound");
        salvage(&from, &sound).await;
        let sound = contents(&sound).await;
        let mut lost = 0;
        for file in segments(&from) {
            let whole = std::fs::read(&file).expect("the segment is read");
            for offset in (0..whole.len() as u64).step_by(4096 * 5) {
                overwrite(&file, offset, &[0xa5; 4096]);
                assert!(matches!(Database::open(&from).await, Err(Error::Corruption(_))));
                let report = salvage(&from, &to).await;
                assert!(!report.is_whole());
                let damage = &report.damage[0];
                assert_eq!((&damage.file, damage.offset), (&file, offset), "{report:?}");
                lost += check_part_of(&contents(&to).await, &sound, &report);
                std::fs::remove_dir_all(&to).expect("the new database is removed");
                std::fs::write(&file, &whole).expect("the segment is mended");
            }
        }
        assert!(lost > 0, "some of it was lost");
        assert_eq!(salvage(&from, &to).await.damage, []);
    });
}

#[test]
fn the_log_of_a_killed_process_is_salvaged_up_to_its_last_flush_whatever_is_destroyed() {
    const TEST: &str = "salvage::the_log_of_a_killed_process_is_salvaged_up_to_its_last_flush_whatever_is_destroyed";
    if let Some((_, path)) = part() {
        return on_tokio(async {
            let database = open(&path, BUFFERED, 1).await;
            for number in 0..KEYS {
                database.kv().put(RUN, format!("key-{number:02}"), number).await.expect("the pair is written");
                database.flush().await.expect("it is flushed");
            }
            std::process::exit(77);
        });
    }
    let root = directory();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    let output = spawn_part(TEST, "writer", &from).wait_with_output().expect("the child ends");
    assert_eq!(output.status.code(), Some(77), "{}", String::from_utf8_lossy(&output.stderr));
    on_tokio(async {
        assert!(salvage(&from, &to).await.is_whole());
        assert_eq!(contents(&to).await.len() as u64, KEYS + 4);
        let file = &segments(&from)[0];
        let whole = std::fs::read(file).expect("the segment is read");
        for offset in (4096..KEYS * 2 * 4096).step_by(4096 * 7) {
            std::fs::remove_dir_all(&to).expect("the new database is removed");
            overwrite(file, offset + 100, &[0xa5; 8]);
            let report = salvage(&from, &to).await;
            assert!(!report.is_whole(), "{report:?}");
            let left = contents(&to).await.len() as u64;
            assert!((KEYS + 3..=KEYS + 4).contains(&left), "a pair or a mark is lost: {left}");
            std::fs::write(file, &whole).expect("the segment is mended");
        }
    });
}

#[test]
fn a_damaged_snapshot_is_salvaged_but_for_what_is_damaged() {
    on_tokio(async {
        let root = directory();
        let (from, copy, to) = (root.path().join("from"), root.path().join("copy"), root.path().join("to"));
        fill(&from, DurabilityMode::Strict, Partitioning::ByKey).await;
        let database = open(&from, DurabilityMode::Strict, 2).await;
        database.backup(&copy).await.expect("it is backed up");
        database.close().await.expect("it closes");
        let database = open(&copy, DurabilityMode::Strict, 2).await;
        database.kv().put(RUN, "later", 1).await.expect("the copy goes on");
        database.close().await.expect("it closes");
        assert!(salvage(&copy, &to).await.is_whole());
        let sound = contents(&to).await;
        assert_eq!(sound, contents(&copy).await);
        let manifest = std::fs::read(copy.join("MANIFEST")).expect("it is read");
        std::fs::remove_file(copy.join("MANIFEST")).expect("it is removed");
        std::fs::remove_dir_all(&to).expect("it is removed");
        assert!(salvage(&copy, &to).await.lost_manifest.is_some());
        assert_eq!(contents(&to).await, sound, "a snapshot says itself what it is");
        std::fs::write(copy.join("MANIFEST"), manifest).expect("it is written");
        std::fs::remove_dir_all(&to).expect("it is removed");
        let file = copy.join("snapshots/0000000001-0001.snap");
        destroy_names(&file);
        assert!(matches!(Database::open(&copy).await, Err(Error::Corruption(_))));
        let report = salvage(&copy, &to).await;
        assert_eq!((report.damage.len(), &report.damage[0].file), (1, &file), "{report:?}");
        let left = contents(&to).await;
        assert!(left.contains_key(&format!("{RUN} kv later")));
        let may_be_lost = |name: &str| name.ends_with(" metadata") || name.ends_with(" traces");
        assert!(left.iter().all(|(name, value)| sound.get(name) == Some(value) || may_be_lost(name)));
        assert!(left.len() < sound.len() && left.len() > 10, "{} {} {report:?}", left.len(), sound.len());
    });
}

/// The log goes back to the older snapshot at least: nothing is lost with the newer one, and nothing with both while the log
/// goes back to the beginning.
#[test]
fn of_several_snapshots_the_newest_whole_one_and_the_log_behind_it_are_salvaged() {
    on_tokio(async {
        for (mode, partitioning) in [BUFFERED, DurabilityMode::Strict].into_iter().zip(PARTITIONINGS) {
            let root = directory();
            let (from, to) = (root.path().join("from"), root.path().join("to"));
            fill(&from, mode, partitioning).await;
            for checkpoints in [2, 3] {
                let builder = Database::builder().path(&from).durability(mode).shards(2).partitioning(partitioning);
                let database = builder.open().await.expect("it opens");
                for number in 0..checkpoints {
                    database.kv().put(RUN, format!("before-{number}"), number).await.expect("it is written");
                    database.checkpoint().await.expect("it is taken");
                    database.kv().put(RUN, format!("behind-{number}"), number).await.expect("it is written");
                }
                let [older, newer] = &database.list_snapshots().await.expect("listed")[..] else {
                    panic!("two are kept")
                };
                let files = [newer, older].map(|of| from.join(format!("snapshots/{:010}-0001.snap", of.id)));
                database.close().await.expect("it closes");
                let sound = contents(&from).await;
                let whole = files.each_ref().map(|file| std::fs::read(file).expect("it is read"));
                for (count, file) in (1..).zip(&files) {
                    destroy_names(file);
                    let report = salvage(&from, &to).await;
                    assert!(!report.is_whole() && report.damage.len() == count, "{report:?}");
                    assert!(files[..count].iter().all(|file| report.damage.iter().any(|damage| damage.file == *file)));
                    let left = contents(&to).await;
                    if count == 1 || checkpoints == 2 {
                        assert_eq!(left, sound, "{count} damaged, {checkpoints} taken");
                    } else {
                        assert!(left.len() < sound.len() && left.contains_key(&format!("{RUN} kv behind-2")));
                    }
                    std::fs::remove_dir_all(&to).expect("it is removed");
                }
                for (file, whole) in files.iter().zip(whole) {
                    std::fs::write(file, whole).expect("it is mended");
                }
                assert!(salvage(&from, &to).await.is_whole());
                std::fs::remove_dir_all(&to).expect("it is removed");
            }
        }
    });
}

/// Nothing is there that was not, and what was written together is there together. Returns how much is missing.
fn check_part_of(
    salvaged: &BTreeMap<String, String>,
    sound: &BTreeMap<String, String>,
    report: &SalvageReport,
) -> usize {
    let is_latest_only =
        |name: &String| name.contains(" state ") || name.contains(" metadata") || name.contains(" traces");
    for (name, value) in salvaged.iter().filter(|(name, _)| !is_latest_only(name)) {
        assert_eq!(sound.get(name), Some(value), "{name}");
    }
    let both = [RUN, OTHER].map(|run| salvaged.contains_key(&format!("{run} kv both")));
    assert_eq!(both[0], both[1], "a transaction is salvaged whole");
    assert_eq!(report.incomplete_transactions > 0, !both[0]);
    let events: Vec<bool> = (0..KEYS).map(|at| salvaged.contains_key(&format!("{OTHER} event {at}"))).collect();
    let has_gap = events.iter().rposition(|there| *there) >= Some(events.iter().filter(|there| **there).count());
    assert_eq!(report.broken_event_logs, if has_gap { vec![OTHER] } else { vec![] });
    sound.len() - salvaged.len()
}

#[test]
fn a_database_in_use_a_full_target_and_an_empty_source_are_refused() {
    on_tokio(async {
        let root = directory();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        let nothing = Database::salvage(&from, &to).await.expect_err("there is no database");
        assert!(nothing.to_string().contains("no database"), "{nothing}");
        let database = open(&from, DurabilityMode::Strict, 1).await;
        assert!(matches!(Database::salvage(&from, &to).await, Err(Error::Locked { .. })));
        database.close().await.expect("the database closes");
        std::fs::create_dir_all(&to).expect("a directory is made");
        std::fs::write(to.join("note"), "mine").expect("a file is written");
        let full = Database::salvage(&from, &to).await.expect_err("there is something in it");
        assert!(full.to_string().contains("empty"), "{full}");
    });
}
