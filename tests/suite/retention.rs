//! Retention: how much of the past of a run is kept, as the run itself or the database says, at work and after its end,
//! however the database is opened.

use crate::support::{BUFFERED, directory, on_tokio};
use in_mem::prelude::*;
use in_mem::{HistoryRetention, Partitioning};

/// Five versions of one pair and of one cell in every one of these runs, and of three more pairs that are deleted then.
async fn fill(database: &Database, run: &RunId) {
    for number in 0..5 {
        for key in ["a", "b", "c", "k"] {
            database.kv().put(run, key, number).await.unwrap();
        }
        database.states().set(run, "cell", number).await.unwrap();
    }
    database.kv().delete_many(run, ["a", "b", "c"]).await.unwrap();
}

async fn begin(database: &Database, history: Option<HistoryRetention>) -> RunId {
    let run = database.begin_run_with(RunOptions { history, ..RunOptions::default() }).await.unwrap();
    fill(database, &run).await;
    run
}

async fn versions(database: &Database, run: &RunId, key: &str) -> usize {
    database.kv().history(run, key).await.unwrap().len()
}

/// Until as many versions of both keys are left: what may be forgotten goes in the background.
async fn settles(database: &Database, run: &RunId, (live, deleted): (usize, usize)) {
    let mut found = (0, 0);
    for _ in 0..2_000 {
        found = (versions(database, run, "k").await, versions(database, run, "b").await);
        if found == (live, deleted) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{found:?} versions are left, not {:?}", (live, deleted));
}

#[test]
fn a_run_keeps_as_much_of_its_past_as_it_says_however_the_database_is_opened() {
    for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
        let directory = directory();
        let open = |shards: usize| {
            let builder = Database::builder().path(directory.path()).shards(shards).partitioning(partitioning);
            builder.history(HistoryRetention::Forever).history_of_ended_runs(HistoryRetention::Commits(2)).open()
        };
        on_tokio(async {
            let database = open(2).await.unwrap();
            let usual = begin(&database, None).await;
            let none = begin(&database, Some(HistoryRetention::Off)).await;
            let all = begin(&database, Some(HistoryRetention::Forever)).await;
            let ended = begin(&database, None).await;
            for run in [&ended, &all] {
                database.end_run(run).await.unwrap();
            }
            let mut database = Some(database);
            for shards in [2, 2, 3, 1, 2] {
                let open_now = match database.take() {
                    Some(database) => database,
                    None => open(shards).await.unwrap(),
                };
                settles(&open_now, &usual, (5, 6)).await;
                settles(&open_now, &none, (1, 0)).await;
                settles(&open_now, &all, (5, 6)).await;
                settles(&open_now, &ended, (2, 2)).await;
                if shards != 3 {
                    open_now.checkpoint().await.unwrap();
                }
                open_now.close().await.unwrap();
            }
        });
    }
}

/// Time travel reaches as far back as something is kept, and is told where it is not.
#[test]
fn a_view_of_the_past_is_refused_only_where_something_was_forgotten() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let history = Some(HistoryRetention::Commits(3));
        let run = database.begin_run_with(RunOptions { history, ..RunOptions::default() }).await.unwrap();
        for number in 0..9 {
            database.kv().put(run, "k", number).await.unwrap();
        }
        let history = database.kv().history(run, "k").await.unwrap();
        assert!((3..9).contains(&history.len()), "{history:?}");
        for entry in &history {
            let view = database.snapshot_at(run, entry.version).await.unwrap();
            assert_eq!(view.kv().get("k").await.unwrap(), entry.value);
        }
        let before = Version::from(history[0].version.get() - 1);
        let view = database.snapshot_at(run, before).await.unwrap();
        assert!(matches!(view.kv().get("k").await, Err(Error::InvalidOperation(_))));
    });
}

