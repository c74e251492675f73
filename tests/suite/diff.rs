//! Diff: what two runs have and have not in common, and where they parted, whenever and wherever they did it.

use std::time::{Duration, Instant};

use crate::support::{directory, on_tokio};
use in_mem::prelude::*;
use in_mem::serde_json::{self, json};
use in_mem::{DiffEntry, HistoryRetention, Partitioning, RunDiff};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

async fn start(database: &Database) -> RunHandle {
    database.start_run(RunOptions::default()).await.unwrap()
}

fn thought(content: &str) -> TraceType {
    TraceType::Thought { content: content.into(), confidence: None }
}

fn call(tool_name: &str, result: &str, duration_ms: u64) -> TraceType {
    let result = Some(result.into());
    TraceType::ToolCall { tool_name: tool_name.into(), arguments: Value::Null, result, duration_ms: Some(duration_ms) }
}

/// An agent that takes three steps, in one of two ways.
async fn work(database: &Database, is_other: bool) -> RunId {
    let run = start(database).await;
    run.kv().put("goal", "round it").await.unwrap();
    for step in 0..3 {
        let state = json!({"step": step, "dir": "/", "open": if is_other && step == 2 { vec!["b"] } else { vec![] }});
        run.transaction(async |txn| {
            let parent = txn.trace_record(thought(&format!("look at {step}")), Value::Null).await?;
            let result = if is_other && step == 1 { "3 files" } else { "2 files" };
            txn.trace_record_child(parent, call("ls", result, u64::from(is_other)), Value::Null).await?;
            txn.event_append("observation", json!({"step": step, "text": result})).await?;
            txn.state_set("state", state.clone()).await?;
            txn.kv_put(format!("note/{step}"), step).await
        })
        .await
        .unwrap();
        if is_other && step == 0 {
            run.events().append("pause", Value::Null).await.unwrap();
        }
    }
    if is_other {
        run.kv().put("answer", format!("{}!", "x".repeat(200))).await.unwrap();
        run.kv().delete("note/0").await.unwrap();
        run.fail("out of money").await.unwrap();
    } else {
        run.kv().put("answer", format!("{}?", "x".repeat(200))).await.unwrap();
        run.end().await.unwrap();
    }
    run.id()
}

const GOLDEN: &str = r#"2 added, 1 removed, 5 modified
+ events 1: {"payload":null,"type":"pause"}
+ runs error: "out of money"
- kv note/0: 0
~ kv answer: …xxxxxxxxxxxxxxxxxxxx?" -> …xxxxxxxxxxxxxxxxxxxx!"
~ events 1->2
    ~ /payload/text: "2 files" -> "3 files"
~ states state
    + /open/0: "b"
~ traces 3
    ~ /type/ToolCall/result: "2 files" -> "3 files"
