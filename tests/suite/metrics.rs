//! Metrics: each number moves by exactly what was done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{directory, on_tokio};
use in_mem::prelude::*;
use in_mem::{DiskMetrics, Driver, HistoryRetention, MetricKind, Metrics};

const DRIVERS: [Driver; 2] = [Driver::Auto, Driver::Threads];

async fn in_memory(driver: Driver, shards: usize) -> Database {
    let builder = Database::builder().durability(DurabilityMode::InMemory).driver(driver);
    builder.shards(shards).open().await.unwrap()
}

/// The counters that moved, without the request that asked.
fn moved(before: &Metrics, after: &Metrics) -> BTreeMap<&'static str, u64> {
    let before = before.total.all();
    let mut moved = BTreeMap::new();
    for (before, after) in before.iter().zip(after.total.all()) {
        let asked = if after.name == "requests" { after.value.min(1) } else { 0 };
        if after.kind == MetricKind::Counter && after.value > before.value + asked {
            moved.insert(after.name, after.value - before.value - asked);
        }
    }
    moved
}

/// What moves while something is done, in a database of one shard.
macro_rules! moved_by {
    ($database:ident, $run:ident, $doing:expr) => {{
        let before = $database.metrics().await.unwrap();
        $doing;
        // What was sent before, and nobody waits for, is handled before this.
        $run.kv().get("nothing").await.unwrap();
        let mut moved = moved(&before, &$database.metrics().await.unwrap());
        for counter in ["reads", "requests"] {
            let count = moved.get_mut(counter).unwrap();
            *count -= 1;
            if *count == 0 {
                moved.remove(counter);
            }
        }
        moved
    }};
}

#[test]
fn every_counter_moves_by_exactly_what_was_done() {
    on_tokio(async {
        for driver in DRIVERS {
            let database = in_memory(driver, 1).await;
            let run = database.start_run(RunOptions::default()).await.unwrap();
            let put = moved_by!(database, run, run.kv().put("k", 1).await.unwrap());
            assert_eq!(put, BTreeMap::from([("requests", 1), ("writes", 1), ("commits", 1)]));
            let get = moved_by!(database, run, run.kv().get("k").await.unwrap());
            assert_eq!(get, BTreeMap::from([("requests", 1), ("reads", 1)]));
            let failed = moved_by!(database, run, run.states().cas("none", 7, 1).await.unwrap_err());
            assert_eq!(failed, BTreeMap::from([("requests", 1), ("writes", 1)]));
            let nothing = moved_by!(database, run, run.kv().delete("none").await.unwrap());
            assert_eq!(nothing, BTreeMap::from([("requests", 1), ("writes", 1)]), "nothing to commit");

            let both = async |txn: Transaction| {
                txn.kv_get("k").await?;
                txn.kv_put("k", 2).await
            };
            let counted = moved_by!(database, run, run.transaction(both).await.unwrap());
            let all = [("requests", 3), ("reads", 1), ("writes", 1), ("commits", 1)];
            let ends = [("transactions_begun", 1), ("transactions_committed", 1)];
            assert_eq!(counted, all.into_iter().chain(ends).collect());

            let looks = async |txn: Transaction| txn.kv_get("k").await;
            let counted = moved_by!(database, run, run.transaction(looks).await.unwrap());
            let ends = [("transactions_begun", 1), ("transactions_read_only", 1)];
            assert_eq!(counted, [("requests", 2), ("reads", 1)].into_iter().chain(ends).collect());

            let gives_up = async |txn: Transaction| {
                txn.kv_put("k", 3).await?;
                Err::<(), _>(Error::InvalidOperation("no".into()))
            };
            let counted = moved_by!(database, run, run.transaction(gives_up).await.unwrap_err());
            let ends = [("transactions_begun", 1), ("transactions_aborted", 1)];
            assert_eq!(counted, [("requests", 2), ("writes", 1)].into_iter().chain(ends).collect());
        }
    });
}

#[test]
fn conflicts_and_retries_are_counted() {
    on_tokio(async {
        for driver in DRIVERS {
            let database = in_memory(driver, 1).await;
            let run = database.start_run(RunOptions::default()).await.unwrap();
            let attempts = AtomicU32::new(0);
            let (attempts, other) = (&attempts, &run);
            let loses_once = async |txn: Transaction| {
                txn.kv_get("k").await?;
                if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                    other.kv().put("k", 0).await?;
                }
                txn.kv_put("k", 1).await
            };
            let counted = moved_by!(database, run, run.transaction(loses_once).await.unwrap());
            let all = [("requests", 7), ("reads", 2), ("writes", 3), ("commits", 2)];
            let ends = [("transactions_begun", 2), ("transactions_conflicted", 1), ("transactions_committed", 1)];
            assert_eq!(counted, all.into_iter().chain(ends).collect());
            assert_eq!(database.metrics().await.unwrap().transactions_retried, 1);
        }
    });
}

