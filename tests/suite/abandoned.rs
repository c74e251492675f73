//! Abandoned transactions over two shards: dropped at every poll, or leaked, they happen whole or not at all and are in
//! nobody's way.
//!
//! - Futures are polled by hand: once, and again only when they have asked for it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::support::placement::{key_on, name_on, run_on};
use crate::support::{MODES, directory, on_tokio, sharded};
use in_mem::Partitioning;
use in_mem::prelude::*;

/// Counts how often it was woken.
#[derive(Default)]
struct Count {
    woken: Mutex<u32>,
    changed: Condvar,
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() += 1;
        self.changed.notify_all();
    }
}

/// Is not ready once, so that there is a place to give up at however soon the answers come.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Polls a future so many times, each time but the first after it was woken. Returns its result if it completed.
fn poll_times<T>(future: &mut (impl Future<Output = T> + Unpin), times: usize) -> Option<T> {
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut seen = 0;
    for poll in 0..times {
        if poll > 0 {
            let mut woken = count.woken.lock().unwrap();
            while *woken == seen {
                woken = count.changed.wait(woken).unwrap();
            }
            seen = *woken;
        }
        if let Poll::Ready(result) = Pin::new(&mut *future).poll(&mut Context::from_waker(&waker)) {
            return Some(result);
        }
    }
    None
}

/// Polls futures that `make` makes once, twice ... until one completes, and gives up each: `give_up` drops or leaks it.
/// `check` then gets how often it was polled and whether it completed.
async fn give_up_everywhere<T, F: Future<Output = T> + Unpin>(
    make: impl Fn(usize) -> F,
    give_up: impl Fn(F),
    check: impl AsyncFn(usize, Option<T>),
) -> usize {
    for polls in 0.. {
        let mut future = make(polls);
        let result = poll_times(&mut future, polls);
        give_up(future);
        let completed = result.is_some();
        check(polls, result).await;
        if completed {
            return polls;
        }
    }
    unreachable!("it completes");
}

/// Two places on two shards.
#[derive(Clone)]
struct Pair {
    database: Database,
    places: [(RunId, String); 2],
}

impl Pair {
    async fn new(database: &Database, partitioning: Partitioning) -> Self {
        let places = match partitioning {
            Partitioning::ByRun => [(run_on(0, 2), "k".into()), (run_on(1, 2), "k".into())],
            Partitioning::ByKey => {
                let run = RunId::new();
                [(run, key_on(run, "k", 0, 2)), (run, key_on(run, "k", 1, 2))]
            }
        };
        let pair = Self { database: database.clone(), places };
        pair.write(0, 0).await.unwrap();
        pair
    }

    /// Reads both and writes both.
    fn write(&self, value: i64, max_retries: u32) -> impl Future<Output = Result<Vec<Option<Value>>>> + Unpin + use<> {
        let options = TransactionOptions { max_retries, ..TransactionOptions::default() };
        let places = self.places.clone();
        let runs = [places[0].0, places[1].0];
        self.database.transaction_across_with(runs, options, move |txn| {
            let places = places.clone();
            async move {
                let mut found = Vec::new();
                for (run, key) in &places {
                    found.push(txn.run(run).kv_get(key).await?);
                    pause().await;
                }
                for (run, key) in &places {
                    txn.run(run).kv_put(key, value).await?;
                    pause().await;
                }
                Ok(found)
            }
        })
    }

    /// Both values, which must be the same.
    async fn value(&self) -> i64 {
        let view = self.database.snapshot_now(self.places[0].0).await.unwrap();
        let mut values = Vec::new();
        for (run, key) in &self.places {
            values.push(view.run(run).kv_get(key).await.unwrap().unwrap().as_i64().unwrap());
        }
        assert_eq!(values[0], values[1], "all or nothing");
        values[0]
    }

    /// Nothing that was given up stands in the way: not of who tries again, and after that not of anybody.
    async fn is_free(&self, value: i64) {
        self.write(value, 1000).await.unwrap();
        self.write(value, 0).await.unwrap();
        for (run, key) in &self.places {
            self.database.kv().put(run, key, value).await.unwrap();
            assert_eq!(self.database.kv().get(run, key).await.unwrap(), Some(value.into()));
        }
    }
}

