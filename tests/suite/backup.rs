//! Backups: a consistent copy of a database that goes on, which opens as a database of its own.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::placement::run_on;
use crate::support::{MODES, directory, on_tokio, open};
use in_mem::Partitioning;
use in_mem::prelude::*;

const RUN: RunId = RunId::from_bytes([9; 16]);

fn builder(path: &Path, mode: DurabilityMode, shards: usize, partitioning: Partitioning) -> in_mem::DatabaseBuilder {
    Database::builder().path(path).durability(mode).shards(shards).partitioning(partitioning)
}

/// Something of every primitive, some of it deleted, replaced or expired.
async fn fill(database: &Database) {
    let options =
        RunOptions { id: Some(RUN), name: Some("first".into()), tags: vec!["tag".into()], ..RunOptions::default() };
    let run = database.start_run(options).await.expect("the run begins");
    for number in 0..600 {
        run.kv().put(format!("key-{:03}", number % 500), number).await.expect("the pair is written");
        run.events().append(if number % 2 == 0 { "even" } else { "odd" }, number).await.expect("the event is appended");
    }
    run.kv().delete("key-007").await.expect("the pair is deleted");
    run.states().set("counter", 1).await.expect("the state is written");
    run.states().set("counter", 2).await.expect("the state is written");
    let root = run.traces().record("plan".into(), vec!["tag".into()], "so").await.expect("the trace is recorded");
    run.traces().record_child(&root, "step".into(), vec![], 1).await.expect("the trace is recorded");
    let other = database.begin_run().await;
    database.kv().put(other, "gone", 1).await.expect("the pair is written");
    database.runs().delete_run(other).await.expect("the run is deleted");
}

/// All that can be asked about it, as text.
async fn contents(database: &Database) -> String {
    let (kv, events, traces) = (database.kv(), database.events(), database.traces());
    let all = (
        kv.list_with_values(RUN, None).await.expect("listed"),
        kv.history(RUN, "key-003").await.expect("read"),
        kv.history(RUN, "key-007").await.expect("read"),
        events.read_by_type(RUN, "odd").await.expect("read").len(),
        events.verify_chain(RUN).await.expect("verified"),
        database.states().read(RUN, "counter").await.expect("read"),
        (traces.count(RUN).await.expect("counted"), traces.get_roots(RUN).await.expect("read")),
        database.runs().list_runs().await.expect("listed"),
        database.runs().query_by_tag("tag").await.expect("listed"),
        database.runs().get_run("first").await.expect("read"),
    );
    format!("{all:?}")
}

#[test]
fn a_backup_opens_as_a_database_of_its_own_whatever_the_layout_and_goes_on() {
    on_tokio(async {
        let by_key = Partitioning::ByKey;
        for (mode, partitioning) in MODES.into_iter().zip([Partitioning::ByRun, by_key, by_key]) {
            let root = directory();
            let database = builder(&root.path().join("from"), mode, 2, partitioning).open().await.expect("it opens");
            fill(&database).await;
            let expected = contents(&database).await;
            let layouts = [(2, partitioning), (3, Partitioning::ByRun), (1, by_key), (2, by_key)];
            for (number, (shards, partitioning)) in layouts.into_iter().enumerate() {
                let path = root.path().join(number.to_string());
                let report = database.backup(&path).await.expect("it is backed up");
                assert!(report.keys > 1_000 && report.bytes > 10_000, "{report:?}");
                let copy = builder(&path, DurabilityMode::Strict, shards, partitioning).open().await.expect("it opens");
                assert_eq!(copy.last_recovery().snapshot, Some(report.version));
                assert!(contents(&copy).await == expected, "{mode:?} {shards} {partitioning:?}");
                copy.kv().put(RUN, "mine", 5).await.expect("the copy goes on");
                copy.events().append(RUN, "odd", 0).await.expect("the copy goes on");
                copy.close().await.expect("it closes");
                // What was written after the snapshot is in the log.
                let copy = open(&path, DurabilityMode::Strict, 2).await;
                assert_eq!(copy.kv().get(RUN, "mine").await.expect("it is read"), Some(5.into()));
                let chain = copy.events().verify_chain(RUN).await.expect("it is verified");
                assert!(chain.is_valid && copy.events().len(RUN).await.expect("it is read") == 601);
                copy.close().await.expect("it closes");
            }
            assert_eq!(contents(&database).await, expected, "nobody touched the original");
            database.close().await.expect("it closes");
        }
    });
}

