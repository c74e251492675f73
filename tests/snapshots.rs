//! Views: one moment over several runs and shards, now or in the past, whatever is committed meanwhile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::mpsc;

use in_mem::prelude::*;
use support::placement::run_on;
use support::{on_tokio, sharded};

/// What the checker of `tests/history.rs` found first: a shard read its clock once for a batch of requests. A request
/// that had come while those before it were handled then read in the past, without what another shard had acknowledged
/// before it was sent. Here the first request of the batch takes until all of that has happened.
#[test]
fn a_snapshot_is_above_everything_that_was_acknowledged_before_it_was_asked_for() {
    on_tokio(async {
        let database = sharded(2).await;
        let (here, there) = (run_on(0, 2), run_on(1, 2));
        for round in 0..5 {
            let (entered, is_entered) = mpsc::channel();
            let (leave, may_leave) = mpsc::channel::<()>();
            let busy = tokio::spawn(database.spawn_on(here, move |_| {
                entered.send(()).unwrap();
                may_leave.recv().unwrap();
                async { Ok(()) }
            }));
            tokio::task::spawn_blocking(move || is_entered.recv().unwrap()).await.unwrap();
            database.kv().put(there, "k", round).await.unwrap();
            let mut view = database.snapshot_now(here);
            let mut first = Box::pin(database.transaction_across([here, there], async |txn| {
                txn.run(here).kv_get("k").await?;
                txn.run(there).kv_get("k").await
            }));
            assert!(futures::poll!(&mut view).is_pending(), "asked for, and not answered");
            assert!(futures::poll!(&mut first).is_pending(), "asked for, and not answered");
            leave.send(()).unwrap();
            let view = view.await.unwrap();
            assert_eq!(view.run(there).kv_get("k").await.unwrap(), Some(round.into()));
            assert_eq!(first.await.unwrap(), Some(round.into()));
            busy.await.unwrap().unwrap();
        }
    });
}
