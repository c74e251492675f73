//! The index of runs: names, statuses, tags, parents, and the end of a run.

use std::collections::BTreeSet;

use crate::support::{BUFFERED, directory, in_memory, on_tokio, open, sharded};
use RunStatus::{Active, Archived, Cancelled, Completed, Failed, Paused};
use in_mem::Partitioning;
use in_mem::prelude::*;

const STATUSES: [RunStatus; 6] = [Active, Completed, Failed, Cancelled, Paused, Archived];

/// Where a run can go, as it is documented.
fn ways(from: RunStatus) -> &'static [RunStatus] {
    match from {
        Active => &[Completed, Failed, Cancelled, Paused, Archived],
        Paused => &[Active, Cancelled, Archived],
        Completed | Failed | Cancelled => &[Archived],
        Archived => &[],
    }
}

fn names(runs: &[RunMetadata]) -> Vec<&str> {
    runs.iter().map(|run| run.name.as_str()).collect()
}

fn tags(tags: &[&str]) -> Vec<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

#[test]
fn a_run_is_made_active_and_found_by_its_name_and_its_id() {
    on_tokio(async {
        let database = sharded(3).await;
        let runs = database.runs();
        let made = runs.create_run("agent").await.unwrap();
        assert_eq!((made.name.as_str(), made.status, made.parent_run), ("agent", Active, None));
        assert_eq!((made.completed_at, &made.error, &made.metadata), (None, &None, &Value::Null));
        assert!(made.tags.is_empty() && made.created_at > 0 && made.updated_at == made.created_at);
        for which in [RunRef::from("agent"), made.run_id.into(), made.run_id.to_string().into()] {
            assert_eq!(runs.get_run(which.clone()).await.unwrap().as_ref(), Some(&made));
            assert!(runs.exists(which).await.unwrap());
        }
        for which in [RunRef::from("Agent"), "agen".into(), RunId::new().into(), RunId::new().to_string().into()] {
            assert_eq!(runs.get_run(which.clone()).await.unwrap(), None);
            assert!(!runs.exists(which).await.unwrap());
        }
        assert_eq!(runs.count().await.unwrap(), 1);
        assert_eq!(runs.list_runs().await.unwrap(), [made]);
    });
}

#[test]
fn begin_run_and_create_run_make_the_same_kind_of_run() {
    on_tokio(async {
        let (database, _) = in_memory().await;
        let begun = database.begin_run().await;
        let metadata = database.runs().get_run(begun).await.unwrap().unwrap();
        assert_eq!((metadata.name, metadata.status), (begun.to_string(), Active));
        let id = RunId::new();
        let made = database.runs().create_run(id.to_string()).await.unwrap();
        assert_eq!((made.run_id, made.name), (id, id.to_string()), "a name that is an id's text names that run");
        database.end_run(id).await.unwrap();
        assert_eq!(database.run_status(id).await.unwrap(), Some(Completed));
        let (other, name) = (Some(RunId::new()), Some(RunId::new().to_string()));
        let torn = database.begin_run_with(RunOptions { id: other, name, ..RunOptions::default() }).await;
        assert!(matches!(torn, Err(Error::InvalidOperation(_))), "{torn:?}");
    });
}

#[test]
fn a_run_begins_with_everything_it_was_given() {
    on_tokio(async {
        let database = sharded(2).await;
        let parent = database.runs().create_run("parent").await.unwrap().run_id;
        let options = RunOptions {
            id: Some(RunId::from_bytes([9; 16])),
            name: Some("child".into()),
            parent: Some(parent),
            tags: tags(&["a", "b", "a"]),
            metadata: vec![1].into(),
            history: None,
        };
        let handle = database.start_run(options).await.unwrap();
        assert_eq!(handle.id(), RunId::from_bytes([9; 16]));
        let child = database.runs().get_run("child").await.unwrap().unwrap();
        assert_eq!((child.run_id, child.parent_run), (handle.id(), Some(parent)));
        assert_eq!((child.tags, child.metadata), (tags(&["a", "b"]), vec![1].into()));
        let parents = [String::from("parent"), parent.to_string()];
        for (number, parent) in parents.iter().enumerate() {
            let made = database.runs().create_run_with_options(format!("c{number}"), Some(parent), vec![], number);
            assert_eq!(made.await.unwrap().metadata, number.into());
        }
        assert_eq!(names(&database.runs().children("parent").await.unwrap()), ["child", "c0", "c1"]);
        assert_eq!(names(&database.runs().children(parent).await.unwrap()), ["child", "c0", "c1"]);
        assert!(database.runs().children("child").await.unwrap().is_empty());
    });
}

