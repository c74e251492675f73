//! Processes killed with SIGKILL at random moments: what was acknowledged is there, within what the mode promises.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use in_mem::prelude::*;
use support::{directory, kills, on_tokio, open, part, spawn_part};

const MOST_LOST: usize = 64;
const RUN: RunId = RunId::from_bytes([7; 16]);

fn buffered() -> DurabilityMode {
    DurabilityMode::Buffered { flush_interval_ms: 20, max_pending_writes: MOST_LOST }
}

/// Writes for ever, and says after each acknowledged write how many there have been.
async fn write_for_ever(path: &Path, mode: DurabilityMode) {
    let database = open(path, mode, 2).await;
    let run = database.run(RUN);
    let mut acknowledged = run.events().len().await.expect("the length is read");
    let mut out = std::io::stdout().lock();
    loop {
        let step = run.transaction(async |txn| {
            let sequence = txn.event_append("step", acknowledged).await?;
            txn.kv_put(format!("key-{sequence}"), sequence).await?;
            txn.state_set("last", sequence).await?;
            Ok(sequence)
        });
        acknowledged = step.await.expect("the step commits") + 1;
        writeln!(out, "acknowledged {acknowledged}").and_then(|()| out.flush()).expect("the parent listens");
    }
}

/// Kills a writer after a while and returns what it had acknowledged.
fn kill_a_writer(test: &str, part: &str, path: &Path, after: Duration) -> usize {
    let mut child = spawn_part(test, part, path);
    let lines = BufReader::new(child.stdout.take().expect("the child's output"));
    let killer = std::thread::spawn(move || {
        std::thread::sleep(after);
        child.kill().expect("the child is killed");
        let _ = child.wait();
    });
    let count = |line: String| line.strip_prefix("acknowledged ")?.parse().ok();
    let last = lines.lines().map_while(Result::ok).filter_map(count).last().unwrap_or(0);
    killer.join().expect("the killer ends");
    last
}

async fn check(path: &Path, mode: DurabilityMode, acknowledged: usize, may_lose: usize) -> usize {
    let database = open(path, mode, 2).await;
    let run = database.run(RUN);
    let events = usize::try_from(run.events().len().await.expect("the length is read")).expect("it fits");
    assert!(events + may_lose >= acknowledged, "acknowledged={acknowledged} recovered={events}");
    let chain = run.events().verify_chain().await.expect("the chain is checked");
    assert!(chain.is_valid, "{chain:?}");
    assert_eq!(run.kv().count(Some("key-")).await.expect("the keys are counted"), events as u64, "all or nothing");
    let last = run.states().read("last").await.expect("the state is read");
    assert_eq!(last.map(|state| state.version), (events > 0).then_some(events as u64), "all or nothing");
    database.close().await.expect("the database closes");
    events
}

fn survive(test: &str, mode: DurabilityMode, may_lose: usize) {
    if let Some((_, path)) = part() {
        return on_tokio(write_for_ever(&path, mode));
    }
    let directory = directory();
    let mut recovered = 0;
    let mut total = 0;
    for kill in 0..kills(25) {
        // The moments differ from kill to kill without being left to chance: 30 to 130 ms after the start.
        let after = Duration::from_micros(30_000 + u64::from(kill).wrapping_mul(7_919) % 100 * 1_000);
        let acknowledged = kill_a_writer(test, "writer", directory.path(), after).max(recovered);
        total += acknowledged - recovered;
        recovered = on_tokio(check(directory.path(), mode, acknowledged, may_lose));
    }
    println!("{} kills, {total} acknowledged steps", kills(25));
    assert!(total > 0, "the writers must have written something");
}

#[test]
fn strict_loses_nothing_that_was_acknowledged() {
    survive("strict_loses_nothing_that_was_acknowledged", DurabilityMode::Strict, 0);
}

#[test]
fn buffered_loses_at_most_its_bound() {
    survive("buffered_loses_at_most_its_bound", buffered(), MOST_LOST);
}
