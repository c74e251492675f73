//! Snapshots as the runtime takes them: on a thread of their own, while the shards serve.
//!
//! - A shard is asked for one small piece at a time, past its mailbox; between two questions the thread sleeps, so that the
//!   callers have the shard most of the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::engine::Health;
use super::files::Files;
use super::mailbox::{Mailbox, Message};
use super::reply::{Gone, reply_slot};
use crate::base::error::{Error, Result};
use crate::disk::directory::Directory;
use crate::disk::file_system::FileSystem;
use crate::disk::snapshotting::{Answered, Snapshotting, Taken};
use crate::format::manifest::Manifest;
use crate::primitive::output::Reply;
use crate::shard::input::Request;

/// How long to wait for transactions that are being committed.
const DOUBT: Duration = Duration::from_secs(30);
/// How often the thread looks for an answer.
const LOOK: Duration = Duration::from_micros(100);
/// How long it lets the shard alone after each part: the shard is away from its callers for some tens of microseconds.
const NAP: Duration = Duration::from_millis(1);

/// How much less than a shard and its callers this thread gets where there are not enough cores: a tenth.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Gives way to the shards and their callers from now on.
fn step_back() {
    // Elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICE);
}

/// Why a snapshot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// Somebody wants it.
    Asked,
    /// The log is long.
    Size,
    /// It is time for one, unless no more than so many records have been logged.
    Time { records: u64 },
}

/// Who takes snapshots of the shards; one at a time.
#[derive(Clone, Debug)]
pub(crate) struct Snapshotter {
    mailboxes: Vec<Mailbox>,
    health: Arc<Health>,
    turn: Arc<Mutex<()>>,
    cancelled: Arc<AtomicBool>,
}

impl Snapshotter {
    pub(crate) fn new(mailboxes: Vec<Mailbox>, health: Arc<Health>) -> Self {
        Self { mailboxes, health, turn: Arc::default(), cancelled: Arc::default() }
    }

    /// Whoever takes a snapshot gives up.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// Waits until nobody else takes one.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a snapshot of everything that is committed now, into a directory; every file is durable when this returns.
    /// Blocks while it does, on a thread that has nothing else to do. `None` if there is nothing new.
    ///
    /// # Errors
    /// `Io` if it cannot be written; `Timeout` if a transaction stays in doubt; `Unavailable`.
    pub(crate) fn take(
        &self,
        directory: &Directory<Files>,
        manifest: &Manifest,
        number: u64,
        why: Occasion,
    ) -> Result<Option<Taken>> {
        step_back();
        let _turn = self.turn();
        let salt = || uuid::Uuid::new_v4().as_u64_pair().0;
        let mut snapshotting = Snapshotting::new(manifest, number, why == Occasion::Asked, salt);
        let taken = self.dump(directory, &mut snapshotting, why);
        if taken.is_err() {
            self.mailboxes.iter().for_each(|mailbox| {
                let (reply, _) = reply_slot();
                mailbox.send_urgent(Message::Request { request: snapshotting.end(), reply });
            });
        }
        taken.map(|is_whole| is_whole.then(|| snapshotting.finish()))
    }

    /// Returns whether there is one.
    fn dump(
        &self,
        directory: &Directory<Files>,
        snapshotting: &mut Snapshotting<<Files as FileSystem>::File>,
        why: Occasion,
    ) -> Result<bool> {
        let mut in_doubt_since = None;
        while let Some((shard, request)) = snapshotting.next() {
            let is_new = why != Occasion::Time { records: snapshotting.records() };
            if matches!(request, Request::ChooseDump { .. }) && !is_new {
                return Ok(false);
            }
            let is_part = matches!(request, Request::Dump { .. });
            let reply = self.ask(shard as usize, request)?;
            match snapshotting.answered(directory, reply)? {
                Answered::WentOn => {
                    in_doubt_since = None;
                    if is_part {
                        std::thread::sleep(NAP);
                    }
                }
                Answered::Wait => {
                    let since: &Instant = in_doubt_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > DOUBT {
                        return Err(Error::Timeout(DOUBT));
                    }
                    std::thread::sleep(NAP);
                }
            }
        }
        Ok(true)
    }

    fn gone(&self) -> Error {
        Error::Unavailable(self.health.failed().unwrap_or_else(|| "the database is closed".into()))
    }

    fn ask(&self, shard: usize, request: Request) -> Result<Reply> {
        let (reply, receiver) = reply_slot();
        if !self.mailboxes[shard].send_urgent(Message::Request { request, reply }) {
            return Err(self.gone());
        }
        while !self.cancelled.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK);
            match receiver.try_recv() {
                Ok(Some(answer)) => return answer,
                Ok(None) if !self.mailboxes[shard].is_dead() => {}
                Ok(None) | Err(Gone) => break,
            }
        }
        Err(self.gone())
    }
}
