//! Records what concurrent clients asked a database and were told, for a checker of isolation: a list-append history.
//!
//! Run it with `cargo run --release --example history -- [--txns N] [--clients N] [--shards N]
//! [--mode in-memory|buffered|strict] [--partitioning by-run|by-key] [--seed S]`. The history goes to standard output,
//! as Elle and Jepsen read it, one event a line:
//!
//! `{"index":7,"process":3,"type":"ok","time":48211,"value":[["append",12,5],["r",9,[1,4]]]}`
//!
//! - `invoke` is written before the database is asked, `ok`, `fail` (nothing happened) or `info` (nobody knows) after
//!   it answered, all by one writer: the order of the lines is an order in real time. `time` is in nanoseconds.
//! - A client whose transaction ended in `info` goes on as another process: its number plus the number of clients.
//! - A value is appended to a key once at most. What a read will find is null in its `invoke`.
//! - Every primitive takes part. A key is a key-value pair or a state cell that holds an array, the events of one type,
//!   or the traces of one name. Traces are ordered by when they were recorded, not by when they were committed: who
//!   records one reads those before it, so that of two who do it at once one loses.
//! - A run holds two keys of each kind. Keys that have grown long are given up for new ones, and so are runs.
//! - A transaction is made in one of the ways there are: a closure in one run or across runs, by hand, a read view, or
//!   a single operation that is a transaction of its own.
//! - At the end one more transaction reads every key; in a durable mode, after the database was closed and reopened.

use std::collections::BTreeSet;
use std::io::{BufWriter, ErrorKind, Stdout, Write};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use in_mem::Partitioning;
use in_mem::prelude::*;

const USAGE: &str = "usage: history [--txns N] [--clients N] [--shards N] [--mode in-memory|buffered|strict] \
    [--partitioning by-run|by-key] [--seed S]";
const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 20, max_pending_writes: 1000 };
/// How many keys are in use at a time.
const ACTIVE: usize = 12;
/// How many appends a key is given before another takes its place.
const APPENDS: i64 = 48;
/// How many keys a run holds.
const KEYS_OF_A_RUN: u64 = 8;
/// How often a transaction is tried again after a conflict.
const RETRIES: u32 = 3;

/// A result whose error is a line of text for the user.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args_os().any(|argument| argument == "--help") {
        let _ = writeln!(std::io::stdout(), "{USAGE}");
        return ExitCode::SUCCESS;
    }
    let (code, problem) =
        match Command::parse(std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned())) {
            Err(problem) => (2, format!("{problem}; {USAGE}")),
            Ok(command) => match command.record().await {
                Ok(()) => return ExitCode::SUCCESS,
                Err(problem) => (1, problem.to_string()),
            },
        };
    let _ = writeln!(std::io::stderr(), "history: {problem}");
    ExitCode::from(code)
}

/// What the command line says.
struct Command {
    transactions: u64,
    clients: u64,
    shards: usize,
    mode: DurabilityMode,
    partitioning: Partitioning,
    seed: u64,
}

impl Command {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut command = Self {
            transactions: 1000,
            clients: 8,
            shards: 2,
            mode: DurabilityMode::Strict,
            partitioning: Partitioning::ByRun,
            seed: 1,
        };
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--txns" => command.transactions = number(&option, &value()?, 0)?,
                "--clients" => command.clients = number(&option, &value()?, 1)?,
                "--shards" => command.shards = usize::try_from(number(&option, &value()?, 1)?)?,
                "--seed" => command.seed = number(&option, &value()?, 0)?,
                "--mode" => {
                    command.mode = match value()?.as_str() {
                        "in-memory" => DurabilityMode::InMemory,
                        "buffered" => BUFFERED,
                        "strict" => DurabilityMode::Strict,
                        other => return Err(format!("there is no mode {other:?}").into()),
                    };
                }
                "--partitioning" => {
                    command.partitioning = match value()?.as_str() {
                        "by-run" => Partitioning::ByRun,
                        "by-key" => Partitioning::ByKey,
                        other => return Err(format!("there is no partitioning {other:?}").into()),
                    };
                }
                _ => return Err(format!("there is no option {option}").into()),
            }
        }
        Ok(command)
    }

    /// Runs the clients and writes down what they see.
    async fn record(&self) -> Outcome<()> {
        let temporary = tempfile::tempdir()?;
        let open = || {
            let builder = Database::builder().path(temporary.path()).durability(self.mode).shards(self.shards);
            builder.partitioning(self.partitioning).open()
        };
        let mut database = open().await?;
        let history = std::sync::Arc::new(History::new(self));
        let clients = (0..self.clients).map(|client| {
            let random = Random(self.seed.wrapping_mul(0x1_0000_0001).wrapping_add(client));
            let client = Client { database: database.clone(), history: history.clone(), random, process: client };
            tokio::spawn(client.run(self.clients))
        });
        let mut processes = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            processes.push(client.await?);
        }
        let process = processes.into_iter().collect::<Outcome<Vec<u64>>>()?.into_iter().max().unwrap_or(0) + 1;
        if self.mode != DurabilityMode::InMemory {
            database.close().await?;
            database = open().await?;
        }
        let random = Random(self.seed);
        let last = Client { database: database.clone(), history: history.clone(), random, process };
        last.read_everything().await?;
        database.close().await?;
        history.finish()
    }
}