/// Gives transactions up at every poll, in every mode and partitioning.
fn everywhere(give_up: fn(Box<dyn std::any::Any>)) {
    on_tokio(async {
        for mode in MODES {
            for partitioning in [Partitioning::ByRun, Partitioning::ByKey] {
                let directory = directory();
                let builder = Database::builder().path(directory.path()).durability(mode).shards(2).spin(None);
                let database = builder.partitioning(partitioning).open().await.unwrap();
                let pair = Pair::new(&database, partitioning).await;
                let polls = give_up_everywhere(
                    |polls| pair.write(i64::try_from(polls).unwrap() + 1000, 0),
                    |future| give_up(Box::new(future)),
                    async |polls, result| {
                        let polls = i64::try_from(polls).unwrap();
                        let value = pair.value().await;
                        let (old, new) = (polls - 1, polls + 1000);
                        assert!(value == old.max(0) || value == new, "{mode:?} polls={polls} value={value}");
                        if let Some(result) = result {
                            result.unwrap();
                            assert_eq!(value, new, "what was acknowledged is there");
                        }
                        pair.is_free(polls).await;
                    },
                );
                let polls = polls.await;
                assert!(polls > 4, "it pauses that often: {polls}");
                println!("{mode:?} {partitioning:?}: complete at poll {polls}");
                database.close().await.unwrap();
            }
        }
    });
}

#[test]
fn a_transaction_dropped_at_any_poll_is_whole_or_nothing_and_in_nobodys_way() {
    everywhere(drop);
}

#[test]
fn a_transaction_leaked_at_any_poll_is_whole_or_nothing_and_in_nobodys_way() {
    everywhere(|future| {
        Box::leak(future);
    });
}

#[test]
fn a_transaction_by_hand_that_is_leaked_is_in_nobodys_way() {
    on_tokio(async {
        let database = Database::builder().shards(2).partitioning(Partitioning::ByKey).open().await.unwrap();
        let pair = Pair::new(&database, Partitioning::ByKey).await;
        for round in 0..10 {
            let leaked = database.begin_transaction(pair.places[0].0).await.unwrap();
            for (_, key) in &pair.places {
                leaked.kv_get(key).await.unwrap();
                leaked.kv_put(key, -1).await.unwrap();
            }
            leaked.kv_list(None).await.unwrap();
            std::mem::forget(leaked);
            let view = database.snapshot_now(pair.places[0].0).await.unwrap();
            std::mem::forget(view);
            pair.is_free(round).await;
            assert_eq!(pair.value().await, round);
        }
        database.close().await.unwrap();
    });
}

#[test]
fn writes_of_many_keys_dropped_at_any_poll_are_whole_or_nothing() {
    on_tokio(async {
        for mode in MODES {
            let directory = directory();
            let builder = Database::builder().path(directory.path()).durability(mode).shards(2).spin(None);
            let database = builder.partitioning(Partitioning::ByKey).open().await.unwrap();
            let run = database.run(RunId::new());
            let keys: Vec<String> = (0..10).map(|number| format!("{number}")).collect();
            let put = |value: usize| run.kv().put_many(keys.iter().map(|key| (key, value)));
            put(999).await.unwrap();
            give_up_everywhere(put, drop, async |polls, result| {
                let found = run.kv().get_many(&keys).await.unwrap();
                let value = found[0].as_ref().unwrap().as_i64().unwrap();
                assert!(found.iter().all(|other| other.as_ref().and_then(Value::as_i64) == Some(value)), "{found:?}");
                assert!(value == 999 || value == i64::try_from(polls).unwrap());
                assert!(result.is_none_or(|result| result.is_ok() && value != 999));
                put(999).await.unwrap();
            })
            .await;
            database.close().await.unwrap();
        }
    });
}

