//! What is measured: a database, who calls it, and for what.

use in_mem::DurabilityMode;
use serde_json::{Value as Json, json};

use crate::raw_device::Way;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    InMemory,
    Buffered,
    Strict,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::InMemory, Self::Buffered, Self::Strict];

    pub(crate) const fn durability(self) -> DurabilityMode {
        match self {
            Self::InMemory => DurabilityMode::InMemory,
            Self::Buffered => DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 100_000 },
            Self::Strict => DurabilityMode::Strict,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A task on the shard.
    Shard,
    /// A task of tokio's current-thread runtime.
    CurrentThread,
    /// A task of tokio's multi-thread runtime.
    MultiThread,
    /// One task on tokio that has the calls of all callers in flight.
    Pipelined,
    /// A thread, through the blocking interface.
    Thread,
    /// No database: the device alone.
    Device(Way),
}

impl Caller {
    const fn name(self) -> &'static str {
        match self {
            Self::Shard => "on the shard",
            Self::CurrentThread => "tokio, current thread",
            Self::MultiThread => "tokio, multi-thread",
            Self::Pipelined => "pipelined",
            Self::Thread => "thread",
            Self::Device(way) => way.name(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Put,
    /// Names below a prefix; there are ten.
    List,
    /// Pairs below a prefix, one after the other; there are a thousand.
    Scan,
    Append,
    Len,
    Head,
    Cas,
    /// A pair, an event, a state cell and a trace.
    Transaction,
    /// A pair in each of two runs, on two shards.
    Across,
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::List => "list of 10 names",
            Self::Scan => "scan of 1,000 pairs",
            Self::Append => "append",
            Self::Len => "len",
            Self::Head => "head",
            Self::Cas => "cas",
            Self::Transaction => "transaction",
            Self::Across => "transaction over two shards",
        }
    }
}

/// What a database is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Items {
    Pairs,
    Events,
    Cells,
}

/// An open database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) mode: Mode,
    pub(crate) shards: usize,
    pub(crate) spins: bool,
    pub(crate) items: Items,
    /// How many, in a run on each shard.
    pub(crate) count: u64,
    pub(crate) value_bytes: usize,
}

impl Setup {
    pub(crate) const fn new(mode: Mode) -> Self {
        Self { mode, shards: 1, spins: true, items: Items::Pairs, count: 100_000, value_bytes: 100 }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) setup: Setup,
    pub(crate) operation: Operation,
    pub(crate) caller: Caller,
    pub(crate) callers: usize,
    /// How many calls are to begin in a second, of one task; without it, a caller's next begins when the last one has ended.
    pub(crate) rate: Option<u64>,
    /// How many threads beside do nothing but count.
    pub(crate) busy: usize,
}

impl Case {
    pub(crate) const fn new(setup: Setup, operation: Operation, caller: Caller) -> Self {
        Self { setup, operation, caller, callers: 1, rate: None, busy: 0 }
    }

    /// After how many calls a caller ends, where more would change what is asked about: how long an append to a log of so many
    /// events takes. It is warmed up with another log.
    pub(crate) fn limit(&self) -> Option<u64> {
        (self.setup.items == Items::Events && self.operation == Operation::Append).then_some(self.setup.count)
    }

    /// Its name among curves.
    pub(crate) fn label(&self) -> String {
        match (self.caller, self.rate) {
            (Caller::Device(way), _) => way.name().into(),
            (_, Some(rate)) => format!("{:?}, {rate} a second", self.setup.mode),
            (_, None) => format!("{:?}", self.setup.mode),
        }
    }

    pub(crate) fn describe(&self) -> Json {
        let setup = self.setup;
        json!({
            "mode": format!("{:?}", setup.mode), "shards": setup.shards, "spin": if setup.spins { "on" } else { "off" },
            "items": format!("{:?}", setup.items).to_lowercase(), "count": setup.count, "value_bytes": setup.value_bytes,
            "operation": self.operation.name(), "caller": self.caller.name(),
            "callers": self.callers,
            "rate": self.rate, "busy": self.busy,
        })
    }
}