fn number(option: &str, text: &str, least: u64) -> Outcome<u64> {
    let number = text.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("{option} needs a whole number, at least {least}, and got {text:?}").into())
}

/// `SplitMix64` (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }
}

/// A part of a transaction.
#[derive(Clone, Debug)]
enum Operation {
    Append { key: u64, value: i64 },
    Read { key: u64, found: Option<Vec<i64>> },
}

impl Operation {
    const fn key(&self) -> u64 {
        match self {
            Self::Append { key, .. } | Self::Read { key, .. } => *key,
        }
    }

    const fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. })
    }

    fn json(&self) -> String {
        match self {
            Self::Append { key, value } => format!("[\"append\",{key},{value}]"),
            Self::Read { key, found: None } => format!("[\"r\",{key},null]"),
            Self::Read { key, found: Some(values) } => format!("[\"r\",{key},{values:?}]"),
        }
    }
}

/// What all clients share: the keys in use, and the one who writes the lines.
struct History {
    seed: u64,
    start: Instant,
    shared: Mutex<Shared>,
}

struct Shared {
    /// How many transactions are still to be begun.
    left: u64,
    /// The keys in use and how many appends each was given.
    active: Vec<(u64, i64)>,
    next_key: u64,
    next_index: u64,
    out: BufWriter<Stdout>,
    failed: Option<std::io::Error>,
}

