//! The worker: a shard, its requests and its files on the executor of some driver.
//!
//! - One long-lived task drains the mailbox in batches, hands them to the shard and carries its effects out. It awaits
//!   in one place: the next message, the end of a write, or a timer, whichever comes first.
//! - Requests are taken while there is room for what they write; what the keeper says is always taken.
//! - A write in flight is owned by the worker and always awaited to its end.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use slab::Slab;

use super::clock::Clock;
use super::engine::Health;
use super::headroom::Headroom;
use super::host::Host;
use super::keeper::Task;
use super::local::{LocalReply, LocalShard};
use super::log_files::{FileEvent, LogFiles};
use super::mailbox::{Inbox, Mailbox, Message};
use super::reply::{ReplySender, reply_slot};
use super::slow_writes::SlowWrites;
use super::spin::{Busy, Spinner};
use super::usage::Usage;
use crate::base::error::{IoFailure, Result};
use crate::base::kill_point::{KillPoint, kill_point};
use crate::base::limits;
use crate::base::version::Version;
use crate::commit::message::{Envelope, Message as PeerMessage};
use crate::disk::directory::naming;
use crate::primitive::output::Reply;
use crate::shard::effect::Effect;
use crate::shard::input::{Input, Request, RequestId};
use crate::shard::machine::Shard;

/// How long a segment that could not be made is not asked for again.
const RETRY: Duration = Duration::from_millis(250);
/// How many calls tasks on the shard make at most while somebody else waits for it.
const LOCAL_CALLS: u32 = 16;
/// How many heartbeats go on after the last activity.
const BEATS_AFTER_ACTIVITY: u32 = 3;

/// What a worker is made of; it belongs to the thread and outlives every task (T4).
pub(super) struct Worker<H: Host> {
    pub(super) host: H,
    pub(super) engine: u64,
    pub(super) number: usize,
    pub(super) shard: RefCell<Shard>,
    pub(super) usage: Arc<Usage>,
    pub(super) headroom: Headroom,
    pub(super) replies: RefCell<Slab<Option<ReplySender>>>,
    pub(super) inbox: Inbox,
    /// All shards' mailboxes.
    pub(super) peers: Vec<Mailbox>,
    pub(super) clock: Arc<Clock>,
    pub(super) health: Arc<Health>,
    pub(super) keeper: Sender<Task>,
    pub(super) spinner: Spinner,
    pub(super) log_path: Box<dyn Fn(u32) -> PathBuf + Send>,
    /// Effects that a local call left for the loop.
    pub(super) left: RefCell<Vec<Effect>>,
    pub(super) loop_waker: RefCell<Option<Waker>>,
    /// How many local calls there were since the loop's last turn.
    pub(super) local_calls: Cell<u32>,
    /// Callers' futures. They end with the shard, not with the executor, which keeps for ever what somebody else still
    /// has a waker of (T4): whoever waits for their results would wait for ever too.
    pub(super) local_futures: RefCell<Slab<LocalFuture>>,
    pub(super) last_now: Cell<Version>,
    /// When a segment that could not be made may be asked for again.
    pub(super) retry_at: Cell<Option<Instant>>,
    pub(super) slow_writes: RefCell<SlowWrites>,
}

impl<H: Host> Worker<H> {
    /// Runs until the shard has stopped.
    pub(super) async fn run(self: &Rc<Self>, files: &RefCell<LogFiles<H::File>>) {
        let mut busy = Some(Busy::start());
        let (mut beats, mut unbroken) = (0, 0);
        loop {
            self.local_calls.set(0);
            self.tell_usage();
            let taken = self.take_messages(files);
            let worked = self.take_file_events(files) || taken > 0;
            self.tick_if_due();
            self.tell_usage();
            if self.carry_out(files) {
                return;
            }
            if worked {
                beats = BEATS_AFTER_ACTIVITY;
                if !self.is_more_under_way(files)
                    && self.spinner.spin(|| self.inbox.looks_full().then_some(())).is_some()
                {
                    continue;
                }
            }
            busy.take();
            unbroken += taken;
            if unbroken >= limits::BATCH_REQUESTS && self.is_more_under_way(files) {
                // Callers who never leave the mailbox empty would keep it from all that the executor does beside.
                self.host.pause().await;
                unbroken = 0;
            }
            self.sleep(files, beats > 0).await;
            beats = beats.saturating_sub(1);
            busy = Some(Busy::start());
            self.inbox.awake();
        }
    }

