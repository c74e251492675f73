//! State cells: every operation and its edges.

use std::panic::AssertUnwindSafe;

use crate::support::{directory, in_memory, on_tokio, open};
use futures::FutureExt;
use in_mem::prelude::*;

#[test]
fn a_cell_counts_how_often_it_was_written() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let states = run.states();
        assert_eq!(states.read("c").await.unwrap(), None);
        assert!(!states.exists("c").await.unwrap());
        assert_eq!(states.init("c", "one").await.unwrap(), 1);
        assert_eq!(states.set("c", "two").await.unwrap(), 2);
        assert_eq!(states.set("c", "two").await.unwrap(), 3, "the same value is written too");
        assert_eq!(states.cas("c", 3, "four").await.unwrap(), 4);
        assert!(states.exists("c").await.unwrap());
        let state = states.read("c").await.unwrap().unwrap();
        assert_eq!((state.value, state.version), ("four".into(), 4));
        assert_eq!(states.set("other", 1).await.unwrap(), 1, "set makes a cell that is not there");
        assert_eq!(states.list().await.unwrap(), ["c", "other"]);
    });
}

#[test]
fn a_cell_is_made_once() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        run.states().init("c", 1).await.unwrap();
        let again = database.states().init(run.id(), "c", 2).await;
        assert!(matches!(&again, Err(Error::AlreadyExists(what)) if what.contains("\"c\"")), "{again:?}");
        assert_eq!(run.states().read("c").await.unwrap().unwrap().value, 1.into());
    });
}

#[test]
fn compare_and_swap_goes_by_the_version_and_zero_means_that_there_is_none() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let states = run.states();
        let mismatch = |result: Result<u64>| match result {
            Err(Error::VersionMismatch { expected, actual }) => (expected, actual),
            other => panic!("no mismatch: {other:?}"),
        };
        assert_eq!(mismatch(states.cas("c", 1, "x").await), (1, 0));
        assert_eq!(states.cas("c", 0, "one").await.unwrap(), 1);
        assert_eq!(mismatch(states.cas("c", 0, "x").await), (0, 1));
        assert_eq!(mismatch(states.cas("c", 2, "x").await), (2, 1));
        assert!(states.delete("c").await.unwrap());
        assert_eq!(mismatch(states.cas("c", 1, "x").await), (1, 0), "a deleted cell is not there");
        assert_eq!(states.cas("c", 0, "two").await.unwrap(), 2, "and goes on counting");
    });
}

#[test]
fn a_deleted_cell_that_is_made_again_goes_on_counting_even_after_reopening() {
    on_tokio(async {
        let directory = directory();
        let run = RunId::new();
        let database = open(directory.path(), DurabilityMode::Strict, 2).await;
        let states = database.states();
        states.set(run, "c", 1).await.unwrap();
        states.set(run, "c", 2).await.unwrap();
        assert!(states.delete(run, "c").await.unwrap());
        assert!(!states.delete(run, "c").await.unwrap());
        assert_eq!(states.read(run, "c").await.unwrap(), None);
        assert!(!states.exists(run, "c").await.unwrap());
        assert!(states.list(run).await.unwrap().is_empty());
        assert_eq!(states.init(run, "c", 3).await.unwrap(), 3);
        states.delete(run, "c").await.unwrap();
        database.close().await.unwrap();
        let database = open(directory.path(), DurabilityMode::Strict, 1).await;
        let states = database.states();
        assert_eq!(states.read(run, "c").await.unwrap(), None);
        assert_eq!(states.increment(run, "c", 5).await.unwrap(), 5, "its value is not remembered");
        assert_eq!(states.read(run, "c").await.unwrap().unwrap().version, 4, "its count is");
    });
}

