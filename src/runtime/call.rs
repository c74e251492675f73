//! Calls: one request on its way to a shard and its reply on the way back.
//!
//! - Lazy: nothing is sent before the first poll. Dropped before it is sent, nothing happened; dropped after that, the
//!   shard finishes what was asked and nobody hears of it.
//! - An operation of a transaction gets its number when it is sent, under the transaction's lock, so that numbers
//!   reach the shard in order.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use smallvec::SmallVec;

use super::engine::Engine;
use super::local::{self, LocalReply};
use super::mailbox::{Message, Refused, Sending};
use super::pace;
use super::reply::{Gone, ReplyReceiver, reply_slot};
use crate::base::error::{Error, Result};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::message::TransactionNumber;
use crate::primitive::command::{Command, TraceCommand};
use crate::primitive::output::Reply;
use crate::shard::input::Request;

/// What the caller's side keeps of a transaction.
#[derive(Debug)]
pub(crate) struct Progress {
    number: TransactionNumber,
    state: Mutex<ProgressState>,
}

#[derive(Debug, Default)]
struct ProgressState {
    is_ended: bool,
    /// The shard of the first operation.
    coordinator: Option<usize>,
    /// Known once the coordinator has answered.
    snapshot: Option<Version>,
    parts: Parts,
}

/// What was sent to the shards; nearly always to one.
pub(crate) type Parts = SmallVec<[PartProgress; 1]>;

/// What was sent to one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartProgress {
    pub(crate) shard: usize,
    pub(crate) operations: u64,
    pub(crate) has_writes: bool,
}

/// What a transaction came to when it ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// The shard of the first operation; `None` if there was none.
    pub(crate) coordinator: Option<usize>,
    pub(crate) parts: Parts,
}

impl Progress {
    pub(crate) fn new(number: TransactionNumber) -> Self {
        Self { number, state: Mutex::default() }
    }

    /// Ends the transaction. `None` if it had ended before.
    pub(crate) fn end(&self) -> Option<Ended> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.is_ended, true) {
            return None;
        }
        state.parts.sort_unstable_by_key(|part| part.shard);
        Some(Ended { coordinator: state.coordinator, parts: std::mem::take(&mut state.parts) })
    }

    pub(crate) const fn number(&self) -> TransactionNumber {
        self.number
    }

    /// A shard is asked to coordinate the transaction, unless one is already. Returns which one does.
    pub(crate) fn coordinated_by(&self, shard: usize) -> usize {
        *self.lock().coordinator.get_or_insert(shard)
    }

    /// The coordinator has chosen the snapshot.
    pub(crate) fn learn(&self, snapshot: Version) {
        self.lock().snapshot = Some(snapshot);
    }

    /// The snapshot, if the coordinator has told it.
    pub(crate) fn snapshot(&self) -> Option<Version> {
        self.lock().snapshot
    }

    fn lock(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProgressState {
    /// The next operation on a shard: its number and its snapshot. `Err`: ask that coordinator for the snapshot first.
    fn next_operation(&mut self, shard: usize, is_read: bool) -> Result<(u64, Option<Version>), usize> {
        let coordinator = *self.coordinator.get_or_insert(shard);
        if shard != coordinator && self.snapshot.is_none() {
            return Err(coordinator);
        }
        let at = self.parts.iter().position(|part| part.shard == shard).unwrap_or_else(|| {
            self.parts.push(PartProgress { shard, operations: 0, has_writes: false });
            self.parts.len() - 1
        });
        let part = &mut self.parts[at];
        part.operations += 1;
        part.has_writes |= !is_read;
        Ok((part.operations - 1, self.snapshot))
    }
}

/// One request and its reply.
#[derive(Debug)]
pub(crate) struct Call {
    engine: Arc<Engine>,
    shard: usize,
    /// The transaction whose snapshot the reply tells.
    progress: Option<Arc<Progress>>,
    state: State,
}

enum State {
    Unsent(Request),
    Step(RunId, Command),
    /// An operation that needs to know the snapshot first.
    Beginning(Box<Call>, RunId, Command),
    Sending(Box<Sending>, ReplyReceiver),
    Waiting(ReplyReceiver),
    /// Sent, and others may send theirs first. The number is of `pace`.
    Yielding(ReplyReceiver, u32),
    Done,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsent(_) | Self::Step(..) => "Unsent",
            Self::Beginning(..) => "Beginning",
            Self::Sending(..) => "Sending",
            Self::Waiting(_) | Self::Yielding(..) => "Waiting",
            Self::Done => "Done",
        })
    }
}

