//! JSON documents: every operation and its edges.

use crate::support::{BUFFERED, directory, in_memory, on_tokio, open};
use in_mem::prelude::*;
use in_mem::{HistoryRetention, Partitioning};
use serde::{Deserialize, Serialize};
use serde_json::json;

fn patch(operations: serde_json::Value) -> json_patch::Patch {
    serde_json::from_value(operations).unwrap()
}

async fn text(json: &RunJson, key: &str) -> Option<String> {
    json.get(key, "").await.unwrap().map(|document| document.to_string())
}

#[test]
fn a_document_is_made_read_changed_and_deleted() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let json = run.json();
        assert_eq!(json.get("plan", "").await.unwrap(), None);
        assert!(!json.exists("plan").await.unwrap());
        let made = json.create("plan", json!({"goal": "fix", "steps": [{"tool": "grep"}]})).await.unwrap();
        assert!(matches!(json.create("plan", json!(1)).await, Err(Error::AlreadyExists(_))));
        assert_eq!(json.version("plan").await.unwrap(), Some(made));
        assert_eq!(json.get("plan", "steps[0].tool").await.unwrap(), Some(json!("grep")));
        assert_eq!(json.get("plan", "/steps/0/tool").await.unwrap(), Some(json!("grep")));
        assert_eq!(json.get("plan", "steps[1]").await.unwrap(), None);
        let changed = json.set("plan", "steps[0].tries", 3).await.unwrap();
        assert!(changed > made);
        json.array_push("plan", "steps", json!({"tool": "sed"})).await.unwrap();
        json.merge("plan", json!({"goal": null, "done": false})).await.unwrap();
        let operations = json!([{"op": "move", "from": "/steps/0", "path": "/steps/-"}]);
        json.patch("plan", patch(operations)).await.unwrap();
        let expected = r#"{"steps":[{"tool":"sed"},{"tool":"grep","tries":3}],"done":false}"#;
        assert_eq!(text(&json, "plan").await.as_deref(), Some(expected));
        assert!(json.delete_at("plan", "steps[0]").await.unwrap());
        assert!(!json.delete_at("plan", "steps[5]").await.unwrap());
        assert_eq!(json.query("plan", "$.steps[*].tries").await.unwrap(), [json!(3)]);
        assert!(json.delete("plan").await.unwrap());
        assert!(!json.delete("plan").await.unwrap());
        assert!(json.query("plan", "$").await.unwrap().is_empty());
        assert_eq!(json.version("plan").await.unwrap(), None);
    });
}

#[test]
fn whoever_names_a_version_writes_only_if_it_is_there() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let json = run.json();
        let first = json.create("d", json!({"n": 1})).await.unwrap();
        let second = json.cas("d", first, "n", 2).await.unwrap();
        let lost = json.cas("d", first, "n", 3).await;
        let (expected, actual) = (first.get(), second.get());
        assert!(
            matches!(lost, Err(Error::VersionMismatch { expected: e, actual: a }) if (e, a) == (expected, actual)),
            "{lost:?}"
        );
        assert_eq!(json.get("d", "n").await.unwrap(), Some(json!(2)));
        assert!(matches!(json.cas("none", first, "", 1).await, Err(Error::VersionMismatch { actual: 0, .. })));
    });
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Step {
    tool: String,
    tries: u64,
}

#[test]
fn types_of_the_callers_own_are_read() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let step = Step { tool: "grep".into(), tries: u64::MAX };
        database.json().create(run.id(), "d", json!({"step": step})).await.unwrap();
        assert_eq!(database.json().get_as(run.id(), "d", "step").await.unwrap(), Some(step));
        assert_eq!(run.json().get_as::<Step>("d", "none").await.unwrap(), None);
        assert!(matches!(run.json().get_as::<Step>("d", "").await, Err(Error::Serialization(_))));
    });
}

