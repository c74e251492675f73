//! A thread that runs one main task and others beside it.
//!
//! - The main task and each of the others that was woken take turns.
//! - While nothing was woken the thread is parked, until the alarm at the latest. It is woken once per sleep.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;

/// Wakes the thread.
struct Signal {
    thread: Thread,
    is_set: AtomicBool,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_set.swap(true, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

/// The tasks of one thread.
#[derive(Default)]
pub(super) struct Executor {
    /// Tasks that have not run yet.
    spawned: RefCell<Vec<LocalBoxFuture<'static, ()>>>,
    /// When the main task is polled even if nobody wakes it: it said so when it was last.
    alarm: Cell<Option<Instant>>,
}

impl Executor {
    /// Runs a task beside the main one. It is dropped when that ends.
    pub(super) fn spawn(&self, task: LocalBoxFuture<'static, ()>) {
        self.spawned.borrow_mut().push(task);
    }

    /// Runs the main task to its end on this thread.
    pub(super) fn run(&self, main: impl Future<Output = ()>) {
        let signal = Arc::new(Signal { thread: std::thread::current(), is_set: AtomicBool::new(false) });
        let waker = Waker::from(signal.clone());
        let context = &mut Context::from_waker(&waker);
        let mut main = pin!(main);
        let mut tasks = FuturesUnordered::new();
        loop {
            signal.is_set.store(false, Ordering::SeqCst);
            self.alarm.set(None);
            if main.as_mut().poll(context).is_ready() {
                // Tasks may hold what holds this executor.
                return drop(self.spawned.take());
            }
            tasks.extend(self.spawned.take());
            while let Poll::Ready(Some(())) = tasks.poll_next_unpin(context) {}
            if !signal.is_set.load(Ordering::SeqCst) {
                self.park();
            }
        }
    }

    fn park(&self) {
        match self.alarm.get() {
            Some(at) => std::thread::park_timeout(at.saturating_duration_since(Instant::now())),
            None => std::thread::park(),
        }
    }
}

/// A timer of the main task, which has one at a time.
pub(super) struct Timer {
    /// `None` is beyond all time.
    at: Option<Instant>,
    executor: Rc<Executor>,
}

impl Timer {
    pub(super) fn new(wait: Duration, executor: Rc<Executor>) -> Self {
        Self { at: Instant::now().checked_add(wait), executor }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.at.is_some_and(|at| at <= Instant::now()) {
            return Poll::Ready(());
        }
        self.executor.alarm.set(self.at);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::channel::oneshot;

    use super::*;

    #[test]
    fn it_sleeps_until_a_timer_is_over_or_another_thread_wakes_a_task() {
        let executor = Rc::new(Executor::default());
        let (sender, receiver) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        executor.spawn(async move { done.send(receiver.await.unwrap()).unwrap() }.boxed_local());
        let own = executor.clone();
        executor.run(async move {
            let start = Instant::now();
            Timer::new(Duration::from_millis(20), own.clone()).await;
            assert!(start.elapsed() >= Duration::from_millis(20));
            let other = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                sender.send(7).unwrap();
            });
            assert_eq!(is_done.await, Ok(7));
            other.join().unwrap();
            assert_eq!(Timer::new(Duration::MAX, own).now_or_never(), None);
        });
    }

    #[test]
    fn tasks_end_with_the_main_one_though_they_never_ran() {
        let executor = Rc::new(Executor::default());
        let own = executor.clone();
        executor.clone().run(async move {
            let task = own.clone();
            own.spawn(async move { drop(task) }.boxed_local());
        });
        assert_eq!(Rc::strong_count(&executor), 1, "nothing holds it but this test");
    }
}
