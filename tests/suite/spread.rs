//! `Partitioning::ByKey`: one run over several shards behaves as one run on one shard does.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::placement::{key_on, shard_of_key};
use crate::support::{BUFFERED, directory, on_tokio};
use futures::StreamExt;
use in_mem::Partitioning;
use in_mem::prelude::*;

const SHARDS: usize = 3;

async fn open(path: &Path, mode: DurabilityMode, shards: usize, partitioning: Partitioning) -> Database {
    let builder = Database::builder().path(path).durability(mode).shards(shards);
    builder.partitioning(partitioning).open().await.unwrap()
}

/// A database whose keys are spread, and a run in it.
async fn spread() -> (Database, RunHandle) {
    let database = Database::builder().shards(SHARDS).partitioning(Partitioning::ByKey).open().await.unwrap();
    assert_eq!(database.info().partitioning, Partitioning::ByKey);
    let run = database.start_run(RunOptions::default()).await.unwrap();
    (database, run)
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key-{number:04}")).collect()
}

#[test]
fn many_keys_on_several_shards_are_one_ordered_map() {
    on_tokio(async {
        let (_database, run) = spread().await;
        let keys = keys(700);
        let shards: BTreeSet<usize> = keys.iter().map(|key| shard_of_key(run.id(), key, SHARDS)).collect();
        assert_eq!(shards.len(), SHARDS, "the keys are on every shard");
        let pairs: Vec<(String, Value)> = (0..).zip(&keys).map(|(at, key)| (key.clone(), Value::I64(at))).collect();
        let mixed = pairs.iter().rev().chain(&pairs[..1]).cloned();
        run.kv().put_many(mixed).await.unwrap();
        assert_eq!(run.kv().list(None).await.unwrap(), keys);
        assert_eq!(run.kv().list(Some("key-01")).await.unwrap(), keys[100..200]);
        assert_eq!(run.kv().list_with_values(None).await.unwrap(), pairs);
        assert_eq!((run.kv().count(None).await.unwrap(), run.kv().count(Some("key-00")).await.unwrap()), (700, 100));
        let asked = ["key-0005", "none", "key-0699", "key-0005", "key-0000"];
        let found = run.kv().get_many(asked).await.unwrap();
        assert_eq!(found, [Some(5.into()), None, Some(699.into()), Some(5.into()), Some(0.into())]);
        assert_eq!(run.kv().get_many_map(asked).await.unwrap().len(), 3);
        let scan =
            async |options: ScanOptions| -> Vec<_> { run.kv().scan(options).map(Result::unwrap).collect().await };
        assert_eq!(scan(ScanOptions::default()).await, pairs);
        let mut reversed = pairs.clone();
        reversed.reverse();
        assert_eq!(scan(ScanOptions { reverse: true, ..ScanOptions::default() }).await, reversed);
        let part =
            ScanOptions { start: Some("key-0100".into()), end: Some("key-0600".into()), ..ScanOptions::default() };
        assert_eq!(scan(part.clone()).await, pairs[100..600]);
        assert_eq!(scan(ScanOptions { limit: Some(7), ..part.clone() }).await, pairs[100..107]);
        let last = ScanOptions { limit: Some(300), reverse: true, ..part };
        assert_eq!(scan(last).await, reversed[100..400]);
        let mut first = run.kv().scan(ScanOptions { limit: Some(10), ..ScanOptions::default() });
        while first.next().await.is_some() {}
        assert_eq!(scan(ScanOptions { cursor: first.cursor(), ..ScanOptions::default() }).await, pairs[10..]);
        assert_eq!(run.kv().delete_many(["key-0001", "none", "key-0002", "key-0003", "key-0001"]).await.unwrap(), 3);
        assert_eq!(run.kv().count(None).await.unwrap(), 697);
        assert!(run.kv().put_many([("ok", 1), ("", 1)]).await.is_err());
        assert!(!run.kv().exists("ok").await.unwrap(), "all or nothing");
        run.kv().put_many(Vec::<(String, i64)>::new()).await.unwrap();
        assert_eq!(run.kv().get_many(Vec::<String>::new()).await.unwrap(), []);
        assert_eq!(run.kv().delete_many(Vec::<String>::new()).await.unwrap(), 0);
    });
}

