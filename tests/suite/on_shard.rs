//! On the shard: futures that need not be `Send` and whose calls are function calls.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::support::{BUFFERED, directory, in_memory, on_tokio, open, segments, sharded};
use futures::StreamExt;
use futures::channel::oneshot;
use in_mem::Driver;
use in_mem::prelude::*;

#[test]
fn a_future_that_is_not_send_runs_where_its_run_lives() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let prefix = String::from("key");
        let out = database.spawn_on(run.id(), |local: LocalRun| async move {
            let seen = Rc::new(RefCell::new(Vec::new()));
            let thread = std::thread::current().id();
            for number in 0..10 {
                let key = Rc::new(format!("{prefix}-{number}"));
                local.kv().put(key.as_str(), number).await?;
                let found = local.kv().get(key.as_str()).await?;
                seen.borrow_mut().push(found);
            }
            assert_eq!(std::thread::current().id(), thread);
            assert_ne!(local.id(), RunId::new());
            let seen = seen.borrow().iter().flatten().filter_map(Value::as_i64).sum::<i64>();
            Ok((seen, thread))
        });
        let (sum, thread) = out.await.unwrap();
        assert_eq!(sum, 45);
        assert_ne!(thread, std::thread::current().id());
        assert_eq!(run.kv().count(None).await.unwrap(), 10);
    });
}

#[test]
fn every_primitive_works_there() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let out = database.spawn_on(run.id(), |local| async move {
            local.kv().put_many((0..600).map(|number| (format!("key-{number:03}"), number))).await?;
            assert_eq!(local.kv().scan(ScanOptions::default()).count().await, 600);
            local.events().append("e", 1).await?;
            let ((), version) =
                local.states().transition_or_init("s", 1, |state| Ok((state.value.clone(), ()))).await?;
            let root = local.traces().record("t".into(), vec![], Value::Null).await?;
            let calls = Rc::new(Cell::new(0));
            let sequence = local.transaction(async |txn| {
                txn.trace_record_child(&root, "u", Value::Null).await?;
                txn.event_append("e", 2).await
            });
            calls.set(sequence.await?);
            assert!(local.events().verify_chain().await?.is_valid);
            local.end().await?;
            Ok((version, calls.get()))
        });
        assert_eq!(out.await.unwrap(), (1, 1));
        assert_eq!(database.run_status(run.id()).await.unwrap(), Some(RunStatus::Completed));
    });
}

#[test]
fn runs_of_other_shards_are_reached_from_there() {
    on_tokio(async {
        let database = sharded(4).await;
        let mut runs = Vec::new();
        for _ in 0..16 {
            runs.push(database.begin_run().await);
        }
        let inner = database.clone();
        let all = runs.clone();
        let out = database.spawn_on(runs[0], |local| async move {
            for (number, run) in all.iter().enumerate() {
                inner.kv().put(run, "from", local.id().to_string()).await?;
                inner.transaction(run, async |txn| txn.kv_put("number", number).await).await?;
            }
            let reads = all.iter().map(|run| inner.kv().get(run, "number"));
            let numbers = futures::future::try_join_all(reads).await?;
            let name = inner.runs().create_run("made there").await?;
            let nested = inner.spawn_on(all[1], |other| async move { other.kv().count(None).await }).await?;
            assert_eq!(inner.runs().count().await?, 17);
            assert_eq!(nested, 2);
            Ok((numbers.into_iter().flatten().filter_map(|value| value.as_i64()).sum::<i64>(), name.name))
        });
        assert_eq!(out.await.unwrap(), (120, "made there".to_owned()));
        for run in runs {
            assert_eq!(database.kv().count(run, None).await.unwrap(), 2);
        }
    });
}

#[test]
fn two_shards_that_call_each_other_do_not_wait_for_ever() {
    on_tokio(async {
        let database = sharded(2).await;
        let mut runs = Vec::new();
        for _ in 0..8 {
            runs.push(database.begin_run().await);
        }
        let tasks = runs.iter().map(|run| {
            let (inner, all) = (database.clone(), runs.clone());
            database.spawn_on(run, |local| async move {
                for round in 0..20 {
                    for run in &all {
                        inner.states().increment(run, "visits", 1).await?;
                    }
                    local.events().append("round", round).await?;
                }
                Ok(())
            })
        });
        futures::future::try_join_all(tasks).await.unwrap();
        for run in runs {
            assert_eq!(database.states().read(run, "visits").await.unwrap().unwrap().value, 160.into());
        }
    });
}

#[test]
fn a_panic_there_is_an_error_here_and_the_database_goes_on() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let before = database.spawn_on(run.id(), |_| -> std::future::Ready<Result<()>> { panic!("planned, at once") });
        assert!(before.await.unwrap_err().to_string().contains("panicked"));
        let later = database.spawn_on(run.id(), |local| async move {
            local.kv().put("before", 1).await?;
            assert!(!local.kv().exists("before").await?, "planned, later");
            Ok(())
        });
        assert!(later.await.unwrap_err().to_string().contains("panicked"));
        let inside = database.spawn_on(run.id(), |local| async move {
            local
                .transaction(async |txn| {
                    txn.kv_put("rolled back", 1).await?;
                    assert!(!txn.kv_exists("rolled back").await?, "planned, in a transaction");
                    Ok(())
                })
                .await
        });
        assert!(inside.await.is_err());
        assert_eq!(run.kv().list(None).await.unwrap(), ["before"]);
        assert_eq!(database.info().health, in_mem::DatabaseHealth::Healthy);
        let after = database.spawn_on(run.id(), |local| async move { local.kv().put("after", 1).await });
        after.await.unwrap();
    });
}

