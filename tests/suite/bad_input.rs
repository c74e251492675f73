//! Bad input: a typed error each, never a panic, and the database works afterwards.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{BUFFERED, directory, in_memory, on_tokio, open, part, spawn_part};
use in_mem::prelude::*;
use in_mem::{Driver, HistoryRetention};
use serde_json::json;

const KEY_BYTES: usize = 64 << 10;
const VALUE_BYTES: usize = 16 << 20;
const DEPTH: usize = 100;
const TAGS: usize = 256;
const TAG_BYTES: usize = 256;

fn assert_invalid<T: Debug>(result: Result<T>, says: &str) {
    match result {
        Err(Error::InvalidOperation(message)) => assert!(message.contains(says), "{message}"),
        other => panic!("not refused as invalid ({says}): {other:?}"),
    }
}

fn assert_limit<T: Debug>(result: Result<T>, the_limit: usize, the_actual: usize) {
    match result {
        Err(Error::LimitExceeded { what, limit, actual }) => {
            assert_eq!((limit, actual), (the_limit as u64, the_actual as u64), "{what}");
        }
        other => panic!("not refused as too large: {other:?}"),
    }
}

fn assert_not_found<T: Debug>(result: Result<T>) {
    match result {
        Err(Error::KeyNotFound(_)) => {}
        other => panic!("not refused as not there: {other:?}"),
    }
}

/// The run is still there, takes writes and gives them back.
async fn assert_works(run: &RunHandle) {
    let sequence = run.events().append("still here", Value::Null).await.unwrap().0;
    assert_eq!(run.events().len().await.unwrap(), sequence + 1);
    run.kv().put("still here", sequence).await.unwrap();
    assert_eq!(run.kv().get("still here").await.unwrap(), Some(sequence.into()));
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::from(1), |value, _| Value::Array(vec![value]))
}

#[test]
fn an_empty_key_or_name_is_refused_everywhere() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let kv = run.kv();
        assert_invalid(kv.get("").await, "empty");
        assert_invalid(kv.get_as::<u8>("").await, "empty");
        assert_invalid(kv.get_versioned("").await, "empty");
        assert_invalid(kv.history("").await, "empty");
        assert_invalid(kv.get_many(["a", ""]).await, "empty");
        assert_invalid(kv.get_many_map(["a", ""]).await, "empty");
        assert_invalid(kv.exists("").await, "empty");
        assert_invalid(kv.put("", 1).await, "empty");
        assert_invalid(kv.put_as("", &1).await, "empty");
        assert_invalid(kv.put_with_ttl("", 1, Duration::MAX).await, "empty");
        assert_invalid(kv.delete("").await, "empty");
        assert_invalid(kv.delete_many(["a", ""]).await, "empty");
        assert_invalid(kv.compare_and_put("", None, 1).await, "empty");
        assert_invalid(run.events().append("", 1).await, "empty");
        assert_invalid(run.events().append_expected(0, "", 1).await, "empty");
        assert_invalid(run.events().append_many([("a", 1), ("", 2)]).await, "empty");
        assert_invalid(run.events().read_by_type("").await, "empty");
        assert_invalid(run.states().init("", 1).await, "empty");
        assert_invalid(run.states().read("").await, "empty");
        assert_invalid(run.states().set("", 1).await, "empty");
        assert_invalid(run.states().cas("", 0, 1).await, "empty");
        assert_invalid(run.states().increment("", 1).await, "empty");
        assert_invalid(run.states().delete("").await, "empty");
        assert_invalid(run.states().transition("", |_| Ok((Value::Null, ()))).await, "empty");
        assert_invalid(run.states().transition_or_init("", 1, |_| Ok((Value::Null, ()))).await, "empty");
        assert_invalid(run.traces().get("").await, "empty");
        assert_invalid(run.traces().record("".into(), vec![], Value::Null).await, "empty");
        assert_invalid(run.traces().query_by_type("").await, "empty");
        assert_invalid(database.runs().create_run("").await, "empty");
        assert_invalid(database.runs().get_run("").await, "empty");
        assert!(run.events().is_empty().await.unwrap());
        assert_works(&run).await;
    });
}

