//! The format on disk: a database that was checked in opens for ever, and one of a newer format is refused.
//!
//! - `tests/fixtures/format-N` is a database of format N, and `format-N.txt` what is in it.
//!   `cargo test --test suite format:: -- --ignored` makes that of the current format anew: whenever the format changes
//!   before the first release. From then on none is ever changed or removed, and a new format gets a new one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{directory, on_tokio};
use in_mem::prelude::*;
use in_mem::{Partitioning, Primitive, SnapshotConfig};

const FIRST: RunId = RunId::from_bytes([6; 16]);
const SECOND: RunId = RunId::from_bytes([3; 16]);
const GONE: RunId = RunId::from_bytes([1; 16]);
const NEVER: SnapshotConfig = SnapshotConfig { log_bytes: None, interval: None, on_close: false };
const CENTURIES: Duration = Duration::from_secs(10_000_000_000);

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn copy(from: &Path, to: &Path) {
    for directory in ["", "log", "snapshots"] {
        std::fs::create_dir_all(to.join(directory)).expect("a directory is made");
        for entry in std::fs::read_dir(from.join(directory)).expect("it is listed") {
            let entry = entry.expect("it is listed");
            if entry.path().is_file() {
                std::fs::copy(entry.path(), to.join(directory).join(entry.file_name())).expect("it is copied");
            }
        }
    }
}

async fn open(path: &Path, mode: DurabilityMode, shards: usize, partitioning: Partitioning) -> Database {
    let builder = Database::builder().path(path).durability(mode).shards(shards).partitioning(partitioning);
    builder.snapshots(NEVER).lineage(true).open().await.expect("it opens")
}

/// Something of every primitive, in a snapshot and in the log before it.
async fn fill(database: &Database) {
    for (run, name, parent) in [(FIRST, "first", None), (SECOND, "second", Some(FIRST)), (GONE, "gone", None)] {
        let (name, tags) = (Some(name.to_owned()), vec!["a".to_owned(), "b".to_owned()]);
        let metadata = Value::from_json(in_mem::serde_json::json!({"depth": [1, {"x": null}], "name": "run"}));
        let options = RunOptions { id: Some(run), name, parent, tags, metadata, ..RunOptions::default() };
        database.start_run(options).await.expect("the run begins");
        let values = [
            ("null", Value::Null),
            ("bool", true.into()),
            ("negative", (-7).into()),
            ("unsigned", u64::MAX.into()),
            ("float", 0.1.into()),
            ("text", "text äöü".into()),
            ("bytes", vec![0_u8, 1, 255].into()),
            ("long", "x".repeat(700).into()),
        ];
        database.kv().put_many(run, values).await.expect("the pairs are written");
        database.kv().put(run, "replaced", 1).await.expect("the pair is written");
        database.kv().put(run, "deleted", 1).await.expect("the pair is written");
        database.kv().delete(run, "deleted").await.expect("the pair is deleted");
        let soon = Duration::from_millis(1);
        database.kv().put_with_ttl(run, "expired", 1, soon).await.expect("the pair is written");
        database.kv().put_with_ttl(run, "expires", 1, CENTURIES).await.expect("the pair is written");
        for number in 0..3 {
            let event_type = if number % 2 == 0 { "even" } else { "odd" };
            database.events().append(run, event_type, number).await.expect("the event is appended");
        }
        database.states().init(run, "cell", 1).await.expect("the state is written");
        database.states().set(run, "cell", "two").await.expect("the state is written");
        let document = in_mem::serde_json::json!({"z": [1, 0.5, null], "a": {"text": "ä"}});
        database.json().create(run, "document", document).await.expect("the document is made");
        database.json().set(run, "document", "a.set", u64::MAX).await.expect("the document is edited");
        database.json().create(run, "deleted", 1).await.expect("the document is made");
        database.json().delete(run, "deleted").await.expect("the document is deleted");
        let thought = TraceType::Thought { content: "why".into(), confidence: Some(0.5) };
        let root = database.traces().record(run, thought, vec!["tag".into()], 5).await.expect("it is recorded");
        database.traces().record_child(run, &root, "own kind".into(), vec![], "child").await.expect("it is recorded");
    }
    database.runs().delete_run(GONE).await.expect("the run is deleted");
}

