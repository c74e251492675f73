//! On the shard: futures that live where their run's data lives.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::channel::oneshot;

use super::database::Database;
use super::op::Op;
use super::run_handle::RunHandle;
use crate::base::error::{Error, Result};
use crate::base::run_id::RunId;
use crate::runtime::local::describe_panic;
use crate::runtime::mailbox::{LocalTask, Message, Refused};

/// A run, on the thread of the shard that owns it: a [`RunHandle`] whose operations are function calls there.
#[derive(Clone)]
pub struct LocalRun {
    handle: RunHandle,
}

impl Deref for LocalRun {
    type Target = RunHandle;

    fn deref(&self) -> &RunHandle {
        &self.handle
    }
}

impl fmt::Debug for LocalRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalRun").field(&self.handle.id()).finish()
    }
}

pub(crate) fn spawn_on<T, F, Fut>(database: &Database, run: RunId, f: F) -> Op<T>
where
    F: FnOnce(LocalRun) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T>> + 'static,
    T: Send + 'static,
{
    let database = database.clone();
    Op::steps(async move {
        let (sender, receiver) = oneshot::channel();
        let handle = database.run(run);
        let task: LocalTask = Box::new(move || {
            let body = async move {
                let made = std::panic::catch_unwind(AssertUnwindSafe(|| f(LocalRun { handle })));
                let result = match made {
                    Ok(future) => AssertUnwindSafe(future).catch_unwind().await,
                    Err(panic) => Err(panic),
                };
                let result = result.unwrap_or_else(|panic| Err(panicked(&*panic)));
                let _ = sender.send(result);
            };
            body.boxed_local()
        });
        let engine = database.engine();
        let mailbox = engine.mailbox(engine.shard_of(&run));
        match mailbox.try_send(Message::Spawn(task)) {
            Ok(()) => {}
            Err(Refused::Full(message)) => {
                mailbox.send_when_room(message).await.map_err(|_| engine.gone())?;
                mailbox.announce();
            }
            Err(Refused::Gone) => return Err(engine.gone()),
        }
        if mailbox.is_dead() {
            return Err(engine.gone());
        }
        receiver.await.unwrap_or_else(|_| Err(engine.gone()))
    })
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    Error::Other(format!("the future on the shard panicked: {}", describe_panic(panic)).into())
}
