//! The glommio driver: one executor per shard on `io_uring`.
//!
//! The rules that keep glommio 0.9 from hanging, lying or aborting, and where each is kept:
//! - T1 (parks with runnable tasks): default preempt timer, no latency-bound task queues, and a heartbeat timer in every
//!   sleep while anything is under way (`thread`).
//! - T2, T3 (reads that fail or lie): glommio never reads here; segments are opened write-only, which also settles the
//!   probe for polled I/O on the safe side (`segment_file`).
//! - T4 (pending tasks leak, and with them their senders): the mailbox and the replies belong to the thread, not to a task
//!   (`shard_thread`).
//! - T5, T6 (panics kill or hang): every task is caught, and nothing runs on the executor's blocking thread but one guarded
//!   fallback (`worker`, `segment_file`).
//! - T7 (cancelled tasks leak): no task per request, no write is ever dropped in flight (`worker`).
//! - T10 (busy tasks starve I/O): the shard's task goes through the reactor after a batch (`thread`, `worker`).
//! - T11 (panics where `io_uring` is refused): `requirements` asks before the first executor.

pub(crate) mod requirements;
mod segment_file;
pub(crate) mod thread;
