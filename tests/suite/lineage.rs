//! Lineage: what the values were based on that a transaction wrote, as far back as it is kept.

use std::path::Path;

use crate::support::placement::run_on;
use crate::support::{BUFFERED, directory, on_tokio};
use in_mem::prelude::*;
use in_mem::{HistoryRetention, Lineage, LineageOptions, Origin, Partitioning, Primitive, Read};
use serde_json::json;

async fn open(path: &Path, shards: usize, partitioning: Partitioning) -> Database {
    let builder = Database::builder().path(path).durability(BUFFERED).shards(shards).partitioning(partitioning);
    builder.lineage(true).open().await.unwrap()
}

async fn in_memory() -> Database {
    Database::builder().shards(1).lineage(true).open().await.unwrap()
}

/// The version of the last commit of a run.
async fn last(database: &Database, run: RunId) -> Version {
    database.replay_run(run).await.unwrap().version()
}

/// What the last commit of a run read, and all before it.
async fn explained(database: &Database, run: RunId, primitive: Primitive, key: &str) -> String {
    let version = last(database, run).await;
    tree(&database.explain(run, primitive, key, version).await.unwrap().reads)
}

/// Without versions, which differ from one time to the next.
fn tree(reads: &[Read]) -> String {
    let one = |read: &Read| {
        let path = read.path.as_deref().unwrap_or_default();
        let origin = match &read.origin {
            Origin::Commit { reads, .. } if reads.is_empty() => String::new(),
            Origin::Commit { reads, .. } => format!(" [{}]", tree(reads)),
            other => format!(" {other:?}").to_lowercase(),
        };
        format!("{} {}{path}{origin}", read.primitive, read.key)
    };
    reads.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn is_invalid(result: &Result<Lineage>, reason: &str) -> bool {
    matches!(result, Err(Error::InvalidOperation(text)) if text.contains(reason))
}

/// Somebody asks for something, the agent sets itself a goal, decides, and acts on it.
async fn act(database: &Database, run: RunId) {
    database.kv().put(run, "request", "tea").await.unwrap();
    let decide = async |txn: Transaction| {
        let request = txn.kv().get("request").await?.unwrap();
        txn.states().set("goal", request).await
    };
    database.transaction(run, decide).await.unwrap();
    let act = async |txn: Transaction| {
        assert!(txn.kv().get("veto").await?.is_none());
        let goal = txn.states().read("goal").await?.unwrap();
        txn.kv().put("last", goal.value.clone()).await?;
        assert_eq!(txn.kv().get("last").await?, Some(goal.value.clone()), "what it wrote itself is no read");
        txn.events().append("acted", goal.value).await
    };
    database.transaction(run, act).await.unwrap();
}

const ACTED: &str = "kv veto nothing, states goal [kv request, states goal nothing]";

#[test]
fn a_chain_of_decisions_is_explained_back_to_what_nobody_decided() {
    on_tokio(async {
        let database = in_memory().await;
        let run = RunId::new();
        act(&database, run).await;
        assert_eq!(explained(&database, run, Primitive::Events, "0").await, ACTED);
        assert_eq!(explained(&database, run, Primitive::Kv, "last").await, ACTED, "of one transaction");
        let version = last(&database, run).await;
        let lineage = database.explain(run, Primitive::Events, "0", version).await.unwrap();
        assert_eq!((lineage.run, lineage.key.as_str(), lineage.version), (run, "0", version));
        let Origin::Commit { reads, is_truncated: false } = &lineage.reads[1].origin else { panic!("{lineage:?}") };
        let request = database.kv().get_versioned(run, "request").await.unwrap().unwrap().version;
        assert_eq!((reads[0].version, reads[1].version), (Some(request), None));
        let goal = lineage.reads[1].version.unwrap();
        let expected = format!(
            "events 0 @{version} run={run}\n  kv veto: nothing\n  states goal @{goal}\n    kv request @{request}\n    states \
             goal: nothing"
        );
        assert_eq!(lineage.to_string(), expected);
        let json = serde_json::to_value(&lineage).unwrap();
        assert_eq!(
            json["reads"][0],
            json!({"run": run, "primitive": "kv", "key": "veto", "version": null, "origin": "nothing"})
        );
        assert_eq!(json["reads"][1]["origin"]["commit"]["reads"][0]["version"], json!(request));
        let blind = database.explain(run, Primitive::Kv, "request", request).await.unwrap();
        assert_eq!((blind.reads, blind.is_truncated), (vec![], false));
    });
}

#[test]
fn single_operations_that_look_before_they_write_have_a_lineage_too() {
    on_tokio(async {
        let database = in_memory().await;
        let run = database.run(RunId::new());
        run.states().increment("counter", 1).await.unwrap();
        assert_eq!(explained(&database, run.id(), Primitive::States, "counter").await, "states counter nothing");
        run.states().transition("counter", |state| Ok((state.value.clone(), ()))).await.unwrap();
        let before = "states counter [states counter nothing]";
        assert_eq!(explained(&database, run.id(), Primitive::States, "counter").await, before);
        run.kv().put("k", 1).await.unwrap();
        let version = last(&database, run.id()).await;
        run.kv().compare_and_put("k", Some(version), 2).await.unwrap();
        assert_eq!(explained(&database, run.id(), Primitive::Kv, "k").await, "kv k");
        run.kv().put("k", 3).await.unwrap();
        assert_eq!(explained(&database, run.id(), Primitive::Kv, "k").await, "", "a blind put");
        run.events().append("e", 1).await.unwrap();
        assert_eq!(explained(&database, run.id(), Primitive::Events, "0").await, "", "where a log ends is no value");
    });
}

#[test]
fn places_in_documents_scans_indexes_and_metadata_are_told_apart() {
    on_tokio(async {
        let database = in_memory().await;
        let other = database.start_run(RunOptions::default()).await.unwrap();
        let run = database.run(RunId::new());
        run.json().create("doc", json!({"a": {"b": 1}, "list": [5]})).await.unwrap();
        let made = run.json().version("doc").await.unwrap();
        run.events().append_many([("one", 1), ("two", 2)]).await.unwrap();
        let root = run.traces().record("plan".into(), vec!["tag".into()], 1).await.unwrap();
        run.traces().record_child(&root, "step".into(), vec![], 1).await.unwrap();
        let read = async |txn: MultiTransaction| {
            let (in_run, in_other) = (txn.run(run.id()), txn.run(other.id()));
            in_run.json().get("doc", "/a/b").await?;
            in_run.json().exists("none").await?;
            in_run.json().list(Some("d")).await?;
            in_run.kv().list(Some("user:")).await?;
            in_run.kv().list(None).await?;
            in_run.events().read(1).await?;
            in_run.events().read_range(1, 9).await?;
            in_run.events().read_by_type("two").await?;
            in_run.traces().get(&root).await?;
            in_run.traces().query_by_tag("tag").await?;
            in_run.traces().get_children(&root).await?;
            in_run.states().list().await?;
            in_other.events().len().await?;
            in_run.kv().put("decision", 1).await
        };
        database.transaction_across([run.id(), other.id()], read).await.unwrap();
        let version = last(&database, run.id()).await;
        let lineage = database.explain(run.id(), Primitive::Kv, "decision", version).await.unwrap();
        let shown: Vec<String> = lineage
            .reads
            .iter()
            .map(|read| format!("{} {}{}", read.primitive, read.key, read.path.as_deref().unwrap_or_default()))
            .collect();
        for expected in [
            "json doc/a/b".to_owned(),
            "json none".into(),
            "json d*".into(),
            "kv user:*".into(),
            "kv *".into(),
            "events 1".into(),
            "events 1..9".into(),
            "events type=two".into(),
            format!("traces {root}"),
            "traces tag=tag".into(),
            format!("traces parent={root}"),
            "states *".into(),
            "events the end of the log".into(),
        ] {
            assert!(shown.contains(&expected), "{expected} is missing: {shown:?}");
        }
        assert!(!shown.iter().any(|read| read == "runs metadata"), "every write looks at it");
        let place = lineage.reads.iter().find(|read| read.path.as_deref() == Some("/a/b")).unwrap();
        assert_eq!((place.version, place.key.as_str()), (made, "doc"));
        assert!(matches!(place.origin, Origin::Commit { .. }), "the document is followed: {place:?}");
        let scan = lineage.reads.iter().find(|read| read.key == "user:*").unwrap();
        assert!(scan.origin == Origin::Scan && scan.version.unwrap() < version);
        let trace = lineage.reads.iter().find(|read| read.key == root).unwrap();
        database.explain(run.id(), Primitive::Traces, &root, trace.version.unwrap()).await.unwrap();
    });
}

/// Everything that a transaction read on several shards is there on each, whatever happens to the database.
#[test]
fn a_lineage_over_runs_survives_reopening_snapshots_and_another_layout() {
    for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
        let directory = directory();
        on_tokio(async {
            let database = open(directory.path(), 2, partitioning).await;
            let [from, looked_at, to] = [run_on(0, 2), run_on(1, 2), run_on(1, 2)];
            act(&database, from).await;
            database.kv().put_many(looked_at, [("a", 1), ("b", 2)]).await.unwrap();
            let across = async |txn: MultiTransaction| {
                let acted = txn.run(from).events().read(0).await?.unwrap();
                txn.run(looked_at).kv().get_many(["a", "c"]).await?;
                txn.run(to).kv().put("b", acted.payload.clone()).await?;
                txn.run(to).states().set("heard", acted.payload).await
            };
            database.transaction_across([from, looked_at, to], across).await.unwrap();
            let version = last(&database, to).await;
            let mut parts = [
                (from, format!("events 0 [{ACTED}]")),
                (looked_at, "kv a, kv c nothing".to_owned()),
                (to, "states heard nothing".into()),
            ];
            parts.sort();
            let expected = parts.map(|(_, part)| part).join(", ");
            let check = async |database: &Database, when: &str| {
                for (primitive, key) in [(Primitive::Kv, "b"), (Primitive::States, "heard")] {
                    let lineage = database.explain(to, primitive, key, version).await.unwrap();
                    assert_eq!(tree(&lineage.reads), expected, "{partitioning:?} {when}");
                }
                assert_eq!(explained(database, from, Primitive::Events, "0").await, ACTED);
            };
            check(&database, "at once").await;
            database.close().await.unwrap();
            let database = open(directory.path(), 2, partitioning).await;
            check(&database, "reopened").await;
            database.checkpoint().await.unwrap();
            database.close().await.unwrap();
            for shards in [2, 3, 1, 2] {
                let database = open(directory.path(), shards, partitioning).await;
                check(&database, &format!("on {shards} shards")).await;
                if shards == 3 {
                    database.checkpoint().await.unwrap();
                    database.checkpoint().await.unwrap();
                }
                database.close().await.unwrap();
            }
            let [backup, salvaged] = ["backup", "salvaged"].map(|name| directory.path().join(name));
            let database = open(directory.path(), 2, partitioning).await;
            database.backup(&backup).await.unwrap();
            check(&open(&backup, 2, partitioning).await, "from a backup").await;
            database.runs().delete_run(from).await.unwrap();
            let lineage = database.explain(to, Primitive::Kv, "b", version).await.unwrap();
            assert!(tree(&lineage.reads).contains("events 0 unknown"), "{}", tree(&lineage.reads));
            let gone = database.explain(from, Primitive::Kv, "request", version).await;
            assert!(matches!(gone, Err(Error::KeyNotFound(_))), "{gone:?}");
            database.close().await.unwrap();
            Database::salvage(&backup, &salvaged).await.unwrap();
            check(&open(&salvaged, 2, partitioning).await, "salvaged").await;
        });
    }
}

