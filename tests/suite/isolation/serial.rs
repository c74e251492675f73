//! A database that is right by being simple: it runs one transaction at a time, or each on an old snapshot if asked to.
//!
//! - Its transactions are invoked before and completed after the moment they take effect, so that they overlap.
//! - One number decides everything (xorshift64*, Vigna 2014).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use crate::support::isolation::history::{Operation, Status, Transaction};
use crate::support::isolation::white_box;

pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap();
        number % count
    }

    fn number(&mut self, count: u64) -> u64 {
        self.below(usize::try_from(count).unwrap()) as u64
    }
}

/// What is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) transactions: usize,
    pub(super) processes: u64,
    /// How many keys are in use at a time; after a while others take their place.
    pub(super) keys: i64,
    /// Commits if nobody else appended to the same keys since the snapshot: snapshot isolation.
    pub(super) is_snapshot: bool,
}

/// The times of transaction number n, which takes effect at `moment(n)`.
fn times(number: usize, processes: u64, random: &mut Random) -> (u64, u64) {
    let moment = moment(number);
    // Less than the way to the same process's next.
    let slack = moment_of(processes) / 2 - 1;
    (moment - 1 - random.number(slack), moment + 1 + random.number(slack))
}

fn moment_of(number: u64) -> u64 {
    number * 10
}

fn moment(number: usize) -> u64 {
    moment_of(number as u64 + 1000)
}

/// A list-append history.
pub(super) fn lists(load: Load, random: &mut Random) -> Vec<Transaction> {
    let mut state: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut past = VecDeque::new();
    let mut history = Vec::new();
    for number in 0..load.transactions {
        let base = i64::try_from(number / 200).unwrap() * 2;
        let (invoked, completed) = times(number, load.processes, random);
        let mut own = state.clone();
        if load.is_snapshot {
            past.push_back((state.clone(), moment(number)));
            past.retain(|(_, time)| *time >= invoked);
            own = past[random.below(past.len())].0.clone();
        }
        let before = own.clone();
        let mut operations = Vec::new();
        for step in 0..=random.below(4) {
            let key = base + i64::try_from(random.below(usize::try_from(load.keys).unwrap())).unwrap();
            operations.push(match random.below(8) {
                0..4 => {
                    let value = i64::try_from(number * 10 + step).unwrap();
                    own.entry(key).or_default().push(value);
                    Operation::Append { key, value }
                }
                4..7 => Operation::Read { key, values: Some(own.get(&key).cloned().unwrap_or_default()) },
                _ => {
                    let found = own.range(key..=key + 2).map(|(key, values)| (*key, values.clone())).collect();
                    Operation::Scan { low: key, high: key + 2, keys: Some(found) }
                }
            });
        }
        let changed = |(key, values): &(&i64, &Vec<i64>)| before.get(key) != Some(values);
        let writes: BTreeMap<i64, Vec<i64>> =
            own.iter().filter(changed).map(|(key, values)| (*key, values.clone())).collect();
        let is_lost = writes.keys().any(|key| before.get(key) != state.get(key));
        let status = if is_lost || random.below(20) == 0 { Status::Fail } else { Status::Ok };
        let is_unknown = !is_lost && random.below(20) == 0;
        let status = if is_unknown { Status::Info } else { status };
        if status == Status::Ok || is_unknown && random.below(2) == 0 {
            state.extend(writes);
            // Keys that are no longer in use are forgotten.
            state = state.split_off(&(base - 2));
        }
        history.push(Transaction { process: number as u64 % load.processes, status, invoked, completed, operations });
    }
    history
}

/// A history with timestamps; the serial one has each read what was there just before its commit.
pub(super) fn timestamps(load: Load, random: &mut Random) -> Vec<white_box::Transaction<String>> {
    let mut state: BTreeMap<String, white_box::Seen> = BTreeMap::new();
    let mut history = Vec::new();
    for number in 0..load.transactions {
        let (invoked, completed) = times(number, load.processes, random);
        let (commit, id) = (moment(number), number as u64);
        let mut transaction = white_box::Transaction {
            id,
            snapshot: commit - 1,
            outcome: white_box::Outcome::Committed(commit),
            reads: Vec::new(),
            ranges: Vec::new(),
            writes: Vec::new(),
            invoked,
            completed,
        };
        let mut changes = BTreeMap::new();
        for _ in 0..=random.below(4) {
            let key = format!("{:04}", random.below(usize::try_from(load.keys).unwrap()));
            match random.below(8) {
                0..3 => drop(changes.insert(key, random.below(4) > 0)),
                3..7 => transaction.reads.push(white_box::Read { seen: state.get(&key).copied(), key }),
                _ => {
                    let found = state.range(key.clone()..).take(5).map(|(key, seen)| (key.clone(), *seen));
                    let found: Vec<_> = found.collect();
                    let high = found.last().map_or(Bound::Unbounded, |(key, _)| Bound::Included(key.clone()));
                    transaction.ranges.push(white_box::RangeRead { low: Bound::Included(key), high, found });
                }
            }
        }
        if changes.is_empty() {
            transaction.outcome = white_box::Outcome::ReadOnly;
        } else if random.below(20) == 0 {
            transaction.outcome = white_box::Outcome::Unknown;
        }
        if transaction.outcome != white_box::Outcome::Unknown || random.below(2) == 0 {
            for (key, is_present) in &changes {
                if *is_present {
                    state.insert(key.clone(), white_box::Seen { version: commit, writer: Some(id) });
                } else {
                    state.remove(key);
                }
            }
        }
        let writes = changes.into_iter().map(|(key, is_present)| white_box::Write { key, is_present });
        transaction.writes = writes.collect();
        history.push(transaction);
    }
    history
}
