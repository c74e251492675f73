//! Runtimes: one small program, whoever runs the caller's futures.

use crate::support::{BUFFERED, directory, on_tokio, open};
use futures::StreamExt;
use in_mem::prelude::*;

/// Opens a database in each mode and uses everything in it once.
async fn program() {
    let directories = [directory(), directory()];
    use_everything(&Database::open_in_memory().await.unwrap()).await;
    for (directory, mode) in directories.iter().zip([BUFFERED, DurabilityMode::Strict]) {
        let database = open(directory.path(), mode, 2).await;
        let run = use_everything(&database).await;
        database.close().await.unwrap();
        let database = open(directory.path(), mode, 1).await;
        assert_eq!(database.run_status(run).await.unwrap(), Some(RunStatus::Completed));
        assert_eq!(database.kv().get(run, "key").await.unwrap(), Some("value".into()));
    }
}

async fn use_everything(database: &Database) -> RunId {
    let run = database.start_run(RunOptions { name: Some("agent".into()), ..RunOptions::default() }).await.unwrap();
    run.kv().put("key", "value").await.unwrap();
    let pairs: Vec<_> = run.kv().scan(ScanOptions::default()).map(Result::unwrap).collect().await;
    assert_eq!(pairs, [("key".to_owned(), Value::from("value"))]);
    assert_eq!(run.events().append("started", Value::Null).await.unwrap().0, 0);
    assert_eq!(run.states().increment("counter", 2).await.unwrap(), 2);
    let root = run.traces().record("thought".into(), vec!["tag".into()], Value::Null).await.unwrap();
    let committed = run.transaction(async |txn| {
        txn.trace_record_child(&root, "action", Value::Null).await?;
        txn.kv_put("other", txn.kv_get("key").await?).await?;
        let double = |state: &State| Ok((Value::from(state.value.as_i64().unwrap_or(0) * 2), ()));
        let ((), version) = txn.state_transition("counter", double).await?;
        assert_eq!(version, 2);
        txn.event_append("acted", Value::Null).await
    });
    assert_eq!(committed.await.unwrap(), 1);
    assert!(run.events().verify_chain().await.unwrap().is_valid);
    assert_eq!(run.states().read("counter").await.unwrap().unwrap().value, 4.into());
    assert_eq!(run.traces().get_tree(&root).await.unwrap().unwrap().children.len(), 1);
    assert_eq!(database.runs().get_run("agent").await.unwrap().unwrap().run_id, run.id());
    let local = database.spawn_on(run.id(), |local| async move { local.kv().count(None).await });
    assert_eq!(local.await.unwrap(), 2);
    run.end().await.unwrap();
    run.id()
}

/// Runs something on a thread of its own, within the time that a test has.
fn on_a_thread(body: impl FnOnce() + Send + 'static) -> impl Future<Output = ()> {
    let (done, ended) = futures::channel::oneshot::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    async move {
        let ended = ended.await;
        assert!(thread.join().is_ok() && ended.is_ok(), "the thread panicked");
    }
}

#[test]
fn tokio_with_many_threads_runs_it_in_a_spawned_task() {
    on_tokio(async { tokio::spawn(program()).await.unwrap() });
}

#[test]
fn tokio_with_one_thread_runs_it() {
    on_tokio(on_a_thread(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { tokio::spawn(program()).await.unwrap() });
    }));
}

#[test]
fn smol_runs_it() {
    on_tokio(on_a_thread(|| smol::block_on(smol::spawn(program()))));
}

#[test]
fn the_executor_of_futures_runs_it() {
    on_tokio(on_a_thread(|| futures::executor::block_on(program())));
}

#[test]
fn eight_plain_threads_run_it_side_by_side() {
    let threads = (0..8).map(|_| on_a_thread(|| futures::executor::block_on(program())));
    on_tokio(futures::future::join_all(threads));
}

#[test]
fn eight_plain_threads_share_one_database() {
    on_tokio(async {
        let database = crate::support::sharded(2).await;
        let threads = (0..8_i64).map(|thread| {
            let database = database.clone();
            on_a_thread(move || {
                futures::executor::block_on(async {
                    let run = database.start_run(RunOptions::default()).await.unwrap();
                    for number in 0..100 {
                        run.kv().put(format!("key-{number}"), thread).await.unwrap();
                    }
                    assert_eq!(run.kv().count(None).await.unwrap(), 100);
                    run.end().await.unwrap();
                });
            })
        });
        futures::future::join_all(threads).await;
        assert_eq!(database.runs().query_by_status(RunStatus::Completed).await.unwrap().len(), 8);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_foreign_glommio_executor_runs_it() {
    if !on_tokio(crate::support::has_io_uring()) {
        return println!("skipped: io_uring is refused");
    }
    on_tokio(on_a_thread(|| {
        let executor = glommio::LocalExecutorBuilder::default().io_memory(64 << 10).make().unwrap();
        executor.run(async { glommio::spawn_local(program()).await });
    }));
}