~ runs status: "Completed" -> "Failed"
first divergence: step 3
  a: kv note/1: 1
  a: events 1: {"payload":{"step":1,"text":"2 files"},"type":"observation"}
  a: states state: {"dir":"/","open":[],"step":1}
  a: traces 2: {"metadata":null,"tags":[],"type":{"Thought":{"confidence":null,"content":"look at 1"}}}
  a: traces 3: {"metadata":null,"parent":2,"tags":[],"type":{"ToolCall":{"arguments":null,"result":"2 files","tool_…
  b: events 1: {"payload":null,"type":"pause"}"#;

#[test]
fn the_text_of_a_diff_is_the_same_on_every_layout_and_from_disk() {
    for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
        let directory = directory();
        let open =
            |shards: usize| Database::builder().path(directory.path()).shards(shards).partitioning(partitioning).open();
        on_tokio(async {
            let database = open(2).await.unwrap();
            let (a, b) = (work(&database, false).await, work(&database, true).await);
            assert_eq!(database.diff_runs(a, b).await.unwrap().to_string(), GOLDEN);
            database.close().await.unwrap();
            let database = open(3).await.unwrap();
            let diff = database.diff_runs(a, b).await.unwrap();
            assert_eq!(diff.to_string(), GOLDEN);
            assert!(format!("{diff:#}").contains(&format!("{}!", "x".repeat(200))), "{diff:#}");
            database.close().await.unwrap();
        });
    }
}

#[test]
fn the_json_of_a_diff_says_the_same() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let (a, b) = (start(&database).await, start(&database).await);
        a.kv().put("k", 1).await.unwrap();
        b.kv().put("k", Value::Null).await.unwrap();
        a.kv().put("gone", vec![0_u8]).await.unwrap();
        let diff = database.diff_runs(a.id(), b.id()).await.unwrap();
        let expected = json!({
            "added": [],
            "removed": [{"primitive": "kv", "key": "gone", "a": {"$bytes": "00"}}],
            "modified": [{"primitive": "kv", "key": "k", "a": 1, "b": null}],
            "first_divergence": {
                "index": 1,
                "a": [{"primitive": "kv", "key": "k", "value": 1}],
                "b": [{"primitive": "kv", "key": "k", "value": null}],
            },
        });
        assert_eq!(diff.to_json(), expected);
        assert_eq!(serde_json::to_value(&diff).unwrap(), expected);
        let ahead = database.diff_runs(b.id(), start(&database).await.id()).await.unwrap();
        assert_eq!(ahead.to_json()["first_divergence"]["b"], json!(null));
        assert!(ahead.to_string().ends_with("\n  a: kv k: null\n  b: no step any more"), "{ahead}");
    });
}

#[test]
fn runs_that_did_the_same_do_not_differ() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let (a, b) = (work(&database, false).await, work(&database, false).await);
        for (a, b) in [(a, a), (a, b)] {
            let diff = database.diff_runs(a, b).await.unwrap();
            assert!(diff.is_empty(), "{diff:#}");
            assert_eq!(diff.to_string(), "both runs did the same");
            assert_eq!((diff.first_divergence, diff.divergence), (None, None));
        }
    });
}

#[test]
fn the_first_divergence_is_the_step_of_b_or_the_one_that_b_did_not_take() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let (a, b) = (start(&database).await, start(&database).await);
        for run in [&a, &b] {
            run.kv().put("k", 1).await.unwrap();
        }
        a.kv().put("k", 2).await.unwrap();
        let view = database.replay_run(a.id()).await.unwrap();
        let last = view.steps().last();
        let diff = database.diff_runs(a.id(), b.id()).await.unwrap();
        assert_eq!(diff.first_divergence, last);
        let divergence = diff.divergence.unwrap();
        assert_eq!((divergence.index, divergence.a, divergence.b), (2, last, None));
        b.states().set("c", 1).await.unwrap();
        let diff = database.diff_runs(a.id(), b.id()).await.unwrap();
        assert_eq!(diff.first_divergence, database.replay_run(b.id()).await.unwrap().steps().last());
        // What is undone later is no difference in the end, but a divergence all the same.
        b.states().delete("c").await.unwrap();
        b.kv().put("k", 2).await.unwrap();
        let diff = database.diff_runs(a.id(), b.id()).await.unwrap();
        assert!(diff.added.is_empty() && diff.removed.is_empty() && diff.modified.is_empty() && !diff.is_empty());
    });
}

#[test]
fn a_run_is_compared_with_its_own_past() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let run = start(&database).await;
        run.kv().put("k", 1).await.unwrap();
        let before = database.replay_run(run.id()).await.unwrap();
        run.kv().put_with_ttl("k", 2, Duration::from_millis(1)).await.unwrap();
        let between = database.replay_run(run.id()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        run.events().append("e", 1).await.unwrap();
        let after = database.replay_run(run.id()).await.unwrap();
        let entry = |primitive, key: &str, a: Option<Value>, b: Option<Value>| {
            vec![DiffEntry { primitive, key: key.into(), path: None, a, b }]
        };
        assert_eq!(before.diff(&between).modified, entry("kv", "k", Some(1.into()), Some(2.into())));
        let diff = before.diff(&after);
        assert_eq!(diff.removed, entry("kv", "k", Some(1.into()), None), "it has expired");
        let event = Value::from(json!({"type": "e", "payload": 1}));
        assert_eq!(diff.added, entry("events", "0", None, Some(event)));
        assert_eq!(diff.first_divergence.unwrap().version, between.version());
    });
}

