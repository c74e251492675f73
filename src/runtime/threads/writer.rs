//! The writer: the thread on which a shard's segments are opened and written, one call after the other.

use std::cell::RefCell;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use futures::channel::oneshot;

use crate::runtime::sys;

type Job = Box<dyn FnOnce() + Send>;

/// A way to the thread, which lives as long as there is one.
#[derive(Clone, Debug)]
pub(super) struct Jobs(Sender<Job>);

impl Jobs {
    /// Does something there.
    ///
    /// # Errors
    /// What it returns; `Other` if the thread has ended by a panic.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = oneshot::channel();
        let job = Box::new(move || {
            let _ = done.send(job());
        });
        // A job that is not taken is dropped, and the result with it.
        let _ = self.0.send(job);
        result.await.unwrap_or_else(|_| Err(io::Error::other("the thread that writes the log has ended")))
    }
}

/// The thread, once there is one.
pub(super) struct Writer {
    name: String,
    cpus: Vec<usize>,
    started: RefCell<Option<(Jobs, JoinHandle<()>)>>,
}

impl Writer {
    /// One that may run on these CPUs, whichever its starter stays on.
    pub(super) const fn new(name: String, cpus: Vec<usize>) -> Self {
        Self { name, cpus, started: RefCell::new(None) }
    }

    /// The way to the thread, which is started if it is not there.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub(super) fn jobs(&self) -> io::Result<Jobs> {
        let mut started = self.started.borrow_mut();
        if let Some((jobs, _)) = &*started {
            return Ok(jobs.clone());
        }
        let (sender, receiver) = channel::<Job>();
        let cpus = self.cpus.clone();
        let work = move || {
            sys::stay_on(&cpus);
            for job in receiver {
                job();
            }
        };
        let thread = std::thread::Builder::new().name(self.name.clone()).spawn(work)?;
        let jobs = Jobs(sender);
        *started = Some((jobs.clone(), thread));
        Ok(jobs)
    }

    /// Waits for the end of the thread, when all other ways to it are gone.
    pub(super) fn join(&self) {
        if let Some((jobs, thread)) = self.started.take() {
            drop(jobs);
            let _ = thread.join();
        }
    }
}
