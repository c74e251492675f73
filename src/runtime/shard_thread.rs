//! The thread of a shard, on any driver: how it starts, and what happens when it ends.
//!
//! - The mailbox and the pending replies are owned here, outside every future (T4): whatever happens to the executor,
//!   every caller hears of it.
//! - A panic in the shard fails the whole engine.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::LocalBoxFuture;
use slab::Slab;

use super::clock::Clock;
use super::engine::Health;
use super::headroom::Headroom;
use super::host::Host;
use super::keeper::Task;
use super::local;
use super::log_files::LogFiles;
use super::mailbox::{Inbox, Mailbox};
use super::slow_writes::SlowWrites;
use super::spin::Spinner;
use super::usage::Usage;
use super::worker::Worker;
use crate::base::error::Result;
use crate::shard::machine::Shard;

/// Hears whether the executor of a shard could be made.
pub(crate) type Started = oneshot::Sender<Result<()>>;

/// What a shard's thread is made of.
pub(crate) struct ShardThread {
    pub(crate) engine: u64,
    pub(crate) number: usize,
    pub(crate) shard: Shard,
    pub(crate) usage: Arc<Usage>,
    pub(crate) inbox: Inbox,
    /// All shards' mailboxes.
    pub(crate) peers: Vec<Mailbox>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) health: Arc<Health>,
    pub(crate) keeper: Sender<Task>,
    pub(crate) spin: Option<Duration>,
    /// The core to stay on.
    pub(crate) core: Option<usize>,
    /// The file of a segment of this shard.
    pub(crate) log_path: Box<dyn Fn(u32) -> PathBuf + Send>,
}

impl ShardThread {
    /// Starts the thread, with an executor as its body. The receiver hears whether that could be made.
    ///
    /// # Errors
    /// `Io` if the thread cannot be started.
    pub(crate) fn start(
        self,
        body: impl FnOnce(Self, Started) + Send + 'static,
    ) -> Result<(JoinHandle<()>, oneshot::Receiver<Result<()>>)> {
        let (started, starting) = oneshot::channel();
        let name = format!("in-mem-{}", self.number);
        let thread = std::thread::Builder::new().name(name).spawn(move || body(self, started))?;
        Ok((thread, starting))
    }

    /// Lives on this thread until the shard has stopped. `run` is the executor.
    pub(crate) fn live<H: Host>(self, host: H, started: Started, run: impl FnOnce(LocalBoxFuture<'static, ()>)) {
        let worker = Rc::new(self.into_worker(host));
        let life = live(worker.clone(), started).boxed_local();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(life))) {
            let reason = local::describe_panic(&*panic);
            worker.health.fail(format!("the executor of shard {} panicked: {reason}", worker.number));
        }
        local::leave();
        end(&worker);
    }

    fn into_worker<H: Host>(self, host: H) -> Worker<H> {
        Worker {
            host,
            engine: self.engine,
            number: self.number,
            shard: RefCell::new(self.shard),
            usage: self.usage,
            headroom: Headroom::default(),
            replies: RefCell::new(Slab::new()),
            inbox: self.inbox,
            peers: self.peers,
            clock: self.clock,
            health: self.health,
            keeper: self.keeper,
            spinner: Spinner::new(self.spin),
            log_path: self.log_path,
            left: RefCell::new(Vec::new()),
            loop_waker: RefCell::new(None),
            local_calls: Cell::new(0),
            local_futures: RefCell::new(Slab::new()),
            last_now: Cell::default(),
            retry_at: Cell::default(),
            slow_writes: RefCell::new(SlowWrites::new(self.number)),
        }
    }
}

async fn live<H: Host>(worker: Rc<Worker<H>>, started: Started) {
    let files = RefCell::new(LogFiles::new());
    local::enter(worker.clone());
    let _ = started.send(Ok(()));
    let run = AssertUnwindSafe(worker.run(&files)).catch_unwind().await;
    if let Err(panic) = run {
        let number = worker.number;
        worker.health.fail(format!("shard {number} panicked, reopen the database: {}", local::describe_panic(&*panic)));
    }
    worker.abandon_local_futures();
    // Never end an executor with I/O in flight: the kernel would write into freed memory.
    files.into_inner().finish().await;
}

/// Everybody who still waits, or sends late, gets an error: dropping a reply's sender says so.
fn end<H: Host>(worker: &Worker<H>) {
    let late = worker.inbox.close();
    worker.replies.borrow_mut().clear();
    drop(late);
}
