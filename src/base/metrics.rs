//! What a shard counts: one table of names, kinds and meanings.
//!
//! - A shard counts what it decides itself, by adding to plain numbers; whoever asks gets a copy.
//! - Everything begins at zero when the database is opened.

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only rises while the database is open.
    Counter,
    /// It rises and falls; that of all shards together is the sum.
    Gauge,
    /// The largest so far; that of all shards together is the largest of them.
    Maximum,
}

impl MetricKind {
    const fn combine(self, a: u64, b: u64) -> u64 {
        match self {
            Self::Counter | Self::Gauge => a.saturating_add(b),
            Self::Maximum => {
                if a > b {
                    a
                } else {
                    b
                }
            }
        }
    }
}

/// One number of [`ShardMetrics`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name of the field.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// What it says.
    pub description: &'static str,
    /// The number.
    pub value: u64,
}

macro_rules! metrics {
    ($($name:ident: $kind:ident, $description:literal;)*) => {
        /// What one shard has done since the database was opened, and what it holds; or all of them together.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct ShardMetrics {
            $(#[doc = $description] pub $name: u64,)*
        }

        impl ShardMetrics {
            /// The numbers, with their names and what they say.
            #[must_use]
            pub fn all(&self) -> Vec<Metric> {
                vec![$(Metric {
                    name: stringify!($name),
                    kind: MetricKind::$kind,
                    description: $description.trim_ascii(),
                    value: self.$name,
                },)*]
            }

            /// Adds those of another shard.
            pub(crate) const fn add(&mut self, other: &Self) {
                $(self.$name = MetricKind::$kind.combine(self.$name, other.$name);)*
            }
        }
    };
}

metrics! {
    requests: Counter, "Requests handled: operations, and what callers and the database itself ask beside.";
    reads: Counter, "Operations that read, of their own or in a transaction.";
    writes: Counter, "Operations that write, of their own or in a transaction; those that were refused too.";
    transactions_begun: Counter, "Transactions and read views begun; one over several shards counts where its first operation was.";
    transactions_committed: Counter, "Transactions committed, those over several shards included.";
    transactions_read_only: Counter, "Transactions and read views that ended with nothing to write.";
    transactions_conflicted: Counter, "Transactions that were not committed because another one was first.";
    transactions_refused: Counter, "Transactions that could not be committed for another reason, or of which nobody knows whether they are.";
    transactions_aborted: Counter, "Transactions that had written something and were given up by their callers.";
    transactions_timed_out: Counter, "Transactions that were idle for too long.";
    commits: Counter, "Commits by this shard alone: single operations that wrote something, and transactions with one part.";
    commits_across: Counter, "Commits over several shards, counted where they were decided.";
    parts: Counter, "Parts of commits over several shards that were applied here, those that only read included.";
    log_records: Counter, "Records made durable in the log.";
    log_bytes: Counter, "Bytes written to the log and durable, those that fill up blocks included.";
    flushes: Counter, "Writes of the log that became durable; each holds a group of records.";
    flush_nanoseconds: Counter, "Time that these writes took together.";
    longest_flush_nanoseconds: Maximum, "Time that the longest of them took.";
    largest_group: Maximum, "The most records that became durable in one write.";
    memory_bytes: Gauge, "About how many bytes of memory is taken by everything that is kept, and by open transactions.";
    keys: Gauge, "Keys of which anything is kept, those of indexes included.";
    versions: Gauge, "Versions of keys that are kept.";
    open_transactions: Gauge, "Transactions and read views that are open here, parts of those begun elsewhere included.";
    subscriptions: Gauge, "Subscriptions.";
    waiting_requests: Gauge, "Requests that wait in the mailbox.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_gauges_add_up_and_of_maxima_the_largest_counts() {
        let mut total = ShardMetrics { reads: 2, keys: 3, largest_group: 4, ..Default::default() };
        total.add(&ShardMetrics { reads: 5, keys: 1, largest_group: 3, ..Default::default() });
        assert_eq!(total, ShardMetrics { reads: 7, keys: 4, largest_group: 4, ..Default::default() });
        let reads = total.all().into_iter().find(|metric| metric.name == "reads").unwrap();
        assert_eq!((reads.kind, reads.value), (MetricKind::Counter, 7));
    }
}