    fn take_messages(self: &Rc<Self>, files: &RefCell<LogFiles<H::File>>) -> usize {
        let mut read = None;
        for taken in 0..limits::BATCH_REQUESTS {
            // What is there and not announced yet is found before the shard sleeps.
            if taken > 0 && self.inbox.looks_empty() {
                return taken;
            }
            let has_room = self.shard.borrow().has_room();
            let Some(message) = self.inbox.try_receive(has_room) else { return taken };
            // The time is read after the message was taken: what its sender has been answered, by any shard, is below
            // it. With one shard nobody else gives out timestamps, and one reading does for a batch.
            let now = match read {
                Some(now) if self.peers.len() == 1 => now,
                _ => *read.insert(self.clock.now()),
            };
            match message {
                Message::Request { request, reply } => {
                    let id = self.replies.borrow_mut().insert(Some(reply)) as RequestId;
                    self.handle(now, Input::Request { id, request });
                }
                Message::Peer { from, envelope } => self.handle(now, Input::Peer { from, envelope }),
                Message::SegmentReady { index, capacity, salt } => {
                    let opening = self.host.open((self.log_path)(index));
                    files.borrow_mut().open(index, capacity, salt, opening);
                }
                Message::SegmentFailed { index, reason } => self.segment_failed(now, index, reason),
                Message::Spawn(task) => self.spawn(task()),
            }
        }
        limits::BATCH_REQUESTS
    }

    fn handle(&self, now: Version, input: Input) {
        self.last_now.set(now);
        self.shard.borrow_mut().handle(now, input);
    }

    /// T5: a panic in a task would end the executor. Closures of callers are caught where they are made; this is for
    /// what surrounds them.
    fn spawn(self: &Rc<Self>, future: LocalBoxFuture<'static, ()>) {
        let slot: LocalFuture = Rc::new(RefCell::new(Some(future)));
        let key = self.local_futures.borrow_mut().insert(slot.clone());
        let worker = self.clone();
        let task = async move {
            if std::panic::AssertUnwindSafe(run_in_slot(slot)).catch_unwind().await.is_err() {
                worker.health.fail(format!("a task on shard {} panicked", worker.number));
            }
            let finished = worker.local_futures.borrow_mut().try_remove(key);
            drop(finished);
        };
        self.host.spawn(task.boxed_local());
    }