#[test]
fn a_key_of_64_kib_is_taken_and_one_byte_more_is_refused() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let (longest, longer) = ("k".repeat(KEY_BYTES), "k".repeat(KEY_BYTES + 1));
        run.kv().put(&longest, 1).await.unwrap();
        assert_eq!(run.kv().list(None).await.unwrap(), [longest.as_str()]);
        run.states().set(&longest, 1).await.unwrap();
        run.events().append(&longest, 1).await.unwrap();
        assert_eq!(run.events().event_types().await.unwrap(), [longest.as_str()]);
        let made = database.runs().create_run(&longest).await.unwrap();
        assert_eq!(database.runs().get_run(&longest).await.unwrap().unwrap(), made);
        assert_limit(run.kv().put(&longer, 1).await, KEY_BYTES, KEY_BYTES + 1);
        assert_limit(run.kv().get(&longer).await, KEY_BYTES, KEY_BYTES + 1);
        assert_limit(run.states().set(&longer, 1).await, KEY_BYTES, KEY_BYTES + 1);
        assert_limit(run.events().append(&longer, 1).await, KEY_BYTES, KEY_BYTES + 1);
        assert_limit(run.traces().get(&longer).await, KEY_BYTES, KEY_BYTES + 1);
        assert_limit(database.runs().create_run(&longer).await, KEY_BYTES, KEY_BYTES + 1);
        assert_works(&run).await;
    });
}

#[test]
fn a_value_of_16_mib_is_taken_and_one_byte_more_is_refused() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), BUFFERED, 1).await;
        let run = database.start_run(RunOptions::default()).await.unwrap();
        run.kv().put("largest", vec![7_u8; VALUE_BYTES]).await.unwrap();
        let larger = Value::from(vec![7_u8; VALUE_BYTES + 1]);
        assert_limit(run.kv().put("k", &larger).await, VALUE_BYTES, VALUE_BYTES + 1);
        assert_limit(run.kv().put_with_ttl("k", &larger, Duration::MAX).await, VALUE_BYTES, VALUE_BYTES + 1);
        assert_limit(run.kv().compare_and_put("k", None, &larger).await, VALUE_BYTES, VALUE_BYTES + 1);
        assert_limit(run.events().append("e", &larger).await, VALUE_BYTES, VALUE_BYTES + 1);
        assert_limit(run.states().set("s", &larger).await, VALUE_BYTES, VALUE_BYTES + 1);
        assert_limit(
            run.states().transition_or_init("s", 0, |_| Ok((larger.clone(), ()))).await,
            VALUE_BYTES,
            VALUE_BYTES + 1,
        );
        assert_limit(run.traces().record("t".into(), vec![], &larger).await, VALUE_BYTES, VALUE_BYTES + 1);
        assert_limit(database.runs().update_metadata(run.id(), &larger).await, VALUE_BYTES, VALUE_BYTES + 1);
        let reason = "r".repeat(VALUE_BYTES + 1);
        assert_limit(database.abort_run(run.id(), reason).await, VALUE_BYTES, VALUE_BYTES + 1);
        let custom = TraceType::Custom { name: "n".into(), data: larger.clone() };
        assert_limit(run.traces().record(custom, vec![], Value::Null).await, VALUE_BYTES, VALUE_BYTES + 1);
        assert_works(&run).await;
        database.close().await.unwrap();
        let database = open(directory.path(), BUFFERED, 2).await;
        let largest = database.kv().get(run.id(), "largest").await.unwrap().unwrap();
        assert_eq!(largest.as_bytes().map(<[u8]>::len), Some(VALUE_BYTES));
    });
}