impl Call {
    pub(crate) const fn new(engine: Arc<Engine>, shard: usize, request: Request) -> Self {
        Self { engine, shard, progress: None, state: State::Unsent(request) }
    }

    /// Asks the coordinator of a transaction, which begins there if it has not yet, for its snapshot.
    pub(crate) fn begin(
        engine: Arc<Engine>,
        coordinator: usize,
        progress: Arc<Progress>,
        snapshot: Option<Version>,
    ) -> Self {
        let request = Request::Begin { transaction: progress.number, snapshot };
        Self { engine, shard: coordinator, progress: Some(progress), state: State::Unsent(request) }
    }

    /// The next operation of a transaction.
    pub(crate) const fn step(
        engine: Arc<Engine>,
        shard: usize,
        progress: Arc<Progress>,
        run: RunId,
        command: Command,
    ) -> Self {
        Self { engine, shard, progress: Some(progress), state: State::Step(run, command) }
    }

    /// Whether the shard has never been sent the request.
    pub(crate) const fn is_unsent(&self) -> bool {
        matches!(self.state, State::Unsent(_) | State::Step(..) | State::Beginning(..) | State::Sending(..))
    }

    /// Sends the request if that has not happened yet. `Some` if it is answered already.
    pub(crate) fn start(&mut self) -> Option<Result<Reply>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Unsent(request) => self.send(request),
            State::Step(run, command) => self.operate(run, command),
            state => {
                self.state = state;
                None
            }
        }
    }

    /// Sends an operation, or asks for the snapshot first.
    fn operate(&mut self, run: RunId, command: Command) -> Option<Result<Reply>> {
        let Some(progress) = self.progress.clone() else { unreachable!("an operation is of a transaction") };
        let mut state = progress.lock();
        if state.is_ended {
            let ended = "the transaction has ended, begin another one";
            return Some(Err(Error::InvalidOperation(ended.into())));
        }
        match state.next_operation(self.shard, command.is_read()) {
            Ok((operation, snapshot)) => {
                // Under the lock, so that numbers reach the shard in order.
                self.send(Request::Step { transaction: progress.number, operation, snapshot, run, command })
            }
            Err(coordinator) => {
                drop(state);
                let begin = Self::begin(self.engine.clone(), coordinator, progress, None);
                self.state = State::Beginning(Box::new(begin), run, command);
                None
            }
        }
    }

    fn send(&mut self, mut request: Request) -> Option<Result<Reply>> {
        if let Request::Execute { command, .. } | Request::Step { command, .. } = &mut request
            && let Command::Trace(TraceCommand::Record { number, .. }) = command
        {
            // Drawn when it is sent, so that numbers rise in the order of recording.
            *number = self.engine.clock().unique_number();
        }
        if let Some(reason) = self.engine.failed() {
            return Some(Err(Error::Unavailable(reason)));
        }
        let request = match local::call(self.engine.id(), self.shard, request) {
            Ok(LocalReply::Now(result)) => return Some(result),
            Ok(LocalReply::Later(receiver)) => {
                self.state = State::Waiting(receiver);
                return None;
            }
            Err(request) => request,
        };
        let (reply, receiver) = reply_slot();
        let mailbox = self.engine.mailbox(self.shard);
        match mailbox.try_send(Message::Request { request, reply }) {
            Ok(()) => return self.sent(receiver),
            Err(Refused::Full(message)) => {
                self.state = State::Sending(Box::new(mailbox.send_when_room(message)), receiver);
            }
            Err(Refused::Gone) => return Some(Err(self.engine.gone())),
        }
        None
    }

    /// The message is in the mailbox; if the shard has ended, perhaps for ever.
    fn sent(&mut self, receiver: ReplyReceiver) -> Option<Result<Reply>> {
        if self.engine.mailbox(self.shard).is_dead() {
            return Some(receiver.try_recv().ok().flatten().unwrap_or_else(|| Err(self.engine.gone())));
        }
        self.state = State::Waiting(receiver);
        None
    }

    /// Whether the call waits for others of its thread to send theirs.
    fn lets_others_send(&mut self) -> bool {
        if !matches!(self.state, State::Waiting(_)) || local::is_shard_thread() {
            return false;
        }
        let Some(number) = pace::sent() else { return false };
        if let State::Waiting(receiver) = std::mem::replace(&mut self.state, State::Done) {
            self.state = State::Yielding(receiver, number);
        }
        true
    }

    /// Looks for the reply for a moment, so that neither side has to sleep.
    fn spin(&mut self) -> Option<Result<Reply>> {
        let State::Waiting(receiver) = &mut self.state else { return None };
        if local::is_shard_thread() {
            return None;
        }
        let engine = &self.engine;
        engine.spinner().spin(|| match receiver.try_recv() {
            Ok(Some(result)) => Some(result),
            Ok(None) => None,
            Err(Gone) => Some(Err(engine.gone())),
        })
    }

    fn poll_call(&mut self, context: &mut Context<'_>) -> Poll<Result<Reply>> {
        if let State::Beginning(begin, ..) = &mut self.state {
            let begun = futures::ready!(begin.poll_unpin(context));
            let State::Beginning(_, run, command) = std::mem::replace(&mut self.state, State::Done) else {
                unreachable!("the state was looked at above");
            };
            if let Err(error) = begun {
                return Poll::Ready(Err(error));
            }
            self.state = State::Step(run, command);
        }
        if matches!(self.state, State::Unsent(_) | State::Step(..)) {
            if let Some(result) = self.start() {
                return Poll::Ready(result);
            }
            if self.lets_others_send() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(result) = self.spin() {
                return Poll::Ready(result);
            }
        }
        if let State::Yielding(_, number) = self.state {
            pace::went_first(number);
            if let State::Yielding(receiver, _) = std::mem::replace(&mut self.state, State::Done) {
                self.state = State::Waiting(receiver);
            }
            if let Some(result) = self.spin() {
                return Poll::Ready(result);
            }
        }
        if matches!(self.state, State::Beginning(..)) {
            return self.poll_call(context);
        }
        if let State::Sending(sending, _) = &mut self.state {
            let sent = futures::ready!(sending.poll_unpin(context));
            let State::Sending(_, receiver) = std::mem::replace(&mut self.state, State::Done) else {
                unreachable!("the state was looked at above");
            };
            if sent.is_err() {
                return Poll::Ready(Err(self.engine.gone()));
            }
            self.engine.mailbox(self.shard).announce();
            if let Some(result) = self.sent(receiver) {
                return Poll::Ready(result);
            }
        }
        let State::Waiting(receiver) = &mut self.state else {
            return Poll::Ready(Err(Error::InvalidOperation("an operation was polled after it had finished".into())));
        };
        let result = futures::ready!(receiver.poll_unpin(context));
        Poll::Ready(result.unwrap_or_else(|Gone| Err(self.engine.gone())))
    }
}

impl Future for Call {
    type Output = Result<Reply>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = futures::ready!(self.poll_call(context));
        self.state = State::Done;
        let snapshot = result.as_ref().ok().and_then(|reply| reply.snapshot);
        if let Some((progress, snapshot)) = self.progress.take().zip(snapshot) {
            progress.learn(snapshot);
        }
        Poll::Ready(result)
    }
}