#[test]
fn making_and_deleting_a_named_run_dropped_at_any_poll_is_whole_or_nothing() {
    on_tokio(async {
        let database = Database::builder().shards(2).spin(None).partitioning(Partitioning::ByKey).open().await.unwrap();
        let name = name_on("agent", 0, 2);
        let create = |_| {
            let options = RunOptions { id: Some(run_on(1, 2)), name: Some(name.clone()), ..RunOptions::default() };
            database.begin_run_with(options)
        };
        let made = async || {
            let _ = database.runs().create_run(&name).await;
            let found = database.runs().get_run(name.as_str()).await.unwrap().unwrap();
            assert_eq!(database.runs().get_run(found.run_id).await.unwrap().unwrap().name, name);
            assert_eq!(database.runs().count().await.unwrap(), 1, "who was given up has made it, or who came then");
        };
        let deleted = async || {
            // Who was given up may be deleting it only now. After this, nobody is.
            let _ = database.runs().delete_run(name.as_str()).await;
            assert!(!database.runs().exists(name.as_str()).await.unwrap());
            assert_eq!(database.runs().count().await.unwrap(), 0, "a run went with its name");
        };
        give_up_everywhere(create, drop, async |_, _| {
            made().await;
            deleted().await;
        })
        .await;
        made().await;
        give_up_everywhere(
            |_| database.runs().delete_run(name.as_str()),
            drop,
            async |_, _| {
                deleted().await;
                made().await;
            },
        )
        .await;
    });
}

#[test]
fn those_who_fight_over_a_few_keys_all_get_their_turn() {
    const TASKS: usize = 64;
    const STEPS: usize = 4;
    on_tokio(async {
        let database = sharded(2).await;
        let runs = [run_on(0, 2), run_on(1, 2)];
        let places: Vec<(RunId, String)> =
            runs.into_iter().flat_map(|run| ["a", "b"].map(|key| (run, key.to_owned()))).collect();
        let tasks = (0..TASKS).map(|task| {
            let (database, places) = (database.clone(), places.clone());
            tokio::spawn(async move {
                let mut attempts = Vec::new();
                for step in 0..STEPS {
                    // One on each shard, in either order.
                    let mut chosen = [&places[task % 2], &places[2 + (task / 2 + step) % 2]];
                    chosen.rotate_left(step % 2);
                    let calls = AtomicU32::new(0);
                    let options = TransactionOptions { max_retries: u32::MAX, ..TransactionOptions::default() };
                    let done = database.transaction_across_with(runs, options, async |txn| {
                        calls.fetch_add(1, Ordering::Relaxed);
                        for (run, key) in chosen {
                            let count = txn.run(run).kv().get_as::<i64>(key).await?.unwrap_or(0);
                            txn.run(run).kv_put(key, count + 1).await?;
                        }
                        Ok(())
                    });
                    done.await.unwrap();
                    attempts.push(calls.into_inner());
                }
                attempts
            })
        });
        let mut attempts = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            attempts.extend(task.await.unwrap());
        }
        let mut sum = 0;
        for (run, key) in &places {
            sum += database.kv().get_as::<i64>(run, key).await.unwrap().unwrap();
        }
        assert_eq!(usize::try_from(sum).unwrap(), TASKS * STEPS * 2, "no increment is lost");
        let mut distribution: BTreeMap<u32, usize> = BTreeMap::new();
        for calls in &attempts {
            *distribution.entry(calls.next_power_of_two()).or_default() += 1;
        }
        let most = attempts.iter().max().unwrap();
        println!("calls per transaction, up to: how many transactions: {distribution:?}, at most {most}");
    });
}

#[test]
fn transactions_that_are_dropped_all_at_once_keep_nothing_though_the_mailbox_is_full() {
    on_tokio(async {
        let builder = Database::builder().durability(DurabilityMode::InMemory).shards(1);
        let database = builder.history(in_mem::HistoryRetention::Off).open().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        run.kv().put("k", 0).await.unwrap();
        let mut all = Vec::new();
        for _ in 0..5_000 {
            let open = database.begin_transaction(run.id()).await.unwrap();
            open.kv_get("k").await.unwrap();
            all.push(open);
        }
        let past = database.snapshot_now(run.id()).await.unwrap().version();
        // The shard takes nothing out of its mailbox while they go.
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let busy = database.spawn_on(run.id(), move |_| async move {
            begun.send(()).unwrap();
            let _ = may_go_on.recv();
            Ok(())
        });
        let busy = tokio::spawn(busy);
        tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
        drop(all);
        drop(go_on);
        busy.await.unwrap().unwrap();
        for value in 0.. {
            assert!(value < 1_000, "somebody still reads what was current then");
            run.kv().put("k", value).await.unwrap();
            let view = database.snapshot_at(run.id(), past).await.unwrap();
            if view.kv_get("k").await.is_err() {
                break;
            }
        }
    });
}
