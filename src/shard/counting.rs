//! Counting: what a shard has done since it began, in plain numbers.
//!
//! - Nothing decides by what was counted.
//! - The end of a transaction is counted where it was begun, once, and only as long as it is open there.

use std::time::Duration;

use super::input::{Request, RequestId};
use super::log::Written;
use super::machine::Shard;
use crate::base::error::Error;
use crate::base::metrics::ShardMetrics;
use crate::base::version::Version;
use crate::commit::message::TransactionNumber;
use crate::primitive::output::{Output, Reply};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Committed,
    ReadOnly,
    Conflicted,
    Refused,
    Aborted,
}

impl From<&Error> for End {
    fn from(error: &Error) -> Self {
        if matches!(error, Error::TransactionConflict(_)) { Self::Conflicted } else { Self::Refused }
    }
}

impl Shard {
    /// What was counted, and what there is now.
    pub(crate) fn metrics(&self) -> ShardMetrics {
        let memory = self.memory.footprint();
        ShardMetrics {
            commits: self.commits,
            transactions_timed_out: self.transactions.timed_out(),
            log_records: self.log.durable().0,
            memory_bytes: self.memory_used(),
            keys: memory.keys as u64,
            versions: memory.revisions as u64,
            open_transactions: self.transactions.count() as u64,
            subscriptions: self.subscriptions.count() as u64,
            ..self.counted.clone()
        }
    }

    /// Says what was counted.
    pub(super) fn say_metrics(&mut self, id: RequestId) {
        let metrics = Box::new(self.metrics());
        self.answer(id, (Ok(Reply::read(Output::Metrics(metrics))), Version::ZERO));
    }

    pub(super) fn count_request(&mut self, request: &Request) {
        self.counted.requests += 1;
        if let Request::Execute { command, .. } | Request::Step { command, .. } = request {
            let is_read = command.is_read();
            self.counted.reads += u64::from(is_read);
            self.counted.writes += u64::from(!is_read);
        }
    }

    /// A transaction that was begun here ends; if it is not open any more, that has been counted.
    pub(super) fn count_end(&mut self, number: TransactionNumber, end: End) {
        if self.transactions.is_begun_here(number) {
            self.count_outcome(end);
        }
    }

    pub(super) const fn count_outcome(&mut self, end: End) {
        let all = &mut self.counted;
        *match end {
            End::Committed => &mut all.transactions_committed,
            End::ReadOnly => &mut all.transactions_read_only,
            End::Conflicted => &mut all.transactions_conflicted,
            End::Refused => &mut all.transactions_refused,
            End::Aborted => &mut all.transactions_aborted,
        } += 1;
    }

    pub(super) fn count_flush(&mut self, written: Written, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let counted = &mut self.counted;
        counted.flushes += 1;
        counted.log_bytes += written.bytes;
        counted.flush_nanoseconds = counted.flush_nanoseconds.saturating_add(nanoseconds);
        counted.longest_flush_nanoseconds = counted.longest_flush_nanoseconds.max(nanoseconds);
        counted.largest_group = counted.largest_group.max(written.records);
    }
}
