//! Processes killed with SIGKILL at random moments, in the middle of transactions over two shards: what was acknowledged
//! is there, within what the mode promises, each transaction whole or not at all, and never without what it had seen; on
//! either driver, and on one after the other.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use crate::support::steps::{Setting, Steps, acknowledged, check, write};
use crate::support::{directory, kills, on_tokio, part, spawn_part};
use in_mem::prelude::*;
use in_mem::{Driver, Partitioning};

const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 20, max_pending_writes: 64 };

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum When {
    /// So long after its start.
    After(Duration),
    /// When it has acknowledged so many steps.
    Acknowledged(u32),
}

impl When {
    /// The moments differ from kill to kill without being left to chance.
    fn of(kill: u32) -> Self {
        if kill.is_multiple_of(2) {
            Self::After(Duration::from_micros(u64::from(30_000 + kill.wrapping_mul(7_919) % 100 * 1_000)))
        } else {
            Self::Acknowledged(1 + kill.wrapping_mul(37) % 90)
        }
    }
}

/// Returns what the writer had acknowledged when it was killed; what it had said and nobody had read counts as well.
fn kill_a_writer(mut child: Child, when: When) -> Steps {
    let mut left = match when {
        When::After(time) => {
            std::thread::sleep(time);
            child.kill().unwrap();
            0
        }
        When::Acknowledged(steps) => steps,
    };
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut told = Steps::new();
    for (writer, step) in lines.filter_map(|line| acknowledged(&line)) {
        told.insert(writer, step);
        if left == 1 {
            child.kill().unwrap();
        }
        left = left.saturating_sub(1);
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(9), "it was to be killed, and ended by itself: {}\n{said}", output.status);
    told
}

fn survive(test: &str, mode: DurabilityMode, partitioning: Partitioning) {
    let on = |driver| Setting { mode, partitioning, shards: 2, driver };
    if let Some((part, path)) = part() {
        let driver = if part == "on threads" { Driver::Threads } else { Driver::Auto };
        return on_tokio(async { write(&on(driver).open(&path).await, u32::MAX).await });
    }
    let directory = directory();
    let mut found = Steps::new();
    for kill in 0..kills(14) {
        // One driver goes on with what another has left.
        let part = if kill % 4 < 2 { "writer" } else { "on threads" };
        let checker = if kill % 3 < 2 { Driver::Auto } else { Driver::Threads };
        let told = kill_a_writer(spawn_part(test, part, directory.path()), When::of(kill));
        found = on_tokio(check(directory.path(), on(checker), &told, &found));
    }
    let steps: i64 = found.values().sum();
    println!("{} kills, {steps} steps", kills(14));
    assert!(steps > 0, "something must have been written");
}

#[test]
fn strict_transactions_over_two_runs_survive() {
    survive("kill::strict_transactions_over_two_runs_survive", DurabilityMode::Strict, Partitioning::ByRun);
}

#[test]
fn buffered_transactions_over_two_runs_are_a_prefix() {
    survive("kill::buffered_transactions_over_two_runs_are_a_prefix", BUFFERED, Partitioning::ByRun);
}

#[test]
fn strict_transactions_over_spread_keys_survive() {
    survive("kill::strict_transactions_over_spread_keys_survive", DurabilityMode::Strict, Partitioning::ByKey);
}

#[test]
fn buffered_transactions_over_spread_keys_are_a_prefix() {
    survive("kill::buffered_transactions_over_spread_keys_are_a_prefix", BUFFERED, Partitioning::ByKey);
}

/// A writer that panics is no writer that was killed: a test that cannot tell is happy with any bug of the writer's.
#[test]
#[should_panic(expected = "ended by itself")]
fn a_writer_that_fails_is_noticed() {
    if part().is_some() {
        std::process::exit(101);
    }
    let child = spawn_part("kill::a_writer_that_fails_is_noticed", "writer", Path::new(""));
    kill_a_writer(child, When::Acknowledged(1));
}