#[test]
fn a_transaction_of_more_than_64_mib_is_refused_and_takes_nothing_with_it() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let value = Value::from(vec![7_u8; VALUE_BYTES]);
        let pairs = (0..5).map(|number| (format!("k{number}"), value.clone()));
        let result = run.kv().put_many(pairs).await;
        assert!(matches!(result, Err(Error::LimitExceeded { limit: 0x400_0000, .. })), "{result:?}");
        let refused = run.transaction(async |txn| {
            for number in 0..5 {
                txn.kv_put(format!("k{number}"), &value).await?;
            }
            Ok(())
        });
        let refused = refused.await;
        assert!(matches!(refused, Err(Error::LimitExceeded { limit: 0x400_0000, .. })), "{refused:?}");
        assert_eq!(run.kv().count(None).await.unwrap(), 0);
        assert_limit(run.kv().put_many((0..100_001).map(|number| (number.to_string(), 1))).await, 100_000, 100_001);
        assert_works(&run).await;
    });
}

#[test]
fn a_write_beyond_a_transaction_s_limit_is_refused_and_the_others_are_committed() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let value = Value::from(vec![7_u8; VALUE_BYTES - 1_000]);
        let open = database.begin_transaction(run.id()).await.unwrap();
        for number in 0..4 {
            open.kv_put(format!("k{number}"), &value).await.unwrap();
        }
        for _ in 0..2 {
            let refused = open.kv_put("larger", &value).await;
            assert!(matches!(refused, Err(Error::LimitExceeded { limit: 0x400_0000, .. })), "{refused:?}");
        }
        open.kv_put("small", 1).await.unwrap();
        assert!(matches!(open.commit().await, Ok(CommitOutcome::Committed(_))));
        assert_eq!(run.kv().list(None).await.unwrap(), ["k0", "k1", "k2", "k3", "small"]);
        // Part of it was written before the limit was met: such a transaction can only be aborted.
        let open = database.begin_transaction(run.id()).await.unwrap();
        let refused = open.kv().put_many((0..5).map(|number| (format!("m{number}"), value.clone()))).await;
        assert!(matches!(refused, Err(Error::LimitExceeded { limit: 0x400_0000, .. })), "{refused:?}");
        let outcome = open.commit().await;
        assert!(matches!(outcome, Ok(CommitOutcome::Conflicted(_))), "{outcome:?}");
        assert_eq!(run.kv().count(Some("m")).await.unwrap(), 0);
        assert_works(&run).await;
    });
}

#[test]
fn what_a_full_transaction_refuses_it_does_not_see_and_does_not_commit() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        let run = database.start_run(RunOptions::default()).await.unwrap();
        run.json().create("document", json!({})).await.unwrap();
        let value = Value::from(vec![7_u8; VALUE_BYTES - 1_000]);
        let large = "x".repeat(10_000);
        let transaction = database.begin_transaction(run.id()).await.unwrap();
        for number in 0..4 {
            transaction.kv_put(format!("k{number}"), &value).await.unwrap();
        }
        let is_refused =
            |refused: Result<()>| assert!(matches!(refused, Err(Error::LimitExceeded { .. })), "{refused:?}");
        is_refused(transaction.json().set("document", "a", json!({ "x": large })).await.map(drop));
        is_refused(transaction.json().create("another", json!({ "x": large })).await.map(drop));
        assert!(transaction.json().set("document", "a.b", 1).await.is_err(), "there is no place for it");
        assert!(transaction.json().set("another", "b", 1).await.is_err(), "there is no such document");
        transaction.json().set("document", "c", 1).await.unwrap();
        assert!(matches!(transaction.commit().await, Ok(CommitOutcome::Committed(_))));
        database.close().await.unwrap();
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        let run = database.run(run.id());
        assert_eq!(run.json().get("document", "").await.unwrap(), Some(json!({ "c": 1 })));
        assert_eq!(run.json().get("another", "").await.unwrap(), None);
        assert_works(&run).await;
    });
}

