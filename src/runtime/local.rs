//! On the shard: calls made by tasks that run on the thread of the shard they talk to.
//!
//! - Such a call is a function call: no mailbox, no waking.
//! - Everything is per thread; a thread runs at most one shard.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

use super::reply::ReplyReceiver;
use crate::base::error::Result;
use crate::primitive::output::Reply;
use crate::shard::input::Request;

/// What became of a call made on the shard's own thread.
pub(crate) enum LocalReply {
    /// It is answered.
    Now(Result<Reply>),
    /// It waits for the disk.
    Later(ReplyReceiver),
}

/// A shard as seen from its own thread.
pub(crate) trait LocalShard {
    /// Which engine and which shard it is.
    fn identity(&self) -> (u64, usize);
    /// Handles a request at once.
    fn call(&self, request: Request) -> LocalReply;
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<dyn LocalShard>>> = const { RefCell::new(None) };
}

/// Says which shard runs on this thread.
pub(crate) fn enter(shard: Rc<dyn LocalShard>) {
    CURRENT.with_borrow_mut(|current| *current = Some(shard));
}

/// Says that no shard runs on this thread any more.
pub(crate) fn leave() {
    CURRENT.with_borrow_mut(Option::take);
}

/// Whether any shard runs on this thread; such a thread must never block or spin for another.
pub(crate) fn is_shard_thread() -> bool {
    CURRENT.try_with(|current| current.borrow().is_some()).unwrap_or(false)
}

/// Calls the shard if it is this thread's; gives the request back if it is not.
pub(crate) fn call(engine: u64, shard: usize, request: Request) -> Result<LocalReply, Request> {
    let current = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
    match current {
        Some(local) if local.identity() == (engine, shard) => Ok(local.call(request)),
        _ => Err(request),
    }
}

/// What a panic said.
pub(crate) fn describe_panic(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