impl History {
    fn new(command: &Command) -> Self {
        let shared = Shared {
            left: command.transactions,
            active: (0..ACTIVE as u64).map(|key| (key, 0)).collect(),
            next_key: ACTIVE as u64,
            next_index: 0,
            out: BufWriter::new(std::io::stdout()),
            failed: None,
        };
        Self { seed: command.seed, start: Instant::now(), shared: Mutex::new(shared) }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next transaction; `None` if there were enough, or if nobody listens any more.
    fn next(&self, random: &mut Random) -> Option<Vec<Operation>> {
        let mut shared = self.shared();
        if shared.failed.is_some() {
            return None;
        }
        shared.left = shared.left.checked_sub(1)?;
        let reads = random.below(4);
        let length = 1 + random.below(4);
        let operation = |_| {
            // The first ones are used most.
            let limit = random.below(ACTIVE) + 1;
            let place = random.below(limit);
            let (key, given) = shared.active[place];
            if random.below(3) < reads {
                return Operation::Read { key, found: None };
            }
            shared.active[place].1 += 1;
            if given + 1 == APPENDS {
                shared.active[place] = (shared.next_key, 0);
                shared.next_key += 1;
            }
            Operation::Append { key, value: given + 1 }
        };
        Some((0..length).map(operation).collect())
    }

    /// The run of a key: the same whenever the seed is.
    fn run_of(&self, key: u64) -> RunId {
        let mut random = Random(self.seed ^ (key / KEYS_OF_A_RUN + 1).rotate_left(32));
        RunId::from_bytes((u128::from(random.next()) << 64 | u128::from(random.next())).to_be_bytes())
    }

    fn write(&self, process: u64, kind: &str, operations: &[Operation]) {
        let value: Vec<String> = operations.iter().map(Operation::json).collect();
        let value = value.join(",");
        let mut shared = self.shared();
        let (index, time) = (shared.next_index, self.start.elapsed().as_nanos());
        let Shared { next_index, out, failed, .. } = &mut *shared;
        if failed.is_none() {
            *next_index += 1;
            let line = writeln!(
                out,
                "{{\"index\":{index},\"process\":{process},\"type\":\"{kind}\",\"time\":{time},\"value\":[{value}]}}"
            );
            *failed = line.err();
        }
    }

    /// Writes what is left. Whoever stopped listening wants no more.
    fn finish(&self) -> Outcome<()> {
        let mut shared = self.shared();
        let result = shared.failed.take().map_or_else(|| shared.out.flush(), Err);
        match result {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// A client, which does one transaction after the other.
struct Client {
    database: Database,
    history: std::sync::Arc<History>,
    random: Random,
    process: u64,
}

impl Client {
    /// Returns as which process it ended.
    async fn run(mut self, clients: u64) -> Outcome<u64> {
        while let Some(mut operations) = self.history.next(&mut self.random) {
            self.history.write(self.process, "invoke", &operations);
            match self.execute(&operations).await {
                Ok(lists) => {
                    fill(&mut operations, lists);
                    self.history.write(self.process, "ok", &operations);
                }
                Err(Error::TransactionConflict(_) | Error::VersionMismatch { .. }) => {
                    self.history.write(self.process, "fail", &operations);
                }
                Err(error) => {
                    self.history.write(self.process, "info", &operations);
                    self.process += clients;
                    if !matches!(error, Error::CommitUnknown(_) | Error::Unavailable(_)) {
                        return Err(error.into());
                    }
                }
            }
        }
        Ok(self.process)
    }

    /// Reads every key there was, in one transaction.
    async fn read_everything(&self) -> Outcome<()> {
        let keys = self.history.shared().next_key;
        let mut operations: Vec<_> = (0..keys).map(|key| Operation::Read { key, found: None }).collect();
        self.history.write(self.process, "invoke", &operations);
        let lists = self.across(&operations).await?;
        fill(&mut operations, lists);
        self.history.write(self.process, "ok", &operations);
        Ok(())
    }

    /// Does a transaction in one of the ways there are. Returns what the reads found, in their order.
    async fn execute(&mut self, operations: &[Operation]) -> Result<Vec<Vec<i64>>> {
        let way = self.random.below(4);
        let runs = self.runs(operations);
        match operations {
            [operation] if way < 2 => self.single(operation).await,
            _ if way == 0 && operations.iter().all(Operation::is_read) => self.view(operations).await,
            _ if way <= 1 && runs.len() == 1 => self.by_hand(runs[0], operations).await,
            _ if way == 2 && runs.len() == 1 => {
                let options = TransactionOptions { max_retries: RETRIES, ..TransactionOptions::default() };
                let done = self.database.transaction_with(runs[0], options, async |transaction| {
                    self.perform(|_| transaction.clone(), operations).await
                });
                done.await
            }
            _ => self.across(operations).await,
        }
    }

    async fn across(&self, operations: &[Operation]) -> Result<Vec<Vec<i64>>> {
        let options = TransactionOptions { max_retries: RETRIES, ..TransactionOptions::default() };
        let done = self.database.transaction_across_with(self.runs(operations), options, async |transaction| {
            self.perform(|run| transaction.run(run), operations).await
        });
        done.await
    }

    async fn view(&self, operations: &[Operation]) -> Result<Vec<Vec<i64>>> {
        let view = self.database.snapshot_now(self.history.run_of(operations[0].key())).await?;
        self.perform(|run| (*view.run(run)).clone(), operations).await
    }

    async fn by_hand(&self, run: RunId, operations: &[Operation]) -> Result<Vec<Vec<i64>>> {
        let transaction = self.database.begin_transaction(run).await?;
        let found = self.perform(|_| (*transaction).clone(), operations).await?;
        match transaction.commit().await? {
            CommitOutcome::Committed(_) => Ok(found),
            CommitOutcome::Conflicted(conflict) => Err(Error::TransactionConflict(conflict)),
            _ => Err(Error::CommitUnknown("an outcome that was not there when this was written".into())),
        }
    }

    /// The runs of the keys.
    fn runs(&self, operations: &[Operation]) -> Vec<RunId> {
        let runs = operations.iter().map(|operation| self.history.run_of(operation.key()));
        runs.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Does the operations one after the other.
    async fn perform(&self, within: impl Fn(RunId) -> Transaction, operations: &[Operation]) -> Result<Vec<Vec<i64>>> {
        let mut lists = Vec::new();
        for operation in operations {
            let transaction = within(self.history.run_of(operation.key()));
            let list = Primitives::of_transaction(&transaction).list(operation.key());
            match operation {
                Operation::Append { value, .. } => list.append(*value).await?,
                Operation::Read { .. } => lists.push(list.read().await?),
            }
        }
        Ok(lists)
    }

    /// Does one operation as a transaction of its own.
    async fn single(&self, operation: &Operation) -> Result<Vec<Vec<i64>>> {
        let run = self.database.run(self.history.run_of(operation.key()));
        let list = Primitives::of_run(&run).list(operation.key());
        match operation {
            Operation::Read { .. } => Ok(vec![list.read().await?]),
            Operation::Append { key, value } if list.kind == Kind::Traces => {
                // Recording alone reads nothing before it.
                self.across(&[Operation::Append { key: *key, value: *value }]).await
            }
            Operation::Append { value, .. } => list.append_alone(*value).await.map(|()| Vec::new()),
        }
    }
}

/// Puts what was found into the reads.
fn fill(operations: &mut [Operation], lists: Vec<Vec<i64>>) {
    let reads = operations.iter_mut().filter_map(|operation| match operation {
        Operation::Read { found, .. } => Some(found),
        Operation::Append { .. } => None,
    });
    for (found, list) in reads.zip(lists) {
        *found = Some(list);
    }
}

/// What the list of a key is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pair,
    Events,
    Cell,
    Traces,
}

/// The primitives of a run, in or outside a transaction.
struct Primitives {
    kv: RunKv,
    events: RunEvents,
    states: RunStates,
    traces: RunTraces,
}

impl Primitives {
    fn of_run(run: &RunHandle) -> Self {
        Self { kv: run.kv(), events: run.events(), states: run.states(), traces: run.traces() }
    }

    fn of_transaction(of: &Transaction) -> Self {
        Self { kv: of.kv(), events: of.events(), states: of.states(), traces: of.traces() }
    }

    fn list(self, key: u64) -> List {
        let kinds = [Kind::Pair, Kind::Events, Kind::Cell, Kind::Traces];
        List {
            primitives: self,
            kind: kinds[(key % 4) as usize],
            name: format!("list-{key}"),
            is_odd: key / 4 % 2 == 1,
        }
    }
}

/// The list of a key.
struct List {
    primitives: Primitives,
    kind: Kind,
    name: String,
    /// Of the two keys of a kind in a run, which one. It is read in another way.
    is_odd: bool,
}

impl List {
    async fn read(&self) -> Result<Vec<i64>> {
        let Primitives { kv, events, states, traces } = &self.primitives;
        Ok(match (self.kind, self.is_odd) {
            (Kind::Pair, false) => integers(kv.get(&self.name).await?.as_ref()),
            (Kind::Pair, true) => {
                let pairs = kv.list_with_values(Some("list-")).await?;
                integers(pairs.iter().find(|(name, _)| *name == self.name).map(|(_, value)| value))
            }
            (Kind::Events, false) => {
                let events = events.read_by_type(&self.name).await?;
                events.iter().filter_map(|event| event.payload.as_i64()).collect()
            }
            (Kind::Events, true) => {
                let events = events.read_range(0, u64::MAX).await?.into_iter();
                events
                    .filter(|event| event.event_type == self.name)
                    .filter_map(|event| event.payload.as_i64())
                    .collect()
            }
            (Kind::Cell, _) => integers(states.read(&self.name).await?.map(|state| state.value).as_ref()),
            (Kind::Traces, is_odd) => {
                let found = if is_odd {
                    traces.query_by_tag(&self.name).await?
                } else {
                    traces.query_by_type(format!("Custom:{}", self.name)).await?
                };
                found.iter().filter_map(|trace| trace.metadata.as_i64()).collect()
            }
        })
    }

    /// Appends within a transaction.
    async fn append(&self, value: i64) -> Result<()> {
        let Primitives { kv, events, states, traces } = &self.primitives;
        match self.kind {
            Kind::Pair => kv.put(&self.name, grown(kv.get(&self.name).await?.as_ref(), value)).await,
            Kind::Events => events.append(&self.name, value).await.map(drop),
            Kind::Cell => {
                let grow = |state: &State| Ok((grown(Some(&state.value), value), ()));
                states.transition_or_init(&self.name, Value::Array(Vec::new()), grow).await.map(drop)
            }
            Kind::Traces => {
                self.read().await?;
                let custom = TraceType::Custom { name: self.name.clone(), data: value.into() };
                traces.record(custom, vec![self.name.clone()], value).await.map(drop)
            }
        }
    }

    /// Appends as a transaction of its own.
    async fn append_alone(&self, value: i64) -> Result<()> {
        let kv = &self.primitives.kv;
        if self.kind != Kind::Pair {
            return self.append(value).await;
        }
        let (before, version) = match kv.get_versioned(&self.name).await? {
            Some(Versioned { value, version }) => (Some(value), Some(version)),
            None => (None, None),
        };
        kv.compare_and_put(&self.name, version, grown(before.as_ref(), value)).await.map(drop)
    }
}

fn integers(value: Option<&Value>) -> Vec<i64> {
    value.and_then(Value::as_array).map_or_else(Vec::new, |values| values.iter().filter_map(Value::as_i64).collect())
}

fn grown(before: Option<&Value>, value: i64) -> Value {
    let mut values = integers(before);
    values.push(value);
    Value::from(values)
}
