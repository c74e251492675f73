//! Key-value pairs: every operation and its edges.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::{BUFFERED, directory, in_memory, on_tokio, open};
use futures::StreamExt;
use in_mem::prelude::*;
use in_mem::{Bytes, HistoryRetention};
use serde::{Deserialize, Serialize};

/// A run with these keys, each holding its own name.
async fn run_with(keys: &[&str]) -> RunHandle {
    let (_, run) = in_memory().await;
    run.kv().put_many(keys.iter().map(|key| (key, *key))).await.unwrap();
    run
}

async fn keys_of(scan: Scan) -> Vec<String> {
    scan.map(|pair| pair.unwrap().0).collect().await
}

#[test]
fn a_pair_is_put_read_replaced_and_deleted() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let kv = run.kv();
        assert_eq!(kv.get("k").await.unwrap(), None);
        assert!(!kv.exists("k").await.unwrap());
        assert!(!kv.delete("k").await.unwrap());
        kv.put("k", 1).await.unwrap();
        assert!(kv.exists("k").await.unwrap());
        kv.put("k", "two").await.unwrap();
        assert_eq!(kv.get("k").await.unwrap(), Some("two".into()));
        assert!(kv.delete("k").await.unwrap());
        assert!(!kv.delete("k").await.unwrap());
        assert_eq!(kv.get("k").await.unwrap(), None);
        kv.put("null", Value::Null).await.unwrap();
        assert_eq!(kv.get("null").await.unwrap(), Some(Value::Null), "null is something");
        assert!(kv.exists("null").await.unwrap());
    });
}

#[test]
fn every_kind_of_value_is_read_back_as_it_was_even_from_disk() {
    on_tokio(async {
        let directory = directory();
        let nan = f64::from_bits(0x7ff8_0000_0000_1234);
        let values: Vec<Value> = vec![
            Value::Null,
            true.into(),
            i64::MIN.into(),
            u64::MAX.into(),
            nan.into(),
            f64::NEG_INFINITY.into(),
            (-0.0).into(),
            "".into(),
            "héllo \u{0}\u{1f600}".into(),
            Bytes::from_static(&[0, 255]).into(),
            Vec::<Value>::new().into(),
            vec![Value::Null, 1.into(), vec!["nested"].into()].into(),
            HashMap::from([("a", Value::from(1)), ("", Value::Null)]).into(),
        ];
        let keys = (0..values.len()).map(|number| number.to_string());
        let run = RunId::new();
        let database = open(directory.path(), BUFFERED, 2).await;
        database.kv().put_many(run, keys.clone().zip(values.clone())).await.unwrap();
        let expected: Vec<_> = values.into_iter().map(Some).collect();
        assert_eq!(database.kv().get_many(run, keys.clone()).await.unwrap(), expected);
        database.close().await.unwrap();
        let database = open(directory.path(), BUFFERED, 1).await;
        let read = database.kv().get_many(run, keys).await.unwrap();
        assert_eq!(read, expected);
        assert_eq!(read[4].as_ref().and_then(Value::as_f64).map(f64::to_bits), Some(nan.to_bits()));
    });
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    goal: String,
    steps: Vec<Step>,
    budget: Option<f64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    Think,
    Call { tool: String, tries: u64 },
}

#[test]
fn types_of_the_callers_own_are_stored_and_read_back() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let steps = vec![Step::Think, Step::Call { tool: "grep".into(), tries: u64::MAX }];
        let plan = Plan { goal: "fix it".into(), steps, budget: None };
        run.kv().put_as("plan", &plan).await.unwrap();
        assert_eq!(run.kv().get_as("plan").await.unwrap(), Some(plan));
        assert_eq!(database.kv().get_as::<Plan>(run.id(), "none").await.unwrap(), None);
        database.kv().put_as(run.id(), "number", &7_u8).await.unwrap();
        assert_eq!(run.kv().get("number").await.unwrap(), Some(7.into()));
        let wrong = run.kv().get_as::<Plan>("number").await;
        assert!(matches!(wrong, Err(Error::Serialization(_))), "{wrong:?}");
    });
}

#[test]
fn several_keys_are_read_in_the_order_asked_for() {
    on_tokio(async {
        let run = run_with(&["a", "b", "c"]).await;
        let read = run.kv().get_many(["c", "x", "a", "c"]).await.unwrap();
        assert_eq!(read, [Some("c".into()), None, Some("a".into()), Some("c".into())]);
        assert!(run.kv().get_many(Vec::<String>::new()).await.unwrap().is_empty());
        let map = run.kv().get_many_map(["c", "x", "a", "c"]).await.unwrap();
        assert_eq!(map, HashMap::from([("a".into(), "a".into()), ("c".into(), "c".into())]));
        assert_eq!(run.kv().delete_many(["a", "x", "a", "b"]).await.unwrap(), 2);
        assert_eq!(run.kv().list(None).await.unwrap(), ["c"]);
        run.kv().put_many([("d", 1), ("e", 2), ("d", 3)]).await.unwrap();
        assert_eq!(run.kv().get("d").await.unwrap(), Some(3.into()), "the last of one key counts");
        let versions = [run.kv().get_versioned("d").await.unwrap(), run.kv().get_versioned("e").await.unwrap()];
        assert_eq!(versions[0].as_ref().unwrap().version, versions[1].as_ref().unwrap().version, "one commit");
    });
}

