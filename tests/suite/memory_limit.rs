//! The memory limit: what grows beyond it is refused and leaves no trace, everything else goes on.

use std::time::{Duration, Instant};

use crate::support::{directory, on_tokio};
use in_mem::HistoryRetention;
use in_mem::prelude::*;

const LIMIT: u64 = 1 << 20;

async fn limited(history: HistoryRetention, shards: usize) -> Database {
    let builder = Database::builder().memory_limit(LIMIT).history(history).shards(shards);
    builder.open().await.expect("the database opens")
}

fn value(bytes: usize) -> Value {
    vec![7_u8; bytes].into()
}

#[track_caller]
fn assert_full<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Error::OutOfMemory { limit: LIMIT })), "{result:?}");
    let text = result.expect_err("it is refused").to_string();
    assert!(text.contains("delete something or raise it"), "{text}");
}

/// Writes until it is refused; returns how many were not.
async fn fill(kv: &KVStore, run: RunId, bytes: usize) -> usize {
    for number in 0..10_000 {
        if let Err(error) = kv.put(run, format!("key-{number:05}"), value(bytes)).await {
            assert_full(Err::<(), _>(error));
            return number;
        }
    }
    panic!("the limit is never reached");
}

/// What was deleted goes when no reader may need it any more.
async fn put_soon(kv: &KVStore, run: RunId, key: &str, bytes: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = kv.put(run, key, value(bytes)).await {
        assert!(Instant::now() < deadline, "there is no room again: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn what_grows_is_refused_and_what_shrinks_makes_room() {
    on_tokio(async {
        for shards in [1, 3] {
            let database = limited(HistoryRetention::Off, shards).await;
            let (kv, run) = (database.kv(), RunId::new());
            let written = fill(&kv, run, 10_000).await;
            assert!((90..105).contains(&written), "{written}");
            let used = database.info().memory_bytes;
            assert!((LIMIT - 12_000..=LIMIT).contains(&used), "{used}");
            assert_full(kv.put(RunId::new(), "elsewhere", value(10_000)).await);
            assert_full(kv.put(run, "key-00000", value(40_000)).await);
            assert_full(database.events().append(run, "large", value(10_000)).await);
            assert_full(database.transaction(run, async |txn| txn.kv_put("other", value(10_000)).await).await);
            assert_eq!(kv.count(run, None).await.expect("reads go on"), written as u64);
            assert_eq!(kv.get(run, "key-00000").await.expect("reads go on"), Some(value(10_000)));
            kv.put(run, "key-00000", value(9_000)).await.expect("it shrinks");
            assert!(kv.delete(run, "key-00001").await.expect("deletes go on"));
            put_soon(&kv, run, "key-00001", 5_000).await;
            assert!(database.info().memory_bytes < LIMIT);
        }
    });
}

#[test]
fn where_a_number_of_versions_is_kept_each_new_one_makes_room_for_itself() {
    on_tokio(async {
        let database = limited(HistoryRetention::Commits(3), 1).await;
        let (kv, run) = (database.kv(), RunId::new());
        for _ in 0..3 {
            for number in 0..32 {
                kv.put(run, format!("key-{number:05}"), value(10_000)).await.expect("there is room for three each");
            }
        }
        assert_full(kv.put(run, "another", value(100_000)).await);
        for number in 0..320 {
            put_soon(&kv, run, &format!("key-{:05}", number % 32), 10_000).await;
        }
        assert_eq!(kv.history(run, "key-00000").await.expect("it is read").len(), 3);
        assert_full(kv.put(run, "another", value(100_000)).await);
    });
}

#[test]
fn what_open_transactions_have_written_counts() {
    on_tokio(async {
        let database = limited(HistoryRetention::Off, 1).await;
        let run = RunId::new();
        let open = database.begin_transaction(run).await.expect("it begins");
        let mut written = 0;
        while written < 200 && open.kv_put(format!("key-{written}"), value(20_000)).await.is_ok() {
            written += 1;
        }
        assert!((50..60).contains(&written), "{written}");
        assert_full(open.kv_put("one more", value(10)).await);
        open.kv_delete("key-0").await.expect("a delete takes nothing");
        assert!(database.info().memory_bytes >= LIMIT);
        open.abort();
        database.flush().await.expect("it answers");
        while database.info().memory_bytes > 100_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        database.kv().put(run, "key", value(900_000)).await.expect("there is room again");
    });
}

#[test]
fn old_versions_count_and_go_with_their_run() {
    on_tokio(async {
        let database = limited(HistoryRetention::Forever, 1).await;
        let run = database.start_run(RunOptions::default()).await.expect("it begins");
        let mut written = 0;
        while run.kv().put("key", value(50_000)).await.is_ok() {
            written += 1;
        }
        assert_eq!(written, 20);
        assert_full(run.kv().put("key", value(50_000)).await);
        run.kv().delete("key").await.expect("deletes go on");
        database.runs().delete_run(run.id()).await.expect("deletes go on");
        put_soon(&database.kv(), RunId::new(), "key", 900_000).await;
    });
}

#[test]
fn a_database_that_is_larger_opens_and_refuses_what_grows() {
    on_tokio(async {
        let directory = directory();
        let run = RunId::new();
        let database = Database::open(directory.path()).await.expect("it opens");
        for number in 0..30 {
            database.kv().put(run, format!("key-{number}"), value(100_000)).await.expect("there is no limit");
        }
        database.close().await.expect("it closes");
        let builder = Database::builder().path(directory.path()).memory_limit(LIMIT).history(HistoryRetention::Off);
        let database = builder.open().await.expect("it opens all the same");
        assert!(database.info().memory_bytes > 3_000_000);
        assert_eq!(database.info().memory_limit, Some(LIMIT));
        assert_eq!(database.kv().count(run, None).await.expect("reads go on"), 30);
        assert_full(database.kv().put(run, "more", 1).await);
        for number in 0..25 {
            assert!(database.kv().delete(run, format!("key-{number}")).await.expect("deletes go on"));
        }
        put_soon(&database.kv(), run, "more", 1).await;
    });
}
