//! Mailboxes: how requests reach a shard from other threads.
//!
//! - Bounded: who finds it full waits. One receiver, the shard.
//! - What the keeper and other shards say goes past the requests, in the order it was said, and never waits: a shard
//!   that takes no more requests until it has a segment must hear that it has one, and two shards must never wait for
//!   room at each other. How much shards can say is bounded by the transactions that callers commit.
//! - The receiver never registers with the channel. It parks on a waker of its own, and a sender wakes it only when
//!   it is asleep: once per sleep, and outside the channel's lock.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::{Context, Poll};

use flume::{Receiver, Sender, TrySendError};
use futures::channel::oneshot;
use futures::future::LocalBoxFuture;
use futures::task::AtomicWaker;

use crate::base::error::{IoFailure, Result};
use crate::base::limits;
use crate::commit::message::Envelope;
use crate::primitive::output::Reply;
use crate::shard::input::Request;

/// Where a reply goes.
pub(crate) type ReplySender = oneshot::Sender<Result<Reply>>;
/// Where a reply comes from.
pub(crate) type ReplyReceiver = oneshot::Receiver<Result<Reply>>;

/// Makes a future that runs on the shard's own thread.
pub(crate) type LocalTask = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// What a shard's thread is told.
pub(crate) enum Message {
    Request {
        request: Request,
        reply: ReplySender,
    },
    /// Another shard says something.
    Peer {
        from: u32,
        envelope: Envelope,
    },
    SegmentReady {
        index: u32,
        capacity: u64,
        salt: u64,
    },
    SegmentFailed {
        index: u32,
        reason: IoFailure,
    },
    Spawn(LocalTask),
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { request, .. } => f.debug_tuple("Request").field(request).finish(),
            Self::Peer { from, envelope } => f.debug_tuple("Peer").field(from).field(envelope).finish(),
            Self::SegmentReady { index, .. } => f.debug_tuple("SegmentReady").field(index).finish(),
            Self::SegmentFailed { index, .. } => f.debug_tuple("SegmentFailed").field(index).finish(),
            Self::Spawn(_) => f.write_str("Spawn"),
        }
    }
}

#[derive(Debug, Default)]
struct Sleeper {
    asleep: AtomicBool,
    /// The shard has ended: what was sent after that is never looked at.
    dead: AtomicBool,
    /// How many messages have been sent: what a spinning shard looks at, so that it stays off the channel's lock.
    sent: AtomicU64,
    waker: AtomicWaker,
}

impl Sleeper {
    /// A message is in the channel.
    fn announce(&self) {
        self.sent.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.waker.wake();
        }
    }
}

/// The side of the callers.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    sender: Sender<Message>,
    urgent: Sender<Message>,
    sleeper: Arc<Sleeper>,
}

/// A message that waits for room.
pub(crate) type Sending = flume::r#async::SendFut<'static, Message>;

/// Why a message was not taken at once.
pub(crate) enum Refused {
    /// Wait for room.
    Full(Message),
    /// The shard is gone.
    Gone,
}

impl Mailbox {
    /// Hands a message over if there is room.
    pub(crate) fn try_send(&self, message: Message) -> Result<(), Refused> {
        match self.sender.try_send(message) {
            Ok(()) => {
                self.sleeper.announce();
                Ok(())
            }
            Err(TrySendError::Full(message)) => Err(Refused::Full(message)),
            Err(TrySendError::Disconnected(_)) => Err(Refused::Gone),
        }
    }

    /// Hands a message over when there is room. Call `announce` when it has been taken.
    pub(crate) fn send_when_room(&self, message: Message) -> Sending {
        self.sender.clone().into_send_async(message)
    }

    /// Hands a message over past all that wait; false if the shard is gone. For the keeper and other shards.
    pub(crate) fn send_urgent(&self, message: Message) -> bool {
        let sent = self.urgent.send(message).is_ok();
        self.sleeper.announce();
        sent
    }

    /// How many messages wait.
    pub(crate) fn waiting(&self) -> u64 {
        (self.sender.len() + self.urgent.len()) as u64
    }

    /// Whether the shard has ended. Ask after sending: a message may have been too late.
    pub(crate) fn is_dead(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeper.dead.load(Ordering::SeqCst)
    }

    /// A message that waited for room has been taken: wakes the shard if it sleeps.
    pub(crate) fn announce(&self) {
        self.sleeper.announce();
    }
}

#[derive(Debug)]
struct Receivers {
    requests: Receiver<Message>,
    urgent: Receiver<Message>,
}

/// The side of the shard.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// `None` once the shard has ended (T4: tasks that leak with their executor must not keep it open).
    receivers: RefCell<Option<Receivers>>,
    taken: Cell<u64>,
    sleeper: Arc<Sleeper>,
}

impl Inbox {
    /// The next message, if there is one; only an urgent one if there is no room for requests.
    pub(crate) fn try_receive(&self, has_room: bool) -> Option<Message> {
        let receivers = self.receivers.borrow();
        let receivers = receivers.as_ref()?;
        let urgent = receivers.urgent.try_recv().ok();
        let message = urgent.or_else(|| has_room.then(|| receivers.requests.try_recv().ok()).flatten())?;
        self.taken.set(self.taken.get().wrapping_add(1));
        Some(message)
    }

    /// Whether messages were sent that have not been taken. Cheap, but a message can be there before it is announced.
    pub(crate) fn looks_full(&self) -> bool {
        let ahead = self.sleeper.sent.load(Ordering::Acquire).wrapping_sub(self.taken.get());
        ahead != 0 && ahead < u64::MAX / 2
    }

    fn is_empty(&self, has_room: bool) -> bool {
        let receivers = self.receivers.borrow();
        receivers.as_ref().is_none_or(|all| all.urgent.is_empty() && (!has_room || all.requests.is_empty()))
    }

    /// Refuses messages from now on, and gives out those that came before.
    pub(crate) fn close(&self) -> Vec<Message> {
        self.sleeper.dead.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let receivers = self.receivers.take();
        receivers.map_or_else(Vec::new, |all| all.urgent.drain().chain(all.requests.drain()).collect())
    }

    /// Ready when there is a message; only for an urgent one if there is no room for requests.
    pub(crate) fn poll_ready(&self, has_room: bool, context: &mut Context<'_>) -> Poll<()> {
        self.sleeper.waker.register(context.waker());
        self.sleeper.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.is_empty(has_room) {
            return Poll::Pending;
        }
        self.sleeper.asleep.store(false, Ordering::SeqCst);
        Poll::Ready(())
    }

    /// The shard is awake: senders need not wake it.
    pub(crate) fn awake(&self) {
        self.sleeper.asleep.store(false, Ordering::SeqCst);
    }
}

/// A mailbox and its other side.
pub(crate) fn mailbox() -> (Mailbox, Inbox) {
    let (sender, receiver) = flume::bounded(limits::MAILBOX_REQUESTS);
    let (urgent_sender, urgent) = flume::unbounded();
    let sleeper = Arc::new(Sleeper::default());
    let receivers = RefCell::new(Some(Receivers { requests: receiver, urgent }));
    (
        Mailbox { sender, urgent: urgent_sender, sleeper: sleeper.clone() },
        Inbox { receivers, taken: Cell::new(0), sleeper },
    )
}
