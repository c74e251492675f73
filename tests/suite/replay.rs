//! Replay: a run is rebuilt from its history, at any version, at the cost of its own records, on any number of shards.

use crate::support::{directory, on_tokio};
use in_mem::prelude::*;
use in_mem::{Change, HistoryRetention, Partitioning, RunStatus, TraceType};
use serde_json::json;

/// Something of every primitive; returns the versions of the commits.
async fn work(database: &Database, run: RunId) -> Vec<Version> {
    let run = database.run(run);
    let mut versions = Vec::new();
    for number in 0..4 {
        let version = run
            .transaction(async |txn| {
                txn.kv().put("k", number).await?;
                txn.kv().put(format!("k{number}"), number).await?;
                txn.events().append("step", number).await?;
                txn.states().set("cell", number).await?;
                if number == 0 {
                    txn.json().create("doc", json!({"before": 0, "list": []})).await?;
                } else {
                    txn.json().set("doc", "/before", json!(number)).await?;
                    txn.json().array_push("doc", "/list", json!({"at": number})).await?;
                }
                txn.traces().record(TraceType::from("thought"), vec!["tag".into()], Value::Null).await
            })
            .await;
        version.unwrap();
        versions.push(run.kv().get_versioned("k").await.unwrap().unwrap().version);
    }
    run.kv().delete("k0").await.unwrap();
    run.json().delete("doc").await.unwrap();
    run.states().delete("cell").await.unwrap();
    versions
}

#[test]
fn a_run_is_rebuilt_as_it_was_at_any_commit() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let run =
            database.start_run(RunOptions { name: Some("r".into()), ..RunOptions::default() }).await.unwrap().id();
        let versions = work(&database, run).await;
        database.end_run(run).await.unwrap();
        let view = database.replay_run(run).await.unwrap();
        assert_eq!(view.kv().list(None).await.unwrap(), ["k", "k1", "k2", "k3"]);
        assert_eq!(view.events().len().await.unwrap(), 4);
        assert!(view.events().verify_chain().await.unwrap().is_valid);
        assert_eq!(view.states().read("cell").await.unwrap(), None);
        assert_eq!(view.traces().query_by_tag("tag").await.unwrap().len(), 4);
        assert_eq!(view.metadata().unwrap().status, RunStatus::Completed);
        assert_eq!(view.metadata(), database.runs().get_run(run).await.unwrap());
        assert!(matches!(view.kv().put("k", 1).await, Err(Error::InvalidOperation(_))));
        for (number, version) in versions.iter().enumerate() {
            let view = database.replay_run_until(run, *version).await.unwrap();
            assert_eq!(view.kv().get("k").await.unwrap(), Some(number.into()));
            assert_eq!(view.events().len().await.unwrap(), number as u64 + 1);
            assert_eq!(view.traces().count().await.unwrap(), number as u64 + 1);
            assert_eq!(view.states().read("cell").await.unwrap().unwrap().version, number as u64 + 1);
            assert_eq!(view.json().get("doc", "/before").await.unwrap(), Some(json!(number)));
            assert_eq!(view.json().get("doc", "/list").await.unwrap().unwrap().as_array().unwrap().len(), number);
            assert_eq!((view.version(), view.metadata().unwrap().status), (*version, RunStatus::Active));
        }
    });
}

#[test]
fn the_steps_of_a_run_are_its_commits_and_what_each_of_them_changed() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap().id();
        let versions = work(&database, run).await;
        let view = database.replay_run(run).await.unwrap();
        let steps: Vec<_> = view.steps().collect();
        assert_eq!(steps.len(), 1 + 4 + 3);
        assert!(matches!(steps[0].changes[..], [Change::Run(_)]));
        assert_eq!(steps[1..5].iter().map(|step| step.version).collect::<Vec<_>>(), versions);
        let kinds = |step: &in_mem::Step| step.changes.iter().map(kind).collect::<Vec<_>>();
        assert_eq!(kinds(&steps[1]), ["kv k", "kv k0", "event 0", "state cell", "trace", "json doc"]);
        assert_eq!(steps[5].changes, [Change::Kv { key: "k0".into(), value: None }]);
        assert_eq!(steps[6].changes, [Change::Json { key: "doc".into(), document: None }]);
        let document = Some(json!({"before": 2, "list": [{"at": 1}, {"at": 2}]}));
        assert!(steps[3].changes.contains(&Change::Json { key: "doc".into(), document }), "{:?}", steps[3]);
        assert_eq!(steps[7].changes, [Change::State { name: "cell".into(), state: None }]);
    });
}

