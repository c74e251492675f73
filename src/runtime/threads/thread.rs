//! The thread of a shard with an executor of our own.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::executor::{Executor, Timer};
use super::segment_file::WrittenFile;
use super::writer::Writer;
use crate::runtime::host::Host;
use crate::runtime::shard_thread::{ShardThread, Started};
use crate::runtime::sys;
use crate::runtime::turn::let_others_run;

struct Threads {
    executor: Rc<Executor>,
    writer: Rc<Writer>,
}

impl Host for Threads {
    type File = WrittenFile;
    type Timer = Timer;
    const HEARTBEAT: Option<Duration> = None;

    fn timer(&self, wait: Duration) -> Timer {
        Timer::new(wait, self.executor.clone())
    }

    fn spawn(&self, task: LocalBoxFuture<'static, ()>) {
        self.executor.spawn(task);
    }

    async fn pause(&self) {
        let_others_run().await;
    }

    fn open(&self, path: PathBuf) -> LocalBoxFuture<'static, io::Result<WrittenFile>> {
        let jobs = self.writer.jobs();
        async move { WrittenFile::open(path, jobs?).await }.boxed_local()
    }
}

/// Runs a shard until it has stopped.
pub(crate) fn run(thread: ShardThread, started: Started) {
    let writer = Rc::new(Writer::new(format!("in-mem-{}-log", thread.number), sys::allowed_cpus()));
    if let Some(core) = thread.core {
        sys::stay_on(&[core]);
    }
    let executor = Rc::new(Executor::default());
    let host = Threads { executor: executor.clone(), writer: writer.clone() };
    thread.live(host, started, |life| executor.run(life));
    // What it has open is locked until then.
    writer.join();
}
