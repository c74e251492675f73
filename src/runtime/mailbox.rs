//! Mailboxes: how requests reach a shard from other threads.
//!
//! - Requests go over a short queue without a lock: half of a call between two spinning threads was spent on the lines of
//!   memory that a lock drags along. Who finds it full goes over a channel, where requests wait in turn; then all do, until
//!   the channel is empty again, so that what one caller asks stays in order.
//! - Bounded: who finds the channel full too waits. One receiver, the shard.
//! - What the keeper and other shards say goes past the requests, in the order it was said, and never waits: a shard
//!   that takes no more requests until it has a segment must hear that it has one, and two shards must never wait for
//!   room at each other. How much shards can say is bounded by the transactions that callers commit.
//! - The receiver never registers with the channel. It parks on a waker of its own, and a sender wakes it only when
//!   it is asleep: once per sleep, and outside the channel's lock.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::task::{Context, Poll};

use crossbeam_queue::ArrayQueue;
use flume::{Receiver, Sender, TrySendError};
use futures::future::LocalBoxFuture;
use futures::task::AtomicWaker;

use super::reply::ReplySender;
use crate::base::error::{IoFailure, Result};
use crate::base::limits;
use crate::commit::message::Envelope;
use crate::shard::input::Request;

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
    /// How many messages have been sent: what a spinning shard looks at.
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

/// What both sides share beside the channels.
#[derive(Debug)]
struct Shared {
    quick: ArrayQueue<Message>,
    /// How many requests are in the channel, or wait for it to have room.
    queued: AtomicUsize,
    sleeper: Sleeper,
}

/// A request in the channel, or on its way there.
pub(crate) struct Queued {
    message: Message,
    _place: Place,
}

/// Counts a request as queued while it exists.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Self {
        shared.queued.fetch_add(1, Ordering::SeqCst);
        Self(shared.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}

/// The side of the callers.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    sender: Sender<Queued>,
    urgent: Sender<Message>,
    shared: Arc<Shared>,
}

/// A message that waits for room.
pub(crate) type Sending = flume::r#async::SendFut<'static, Queued>;

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
        if self.shared.sleeper.dead.load(Ordering::SeqCst) {
            return Err(Refused::Gone);
        }
        let quick =
            if self.shared.queued.load(Ordering::SeqCst) == 0 { self.shared.quick.push(message) } else { Err(message) };
        let sent = quick.or_else(|message| self.sender.try_send(self.queued(message)));
        match sent {
            Ok(()) => {
                self.announce();
                Ok(())
            }
            Err(TrySendError::Full(queued)) => Err(Refused::Full(queued.message)),
            Err(TrySendError::Disconnected(_)) => Err(Refused::Gone),
        }
    }

    fn queued(&self, message: Message) -> Queued {
        Queued { message, _place: Place::take(&self.shared) }
    }

    /// Hands a message over when there is room. Call `announce` when it has been taken.
    pub(crate) fn send_when_room(&self, message: Message) -> Sending {
        self.sender.clone().into_send_async(self.queued(message))
    }

    /// Hands a message over past all that wait; false if the shard is gone. For the keeper and other shards.
    pub(crate) fn send_urgent(&self, message: Message) -> bool {
        let sent = self.urgent.send(message).is_ok();
        self.announce();
        sent
    }

    /// How many messages wait.
    pub(crate) fn waiting(&self) -> u64 {
        (self.shared.quick.len() + self.sender.len() + self.urgent.len()) as u64
    }

    /// Whether the shard has ended. Ask after sending: a message may have been too late.
    pub(crate) fn is_dead(&self) -> bool {
        fence(Ordering::SeqCst);
        self.shared.sleeper.dead.load(Ordering::SeqCst)
    }

    /// A message that waited for room has been taken: wakes the shard if it sleeps.
    pub(crate) fn announce(&self) {
        self.shared.sleeper.announce();
    }
}

#[derive(Debug)]
struct Receivers {
    requests: Receiver<Queued>,
    urgent: Receiver<Message>,
}