#[test]
fn every_primitive_takes_part_in_transactions() {
    on_tokio(async {
        let (database, run) = spread().await;
        let done = run.transaction(async |txn| {
            txn.kv().put_many((0..20).map(|number| (format!("{number:02}"), number))).await?;
            assert_eq!(txn.kv().delete_many(["03", "04", "x"]).await?, 2);
            assert_eq!((txn.kv().count(None).await?, txn.kv_list(None).await?.len()), (18, 18));
            assert_eq!(txn.kv().scan(ScanOptions::default()).count().await, 18);
            for name in ["a", "b", "c", "d"] {
                txn.state_set(name, 1).await?;
            }
            assert_eq!(txn.states().list().await?, ["a", "b", "c", "d"]);
            txn.event_append("e", 1).await?;
            txn.trace_record("t", 1).await.map(drop)
        });
        done.await.unwrap();
        assert_eq!(run.states().list().await.unwrap(), ["a", "b", "c", "d"]);
        assert_eq!((run.kv().count(None).await.unwrap(), run.events().len().await.unwrap()), (18, 1));
        let failed = run.transaction(async |txn| {
            txn.kv().put_many((0..20).map(|number| (format!("new-{number}"), number))).await?;
            txn.states().delete("a").await?;
            Err::<(), _>(Error::other("changed its mind"))
        });
        assert!(failed.await.is_err());
        assert_eq!((run.kv().count(Some("new")).await.unwrap(), run.states().list().await.unwrap().len()), (0, 4));
        let outcome = database.begin_transaction(run.id()).await.unwrap();
        outcome.kv_list(None).await.unwrap();
        outcome.kv_put("mine", 1).await.unwrap();
        run.kv().put("20", 1).await.unwrap();
        assert!(matches!(outcome.commit().await.unwrap(), CommitOutcome::Conflicted(_)), "a range over every shard");
    });
}

#[test]
fn writes_of_many_keys_are_atomic_for_all_who_read_many() {
    on_tokio(async {
        let (database, run) = spread().await;
        let keys = keys(30);
        run.kv().put_many(keys.iter().map(|key| (key, 0))).await.unwrap();
        let writers = (0..3).map(|writer| {
            let (run, keys) = (run.clone(), keys.clone());
            tokio::spawn(async move {
                for step in 0..30 {
                    run.kv().put_many(keys.iter().map(|key| (key, writer * 1000 + step))).await.unwrap();
                }
            })
        });
        let readers = (0..3).map(|_| {
            let (run, keys) = (run.clone(), keys.clone());
            tokio::spawn(async move {
                for _ in 0..40 {
                    let listed = run.kv().list_with_values(None).await.unwrap();
                    let many = run.kv().get_many(&keys).await.unwrap();
                    let scanned: Vec<_> = run.kv().scan(ScanOptions::default()).map(Result::unwrap).collect().await;
                    assert!(listed.iter().all(|(_, value)| *value == listed[0].1), "{listed:?}");
                    assert!(many.iter().all(|value| *value == many[0]), "{many:?}");
                    assert!(scanned.iter().all(|(_, value)| *value == scanned[0].1), "{scanned:?}");
                    assert_eq!((listed.len(), scanned.len()), (keys.len(), keys.len()));
                }
            })
        });
        for task in writers.chain(readers).collect::<Vec<_>>() {
            task.await.unwrap();
        }
        // Who deletes everything and who writes it again: all or none is there.
        let deleting = tokio::spawn({
            let (run, keys) = (run.clone(), keys.clone());
            async move {
                for _ in 0..30 {
                    let deleted = run.kv().delete_many(&keys).await.unwrap();
                    assert!(deleted == 0 || deleted == keys.len() as u64, "{deleted}");
                    run.kv().put_many(keys.iter().map(|key| (key, 1))).await.unwrap();
                }
            }
        });
        for _ in 0..60 {
            let count = run.kv().count(None).await.unwrap();
            assert!(count == 0 || count == keys.len() as u64, "{count}");
        }
        deleting.await.unwrap();
        database.close().await.unwrap();
    });
}

/// A write of every kind, each key on another shard.
async fn refused_everywhere(run: &RunHandle) {
    for shard in 0..SHARDS {
        let key = key_on(run.id(), "new", shard, SHARDS);
        for result in [
            run.kv().put(&key, 1).await,
            run.kv().delete(&key).await.map(drop),
            run.kv().put_many([(key.as_str(), 1), ("other", 1)]).await,
            run.kv().compare_and_put(&key, None, 1).await.map(drop),
            run.states().set(&key, 1).await.map(drop),
            run.states().increment(&key, 1).await.map(drop),
            run.transaction(async |txn| txn.kv_put(&key, 1).await).await,
        ] {
            assert!(matches!(result, Err(Error::InvalidOperation(_))), "shard={shard} {result:?}");
        }
    }
    assert!(matches!(run.events().append("e", 1).await, Err(Error::InvalidOperation(_))));
}