/// The same behind the snapshot; on a database of two shards, some of it over both.
async fn go_on(database: &Database, round: i64) {
    let both = async |transaction: MultiTransaction| {
        for run in [FIRST, SECOND] {
            let run = transaction.run(run);
            run.kv_get("replaced").await?;
            run.kv().list(Some("re")).await?;
            run.kv_put("both", round).await?;
            run.event_append("both", round).await?;
            run.state_set("both", round).await?;
            run.json_set("document", "both", round).await?;
        }
        Ok(())
    };
    database.transaction_across([FIRST, SECOND], both).await.expect("the transaction commits");
    database.kv().put(FIRST, "replaced", 10 + round).await.expect("the pair is written");
    database.json().array_push(FIRST, "document", "z", round).await.expect("the document is edited");
    database.traces().record(SECOND, "late".into(), vec![], round).await.expect("it is recorded");
}

/// All that is in it, a line each.
async fn contents(database: &Database) -> String {
    let mut text = String::new();
    for run in [FIRST, SECOND] {
        let (kv, events, states) = (database.kv(), database.events(), database.states());
        for key in kv.list(run, None).await.expect("listed").into_iter().chain(["deleted".into(), "expired".into()]) {
            let found = kv.get(run, &key).await.expect("it is read");
            writeln!(text, "{run} kv {key} {found:?}").expect("it is written");
            for old in kv.history(run, &key).await.expect("it is read") {
                writeln!(text, "{run} history {key} {} {:?}", old.version, old.value).expect("it is written");
            }
            if let Some(found) = kv.get_versioned(run, &key).await.expect("it is read") {
                let lineage = database.explain(run, Primitive::Kv, &key, found.version).await.expect("it is explained");
                writeln!(text, "{lineage}").expect("it is written");
            }
        }
        for event in events.read_range(run, 0, u64::MAX).await.expect("they are read") {
            let Event { sequence, event_type, payload, timestamp, hash, .. } = event;
            let hash = hash.map(|byte| format!("{byte:02x}")).concat();
            writeln!(text, "{run} event {sequence} {event_type} {timestamp} {payload:?} {hash}")
                .expect("it is written");
        }
        for name in states.list(run).await.expect("listed") {
            let state = states.read(run, &name).await.expect("it is read").expect("it is there");
            writeln!(text, "{run} state {name} {} {} {:?}", state.version, state.updated_at, state.value)
                .expect("it is written");
        }
        for key in database.json().list(run, None).await.expect("listed") {
            let document = database.json().get(run, &key, "").await.expect("it is read").expect("it is there");
            let version = database.json().version(run, &key).await.expect("it is read");
            writeln!(text, "{run} json {key} {version:?} {document}").expect("it is written");
        }
        let mut traces = database.traces().get_roots(run).await.expect("they are read");
        for root in traces.clone() {
            traces.extend(database.traces().get_children(run, &root.id).await.expect("they are read"));
        }
        for Trace { id, parent_id, trace_type, timestamp, tags, metadata, .. } in traces {
            writeln!(text, "{run} trace {id} {parent_id:?} {trace_type:?} {timestamp} {tags:?} {metadata:?}")
                .expect("it is written");
        }
        let RunMetadata { name, parent_run, status, created_at, updated_at, tags, metadata, .. } =
            database.runs().get_run(run).await.expect("it is read").expect("it is there");
        writeln!(text, "{run} run {name} {parent_run:?} {status:?} {created_at} {updated_at} {tags:?} {metadata:?}")
            .expect("it is written");
    }
    text
}

