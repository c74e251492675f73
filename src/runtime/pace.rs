//! Pace: whether a thread asks one thing after the other or many at once.
//!
//! - Who asks one thing after the other spins for each answer. Where many futures run on the thread, that would make them
//!   take turns at the shard: then a call lets the others send theirs first, and looks for its answer after that.
//! - It is learned from what happens: now and then a call lets others go first, to see whether there are any.

use std::cell::Cell;

/// How many calls there are for each that lets others go first to see whether there are any.
const TRIES: u32 = 64;

thread_local! {
    static PACE: Pace = const { Pace { sent: Cell::new(0), together: Cell::new(false) } };
}

/// What a thread has done lately.
struct Pace {
    sent: Cell<u32>,
    /// The last time a call let others go first, there were some.
    together: Cell<bool>,
}

/// A call of this thread was sent. Returns its number if it should let others go first.
pub(crate) fn sent() -> Option<u32> {
    let number = PACE.try_with(|pace| {
        let number = pace.sent.get().wrapping_add(1);
        pace.sent.set(number);
        (pace.together.get() || number.is_multiple_of(TRIES)).then_some(number)
    });
    number.ok().flatten()
}

/// The others have gone first, if there were any.
pub(crate) fn went_first(number: u32) {
    // A thread that ends learns nothing.
    let _ = PACE.try_with(|pace| pace.together.set(pace.sent.get() != number));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_learns_that_others_send_too_and_forgets_it() {
        let alone = |times: u32| (0..times).filter_map(|_| sent().inspect(|number| went_first(*number))).count();
        assert_eq!(alone(10 * TRIES), 10, "one of so many looks");
        let first = (0..TRIES).find_map(|_| sent()).unwrap();
        assert!(sent().is_none());
        went_first(first);
        let second = sent().unwrap();
        assert!(sent().is_some(), "there were others: now each lets the others go first");
        went_first(second);
        assert_eq!(alone(1), 1);
        assert!(alone(TRIES) < 3, "there was none");
    }
}
