//! The engine: the running shards of one open database, as its handles see them.
//!
//! - It lives as long as the last handle. Dropping it closes the database.
//! - When a shard panics, the whole engine has failed: every call from then on gets `Unavailable`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;

use super::call::Call;
use super::clock::Clock;
use super::contention::Contention;
use super::keeper::Task;
use super::local::{self, LocalReply};
use super::mailbox::{Mailbox, Message, Refused};
use super::reply::reply_slot;
use super::snapshotting::Snapshotter;
use super::spin::Spinner;
use super::usage::Usage;
use crate::base::error::{Error, Result};
use crate::base::options::{Driver, DurabilityMode};
use crate::base::run_id::RunId;
use crate::commit::message::TransactionNumber;
use crate::disk::recovery::RecoveryReport;
use crate::primitive::command::Command;
use crate::shard::input::Request;
use crate::shard::route::Layout;

static ENGINES: AtomicU64 = AtomicU64::new(1);
/// The longest that dropping the last handle blocks while the last writes reach the disk.
const DROP_PATIENCE: Duration = Duration::from_secs(10);

/// What is fixed when the database is opened.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) path: Option<PathBuf>,
    pub(crate) mode: DurabilityMode,
    pub(crate) read_only: bool,
    pub(crate) layout: Layout,
    pub(crate) driver: Driver,
    pub(crate) driver_reason: String,
    pub(crate) recovery: RecoveryReport,
    pub(crate) usage: Arc<Usage>,
}

/// Whether the engine has failed, and why. Shared with the shards' threads, which must not keep the engine alive.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failed: AtomicBool,
    reason: OnceLock<String>,
    closed: AtomicBool,
    /// Why the first shard that can write no more cannot.
    poisoned: OnceLock<String>,
    /// Why shards cannot make their next segments.
    shortages: Mutex<BTreeMap<usize, String>>,
}

impl Health {
    /// Says that a shard has failed.
    pub(crate) fn fail(&self, reason: String) {
        tracing::error!(reason, "a shard failed, the database is unavailable");
        let _ = self.reason.set(reason);
        self.failed.store(true, Ordering::SeqCst);
    }

    /// Says that a shard's log can no longer be written.
    pub(crate) fn poison(&self, shard: usize, reason: &str) {
        tracing::error!(shard, reason, "a shard stopped writing, reopen the database");
        let _ = self.poisoned.set(reason.to_owned());
    }

    /// Why the log of some shard can no longer be written, if that is so.
    pub(crate) fn poisoned(&self) -> Option<&String> {
        self.poisoned.get()
    }

    /// Says why a shard cannot make its next segment, or that it can again.
    pub(crate) fn set_shortage(&self, shard: usize, reason: Option<String>) {
        let mut shortages = self.shortages.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => drop(shortages.insert(shard, reason)),
            None => drop(shortages.remove(&shard)),
        }
    }

    /// Why some shard cannot make its next segment, if that is so.
    pub(crate) fn shortage(&self) -> Option<String> {
        let shortages = self.shortages.lock().unwrap_or_else(PoisonError::into_inner);
        shortages.first_key_value().map(|(_, reason)| reason.clone())
    }

    /// Says that the database is closed.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Why the engine has failed, if it has.
    pub(crate) fn failed(&self) -> Option<String> {
        if self.failed.load(Ordering::Relaxed) {
            return self.reason.get().cloned().or_else(|| Some("a shard failed".into()));
        }
        None
    }
}

/// The running shards of one open database.
#[derive(Debug)]
pub(crate) struct Engine {
    id: u64,
    setup: Setup,
    mailboxes: Vec<Mailbox>,
    clock: Arc<Clock>,
    health: Arc<Health>,
    spinner: Spinner,
    snapshotter: Snapshotter,
    keeper: Sender<Task>,
    keeper_thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    transactions: AtomicU64,
    contention: Contention,
    /// Runs that `begin_run` could not register, and why; their first write says so.
    unregistered: Mutex<HashMap<RunId, Error>>,
    any_unregistered: AtomicBool,
}