#[test]
fn a_value_a_hundred_levels_deep_is_taken_and_a_deeper_one_is_refused() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        let run = database.start_run(RunOptions::default()).await.unwrap();
        run.kv().put("deepest", nested(DEPTH)).await.unwrap();
        run.events().append("deepest", nested(DEPTH)).await.unwrap();
        assert_limit(run.kv().put("k", nested(DEPTH + 1)).await, DEPTH, DEPTH + 1);
        assert_limit(run.events().append("k", nested(DEPTH + 1)).await, DEPTH, DEPTH + 1);
        assert_limit(run.states().set("k", nested(DEPTH + 1)).await, DEPTH, DEPTH + 1);
        let maps = (0..=DEPTH).fold(Value::Null, |value, _| Value::Map(BTreeMap::from([("k".into(), value)])));
        assert_limit(run.kv().put("k", maps).await, DEPTH, DEPTH + 1);
        database.close().await.unwrap();
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        let run = database.run(run.id());
        assert_eq!(run.kv().get("deepest").await.unwrap(), Some(nested(DEPTH)));
        assert_eq!(run.events().head().await.unwrap().unwrap().payload, nested(DEPTH));
        assert_works(&run).await;
    });
}

#[test]
fn tags_are_counted_measured_and_never_empty() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let many = |count: usize| (0..count).map(|number| format!("tag-{number}")).collect::<Vec<_>>();
        let traces = run.traces();
        traces.record("t".into(), many(TAGS), Value::Null).await.unwrap();
        traces.record("t".into(), vec!["t".repeat(TAG_BYTES)], Value::Null).await.unwrap();
        assert_limit(traces.record("t".into(), many(TAGS + 1), Value::Null).await, TAGS, TAGS + 1);
        let long = vec!["t".repeat(TAG_BYTES + 1)];
        assert_limit(traces.record("t".into(), long.clone(), Value::Null).await, TAG_BYTES, TAG_BYTES + 1);
        let empty = vec![String::new()];
        assert_invalid(traces.record("t".into(), empty.clone(), Value::Null).await, "tag is empty");
        assert_invalid(traces.query_by_tag("").await, "tag is empty");
        assert_eq!(traces.count().await.unwrap(), 2);
        let runs = database.runs();
        assert_limit(runs.create_run_with_options("n", None, many(TAGS + 1), Value::Null).await, TAGS, TAGS + 1);
        assert_limit(runs.add_tags(run.id(), long.clone()).await, TAG_BYTES, TAG_BYTES + 1);
        assert_invalid(runs.add_tags(run.id(), empty.clone()).await, "tag is empty");
        assert_invalid(runs.query_by_tag("").await, "tag is empty");
        runs.add_tags(run.id(), many(TAGS)).await.unwrap();
        assert_limit(runs.add_tags(run.id(), vec!["one more".into()]).await, TAGS, TAGS + 1);
        let options = RunOptions { tags: empty, ..RunOptions::default() };
        assert_invalid(database.begin_run_with(options).await, "tag is empty");
        assert!(!runs.exists("n").await.unwrap());
        assert_works(&run).await;
    });
}

#[test]
fn a_trace_below_a_parent_that_is_not_there_is_refused() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let other = database.start_run(RunOptions::default()).await.unwrap();
        let elsewhere = other.traces().record("t".into(), vec![], Value::Null).await.unwrap();
        for parent in ["no id at all", "0000000000000000", "00000000000000ff", elsewhere.as_str()] {
            assert_not_found(run.traces().record_child(parent, "t".into(), vec![], Value::Null).await);
            assert_eq!(run.traces().get(parent).await.unwrap(), None);
            assert_eq!(run.traces().get_tree(parent).await.unwrap(), None);
        }
        assert_eq!(run.traces().count().await.unwrap(), 0);
        assert_works(&run).await;
    });
}