#[test]
fn names_and_ids_are_taken_once() {
    on_tokio(async {
        let database = sharded(4).await;
        let made = database.runs().create_run("agent").await.unwrap();
        let taken = |result: Result<RunMetadata>| assert!(matches!(result, Err(Error::AlreadyExists(_))), "{result:?}");
        taken(database.runs().create_run("agent").await);
        taken(database.runs().create_run_with_options("agent", None, vec![], Value::Null).await);
        taken(database.runs().create_run(made.run_id.to_string()).await);
        let again = RunOptions { id: Some(made.run_id), name: Some("other".into()), ..RunOptions::default() };
        let again = database.begin_run_with(again).await;
        assert!(matches!(again, Err(Error::AlreadyExists(_))), "{again:?}");
        assert!(!database.runs().exists("other").await.unwrap(), "the name is as free as before");
        database.runs().create_run("other").await.unwrap();
        database.end_run(made.run_id).await.unwrap();
        taken(database.runs().create_run("agent").await);
        assert_eq!(database.runs().get_run("agent").await.unwrap().unwrap().run_id, made.run_id);
        assert_eq!(database.runs().count().await.unwrap(), 2);
    });
}

#[test]
fn of_fifty_who_want_one_name_exactly_one_gets_it() {
    on_tokio(async {
        let directory = directory();
        for database in [sharded(4).await, open(directory.path(), BUFFERED, 3).await] {
            for round in 0..5 {
                let name = format!("agent-{round}");
                let racing = (0..50).map(|_| tokio::spawn(database.runs().create_run(&name)));
                let results: Vec<_> =
                    futures::future::join_all(racing).await.into_iter().map(std::result::Result::unwrap).collect();
                let won: Vec<_> = results.iter().flatten().collect();
                assert_eq!(won.len(), 1, "round={round}");
                let lost = results.iter().filter(|result| matches!(result, Err(Error::AlreadyExists(_))));
                assert_eq!(lost.count(), 49);
                assert_eq!(database.runs().get_run(&name).await.unwrap().unwrap(), *won[0]);
            }
            assert_eq!(database.runs().count().await.unwrap(), 5, "the losers left nothing behind");
        }
    });
}

#[test]
fn of_fifty_who_begin_one_id_exactly_one_does() {
    on_tokio(async {
        let database = sharded(4).await;
        let id = RunId::new();
        let options = |number: u64| RunOptions {
            id: Some(id),
            name: (number > 0).then(|| format!("name-{number}")),
            ..RunOptions::default()
        };
        let racing = (0..50).map(|number| tokio::spawn(database.begin_run_with(options(number))));
        let results = futures::future::join_all(racing).await;
        assert_eq!(results.iter().filter(|result| result.as_ref().unwrap().is_ok()).count(), 1);
        let name = database.runs().get_run(id).await.unwrap().unwrap().name;
        for number in 1..50 {
            let other = format!("name-{number}");
            assert_eq!(database.runs().exists(&other).await.unwrap(), other == name);
        }
    });
}

#[test]
fn a_status_goes_where_it_may_and_nowhere_else() {
    on_tokio(async {
        let database = sharded(2).await;
        let runs = database.runs();
        for from in STATUSES {
            for to in STATUSES {
                let run = runs.create_run(format!("{from} to {to}")).await.unwrap();
                if from != Active {
                    runs.update_status(run.run_id, from).await.unwrap();
                }
                let before = runs.get_run(run.run_id).await.unwrap();
                let moved = runs.update_status(&run.name, to).await;
                assert_eq!(from.can_become(to), ways(from).contains(&to));
                if ways(from).contains(&to) {
                    assert_eq!(moved.unwrap().status, to);
                    continue;
                }
                match moved {
                    Err(Error::InvalidStatusTransition { from: was, to: asked }) => {
                        assert_eq!((was, asked), (from, to));
                    }
                    other => panic!("{from} to {to}: {other:?}"),
                }
                assert_eq!(runs.get_run(run.run_id).await.unwrap(), before);
            }
        }
    });
}

