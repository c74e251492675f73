//! What a process does that is going to be killed, and what must be there of it afterwards.
//!
//! - Writers take numbered steps, each a transaction over two shards: all or nothing, never without what it had seen,
//!   money is neither made nor lost. Behind each comes one write of its own, which is never lost before a later step is.
//! - What was acknowledged in `Strict` mode is there; in `Buffered` mode no more is missing than may be.
//! - What somebody has found once, after a crash, stays.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use in_mem::prelude::*;
use in_mem::{Driver, Partitioning};

const WRITERS: i64 = 4;
/// What is in all accounts together.
const MONEY: i64 = 1000;

/// How far each writer is.
pub type Steps = BTreeMap<i64, i64>;

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Not `InMemory`.
    pub mode: DurabilityMode,
    /// How its keys are spread, and over how many shards.
    pub partitioning: Partitioning,
    pub shards: usize,
    /// What runs them.
    pub driver: Driver,
}

impl Setting {
    /// Opens the database.
    pub async fn open(self, path: &Path) -> Database {
        let builder = Database::builder().path(path).durability(self.mode).shards(self.shards);
        builder.partitioning(self.partitioning).driver(self.driver).open().await.unwrap()
    }

    /// How many acknowledged steps a crash may take.
    const fn may_lose(self) -> i64 {
        match self.mode {
            DurabilityMode::Buffered { max_pending_writes, .. } => max_pending_writes.cast_signed() as i64,
            DurabilityMode::Strict | DurabilityMode::InMemory => 0,
        }
    }
}

/// Two runs, on two shards if there are two or three.
pub const RUNS: [RunId; 2] = [RunId::from_bytes([6; 16]), RunId::from_bytes([3; 16])];

fn step_of(writer: i64) -> String {
    format!("step-{writer}")
}

fn alone_of(writer: i64) -> String {
    format!("alone-{writer}")
}

async fn number(run: &Transaction, key: &str) -> Result<i64> {
    Ok(run.kv().get_as(key).await?.unwrap_or(0))
}

/// One step: the writer's number in both runs, what it has seen of another writer, and money from one run to the other.
async fn step(txn: &MultiTransaction, writer: i64) -> Result<i64> {
    let [here, there] = RUNS.map(|run| txn.run(run));
    let next = number(&here, &step_of(writer)).await? + 1;
    let other = (writer + 1 + next % (WRITERS - 1)) % WRITERS;
    let seen = number(if next % 2 == 0 { &here } else { &there }, &step_of(other)).await?;
    let saw = format!("saw-{writer}-{other}");
    here.kv_put(&saw, seen).await?;
    for run in [&here, &there] {
        run.kv_put(step_of(writer), next).await?;
        run.event_append(step_of(writer), next).await?;
        run.state_set(step_of(writer), next).await?;
    }
    let amount = next % 7 - 3;
    let (left, right) = (number(&here, "money").await?, number(&there, "money").await?);
    here.kv_put("money", left - amount).await?;
    there.kv_put("money", right + amount).await?;
    Ok(next)
}

/// Takes a step, as often as it takes, and the write behind it.
///
/// # Errors
/// Those of the database, unless somebody else was first.
pub async fn take_step(database: &Database, writer: i64) -> Result<i64> {
    let options = TransactionOptions { max_retries: u32::MAX, ..TransactionOptions::default() };
    let done = database.transaction_across_with(RUNS, options, async |txn| step(&txn, writer).await);
    let step = done.await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "acknowledged {writer} {step}").and_then(|()| out.flush()).unwrap();
    Ok(step)
}

async fn write_alone(database: &Database, writer: i64, step: i64) {
    database.kv().put(RUNS[usize::from(writer % 2 == 0)], alone_of(writer), step).await.unwrap();
}

/// Gives out the money, if nobody has, and catches up with what a crash has left.
pub async fn begin(database: &Database) {
    if !database.kv().exists(RUNS[0], "money").await.unwrap() {
        let opened = database.transaction_across(RUNS, async |txn| {
            txn.run(RUNS[0]).kv_put("money", MONEY).await?;
            txn.run(RUNS[1]).kv_put("money", 0).await
        });
        opened.await.unwrap();
    }
    for writer in 0..WRITERS {
        let step = database.kv().get_as(RUNS[0], step_of(writer)).await.unwrap();
        write_alone(database, writer, step.unwrap_or(0)).await;
    }
}

/// So many steps of every writer at once, each of which says when it is acknowledged.
pub async fn write(database: &Database, steps: u32) {
    begin(database).await;
    let writers = (0..WRITERS).map(|writer| {
        let database = database.clone();
        tokio::spawn(async move {
            for _ in 0..steps {
                let step = take_step(&database, writer).await.unwrap();
                write_alone(&database, writer, step).await;
            }
        })
    });
    for writer in futures::future::join_all(writers.collect::<Vec<_>>()).await {
        writer.unwrap();
    }
}

/// What a line of such a process says.
pub fn acknowledged(line: &str) -> Option<(i64, i64)> {
    let (writer, step) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
    Some((writer.parse().ok()?, step.parse().ok()?))
}

/// Checks what is there against what was acknowledged, and what somebody had found before that. Closes the database, and
/// returns how far each writer is.
pub async fn check(path: &Path, setting: Setting, acknowledged: &Steps, found_before: &Steps) -> Steps {
    let database = setting.open(path).await;
    let view = database.snapshot_now(RUNS[0]).await.unwrap();
    let [here, there] = RUNS.map(|run| view.run(run));
    let (mut steps, mut lost) = (BTreeMap::new(), 0);
    for writer in 0..WRITERS {
        let step = number(&here, &step_of(writer)).await.unwrap();
        assert_eq!(number(&there, &step_of(writer)).await.unwrap(), step, "all or nothing: writer={writer}");
        for run in [&here, &there] {
            let events = run.events().read_by_type(step_of(writer)).await.unwrap();
            let told: Vec<i64> = events.iter().filter_map(|event| event.payload.as_i64()).collect();
            assert_eq!(told, (1..=step).collect::<Vec<_>>(), "every step once, in order: writer={writer}");
            let state = run.states().read(step_of(writer)).await.unwrap();
            let times = state.map_or(0, |state| state.version.cast_signed());
            assert_eq!(times, step, "all or nothing: writer={writer}");
        }
        let alone = number(if writer % 2 == 0 { &there } else { &here }, &alone_of(writer)).await.unwrap();
        assert!(alone == step || alone + 1 == step, "nothing is missing before it: writer={writer} {alone} {step}");
        let of = |steps: &Steps| steps.get(&writer).copied().unwrap_or(0);
        assert!(step >= of(found_before), "writer={writer} before={} found={step}", of(found_before));
        lost += (of(acknowledged) - step).max(0);
        steps.insert(writer, step);
    }
    assert!(lost <= setting.may_lose(), "lost={lost} acknowledged={acknowledged:?} found={steps:?}");
    for writer in 0..WRITERS {
        for (other, step) in &steps {
            let seen = number(&here, &format!("saw-{writer}-{other}")).await.unwrap();
            assert!(seen <= *step, "never without what it had seen: writer={writer} other={other} {seen} {step}");
        }
    }
    let money = number(&here, "money").await.unwrap() + number(&there, "money").await.unwrap();
    let is_new = steps.values().all(|step| *step == 0);
    assert!(money == MONEY || (money == 0 && is_new), "money={money}");
    for run in RUNS {
        assert!(database.events().verify_chain(run).await.unwrap().is_valid);
    }
    database.close().await.unwrap();
    steps
}