#[test]
fn an_increment_adds_to_integers_and_to_nothing_else() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let states = run.states();
        assert_eq!(states.increment("c", 5).await.unwrap(), 5, "what is not there is 0");
        assert_eq!(states.increment("c", -7).await.unwrap(), -2);
        assert_eq!(states.increment("c", 0).await.unwrap(), -2);
        assert_eq!(states.read("c").await.unwrap().unwrap().version, 3);
        let others: [Value; 5] = ["1".into(), 1.0.into(), Value::Null, u64::MAX.into(), vec![1].into()];
        for other in others {
            states.set("other", &other).await.unwrap();
            let refused = states.increment("other", 1).await;
            assert!(matches!(refused, Err(Error::InvalidOperation(_))), "{other}: {refused:?}");
            assert_eq!(states.read("other").await.unwrap().unwrap().value, other);
        }
        states.set("c", i64::MAX).await.unwrap();
        assert!(matches!(states.increment("c", 1).await, Err(Error::InvalidOperation(_))));
        assert_eq!(states.increment("c", -1).await.unwrap(), i64::MAX - 1);
        states.set("c", i64::MIN).await.unwrap();
        assert!(matches!(states.increment("c", -1).await, Err(Error::InvalidOperation(_))));
        assert_eq!(states.read("c").await.unwrap().unwrap().value, i64::MIN.into());
    });
}

#[test]
fn a_transition_gives_its_result_and_the_new_version() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let states = run.states();
        let missing = states.transition("c", |_| Ok((Value::Null, ()))).await;
        assert!(matches!(missing, Err(Error::KeyNotFound(_))), "{missing:?}");
        states.init("c", 10).await.unwrap();
        let factor = 3;
        let mut calls = 0;
        let (before, version) = states
            .transition("c", |state| {
                calls += 1;
                let before = state.value.as_i64().unwrap();
                Ok((Value::from(before * factor), before))
            })
            .await
            .unwrap();
        assert_eq!((before, version, calls), (10, 2, 1));
        let refused = database.states().transition(run.id(), "c", |_| Err::<(Value, ()), _>(Error::other("no"))).await;
        assert!(matches!(refused, Err(Error::Other(_))), "{refused:?}");
        let state = states.read("c").await.unwrap().unwrap();
        assert_eq!((state.value, state.version), (30.into(), 2), "an error changes nothing");
    });
}

#[test]
fn a_transition_runs_again_when_somebody_else_was_faster() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let states = run.states();
        states.init("c", 0).await.unwrap();
        let mut seen = Vec::new();
        let ((), version) = states
            .transition("c", |state| {
                seen.push(state.version);
                if seen.len() <= 20 {
                    let other = states.set("c", 7);
                    futures::executor::block_on(other)?;
                }
                Ok((Value::from(100), ()))
            })
            .await
            .unwrap();
        assert!(seen.into_iter().eq(1..=21), "each time it sees what is there now");
        assert_eq!(version, 22);
    });
}

#[test]
fn a_transition_can_make_the_cell_in_the_same_step() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let states = run.states();
        let mut seen = Vec::new();
        for round in 1..=2 {
            let step = states.transition_or_init("c", "initial", |state| {
                seen.push((state.value.clone(), state.version));
                Ok((Value::from(round), state.updated_at))
            });
            let (updated_at, version) = step.await.unwrap();
            assert_eq!((updated_at == 0, version), (round == 1, round));
        }
        assert_eq!(seen, [("initial".into(), 0), (1.into(), 1)]);
        states.delete("c").await.unwrap();
        let ((), version) = states.transition_or_init("c", 0, |state| Ok((state.value.clone(), ()))).await.unwrap();
        assert_eq!(version, 3, "made again, it goes on counting");
        let refused = states.transition_or_init("other", 0, |_| Err::<(Value, ()), _>(Error::other("no"))).await;
        assert!(refused.is_err() && !states.exists("other").await.unwrap());
    });
}

#[test]
fn a_panic_in_a_transition_hurts_nobody_else() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let states = run.states();
        states.init("c", 1).await.unwrap();
        let step = states.transition("c", |_| -> Result<(Value, ())> { panic!("planned by the test") });
        assert!(AssertUnwindSafe(step).catch_unwind().await.is_err());
        assert_eq!(states.set("c", 2).await.unwrap(), 2);
        let ((), version) = states.transition("c", |state| Ok((state.value.clone(), ()))).await.unwrap();
        assert_eq!(version, 3);
    });
}

#[test]
fn the_time_of_a_cell_is_that_of_its_last_write() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let states = run.states();
        states.set("c", 1).await.unwrap();
        let first = states.read("c").await.unwrap().unwrap().updated_at;
        while states.set("c", 1).await.is_ok() && states.read("c").await.unwrap().unwrap().updated_at == first {}
        let later = states.read("c").await.unwrap().unwrap();
        assert!(later.updated_at > first);
        assert_eq!(states.read("c").await.unwrap().unwrap(), later, "reading changes nothing");
    });
}