#[test]
fn every_way_to_end_a_run_says_when_and_why() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let runs = database.runs();
        let paused = runs.pause_run(run.id()).await.unwrap();
        assert_eq!((paused.status, paused.completed_at), (Paused, None));
        run.kv().put("k", "a paused run takes writes").await.unwrap();
        assert_eq!(runs.resume_run(run.id()).await.unwrap().status, Active);
        let failed = runs.fail_run(run.id(), "out of tokens").await.unwrap();
        assert_eq!((failed.status, failed.error.as_deref()), (Failed, Some("out of tokens")));
        let ended_at = failed.completed_at.unwrap();
        assert!(ended_at >= failed.created_at && failed.updated_at >= ended_at);
        let archived = runs.archive_run(run.id()).await.unwrap();
        assert_eq!((archived.status, archived.error, archived.completed_at), (Archived, failed.error, Some(ended_at)));
        runs.create_run("a").await.unwrap();
        assert_eq!(runs.complete_run("a").await.unwrap().status, Completed);
        runs.create_run("b").await.unwrap();
        assert_eq!(runs.cancel_run("b").await.unwrap().status, Cancelled);
        let run = database.start_run(RunOptions::default()).await.unwrap();
        run.fail("why").await.unwrap();
        assert_eq!(runs.get_run(run.id()).await.unwrap().unwrap().error.as_deref(), Some("why"));
        let run = database.begin_run().await;
        database.abort_run(run, "why not").await.unwrap();
        assert_eq!(database.run_status(run).await.unwrap(), Some(Failed));
        assert_eq!(runs.query_by_status(Failed).await.unwrap().len(), 2);
        assert_eq!(names(&runs.query_by_status(Cancelled).await.unwrap()), ["b"]);
        assert!(runs.query_by_status(Paused).await.unwrap().is_empty());
    });
}

#[test]
fn tags_and_metadata_change_even_when_a_run_has_ended() {
    on_tokio(async {
        let database = sharded(3).await;
        let runs = database.runs();
        runs.create_run_with_options("one", None, tags(&["a", "b"]), Value::Null).await.unwrap();
        runs.create_run_with_options("two", None, tags(&["a__b"]), Value::Null).await.unwrap();
        runs.complete_run("one").await.unwrap();
        assert_eq!(runs.add_tags("one", tags(&["c", "a"])).await.unwrap().tags, tags(&["a", "b", "c"]));
        assert_eq!(runs.remove_tags("one", tags(&["b", "x"])).await.unwrap().tags, tags(&["a", "c"]));
        let changed = runs.update_metadata("one", "new").await.unwrap();
        assert_eq!(changed.metadata, "new".into());
        assert_eq!(runs.get_run("one").await.unwrap(), Some(changed));
        assert_eq!(names(&runs.query_by_tag("a").await.unwrap()), ["one"]);
        assert_eq!(names(&runs.query_by_tag("a__b").await.unwrap()), ["two"]);
        assert!(runs.query_by_tag("b").await.unwrap().is_empty());
        assert!(runs.query_by_tag("a__").await.unwrap().is_empty());
    });
}

#[test]
fn runs_are_listed_in_the_order_in_which_they_began_at_one_snapshot() {
    on_tokio(async {
        let database = sharded(4).await;
        let expected: Vec<String> = (0..40).map(|number| format!("run-{number}")).collect();
        for name in &expected {
            database.runs().create_run(name).await.unwrap();
        }
        assert_eq!(names(&database.runs().list_runs().await.unwrap()), expected);
        let writer = tokio::spawn({
            let database = database.clone();
            async move {
                for number in 0..100 {
                    let first = database.runs().create_run(format!("a-{number}")).await.unwrap();
                    database
                        .runs()
                        .create_run_with_options(format!("b-{number}"), Some("run-0"), vec![], 0)
                        .await
                        .unwrap();
                    database.end_run(first.run_id).await.unwrap();
                }
            }
        });
        while !writer.is_finished() {
            let listed = database.runs().list_runs().await.unwrap();
            let (firsts, seconds): (Vec<_>, Vec<_>) = listed.iter().skip(40).partition(|run| run.name.starts_with('a'));
            assert!(
                firsts.len() == seconds.len() || firsts.len() == seconds.len() + 1,
                "what began first is listed first"
            );
            let ended = firsts.iter().filter(|run| run.status == Completed).count();
            assert!(ended == firsts.len() || ended + 1 == firsts.len());
        }
        writer.await.unwrap();
        assert_eq!(database.runs().children("run-0").await.unwrap().len(), 100);
    });
}

