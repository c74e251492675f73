//! Many tasks at once: nothing is lost, nothing happens twice, nobody sees half of anything.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use crate::support::{directory, on_tokio, open, sharded};
use futures::future::{BoxFuture, FutureExt, join_all};
use in_mem::prelude::*;

const TASKS: u64 = 100;
const ROUNDS: u64 = 20;

/// Runs so many tasks at once and gives what each of them gave.
async fn tasks<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    count: u64,
    task: impl Fn(u64) -> F,
) -> Vec<T> {
    join_all((0..count).map(|number| tokio::spawn(task(number)))).await.into_iter().map(Result::unwrap).collect()
}

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn appends_of_a_hundred_tasks_to_one_run_are_one_chain_and_each_sequence_is_given_out_once() {
    on_tokio(async {
        let database = sharded(4).await;
        let run = database.begin_run().await;
        let sequences = tasks(TASKS, |task| {
            let events = database.run(run).events();
            async move {
                let mut own = Vec::new();
                for round in 0..ROUNDS {
                    let (sequence, hash) = events.append("step", vec![task, round]).await.unwrap();
                    own.push((sequence, hash));
                }
                assert!(own.is_sorted_by(|a, b| a.0 < b.0), "a task's own appends are in its order");
                own
            }
        });
        let mut given = sequences.await.concat();
        given.sort_unstable();
        let events = database.events().read_range(run, 0, u64::MAX).await.unwrap();
        let stored: Vec<_> = events.iter().map(|event| (event.sequence, event.hash)).collect();
        assert_eq!(given, stored);
        assert!(given.iter().map(|(sequence, _)| *sequence).eq(0..TASKS * ROUNDS));
        let payloads: BTreeSet<String> = events.iter().map(|event| event.payload.to_string()).collect();
        assert_eq!(payloads.len() as u64, TASKS * ROUNDS, "no event was appended twice");
        let chain = database.events().verify_chain(run).await.unwrap();
        assert!(chain.is_valid && chain.length == TASKS * ROUNDS, "{chain:?}");
    });
}

#[test]
fn increments_of_a_hundred_tasks_add_up() {
    on_tokio(async {
        let database = sharded(4).await;
        let run = database.begin_run().await;
        let sums = tasks(TASKS, |_| {
            let states = database.run(run).states();
            async move {
                let mut own = Vec::new();
                for _ in 0..ROUNDS {
                    own.push(states.increment("counter", 1).await.unwrap());
                }
                own
            }
        });
        let mut sums = sums.await.concat();
        sums.sort_unstable();
        assert!(sums.into_iter().eq(1..=2000), "every sum is returned once");
        let state = database.states().read(run, "counter").await.unwrap().unwrap();
        assert_eq!((state.value, state.version), (2000.into(), 2000));
    });
}

#[test]
fn transitions_of_fifty_tasks_each_see_what_the_one_before_left() {
    on_tokio(async {
        let database = sharded(2).await;
        let run = database.begin_run().await;
        database.states().init(run, "cell", 0).await.unwrap();
        let calls = Arc::new(AtomicU64::new(0));
        let versions = tasks(50, |_| {
            let (states, calls) = (database.run(run).states(), calls.clone());
            async move {
                let mut own = Vec::new();
                for _ in 0..10 {
                    let step = states.transition("cell", |state| {
                        calls.fetch_add(1, Ordering::Relaxed);
                        let seen = state.value.as_i64().unwrap();
                        assert_eq!(seen.cast_unsigned() + 1, state.version);
                        Ok((Value::from(seen + 1), seen))
                    });
                    let (seen, version) = step.await.unwrap();
                    assert_eq!(seen.cast_unsigned() + 2, version);
                    own.push(version);
                }
                own
            }
        });
        let mut versions = versions.await.concat();
        versions.sort_unstable();
        assert!(versions.into_iter().eq(2..=501), "every version was somebody's");
        let state = database.states().read(run, "cell").await.unwrap().unwrap();
        assert_eq!((state.value, state.version), (500.into(), 501));
        assert!(calls.load(Ordering::Relaxed) >= 500);
    });
}

#[test]
fn a_cell_that_fifty_tasks_make_or_change_is_made_once() {
    on_tokio(async {
        let database = sharded(2).await;
        let run = database.begin_run().await;
        let versions = tasks(50, |_| {
            let states = database.run(run).states();
            let step = |state: &State| Ok((Value::from(state.value.as_i64().unwrap() + 1), ()));
            async move { states.transition_or_init("cell", 100, step).await.unwrap().1 }
        });
        let versions: BTreeSet<u64> = versions.await.into_iter().collect();
        assert!(versions.into_iter().eq(1..=50));
        assert_eq!(database.states().read(run, "cell").await.unwrap().unwrap().value, 150.into());
        let made = tasks(50, |task| database.states().init(run, "other", task)).await;
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
        assert!(
            made.iter().filter_map(|made| made.as_ref().err()).all(|error| matches!(error, Error::AlreadyExists(_)))
        );
    });
}