#[test]
fn a_trace_that_moved_up_is_the_same_and_one_under_another_parent_is_not() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let runs = [start(&database).await, start(&database).await, start(&database).await];
        for (number, run) in runs.iter().enumerate() {
            let traces = run.traces();
            if number == 1 {
                traces.record(thought("wait"), vec![], Value::Null).await.unwrap();
            }
            let first = traces.record(thought("first"), vec![], Value::Null).await.unwrap();
            let second = traces.record(thought("second"), vec![], Value::Null).await.unwrap();
            let parent = if number == 2 { first } else { second };
            traces.record_child(parent, call("ls", "", 5), vec![], Value::Null).await.unwrap();
        }
        let keys = |entries: &[DiffEntry]| entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
        let moved = database.diff_runs(runs[0].id(), runs[1].id()).await.unwrap();
        assert_eq!((keys(&moved.added), moved.removed, moved.modified), (vec!["0".into()], vec![], vec![]));
        let adopted = database.diff_runs(runs[0].id(), runs[2].id()).await.unwrap();
        assert_eq!((adopted.added.len(), adopted.removed.len(), keys(&adopted.modified)), (0, 0, vec!["2".into()]));
        assert!(adopted.to_string().contains("~ traces 2\n    ~ /parent: 1 -> 0\n"), "{adopted}");
    });
}

#[test]
fn ten_thousand_events_are_aligned_at_the_cost_of_reading_them() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let (a, b, c) = (start(&database).await, start(&database).await, start(&database).await);
        let events = |prefix: &str| (0..10_000).map(|n| ("step", format!("{prefix}{n}"))).collect::<Vec<_>>();
        a.events().append_many(events("")).await.unwrap();
        let mut shifted = events("");
        shifted[5_000].1 = "changed".into();
        shifted.remove(7_000);
        shifted.insert(0, ("step", "new".into()));
        b.events().append_many(shifted).await.unwrap();
        c.events().append_many(events("all others ")).await.unwrap();
        let keys = |entries: &[DiffEntry]| entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
        let start = Instant::now();
        let diff = database.diff_runs(a.id(), b.id()).await.unwrap();
        assert_eq!(
            (keys(&diff.added), keys(&diff.removed), keys(&diff.modified)),
            (vec!["0".to_owned()], vec!["7000".to_owned()], vec!["5000->5001".to_owned()])
        );
        assert_eq!(database.diff_runs(a.id(), c.id()).await.unwrap().modified.len(), 10_000);
        println!("two diffs of 10,000 events took {:?}", start.elapsed());
        assert!(start.elapsed().as_secs() < 30, "elapsed={:?}", start.elapsed());
    });
}

#[test]
fn documents_differ_in_places_and_a_fork_only_in_what_it_did() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let parent = start(&database).await;
        parent.json().create("doc", json!({"a": {"b": 1, "c": 2}, "list": [1, 2]})).await.unwrap();
        parent.json().create("old", json!(1)).await.unwrap();
        let child = database.fork_run(parent.id(), None, "child").await.unwrap();
        child.json().set("doc", "/a/b", json!("new")).await.unwrap();
        child.json().array_push("doc", "/list", json!(3)).await.unwrap();
        child.json().delete("old").await.unwrap();
        let diff = database.diff_runs(parent.id(), child.id()).await.unwrap();
        let entry = |key: &str, path: Option<&str>, a: Option<Value>, b: Option<Value>| DiffEntry {
            primitive: "json",
            key: key.into(),
            path: path.map(Into::into),
            a,
            b,
        };
        assert_eq!(diff.modified, [entry("doc", Some("/a/b"), Some(1.into()), Some("new".into()))]);
        assert_eq!(diff.added, [entry("doc", Some("/list/2"), None, Some(3.into()))]);
        assert_eq!(diff.removed, [entry("old", None, Some(1.into()), None)]);
    });
}