/// Fills a run with something of every primitive.
async fn fill(run: &RunHandle) -> String {
    run.kv().put_many([("a", 1), ("b", 2)]).await.unwrap();
    run.events().append("e", 1).await.unwrap();
    run.states().set("s", 1).await.unwrap();
    run.traces().record("t".into(), vec!["tag".into()], Value::Null).await.unwrap()
}

/// Nothing of a run is left for any reader.
async fn assert_nothing_left(database: &Database, run: RunId, trace: &str) {
    let handle = database.run(run);
    assert!(handle.kv().list(None).await.unwrap().is_empty());
    assert_eq!(handle.kv().get("a").await.unwrap(), None);
    assert!(handle.kv().history("a").await.unwrap().is_empty());
    assert!(handle.events().is_empty().await.unwrap());
    assert_eq!(handle.events().read(0).await.unwrap(), None);
    assert!(handle.events().event_types().await.unwrap().is_empty());
    assert!(handle.states().list().await.unwrap().is_empty());
    assert_eq!(handle.states().read("s").await.unwrap(), None);
    assert_eq!(handle.traces().count().await.unwrap(), 0);
    assert_eq!(handle.traces().get(trace).await.unwrap(), None);
    assert!(handle.traces().query_by_tag("tag").await.unwrap().is_empty());
    assert_eq!(database.run_status(run).await.unwrap(), None);
    assert!(!database.runs().exists(run).await.unwrap());
    assert!(database.runs().list_runs().await.unwrap().iter().all(|known| known.run_id != run));
}

#[test]
fn a_deleted_run_is_gone_at_once_and_for_good() {
    on_tokio(async {
        let directory = directory();
        let mut database = open(directory.path(), DurabilityMode::Strict, 3).await;
        let made = database.runs().create_run_with_options("agent", None, tags(&["tag"]), 1).await.unwrap().run_id;
        database.runs().create_run_with_options("child", Some("agent"), vec![], 1).await.unwrap();
        let trace = fill(&database.run(made)).await;
        database.runs().delete_run("agent").await.unwrap();
        for shards in [3, 1, 2] {
            assert_nothing_left(&database, made, &trace).await;
            let late = database.kv().put(made, "a", 1).await;
            assert!(matches!(late, Err(Error::InvalidOperation(_))), "{late:?}");
            let again = database.begin_run_with(RunOptions { id: Some(made), ..RunOptions::default() }).await;
            assert!(matches!(again, Err(Error::InvalidOperation(_))), "{again:?}");
            let again = RunOptions { id: Some(made), name: Some("again".into()), ..RunOptions::default() };
            assert!(matches!(database.begin_run_with(again).await, Err(Error::InvalidOperation(_))));
            assert!(!database.runs().exists("again").await.unwrap());
            assert!(matches!(database.runs().delete_run(made).await, Err(Error::KeyNotFound(_))));
            assert!(database.runs().query_by_tag("tag").await.unwrap().is_empty());
            assert_eq!(names(&database.runs().children(made).await.unwrap()), ["child"]);
            database.runs().create_run("again").await.unwrap();
            database.runs().delete_run("again").await.unwrap();
            let other = database.runs().create_run("agent").await.unwrap();
            assert_ne!(other.run_id, made, "the name is free again");
            database.runs().delete_run("agent").await.unwrap();
            database.close().await.unwrap();
            database = open(directory.path(), DurabilityMode::Strict, shards).await;
        }
        assert_eq!(names(&database.runs().list_runs().await.unwrap()), ["child"]);
    });
}