    /// Ends what callers still have running here: it is dropped, and who waits for it hears of it.
    pub(super) fn abandon_local_futures(&self) {
        let slots: Vec<LocalFuture> = self.local_futures.borrow_mut().drain().collect();
        for slot in slots {
            let future = slot.borrow_mut().take();
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(future))).is_err() {
                tracing::error!(shard = self.number, "dropping a caller's future panicked");
            }
        }
    }

    fn take_file_events(&self, files: &RefCell<LogFiles<H::File>>) -> bool {
        let mut files = files.borrow_mut();
        let mut worked = false;
        while let Some(event) = files.take() {
            worked = true;
            let now = self.clock.now();
            match event {
                FileEvent::Opened { index, capacity, salt, file: Ok(file) } => {
                    files.keep(index, file);
                    kill_point(KillPoint::SegmentOpened);
                    self.health.set_shortage(self.number, None);
                    self.handle(now, Input::SegmentReady { index, capacity, salt });
                }
                FileEvent::Opened { index, file: Err(error), .. } => {
                    let path = (self.log_path)(index);
                    self.segment_failed(now, index, naming("cannot open the segment", &path, &error).into());
                }
                FileEvent::Wrote { through, took, result: Ok(()) } => {
                    self.slow_writes.borrow_mut().note(took);
                    self.handle(now, Input::Appended { through, took });
                    kill_point(KillPoint::BatchTold);
                }
                FileEvent::Wrote { through, result: Err(error), .. } => {
                    let path = (self.log_path)(through.segment());
                    let reason = format!("writing the log failed: file={} reason={error}", path.display());
                    self.health.poison(self.number, &reason);
                    self.handle(now, Input::AppendFailed { reason });
                }
            }
        }
        worked
    }

    /// A segment cannot be made. The pace of further tries follows the monotonic clock: database time may stand still
    /// on a full disk.
    fn segment_failed(&self, now: Version, index: u32, reason: IoFailure) {
        tracing::warn!(shard = self.number, segment = index, %reason, "a segment of the log cannot be made");
        self.health.set_shortage(self.number, Some(reason.to_string()));
        self.retry_at.set(Some(Instant::now() + RETRY));
        self.handle(now, Input::SegmentFailed { index, reason });
    }

    /// Says what the shard uses before anybody hears of what it did, and hears what the others use before it does
    /// anything. If it has grown, it gets more room, see `headroom`.
    fn tell_usage(&self) {
        let mut shard = self.shard.borrow_mut();
        let used = shard.memory_used();
        self.headroom.note(used);
        let elsewhere = self.usage.publish(self.number, used);
        shard.set_memory_elsewhere(elsewhere);
    }

    fn tick_if_due(&self) {
        if self.retry_at.get().is_some_and(|at| at <= Instant::now()) {
            self.retry_at.set(None);
            self.handle(self.clock.now(), Input::AskAgain);
        }
        let due = self.shard.borrow().poll_timeout();
        if let Some(due) = due {
            let now = self.clock.now();
            if due <= now {
                self.handle(now, Input::Tick);
            }
        }
    }

    /// Carries out what the shard wants done. Returns whether it has stopped.
    fn carry_out(&self, files: &RefCell<LogFiles<H::File>>) -> bool {
        let mut stop = false;
        self.catch_up_with(self.shard.borrow().latest());
        let left = std::mem::take(&mut *self.left.borrow_mut());
        for effect in left.into_iter().chain(std::iter::from_fn(|| self.shard.borrow_mut().poll_effect())) {
            match effect {
                Effect::Reply { id, result } => self.reply(id, result),
                Effect::Send { to, envelope } => self.send(to, envelope),
                Effect::Append(append) => files.borrow_mut().append(append),
                Effect::PrepareSegment { index, capacity } => self.prepare_segment(index, capacity),
                Effect::Stop => stop = true,
            }
        }
        stop
    }

    /// No reply leaves before the clock has reached what it depends on. The last reading of the clock nearly always
    /// says so already.
    fn catch_up_with(&self, latest: Version) {
        if latest > self.last_now.get() {
            self.clock.wait_until(latest);
        }
    }

    fn reply(&self, id: RequestId, result: Result<Reply>) {
        let Ok(key) = usize::try_from(id) else { return };
        if let Some(sender) = self.replies.borrow_mut().remove(key) {
            // Nobody listens any more if the caller dropped its future.
            sender.send(result);
        }
    }

    fn send(&self, to: u32, envelope: Envelope) {
        let from = u32::try_from(self.number).unwrap_or(u32::MAX);
        let point = point_behind(&envelope.message);
        if let Some(peer) = self.peers.get(to as usize) {
            // One that has ended hears nothing, and has told everybody of its end.
            peer.send_urgent(Message::Peer { from, envelope });
        }
        if let Some(point) = point {
            kill_point(point);
        }
    }

    fn prepare_segment(&self, index: u32, capacity: u64) {
        let shard = u32::try_from(self.number).unwrap_or(u32::MAX);
        if self.keeper.send(Task::PrepareSegment { shard, index, capacity }).is_err() {
            let reason = IoFailure::new(std::io::ErrorKind::Other, "the database is closing".into());
            self.segment_failed(self.clock.now(), index, reason);
        }
    }

    /// Whether a local call must wait for the loop: a task whose calls are all answered at once never lets others run.
    fn is_loops_turn(&self) -> bool {
        let calls = self.local_calls.get().saturating_add(1);
        self.local_calls.set(calls);
        let is_due = || self.shard.borrow().poll_timeout().is_some_and(|due| due <= self.last_now.get());
        calls > LOCAL_CALLS && (self.inbox.looks_full() || !self.left.borrow().is_empty() || is_due())
    }

    /// Whether the executor has more to do than this loop: spinning would starve it.
    fn is_more_under_way(&self, files: &RefCell<LogFiles<H::File>>) -> bool {
        !self.local_futures.borrow().is_empty() || !files.borrow().is_idle()
    }

    /// Sleeps until there is a message, an end of a write, something left by a local call, or something due.
    async fn sleep(&self, files: &RefCell<LogFiles<H::File>>, beat: bool) {
        let due = self.shard.borrow().poll_timeout().map(|due| due.since(self.clock.now()));
        let under_way = beat || self.is_more_under_way(files);
        let longest = if under_way { H::HEARTBEAT } else { None };
        let retry = self.retry_at.get().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = [due, longest, retry].into_iter().flatten().min();
        let mut timer = wait.map(|wait| self.host.timer(wait));
        std::future::poll_fn(|context| self.poll_sleep(files, timer.as_mut(), context)).await;
        self.loop_waker.borrow_mut().take();
    }

    fn poll_sleep(
        &self,
        files: &RefCell<LogFiles<H::File>>,
        timer: Option<&mut H::Timer>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        *self.loop_waker.borrow_mut() = Some(context.waker().clone());
        let has_room = self.shard.borrow().has_room();
        if self.inbox.poll_ready(has_room, context).is_ready() || !self.left.borrow().is_empty() {
            return Poll::Ready(());
        }
        let mut files = files.borrow_mut();
        if files.poll_ready(context).is_ready() {
            return Poll::Ready(());
        }
        timer.map_or(Poll::Pending, |timer| Pin::new(timer).poll(context).map(drop))
    }
}