/// What the child began with is what its parent did until then, whatever has expired since.
#[test]
fn a_fork_and_its_parent_part_where_one_of_them_went_on() {
    for (shards, partitioning) in [(1, Partitioning::ByRun), (3, Partitioning::ByKey)] {
        on_tokio(async {
            let database = Database::builder().shards(shards).partitioning(partitioning).open().await.unwrap();
            let parent = start(&database).await;
            parent.kv().put_with_ttl("soon", 1, Duration::from_millis(30)).await.unwrap();
            parent.kv().put("early", 1).await.unwrap();
            let early = parent.kv().get_versioned("early").await.unwrap().unwrap().version;
            parent.events().append("step", 1).await.unwrap();
            parent.json().create("document", json!({"a": 1})).await.unwrap();
            parent.json().set("document", "/a", 2).await.unwrap();
            let child = database.fork_run(parent.id(), None, "child").await.unwrap();
            let diff = database.diff_runs(parent.id(), child.id()).await.unwrap();
            assert!(diff.is_empty(), "{diff}");
            tokio::time::sleep(Duration::from_millis(60)).await;
            child.kv().put("mine", 1).await.unwrap();
            let diff = database.diff_runs(parent.id(), child.id()).await.unwrap();
            let keys = |entries: &[DiffEntry]| entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
            assert_eq!(
                (keys(&diff.added), diff.removed.len(), diff.modified.len()),
                (vec!["mine".into()], 0, 0),
                "{diff}"
            );
            let parted = diff.divergence.unwrap();
            assert_eq!((parted.index, parted.a), (6, None));
            assert_eq!(parted.b.unwrap().changes.len(), 1);
            let past = database.fork_run(parent.id(), Some(early), "past").await.unwrap();
            let diff = database.diff_runs(past.id(), parent.id()).await.unwrap();
            assert_eq!(keys(&diff.added), ["0", "document"], "{diff}");
            assert_eq!((diff.removed.len(), diff.modified.len(), diff.divergence.unwrap().index), (0, 0, 3));
        });
    }
}

#[test]
fn what_a_commit_made_and_deleted_was_never_there() {
    on_tokio(async {
        let database = Database::builder().shards(1).open().await.unwrap();
        let run = start(&database).await;
        let both = async |txn: Transaction| {
            txn.kv().put("x", "secret").await?;
            txn.json().create("document", json!(1)).await?;
            txn.kv().delete("x").await?;
            txn.json().delete("document").await
        };
        run.transaction(both).await.unwrap();
        let view = database.replay_run(run.id()).await.unwrap();
        let step = view.steps().next_back().unwrap();
        let gone = [
            in_mem::Change::Kv { key: "x".into(), value: None },
            in_mem::Change::Json { key: "document".into(), document: None },
        ];
        assert_eq!((step.changes.as_slice(), view.records()), (&gone[..], 3));
        assert!(database.verify_run(run.id()).await.unwrap().is_valid);
    });
}

#[test]
fn what_cannot_be_replayed_cannot_be_compared() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let run = start(&database).await.id();
        for (a, b) in [(run, RunId::new()), (RunId::new(), run)] {
            let nobody = database.diff_runs(a, b).await;
            assert!(matches!(nobody, Err(Error::KeyNotFound(_))), "{nobody:?}");
        }
        let history = Some(HistoryRetention::Commits(1));
        let short = database.begin_run_with(RunOptions { history, ..RunOptions::default() }).await.unwrap();
        for number in 0..4 {
            database.kv().put(short, "k", number).await.unwrap();
        }
        let forgotten = database.diff_runs(run, short).await;
        assert!(matches!(forgotten, Err(Error::InvalidOperation(_))), "{forgotten:?}");
    });
}