#[test]
fn every_database_that_was_checked_in_opens_whatever_the_layout() {
    on_tokio(async {
        let current = fixtures().join(format!("format-{}", format_version().await));
        assert!(current.is_dir(), "there is one of the current format");
        let entries = std::fs::read_dir(fixtures()).expect("it is listed").map(|entry| entry.expect("listed").path());
        for fixture in entries.filter(|path| path.is_dir()) {
            let expected = std::fs::read_to_string(fixture.with_extension("txt")).expect("it is read");
            let layouts = [(1, Partitioning::ByRun), (2, Partitioning::ByRun), (2, Partitioning::ByKey)];
            for (shards, partitioning) in
                layouts.into_iter().chain([(3, Partitioning::ByKey), (5, Partitioning::ByRun)])
            {
                let root = directory();
                copy(&fixture, root.path());
                let database = open(root.path(), DurabilityMode::Strict, shards, partitioning).await;
                let report = database.last_recovery().clone();
                assert!(report.snapshot.is_some() && report.damaged_snapshots.is_empty() && report.records > 0);
                assert_eq!(contents(&database).await, expected, "{fixture:?} {shards} {partitioning:?}");
                let verified = database.verify().await.expect("it is verified");
                assert!(verified.is_sound() && verified.event_logs == 2, "{verified:?}");
                assert!(database.kv().put(GONE, "key", 1).await.is_err(), "a deleted run takes no writes");
                go_on(&database, 7).await;
                let expected = contents(&database).await;
                database.close().await.expect("it closes");
                let database = open(root.path(), DurabilityMode::Strict, 2, Partitioning::ByRun).await;
                assert_eq!(contents(&database).await, expected, "it goes on");
                database.close().await.expect("it closes");
            }
            // The log alone has everything too.
            let root = directory();
            copy(&fixture, root.path());
            for file in std::fs::read_dir(root.path().join("snapshots")).expect("it is listed") {
                std::fs::write(file.expect("it is listed").path(), "nothing").expect("it is written");
            }
            let database = open(root.path(), DurabilityMode::Strict, 2, Partitioning::ByRun).await;
            assert_eq!(contents(&database).await, expected, "{fixture:?} without its snapshot");
        }
    });
}

async fn format_version() -> u32 {
    Database::open_in_memory().await.expect("it opens").info().format_version
}

#[test]
fn a_newer_format_is_refused_and_says_so() {
    on_tokio(async {
        let root = directory();
        copy(&fixtures().join(format!("format-{}", format_version().await)), root.path());
        let manifest = root.path().join("MANIFEST");
        let mut bytes = std::fs::read(&manifest).expect("it is read");
        let newer = format_version().await + 1;
        bytes[8..12].copy_from_slice(&newer.to_le_bytes());
        std::fs::write(&manifest, bytes).expect("it is written");
        let error = Database::open(root.path()).await.expect_err("it is refused").to_string();
        let known = newer - 1;
        assert!(error.contains("newer version of the library") && error.contains("MANIFEST"), "{error}");
        assert!(error.contains(&format!("format={newer} known={known}")), "{error}");
    });
}

#[test]
#[ignore = "makes the checked-in database anew: cargo test --test suite format:: -- --ignored"]
fn make() {
    on_tokio(async {
        let fixture = fixtures().join(format!("format-{}", format_version().await));
        let root = directory();
        let buffered = DurabilityMode::Buffered { flush_interval_ms: 60_000, max_pending_writes: 100_000 };
        let database = open(root.path(), buffered, 2, Partitioning::ByRun).await;
        fill(&database).await;
        database.checkpoint().await.expect("it is taken");
        go_on(&database, 1).await;
        database.close().await.expect("it closes");
        let database = open(root.path(), buffered, 1, Partitioning::ByKey).await;
        go_on(&database, 2).await;
        database.close().await.expect("it closes");
        let _ = std::fs::remove_dir_all(&fixture);
        std::fs::remove_file(root.path().join("LOCK")).expect("it is removed");
        copy(root.path(), &fixture);
        let database = open(root.path(), DurabilityMode::Strict, 1, Partitioning::ByRun).await;
        std::fs::write(fixture.with_extension("txt"), contents(&database).await).expect("it is written");
    });
}