#[test]
fn salvage_keeps_the_lineage_that_only_the_log_has() {
    let directory = directory();
    on_tokio(async {
        let database = open(&directory.path().join("from"), 2, Partitioning::ByRun).await;
        let [from, to] = [run_on(0, 2), run_on(1, 2)];
        act(&database, from).await;
        let across = async |txn: MultiTransaction| {
            let acted = txn.run(from).events().read(0).await?.unwrap();
            txn.run(to).kv().put("heard", acted.payload).await
        };
        database.transaction_across([from, to], across).await.unwrap();
        let expected = explained(&database, to, Primitive::Kv, "heard").await;
        assert_eq!(expected, format!("events 0 [{ACTED}]"));
        database.close().await.unwrap();
        Database::salvage(directory.path().join("from"), directory.path().join("to")).await.unwrap();
        let database = open(&directory.path().join("to"), 1, Partitioning::ByRun).await;
        assert_eq!(explained(&database, to, Primitive::Kv, "heard").await, expected);
    });
}

#[test]
fn without_it_nothing_is_kept_and_what_was_not_kept_is_not_made_up() {
    let directory = directory();
    on_tokio(async {
        let run = RunId::new();
        let database = crate::support::open(directory.path(), BUFFERED, 1).await;
        act(&database, run).await;
        let acted = last(&database, run).await;
        let refused = database.explain(run, Primitive::Events, "0", acted).await;
        assert!(is_invalid(&refused, "open the database with `DatabaseBuilder::lineage(true)`"), "{refused:?}");
        database.close().await.unwrap();
        let database = open(directory.path(), 1, Partitioning::ByRun).await;
        let refused = database.explain(run, Primitive::Events, "0", acted).await;
        assert!(is_invalid(&refused, "lineage was not on then"), "{refused:?}");
        let again = async |txn: Transaction| {
            txn.events().read(0).await?;
            txn.kv().put("again", 1).await
        };
        database.transaction(run, again).await.unwrap();
        assert_eq!(explained(&database, run, Primitive::Kv, "again").await, "events 0 unknown");
        for history in [HistoryRetention::Off, HistoryRetention::Commits(3)] {
            let forgetful =
                database.start_run(RunOptions { history: Some(history), ..RunOptions::default() }).await.unwrap();
            act(&database, forgetful.id()).await;
            let version = forgetful.kv().get_versioned("last").await.unwrap().unwrap().version;
            let refused = database.explain(forgetful.id(), Primitive::Kv, "last", version).await;
            assert!(is_invalid(&refused, "not all of the run's history is kept"), "{refused:?}");
        }
    });
}

