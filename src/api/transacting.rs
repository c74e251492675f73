//! Transacting: a transaction as all its handles share it, and the loop that runs one until it wins.
//!
//! - The last handle to go aborts it, if it has not ended.
//! - One that has sent no command that writes needs no commit: it read one snapshot.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_timer::Delay;

use crate::base::error::{Error, Result};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::primitive::command::Command;
use crate::primitive::output::Reply;
use crate::runtime::call::{Call, Ended, Progress};
use crate::runtime::engine::Engine;
use crate::runtime::turn::let_others_run;
use crate::shard::input::{Acknowledge, Commit, Request};

/// How often a transaction runs again if nothing else is said.
pub(crate) const RETRIES: u32 = 64;
/// How often the wait between attempts is doubled.
const MOST_DOUBLINGS: u32 = 10;
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A shorter wait than this is spent letting other tasks run: no timer is as fine.
const SHORTEST_TIMER: Duration = Duration::from_micros(50);

/// A transaction as its handles share it.
pub(crate) struct Transacting {
    engine: Arc<Engine>,
    progress: Arc<Progress>,
}

impl Transacting {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let progress = Arc::new(Progress::new(engine.next_transaction()));
        Self { engine, progress }
    }

    /// Fixes the snapshot: the one asked for, or what is current. `shard` coordinates, unless one does already.
    pub(crate) async fn begin(&self, shard: usize, snapshot: Option<Version>) -> Result<Version> {
        if let Some(known) = self.progress.snapshot() {
            return Ok(known);
        }
        let coordinator = self.progress.coordinated_by(shard);
        let reply = Call::begin(self.engine.clone(), coordinator, self.progress.clone(), snapshot).await?;
        Ok(reply.snapshot.unwrap_or_default())
    }

    /// One operation on the shard that owns what the command names.
    pub(crate) fn step(&self, run: RunId, command: Command) -> Call {
        let shard = self.engine.shard_of_command(&run, &command);
        self.step_on(shard, run, command)
    }

    /// One operation on a shard.
    pub(crate) fn step_on(&self, shard: usize, run: RunId, command: Command) -> Call {
        Call::step(self.engine.clone(), shard, self.progress.clone(), run, command)
    }

    /// Commits. The version is zero if there was nothing to write.
    pub(crate) async fn commit(&self, acknowledge: Acknowledge) -> Result<Version> {
        let Some(ended) = self.progress.end() else {
            return Err(Error::InvalidOperation("the transaction has ended, begin another one".into()));
        };
        let coordinator = ended.coordinator.filter(|_| ended.parts.iter().any(|part| part.has_writes));
        let Some(coordinator) = coordinator else {
            self.forget(&ended);
            return Ok(Version::ZERO);
        };
        let number = |shard: usize| u32::try_from(shard).unwrap_or(u32::MAX);
        let participants = ended.parts.iter().map(|part| (number(part.shard), part.operations)).collect();
        let commit = Commit { participants, acknowledge };
        let request = Request::Commit { transaction: self.progress.number(), commit };
        let call = self.engine.request(coordinator, request);
        let reply = Committing { transacting: self, ended: &ended, call }.await;
        if let Err(Error::TransactionConflict(conflict)) = &reply {
            self.engine.contention().lost(conflict);
        }
        Ok(reply?.version.unwrap_or_default())
    }

    /// Aborts it if it has not ended.
    pub(crate) fn abort(&self) {
        if let Some(ended) = self.progress.end() {
            self.forget(&ended);
        }
    }

    fn forget(&self, ended: &Ended) {
        let wrote = ended.parts.iter().any(|part| part.has_writes);
        let parts = ended.parts.iter().map(|part| part.shard);
        let elsewhere = ended.coordinator.filter(|shard| !ended.parts.iter().any(|part| part.shard == *shard));
        for shard in parts.chain(elsewhere) {
            self.engine.tell(shard, Request::Abort { transaction: self.progress.number(), wrote });
        }
    }
}

/// A commit on its way. Dropped before it was sent, it aborts.
struct Committing<'a> {
    transacting: &'a Transacting,
    ended: &'a Ended,
    call: Call,
}

impl Future for Committing<'_> {
    type Output = Result<Reply>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.call).poll(context)
    }
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        if self.call.is_unsent() {
            self.transacting.forget(self.ended);
        }
    }
}

impl Drop for Transacting {
    fn drop(&mut self) {
        self.abort();
    }
}

impl fmt::Debug for Transacting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transacting").field(&self.progress.number()).finish()
    }
}

/// The bounds of a loop.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) retries: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) acknowledge: Acknowledge,
    pub(crate) label: Option<String>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { retries: RETRIES, timeout: None, acknowledge: Acknowledge::AsUsual, label: None }
    }
}

/// Runs a transaction, and again after each conflict with a new one, up to the bounds.
pub(crate) async fn until_it_wins<T, E, F, Fut>(engine: Arc<Engine>, bounds: Bounds, mut attempt: F) -> Result<T, E>
where
    F: FnMut(Arc<Transacting>) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: From<Error>,
{
    let started = Instant::now();
    let mut retries = 0;
    let mut quickest = LONGEST_WAIT;
    loop {
        let transacting = Arc::new(Transacting::new(engine.clone()));
        let began = Instant::now();
        let value = match attempt(transacting.clone()).await {
            Ok(value) => value,
            Err(error) => {
                transacting.abort();
                return Err(error);
            }
        };
        let conflict = match transacting.commit(bounds.acknowledge).await {
            Ok(_) => return Ok(value),
            Err(Error::TransactionConflict(conflict)) => conflict,
            Err(error) => return Err(error.into()),
        };
        if retries >= bounds.retries {
            return Err(Error::TransactionConflict(conflict).into());
        }
        let label = bounds.label.as_deref().unwrap_or("");
        engine.contention().runs_again(label, retries, &conflict);
        quickest = quickest.min(began.elapsed());
        let longest = bounds.timeout.map_or(LONGEST_WAIT, |timeout| timeout.saturating_sub(started.elapsed()));
        back_off(retries, quickest, longest, engine.clock().unique_number()).await;
        if let Some(timeout) = bounds.timeout.filter(|timeout| started.elapsed() >= *timeout) {
            return Err(Error::Timeout(timeout).into());
        }
        retries += 1;
    }
}

/// Lets others go first: the more often a transaction lost, the longer on average. `attempt` is how long one takes, so
/// that the wait grows to the time that all who fight over the same keys need one after the other, up to `longest`.
/// `jitter` is any number that differs between those who wait. Needs no particular runtime.
async fn back_off(retries: u32, attempt: Duration, longest: Duration, jitter: u64) {
    let window = attempt.saturating_mul(2 << retries.min(MOST_DOUBLINGS)).min(LONGEST_WAIT);
    let mixed = (jitter ^ (jitter >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let share = f64::from(u32::try_from(mixed).unwrap_or(0)) / f64::from(u32::MAX);
    let wait = window.mul_f64(share).min(longest);
    if wait > SHORTEST_TIMER {
        return Delay::new(wait).await;
    }
    let started = Instant::now();
    while started.elapsed() < wait {
        let_others_run().await;
    }
}
