//! Headroom: memory that a shard will need soon, got in one go.
//!
//! - The allocator of most Linux systems enlarges a thread's heap page by page: each costs a system call and a page fault
//!   in the midst of somebody's call. A block that is asked for and given back leaves room for many, for one system call.
//! - The pages themselves come one by one: two dozen at once would be a pause of many calls.
//! - Nothing is kept. For another allocator it is a block that comes and goes.

use std::cell::Cell;

/// A block of that many bytes comes from the heap: the allocator gets larger ones from the kernel and returns them there.
const BLOCK: usize = 96 * 1024;
/// By how much a shard grows before it gets more; what it counts is less than what it takes.
const STEP: u64 = 64 * 1024;

/// How far a shard can grow in the room there is.
#[derive(Debug, Default)]
pub(super) struct Headroom {
    until: Cell<u64>,
}

impl Headroom {
    /// A shard uses that many bytes. Makes room for more, now and then, and returns whether it did.
    pub(super) fn note(&self, used: u64) -> bool {
        if used < self.until.get() {
            return false;
        }
        self.until.set(used + STEP);
        // Or the compiler sees that nobody uses it.
        drop(std::hint::black_box(Vec::<u8>::with_capacity(BLOCK)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_grows_gets_room_now_and_then_and_one_that_does_not_gets_none() {
        let headroom = Headroom::default();
        let times = |uses: &[u64]| uses.iter().filter(|used| headroom.note(**used)).count();
        let mut uses: Vec<u64> = (0..16 * STEP).step_by(1_024).collect();
        assert_eq!(times(&uses), 16);
        uses.reverse();
        assert_eq!(times(&uses), 0);
        assert_eq!(times(&[15 * STEP; 100]), 0);
    }
}