#[test]
fn lists_are_in_order_and_by_prefix() {
    on_tokio(async {
        for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
            let database = Database::builder().shards(3).partitioning(partitioning).open().await.unwrap();
            let run = database.start_run(RunOptions::default()).await.unwrap();
            let keys: Vec<String> = (0..50).map(|number| format!("key-{number:02}")).collect();
            for key in keys.iter().rev() {
                run.json().create(key, json!({"key": key})).await.unwrap();
            }
            assert_eq!(run.json().list(None).await.unwrap(), keys);
            assert_eq!(run.json().list(Some("key-1")).await.unwrap(), keys[10..20]);
            assert_eq!(run.json().get("key-07", "key").await.unwrap(), Some(json!("key-07")));
            run.kv().put("key-07", 1).await.unwrap();
            run.json().delete("key-07").await.unwrap();
            assert_eq!(run.json().list(Some("key-0")).await.unwrap().len(), 9);
            assert_eq!(
                run.kv().get("key-07").await.unwrap(),
                Some(1.into()),
                "documents and pairs have keys of their own"
            );
        }
    });
}

#[test]
fn transactions_at_siblings_both_commit_and_those_that_overlap_do_not() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        run.json().create("d", json!({"a": {"b": 1, "c": 1}, "list": [1]})).await.unwrap();
        for (one, other, is_lost) in
            [("a.b", "a.c", false), ("a.b", "a.new", false), ("a.b", "a", true), ("a", "a.b", true), ("", "list", true)]
        {
            let first = database.begin_transaction(run.id()).await.unwrap();
            let second = database.begin_transaction(run.id()).await.unwrap();
            let value = first.json().get("d", one).await.unwrap().unwrap();
            first.json_set("d", one, value).await.unwrap();
            second.json_set("d", other, json!({"c": 2})).await.unwrap();
            assert!(matches!(first.commit().await.unwrap(), CommitOutcome::Committed(_)));
            let outcome = second.commit().await.unwrap();
            let lost = matches!(&outcome, CommitOutcome::Conflicted(conflict) if conflict.primitive == "json");
            assert_eq!(lost, is_lost, "{one} {other} {outcome:?}");
        }
    });
}

#[test]
fn many_writers_of_siblings_never_conflict() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        run.json().create("d", json!({"counts": {}})).await.unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let (database, id) = (database.clone(), run.id());
            writers.spawn(async move {
                for round in 0..25 {
                    let transaction = database.begin_transaction(id).await.unwrap();
                    let path = format!("counts.writer{writer}");
                    let before = transaction.json_get("d", &path).await.unwrap();
                    assert_eq!(before, (round > 0).then(|| json!(round)));
                    transaction.json_set("d", &path, round + 1).await.unwrap();
                    let outcome = transaction.commit().await.unwrap();
                    assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
                }
            });
        }
        writers.join_all().await;
        let counts = run.json().get("d", "counts").await.unwrap().unwrap();
        assert_eq!(counts.as_object().unwrap().len(), 8);
        assert!(counts.as_object().unwrap().values().all(|count| *count == json!(25)));
    });
}

#[test]
fn transactions_over_shards_at_siblings_all_commit_and_are_there_after_a_restart() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 3).await;
        let runs: Vec<RunId> = (0..6).map(|_| RunId::new()).collect();
        for run in &runs {
            database.json().create(run, "d", json!({"counts": {}})).await.unwrap();
        }
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..6_usize {
            let (database, pair) = (database.clone(), [runs[writer % 3], runs[3 + writer % 2]]);
            writers.spawn(async move {
                let path = format!("/counts/w{writer}");
                for _ in 0..20 {
                    let count = async |transaction: MultiTransaction| {
                        for run in pair {
                            let run = transaction.run(run);
                            let before = run.json_get("d", &path).await?.and_then(|count| count.as_u64()).unwrap_or(0);
                            run.json_set("d", &path, before + 1).await?;
                        }
                        Ok(())
                    };
                    database.transaction_across(pair, count).await.unwrap();
                    database.json().set(pair[0], "d", format!("/counts/alone{writer}"), 1).await.unwrap();
                }
            });
        }
        writers.join_all().await;
        let mut documents = Vec::new();
        for (at, run) in runs.iter().enumerate() {
            let document = database.json().get(run, "d", "counts").await.unwrap().unwrap();
            for writer in (0..6).filter(|writer| writer % 3 == at || 3 + writer % 2 == at) {
                assert_eq!(document[format!("w{writer}")], json!(20), "{document}");
            }
            documents.push(document.to_string());
        }
        database.close().await.unwrap();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        for (run, document) in runs.iter().zip(documents) {
            assert_eq!(database.json().get(run, "d", "counts").await.unwrap().unwrap().to_string(), document);
        }
    });
}