/// A new identity for an engine.
pub(crate) fn next_engine_id() -> u64 {
    ENGINES.fetch_add(1, Ordering::Relaxed)
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) id: u64,
    pub(crate) setup: Setup,
    pub(crate) mailboxes: Vec<Mailbox>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) health: Arc<Health>,
    pub(crate) spin: Option<Duration>,
    pub(crate) snapshotter: Snapshotter,
    pub(crate) keeper: Sender<Task>,
    pub(crate) keeper_thread: std::thread::JoinHandle<()>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            id: parts.id,
            setup: parts.setup,
            mailboxes: parts.mailboxes,
            clock: parts.clock,
            health: parts.health,
            spinner: Spinner::new(parts.spin),
            snapshotter: parts.snapshotter,
            keeper: parts.keeper,
            keeper_thread: Mutex::new(Some(parts.keeper_thread)),
            transactions: AtomicU64::new(1),
            contention: Contention::default(),
            unregistered: Mutex::default(),
            any_unregistered: AtomicBool::new(false),
        }
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) const fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) const fn spinner(&self) -> &Spinner {
        &self.spinner
    }

    pub(crate) const fn snapshotter(&self) -> &Snapshotter {
        &self.snapshotter
    }

    pub(crate) const fn contention(&self) -> &Contention {
        &self.contention
    }

    pub(crate) fn mailbox(&self, shard: usize) -> &Mailbox {
        &self.mailboxes[shard]
    }

    pub(crate) const fn shards(&self) -> usize {
        self.setup.layout.shards
    }

    /// The shard that owns a run.
    pub(crate) fn shard_of(&self, run: &RunId) -> usize {
        self.setup.layout.shard_of_run(run)
    }

    /// The shard that owns what a command on a run names.
    pub(crate) fn shard_of_command(&self, run: &RunId, command: &Command) -> usize {
        match command.key() {
            Some((space, name)) => self.setup.layout.shard_of_key(run, space, name.as_bytes()),
            None => self.shard_of(run),
        }
    }

    /// The shard that owns a run's name.
    pub(crate) fn shard_of_name(&self, name: &str) -> usize {
        self.setup.layout.shard_of_name(name)
    }

    /// A number no other transaction of this opening has.
    pub(crate) fn next_transaction(&self) -> TransactionNumber {
        TransactionNumber(self.transactions.fetch_add(1, Ordering::Relaxed))
    }

    /// Why the engine has failed, if it has.
    pub(crate) fn failed(&self) -> Option<String> {
        self.health.failed()
    }

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// The error for a shard that no longer answers.
    pub(crate) fn gone(&self) -> Error {
        Error::Unavailable(self.failed().unwrap_or_else(|| "the database is closed".into()))
    }

    /// A request to one shard.
    pub(crate) fn request(self: &Arc<Self>, shard: usize, request: Request) -> Call {
        Call::new(self.clone(), shard, request)
    }

    /// A request whose answer nobody waits for, and which finds room whatever the others ask.
    pub(crate) fn tell(&self, shard: usize, request: Request) {
        let Err(request) = local::call(self.id, shard, request) else { return };
        let (reply, _) = reply_slot();
        let mailbox = self.mailbox(shard);
        if let Err(Refused::Full(message)) = mailbox.try_send(Message::Request { request, reply }) {
            mailbox.send_urgent(message);
        }
    }

    /// A request of a subscription, which finds room whatever the others ask. Who waits for the answer does not keep the
    /// database open. One that is `ordered` is there before whatever is asked later.
    pub(crate) fn ask(&self, shard: usize, request: Request, ordered: bool) -> LocalReply {
        if let Some(reason) = self.failed() {
            return LocalReply::Now(Err(Error::Unavailable(reason)));
        }
        let request = match local::call(self.id, shard, request) {
            Ok(reply) => return reply,
            Err(request) => request,
        };
        let (reply, receiver) = reply_slot();
        let mailbox = self.mailbox(shard);
        let message = Message::Request { request, reply };
        let refused = if ordered { Err(Refused::Full(message)) } else { mailbox.try_send(message) };
        if let Err(Refused::Full(message)) = refused {
            mailbox.send_urgent(message);
        }
        if mailbox.is_dead() {
            return LocalReply::Now(receiver.try_recv().ok().flatten().unwrap_or_else(|| Err(self.gone())));
        }
        LocalReply::Later(receiver)
    }

    /// A command on a run, sent to the shard that owns what it names.
    pub(crate) fn command(self: &Arc<Self>, run: RunId, command: Command) -> Call {
        self.request(self.shard_of_command(&run, &command), Request::Execute { run, command })
    }

    /// Remembers that a run could not be registered.
    pub(crate) fn remember_unregistered(&self, run: RunId, error: Error) {
        self.unregistered.lock().unwrap_or_else(PoisonError::into_inner).insert(run, error);
        self.any_unregistered.store(true, Ordering::SeqCst);
    }

    /// Why a run could not be registered, the first time somebody writes into it.
    pub(crate) fn unregistered(&self, run: &RunId) -> Option<Error> {
        if !self.any_unregistered.load(Ordering::Relaxed) {
            return None;
        }
        self.unregistered.lock().unwrap_or_else(PoisonError::into_inner).remove(run)
    }

    /// Flushes, stops and joins everything. The second call waits for the first.
    pub(crate) async fn close(&self) -> Result<()> {
        let (done, closed) = oneshot::channel();
        let failed = || self.failed().map_or(Ok(()), |reason| Err(Error::Unavailable(reason)));
        if self.keeper.send(Task::Close { done }).is_err() {
            return failed();
        }
        // Cancelled when somebody else was first: the keeper has ended, and with it what it was asked.
        let result = closed.await.unwrap_or_else(|_| failed());
        if !local::is_shard_thread() {
            self.join_keeper();
        }
        result
    }

    /// Asks the keeper.
    ///
    /// # Errors
    /// What it answers; `Unavailable` if the database is closed.
    pub(crate) async fn ask_keeper<T>(&self, task: impl FnOnce(oneshot::Sender<Result<T>>) -> Task) -> Result<T> {
        let (done, answer) = oneshot::channel();
        self.keeper.send(task(done)).map_err(|_| self.gone())?;
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }

    fn join_keeper(&self) {
        let thread = self.keeper_thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let (done, mut closed) = oneshot::channel();
        if self.keeper.send(Task::Close { done }).is_err() || local::is_shard_thread() {
            return;
        }
        let deadline = std::time::Instant::now() + DROP_PATIENCE;
        while std::time::Instant::now() < deadline {
            match closed.try_recv() {
                Ok(None) => std::thread::sleep(Duration::from_micros(200)),
                Ok(Some(_)) | Err(oneshot::Canceled) => return self.join_keeper(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::options::{HistoryRetention, Partitioning, SnapshotConfig};
    use crate::primitive::command::KvCommand;
    use crate::runtime::open::{OpenOptions, open};

    const DRIVERS: [Driver; 2] = [Driver::Auto, Driver::Threads];

    fn options(driver: Driver) -> OpenOptions {
        OpenOptions {
            path: None,
            mode: DurabilityMode::InMemory,
            shards: Some(2),
            partitioning: Partitioning::ByRun,
            driver,
            pin_cores: None,
            spin: Some(Duration::from_micros(40)),
            history: HistoryRetention::Off,
            history_of_ended_runs: None,
            lineage: false,
            read_only: false,
            memory_limit: None,
            snapshots: SnapshotConfig::default(),
        }
    }

    fn put(number: i64) -> Command {
        Command::Kv(KvCommand::Put { key: "key".into(), value: number.into(), ttl: None })
    }

    /// Segments that stay open stay locked, and recovery waits for the locks.
    #[test]
    fn a_database_whose_shard_panicked_opens_again_in_the_same_process() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..6 {
            let path = Some(directory.path().to_owned());
            let options = OpenOptions { path, mode: DurabilityMode::Strict, ..options(DRIVERS[round / 3]) };
            let started = std::time::Instant::now();
            let engine = Arc::new(open(&options).unwrap());
            assert!(started.elapsed() < Duration::from_secs(4), "nothing is locked");
            for run in (0..8).map(|_| RunId::new()) {
                drop(futures::executor::block_on(engine.command(run, put(1))).unwrap());
            }
            let panic = engine.request(round % 2, Request::Panic);
            assert!(matches!(futures::executor::block_on(panic), Err(Error::Unavailable(_))));
            assert!(futures::executor::block_on(engine.close()).is_err());
        }
    }

    #[test]
    fn a_panic_inside_a_shard_surfaces_as_unavailable_to_every_caller_and_nobody_hangs() {
        for round in 0..20 {
            let engine = Arc::new(open(&options(DRIVERS[round / 10])).unwrap());
            let runs: Vec<RunId> = (0..8).map(|_| RunId::new()).collect();
            let callers: Vec<_> = runs
                .into_iter()
                .map(|run| {
                    let engine = engine.clone();
                    std::thread::spawn(move || {
                        for number in 0.. {
                            if let Err(error) = futures::executor::block_on(engine.command(run, put(number))) {
                                return error;
                            }
                        }
                        unreachable!("numbers do not end");
                    })
                })
                .collect();
            let panic = engine.request(round % 2, Request::Panic);
            assert!(matches!(futures::executor::block_on(panic), Err(Error::Unavailable(_))));
            for caller in callers {
                let error = caller.join().unwrap();
                assert!(matches!(&error, Error::Unavailable(_)), "{error}");
            }
            let closed = futures::executor::block_on(engine.close());
            assert!(
                matches!(&closed, Err(Error::Unavailable(reason)) if reason.contains("asked to panic")),
                "{closed:?}"
            );
        }
    }
}
