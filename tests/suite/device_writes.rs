//! What a `Strict` commit writes to the device: counted in the log files, where every batch is whole blocks.

use std::path::Path;

use crate::support::placement::{key_on, run_on};
use crate::support::{directory, on_tokio, segments};
use in_mem::Partitioning;
use in_mem::prelude::*;

const BLOCK: usize = 4096;
const SHARDS: usize = 3;

/// How many blocks of each log file are in use: up to the last byte that is not zero.
fn blocks(path: &Path) -> Vec<usize> {
    let used = |file| {
        let bytes = std::fs::read(file).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last / BLOCK + 1)
    };
    segments(path).into_iter().map(used).collect()
}

/// How many blocks an operation adds to each file that it adds any to.
async fn added<T>(path: &Path, operation: impl Future<Output = Result<T>>) -> Vec<usize> {
    let before = blocks(path);
    operation.await.unwrap();
    let after = blocks(path);
    assert_eq!(before.len(), after.len(), "no new file is needed here");
    before.iter().zip(after).map(|(before, after)| after - before).filter(|added| *added > 0).collect()
}

async fn open(path: &Path, partitioning: Partitioning) -> Database {
    let builder = Database::builder().path(path).durability(DurabilityMode::Strict).shards(SHARDS);
    let database = builder.partitioning(partitioning).open().await.unwrap();
    // Every shard writes once, so that its first file is there.
    for home in 0..SHARDS {
        database.events().append(run_on(home, SHARDS), "first", 1).await.unwrap();
    }
    database
}

#[test]
fn a_commit_writes_one_block_on_each_shard_that_takes_part() {
    on_tokio(async {
        let directory = directory();
        let path = directory.path();
        let database = open(path, Partitioning::ByRun).await;
        let runs: Vec<RunId> = (0..SHARDS).map(|home| run_on(home, SHARDS)).collect();
        assert_eq!(added(path, database.kv().put(runs[0], "k", 1)).await, [1]);
        assert_eq!(added(path, database.kv().put(runs[1], "k", "a value of some length".repeat(10))).await, [1]);
        let many = database.kv().put_many(runs[2], (0..20).map(|key| (format!("{key}"), key)));
        assert_eq!(added(path, many).await, [1], "many keys, one batch");
        for count in 1..=SHARDS {
            for _ in 0..3 {
                let across = database.transaction_across(&runs[..count], async |txn| {
                    for run in &runs[..count] {
                        let next = txn.run(run).kv().get_as::<i64>("k").await.unwrap_or_default().unwrap_or(0) + 1;
                        txn.run(run).kv_put("k", next).await?;
                        txn.run(run).event_append("e", next).await?;
                    }
                    Ok(())
                });
                assert_eq!(added(path, across).await, vec![1; count], "a part each, and nothing for the decision");
            }
        }
        let read_elsewhere = database.transaction_across(&runs[..2], async |txn| {
            txn.run(runs[0]).kv_get("k").await?;
            txn.run(runs[1]).kv_put("k", 1).await
        });
        assert_eq!(added(path, read_elsewhere).await, [1, 1], "who was only read logs its part as well");
        let large = database.kv().put(runs[0], "large", vec![1_u8; 3 * BLOCK]);
        assert_eq!(added(path, large).await, [4], "as many blocks as it needs");
        database.close().await.unwrap();
    });
}

#[test]
fn reading_conflicting_and_aborting_write_nothing() {
    on_tokio(async {
        let directory = directory();
        let path = directory.path();
        let database = open(path, Partitioning::ByRun).await;
        let (a, b) = (run_on(0, SHARDS), run_on(1, SHARDS));
        database.kv().put(a, "k", 1).await.unwrap();
        database.kv().put(b, "k", 1).await.unwrap();
        let none: [usize; 0] = [];
        assert_eq!(added(path, database.kv().get(a, "k")).await, none);
        assert_eq!(added(path, database.kv().delete(a, "is not there")).await, none);
        let read = database.transaction_across([a, b], async |txn| {
            txn.run(a).kv_get("k").await?;
            txn.run(b).kv_list(None).await
        });
        assert_eq!(added(path, read).await, none);
        let viewed = async {
            let view = database.snapshot_now(a).await?;
            view.run(b).kv_get("k").await?;
            database.snapshot_at(b, view.version()).await?.kv_list(None).await
        };
        assert_eq!(added(path, viewed).await, none);
        let aborted = database.transaction_across([a, b], async |txn| {
            txn.run(a).kv_put("k", 2).await?;
            txn.run(b).kv_put("k", 2).await?;
            Err::<(), _>(Error::other("changed its mind"))
        });
        assert_eq!(added(path, async { aborted.await.or(Ok(())) }).await, none);
        let by_hand = database.begin_transaction(a).await.unwrap();
        by_hand.kv_get("k").await.unwrap();
        by_hand.kv_put("k", 3).await.unwrap();
        database.kv().put(a, "k", 4).await.unwrap();
        let lost = async {
            assert!(matches!(by_hand.commit().await?, CommitOutcome::Conflicted(_)));
            Ok(())
        };
        assert_eq!(added(path, lost).await, none);
        database.close().await.unwrap();
    });
}

#[test]
fn keys_of_one_run_that_are_spread_cost_a_block_on_each_shard_they_are_on() {
    on_tokio(async {
        let directory = directory();
        let path = directory.path();
        let database = open(path, Partitioning::ByKey).await;
        let run = database.run(RunId::new());
        let keys: Vec<String> = (0..SHARDS).map(|shard| key_on(run.id(), "k", shard, SHARDS)).collect();
        for count in 1..=SHARDS {
            let pairs = keys[..count].iter().map(|key| (key, 1));
            assert_eq!(added(path, run.kv().put_many(pairs)).await, vec![1; count]);
            assert_eq!(added(path, run.kv().delete_many(&keys[..count])).await, vec![1; count]);
        }
        database.close().await.unwrap();
    });
}