#[test]
fn what_a_run_keeps_no_more_has_no_lineage_and_a_fork_begins_without() {
    on_tokio(async {
        let builder = Database::builder().shards(1).lineage(true).history_of_ended_runs(HistoryRetention::Off);
        let database = builder.open().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        act(&database, run.id()).await;
        let fork = database.fork_run(run.id(), None, "fork").await.unwrap();
        assert_eq!(explained(&database, fork.id(), Primitive::Kv, "last").await, "");
        let version = last(&database, run.id()).await;
        database.explain(run.id(), Primitive::Kv, "last", version).await.unwrap();
        database.end_run(run.id()).await.unwrap();
        let refused = database.explain(run.id(), Primitive::Kv, "last", version).await;
        assert!(is_invalid(&refused, "not all of the run's history is kept"), "{refused:?}");
    });
}

#[test]
fn a_version_that_did_not_write_the_key_has_no_lineage() {
    on_tokio(async {
        let database = in_memory().await;
        let run = RunId::new();
        act(&database, run).await;
        let version = last(&database, run).await;
        for (primitive, key) in [
            (Primitive::Kv, "request"),
            (Primitive::Kv, "nothing"),
            (Primitive::Events, "1"),
            (Primitive::Events, "first"),
            (Primitive::Traces, "0000000000000001"),
            (Primitive::Runs, "metadata"),
            (Primitive::Runs, "name"),
        ] {
            let refused = database.explain(run, primitive, key, version).await;
            assert!(matches!(refused, Err(Error::KeyNotFound(_))), "{primitive} {key}: {refused:?}");
        }
        let begun = database.start_run(RunOptions::default()).await.unwrap().id();
        let version = last(&database, begun).await;
        database.explain(begun, Primitive::Runs, "metadata", version).await.unwrap();
    });
}