/// Where a process can be killed that has just sent this.
const fn point_behind(message: &PeerMessage) -> Option<KillPoint> {
    Some(match message {
        PeerMessage::Prepare { .. } => KillPoint::PrepareSent,
        PeerMessage::Vote { .. } => KillPoint::VoteSent,
        PeerMessage::Decide { .. } => KillPoint::DecisionSent,
        PeerMessage::Abort { .. } => KillPoint::AbortSent,
        PeerMessage::Mark { .. } => KillPoint::MarkSent,
        PeerMessage::Marked { .. } => KillPoint::MarkedSent,
        _ => return None,
    })
}

/// A caller's future; `None` when it has ended, and while it is polled.
type LocalFuture = Rc<RefCell<Option<LocalBoxFuture<'static, ()>>>>;

/// Runs the future in a slot to its end, or until somebody takes it out.
async fn run_in_slot(slot: LocalFuture) {
    std::future::poll_fn(|context| {
        let Some(mut future) = slot.borrow_mut().take() else { return Poll::Ready(()) };
        let polled = future.poll_unpin(context);
        if polled.is_pending() {
            *slot.borrow_mut() = Some(future);
        }
        polled
    })
    .await;
}

impl<H: Host> LocalShard for Worker<H> {
    fn identity(&self) -> (u64, usize) {
        (self.engine, self.number)
    }

    fn call(&self, request: Request) -> LocalReply {
        let key = self.replies.borrow_mut().insert(None);
        let id = key as RequestId;
        self.tell_usage();
        self.handle(self.clock.now(), Input::Request { id, request });
        self.tell_usage();
        self.catch_up_with(self.shard.borrow().latest());
        let mut answer = None;
        for effect in std::iter::from_fn(|| self.shard.borrow_mut().poll_effect()) {
            match effect {
                Effect::Reply { id: answered, result } if answered == id => answer = Some(result),
                Effect::Reply { id, result } => self.reply(id, result),
                other => self.left.borrow_mut().push(other),
            }
        }
        if let Some(result) = answer.take_if(|_| self.is_loops_turn()) {
            self.left.borrow_mut().push(Effect::Reply { id, result });
        }
        let loop_is_needed = !self.left.borrow().is_empty() || self.shard.borrow().poll_timeout().is_some();
        if let Some(waker) = self.loop_waker.borrow_mut().take_if(|_| loop_is_needed) {
            waker.wake();
        }
        if let Some(result) = answer {
            self.replies.borrow_mut().remove(key);
            return LocalReply::Now(result);
        }
        let (sender, receiver) = reply_slot();
        self.replies.borrow_mut()[key] = Some(sender);
        LocalReply::Later(receiver)
    }
}
