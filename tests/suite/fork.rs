//! Forks: a run that begins as another one was, and goes its own way.

use std::time::Duration;

use crate::support::{directory, on_tokio};
use in_mem::prelude::*;
use in_mem::{HistoryRetention, Partitioning, RunStatus, TraceType};
use serde_json::json;

const LAYOUTS: [(usize, Partitioning); 3] =
    [(1, Partitioning::ByRun), (3, Partitioning::ByRun), (3, Partitioning::ByKey)];

/// Something of every primitive, and what is gone by then.
async fn parent(database: &Database) -> RunHandle {
    let (name, tags) = (Some("parent".into()), vec!["tag".into()]);
    let run = database.start_run(RunOptions { name, tags, metadata: 5.into(), ..RunOptions::default() }).await.unwrap();
    run.kv().put_many((0..40).map(|key| (format!("key-{key}"), key))).await.unwrap();
    run.kv().delete("key-7").await.unwrap();
    run.kv().put_with_ttl("soon", 1, Duration::from_millis(1)).await.unwrap();
    run.events().append_many((0..5).map(|number| ("step", number))).await.unwrap();
    run.states().set("cell", 1).await.unwrap();
    run.states().set("cell", 2).await.unwrap();
    let root = run.traces().record("plan".into(), vec!["t".into()], 1).await.unwrap();
    run.traces().record_child(&root, TraceType::from("thought"), vec![], 2).await.unwrap();
    run.json().create("doc", json!({"a": 1})).await.unwrap();
    run.json().set("doc", "/a", json!(2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    run
}

#[test]
fn a_fork_begins_with_everything_its_parent_had_and_goes_its_own_way() {
    for (shards, partitioning) in LAYOUTS {
        let directory = directory();
        let open = || Database::builder().path(directory.path()).shards(shards).partitioning(partitioning).open();
        let id = on_tokio(async {
            let database = open().await.unwrap();
            let parent = parent(&database).await;
            parent.end().await.unwrap();
            let child = database.fork_run(parent.id(), None, "child").await.unwrap();
            let known = database.runs().get_run("child").await.unwrap().unwrap();
            assert_eq!(
                (known.run_id, known.parent_run, known.status),
                (child.id(), Some(parent.id()), RunStatus::Active)
            );
            assert_eq!((known.tags, known.metadata), (vec!["tag".to_owned()], 5.into()));
            assert_eq!(
                child.kv().list_with_values(None).await.unwrap(),
                parent.kv().list_with_values(None).await.unwrap()
            );
            assert_eq!(child.kv().count(None).await.unwrap(), 39);
            assert_eq!(child.events().read_range(0, 9).await.unwrap(), parent.events().read_range(0, 9).await.unwrap());
            child.kv().put("key-7", "own").await.unwrap();
            child.events().append("step", "own").await.unwrap();
            assert_eq!(child.states().set("cell", 3).await.unwrap(), 3, "it goes on counting");
            assert_eq!(child.json().get("doc", "/a").await.unwrap(), Some(json!(2)));
            assert!(child.events().verify_chain().await.unwrap().is_valid);
            assert_eq!(child.traces().count().await.unwrap(), 2);
            assert_eq!(child.traces().query_by_tag("t").await.unwrap().len(), 1);
            assert_eq!((parent.events().len().await.unwrap(), parent.kv().get("key-7").await.unwrap()), (5, None));
            assert_eq!(database.runs().children(parent.id()).await.unwrap().len(), 1);
            database.close().await.unwrap();
            child.id()
        });
        on_tokio(async {
            let database = open().await.unwrap();
            let child = database.run(id);
            assert_eq!((child.kv().count(None).await.unwrap(), child.events().len().await.unwrap()), (40, 6));
            let view = database.replay_run(id).await.unwrap();
            assert_eq!(view.steps().len(), 4, "made, and three changes");
            database.close().await.unwrap();
        });
    }
}

#[test]
fn a_fork_of_the_past_knows_nothing_of_what_came_later() {
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let parent = parent(&database).await;
        let then = parent.kv().compare_and_put("then", None, 1).await.unwrap();
        parent.kv().put("key-1", "later").await.unwrap();
        parent.kv().delete("key-2").await.unwrap();
        parent.events().append("later", 1).await.unwrap();
        parent.json().delete("doc").await.unwrap();
        let child = database.fork_run(parent.id(), Some(then), "child").await.unwrap();
        assert_eq!(child.kv().get("key-1").await.unwrap(), Some(1.into()));
        assert_eq!(child.kv().get("key-2").await.unwrap(), Some(2.into()));
        assert_eq!((child.events().len().await.unwrap(), child.json().exists("doc").await.unwrap()), (5, true));
    });
}

#[test]
fn what_cannot_be_forked_says_so_and_leaves_nothing() {
    on_tokio(async {
        let database = Database::builder().history(HistoryRetention::Off).open().await.unwrap();
        let parent = parent(&database).await;
        assert!(database.fork_run(parent.id(), None, "now").await.is_ok(), "what is there now is always kept");
        let exists = database.fork_run(parent.id(), None, "parent").await;
        assert!(matches!(exists, Err(Error::AlreadyExists(_))), "{exists:?}");
        let nobody = database.fork_run(RunId::new(), None, "child").await;
        assert!(matches!(nobody, Err(Error::KeyNotFound(_))), "{nobody:?}");
        let empty = database.fork_run(parent.id(), None, "").await;
        assert!(matches!(empty, Err(Error::InvalidOperation(_))), "{empty:?}");
        let then = parent.kv().compare_and_put("then", None, 1).await.unwrap();
        parent.kv().put("then", 2).await.unwrap();
        let forgotten = database.fork_run(parent.id(), Some(Version::from(then.get() - 1)), "child").await;
        assert!(matches!(forgotten, Err(Error::InvalidOperation(_))), "{forgotten:?}");
        let text = "x".repeat(15 << 20);
        for key in 0..5 {
            parent.kv().put(format!("large-{key}"), text.as_str()).await.unwrap();
        }
        let large = database.fork_run(parent.id(), None, "child").await;
        assert!(matches!(large, Err(Error::LimitExceeded { .. })), "{large:?}");
        assert!(!database.runs().exists("child").await.unwrap());
        database.runs().delete_run(parent.id()).await.unwrap();
        let deleted = database.fork_run(parent.id(), None, "child").await;
        assert!(matches!(deleted, Err(Error::KeyNotFound(_))), "{deleted:?}");
        assert_eq!(database.runs().count().await.unwrap(), 1);
    });
}
