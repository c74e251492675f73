//! Calls: one request on its way to a shard and its reply on the way back.
//!
//! - Lazy: nothing is sent before the first poll. Dropped before it is sent, nothing happened; dropped after that, the
//!   shard finishes what was asked and nobody hears of it.
//! - An operation of a transaction gets its number when it is sent, under the transaction's lock, so that numbers
//!   reach the shard in order.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::channel::oneshot::Canceled;

use super::engine::Engine;
use super::local::{self, LocalReply};
use super::mailbox::{Message, Refused, ReplyReceiver, Sending};
use crate::base::error::{Error, Result};
use crate::base::run_id::RunId;
use crate::primitive::command::{Command, TraceCommand};
use crate::primitive::output::Reply;
use crate::shard::input::{Request, TransactionNumber};

/// What the caller's side keeps of a transaction.
#[derive(Debug)]
pub(crate) struct Progress {
    number: TransactionNumber,
    state: Mutex<ProgressState>,
}

#[derive(Debug, Default)]
struct ProgressState {
    operations: u64,
    ended: bool,
}

impl Progress {
    pub(crate) fn new(number: TransactionNumber) -> Self {
        Self { number, state: Mutex::default() }
    }

    /// Ends the transaction. Returns how many operations were sent, or `None` if it had ended before.
    pub(crate) fn end(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (!std::mem::replace(&mut state.ended, true)).then_some(state.operations)
    }

    pub(crate) const fn number(&self) -> TransactionNumber {
        self.number
    }
}

/// One request and its reply.
#[derive(Debug)]
pub(crate) struct Call {
    engine: Arc<Engine>,
    shard: usize,
    state: State,
}

enum State {
    Unsent(Request),
    Step(Arc<Progress>, RunId, Command),
    Sending(Box<Sending>, ReplyReceiver),
    Waiting(ReplyReceiver),
    Done,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsent(_) | Self::Step(..) => "Unsent",
            Self::Sending(..) => "Sending",
            Self::Waiting(_) => "Waiting",
            Self::Done => "Done",
        })
    }
}

impl Call {
    pub(crate) const fn new(engine: Arc<Engine>, shard: usize, request: Request) -> Self {
        Self { engine, shard, state: State::Unsent(request) }
    }

    /// The next operation of a transaction.
    pub(crate) const fn step(
        engine: Arc<Engine>,
        shard: usize,
        progress: Arc<Progress>,
        run: RunId,
        command: Command,
    ) -> Self {
        Self { engine, shard, state: State::Step(progress, run, command) }
    }

    /// Sends the request if that has not happened yet. `Some` if it is answered already.
    pub(crate) fn start(&mut self) -> Option<Result<Reply>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Unsent(request) => self.send(request),
            State::Step(progress, run, command) => {
                let mut state = progress.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.ended {
                    let ended = "the transaction has ended, begin another one";
                    return Some(Err(Error::InvalidOperation(ended.into())));
                }
                let operation = state.operations;
                state.operations += 1;
                self.send(Request::Step { transaction: progress.number, operation, run, command })
            }
            state => {
                self.state = state;
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
        let (reply, receiver) = futures::channel::oneshot::channel();
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
    fn sent(&mut self, mut receiver: ReplyReceiver) -> Option<Result<Reply>> {
        if self.engine.mailbox(self.shard).is_dead() {
            return Some(receiver.try_recv().ok().flatten().unwrap_or_else(|| Err(self.engine.gone())));
        }
        self.state = State::Waiting(receiver);
        None
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
            Err(Canceled) => Some(Err(engine.gone())),
        })
    }

    fn poll_call(&mut self, context: &mut Context<'_>) -> Poll<Result<Reply>> {
        if matches!(self.state, State::Unsent(_) | State::Step(..))
            && let Some(result) = self.start().or_else(|| self.spin())
        {
            return Poll::Ready(result);
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
        Poll::Ready(result.unwrap_or_else(|Canceled| Err(self.engine.gone())))
    }
}

impl Future for Call {
    type Output = Result<Reply>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = futures::ready!(self.poll_call(context));
        self.state = State::Done;
        Poll::Ready(result)
    }
}