/// What is derived keeps no past of its own: it is found in what it was derived from.
#[test]
fn a_view_of_the_past_sees_states_events_and_traces_as_they_were() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        run.states().set("cell", "first").await.unwrap();
        run.events().append("step", 1).await.unwrap();
        run.traces().record("thought".into(), vec![], 1).await.unwrap();
        let then = run.kv().compare_and_put("now", None, 0).await.unwrap();
        run.states().set("cell", "second").await.unwrap();
        run.events().append("step", 2).await.unwrap();
        run.traces().record("thought".into(), vec![], 2).await.unwrap();
        run.end().await.unwrap();
        let view = database.snapshot_at(run.id(), then).await.unwrap();
        assert_eq!(view.states().read("cell").await.unwrap().unwrap().value, Value::from("first"));
        assert_eq!(view.events().len().await.unwrap(), 1);
        assert_eq!(view.events().head().await.unwrap().unwrap().payload, Value::from(1));
        assert!(view.events().verify_chain().await.unwrap().is_valid);
        assert_eq!(view.traces().count().await.unwrap(), 1);
        assert_eq!((run.events().len().await.unwrap(), run.traces().count().await.unwrap()), (2, 2));
        assert_eq!(run.states().read("cell").await.unwrap().unwrap().value, Value::from("second"));
    });
}

/// A run of which nothing is left is still known to have had a past, on whichever shard its keys would be now.
#[test]
fn what_was_forgotten_of_a_run_is_known_on_any_number_of_shards() {
    for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
        let directory = directory();
        let open = |shards: usize| {
            let builder = Database::builder().path(directory.path()).shards(shards).partitioning(partitioning);
            builder.history(HistoryRetention::Off).open()
        };
        on_tokio(async {
            let database = open(2).await.unwrap();
            let run = RunId::new();
            database.kv().put(run, "k", 1).await.unwrap();
            let then = database.kv().get_versioned(run, "k").await.unwrap().unwrap().version;
            database.kv().delete(run, "k").await.unwrap();
            settles(&database, &run, (0, 0)).await;
            database.checkpoint().await.unwrap();
            database.close().await.unwrap();
            drop(database);
            for shards in [2, 1, 3] {
                let database = open(shards).await.unwrap();
                let view = database.snapshot_at(run, then).await.unwrap();
                let found = view.kv().get("k").await;
                assert!(matches!(found, Err(Error::InvalidOperation(_))), "{partitioning:?} {shards}: {found:?}");
                database.close().await.unwrap();
            }
        });
    }
}

/// A snapshot says of a run how far its past reaches back before it holds the run's keys. That stays true although old versions
/// are forgotten while it is taken.
#[test]
fn what_is_forgotten_while_a_snapshot_is_taken_is_no_hole_in_it() {
    let directory = directory();
    let open = |history: HistoryRetention| {
        Database::builder().path(directory.path()).shards(1).durability(BUFFERED).history(history).open()
    };
    let key = |number: usize| format!("{number:05}");
    let pairs = |keys: std::ops::Range<usize>, value: i64| keys.map(move |number| (key(number), value));
    on_tokio(async {
        let database = open(HistoryRetention::Commits(2)).await.unwrap();
        let run = database.begin_run().await;
        let chunks = || (60..90).map(|chunk| chunk * 1_000..(chunk + 1) * 1_000).rev();
        for chunk in (0..90).map(|chunk| chunk * 1_000..(chunk + 1) * 1_000) {
            database.kv().put_many(run, pairs(chunk, 1)).await.unwrap();
        }
        let mut points = Vec::new();
        for chunk in chunks() {
            points.push((database.snapshot_now(run).await.unwrap().version(), chunk.end));
            database.kv().put_many(run, pairs(chunk, 2)).await.unwrap();
        }
        let snapshot = tokio::spawn(database.checkpoint());
        tokio::time::sleep(std::time::Duration::from_millis(40)).await;
        for chunk in chunks() {
            database.kv().put_many(run, pairs(chunk, 3)).await.unwrap();
        }
        snapshot.await.unwrap().unwrap();
        database.close().await.unwrap();
        drop(database);
        let database = open(HistoryRetention::Forever).await.unwrap();
        for (version, end) in points {
            let view = database.snapshot_at(run, version).await.unwrap();
            for number in (60_000..90_000).step_by(499) {
                let expected = Value::from(if number < end { 1 } else { 2 });
                if let Ok(found) = view.kv().get(key(number)).await {
                    assert_eq!(found, Some(expected), "{number} at {version}");
                }
            }
        }
    });
}