#[test]
fn money_that_many_tasks_move_between_four_accounts_is_conserved() {
    on_tokio(async {
        let database = sharded(4).await;
        let run = database.begin_run().await;
        let account = |number: u64| format!("account-{number}");
        database.kv().put_many(run, (0..4).map(|number| (account(number), 1000))).await.unwrap();
        let moved = tasks(32, |task| {
            let (database, mut numbers) = (database.clone(), Numbers(task));
            async move {
                let mut attempts = 0;
                for _ in 0..10 {
                    let from = numbers.below(4);
                    let to = (from + 1 + numbers.below(3)) % 4;
                    let (from, to) = (account(from), account(to));
                    let attempted = AtomicU64::new(0);
                    let patient = TransactionOptions { max_retries: u32::MAX, ..TransactionOptions::default() };
                    let transfer = database.transaction_with(run, patient, async |txn| {
                        attempted.fetch_add(1, Ordering::Relaxed);
                        let balance = |value: Option<Value>| value.and_then(|value| value.as_i64()).unwrap();
                        let (old_from, old_to) = (balance(txn.kv_get(&from).await?), balance(txn.kv_get(&to).await?));
                        txn.kv_put(&from, old_from - 1).await?;
                        txn.kv_put(&to, old_to + 1).await?;
                        txn.event_append("moved", Value::Null).await
                    });
                    transfer.await.unwrap();
                    attempts += attempted.into_inner();
                }
                attempts
            }
        });
        let attempts: u64 = moved.await.iter().sum();
        let accounts = database.kv().list_with_values(run, Some("account-")).await.unwrap();
        let total: i64 = accounts.iter().map(|(_, balance)| balance.as_i64().unwrap()).sum();
        assert_eq!(total, 4000, "after {attempts} attempts: {accounts:?}");
        assert_eq!(database.events().len(run).await.unwrap(), 320);
        assert!(database.events().verify_chain(run).await.unwrap().is_valid);
    });
}

#[test]
fn whoever_reads_while_money_moves_sees_all_of_it() {
    on_tokio(async {
        let (database, run) = crate::support::in_memory().await;
        run.kv().put_many([("a", 500), ("b", 500)]).await.unwrap();
        let writer = tokio::spawn({
            let run = run.clone();
            async move {
                for number in 0..300 {
                    run.kv().put_many([("a", number), ("b", 1000 - number)]).await.unwrap();
                }
            }
        });
        let mut reads = 0;
        while !writer.is_finished() || reads < 10 {
            let values = run.kv().get_many(["a", "b"]).await.unwrap();
            let listed = run.kv().list_with_values(None).await.unwrap();
            let read = database.transaction(run.id(), async |txn| Ok([txn.kv_get("a").await?, txn.kv_get("b").await?]));
            let read = read.await.unwrap();
            let sum = |values: &[Option<Value>]| values.iter().flatten().filter_map(Value::as_i64).sum::<i64>();
            assert_eq!((sum(&values), sum(&read)), (1000, 1000));
            assert_eq!(listed.iter().filter_map(|(_, value)| value.as_i64()).sum::<i64>(), 1000);
            reads += 1;
        }
        writer.await.unwrap();
    });
}

#[test]
fn many_tasks_on_many_runs_and_shards_read_what_they_wrote() {
    on_tokio(async {
        let database = sharded(4).await;
        let counts = tasks(64, |task| {
            let database = database.clone();
            async move {
                let run = database.start_run(RunOptions::default()).await.unwrap();
                for round in 0..ROUNDS {
                    let key = format!("key-{}", round % 7);
                    run.kv().put(&key, vec![task, round]).await.unwrap();
                    assert_eq!(run.kv().get(&key).await.unwrap(), Some(vec![task, round].into()));
                }
                run.kv().count(None).await.unwrap()
            }
        });
        assert_eq!(counts.await, [7; 64]);
        assert_eq!(database.runs().count().await.unwrap(), 64);
    });
}

