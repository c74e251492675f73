//! The thread of a shard: its executor, and what happens when it ends.
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

use futures::FutureExt;
use futures::channel::oneshot;
use glommio::{GlommioError, LocalExecutorBuilder, Placement, PoolPlacement};
use slab::Slab;

use super::worker::{Disk, Worker};
use crate::base::error::{Error, Result};
use crate::runtime::clock::Clock;
use crate::runtime::engine::Health;
use crate::runtime::keeper::Task;
use crate::runtime::local;
use crate::runtime::mailbox::{Inbox, Mailbox};
use crate::runtime::spin::Spinner;
use crate::runtime::sys;
use crate::runtime::usage::Usage;
use crate::shard::machine::Shard;

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
    pub(crate) spin: Option<std::time::Duration>,
    /// The core to stay on.
    pub(crate) core: Option<usize>,
    /// Bytes of locked memory for the executor's buffers.
    pub(crate) io_memory: usize,
    /// The file of a segment of this shard.
    pub(crate) log_path: Box<dyn Fn(u32) -> PathBuf + Send>,
}

impl ShardThread {
    /// Starts the thread. The receiver hears whether the executor could be made.
    ///
    /// # Errors
    /// `Io` if the thread cannot be started.
    pub(crate) fn start(self) -> Result<(JoinHandle<()>, oneshot::Receiver<Result<()>>)> {
        let (started, starting) = oneshot::channel();
        let name = format!("in-mem-{}", self.number);
        let thread = std::thread::Builder::new().name(name).spawn(move || self.run(started))?;
        Ok((thread, starting))
    }

    fn run(self, started: oneshot::Sender<Result<()>>) {
        let health = self.health.clone();
        let number = self.number;
        let placement = self.core.map_or(Placement::Unbound, Placement::Fixed);
        let make = || {
            LocalExecutorBuilder::new(placement.clone())
                .name(&format!("in-mem-{number}"))
                .io_memory(self.io_memory)
                .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
                .make()
        };
        let executor = match sys::with_locked_memory(make, GlommioError::raw_os_error) {
            Ok(executor) => executor,
            Err(error) => {
                let hint = match error.raw_os_error() {
                    Some(libc::ENOMEM) => {
                        "there is too little locked memory for so many shards, open fewer of them or raise the limit \
                         (ulimit -l, LimitMEMLOCK=; 512 KiB are enough for two): "
                    }
                    Some(libc::EMFILE | libc::ENFILE) => "there are too many open files, raise the limit (ulimit -n): ",
                    _ => "",
                };
                let reason = format!("{hint}an executor cannot be made: shard={number} reason={error}");
                let _ = started.send(Err(Error::RuntimeUnavailable(reason)));
                return;
            }
        };
        let worker = Rc::new(Worker {
            engine: self.engine,
            number,
            shard: RefCell::new(self.shard),
            usage: self.usage,
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
        });
        let disk = Rc::new(RefCell::new(Disk::default()));
        let body = run_worker(worker.clone(), disk, started);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| executor.run(body))) {
            health.fail(format!("the executor of shard {number} panicked: {}", local::describe_panic(&*panic)));
        }
        local::leave();
        end(&worker);
    }
}

async fn run_worker(worker: Rc<Worker>, disk: Rc<RefCell<Disk>>, started: oneshot::Sender<Result<()>>) {
    // The first timer and the first trip through the reactor are slow: take them before anybody waits.
    glommio::timer::sleep(std::time::Duration::from_micros(1)).await;
    local::enter(worker.clone());
    let _ = started.send(Ok(()));
    let run = AssertUnwindSafe(worker.clone().run(disk.clone())).catch_unwind().await;
    if let Err(panic) = run {
        let number = worker.number;
        worker.health.fail(format!("shard {number} panicked, reopen the database: {}", local::describe_panic(&*panic)));
    }
    worker.abandon_local_futures();
    // Never end an executor with I/O in flight: the kernel would write into freed memory.
    finish(&disk).await;
}

#[expect(clippy::await_holding_refcell_ref, reason = "the loop has ended, nobody else borrows the disk any more")]
async fn finish(disk: &RefCell<Disk>) {
    disk.borrow_mut().finish().await;
}

/// Everybody who still waits, or sends late, gets an error: dropping a reply's sender says so.
fn end(worker: &Worker) {
    let late = worker.inbox.close();
    worker.replies.borrow_mut().clear();
    drop(late);
}