#[test]
fn an_error_there_is_the_error_here() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let refused = database.spawn_on(run.id(), |local| async move { local.kv().put("", 1).await }).await;
        assert!(matches!(refused, Err(Error::InvalidOperation(_))), "{refused:?}");
        let own = database.spawn_on(run.id(), |_| async { Err::<(), _>(Error::other("my own")) }).await;
        assert!(matches!(own, Err(Error::Other(_))), "{own:?}");
    });
}

#[test]
fn a_strict_write_from_there_waits_for_the_disk_and_comes_back() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        let run = database.begin_run().await;
        let path = directory.path().to_owned();
        let out = database.spawn_on(run, |local| async move {
            for number in 0..20 {
                let marker = format!("find-me-{number}-on-disk");
                local.kv().put("marker", marker.as_str()).await?;
                let has = |file| std::fs::read(file).unwrap().windows(marker.len()).any(|at| at == marker.as_bytes());
                assert!(segments(&path).into_iter().any(has), "it is on disk when the put returns");
            }
            local.transaction(async |txn| txn.event_append("last", 1).await).await
        });
        assert_eq!(out.await.unwrap(), 0);
        database.close().await.unwrap();
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        assert_eq!(database.kv().get(run, "marker").await.unwrap(), Some("find-me-19-on-disk".into()));
        assert_eq!(database.events().len(run).await.unwrap(), 1);
    });
}

#[test]
fn many_of_them_live_side_by_side() {
    on_tokio(async {
        let directory = directory();
        for database in [sharded(3).await, open(directory.path(), BUFFERED, 3).await] {
            let mut runs = Vec::new();
            for _ in 0..20 {
                runs.push(database.begin_run().await);
            }
            let all = (0..200_usize).map(|number| {
                let run = runs[number % runs.len()];
                tokio::spawn(database.spawn_on(run, move |local| async move {
                    let own = Rc::new(number);
                    local.kv().put(format!("key-{own}"), *own).await?;
                    local.states().increment("count", 1).await?;
                    local.events().append("here", *own).await?;
                    Ok(*own)
                }))
            });
            let out = futures::future::join_all(all).await;
            assert!(out.into_iter().map(|out| out.unwrap().unwrap()).eq(0..200));
            for run in runs {
                assert_eq!(database.states().read(run, "count").await.unwrap().unwrap().value, 10.into());
                assert_eq!(database.kv().count(run, None).await.unwrap(), 10);
                assert!(database.events().verify_chain(run).await.unwrap().is_valid);
            }
        }
    });
}

#[test]
fn one_that_waits_for_the_world_outside_holds_nobody_up() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let (answer, question) = oneshot::channel::<i64>();
        let waiting = tokio::spawn(database.spawn_on(run.id(), |local| async move {
            let answer = question.await.unwrap();
            local.kv().put("answer", answer).await
        }));
        for number in 0..100 {
            run.kv().put("meanwhile", number).await.unwrap();
        }
        answer.send(42).unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(run.kv().get("answer").await.unwrap(), Some(42.into()));
    });
}

#[test]
fn a_caller_that_goes_away_leaves_it_running() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let (answer, question) = oneshot::channel::<()>();
        let (done, ended) = oneshot::channel();
        let mut spawned = database.spawn_on(run.id(), |local| async move {
            question.await.unwrap();
            local.kv().put("done", 1).await?;
            done.send(()).unwrap();
            Ok(())
        });
        assert!(futures::poll!(&mut spawned).is_pending());
        drop(spawned);
        answer.send(()).unwrap();
        ended.await.unwrap();
        assert!(run.kv().exists("done").await.unwrap());
    });
}

#[test]
fn when_the_database_closes_those_who_wait_for_it_are_told() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let (_answer, question) = oneshot::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let waiting = tokio::spawn(database.spawn_on(run.id(), |_| async move {
            begun.send(()).unwrap();
            question.await.map_err(Error::other)
        }));
        begins.await.unwrap();
        database.close().await.unwrap();
        let told = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        let told = told.expect("whoever waits for a future on a closed shard is told").unwrap();
        assert!(matches!(told, Err(Error::Unavailable(_))), "{told:?}");
        let late = database.spawn_on(run.id(), |_| async { Ok(()) }).await;
        assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
    });
}

#[test]
fn a_database_can_be_closed_from_there() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let inner = database.clone();
        let closing = database.spawn_on(run.id(), |_| async move { inner.close().await });
        let told = tokio::time::timeout(Duration::from_secs(10), closing).await;
        told.expect("closing from the shard ends, with or without an error").ok();
        database.close().await.unwrap();
        let late = run.kv().put("k", 1).await;
        assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
    });
}