#[test]
fn keys_are_listed_by_prefix_in_the_order_of_their_bytes() {
    on_tokio(async {
        let run = run_with(&["b", "a", "ab", "a/1", "a/2", "B", "é", "a\u{10ffff}", "a\u{0}"]).await;
        let kv = run.kv();
        let all = ["B", "a", "a\u{0}", "a/1", "a/2", "ab", "a\u{10ffff}", "b", "é"];
        assert_eq!(kv.list(None).await.unwrap(), all);
        assert_eq!(kv.list(Some("")).await.unwrap(), all);
        assert_eq!(kv.list(Some("a/")).await.unwrap(), ["a/1", "a/2"]);
        assert_eq!(kv.list(Some("a\u{10ffff}")).await.unwrap(), ["a\u{10ffff}"]);
        assert!(kv.list(Some("none")).await.unwrap().is_empty());
        assert_eq!(kv.count(Some("a")).await.unwrap(), 6);
        assert_eq!(kv.count(None).await.unwrap(), 9);
        let pairs = kv.list_with_values(Some("a/")).await.unwrap();
        assert_eq!(pairs, [("a/1".into(), "a/1".into()), ("a/2".into(), "a/2".into())]);
    });
}

#[test]
fn runs_do_not_see_each_others_keys() {
    on_tokio(async {
        let database = crate::support::sharded(3).await;
        let runs: Vec<RunId> = (0..9).map(|_| RunId::new()).collect();
        for (number, run) in runs.iter().enumerate() {
            database.kv().put(run, "k", number).await.unwrap();
        }
        for (number, run) in runs.iter().enumerate() {
            assert_eq!(database.kv().get(run, "k").await.unwrap(), Some(number.into()));
            assert_eq!(database.kv().list(run, None).await.unwrap(), ["k"]);
        }
    });
}

#[test]
fn a_scan_gives_what_lies_within_all_its_bounds() {
    on_tokio(async {
        let run = run_with(&["a", "b", "b1", "b2", "b3", "c"]).await;
        let scan = |options: ScanOptions| keys_of(run.kv().scan(options));
        let all = ScanOptions::default();
        assert_eq!(scan(all.clone()).await, ["a", "b", "b1", "b2", "b3", "c"]);
        assert_eq!(scan(ScanOptions { reverse: true, ..all.clone() }).await, ["c", "b3", "b2", "b1", "b", "a"]);
        assert_eq!(scan(ScanOptions { prefix: Some("b".into()), ..all.clone() }).await, ["b", "b1", "b2", "b3"]);
        let within = ScanOptions { start: Some("b".into()), end: Some("b2".into()), ..all.clone() };
        assert_eq!(scan(within.clone()).await, ["b", "b1"]);
        assert_eq!(scan(ScanOptions { reverse: true, ..within.clone() }).await, ["b1", "b"]);
        assert_eq!(scan(ScanOptions { prefix: Some("b1".into()), ..within }).await, ["b1"]);
        assert_eq!(scan(ScanOptions { limit: Some(2), ..all.clone() }).await, ["a", "b"]);
        assert_eq!(scan(ScanOptions { limit: Some(2), reverse: true, ..all.clone() }).await, ["c", "b3"]);
        assert!(scan(ScanOptions { limit: Some(0), ..all.clone() }).await.is_empty());
        assert!(scan(ScanOptions { start: Some("c".into()), end: Some("a".into()), ..all.clone() }).await.is_empty());
        assert_eq!(scan(ScanOptions { cursor: Some("b1".into()), ..all.clone() }).await, ["b2", "b3", "c"]);
        assert_eq!(scan(ScanOptions { cursor: Some("b1".into()), reverse: true, ..all }).await, ["b", "a"]);
    });
}