/// Every kind of write into a run, one after the other.
async fn writes(run: &RunHandle) -> Vec<Result<()>> {
    vec![
        run.kv().put("k", 1).await,
        run.kv().put_many([("k", 1), ("l", 2)]).await,
        run.kv().put_with_ttl("k", 1, Duration::MAX).await,
        run.kv().delete("before").await.map(drop),
        run.kv().delete_many(["before"]).await.map(drop),
        run.kv().compare_and_put("k", None, 1).await.map(drop),
        run.events().append("e", 1).await.map(drop),
        run.events().append_many([("e", 1)]).await.map(drop),
        run.states().set("s", 1).await.map(drop),
        run.states().init("s", 1).await.map(drop),
        run.states().cas("s", 0, 1).await.map(drop),
        run.states().increment("s", 1).await.map(drop),
        run.states().delete("s").await.map(drop),
        run.states().transition_or_init("s", 0, |_| Ok((1.into(), ()))).await.map(drop),
        run.traces().record("t".into(), vec![], Value::Null).await.map(drop),
        run.transaction(async |txn| txn.kv_put("k", 1).await).await,
    ]
}

#[test]
fn a_run_that_has_ended_takes_no_writes_and_can_still_be_read() {
    on_tokio(async {
        use RunStatus::{Archived, Cancelled, Completed, Failed};
        let (database, _) = in_memory().await;
        for status in [Completed, Failed, Cancelled, Archived] {
            let run = database.start_run(RunOptions::default()).await.unwrap();
            run.kv().put("before", 1).await.unwrap();
            database.runs().update_status(run.id(), status).await.unwrap();
            for result in writes(&run).await {
                assert_invalid(result, "has ended");
            }
            assert_eq!(run.kv().list(None).await.unwrap(), ["before"], "{status}");
            assert!(run.events().is_empty().await.unwrap());
        }
        assert_works(&database.start_run(RunOptions::default()).await.unwrap()).await;
    });
}

#[test]
fn a_run_that_was_deleted_takes_no_writes() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        run.kv().put("before", 1).await.unwrap();
        database.runs().delete_run(run.id()).await.unwrap();
        for result in writes(&run).await {
            assert_invalid(result, "was deleted");
        }
        assert_eq!(run.kv().get("before").await.unwrap(), None);
        assert_not_found(run.end().await);
        assert_works(&database.start_run(RunOptions::default()).await.unwrap()).await;
    });
}

#[test]
fn the_nil_run_id_is_refused_everywhere() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let nil = RunId::from_bytes([0; 16]);
        let handle = database.run(nil);
        assert_invalid(handle.kv().put("k", 1).await, "nil");
        assert_invalid(handle.kv().get("k").await, "nil");
        assert_invalid(handle.kv().list(None).await, "nil");
        assert_invalid(handle.events().append("e", 1).await, "nil");
        assert_invalid(handle.events().len().await, "nil");
        assert_invalid(handle.states().increment("s", 1).await, "nil");
        assert_invalid(handle.states().list().await, "nil");
        assert_invalid(handle.traces().record("t".into(), vec![], Value::Null).await, "nil");
        assert_invalid(handle.transaction(async |txn| txn.kv_put("k", 1).await).await, "nil");
        assert_invalid(database.begin_run_with(RunOptions { id: Some(nil), ..RunOptions::default() }).await, "nil");
        assert_invalid(database.end_run(nil).await, "nil");
        assert_invalid(database.run_status(nil).await, "nil");
        assert_invalid(database.runs().delete_run(nil).await, "nil");
        assert_invalid(RunId::parse(&nil.to_string()), "nil");
        assert_invalid(RunId::parse("no uuid"), "not a run id");
        assert_works(&run).await;
    });
}