/// The side of the shard.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// `None` once the shard has ended (T4: tasks that leak with their executor must not keep it open).
    receivers: RefCell<Option<Receivers>>,
    /// One from the channel, which stands behind those of the quick queue.
    held: RefCell<Option<Queued>>,
    taken: Cell<u64>,
    shared: Arc<Shared>,
}

impl Inbox {
    /// The next message, if there is one; only an urgent one if there is no room for requests.
    pub(crate) fn try_receive(&self, has_room: bool) -> Option<Message> {
        let receivers = self.receivers.borrow();
        let receivers = receivers.as_ref()?;
        let urgent = receivers.urgent.try_recv().ok();
        let message = urgent.or_else(|| has_room.then(|| self.next_request(receivers)).flatten())?;
        self.taken.set(self.taken.get().wrapping_add(1));
        Some(message)
    }

    fn next_request(&self, receivers: &Receivers) -> Option<Message> {
        let quick = &self.shared.quick;
        if let Some(message) = quick.pop() {
            return Some(message);
        }
        let mut held = self.held.borrow_mut();
        if held.is_none() && self.shared.queued.load(Ordering::SeqCst) > 0 {
            *held = receivers.requests.try_recv().ok();
        }
        // Whoever sent this one may have sent another before, when there was room in the queue.
        held.as_ref()?;
        quick.pop().or_else(|| held.take().map(|queued| queued.message))
    }

    /// Whether messages were sent that have not been taken. Cheap, but a message can be there before it is announced.
    pub(crate) fn looks_full(&self) -> bool {
        let ahead = self.ahead();
        ahead != 0 && ahead < u64::MAX / 2
    }

    /// Whether all messages that were announced have been taken, and no others. Cheap, and nearly always right.
    pub(crate) fn looks_empty(&self) -> bool {
        self.ahead() == 0
    }

    /// How many more messages were announced than taken; of those that waited for room, taken ones may be announced later.
    fn ahead(&self) -> u64 {
        self.shared.sleeper.sent.load(Ordering::Acquire).wrapping_sub(self.taken.get())
    }

    fn is_empty(&self, has_room: bool) -> bool {
        let receivers = self.receivers.borrow();
        let no_requests =
            |all: &Receivers| self.shared.quick.is_empty() && self.held.borrow().is_none() && all.requests.is_empty();
        receivers.as_ref().is_none_or(|all| all.urgent.is_empty() && (!has_room || no_requests(all)))
    }

    /// Refuses messages from now on, and gives out those that came before.
    pub(crate) fn close(&self) -> Vec<Message> {
        self.shared.sleeper.dead.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let receivers = self.receivers.take();
        let Some(all) = receivers else { return Vec::new() };
        let quick = std::iter::from_fn(|| self.shared.quick.pop());
        let queued = self.held.take().into_iter().chain(all.requests.drain()).map(|queued| queued.message);
        all.urgent.drain().chain(quick).chain(queued).collect()
    }

    /// Ready when there is a message; only for an urgent one if there is no room for requests.
    pub(crate) fn poll_ready(&self, has_room: bool, context: &mut Context<'_>) -> Poll<()> {
        self.shared.sleeper.waker.register(context.waker());
        self.shared.sleeper.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.is_empty(has_room) {
            return Poll::Pending;
        }
        self.shared.sleeper.asleep.store(false, Ordering::SeqCst);
        Poll::Ready(())
    }

    /// The shard is awake: senders need not wake it.
    pub(crate) fn awake(&self) {
        self.shared.sleeper.asleep.store(false, Ordering::SeqCst);
    }
}