#[test]
fn a_scan_goes_on_where_another_one_stood() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let keys: Vec<String> = (0..700).map(|number| format!("key-{number:03}")).collect();
        run.kv().put_many(keys.iter().map(|key| (key, 1))).await.unwrap();
        for (reverse, piece) in
            [(false, 1), (true, 1), (false, 255), (true, 256), (false, 257), (true, 512), (false, 9999)]
        {
            let mut all = Vec::new();
            let mut cursor = None;
            loop {
                let limit = if piece == 1 { 97 } else { piece };
                let options = ScanOptions { cursor, reverse, limit: Some(limit), ..ScanOptions::default() };
                let mut scan = database.kv().scan(run.id(), options.clone());
                assert_eq!(scan.cursor(), options.cursor, "nothing was given out yet");
                let before = all.len();
                while let Some(pair) = scan.next().await {
                    all.push(pair.unwrap().0);
                }
                cursor = scan.cursor();
                if all.len() == before {
                    break;
                }
                assert_eq!(cursor.as_ref(), all.last());
            }
            if reverse {
                all.reverse();
            }
            assert_eq!(all, keys, "reverse={reverse} piece={piece}");
        }
    });
}

#[test]
fn a_scan_of_several_pages_shows_one_snapshot_whatever_is_written_meanwhile() {
    on_tokio(async {
        let database = Database::builder().history(HistoryRetention::Off).await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        let key = |number: i64| format!("key-{number:04}");
        run.kv().put_many((0..1000).map(|number| (key(number), number))).await.unwrap();
        for reverse in [false, true] {
            let mut scan = run.kv().scan(ScanOptions { reverse, ..ScanOptions::default() });
            let first = scan.next().await.unwrap().unwrap();
            let all: Vec<_> = (0..1000).map(key).collect();
            run.kv().delete_many(&all[..400]).await.unwrap();
            run.kv().put_many(all[400..].iter().map(|key| (key, -1))).await.unwrap();
            run.kv().put_many((0..1000).map(|number| (format!("key-{number:04}-new"), -1))).await.unwrap();
            let mut found = vec![first];
            found.extend(scan.map(Result::unwrap).collect::<Vec<_>>().await);
            if reverse {
                found.reverse();
            }
            let expected = (0..1000).map(|number| (key(number), Value::from(number)));
            assert!(found.into_iter().eq(expected), "reverse={reverse}");
            assert_eq!(run.kv().count(None).await.unwrap(), 1600, "a new reader sees what is new");
            let new: Vec<_> = (0..1000).map(|number| format!("key-{number:04}-new")).collect();
            run.kv().delete_many(new).await.unwrap();
            run.kv().put_many((0..1000).map(|number| (key(number), number))).await.unwrap();
        }
    });
}

#[test]
fn a_scan_inside_a_transaction_shows_its_own_writes() {
    on_tokio(async {
        let run = run_with(&["a", "b", "c"]).await;
        let found = run.transaction(async |txn| {
            txn.kv_delete("a").await?;
            txn.kv_put("b", "mine").await?;
            txn.kv_put("d", "new").await?;
            let pairs: Vec<_> = txn.kv().scan(ScanOptions::default()).collect().await;
            pairs.into_iter().collect::<Result<Vec<_>>>()
        });
        let expected = [("b", "mine"), ("c", "c"), ("d", "new")];
        assert_eq!(found.await.unwrap(), expected.map(|(key, value)| (key.to_owned(), Value::from(value))));
    });
}

/// Whether anything that reads shows the key; all of them at one snapshot.
async fn is_visible(run: &RunHandle, key: &'static str) -> bool {
    let looks = run.transaction(async |txn| {
        let kv = txn.kv();
        let scanned: Vec<_> =
            kv.scan(ScanOptions { prefix: Some(key.into()), ..ScanOptions::default() }).collect().await;
        Ok([
            kv.get(key).await?.is_some(),
            kv.exists(key).await?,
            kv.get_versioned(key).await?.is_some(),
            kv.get_as::<i64>(key).await?.is_some(),
            kv.get_many([key]).await?[0].is_some(),
            kv.get_many_map([key]).await?.contains_key(key),
            kv.list(Some(key)).await? == [key],
            kv.list_with_values(Some(key)).await?.len() == 1,
            kv.count(Some(key)).await? == 1,
            scanned.len() == 1,
        ])
    });
    let looks = looks.await.unwrap();
    assert!(looks.iter().all(|look| *look == looks[0]), "{looks:?}");
    looks[0]
}

#[test]
fn a_pair_with_a_time_to_live_vanishes_for_every_reader_at_once() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        run.kv().put("none", 1).await.unwrap();
        run.kv().put_with_ttl("none", 2, Duration::ZERO).await.unwrap();
        assert!(!is_visible(&run, "none").await, "what lives for no time replaces what was there");
        run.kv().put_with_ttl("ever", 1, Duration::MAX).await.unwrap();
        run.kv().put_with_ttl("hour", 1, Duration::from_secs(3600)).await.unwrap();
        run.kv().put_with_ttl("soon", 1, Duration::from_millis(30)).await.unwrap();
        while is_visible(&run, "soon").await {
            tokio::task::yield_now().await;
        }
        assert!(!run.kv().delete("soon").await.unwrap(), "there is nothing to delete");
        assert!(is_visible(&run, "ever").await && is_visible(&run, "hour").await);
        run.kv().compare_and_put("soon", None, 2).await.unwrap();
        assert!(is_visible(&run, "soon").await, "written again, it stays");
        run.kv().put_with_ttl("kept", 1, Duration::from_millis(5)).await.unwrap();
        run.kv().put("kept", 2).await.unwrap();
        let ends = run.kv().get_versioned("kept").await.unwrap().unwrap().version.get() + 5_000_000;
        while run.kv().put("clock", 1).await.is_ok()
            && run.kv().get_versioned("clock").await.unwrap().unwrap().version.get() <= ends
        {}
        assert!(is_visible(&run, "kept").await, "a put without one takes the time to live away");
    });
}