#[test]
fn a_run_that_was_only_written_into_can_be_deleted_too() {
    on_tokio(async {
        let (database, _) = in_memory().await;
        let run = RunId::new();
        let trace = fill(&database.run(run)).await;
        assert!(!database.runs().exists(run).await.unwrap());
        database.runs().delete_run(run).await.unwrap();
        assert_nothing_left(&database, run, &trace).await;
    });
}

#[test]
fn a_run_of_which_only_history_is_left_can_be_deleted_once() {
    on_tokio(async {
        for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
            let database = Database::builder().shards(2).partitioning(partitioning).open().await.unwrap();
            let (kv, run) = (database.kv(), RunId::new());
            kv.put(run, "key", 1).await.unwrap();
            kv.delete(run, "key").await.unwrap();
            assert_eq!(kv.history(run, "key").await.unwrap().len(), 2);
            database.runs().delete_run(run).await.unwrap();
            assert_eq!(kv.history(run, "key").await.unwrap(), []);
            assert!(matches!(database.runs().delete_run(run).await, Err(Error::KeyNotFound(_))));
            let never = database.runs().delete_run(RunId::new()).await;
            assert!(matches!(never, Err(Error::KeyNotFound(_))), "{never:?}");
        }
    });
}

#[test]
fn a_run_is_deleted_as_a_whole_under_the_eyes_of_its_readers() {
    on_tokio(async {
        let database = sharded(2).await;
        for _ in 0..50 {
            let run = database.start_run(RunOptions::default()).await.unwrap();
            run.kv().put_many((0..100).map(|number| (number.to_string(), number))).await.unwrap();
            let deleting = tokio::spawn(database.runs().delete_run(run.id()));
            loop {
                let left = run.kv().count(None).await.unwrap();
                let listed = run.kv().get_many((0..100).map(|number| number.to_string())).await.unwrap();
                let found = listed.iter().flatten().count();
                assert!(left == 0 || left == 100, "left={left}");
                assert!(found == 0 || found == 100, "found={found}");
                if found == 0 {
                    break;
                }
            }
            deleting.await.unwrap().unwrap();
        }
    });
}

#[test]
fn runs_that_were_active_when_the_process_ended_are_orphans_until_touched() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        let active: Vec<RunId> =
            [database.begin_run().await, database.begin_run().await, database.begin_run().await].into();
        let ended = database.begin_run().await;
        database.end_run(ended).await.unwrap();
        assert!(database.orphaned_runs().await.unwrap().is_empty());
        database.close().await.unwrap();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        let new = database.begin_run().await;
        assert_eq!(database.orphaned_runs().await.unwrap(), active, "oldest first, without {new}");
        database.abort_run(active[0], "lost").await.unwrap();
        database.runs().add_tags(active[1], tags(&["seen"])).await.unwrap();
        assert_eq!(database.orphaned_runs().await.unwrap(), active[2..]);
    });
}

#[test]
fn everything_about_runs_survives_reopening() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), BUFFERED, 2).await;
        for number in 0..20 {
            let name = format!("run-{number}");
            let parent = (number > 0).then(|| format!("run-{}", number / 2));
            let tag = vec![format!("tag-{}", number % 3)];
            database.runs().create_run_with_options(&name, parent.as_deref(), tag, number).await.unwrap();
            if number % 4 == 1 {
                database.runs().fail_run(&name, "why").await.unwrap();
            }
        }
        let look = async |database: &Database| {
            let runs = database.runs();
            let lists = [
                runs.list_runs().await.unwrap(),
                runs.query_by_status(Failed).await.unwrap(),
                runs.query_by_tag("tag-1").await.unwrap(),
                runs.children("run-3").await.unwrap(),
            ];
            (lists, runs.get_run("run-7").await.unwrap())
        };
        let before = look(&database).await;
        let ids: BTreeSet<RunId> = before.0[0].iter().map(|run| run.run_id).collect();
        assert_eq!((ids.len(), before.0[1].len(), before.0[2].len(), before.0[3].len()), (20, 5, 7, 2));
        database.close().await.unwrap();
        let database = open(directory.path(), BUFFERED, 3).await;
        assert_eq!(look(&database).await, before);
    });
}
