//! The thread of a shard with an executor of glommio's.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use glommio::timer::Timer;
use glommio::{GlommioError, LocalExecutorBuilder, Placement, PoolPlacement};

use super::requirements::with_locked_memory;
use super::segment_file::GlommioFile;
use crate::base::error::Error;
use crate::runtime::host::Host;
use crate::runtime::shard_thread::{ShardThread, Started};

/// How long a pause lasts: it ends on the way through the reactor.
const PAUSE: Duration = Duration::from_micros(2);

struct Glommio;

impl Host for Glommio {
    type File = GlommioFile;
    type Timer = Timer;
    /// T1.
    const HEARTBEAT: Option<Duration> = Some(Duration::from_millis(20));

    fn timer(&self, wait: Duration) -> Timer {
        Timer::new(wait)
    }

    fn spawn(&self, task: LocalBoxFuture<'static, ()>) {
        glommio::spawn_local(task).detach();
    }

    /// T10: the reactor has its turn only when no task is runnable. So this one waits for a timer, which is over when the
    /// executor comes to it: it need not park.
    async fn pause(&self) {
        let (mut timer, start) = (Timer::new(PAUSE), Instant::now());
        std::future::poll_fn(|context| {
            let polled = timer.poll_unpin(context);
            while polled.is_pending() && start.elapsed() <= PAUSE {
                std::hint::spin_loop();
            }
            polled
        })
        .await;
    }

    fn open(&self, path: PathBuf) -> LocalBoxFuture<'static, io::Result<GlommioFile>> {
        async move { GlommioFile::open(&path).await }.boxed_local()
    }
}

/// Runs a shard until it has stopped, with so many bytes of locked memory for the executor's buffers.
pub(crate) fn run(thread: ShardThread, started: Started, io_memory: usize) {
    let number = thread.number;
    let placement = thread.core.map_or(Placement::Unbound, Placement::Fixed);
    let make = || {
        LocalExecutorBuilder::new(placement.clone())
            .name(&format!("in-mem-{number}"))
            .io_memory(io_memory)
            .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
            .make()
    };
    let executor = match with_locked_memory(make, GlommioError::raw_os_error) {
        Ok(executor) => executor,
        Err(error) => {
            let hint = match error.raw_os_error() {
                Some(libc::ENOMEM) => {
                    "there is too little locked memory for so many shards, open fewer of them or raise the limit \
                     (ulimit -l, LimitMEMLOCK=; 512 KiB are enough for two): "
                }
                Some(libc::EMFILE | libc::ENFILE) => "there are too many open files, raise the limit (ulimit -n): ",
                _ => "",
            };
            let reason = format!("{hint}an executor cannot be made: shard={number} reason={error}");
            let _ = started.send(Err(Error::RuntimeUnavailable(reason)));
            return;
        }
    };
    thread.live(Glommio, started, |life| {
        executor.run(async {
            // The first timer and the first trip through the reactor are slow: take them before anybody waits.
            glommio::timer::sleep(Duration::from_micros(1)).await;
            life.await;
        });
    });
}