fn kind(change: &Change) -> String {
    match change {
        Change::Kv { key, .. } => format!("kv {key}"),
        Change::Event(event) => format!("event {}", event.sequence),
        Change::State { name, .. } => format!("state {name}"),
        Change::Trace(_) => "trace".into(),
        Change::Json { key, .. } => format!("json {key}"),
        other => format!("{other:?}"),
    }
}

/// Whatever else the database holds, and however it is laid out, the same records are read, and the same comes of them.
#[test]
fn a_replay_reads_the_records_of_its_run_only_and_gives_the_same_on_any_layout() {
    for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
        let directory = directory();
        let open =
            |shards: usize| Database::builder().path(directory.path()).shards(shards).partitioning(partitioning).open();
        on_tokio(async {
            let database = open(1).await.unwrap();
            let run = database.start_run(RunOptions::default()).await.unwrap().id();
            work(&database, run).await;
            let first = database.replay_run(run).await.unwrap();
            for number in 0..50 {
                let other = database.start_run(RunOptions::default()).await.unwrap();
                other.kv().put("k", "x".repeat(1_000)).await.unwrap();
                other.events().append("other", number).await.unwrap();
            }
            database.close().await.unwrap();
            for shards in [2, 3, 1] {
                let database = open(shards).await.unwrap();
                let view = database.replay_run(run).await.unwrap();
                assert_eq!((view.records(), view.bytes()), (first.records(), first.bytes()));
                assert_eq!(view.digest().unwrap(), first.digest().unwrap());
                assert_eq!(view.steps().collect::<Vec<_>>(), first.steps().collect::<Vec<_>>());
                assert_eq!(database.replay_run(run).await.unwrap().digest().unwrap(), first.digest().unwrap());
                database.checkpoint().await.unwrap();
                database.close().await.unwrap();
            }
            assert!(first.bytes() < 10_000, "{}", first.bytes());
        });
    }
}

/// However the database was opened, closed and laid out since.
#[test]
fn a_run_is_what_its_commits_say_they_did() {
    for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
        let directory = directory();
        let open =
            |shards: usize| Database::builder().path(directory.path()).shards(shards).partitioning(partitioning).open();
        on_tokio(async {
            let database = open(2).await.unwrap();
            let run = database.start_run(RunOptions::default()).await.unwrap().id();
            work(&database, run).await;
            let other = RunId::new();
            let both = async |txn: MultiTransaction| {
                txn.run(run).kv().put("both", 1).await?;
                txn.run(other).kv().put("both", 1).await
            };
            database.transaction_across([run, other], both).await.unwrap();
            database.end_run(run).await.unwrap();
            let first = database.verify_run(run).await.unwrap();
            assert!(first.is_valid, "{first:?}");
            assert!(first.commits >= 10, "{first:?}");
            database.close().await.unwrap();
            for shards in [2, 3, 1] {
                let database = open(shards).await.unwrap();
                let verified = database.verify_run(run).await.unwrap();
                assert!(verified.is_valid, "{shards}: {verified:?}");
                assert_eq!(verified.digest, first.digest);
                database.checkpoint().await.unwrap();
                assert!(database.verify_run(other).await.unwrap().is_valid);
                database.close().await.unwrap();
            }
        });
    }
}