/// A mailbox and its other side.
pub(crate) fn mailbox() -> (Mailbox, Inbox) {
    let (sender, receiver) = flume::bounded(limits::MAILBOX_REQUESTS);
    let (urgent_sender, urgent) = flume::unbounded();
    let quick = ArrayQueue::new(limits::MAILBOX_QUICK);
    let shared = Arc::new(Shared { quick, queued: AtomicUsize::new(0), sleeper: Sleeper::default() });
    let receivers = RefCell::new(Some(Receivers { requests: receiver, urgent }));
    let inbox = Inbox { receivers, held: RefCell::default(), taken: Cell::new(0), shared: shared.clone() };
    (Mailbox { sender, urgent: urgent_sender, shared }, inbox)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures::FutureExt;
    use futures::executor::block_on;

    use super::*;

    /// The `number`th message of a sender.
    fn message(sender: u64, number: u64) -> Message {
        Message::SegmentReady { index: 0, capacity: number, salt: sender }
    }

    fn take(inbox: &Inbox) -> Option<(u64, u64)> {
        match inbox.try_receive(true)? {
            Message::SegmentReady { capacity, salt, .. } => Some((salt, capacity)),
            other => panic!("nobody sent {other:?}"),
        }
    }

    const ALL: u64 = (limits::MAILBOX_QUICK + limits::MAILBOX_REQUESTS) as u64;

    #[test]
    fn what_finds_no_room_waits_in_turn_and_nothing_overtakes_it() {
        let (mailbox, inbox) = mailbox();
        for number in 0..ALL {
            assert!(mailbox.try_send(message(0, number)).is_ok(), "{number}");
        }
        let Err(Refused::Full(last)) = mailbox.try_send(message(0, ALL)) else { panic!("there is no room") };
        let mut waiting = mailbox.send_when_room(last);
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(take(&inbox), Some((0, 0)));
        // There is room in the queue, and it would overtake those in the channel.
        assert!(mailbox.try_send(message(0, ALL + 1)).is_err());
        let taken: Vec<u64> = (1..=ALL).map(|_| take(&inbox).unwrap().1).collect();
        assert_eq!(taken, (1..=ALL).collect::<Vec<_>>());
        assert!(waiting.now_or_never().is_some_and(|sent| sent.is_ok()));
        assert_eq!(take(&inbox), None);
        assert!(mailbox.try_send(message(0, 7)).is_ok());
        assert_eq!((inbox.shared.quick.len(), take(&inbox)), (1, Some((0, 7))), "the queue is open again");
    }

    #[test]
    fn who_gives_up_waiting_is_in_nobodys_way() {
        let (mailbox, inbox) = mailbox();
        (0..ALL).for_each(|number| assert!(mailbox.try_send(message(0, number)).is_ok()));
        let Err(Refused::Full(last)) = mailbox.try_send(message(0, ALL)) else { panic!("there is no room") };
        let mut waiting = mailbox.send_when_room(last);
        assert!((&mut waiting).now_or_never().is_none());
        drop(waiting);
        assert_eq!(std::iter::from_fn(|| take(&inbox)).count() as u64, ALL);
        assert!(mailbox.try_send(message(0, 0)).is_ok());
        assert_eq!(inbox.shared.quick.len(), 1, "the channel is empty, and nobody waits for it");
    }

    #[test]
    fn what_each_of_many_threads_sends_stays_in_order() {
        const SENDERS: u64 = 4;
        const MESSAGES: u64 = 20_000;
        let (mailbox, inbox) = mailbox();
        std::thread::scope(|scope| {
            for sender in 0..SENDERS {
                let mailbox = mailbox.clone();
                scope.spawn(move || {
                    for number in 0..MESSAGES {
                        if let Err(Refused::Full(message)) = mailbox.try_send(message(sender, number)) {
                            assert!(block_on(mailbox.send_when_room(message)).is_ok());
                            mailbox.announce();
                        }
                    }
                });
            }
            let mut next: BTreeMap<u64, u64> = BTreeMap::new();
            while next.values().sum::<u64>() < SENDERS * MESSAGES {
                let Some((sender, number)) = take(&inbox) else {
                    std::thread::yield_now();
                    continue;
                };
                let expected = next.entry(sender).or_default();
                assert_eq!(number, *expected, "of sender {sender}");
                *expected += 1;
                // A shard that is busy lets the queue fill up.
                if number % 5_000 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            }
        });
        assert!(inbox.close().is_empty());
        assert!(matches!(mailbox.try_send(message(0, 0)), Err(Refused::Gone)));
    }
}
