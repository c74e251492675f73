//! Adaptive spinning: both sides of a call look for each other for a moment before they sleep.
//!
//! - A parked thread costs tens of microseconds to wake, a spinning one less than two.
//! - Nobody spins when more threads of this process are at work than there are cores: the spinner would take the core
//!   that the other side needs.
//! - A side whose spins do not pay stops for a while, longer each time.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Threads of this process that are at work in a shard or spinning, over all databases.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// How long to spin by default, where there is more than one core.
pub(crate) const WINDOW: Duration = Duration::from_micros(40);
/// The most spins skipped after a run of fruitless ones.
const LONGEST_PAUSE: u32 = 1 << 10;

/// How many cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Counts a thread as busy while it exists.
#[derive(Debug)]
pub(crate) struct Busy;

impl Busy {
    pub(crate) fn start() -> Self {
        BUSY.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One side's spinning.
#[derive(Debug)]
pub(crate) struct Spinner {
    window: Duration,
    cores: usize,
    /// Spins to skip.
    skip: AtomicU32,
    /// How many to skip after the next fruitless one.
    pause: AtomicU32,
}

impl Spinner {
    /// `None` never spins.
    pub(crate) fn new(window: Option<Duration>) -> Self {
        let cores = cores();
        let window = window.filter(|_| cores > 1).unwrap_or(Duration::ZERO);
        Self { window, cores, skip: AtomicU32::new(0), pause: AtomicU32::new(1) }
    }

    /// Calls `look` until it finds something or the window is over. The caller counts as busy meanwhile.
    pub(crate) fn spin<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if self.window.is_zero() || self.is_paused() || BUSY.load(Ordering::Relaxed) > self.cores {
            return None;
        }
        let start = Instant::now();
        loop {
            for _ in 0..32 {
                if let Some(found) = look() {
                    self.pause.store(1, Ordering::Relaxed);
                    return Some(found);
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= self.window {
                self.missed();
                return None;
            }
        }
    }

    fn is_paused(&self) -> bool {
        let take = |skip: u32| skip.checked_sub(1);
        self.skip.load(Ordering::Relaxed) > 0
            && self.skip.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn missed(&self) {
        let pause = self.pause.load(Ordering::Relaxed);
        self.skip.store(pause, Ordering::Relaxed);
        self.pause.store((pause * 2).min(LONGEST_PAUSE), Ordering::Relaxed);
    }
}
