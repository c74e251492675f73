//! Waiting: a thread sleeps until a future is ready.
//!
//! - A call looks for its reply for a moment before it says that it has to wait (`runtime/spin`). A thread sleeps after
//!   that only.
//! - A closure of a transaction waits inside of a wait. So what wakes one of them is noted with it, not only with the
//!   thread, and `futures::executor::block_on`, which refuses to be nested, will not do.
//! - A thread that runs a shard is refused: it may be the one that it would wait for.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::base::error::{Error, Result};
use crate::runtime::local;

/// A thread that waits for one future.
struct Sleeper {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Waits for an operation.
///
/// # Errors
/// Its own; `InvalidOperation` on a thread that runs a shard.
pub(super) fn wait<T, E: From<Error>>(operation: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    check_thread()?;
    block_on(operation)
}

/// Whether this thread may wait.
pub(super) fn check_thread() -> Result<()> {
    if local::is_shard_thread() {
        let reason = "a blocking call on a thread that runs a shard would stop the shard: await the operations of \
                      the LocalRun that spawn_on gives";
        return Err(Error::InvalidOperation(reason.into()));
    }
    Ok(())
}

/// Waits for a future, on a thread that may.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let sleeper = Arc::new(Sleeper { thread: thread::current(), is_woken: AtomicBool::new(false) });
    let waker = Waker::from(sleeper.clone());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while !sleeper.is_woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::channel::oneshot;

    use super::*;

    fn later(number: u32) -> oneshot::Receiver<u32> {
        let (sender, receiver) = oneshot::channel();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            sender.send(number).unwrap();
        });
        receiver
    }

    #[test]
    fn a_thread_sleeps_until_a_future_is_ready() {
        assert_eq!(block_on(later(1)), Ok(1));
        assert_eq!(block_on(async { later(1).await.unwrap() + later(2).await.unwrap() }), 3);
    }

    #[test]
    fn a_future_is_woken_even_if_another_wait_took_the_threads_token() {
        let mut is_second = false;
        block_on(std::future::poll_fn(|context| {
            if std::mem::replace(&mut is_second, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            assert_eq!(block_on(later(1)), Ok(1));
            Poll::Pending
        }));
    }
}