/// Polls a future so many times and drops it. Whether it was ready by then.
fn poll_and_drop(mut future: Pin<&mut (dyn Future<Output = ()> + Send)>, polls: u64) -> bool {
    let mut context = Context::from_waker(futures::task::noop_waker_ref());
    for _ in 0..polls {
        if future.as_mut().poll(&mut context) == Poll::Ready(()) {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// What writes three things under a number, or none of them.
fn write_three(run: &RunHandle, number: u64) -> BoxFuture<'static, ()> {
    let (a, b) = (format!("a-{number}"), format!("b-{number}"));
    if number.is_multiple_of(2) {
        let put = run.kv().put_many([(a, number), (b, number), (format!("c-{number}"), number)]);
        return put.map(Result::unwrap).boxed();
    }
    let transaction = run.transaction(move |txn| {
        let (a, b) = (a.clone(), b.clone());
        async move {
            txn.kv_put(a, number).await?;
            assert!(txn.kv_get(&b).await?.is_none());
            txn.kv_put(b, number).await?;
            txn.kv_put(format!("c-{number}"), number).await
        }
    });
    transaction.map(Result::unwrap).boxed()
}

async fn drop_at_any_poll(run: &RunHandle) -> u64 {
    let mut numbers = Numbers(7);
    let mut finished = BTreeSet::new();
    for number in 0..150 {
        let polls = numbers.below(12);
        if poll_and_drop(write_three(run, number).as_mut(), polls) {
            finished.insert(number);
        }
    }
    // What comes after is behind everything that was sent.
    run.kv().put("last", 1).await.unwrap();
    let mut happened = 0;
    for number in 0..150 {
        let keys = ["a", "b", "c"].map(|letter| format!("{letter}-{number}"));
        let written = run.kv().get_many(keys).await.unwrap().into_iter().flatten().count();
        assert!(written == 0 || written == 3, "number={number} written={written}");
        assert!(written == 3 || !finished.contains(&number), "what was acknowledged has happened");
        happened += u64::from(written == 3);
    }
    write_three(run, 1_000).await;
    write_three(run, 1_001).await;
    assert_eq!(run.kv().count(None).await.unwrap(), 3 * (happened + 2) + 1);
    happened
}

#[test]
fn futures_dropped_at_any_poll_leave_all_or_nothing_and_a_database_that_works() {
    on_tokio(async {
        let (_database, run) = crate::support::in_memory().await;
        drop_at_any_poll(&run).await;
    });
}

#[test]
fn futures_dropped_at_any_poll_leave_all_or_nothing_on_disk() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        let run = database.start_run(RunOptions::default()).await.unwrap();
        let happened = drop_at_any_poll(&run).await;
        database.close().await.unwrap();
        let database = open(directory.path(), DurabilityMode::Strict, 3).await;
        assert_eq!(database.kv().count(run.id(), None).await.unwrap(), 3 * (happened + 2) + 1);
    });
}

#[test]
fn the_making_of_runs_dropped_at_any_poll_leaves_every_name_with_one_run_or_free() {
    on_tokio(async {
        let database = sharded(4).await;
        let mut numbers = Numbers(11);
        for number in 0..60 {
            let polls = numbers.below(10);
            let create = database.runs().create_run(format!("run-{number}")).map(|_| ());
            poll_and_drop(create.boxed().as_mut(), polls);
        }
        for number in 0..60 {
            let name = format!("run-{number}");
            let found = database.runs().get_run(&name).await.unwrap();
            let made = database.runs().create_run(&name).await;
            match (found, made) {
                (None, Ok(made)) => assert_eq!(made.name, name),
                (_, Err(Error::AlreadyExists(_))) => {}
                (found, made) => panic!("found={found:?} made={made:?}"),
            }
            let found = database.runs().get_run(&name).await.unwrap().unwrap();
            assert_eq!(found.status, RunStatus::Active);
        }
        assert_eq!(database.runs().count().await.unwrap(), 60);
    });
}

/// glommio's T1 (an executor parks with work pending) shows within seconds when others take the cores.
#[test]
fn while_others_take_every_core_no_call_is_lost_in_a_parked_executor() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let over = Arc::new(AtomicBool::new(false));
    let burners: Vec<_> = (0..4)
        .map(|_| {
            let over = over.clone();
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    on_tokio(async {
        let database = Database::builder().shards(2).open().await.unwrap();
        let callers = (0..4).map(|caller: i64| {
            let kv = database.kv();
            tokio::spawn(async move {
                let run = RunId::new();
                for number in 0..500 {
                    kv.put(run, "key", caller * 1000 + number).await.unwrap();
                    assert_eq!(kv.get(run, "key").await.unwrap(), Some((caller * 1000 + number).into()));
                }
            })
        });
        for caller in join_all(callers).await {
            caller.unwrap();
        }
    });
    over.store(true, Ordering::Relaxed);
    for burner in burners {
        burner.join().unwrap();
    }
}