#[test]
fn a_backup_taken_while_money_moves_between_shards_has_all_of_it() {
    on_tokio(async {
        for mode in MODES {
            let root = directory();
            let database = open(&root.path().join("from"), mode, 2).await;
            let accounts = [run_on(0, 2), run_on(1, 2)];
            for run in accounts {
                database.kv().put(run, "balance", 1_000).await.expect("it is written");
            }
            let stop = Arc::new(AtomicBool::new(false));
            let movers = (0..4_i64).map(|amount| {
                let (database, stop) = (database.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let options = TransactionOptions { max_retries: u32::MAX, ..TransactionOptions::default() };
                        let moved = database.transaction_across_with(accounts, options, async |txn| {
                            for (run, by) in accounts.into_iter().zip([amount, -amount]) {
                                let run = txn.run(run);
                                let balance =
                                    run.kv_get("balance").await?.and_then(|value| value.as_i64()).unwrap_or(0);
                                run.kv_put("balance", balance + by).await?;
                            }
                            Ok(())
                        });
                        moved.await.expect("it moves");
                    }
                })
            });
            let movers: Vec<_> = movers.collect();
            for number in 0..5 {
                let path = root.path().join(number.to_string());
                database.backup(&path).await.expect("it is backed up");
                let copy = open(&path, DurabilityMode::Strict, 2).await;
                let mut sum = 0;
                for run in accounts {
                    let balance = copy.kv().get(run, "balance").await.expect("it is read");
                    sum += balance.and_then(|value| value.as_i64()).expect("it is a number");
                }
                assert_eq!(sum, 2_000, "{mode:?}");
                copy.close().await.expect("it closes");
            }
            stop.store(true, Ordering::Relaxed);
            for mover in movers {
                mover.await.expect("it ends");
            }
            database.close().await.expect("it closes");
        }
    });
}

#[test]
fn a_backup_needs_a_place_of_its_own_and_damage_in_it_is_named() {
    on_tokio(async {
        let root = directory();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        let database = open(&from, DurabilityMode::Strict, 1).await;
        fill(&database).await;
        let full = database.backup(&from).await.expect_err("there is something in it");
        assert!(matches!(full, Error::InvalidOperation(_)) && full.to_string().contains("empty"), "{full}");
        database.backup(&to).await.expect("it is backed up");
        database.close().await.expect("it closes");
        let file = to.join("snapshots/0000000001-0000.snap");
        let whole = fs::read(&file).expect("it is read");
        let places = (0..64).chain((4096..whole.len()).step_by(whole.len() / 40)).chain(whole.len() - 32..whole.len());
        for at in places {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&file, &damaged).expect("it is written");
            let message = Database::open(&to).await.expect_err("it does not open").to_string();
            assert!(message.contains(".snap") && message.contains("offset="), "{message}");
        }
        fs::write(&file, &whole[..whole.len() - 1]).expect("it is written");
        assert!(matches!(Database::open(&to).await, Err(Error::Corruption(_))));
        fs::write(&file, &whole).expect("it is written");
        Database::open(&to).await.expect("it opens again").close().await.expect("it closes");
    });
}

/// A copy that opens, and what is in it.
async fn copy_of_a_filled_database(root: &Path) -> String {
    let database = open(&root.join("from"), DurabilityMode::Strict, 2).await;
    fill(&database).await;
    database.backup(root.join("copy")).await.expect("it is backed up");
    let expected = contents(&database).await;
    database.close().await.expect("it closes");
    expected
}

fn copy_some_files(from: &Path, to: &Path, files: &[(&str, &str)]) {
    for (name, new) in files {
        let to = to.join(new);
        fs::create_dir_all(to.parent().expect("it is in a directory")).expect("a directory is made");
        fs::copy(from.join(name), to).expect("the file is copied");
    }
}