#[test]
fn what_was_written_is_there_after_a_crash_a_checkpoint_and_on_more_shards() {
    on_tokio(async {
        for mode in [BUFFERED, DurabilityMode::Strict] {
            let directory = directory();
            let run = RunId::new();
            let database = open(directory.path(), mode, 2).await;
            let json = database.json();
            json.create(run, "d", json!({"z": [1, 2.5, u64::MAX, -0.0], "a": {"text": "ä\u{0}"}})).await.unwrap();
            json.create(run, "gone", json!([])).await.unwrap();
            json.delete(run, "gone").await.unwrap();
            json.set(run, "d", "m", json!({})).await.unwrap();
            database.checkpoint().await.unwrap();
            json.set(run, "d", "a.late", i64::MIN).await.unwrap();
            json.delete_at(run, "d", "z[0]").await.unwrap();
            let expected = database.json().get(run, "d", "").await.unwrap().unwrap().to_string();
            let version = json.version(run, "d").await.unwrap();
            database.close().await.unwrap();
            let text =
                r#"{"z":[2.5,18446744073709551615,-0.0],"a":{"text":"ä\u0000","late":-9223372036854775808},"m":{}}"#;
            assert_eq!(expected, text);
            for shards in [3, 1] {
                let database = open(directory.path(), mode, shards).await;
                assert_eq!(database.json().get(run, "d", "").await.unwrap().unwrap().to_string(), expected);
                assert_eq!(database.json().version(run, "d").await.unwrap(), version);
                assert_eq!(database.json().list(run, None).await.unwrap(), ["d"]);
                database.close().await.unwrap();
            }
        }
    });
}

#[test]
fn an_older_version_reads_as_it_was() {
    on_tokio(async {
        let database = Database::builder().history(HistoryRetention::Forever).open().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        let before = run.json().create("d", json!({"a": 1})).await.unwrap();
        run.json().set("d", "a", 2).await.unwrap();
        run.json().delete("d").await.unwrap();
        for number in 0..100 {
            run.kv().put("k", number).await.unwrap();
        }
        let view = database.snapshot_at(run.id(), before).await.unwrap();
        assert_eq!(view.json().get("d", "a").await.unwrap(), Some(json!(1)));
        assert_eq!(view.json().list(None).await.unwrap(), ["d"]);
        assert_eq!(run.json().list(None).await.unwrap(), Vec::<String>::new());
        assert!(matches!(view.json().set("d", "a", 3).await, Err(Error::InvalidOperation(_))));
    });
}

#[test]
fn bad_input_is_refused_at_the_door() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let json = run.json();
        json.create("d", json!({"a": [1]})).await.unwrap();
        for path in ["a..b", "a[", "a[x]", "/~2", "."] {
            assert!(matches!(json.get("d", path).await, Err(Error::InvalidOperation(_))), "{path}");
            assert!(matches!(json.set("d", path, 1).await, Err(Error::InvalidOperation(_))), "{path}");
        }
        assert!(matches!(json.query("d", "a[").await, Err(Error::InvalidOperation(_))));
        assert!(matches!(json.get("", "").await, Err(Error::InvalidOperation(_))));
        let deep = (0..101).fold(json!(1), |inner, _| json!([inner]));
        for refused in [
            json.create("deep", deep.clone()).await,
            json.set("d", "a[0]", (0..99).fold(json!(1), |inner, _| json!([inner]))).await,
            json.create("long", json!(vec![0; 1_000_001])).await,
            json.create("large", "x".repeat(16 << 20)).await,
            json.set("d", "/a".repeat(257), 1).await,
            json.merge("d", deep).await,
        ] {
            assert!(matches!(refused, Err(Error::LimitExceeded { .. })), "{refused:?}");
        }
        json.create("large", "x".repeat((16 << 20) - 2)).await.unwrap();
        assert_eq!(json.get("d", "").await.unwrap(), Some(json!({"a": [1]})));
    });
}