#[test]
fn how_far_it_goes_and_how_much_of_a_commit_is_kept_is_bounded() {
    on_tokio(async {
        let database = in_memory().await;
        let run = database.run(RunId::new());
        for _ in 0..12 {
            run.states().increment("counter", 1).await.unwrap();
        }
        let version = last(&database, run.id()).await;
        let explain = async |depth: usize, commits: usize| {
            let options = LineageOptions { depth, commits };
            let lineage =
                database.explain_with(run.id(), Primitive::States, "counter", version, options).await.unwrap();
            tree(&lineage.reads).matches("states counter").count()
        };
        assert_eq!(explained(&database, run.id(), Primitive::States, "counter").await.matches("counter").count(), 8);
        assert_eq!(
            [explain(1, 99).await, explain(3, 99).await, explain(99, 99).await, explain(99, 5).await],
            [1, 3, 12, 5]
        );
        let options = LineageOptions { depth: 257, ..LineageOptions::default() };
        let refused = database.explain_with(run.id(), Primitive::States, "counter", version, options).await;
        assert!(matches!(refused, Err(Error::LimitExceeded { .. })), "{refused:?}");
        let many = async |txn: Transaction| {
            txn.kv().get_many((0..1_100).map(|number| format!("{number:04}"))).await?;
            txn.kv().put("k", 1).await
        };
        database.transaction(run.id(), many).await.unwrap();
        let version = last(&database, run.id()).await;
        let lineage = database.explain(run.id(), Primitive::Kv, "k", version).await.unwrap();
        assert_eq!((lineage.reads.len(), lineage.is_truncated), (1_000, true));
        assert!(lineage.to_string().ends_with("\n  and more"));
    });
}

/// What two reads have in common is shown once, where it is nearest.
#[test]
fn a_commit_that_led_to_something_twice_is_explained_once() {
    on_tokio(async {
        let database = in_memory().await;
        let run = RunId::new();
        let step = async |from: &'static [&'static str], to: &'static str| {
            let body = async |txn: Transaction| {
                txn.kv().get_many(from.iter().copied()).await?;
                txn.kv().put(to, 1).await
            };
            database.transaction(run, body).await.unwrap();
        };
        step(&["none"], "a").await;
        step(&["a"], "b").await;
        step(&["b"], "c").await;
        step(&["c", "b", "a"], "d").await;
        let expected = "kv a [kv none nothing], kv b [kv a repeated], kv c [kv b repeated]";
        assert_eq!(explained(&database, run, Primitive::Kv, "d").await, expected);
    });
}