#[test]
fn what_is_left_of_a_copy_that_was_not_finished_does_not_open() {
    const SNAPSHOT: &str = "snapshots/0000000001-0000.snap";
    const PARTS: [&[(&str, &str)]; 6] = [
        &[(SNAPSHOT, SNAPSHOT)],
        &[(SNAPSHOT, "snapshots/0000000001-0000.tmp")],
        &[(SNAPSHOT, "snapshots/.0000000001-0000.snap.Xy5tQ2")],
        &[(SNAPSHOT, "log/0000000001-0000-000000.tmp")],
        &[("LOCK", "LOCK"), ("MANIFEST", "MANIFEST.tmp"), (SNAPSHOT, SNAPSHOT)],
        &[(SNAPSHOT, SNAPSHOT), ("snapshots/0000000001-0001.snap", "snapshots/0000000001-0001.snap")],
    ];
    on_tokio(async {
        let root = directory();
        copy_of_a_filled_database(root.path()).await;
        let copy = root.path().join("copy");
        for (number, files) in PARTS.into_iter().enumerate() {
            let part = root.path().join(format!("part {number}"));
            copy_some_files(&copy, &part, files);
            for read_only in [true, false] {
                let refused = Database::builder().path(&part).read_only(read_only).open().await;
                let refused = refused.expect_err("it is not whole");
                assert!(matches!(&refused, Error::Corruption(what) if what.contains("unfinished copy")), "{refused}");
            }
        }
        let unfinished = root.path().join("unfinished");
        copy_some_files(&copy, &unfinished, &[(SNAPSHOT, SNAPSHOT)]);
        fs::write(unfinished.join("MANIFEST"), "in-mem: a copy that is not finished\n").expect("it is written");
        for read_only in [false, true] {
            let refused = Database::builder().path(&unfinished).read_only(read_only).open().await;
            let refused = refused.expect_err("it is not whole");
            assert!(matches!(&refused, Error::Corruption(what) if what.contains("make it again")), "{refused}");
        }
        // What a process leaves that was killed while it made a new database.
        let new = root.path().join("new");
        copy_some_files(&copy, &new, &[("LOCK", "LOCK"), ("MANIFEST", "MANIFEST.tmp")]);
        fs::create_dir(new.join("log")).and_then(|()| fs::create_dir(new.join("snapshots"))).expect("they are made");
        assert!(open(&new, DurabilityMode::Strict, 1).await.last_recovery().created);
    });
}

#[test]
fn what_a_snapshot_leaves_that_was_not_finished_is_removed() {
    const STRAYS: [&str; 4] =
        ["0000000001-0000.tmp", "0000000002-0000.tmp", "0000000002-0000.snap", "0000000002-0001.snap"];
    on_tokio(async {
        let root = directory();
        let expected = copy_of_a_filled_database(root.path()).await;
        let snapshots = root.path().join("copy/snapshots");
        let names = || -> BTreeSet<_> {
            let entries = fs::read_dir(&snapshots).expect("it is read");
            entries.map(|entry| entry.expect("an entry").file_name()).collect()
        };
        let before = names();
        for stray in STRAYS {
            fs::write(snapshots.join(stray), "half of it").expect("it is written");
        }
        let database = open(&root.path().join("copy"), DurabilityMode::Strict, 2).await;
        assert_eq!(names(), before);
        assert_eq!(contents(&database).await, expected);
    });
}

#[test]
fn a_copy_without_its_empty_directories_is_read_and_salvaged() {
    on_tokio(async {
        let root = directory();
        let expected = copy_of_a_filled_database(root.path()).await;
        let (copy, salvaged) = (root.path().join("copy"), root.path().join("salvaged"));
        fs::remove_dir(copy.join("log")).expect("it is empty");
        let reader = Database::builder().path(&copy).read_only(true).open().await.expect("it can be read");
        assert_eq!(contents(&reader).await, expected);
        reader.close().await.expect("it closes");
        let report = Database::salvage(&copy, &salvaged).await.expect("it is salvaged");
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(contents(&open(&salvaged, DurabilityMode::Strict, 1).await).await, expected);
        assert_eq!(contents(&open(&copy, DurabilityMode::Strict, 1).await).await, expected);
    });
}

#[test]
fn a_target_that_cannot_be_written_is_an_error_and_the_database_goes_on() {
    on_tokio(async {
        let root = directory();
        let database = open(&root.path().join("from"), DurabilityMode::Strict, 2).await;
        fill(&database).await;
        let file = root.path().join("file");
        fs::write(&file, "no directory").expect("it is written");
        let refused = database.backup(&file).await.expect_err("this is no directory");
        assert!(matches!(&refused, Error::Io(error) if error.kind() == ErrorKind::NotADirectory), "{refused}");
        let refused = database.backup(file.join("below")).await.expect_err("this is below no directory");
        assert!(matches!(&refused, Error::Io(_)) && refused.to_string().contains("file="), "{refused}");
        // Two at once into one place: one of them has it.
        let twice = root.path().join("twice");
        let (one, other) = futures::future::join(database.backup(&twice), database.backup(&twice)).await;
        let refused = match (one, other) {
            (Ok(_), Err(refused)) | (Err(refused), Ok(_)) => refused,
            both => panic!("one of them is refused: {both:?}"),
        };
        assert!(matches!(refused, Error::InvalidOperation(_)), "{refused}");
        assert_eq!(contents(&open(&twice, DurabilityMode::Strict, 2).await).await, contents(&database).await);
        database.kv().put(RUN, "after", 1).await.expect("the database goes on");
        database.backup(root.path().join("another")).await.expect("it is backed up");
    });
}