#[test]
fn one_bad_pair_of_many_writes_none_of_them() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        assert_invalid(run.kv().put_many([("a", 1), ("", 2), ("b", 3)]).await, "empty");
        assert_limit(run.kv().put_many([("a", 1.into()), ("b", nested(DEPTH + 1))]).await, DEPTH, DEPTH + 1);
        assert_invalid(run.events().append_many([("a", 1), ("", 2)]).await, "empty");
        assert_eq!(run.kv().count(None).await.unwrap(), 0);
        assert!(run.events().is_empty().await.unwrap());
        run.kv().put_many(Vec::<(String, Value)>::new()).await.unwrap();
        assert_eq!(run.events().append_many(Vec::<(String, Value)>::new()).await.unwrap(), 0..0);
        assert_works(&run).await;
    });
}

#[test]
fn a_second_opener_is_told_who_has_the_database_open() {
    const TEST: &str = "bad_input::a_second_opener_is_told_who_has_the_database_open";
    let say = |result: Result<Database>, path: &Path, process: u32| match result {
        Err(Error::Locked { path: locked, holder }) => {
            assert_eq!(locked, path);
            assert!(holder.contains(&process.to_string()), "holder={holder} process={process}");
        }
        other => panic!("not refused as locked: {other:?}"),
    };
    if let Some((parent, path)) = part() {
        return on_tokio(async { say(Database::open(&path).await, &path, parent.parse().unwrap()) });
    }
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        let run = database.start_run(RunOptions::default()).await.unwrap();
        say(Database::open(directory.path()).await, directory.path(), std::process::id());
        let child = spawn_part(TEST, &std::process::id().to_string(), directory.path());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_works(&run).await;
        database.close().await.unwrap();
        open(directory.path(), DurabilityMode::Strict, 1).await;
    });
}

/// A directory that nobody, or not this user, may write into.
fn unwritable(directory: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let locked = directory.join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::create_dir(locked.join("probe")).is_err() {
        return locked;
    }
    // Root may write there; into /proc nobody may.
    PathBuf::from("/proc/in-mem")
}

