//! Turns: letting other tasks run, on any runtime, without a timer.

use std::task::Poll;

/// Lets other tasks run once.
pub(crate) async fn let_others_run() {
    let mut is_later = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut is_later, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