/// One step of a generated run.
#[derive(Clone, Debug)]
enum Move {
    Put(u8, u8),
    Delete(u8),
    Append(u8, u8),
    Set(u8, u8),
    Record(u8, Option<u8>),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        (0..3_u8, 0..3_u8).prop_map(|(key, value)| Move::Put(key, value)),
        (0..3_u8).prop_map(Move::Delete),
        (0..2_u8, 0..3_u8).prop_map(|(kind, payload)| Move::Append(kind, payload)),
        (0..2_u8, 0..3_u8).prop_map(|(cell, value)| Move::Set(cell, value)),
        (0..3_u8, prop::option::of(0..4_u8)).prop_map(|(kind, parent)| Move::Record(kind, parent)),
    ];
    prop::collection::vec(one, 0..25)
}

async fn play(database: &Database, moves: &[Move]) -> RunId {
    let run = start(database).await;
    let mut traces = Vec::new();
    for one in moves {
        match one {
            Move::Put(key, value) => run.kv().put(key.to_string(), i64::from(*value)).await.unwrap(),
            Move::Delete(key) => drop(run.kv().delete(key.to_string()).await.unwrap()),
            Move::Append(kind, payload) => {
                run.events().append(kind.to_string(), i64::from(*payload)).await.unwrap();
            }
            Move::Set(cell, value) => drop(run.states().set(cell.to_string(), i64::from(*value)).await.unwrap()),
            Move::Record(kind, parent) => {
                let kind = TraceType::from(kind.to_string());
                let parent: Option<&String> = parent.and_then(|parent| traces.get(usize::from(parent)));
                let id = match parent {
                    Some(parent) => run.traces().record_child(parent, kind, vec![], Value::Null).await,
                    None => run.traces().record(kind, vec![], Value::Null).await,
                };
                traces.push(id.unwrap());
            }
        }
    }
    run.id()
}

fn mirrored(diff: RunDiff) -> [Vec<DiffEntry>; 3] {
    let swap = |entries: Vec<DiffEntry>| entries.into_iter().map(|entry| DiffEntry { a: entry.b, b: entry.a, ..entry });
    let turn = |entry: DiffEntry| match entry.key.split_once("->") {
        Some((a, b)) => DiffEntry { key: format!("{b}->{a}"), ..entry },
        None => entry,
    };
    [diff.removed, diff.added, diff.modified].map(|entries| swap(entries).map(turn).collect())
}

#[test]
fn a_diff_the_other_way_round_is_mirrored_and_explains_every_event() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(Database::open_in_memory()).unwrap();
    let check = |(of_a, of_b): (Vec<Move>, Vec<Move>)| {
        runtime.block_on(async {
            let (a, b) = (play(&database, &of_a).await, play(&database, &of_b).await);
            let there = database.diff_runs(a, b).await.unwrap();
            let back = database.diff_runs(b, a).await.unwrap();
            let count =
                |entries: &[DiffEntry]| entries.iter().filter(|entry| entry.primitive == "events").count() as u64;
            let (len_a, len_b) = (database.events().len(a).await.unwrap(), database.events().len(b).await.unwrap());
            assert_eq!(len_a + count(&there.added), len_b + count(&there.removed));
            let parted = |diff: &RunDiff| diff.divergence.clone().map(|at| (at.index, at.a, at.b));
            assert_eq!(parted(&there), parted(&back).map(|(index, a, b)| (index, b, a)));
            assert_eq!([there.added.clone(), there.removed.clone(), there.modified.clone()], mirrored(back));
            assert!(database.diff_runs(a, a).await.unwrap().is_empty());
            assert!(database.diff_runs(a, play(&database, &of_a).await).await.unwrap().is_empty());
        });
        Ok(())
    };
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) };
    TestRunner::new(config).run(&(moves(), moves()), check).unwrap();
    runtime.block_on(database.close()).unwrap();
}