#[test]
fn documents_count_for_the_memory_limit_and_edits_count_what_they_add() {
    on_tokio(async {
        let builder = Database::builder().memory_limit(1 << 20).history(HistoryRetention::Forever).shards(1);
        let database = builder.open().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        run.json().create("large", json!({"text": "x".repeat(400_000), "n": 0})).await.unwrap();
        for number in 0..500 {
            run.json().set("large", "n", number).await.unwrap();
        }
        let used = database.info().memory_bytes;
        assert!((400_000..700_000).contains(&used), "{used}");
        let refused = run.json().set("large", "more", "y".repeat(700_000)).await;
        assert!(matches!(refused, Err(Error::OutOfMemory { .. })), "{refused:?}");
        assert!(run.json().delete_at("large", "text").await.unwrap());
    });
}

#[test]
fn old_versions_share_what_did_not_change_in_a_snapshot_too() {
    on_tokio(async {
        let directory = directory();
        let open = || Database::builder().path(directory.path()).history(HistoryRetention::Forever).shards(1).open();
        let (database, run) = (open().await.unwrap(), RunId::new());
        let mut versions = vec![database.json().create(run, "d", json!({"x": "x".repeat(200_000)})).await.unwrap()];
        for number in 0..100 {
            versions.push(database.json().set(run, "d", "n", number).await.unwrap());
        }
        database.checkpoint().await.unwrap();
        database.close().await.unwrap();
        let snapshots = std::fs::read_dir(directory.path().join("snapshots")).unwrap();
        let bytes: u64 = snapshots.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 1_000_000, "{bytes}");
        let database = open().await.unwrap();
        let used = database.info().memory_bytes;
        assert!(used < 500_000, "{used}");
        for (version, number) in versions.into_iter().skip(1).zip(0..) {
            let view = database.snapshot_at(run, version).await.unwrap();
            assert_eq!(view.json().get("d", "n").await.unwrap(), Some(json!(number)));
        }
        database.close().await.unwrap();
    });
}

/// Siblings that grow at the same time can go past the limit together.
#[test]
fn a_document_past_the_limit_can_be_made_smaller_and_not_larger() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let run = run.id();
        database.json().create(run, "document", json!({})).await.unwrap();
        let mut open = Vec::new();
        for number in 0..3 {
            let transaction = database.begin_transaction(run).await.unwrap();
            transaction.json().set("document", format!("/k{number}"), "x".repeat(12 << 20)).await.unwrap();
            open.push(transaction);
        }
        for transaction in open {
            assert!(matches!(transaction.commit().await.unwrap(), CommitOutcome::Committed(_)));
        }
        let larger = database.json().set(run, "document", "/another", 1).await;
        assert!(matches!(larger, Err(Error::LimitExceeded { .. })), "{larger:?}");
        database.json().set(run, "document", "/k0", 1).await.unwrap();
        assert!(database.json().delete_at(run, "document", "/k1").await.unwrap());
        database.json().set(run, "document", "/another", 1).await.unwrap();
    });
}

/// Filters in filters take exponential time to read, and parentheses take stack.
#[test]
fn a_query_that_is_nested_too_deep_is_refused_at_once() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let run = run.id();
        database.json().create(run, "document", json!({"a": [1, 2], "(((((((((((((": 1})).await.unwrap();
        let filters = |count: usize| format!("$[?@{}{}]", "[?@".repeat(count), "]".repeat(count));
        let deep = ["(", "!(", "length(", "[?@"].map(|text| format!("$[?{}", text.repeat(2_000)));
        for query in deep.into_iter().chain([filters(18), format!("$.{}", "a".repeat(70_000))]) {
            let refused = database.json().query(run, "document", &query).await;
            assert!(matches!(refused, Err(Error::LimitExceeded { .. })), "{refused:?}");
        }
        assert!(database.json().query(run, "document", filters(5)).await.is_ok());
        let quoted = database.json().query(run, "document", r#"$['(((((((((((((', "\\'((((((((((((" ]"#).await;
        assert_eq!(quoted.unwrap(), [json!(1)]);
    });
}