#[test]
fn the_last_handle_may_be_dropped_there() {
    on_tokio(async {
        let directory = directory();
        let database = open(directory.path(), BUFFERED, 2).await;
        let run = database.begin_run().await;
        let (go, wait) = oneshot::channel::<()>();
        let last = tokio::spawn(database.spawn_on(run, |local| async move {
            wait.await.unwrap();
            local.kv().put("k", 1).await
        }));
        drop(database);
        go.send(()).unwrap();
        last.await.unwrap().unwrap();
        let reopened = loop {
            match Database::open_with_mode(directory.path(), BUFFERED).await {
                Err(Error::Locked { .. }) => tokio::task::yield_now().await,
                other => break other.unwrap(),
            }
        };
        assert_eq!(reopened.kv().get(run, "k").await.unwrap(), Some(1.into()));
    });
}

/// A task whose calls are all answered at once, as those of a loop over keys in memory are.
#[test]
fn a_task_that_never_waits_lets_others_have_the_shard() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let deadline = Instant::now() + Duration::from_secs(20);
        let (started, is_started) = oneshot::channel();
        let task = database.spawn_on(run.id(), move |local: LocalRun| async move {
            let _ = started.send(());
            while local.kv().get("stop").await?.is_none() {
                if Instant::now() > deadline {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        let task = tokio::spawn(task);
        is_started.await.unwrap();
        run.kv().put("stop", true).await.unwrap();
        assert!(task.await.unwrap().unwrap(), "the put was done while the task was at work");
    });
}

/// Callers that hardly ever leave its mailbox empty, and a task that lets others go first after each call.
#[test]
fn a_shard_that_is_asked_without_end_runs_its_tasks_all_the_same() {
    for driver in [Driver::Auto, Driver::Threads] {
        on_tokio(async {
            let database = Database::builder().shards(1).driver(driver).open().await.unwrap();
            let run = database.start_run(RunOptions::default()).await.unwrap();
            let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    let (run, over, answered) = (run.clone(), over.clone(), answered.clone());
                    std::thread::spawn(move || {
                        let asked = futures::stream::repeat_with(|| run.kv().put("key", 1));
                        let asked = asked.take_while(|_| std::future::ready(!over.load(Ordering::Relaxed)));
                        futures::executor::block_on(asked.buffer_unordered(1000).for_each(|put| {
                            answered.fetch_add(usize::from(put.is_ok()), Ordering::Relaxed);
                            std::future::ready(())
                        }));
                    })
                })
                .collect();
            while answered.load(Ordering::Relaxed) < 10_000 {
                tokio::task::yield_now().await;
            }
            let started = Instant::now();
            let before = answered.load(Ordering::Relaxed);
            let task = database.spawn_on(run.id(), |local: LocalRun| async move {
                for _ in 0..200 {
                    local.kv().get("key").await?;
                    let mut has_waited = false;
                    std::future::poll_fn(|context| {
                        context.waker().wake_by_ref();
                        if std::mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                }
                Ok(())
            });
            let done = tokio::time::timeout(Duration::from_secs(20), task).await;
            let took = started.elapsed();
            let puts = answered.load(Ordering::Relaxed) - before;
            over.store(true, Ordering::Relaxed);
            for caller in callers {
                caller.join().unwrap();
            }
            println!("{driver:?}: {took:?}, meanwhile {puts} puts");
            assert!(done.is_ok_and(|done| done.is_ok()), "the task has not ended, meanwhile {puts} puts: {driver:?}");
        });
    }
}

/// The cores each thread of this process with such a name may run on.
#[cfg(target_os = "linux")]
fn cores_of(name: &str) -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let named =
        threads.filter(|thread| std::fs::read_to_string(thread.join("comm")).is_ok_and(|own| own.trim() == name));
    let cores = |thread: std::path::PathBuf| {
        let status = std::fs::read_to_string(thread.join("status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
    };
    named.map(cores).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_shard_stays_on_a_core_if_it_is_asked_to_and_who_writes_its_log_does_not() {
    let test = "on_shard::a_shard_stays_on_a_core_if_it_is_asked_to_and_who_writes_its_log_does_not";
    // In a process of its own: threads are told by their names.
    if crate::support::part().is_none() {
        let directory = directory();
        crate::support::output_of(crate::support::spawn_part(test, "child", directory.path()));
        return;
    }
    on_tokio(async {
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let all = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned();
        for driver in [Driver::Auto, Driver::Threads] {
            let directory = directory();
            let builder = Database::builder().path(directory.path()).shards(1).driver(driver).pin_cores(true);
            let database = builder.open().await.unwrap();
            database.kv().put(RunId::new(), "key", 1).await.unwrap();
            let cores = cores_of("in-mem-0");
            assert!(cores.iter().any(|cores| cores.parse::<usize>().is_ok()), "{driver:?}: {cores:?}");
            if driver == Driver::Threads {
                assert_eq!(cores_of("in-mem-0-log").concat(), all);
            }
            database.close().await.unwrap();
        }
    });
}