#[test]
fn a_commit_over_two_shards_is_counted_once_and_its_parts_where_they_are() {
    on_tokio(async {
        for driver in DRIVERS {
            let database = in_memory(driver, 2).await;
            let of_shard =
                |shard: usize| std::iter::repeat_with(RunId::new).find(|run| database.shard_of(run) == shard).unwrap();
            let (a, b) = (of_shard(0), of_shard(1));
            let before = database.metrics().await.unwrap();
            let both = async |txn: MultiTransaction| {
                txn.run(a).kv_put("k", 1).await?;
                txn.run(b).kv_put("k", 1).await
            };
            database.transaction_across([a, b], both).await.unwrap();
            for run in [a, b] {
                assert_eq!(database.kv().get(run, "k").await.unwrap(), Some(1.into()), "the part is applied");
            }
            let after = database.metrics().await.unwrap();
            let by = |count: fn(&in_mem::ShardMetrics) -> u64| count(&after.total) - count(&before.total);
            assert_eq!((by(|all| all.commits_across), by(|all| all.parts), by(|all| all.commits)), (1, 2, 0));
            assert_eq!((by(|all| all.transactions_begun), by(|all| all.transactions_committed)), (1, 1));
            assert_eq!([0, 1].map(|shard: usize| after.shards[shard].parts - before.shards[shard].parts), [1, 1]);
        }
    });
}

#[test]
fn gauges_say_what_there_is() {
    on_tokio(async {
        let builder = Database::builder().durability(DurabilityMode::InMemory).shards(1);
        let database = builder.history(HistoryRetention::Off).memory_limit(1 << 20).open().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        let before = database.metrics().await.unwrap();
        assert_eq!(
            (before.memory_limit, before.disk, before.recovery.created),
            (Some(1 << 20), DiskMetrics::default(), true)
        );
        run.kv().put_many([("a", 1), ("b", 2)]).await.unwrap();
        let reader = database.begin_transaction(run.id()).await.unwrap();
        reader.kv().get("a").await.unwrap();
        run.kv().put("a", 3).await.unwrap();
        let subscription = run.kv().watch(None).await.unwrap();
        let after = database.metrics().await.unwrap();
        assert_eq!(after.total.keys, before.total.keys + 2);
        assert_eq!(after.total.versions, before.total.versions + 3, "what the reader sees is kept");
        assert_eq!((after.total.open_transactions, after.total.subscriptions), (1, 1));
        assert!(after.total.memory_bytes > before.total.memory_bytes);
        assert_eq!(after.total.memory_bytes, database.info().memory_bytes);
        drop((reader, subscription));
        run.kv().delete_many(["a", "b"]).await.unwrap();
        let left = loop {
            let metrics = database.metrics().await.unwrap();
            if metrics.total.keys == before.total.keys {
                break metrics.total;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        };
        assert_eq!((left.versions, left.open_transactions), (before.total.versions, 0));
    });
}

#[test]
fn what_is_on_disk_is_counted() {
    on_tokio(async {
        for driver in DRIVERS {
            let directory = directory();
            let builder = Database::builder().path(directory.path()).driver(driver).shards(1);
            let database = builder.clone().open().await.unwrap();
            let run = database.start_run(RunOptions::default()).await.unwrap();
            let before = database.metrics().await.unwrap();
            run.kv().put("k", 1).await.unwrap();
            let after = database.metrics().await.unwrap();
            let by = |count: fn(&in_mem::ShardMetrics) -> u64| count(&after.total) - count(&before.total);
            assert_eq!((by(|all| all.flushes), by(|all| all.log_records), by(|all| all.log_bytes)), (1, 1, 4096));
            assert!(by(|all| all.flush_nanoseconds) > 0 && after.total.largest_group >= 1);
            assert!((1..=after.total.flush_nanoseconds).contains(&after.total.longest_flush_nanoseconds));
            assert!(after.disk.segments >= 1, "{after:?}");
            assert_eq!((after.disk.snapshots, after.disk.last_snapshot_took), (0, None));

            let info = database.checkpoint().await.unwrap();
            let disk = database.metrics().await.unwrap().disk;
            assert_eq!((disk.snapshots, disk.snapshots_taken, disk.snapshots_failed), (1, 1, 0));
            assert_eq!(disk.last_snapshot, Some(info));
            assert!(disk.last_snapshot_took.is_some());
            database.close().await.unwrap();
            assert!(matches!(database.metrics().await, Err(Error::Unavailable(_))));

            let again = builder.open().await.unwrap();
            let metrics = again.metrics().await.unwrap();
            assert_eq!((metrics.total.commits, metrics.disk.snapshots), (0, 1), "counters begin anew");
            assert_eq!(metrics.recovery, *again.last_recovery());
            assert!(metrics.total.keys > 0 && metrics.disk.segments >= 1);
        }
    });
}
