//! in-mem itself: called on the shard, and from tokio.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use in_mem::{Database, DurabilityMode, HistoryRetention, LocalRun, RunId};
use tokio::runtime::{Builder, Runtime};

use crate::peer::{Durability, Result};
use crate::workload::{Contender, Measured, Workload, key, nanos, value};

/// Where the callers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Shard,
    Tokio,
}

pub(crate) struct Ours {
    runtime: Runtime,
    database: Database,
    run: RunId,
    caller: Caller,
}

/// Calls until the time is over.
macro_rules! call {
    ($kv:expr, $workload:expr, $keys:expr, $time:expr, $caller:expr) => {{
        let mut latencies: Histogram<u64> = Histogram::new(3).map_err(in_mem::Error::other)?;
        let (started, mut number) = (Instant::now(), $caller as u64 * 1_000);
        while started.elapsed() < $time {
            let (key, value) = (key(number, $keys), value($keys + number));
            let begun = Instant::now();
            if $workload == Workload::Get {
                assert!($kv.get(key).await?.is_some(), "it is there");
            } else {
                $kv.put(key, value).await?;
            }
            latencies.record(nanos(begun.elapsed())).map_err(in_mem::Error::other)?;
            number += 1;
        }
        Ok::<_, in_mem::Error>(latencies)
    }};
}

impl Ours {
    pub(crate) fn open(path: &Path, durability: Durability, caller: Caller) -> Result<Self> {
        let runtime = Builder::new_current_thread().build()?;
        let mode = match durability {
            Durability::None => DurabilityMode::InMemory,
            Durability::Process => DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 100_000 },
            Durability::Machine => DurabilityMode::Strict,
        };
        let builder = Database::builder().path(path.join("in-mem")).durability(mode).shards(1);
        let database = runtime.block_on(async { builder.history(HistoryRetention::Off).open().await })?;
        Ok(Self { runtime, database, run: RunId::new(), caller })
    }
}

impl Contender for Ours {
    fn fill(&self, keys: u64) -> Result<()> {
        let kv = self.database.run(self.run).kv();
        let fill = async {
            for number in 0..keys {
                kv.put(key(number, keys), value(number)).await?;
            }
            Ok(())
        };
        self.runtime.block_on(fill)
    }

    fn run(&self, workload: Workload, keys: u64, time: Duration) -> Result<Option<Measured>> {
        let started = Instant::now();
        let all = self.runtime.block_on(async {
            let mut all = Vec::new();
            let callers = (0..workload.callers()).map(|caller| {
                let (database, run, place) = (self.database.clone(), self.run, self.caller);
                async move {
                    if place == Caller::Shard {
                        let on_shard =
                            move |local: LocalRun| async move { call!(local.kv(), workload, keys, time, caller) };
                        return database.spawn_on(run, on_shard).await;
                    }
                    let run = database.run(run);
                    call!(run.kv(), workload, keys, time, caller)
                }
            });
            for caller in callers.map(tokio::spawn).collect::<Vec<_>>() {
                all.push(caller.await??);
            }
            Result::Ok(all)
        })?;
        Measured::of(all, started.elapsed()).map(Some)
    }
}
