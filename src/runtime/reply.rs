//! Reply slots: where a shard leaves the answer to a request.
//!
//! - Who waits looks at one line of memory, which is written once; the answer is on others. So looking does not slow down who
//!   writes.
//! - The thread that waited uses a slot again: a call allocates nothing, and the shard frees nothing.
//! - A sender that is dropped without an answer says that there will be none.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use crate::base::error::Result;
use crate::primitive::output::Reply;

/// Nobody sleeps.
const PENDING: u8 = 0;
/// Who waits has left a waker.
const ASLEEP: u8 = 1;
/// The answer is there, or will never be.
const DONE: u8 = 2;

/// How many slots a thread keeps to use again.
const KEPT: usize = 64;

/// There will be no answer: the shard is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line<T>(T);

#[derive(Debug, Default)]
struct Slot {
    state: Line<AtomicU8>,
    answer: Line<Mutex<Option<Result<Reply>>>>,
    waker: AtomicWaker,
}

impl Slot {
    fn take(&self) -> Result<Result<Reply>, Gone> {
        self.answer.0.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(Gone)
    }
}

/// Where a reply goes.
#[derive(Debug)]
pub(crate) struct ReplySender(Arc<Slot>);

/// Where a reply comes from.
#[derive(Debug)]
pub(crate) struct ReplyReceiver(Arc<Slot>);

thread_local! {
    /// Slots that calls of this thread have used, oldest first: the shard lets go of one a moment after it has answered.
    static USED: RefCell<VecDeque<Arc<Slot>>> = const { RefCell::new(VecDeque::new()) };
}

/// A slot, seen from both sides.
pub(crate) fn reply_slot() -> (ReplySender, ReplyReceiver) {
    let slot = USED.try_with(|used| used_slot(&mut used.borrow_mut())).ok().flatten().unwrap_or_default();
    (ReplySender(slot.clone()), ReplyReceiver(slot))
}

fn used_slot(used: &mut VecDeque<Arc<Slot>>) -> Option<Arc<Slot>> {
    let mut slot = used.pop_front()?;
    if let Some(unshared) = Arc::get_mut(&mut slot) {
        unshared.state.0 = AtomicU8::new(PENDING);
        Some(slot)
    } else {
        used.push_back(slot);
        None
    }
}

impl ReplySender {
    /// Answers. Nobody hears it if the receiver was dropped.
    pub(crate) fn send(self, answer: Result<Reply>) {
        *self.0.answer.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        if self.0.state.0.swap(DONE, Ordering::AcqRel) == ASLEEP {
            self.0.waker.wake();
        }
    }
}

impl ReplyReceiver {
    /// The answer, if it is there. It is given out once.
    ///
    /// # Errors
    /// There will be none.
    pub(crate) fn try_recv(&self) -> Result<Option<Result<Reply>>, Gone> {
        if self.0.state.0.load(Ordering::Acquire) == DONE { self.0.take().map(Some) } else { Ok(None) }
    }
}

impl Future for ReplyReceiver {
    type Output = Result<Result<Reply>, Gone>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = &self.0;
        if slot.state.0.load(Ordering::Acquire) == DONE {
            return Poll::Ready(slot.take());
        }
        slot.waker.register(context.waker());
        match slot.state.0.compare_exchange(PENDING, ASLEEP, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(ASLEEP) => Poll::Pending,
            Err(_) => Poll::Ready(slot.take()),
        }
    }
}

impl Drop for ReplyReceiver {
    fn drop(&mut self) {
        // One that is not answered yet belongs to the shard.
        if self.0.state.0.load(Ordering::Acquire) != DONE {
            return;
        }
        drop(self.0.take());
        drop(self.0.waker.take());
        // A thread that ends keeps nothing.
        let _ = USED.try_with(|used| {
            let mut used = used.borrow_mut();
            if used.len() < KEPT {
                used.push_back(self.0.clone());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures::FutureExt;
    use futures::executor::block_on;
    use futures::task::noop_waker;

    use super::*;
    use crate::primitive::output::Output;

    const fn answer(count: u64) -> Reply {
        Reply::read(Output::Count(count))
    }

    #[test]
    fn an_answer_reaches_who_sleeps_and_who_looks() {
        for count in 0..2_000 {
            let (sender, receiver) = reply_slot();
            let shard = thread::spawn(move || sender.send(Ok(answer(count))));
            let heard = if count % 2 == 0 {
                block_on(receiver)
            } else {
                loop {
                    match receiver.try_recv() {
                        Ok(None) => std::hint::spin_loop(),
                        Ok(Some(heard)) => break Ok(heard),
                        Err(gone) => break Err(gone),
                    }
                }
            };
            assert_eq!(heard.unwrap().unwrap(), answer(count));
            shard.join().unwrap();
        }
    }

    #[test]
    fn who_waits_hears_that_there_will_be_no_answer() {
        let (sender, receiver) = reply_slot();
        let waiting = thread::spawn(move || block_on(receiver));
        drop(sender);
        assert_eq!(waiting.join().unwrap().map(|_| ()), Err(Gone));
        let (sender, receiver) = reply_slot();
        drop(sender);
        assert_eq!(receiver.try_recv().map(|_| ()), Err(Gone));
    }

    #[test]
    fn the_last_waker_is_woken() {
        let (sender, mut receiver) = reply_slot();
        assert!(receiver.poll_unpin(&mut Context::from_waker(&noop_waker())).is_pending());
        let waiting = thread::spawn(move || block_on(receiver));
        thread::yield_now();
        sender.send(Ok(answer(7)));
        assert!(waiting.join().unwrap().is_ok());
    }

    #[test]
    fn a_slot_is_used_again_when_both_sides_have_let_go_and_never_tells_an_old_answer() {
        let (sender, receiver) = reply_slot();
        let address = Arc::as_ptr(&receiver.0);
        sender.send(Ok(answer(1)));
        drop(receiver);
        let (sender, receiver) = reply_slot();
        assert_eq!(Arc::as_ptr(&receiver.0), address);
        assert_eq!(receiver.try_recv().unwrap().map(|_| ()), None, "what nobody took is gone");
        drop(receiver);
        let (other, receiver) = reply_slot();
        assert_ne!(Arc::as_ptr(&receiver.0), address, "the first is still to be answered");
        drop((sender, other));
        assert_eq!(receiver.try_recv().map(|_| ()), Err(Gone));
    }
}
