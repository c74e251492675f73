//! Scenarios: what seeds have found, and what needs more luck than seeds have, each told step by step.


use crate::base::error::Result;
use crate::base::options::{DurabilityMode, HistoryRetention};
use crate::base::run_id::RunId;
use crate::base::value::Value;
use crate::commit::message::{Envelope, TransactionNumber};
use crate::format::record::Position;
use crate::primitive::command::{Command, KvCommand};
use crate::primitive::output::{Output, Reply};
use crate::shard::effect::Effect;
use crate::shard::input::{Acknowledge, Commit, Input, Request, RequestId};
use crate::shard::machine::{Shard, ShardConfig};
use crate::store::memory::Memory;

const RUN: RunId = RunId::from_bytes([1; 16]);

/// Some shards, moved by hand: messages and writes stay under way until they are delivered.
struct Table {
    shards: Vec<Shard>,
    now: u64,
    mail: Vec<(u32, u32, Envelope)>,
    writes: Vec<(usize, Position)>,
    answers: Vec<(RequestId, Result<Reply>)>,
    asked: RequestId,
}

impl Table {
    fn new(mode: DurabilityMode, shards: u32) -> Self {
        let shard = |shard: u32| {
            let config = ShardConfig { incarnation: 1, shard, shards, mode, read_only: false };
            Shard::new(config, Memory::new(HistoryRetention::Forever), 1_000.into())
        };
        let shards = (0..shards).map(shard).collect();
        Self { shards, now: 2_000, mail: Vec::new(), writes: Vec::new(), answers: Vec::new(), asked: 0 }
    }

    fn give(&mut self, shard: usize, input: Input) {
        self.shards[shard].handle(self.now.into(), input);
        while let Some(effect) = self.shards[shard].poll_effect() {
            match effect {
                Effect::Reply { id, result } => self.answers.push((id, result)),
                Effect::Send { to, envelope } => self.mail.push((u32::try_from(shard).unwrap(), to, envelope)),
                Effect::Append(append) => {
                    let end = append.offset + append.bytes.len() as u64;
                    self.writes.push((shard, Position::new(append.segment, end)));
                }
                Effect::PrepareSegment { index, capacity } => {
                    self.shards[shard].handle(self.now.into(), Input::SegmentReady { index, capacity, salt: 1 });
                }
                Effect::Stop => {}
            }
        }
    }

    fn ask(&mut self, shard: usize, request: Request) -> RequestId {
        self.asked += 1;
        self.now += 1_000;
        self.give(shard, Input::Request { id: self.asked, request });
        self.asked
    }

    fn step(&mut self, shard: usize, number: u64, operation: u64, snapshot: Option<u64>, command: KvCommand) -> RequestId {
        let (transaction, snapshot) = (TransactionNumber(number), snapshot.map(Into::into));
        self.ask(shard, Request::Step { transaction, operation, snapshot, run: RUN, command: Command::Kv(command) })
    }

    fn commit(&mut self, shard: usize, number: u64, participants: &[(u32, u64)]) -> RequestId {
        let commit = Box::new(Commit { participants: participants.to_vec(), acknowledge: Acknowledge::AsUsual });
        self.ask(shard, Request::Commit { transaction: TransactionNumber(number), commit })
    }

    fn execute(&mut self, shard: usize, command: KvCommand) -> RequestId {
        self.ask(shard, Request::Execute { run: RUN, command: Command::Kv(command) })
    }

    /// Delivers the first message from one shard to another.
    fn deliver(&mut self, from: u32, to: u32) {
        let at = self.mail.iter().position(|mail| (mail.0, mail.1) == (from, to)).expect("something is under way");
        let (from, to, envelope) = self.mail.remove(at);
        self.now += 1_000;
        self.give(to as usize, Input::Peer { from, envelope });
    }

    /// Completes every write and delivers every message, until nothing is left.
    fn settle(&mut self) {
        while !self.mail.is_empty() || !self.writes.is_empty() {
            while let Some((shard, through)) = self.writes.pop() {
                self.give(shard, Input::Appended { through });
            }
            if let Some((from, to)) = self.mail.first().map(|mail| (mail.0, mail.1)) {
                self.deliver(from, to);
            }
        }
    }

    fn answer(&self, id: RequestId) -> Option<&Result<Reply>> {
        self.answers.iter().find(|(answered, _)| *answered == id).map(|(_, result)| result)
    }

    fn output(&self, id: RequestId) -> Option<&Output> {
        self.answer(id).map(|result| &result.as_ref().expect("it went well").output)
    }

    fn snapshot(&self, id: RequestId) -> u64 {
        let result = self.answer(id).expect("it is answered").as_ref().expect("it went well");
        result.snapshot.expect("it is of a transaction").get()
    }
}

fn put(key: &str, value: i64) -> KvCommand {
    KvCommand::Put { key: key.into(), value: value.into(), ttl: None }
}

fn get(key: &str) -> KvCommand {
    KvCommand::Get { key: key.into() }
}

fn value(value: i64) -> Output {
    Output::Value(Some(Value::I64(value)))
}

/// Prepares transaction 1 on shards 0 and 1, where it writes `a` and `b`; shard 0 decides when it hears of 1's vote.
/// Returns the request of its commit.
fn in_doubt(table: &mut Table) -> RequestId {
    let first = table.step(0, 1, 0, None, put("a", 1));
    let snapshot = table.snapshot(first);
    table.step(1, 1, 0, Some(snapshot), put("b", 1));
    let commit = table.commit(0, 1, &[(0, 1), (1, 1)]);
    table.deliver(0, 1);
    commit
}

/// Strict, seed 1270. A transaction deleted a key and then put it, without waiting in between. The delete looks whether
/// there is something, met the intent of a transaction in doubt and waited; the put looks at nothing and did not. When
/// the outcome was known, the delete ran behind the put, and what was put was gone. So an operation stands behind those
/// of its transaction that wait.
#[test]
fn an_operation_does_not_overtake_one_of_its_transaction_that_waits() {
    let mut table = Table::new(DurabilityMode::InMemory, 2);
    let commit = in_doubt(&mut table);
    let delete = table.step(0, 2, 0, None, KvCommand::Delete { key: "a".into() });
    let put = table.step(0, 2, 1, None, put("a", 2));
    let read = table.step(0, 2, 2, None, get("a"));
    assert!([delete, put, read].iter().all(|id| table.answer(*id).is_none()), "all wait for the outcome");
    table.settle();
    assert!(table.answer(commit).is_some());
    assert_eq!(table.output(delete), Some(&Output::Flag(true)));
    assert_eq!(table.output(read), Some(&value(2)), "the put came after the delete");
}

#[test]
fn what_is_in_doubt_is_waited_for_and_then_seen() {
    let mut table = Table::new(DurabilityMode::InMemory, 2);
    in_doubt(&mut table);
    let single = table.execute(1, get("b"));
    let step = table.step(1, 2, 0, None, get("b"));
    assert!(table.answer(single).is_none() && table.answer(step).is_none());
    table.settle();
    assert_eq!((table.output(single), table.output(step)), (Some(&value(1)), Some(&value(1))));
}