#[test]
fn runs_that_have_ended_or_are_gone_refuse_writes_on_every_shard() {
    on_tokio(async {
        let directory = directory();
        let mut shards = SHARDS;
        let database = open(directory.path(), DurabilityMode::Strict, shards, Partitioning::ByKey).await;
        let ended =
            database.start_run(RunOptions { name: Some("ended".into()), ..RunOptions::default() }).await.unwrap();
        let gone = database.start_run(RunOptions { name: Some("gone".into()), ..RunOptions::default() }).await.unwrap();
        for run in [&ended, &gone] {
            run.kv().put_many(keys(30).iter().map(|key| (key, 1))).await.unwrap();
            run.states().set("s", 1).await.unwrap();
        }
        let open_one = database.begin_transaction(ended.id()).await.unwrap();
        for shard in 0..SHARDS {
            open_one.kv_put(key_on(ended.id(), "new", shard, SHARDS), 1).await.unwrap();
        }
        ended.end().await.unwrap();
        assert!(!matches!(open_one.commit().await, Ok(CommitOutcome::Committed(_))), "it has ended meanwhile");
        database.runs().delete_run("gone").await.unwrap();
        drop((ended.clone(), gone.clone()));
        let (ended, gone) = (ended.id(), gone.id());
        database.close().await.unwrap();
        for partitioning in [Partitioning::ByKey, Partitioning::ByKey, Partitioning::ByRun, Partitioning::ByKey] {
            let database = open(directory.path(), DurabilityMode::Strict, shards, partitioning).await;
            for run in [ended, gone] {
                refused_everywhere(&database.run(run)).await;
            }
            assert_eq!(database.kv().count(ended, None).await.unwrap(), 30);
            assert_eq!(database.kv().count(gone, None).await.unwrap(), 0);
            assert!(database.states().list(gone).await.unwrap().is_empty());
            assert_eq!(database.run_status(ended).await.unwrap(), Some(RunStatus::Completed));
            assert_eq!(database.run_status(gone).await.unwrap(), None);
            database.close().await.unwrap();
            shards += 1;
        }
    });
}

#[test]
fn another_number_of_shards_or_another_partitioning_keeps_everything() {
    on_tokio(async {
        for mode in [BUFFERED, DurabilityMode::Strict] {
            let directory = directory();
            let mut layouts = vec![(2, Partitioning::ByKey), (3, Partitioning::ByKey), (3, Partitioning::ByRun)];
            layouts.extend([(1, Partitioning::ByKey), (4, Partitioning::ByRun), (2, Partitioning::ByKey)]);
            let ids: Vec<RunId> = std::iter::repeat_with(RunId::new).take(4).collect();
            for (round, (shards, partitioning)) in layouts.into_iter().enumerate() {
                let database = open(directory.path(), mode, shards, partitioning).await;
                for (number, run) in ids.iter().map(|run| database.run(*run)).enumerate() {
                    if round == 0 {
                        let options = RunOptions {
                            id: Some(run.id()),
                            name: Some(format!("run-{number}")),
                            ..RunOptions::default()
                        };
                        database.begin_run_with(options).await.unwrap();
                    }
                    let id = database.runs().get_run(format!("run-{number}")).await.unwrap().unwrap().run_id;
                    assert_eq!(id, run.id());
                    let (keys, names) = (run.kv().list(None).await.unwrap(), run.states().list().await.unwrap());
                    assert_eq!((keys.len(), names.len()), (round * 10, round * 5), "{mode:?} round={round}");
                    assert_eq!(run.events().len().await.unwrap(), round as u64);
                    assert!(run.events().verify_chain().await.unwrap().is_valid);
                    assert_eq!(run.traces().query_by_tag("tag").await.unwrap().len(), round);
                    let done = run.transaction(async |txn| {
                        txn.kv().put_many((0..10).map(|key| (format!("{round}-{key}"), key))).await?;
                        for name in 0..5 {
                            txn.state_set(format!("{round}-{name}"), name).await?;
                        }
                        txn.event_append("e", 1).await?;
                        txn.trace_record_with("t", vec!["tag".into()], 1).await.map(drop)
                    });
                    done.await.unwrap();
                    assert_eq!(run.kv().history("0-0").await.unwrap().len(), 1);
                }
                database.close().await.unwrap();
            }
        }
    });
}
