//! Scenarios: what seeds have found, and what needs more luck than seeds have, each told step by step.

use std::time::Duration;

use serde_json::json;

use crate::base::error::{Error, Result};
use crate::base::json::Json;
use crate::base::json::path::Path;
use crate::base::key::Name;
use crate::base::options::{DurabilityMode, HistoryRetention};
use crate::base::planted::{Bug, plant};
use crate::base::run_id::RunId;
use crate::base::value::Value;
use crate::commit::message::{Envelope, TransactionNumber};
use crate::format::record::Position;
use crate::primitive::command::{Command, JsonCommand, KvCommand};
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
    /// Whether the clock stands still.
    is_still: bool,
}

impl Table {
    fn new(mode: DurabilityMode, shards: u32) -> Self {
        let shard = |shard: u32| {
            let config = ShardConfig { incarnation: 1, shard, shards, mode, read_only: false };
            Shard::new(config, Memory::new(HistoryRetention::Forever), 1_000.into())
        };
        let shards = (0..shards).map(shard).collect();
        Self {
            shards,
            now: 2_000,
            mail: Vec::new(),
            writes: Vec::new(),
            answers: Vec::new(),
            asked: 0,
            is_still: false,
        }
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

    fn advance(&mut self) {
        self.now += if self.is_still { 0 } else { 1_000 };
    }

    fn ask(&mut self, shard: usize, request: Request) -> RequestId {
        self.asked += 1;
        self.advance();
        self.give(shard, Input::Request { id: self.asked, request });
        self.asked
    }

    fn step(
        &mut self,
        shard: usize,
        number: u64,
        operation: u64,
        snapshot: Option<u64>,
        command: impl Into<Command>,
    ) -> RequestId {
        let (transaction, snapshot) = (TransactionNumber(number), snapshot.map(Into::into));
        self.ask(shard, Request::Step { transaction, operation, snapshot, run: RUN, command: command.into() })
    }

    fn commit(&mut self, shard: usize, number: u64, participants: &[(u32, u64)]) -> RequestId {
        let commit = Commit { participants: participants.into(), acknowledge: Acknowledge::AsUsual };
        self.ask(shard, Request::Commit { transaction: TransactionNumber(number), commit })
    }

    fn execute(&mut self, shard: usize, command: impl Into<Command>) -> RequestId {
        self.ask(shard, Request::Execute { run: RUN, command: command.into() })
    }

    /// Delivers the first message from one shard to another.
    fn deliver(&mut self, from: u32, to: u32) {
        let at = self.mail.iter().position(|mail| (mail.0, mail.1) == (from, to)).expect("something is under way");
        let (from, to, envelope) = self.mail.remove(at);
        self.advance();
        self.give(to as usize, Input::Peer { from, envelope });
    }

    /// Completes every write and delivers every message, until nothing is left.
    fn settle(&mut self) {
        while !self.mail.is_empty() || !self.writes.is_empty() {
            while let Some((shard, through)) = self.writes.pop() {
                self.give(shard, Input::Appended { through, took: Duration::ZERO });
            }
            if let Some((from, to)) = self.mail.first().map(|mail| (mail.0, mail.1)) {
                self.deliver(from, to);
            }
        }
    }

    fn complete_write(&mut self, shard: usize) {
        let at = self.writes.iter().position(|write| write.0 == shard).expect("something is being written");
        let (_, through) = self.writes.remove(at);
        self.give(shard, Input::Appended { through, took: Duration::ZERO });
    }

    fn fail_write(&mut self, shard: usize) {
        self.writes.retain(|write| write.0 != shard);
        self.give(shard, Input::AppendFailed { reason: "EIO".into() });
    }

    fn answer(&self, id: RequestId) -> Option<&Result<Reply>> {
        self.answers.iter().find(|(answered, _)| *answered == id).map(|(_, result)| result)
    }

    fn output(&self, id: RequestId) -> Option<&Output> {
        self.answer(id).map(|result| &result.as_ref().expect("it went well").output)
    }

    fn output_of(&mut self, shard: usize, request: Request) -> Output {
        let id = self.ask(shard, request);
        self.output(id).expect("it is answered").clone()
    }

    fn version(&self, id: RequestId) -> u64 {
        let result = self.answer(id).expect("it is answered").as_ref().expect("it went well");
        result.version.expect("it is a commit").get()
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

fn set_json(key: &str, path: &str, value: serde_json::Value) -> JsonCommand {
    JsonCommand::Set { key: key.into(), path: Path::parse(path).unwrap(), value: Json::from_value(value).unwrap() }
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
pub(super) fn an_operation_does_not_overtake_one_of_its_transaction_that_waits() {
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
pub(super) fn what_is_in_doubt_is_waited_for_and_then_seen() {
    let mut table = Table::new(DurabilityMode::InMemory, 2);
    in_doubt(&mut table);
    let single = table.execute(1, get("b"));
    let step = table.step(1, 2, 0, None, get("b"));
    assert!(table.answer(single).is_none() && table.answer(step).is_none());
    table.settle();
    assert_eq!((table.output(single), table.output(step)), (Some(&value(1)), Some(&value(1))));
}

/// The clock stands still, and shard 0 has given out more timestamps than shard 1. What both commit together is at the
/// highest of both; shard 1 learns it with the decision, and its next commit is later.
#[test]
pub(super) fn no_commit_comes_below_a_timestamp_that_was_learned() {
    let mut table = Table::new(DurabilityMode::InMemory, 2);
    table.is_still = true;
    let first = table.step(0, 1, 0, None, put("a", 1));
    let snapshot = table.snapshot(first);
    table.step(1, 1, 0, Some(snapshot), put("b", 1));
    for number in 0..10 {
        table.execute(0, put("c", number));
    }
    let commit = table.commit(0, 1, &[(0, 1), (1, 1)]);
    table.settle();
    let write = table.execute(1, put("b", 2));
    assert!(table.version(commit) < table.version(write), "what comes later has a later version");
    let read = table.execute(1, get("b"));
    assert_eq!(table.output(read), Some(&value(2)));
}

/// A part reads something that expires, another part is prepared on a shard that is ahead. In time for the one is too
/// late for the other: the coordinator compares the highest timestamp with the earliest expiry.
#[test]
pub(super) fn a_transaction_commits_below_every_expiry_that_it_read_on_any_shard() {
    let mut table = Table::new(DurabilityMode::InMemory, 2);
    table.is_still = true;
    table.execute(0, KvCommand::Put { key: "a".into(), value: 1.into(), ttl: Some(Duration::from_nanos(30)) });
    let first = table.step(0, 1, 0, None, get("a"));
    let snapshot = table.snapshot(first);
    table.step(1, 1, 0, Some(snapshot), put("b", 1));
    let commit = table.commit(0, 1, &[(0, 1), (1, 1)]);
    table.now += 100;
    table.settle();
    assert!(matches!(table.answer(commit), Some(Err(Error::TransactionConflict(_)))), "{:?}", table.answer(commit));
    let read = table.execute(1, get("b"));
    assert_eq!(table.output(read), Some(&Output::Value(None)), "and nothing of it is there");
}

/// The coordinator's log fails when the other part is already durable: nobody knows whether recovery finds all parts. The
/// abort must be durable before anybody sees that nothing happened, or a reader would have seen, at an older version,
/// what a recovery then contradicts.
#[test]
pub(super) fn intents_stay_until_the_abort_record_is_durable() {
    let mut table = Table::new(DurabilityMode::Strict, 2);
    let commit = in_doubt(&mut table);
    let (_, through) = table.writes.remove(table.writes.iter().position(|(shard, _)| *shard == 1).unwrap());
    table.give(1, Input::Appended { through, took: Duration::ZERO });
    table.writes.clear();
    table.give(0, Input::AppendFailed { reason: "EIO".into() });
    assert!(matches!(table.answer(commit), Some(Err(Error::CommitUnknown(_)))));
    // 1's vote comes too late, the abort comes.
    table.deliver(0, 1);
    let read = table.execute(1, get("b"));
    assert!(table.answer(read).is_none(), "the outcome is not known before the abort record is durable");
    let stuck = table.step(0, 2, 0, None, get("a"));
    assert!(matches!(table.answer(stuck), Some(Err(Error::Unavailable(_)))), "here it may never be known");
    table.settle();
    assert_eq!(table.output(read), Some(&Output::Value(None)));
    let freed = table.execute(0, get("a"));
    assert_eq!(table.output(freed), Some(&Output::Value(None)), "the other's abort record frees this shard's intents");
    assert_eq!([0, 1].map(|shard: usize| table.shards[shard].held_intents()), [0, 0]);
}

/// A mark at F says that everything this shard commits up to F stands before it. The clock of the shard that hears of it
/// is behind F, as the one that chose F had given out more timestamps: its next commit is above F all the same.
#[test]
pub(super) fn a_commit_behind_a_mark_is_above_it() {
    let mode = DurabilityMode::Buffered { flush_interval_ms: 1, max_pending_writes: 1_000 };
    let mut table = Table::new(mode, 2);
    table.is_still = true;
    let last = (0..10).map(|number| table.execute(0, put("c", number))).last().unwrap();
    table.ask(0, Request::Flush);
    table.deliver(0, 1);
    let write = table.execute(1, put("b", 1));
    assert!(table.version(write) > table.version(last), "the mark is at or above what was flushed");
}

/// A read at S was served. A commit on that shard comes later than S, though its clock stands below S.
#[test]
pub(super) fn a_commit_behind_a_read_is_above_its_snapshot() {
    let mut table = Table::new(DurabilityMode::InMemory, 2);
    table.is_still = true;
    for number in 0..10 {
        table.execute(0, put("c", number));
    }
    let first = table.step(0, 1, 0, None, get("a"));
    let snapshot = table.snapshot(first);
    let before = table.step(1, 1, 0, Some(snapshot), get("b"));
    let write = table.execute(1, put("b", 1));
    let again = table.step(1, 1, 1, Some(snapshot), get("b"));
    assert!(table.version(write) > snapshot);
    assert_eq!(table.output(before), table.output(again), "a snapshot does not change");
}

/// Two transactions: each reads what the other writes, on two shards. Both saw the state before; one must lose.
#[test]
pub(super) fn of_two_that_read_what_the_other_writes_one_loses() {
    let mut table = Table::new(DurabilityMode::InMemory, 2);
    for (number, read_on, read, write_on, write) in [(1, 0, "a", 1, "b"), (2, 1, "b", 0, "a")] {
        let first = table.step(read_on, number, 0, None, get(read));
        let snapshot = table.snapshot(first);
        table.step(write_on, number, 0, Some(snapshot), put(write, 1));
    }
    let commits = [table.commit(0, 1, &[(0, 1), (1, 1)]), table.commit(1, 2, &[(0, 1), (1, 1)])];
    table.settle();
    let won = commits.iter().filter(|commit| matches!(table.answer(**commit), Some(Ok(_)))).count();
    assert!(won < 2, "write skew: {:?}", table.answers);
}

/// A lost operation: the client counts two on a shard, and one arrived.
#[test]
pub(super) fn a_part_that_lacks_an_operation_is_not_promised() {
    let mut table = Table::new(DurabilityMode::InMemory, 2);
    let first = table.step(0, 1, 0, None, put("a", 1));
    let snapshot = table.snapshot(first);
    table.step(1, 1, 0, Some(snapshot), put("b", 1));
    let commit = table.commit(0, 1, &[(0, 1), (1, 2)]);
    table.settle();
    assert!(matches!(table.answer(commit), Some(Err(Error::TransactionConflict(_)))));
    assert_eq!([0, 1].map(|shard: usize| table.shards[shard].open_transactions()), [0, 0]);
}

/// A prepared transaction has scanned a range. What would appear in it waits for the outcome.
#[test]
pub(super) fn a_write_into_a_range_that_was_scanned_waits() {
    let mut table = Table::new(DurabilityMode::InMemory, 2);
    let first = table.step(0, 1, 0, None, put("a", 1));
    let snapshot = table.snapshot(first);
    table.step(1, 1, 0, Some(snapshot), KvCommand::Count { prefix: Some("p".into()) });
    let commit = table.commit(0, 1, &[(0, 1), (1, 1)]);
    table.deliver(0, 1);
    let write = table.execute(1, put("p1", 1));
    let beside = table.execute(1, put("q1", 1));
    assert!(table.answer(write).is_none() && table.answer(beside).is_some());
    table.settle();
    assert!(table.version(commit) < table.version(write));
}

/// Buffered, seed 319. A commit was to be answered when it is durable. While its votes were under way, another shard said
/// that it can write no more, so that no mark can be completed. The transaction was committed, seen by others and kept by
/// the next recovery; its caller was told that the database is unavailable, as if nothing had happened.
#[test]
pub(super) fn a_commit_that_may_never_become_durable_is_not_denied() {
    let mode = DurabilityMode::Buffered { flush_interval_ms: 1, max_pending_writes: 1_000 };
    let mut table = Table::new(mode, 3);
    let first = table.step(0, 1, 0, None, put("a", 1));
    let snapshot = table.snapshot(first);
    table.step(1, 1, 0, Some(snapshot), put("b", 1));
    let commit = Commit { participants: vec![(0, 1), (1, 1)].into(), acknowledge: Acknowledge::Durable };
    let commit = table.ask(0, Request::Commit { transaction: TransactionNumber(1), commit });
    table.deliver(0, 1);
    table.give(2, Input::AppendFailed { reason: "EIO".into() });
    table.deliver(2, 0);
    table.deliver(1, 0);
    let read = table.execute(0, get("a"));
    assert_eq!(table.output(read), Some(&value(1)), "it is committed");
    assert!(matches!(table.answer(commit), Some(Err(Error::CommitUnknown(_)))), "{:?}", table.answer(commit));
}

/// Buffered. A part waited in the log for a mark, its transaction was refused elsewhere, and what came then was larger than
/// the next segment: that one could not be replaced because of the part, and nobody was in a hurry to write the part.
#[test]
fn a_part_that_nobody_waits_for_holds_up_no_larger_write() {
    let mut table = Table::new(DurabilityMode::Buffered { flush_interval_ms: 1_000, max_pending_writes: 1_000 }, 2);
    let begun = table.step(0, 1, 0, None, put("a", 1));
    let snapshot = table.snapshot(begun);
    table.step(1, 1, 0, Some(snapshot), put("b", 1));
    let refused = table.commit(0, 1, &[(0, 1), (1, 2)]);
    table.settle();
    assert!(matches!(table.answer(refused), Some(Err(Error::TransactionConflict(_)))), "an operation was lost");
    let value = "x".repeat(2 << 20).into();
    let large = table.execute(0, KvCommand::Put { key: "c".into(), value, ttl: None });
    table.settle();
    assert!(matches!(table.answer(large), Some(Ok(_))), "{:?}", table.answer(large));
}

/// Strict. Writes of `k` and `a` on shard 0 are lost with its log, after a transaction that wrote `a` there and is later
/// than the write of `k`. What had been acknowledged of either key is told; of both at once there is no version at which
/// that would be true for ever.
#[test]
pub(super) fn what_was_acknowledged_is_told_after_a_write_over_it_has_failed() {
    let mut table = Table::new(DurabilityMode::Strict, 2);
    table.execute(0, put("k", 1));
    table.settle();
    let begun = table.step(0, 1, 0, None, put("a", 1));
    let snapshot = table.snapshot(begun);
    table.step(1, 1, 0, Some(snapshot), put("b", 1));
    let commit = table.commit(0, 1, &[(0, 1), (1, 1)]);
    table.complete_write(0);
    let lost = table.execute(0, put("k", 2));
    table.deliver(0, 1);
    table.complete_write(1);
    table.deliver(1, 0);
    assert!(table.version(commit) > table.now - 3_000, "it is later than the write of k");
    let lost_too = table.execute(0, put("a", 2));
    table.fail_write(0);
    for id in [lost, lost_too] {
        assert!(matches!(table.answer(id), Some(Err(Error::CommitUnknown(_)))));
    }
    for key in ["k", "a"] {
        let read = table.execute(0, get(key));
        assert_eq!(table.output(read), Some(&value(1)), "{key}");
    }
    let both = table.execute(0, KvCommand::GetMany { keys: vec!["k".into(), "a".into()] });
    assert!(matches!(table.answer(both), Some(Err(Error::Unavailable(_)))), "{:?}", table.answer(both));
}

/// The same, and the transaction was acknowledged by shard 1 before shard 0 heard of its outcome: who waited for that sees
/// what it wrote.
#[test]
pub(super) fn who_waits_on_a_shard_that_has_failed_sees_what_was_committed_meanwhile() {
    let mut table = Table::new(DurabilityMode::Strict, 2);
    table.execute(0, put("k", 1));
    table.now += 1_000_000;
    table.execute(1, put("ahead", 1));
    table.now -= 1_000_000;
    table.settle();
    let begun = table.step(0, 1, 0, Some(2_000), put("a", 1));
    let snapshot = table.snapshot(begun);
    table.step(1, 1, 0, Some(snapshot), put("b", 1));
    let commit = table.commit(1, 1, &[(0, 1), (1, 1)]);
    table.deliver(1, 0);
    table.complete_write(0);
    table.complete_write(1);
    table.execute(0, put("k", 2));
    table.deliver(0, 1);
    assert!(table.version(commit) > 1_000_000);
    table.fail_write(0);
    let waits = table.execute(0, get("a"));
    assert!(table.answer(waits).is_none(), "the outcome is under way");
    let other = table.execute(0, get("k"));
    table.deliver(1, 0);
    assert_eq!((table.output(waits), table.output(other)), (Some(&value(1)), Some(&value(1))));
    // A transaction begins behind the commit, and is told what has nothing to do with the writes that failed.
    let snapshot = Some(table.version(commit));
    let step = table.step(0, 2, 0, snapshot, get("a"));
    assert_eq!(table.output(step), Some(&value(1)));
    let step = table.step(0, 2, 1, snapshot, get("k"));
    assert!(matches!(table.answer(step), Some(Err(Error::Unavailable(_)))), "{:?}", table.answer(step));
}

/// What a dump of a shard holds of a transaction that was promised before it began, and whether it waited.
fn dumped_beside_a_promise() -> (bool, bool) {
    let mut table = Table::new(DurabilityMode::InMemory, 2);
    let put = |key: &str| KvCommand::Put { key: key.into(), value: 1.into(), ttl: None };
    table.execute(1, put("before"));
    table.step(0, 1, 0, None, put("here"));
    let snapshot = table.now;
    table.step(1, 1, 0, Some(snapshot), put("there"));
    table.commit(0, 1, &[(0, 1), (1, 1)]);
    table.deliver(0, 1);
    table.advance();
    let at = table.now.into();
    for shard in 0..2 {
        table.ask(shard, Request::BeginDump { at });
    }
    let first = table.ask(1, Request::Dump { at });
    let has_waited = *table.output(first).unwrap() == Output::Pieces(Some(Vec::new()));
    table.settle();
    let mut pieces = Vec::new();
    for shard in 0..2 {
        while let Output::Pieces(Some(some)) = table.output_of(shard, Request::Dump { at }) {
            pieces.extend(some);
        }
    }
    let holds = |key: &str| format!("{pieces:?}").contains(&format!("{:?}", Name::from_slice(key.as_bytes())));
    assert!(holds("here"), "the coordinator had decided");
    (has_waited, holds("there"))
}

#[test]
fn a_dump_waits_for_what_may_still_be_committed_below_it() {
    assert_eq!(dumped_beside_a_promise(), (true, true));
    plant(Some(Bug::DumpInDoubt));
    assert_eq!(dumped_beside_a_promise(), (false, false), "half a transaction");
    plant(None);
}

/// A part waits for its decision while the log goes on in the next segment. A snapshot at any version may not hold what it
/// writes: the log is needed from that part on.
#[test]
pub(super) fn the_log_is_needed_from_the_first_part_in_doubt() {
    let mut table = Table::new(DurabilityMode::Strict, 2);
    in_doubt(&mut table);
    for (shard, through) in std::mem::take(&mut table.writes) {
        table.give(shard, Input::Appended { through, took: Duration::ZERO });
    }
    for number in 0..3 {
        let value = Value::from("x".repeat(600_000));
        table.execute(1, KvCommand::Put { key: format!("large {number}").into(), value, ttl: None });
        while let Some((shard, through)) = table.writes.pop() {
            assert!(number < 2 || through.segment() > 0, "the log goes on in the next segment");
            table.give(shard, Input::Appended { through, took: Duration::ZERO });
        }
    }
    let start = |table: &mut Table| match table.output_of(1, Request::AskLogStart { rotates: false }) {
        Output::LogStart { segment, .. } => segment,
        other => panic!("the shard answered another question: {other:?}"),
    };
    assert_eq!(start(&mut table), 0);
    table.settle();
    assert!(start(&mut table) > 0, "it is decided, and the log before it is not needed any more");
}

/// Who changed what in documents is marked, and the marks are gone once nobody stands below them. Whoever comes later all the
/// same, to read and write as of a version below, loses if the document has changed since, wherever that was.
#[test]
pub(super) fn below_the_marks_whatever_has_changed_a_document_is_a_conflict() {
    let mut table = Table::new(DurabilityMode::InMemory, 1);
    let set = |key: &str, path: &str| set_json(key, path, json!({}));
    for key in ["changed", "same"] {
        table.execute(0, set(key, ""));
    }
    let snapshot = table.now;
    table.execute(0, set("changed", "a"));
    while let Some(due) = table.shards[0].poll_timeout() {
        table.now = table.now.max(due.get()) + 1;
        table.give(0, Input::Tick);
    }
    let list = JsonCommand::List { prefix: Some("ch".into()) };
    for (number, is_lost, commands) in [
        (1, true, vec![set("changed", "b")]),
        (2, true, vec![list, set("same", "b")]),
        (3, false, vec![set("same", "b")]),
        (4, true, vec![set("same", "c")]),
    ] {
        let count = commands.len() as u64;
        for (operation, command) in (0..).zip(commands) {
            table.step(0, number, operation, Some(snapshot), command);
        }
        let commit = table.commit(0, number, &[(0, count)]);
        let has_lost = matches!(table.answer(commit), Some(Err(Error::TransactionConflict(_))));
        assert_eq!(has_lost, is_lost, "T{number}: {:?}", table.answer(commit));
    }
}

/// Strict, seed 75. A transaction in doubt had pushed an item to an array. Another, with a later snapshot, edited a sibling,
/// without waiting, and then pushed too: that waited for the outcome, and then saw the array as it was when the sibling was
/// edited. Its item came before the other's. So an edit waits until everything is known that the document holds.
#[test]
pub(super) fn a_document_is_not_edited_before_it_is_known_who_else_has() {
    let mut table = Table::new(DurabilityMode::InMemory, 2);
    let list = || Path::parse("list").unwrap();
    let push = |value: i64| {
        let value = Json::from_value(value.into()).unwrap();
        JsonCommand::Push { key: "d".into(), path: list(), value }
    };
    table.execute(0, set_json("d", "", json!({"list": []})));
    let first = table.step(0, 1, 0, None, push(1));
    let snapshot = table.snapshot(first);
    table.step(1, 1, 0, Some(snapshot), put("b", 1));
    table.commit(0, 1, &[(0, 1), (1, 1)]);
    table.deliver(0, 1);
    table.step(0, 2, 0, None, set_json("d", "sibling", json!(1)));
    table.step(0, 2, 1, None, push(2));
    table.settle();
    let commit = table.commit(0, 2, &[(0, 2)]);
    assert!(matches!(table.answer(commit), Some(Ok(_))), "{:?}", table.answer(commit));
    let found = table.execute(0, JsonCommand::Get { key: "d".into(), path: list() });
    assert_eq!(table.output(found), Some(&Output::Json(Some(Json::from_value(json!([1, 2])).unwrap()))));
}

/// Over several shards, two that edit siblings do not conflict, but while the one is in doubt, the other cannot prepare.
#[test]
fn who_edits_a_sibling_loses_only_to_one_in_doubt() {
    for is_in_doubt in [false, true] {
        let mut table = Table::new(DurabilityMode::InMemory, 2);
        table.execute(0, set_json("d", "", json!({})));
        let snapshot = table.now;
        for (number, place) in [(1, "a"), (2, "b")] {
            table.step(0, number, 0, Some(snapshot), set_json("d", place, json!(1)));
            table.step(1, number, 0, Some(snapshot), put(place, 1));
        }
        table.commit(0, 1, &[(0, 1), (1, 1)]);
        if !is_in_doubt {
            table.settle();
        }
        let second = table.commit(0, 2, &[(0, 1), (1, 1)]);
        table.settle();
        let has_lost = matches!(table.answer(second), Some(Err(Error::TransactionConflict(_))));
        assert_eq!(has_lost, is_in_doubt, "{:?}", table.answer(second));
    }
}
