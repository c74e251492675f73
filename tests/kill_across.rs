//! Processes killed with SIGKILL in the middle of transactions over two shards: each is there whole or not at all, and
//! never without what it had seen.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader};

use in_mem::Partitioning;
use in_mem::prelude::*;
use support::steps::{Setting, Steps, acknowledged, check, write};
use support::{BUFFERED, directory, kills, on_tokio, part, spawn_part};

fn survive(test: &str, mode: DurabilityMode, partitioning: Partitioning) {
    let setting = Setting { mode, partitioning };
    if let Some((_, path)) = part() {
        return on_tokio(async { write(&setting.open(&path).await, u32::MAX).await });
    }
    let directory = directory();
    let mut found = Steps::new();
    for kill in 0..kills(8) {
        let mut child = spawn_part(test, "writer", directory.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut told = Steps::new();
        let mut left = 1 + kill * 37 % 90;
        for (writer, step) in lines.filter_map(|line| acknowledged(&line)) {
            told.insert(writer, step);
            // Killed in the middle of what comes next; what it still says after that counts as well.
            left = left.saturating_sub(1);
            if left == 0 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert_eq!(left, 0, "the writers get that far");
        found = on_tokio(check(directory.path(), setting, &told, &found));
    }
    let steps: i64 = found.values().sum();
    println!("{} kills, {steps} steps", kills(8));
    assert!(steps > 0, "something must have been written");
}

#[test]
fn strict_transactions_over_two_runs_survive() {
    survive("strict_transactions_over_two_runs_survive", DurabilityMode::Strict, Partitioning::ByRun);
}

#[test]
fn buffered_transactions_over_two_runs_are_a_prefix() {
    survive("buffered_transactions_over_two_runs_are_a_prefix", BUFFERED, Partitioning::ByRun);
}

#[test]
fn strict_transactions_over_spread_keys_survive() {
    survive("strict_transactions_over_spread_keys_survive", DurabilityMode::Strict, Partitioning::ByKey);
}

#[test]
fn buffered_transactions_over_spread_keys_are_a_prefix() {
    survive("buffered_transactions_over_spread_keys_are_a_prefix", BUFFERED, Partitioning::ByKey);
}
