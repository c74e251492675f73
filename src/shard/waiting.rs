//! Waiting: requests that meet the intents of a prepared transaction and need its outcome.
//!
//! - They hold no locks themselves, so that nobody waits in a circle.
//! - They run again, in the order they came, in the same step in which the outcome is known.
//! - A read keeps its snapshot while it waits, and the snapshot stays registered.
//! - A write bars new read intents on what it writes.

use std::collections::BTreeMap;

use super::input::{Commit, RequestId};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::intents::Bar;
use crate::commit::message::TransactionNumber;
use crate::primitive::command::Command;

/// A request that waits.
#[derive(Debug)]
pub(crate) enum Waiting {
    Read { id: RequestId, run: RunId, command: Command, snapshot: Version },
    Write { id: RequestId, run: RunId, command: Command, barred: Bar },
    Step { id: RequestId, transaction: TransactionNumber, run: RunId, command: Command },
    Commit { id: RequestId, transaction: TransactionNumber, commit: Commit, barred: Bar },
}

/// Requests by the transaction they wait for.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    by_holder: BTreeMap<TransactionNumber, Vec<Waiting>>,
}

impl WaitList {
    pub(crate) fn wait(&mut self, holder: TransactionNumber, waiting: Waiting) {
        self.by_holder.entry(holder).or_default().push(waiting);
    }

    /// Takes out those that waited for a transaction, in the order they came.
    pub(crate) fn wake(&mut self, holder: TransactionNumber) -> Vec<Waiting> {
        self.by_holder.remove(&holder).unwrap_or_default()
    }

    /// Takes out all that wait.
    pub(crate) fn wake_all(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.by_holder).into_values().flatten().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_holder.is_empty()
    }
}