#[test]
fn an_expired_pair_is_gone_after_reopening_and_one_that_lives_still_lives() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        let run = database.start_run(RunOptions::default()).await.unwrap();
        run.kv().put_with_ttl("gone", 1, Duration::from_nanos(1)).await.unwrap();
        run.kv().put_with_ttl("here", 1, Duration::from_secs(3600)).await.unwrap();
        database.close().await.unwrap();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        assert_eq!(database.kv().list(run.id(), None).await.unwrap(), ["here"]);
        let history = database.kv().history(run.id(), "gone").await.unwrap();
        assert!(history.last().unwrap().value.is_none(), "{history:?}");
    });
}

#[test]
fn history_has_every_version_and_every_end_and_survives_reopening() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        let run = database.start_run(RunOptions::default()).await.unwrap();
        let kv = run.kv();
        kv.put("k", 1).await.unwrap();
        kv.delete("k").await.unwrap();
        kv.delete("k").await.unwrap();
        kv.put("k", "two").await.unwrap();
        kv.put_with_ttl("k", 3, Duration::from_nanos(1)).await.unwrap();
        let last = kv.put("other", 0).await.and(kv.get_versioned("other").await).unwrap().unwrap().version;
        let history = kv.history("k").await.unwrap();
        let values: Vec<_> = history.iter().map(|entry| entry.value.clone()).collect();
        assert_eq!(values, [Some(1.into()), None, Some("two".into()), Some(3.into()), None]);
        assert!(history.is_sorted_by(|a, b| a.version < b.version), "{history:?}");
        assert!(history.iter().all(|entry| entry.version < last), "{history:?}");
        assert!(kv.history("never").await.unwrap().is_empty());
        database.close().await.unwrap();
        let database = open(directory.path(), DurabilityMode::Strict, 3).await;
        assert_eq!(database.kv().history(run.id(), "k").await.unwrap(), history);
        database.kv().put(run.id(), "k", 4).await.unwrap();
        assert_eq!(database.kv().history(run.id(), "k").await.unwrap().len(), 6);
    });
}

#[test]
fn as_much_history_is_kept_as_was_asked_for() {
    on_tokio(async {
        for (retention, kept) in
            [(HistoryRetention::Off, 1), (HistoryRetention::Commits(3), 3), (HistoryRetention::Forever, 10)]
        {
            let database = Database::builder().history(retention).await.unwrap();
            let run = database.begin_run().await;
            for number in 0..10 {
                database.kv().put(run, "k", number).await.unwrap();
            }
            let history = database.kv().history(run, "k").await.unwrap();
            assert_eq!(history.last().unwrap().value, Some(9.into()));
            assert!(history.len() >= kept && history.len() <= kept + 1, "{retention:?} {history:?}");
        }
    });
}

#[test]
fn compare_and_put_goes_by_the_version_that_was_read() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let kv = run.kv();
        let first = kv.compare_and_put("k", None, 1).await.unwrap();
        assert_eq!(kv.get_versioned("k").await.unwrap(), Some(Versioned { value: 1.into(), version: first }));
        let mismatch = |result: Result<Version>| match result {
            Err(Error::VersionMismatch { expected, actual }) => (expected, actual),
            other => panic!("no mismatch: {other:?}"),
        };
        assert_eq!(mismatch(kv.compare_and_put("k", None, 2).await), (0, first.get()));
        let second = kv.compare_and_put("k", Some(first), 2).await.unwrap();
        assert!(second > first);
        assert_eq!(mismatch(kv.compare_and_put("k", Some(first), 3).await), (first.get(), second.get()));
        kv.delete("k").await.unwrap();
        assert_eq!(mismatch(kv.compare_and_put("k", Some(second), 3).await), (second.get(), 0));
        assert!(database.kv().compare_and_put(run.id(), "k", None, 3).await.unwrap() > second);
        let racing = (0..20).map(|number| tokio::spawn(kv.compare_and_put("race", None, number)));
        let results = futures::future::join_all(racing).await;
        assert_eq!(results.iter().filter(|result| result.as_ref().unwrap().is_ok()).count(), 1);
    });
}