#[test]
fn a_path_that_cannot_be_a_database_is_refused_with_its_name() {
    on_tokio(async {
        let directory = directory();
        let file = directory.path().join("file");
        std::fs::write(&file, "not a database").unwrap();
        for path in [file.clone(), file.join("below"), unwritable(directory.path())] {
            let error = Database::open(&path).await.unwrap_err();
            assert!(matches!(error, Error::Io(_)), "{error:?}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"not a database");
        let database = open(&directory.path().join("good"), DurabilityMode::Strict, 1).await;
        assert_works(&database.start_run(RunOptions::default()).await.unwrap()).await;
    });
}

#[test]
fn options_that_make_no_sense_are_refused() {
    on_tokio(async {
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        assert_invalid(Database::builder().shards(0).await, "at least one shard");
        assert_invalid(Database::builder().path(at("zero")).shards(0).await, "at least one shard");
        assert_limit(Database::builder().shards(1025).await, 1024, 1025);
        assert_invalid(Database::builder().durability(DurabilityMode::Strict).await, "needs a path");
        assert_invalid(Database::builder().durability(BUFFERED).await, "needs a path");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was made");
        let database = Database::builder().driver(Driver::Threads).history(HistoryRetention::Off).await.unwrap();
        assert_works(&database.start_run(RunOptions::default()).await.unwrap()).await;
    });
}

#[test]
fn a_manifest_of_garbage_is_reported_with_its_file() {
    on_tokio(async {
        let directory = directory();
        for garbage in [vec![], b"garbage".to_vec(), vec![0; 4096], vec![0xff; 70_000]] {
            let manifest = directory.path().join("MANIFEST");
            std::fs::write(&manifest, &garbage).unwrap();
            let error = Database::open(directory.path()).await.unwrap_err();
            assert!(matches!(error, Error::Corruption(_)), "{error:?}");
            assert!(error.to_string().contains("MANIFEST"), "{error}");
            assert_eq!(std::fs::read(&manifest).unwrap(), garbage, "it is left as it was found");
        }
    });
}

/// Every file below a directory and what is in it.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

async fn read_only(path: &Path) -> Database {
    Database::builder().path(path).shards(2).read_only(true).open().await.unwrap()
}

#[test]
fn a_database_opened_read_only_refuses_writes_and_changes_no_byte() {
    const TEST: &str = "bad_input::a_database_opened_read_only_refuses_writes_and_changes_no_byte";
    if let Some((part, path)) = part() {
        return on_tokio(async {
            if part == "writer" {
                let database = open(&path, DurabilityMode::Strict, 1).await;
                let run = RunId::from_bytes([3; 16]);
                database.begin_run_with(RunOptions { id: Some(run), ..RunOptions::default() }).await.unwrap();
                database.kv().put(run, "k", 1).await.unwrap();
            }
            std::process::exit(0);
        });
    }
    let directory = directory();
    // The writer dies without closing anything: there is a tail to judge.
    assert!(spawn_part(TEST, "writer", directory.path()).wait().unwrap().success());
    let before = contents(directory.path());
    on_tokio(async {
        let database = read_only(directory.path()).await;
        let run = database.run(RunId::from_bytes([3; 16]));
        assert_eq!(run.kv().get("k").await.unwrap(), Some(1.into()));
        for result in writes(&run).await {
            assert_invalid(result, "read-only");
        }
        assert_invalid(database.runs().create_run("n").await, "read-only");
        assert_invalid(database.runs().delete_run(run.id()).await, "read-only");
        assert_invalid(run.end().await, "read-only");
        let begun = database.begin_run().await;
        assert_invalid(database.kv().put(begun, "k", 1).await, "read-only");
        let read = database.transaction(run.id(), async |txn| txn.kv_get("k").await);
        assert_eq!(read.await.unwrap(), Some(1.into()));
        database.flush().await.unwrap();
        database.close().await.unwrap();
    });
    let after = contents(directory.path());
    let changed: Vec<_> =
        before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(changed.is_empty(), "changed={changed:?}");
}

#[test]
fn read_only_makes_nothing_where_nothing_is() {
    on_tokio(async {
        let directory = directory();
        let path = directory.path().join("nothing");
        let opened = Database::builder().path(&path).read_only(true).open().await;
        assert!(opened.is_err(), "there is no database to read");
        assert!(!path.exists(), "and none was made");
    });
}

#[test]
fn the_first_write_says_why_a_run_could_not_be_begun() {
    on_tokio(async {
        let (database, _) = in_memory().await;
        database.close().await.unwrap();
        let run = database.begin_run().await;
        assert!(matches!(database.kv().put(run, "k", 1).await, Err(Error::Unavailable(_))));
    });
}

#[test]
fn status_changes_of_what_is_not_there_are_refused() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        assert_not_found(database.end_run(RunId::new()).await);
        assert_not_found(database.abort_run(RunId::new(), "why").await);
        assert_not_found(database.runs().complete_run("nobody").await);
        assert_not_found(database.runs().add_tags("nobody", vec!["t".into()]).await);
        assert_not_found(database.runs().delete_run("nobody").await);
        assert_not_found(database.runs().delete_run(RunId::new()).await);
        assert_not_found(database.runs().children("nobody").await);
        assert_not_found(database.runs().create_run_with_options("n", Some("nobody"), vec![], 1).await);
        assert!(!database.runs().exists("n").await.unwrap());
        assert_eq!(database.run_status(RunId::new()).await.unwrap(), None);
        run.end().await.unwrap();
        let again = run.end().await;
        let (from, to) = (RunStatus::Completed, RunStatus::Completed);
        assert!(matches!(again, Err(Error::InvalidStatusTransition { from: f, to: t }) if f == from && t == to));
    });
}