#[test]
fn what_cannot_be_replayed_says_so() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let nobody = database.replay_run(RunId::new()).await;
        assert!(matches!(nobody, Err(Error::KeyNotFound(_))), "{nobody:?}");
        let history = Some(HistoryRetention::Commits(1));
        let run = database.begin_run_with(RunOptions { history, ..RunOptions::default() }).await.unwrap();
        database.kv().put(run, "k", 1).await.unwrap();
        assert!(database.replay_run(run).await.is_ok(), "nothing was forgotten yet");
        for number in 0..3 {
            database.kv().put(run, "k", number).await.unwrap();
        }
        let forgotten = database.replay_run(run).await.unwrap_err();
        assert!(forgotten.to_string().contains("not all of the run's history is kept"), "{forgotten}");
        let future = database.replay_run_until(RunId::new(), Version::from(u64::MAX - 1)).await;
        assert!(matches!(future, Err(Error::InvalidOperation(_))), "{future:?}");
        database.runs().delete_run(run).await.unwrap();
        assert!(matches!(database.replay_run(run).await, Err(Error::KeyNotFound(_))));
    });
}

/// Where the records of a segment are: where each begins, and how long its body is.
fn records(segment: &[u8]) -> Vec<(usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 4096);
    while at + 64 <= segment.len() && segment[at..at + 64].iter().any(|byte| *byte != 0) {
        let length = u32::from_le_bytes(segment[at + 4..at + 8].try_into().unwrap()) as usize;
        found.push((at, length));
        let end = at + 64 + length;
        at = if segment[at + 49] == 1 { end.next_multiple_of(4096) } else { end };
    }
    found
}

/// With its checksum, as somebody would who knows the format.
#[test]
fn a_record_of_history_that_was_tampered_with_is_found_and_named() {
    let directory = directory();
    on_tokio(async {
        let database = Database::builder().path(directory.path()).shards(1).open().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        for number in 0..5 {
            run.kv().put(format!("key-{number}"), format!("value-{number}")).await.unwrap();
        }
        let version = run.kv().get_versioned("key-2").await.unwrap().unwrap().version;
        database.close().await.unwrap();
        let path = std::fs::read_dir(directory.path().join("log")).unwrap().next().unwrap().unwrap().path();
        let mut segment = std::fs::read(&path).unwrap();
        let changed = segment.windows(7).position(|window| window == b"value-2").unwrap();
        segment[changed] = b'V';
        let (at, length) = records(&segment).into_iter().rfind(|(at, _)| *at < changed).unwrap();
        let salted = crc32c::crc32c(&segment[40..48]);
        let checksum = crc32c::crc32c_append(salted, &segment[at + 4..at + 64 + length]);
        segment[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
        std::fs::write(&path, segment).unwrap();
        let database = Database::open(directory.path()).await.unwrap();
        let (kv, run) = (database.kv(), run.id());
        assert_eq!(kv.get(run, "key-2").await.unwrap(), Some("Value-2".into()), "the checksum is right");
        let verified = database.verify_run(run).await.unwrap();
        assert_eq!((verified.is_valid, verified.first_invalid), (false, Some(version)), "{verified:?}");
    });
}

#[test]
fn commits_from_before_history_was_kept_are_counted_and_not_suspected() {
    let directory = directory();
    on_tokio(async {
        let open = |history| Database::builder().path(directory.path()).shards(1).history(history).open();
        let database = open(HistoryRetention::Off).await.unwrap();
        let [early, late] = [RunId::new(), RunId::new()];
        for run in [early, late] {
            database.kv().put(run, "a", 1).await.unwrap();
            database.events().append(run, "a", 1).await.unwrap();
        }
        let history = Some(HistoryRetention::Forever);
        database.begin_run_with(RunOptions { id: Some(early), history, ..RunOptions::default() }).await.unwrap();
        database.kv().put(early, "b", 1).await.unwrap();
        database.checkpoint().await.unwrap();
        database.close().await.unwrap();
        let database = open(HistoryRetention::Forever).await.unwrap();
        database.kv().put(late, "b", 1).await.unwrap();
        for (run, commits) in [(early, 2), (late, 1)] {
            let verified = database.verify_run(run).await.unwrap();
            assert_eq!((verified.is_valid, verified.commits, verified.unproven), (true, commits, 2), "{verified:?}");
        }
    });
}
