//! Operations: what every method that touches a shard returns.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::base::error::{Error, Result};
use crate::primitive::output::Reply;
use crate::runtime::call::Call;

/// One operation on the database: a future that borrows nothing and does nothing before it is awaited.
///
/// It can be spawned, joined, selected and stored. It needs no particular runtime.
///
/// # Cancel safety
/// Dropped before its first poll, nothing has happened. Dropped later, the operation happens as a whole or not at all,
/// and its result is lost.
#[must_use = "an operation does nothing until it is awaited"]
pub struct Op<T> {
    state: State<T>,
}

enum State<T> {
    Call(Call, fn(Reply) -> Result<T>),
    Done(Option<Result<T>>),
    Steps(Pin<Box<dyn Future<Output = Result<T>> + Send>>),
}

impl<T> Op<T> {
    /// One request, and how its reply reads.
    pub(crate) const fn call(call: Call, read: fn(Reply) -> Result<T>) -> Self {
        Self { state: State::Call(call, read) }
    }

    /// An operation whose result is known before it is sent.
    pub(crate) const fn done(result: Result<T>) -> Self {
        Self { state: State::Done(Some(result)) }
    }

    /// An operation of several requests.
    pub(crate) fn steps(steps: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self { state: State::Steps(Box::pin(steps)) }
    }

    /// The same operation, its result changed.
    pub(crate) fn then<U>(self, change: impl FnOnce(T) -> Result<U> + Send + 'static) -> Op<U>
    where
        T: Send + 'static,
    {
        Op::steps(async move { change(self.await?) })
    }
}

// Nothing in an operation refers to itself; what is pinned is pinned in a box.
impl<T> Unpin for Op<T> {}

impl<T> Future for Op<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Call(call, read) => {
                let reply = futures::ready!(Pin::new(call).poll(context))?;
                Poll::Ready(read(reply))
            }
            State::Done(result) => Poll::Ready(result.take().unwrap_or_else(|| {
                Err(Error::InvalidOperation("an operation was polled after it had finished".into()))
            })),
            State::Steps(steps) => {
                let result = futures::ready!(steps.as_mut().poll(context));
                self.state = State::Done(None);
                Poll::Ready(result)
            }
        }
    }
}

impl<T> fmt::Debug for Op<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Op").finish_non_exhaustive()
    }
}

/// Makes a function that reads one kind of output: `read!(Count(count) => count)`.
macro_rules! read {
    ($variant:ident $(($($field:ident),*))? => $value:expr) => {
        |reply: crate::primitive::output::Reply| match reply.output {
            crate::primitive::output::Output::$variant $(($($field),*))? => Ok($value),
            other => unreachable!("the shard answered another question: {other:?}"),
        }
    };
}
pub(crate) use read;
