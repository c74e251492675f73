//! Scenarios: what seeds have found, each as the shortest story that shows it.

use std::time::Duration;

use super::recovery::DATABASE;
use crate::base::error::{Error, Result};
use crate::base::options::{DurabilityMode, HistoryRetention, Partitioning};
use crate::base::run_id::RunId;
use crate::base::value::Value;
use crate::base::version::Version;
use crate::commit::message::TransactionNumber;
use crate::format::BLOCK;
use crate::format::record::Position;
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::primitive::command::{Command, EventCommand, KvCommand, NewRun, RunCommand, RunFilter};
use crate::primitive::output::{Output, Reply};
use crate::shard::decisions::Decisions;
use crate::shard::effect::{Append, Effect};
use crate::shard::input::{Acknowledge, Commit, Input, Request};
use crate::shard::machine::{Shard, ShardConfig};
use crate::shard::replay::{Extent, Target, judge, replay_segment, survey};
use crate::shard::route::Layout;
use crate::store::backlog::{BACKLOG, Backlog};
use crate::store::memory::Memory;

const RUN: RunId = RunId::from_bytes([7; 16]);
const TRANSACTION: TransactionNumber = TransactionNumber(1);

/// One shard whose disk does what the story says.
struct Stage {
    shard: Shard,
    now: u64,
    writing: Option<Append>,
    replies: Vec<Result<Reply>>,
    stopped: bool,
}

impl Stage {
    fn new(mode: DurabilityMode) -> Self {
        let config = ShardConfig { incarnation: 1, shard: 0, shards: 1, mode, read_only: false };
        let shard = Shard::new(config, Memory::new(HistoryRetention::Off), Version::from(1));
        Self { shard, now: 1_000, writing: None, replies: Vec::new(), stopped: false }
    }

    fn feed(&mut self, input: Input) {
        self.now += 10;
        self.shard.handle(self.now.into(), input);
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::Reply { result, .. } => self.replies.push(result),
                Effect::Append(append) => self.writing = Some(append),
                Effect::PrepareSegment { index, capacity } => {
                    self.shard.handle(self.now.into(), Input::SegmentReady { index, capacity, salt: 5 });
                }
                Effect::Send { to, envelope } => panic!("there is one shard: to={to} {envelope:?}"),
                Effect::Stop => self.stopped = true,
            }
        }
    }

    /// What the request is answered, if it is at once.
    fn ask(&mut self, request: Request) -> Option<Result<Reply>> {
        self.replies.clear();
        self.feed(Input::Request { id: 0, request });
        self.replies.pop()
    }

    fn execute(&mut self, run: RunId, command: Command) -> Option<Result<Reply>> {
        self.ask(Request::Execute { run, command })
    }

    fn step(&mut self, operation: u64, command: Command) -> Option<Result<Reply>> {
        self.ask(Request::Step { transaction: TRANSACTION, operation, snapshot: None, run: RUN, command })
    }

    /// Reads as of an earlier version.
    fn look_back(&mut self, at: u64, run: RunId, command: Command) -> Result<Reply> {
        let transaction = TransactionNumber(2);
        let begun = self.ask(Request::Begin { transaction, snapshot: Some(at.into()) });
        assert_eq!(begun.expect("begun at once")?.snapshot, Some(Version::from(at)));
        let step = Request::Step { transaction, operation: 0, snapshot: None, run, command };
        let answer = self.ask(step).expect("answered at once");
        self.ask(Request::Abort { transaction, wrote: true });
        answer
    }

    fn commit(&mut self, operations: u64) -> Option<Result<Reply>> {
        let commit = Commit { participants: vec![(0, operations)].into(), acknowledge: Acknowledge::AsUsual };
        self.ask(Request::Commit { transaction: TRANSACTION, commit })
    }

    fn complete_write(&mut self) -> Append {
        let append = self.writing.take().expect("a write is under way");
        let through = Position::new(append.segment, append.offset + append.bytes.len() as u64);
        self.feed(Input::Appended { through, took: Duration::ZERO });
        append
    }

    fn fail_write(&mut self) {
        self.writing.take().expect("a write is under way");
        self.feed(Input::AppendFailed { reason: "EIO".into() });
    }
}

fn put(key: &str, value: impl Into<Value>, ttl: Option<u64>) -> Command {
    Command::Kv(KvCommand::Put { key: key.into(), value: value.into(), ttl: ttl.map(Duration::from_nanos) })
}

fn get(key: &str) -> Command {
    Command::Kv(KvCommand::Get { key: key.into() })
}

fn append() -> Command {
    Command::Event(EventCommand::Append { event_type: "e".into(), payload: Value::Null, expected_len: None })
}

fn output(answer: Option<Result<Reply>>) -> Output {
    answer.expect("answered at once").expect("no error").output
}

#[track_caller]
fn assert_too_old(answer: &Result<Reply>) {
    let is_told = matches!(answer, Err(Error::InvalidOperation(text)) if text.contains("is no longer kept"));
    assert!(is_told, "{answer:?}");
}

/// The write that failed counted as being under way for ever, and the close waited for it.
#[test]
fn a_shard_whose_write_failed_can_be_closed() {
    let mut stage = Stage::new(DurabilityMode::Strict);
    assert!(stage.execute(RUN, put("k", 1, None)).is_none());
    stage.fail_write();
    assert!(matches!(stage.replies.pop(), Some(Err(Error::CommitUnknown(_)))));
    for request in [Request::Close, Request::Flush, Request::Stop] {
        assert!(matches!(stage.ask(request.clone()), Some(Err(Error::Unavailable(_)))), "{request:?}");
    }
    assert!(stage.stopped);
}

/// Shards had closed, somebody's flush came behind that, its mark was being written, and the shard stopped: the flush was
/// never answered, and the mark was written by a shard that had said it was done.
#[test]
fn a_shard_that_stops_answers_everybody_and_lets_its_last_write_end() {
    let mut stage = Stage::new(DurabilityMode::Buffered { flush_interval_ms: 1_000, max_pending_writes: 10 });
    assert!(stage.execute(RUN, put("k", 1, None)).expect("visible at once").is_ok());
    assert!(stage.ask(Request::Close).expect("closed at once").is_ok());
    assert!(stage.ask(Request::Flush).is_none(), "its mark is being written");
    assert!(matches!(stage.ask(Request::Stop), Some(Err(Error::Unavailable(_)))), "this is the flush");
    assert!(stage.replies.is_empty() && !stage.stopped);
    stage.complete_write();
    assert!(matches!(stage.replies.pop(), Some(Ok(_))));
    assert!(stage.stopped && stage.writing.is_none());
}

/// The length came from the transaction's own event, which had followed from one that was not durable.
#[test]
fn what_follows_from_something_not_durable_waits_as_that_does() {
    let mut stage = Stage::new(DurabilityMode::Strict);
    assert!(stage.execute(RUN, append()).is_none());
    assert!(stage.step(0, append()).is_none(), "it says what the length was");
    assert!(stage.step(1, Command::Event(EventCommand::Len)).is_none(), "it says so too");
    stage.complete_write();
    assert_eq!(stage.replies.len(), 3);
}

/// After the failure replies were no longer held at all.
#[test]
fn a_transaction_from_before_a_failed_write_is_not_told_what_was_lost() {
    let mut stage = Stage::new(DurabilityMode::Strict);
    stage.execute(RUN, put("k", 1, None));
    assert_eq!(output(stage.step(0, get("other"))), Output::Value(None));
    stage.fail_write();
    assert!(matches!(stage.step(1, get("k")), Some(Err(Error::Unavailable(_)))));
    assert_eq!(output(stage.execute(RUN, get("k"))), Output::Value(None));
}

/// A scan counted the end of the run as seen though it came after the snapshot.
#[test]
fn a_reader_as_of_the_last_durable_commit_is_not_disturbed_by_a_delete_that_was_lost() {
    let mut stage = Stage::new(DurabilityMode::Strict);
    stage.execute(RUN, put("k", 1, None));
    stage.complete_write();
    stage.execute(RUN, Command::Run(RunCommand::Delete));
    stage.fail_write();
    let list = Command::Kv(KvCommand::List { prefix: None });
    assert_eq!(output(stage.execute(RUN, list)), Output::Texts(vec!["k".into()]));
}

/// Overwrites of one key do not grow, but nothing that they replaced could go as long as somebody looked back.
#[test]
fn overwrites_beside_a_reader_do_not_go_beyond_the_memory_limit() {
    let mut stage = Stage::new(DurabilityMode::InMemory);
    stage.shard.limit_memory(Some(100_000));
    let overwrite = |stage: &mut Stage| stage.execute(RUN, put("k", "x".repeat(10_000), None)).expect("at once");
    overwrite(&mut stage).unwrap();
    output(stage.step(0, get("k")));
    let written = (0..20).take_while(|_| overwrite(&mut stage).is_ok()).count();
    assert!((7..10).contains(&written), "{written}");
    assert!(matches!(overwrite(&mut stage), Err(Error::OutOfMemory { .. })));
    stage.ask(Request::Abort { transaction: TRANSACTION, wrote: true });
    for _ in 0..20 {
        overwrite(&mut stage).expect("what was replaced goes");
    }
    assert!(stage.shard.memory_used() < 25_000);
}

/// The history of a key showed no end, and an end had come when the transaction was committed.
#[test]
fn a_transaction_that_read_a_history_ends_before_that_goes_on() {
    let mut stage = Stage::new(DurabilityMode::InMemory);
    stage.execute(RUN, put("k", 1, Some(100)));
    output(stage.step(0, Command::Kv(KvCommand::History { key: "k".into() })));
    output(stage.step(1, put("other", 1, None)));
    stage.now += 100;
    let answer = stage.commit(2);
    assert!(matches!(answer, Some(Err(Error::TransactionConflict(_)))), "{answer:?}");
}

/// The reader was told that there was nothing.
#[test]
fn who_looks_back_at_what_has_expired_and_was_removed_is_told_so() {
    let mut stage = Stage::new(DurabilityMode::InMemory);
    stage.execute(RUN, put("k", 1, Some(100)));
    let alive = stage.now + 50;
    stage.now += 200;
    assert_eq!(stage.look_back(alive, RUN, get("k")).unwrap().output, Output::Value(Some(1.into())));
    stage.feed(Input::Tick);
    assert_too_old(&stage.look_back(alive, RUN, get("k")));
    assert_eq!(output(stage.execute(RUN, get("k"))), Output::Value(None));
}

/// The directory still named the run, the run kept only its newest metadata, and that was called corruption.
#[test]
fn who_lists_runs_as_they_were_is_told_if_one_has_forgotten() {
    let mut stage = Stage::new(DurabilityMode::InMemory);
    let (name, parent, tags) = ("r".into(), None, Vec::new());
    stage.execute(
        RUN,
        Command::Run(RunCommand::Create(Box::new(NewRun { name, parent, tags, metadata: Value::Null, history: None }))),
    );
    let before = stage.now;
    stage.execute(RUN, Command::Run(RunCommand::UpdateMetadata { metadata: 1.into() }));
    let list = || Command::Run(RunCommand::List(RunFilter::All));
    assert_too_old(&stage.look_back(before, RunId::DIRECTORY, list()));
    assert!(matches!(output(stage.execute(RunId::DIRECTORY, list())), Output::Runs(runs) if runs.len() == 1));
}

/// The run was made though it had been there: what says so had been forgotten. The caller was told that the version is too
/// old, and saw the run that it had not made in the next answer.
#[test]
fn what_follows_from_something_forgotten_is_not_written() {
    let mut stage = Stage::new(DurabilityMode::InMemory);
    let create = |tag: &str| {
        let (name, parent, tags) = ("r".into(), None, vec![tag.into()]);
        Command::Run(RunCommand::Create(Box::new(NewRun { name, parent, tags, metadata: Value::Null, history: None })))
    };
    stage.execute(RUN, create("theirs"));
    let before = stage.now;
    stage.execute(RUN, Command::Run(RunCommand::UpdateMetadata { metadata: 1.into() }));
    let begin = Request::Begin { transaction: TRANSACTION, snapshot: Some(before.into()) };
    stage.ask(begin).expect("begun at once").unwrap();
    assert_too_old(&stage.step(0, create("ours")).expect("answered at once"));
    let list = Command::Run(RunCommand::List(RunFilter::Tag("ours".into())));
    let step =
        Request::Step { transaction: TRANSACTION, operation: 1, snapshot: None, run: RunId::DIRECTORY, command: list };
    assert_eq!(output(stage.ask(step)), Output::Runs(Vec::new()));
    assert!(matches!(stage.commit(2), Some(Err(Error::TransactionConflict(_)))));
}

/// A segment with batches in it.
fn segment_of(batches: &[Append]) -> (SegmentHeader, Vec<u8>) {
    let id = SegmentId { incarnation: 1, shard: 0, index: 0 };
    let header = SegmentHeader { id, database: DATABASE, salt: 5, capacity: 1 << 20, strict: true };
    let mut bytes = header.to_block();
    for batch in batches {
        bytes.extend(&batch.bytes);
    }
    bytes.resize(8 * BLOCK, 0);
    (header, bytes)
}

/// A sector of a batch was lost, and a record in the same block, before it, was whole: the block counted as read to its
/// end, which was all that the next batch knew to be durable. So the rest of the log was cut off as torn.
#[test]
fn a_lost_sector_behind_a_whole_record_of_its_block_is_corruption() {
    let mut stage = Stage::new(DurabilityMode::Strict);
    stage.execute(RUN, put("a", 1, None));
    for key in ["b", "c"] {
        stage.execute(RUN, put(key, "x".repeat(700), None));
    }
    let first = stage.complete_write();
    stage.execute(RUN, put("d", 1, None));
    let second = stage.complete_write();
    let third = stage.complete_write();
    let (header, mut bytes) = segment_of(&[first, second, third]);
    bytes[2 * BLOCK + 1024..2 * BLOCK + 1536].fill(0);
    let damage = judge(0, Position::START, &[survey(&bytes, &header, None)])
        .expect_err("the third batch knows that the second is durable");
    assert!(damage.what.contains("was durable"), "{damage:?}");
}

/// The sector held the last record of its batch and nothing else: what was left looked like padding.
#[test]
pub(super) fn a_lost_sector_with_the_last_records_of_a_batch_is_no_padding() {
    let mut stage = Stage::new(DurabilityMode::Strict);
    stage.execute(RUN, put("a", 1, None));
    // A record of exactly one sector, and one in the next.
    stage.execute(RUN, put("b", "x".repeat(419), None));
    stage.execute(RUN, put("c", 1, None));
    let first = stage.complete_write();
    stage.execute(RUN, put("d", 1, None));
    let second = stage.complete_write();
    let third = stage.complete_write();
    let (header, mut bytes) = segment_of(&[first, second, third]);
    bytes[2 * BLOCK + 512..2 * BLOCK + 1024].fill(0);
    let damage = judge(0, Position::START, &[survey(&bytes, &header, None)]).expect_err("a record is missing");
    assert_eq!((damage.offset, damage.what.contains("was durable")), (2 * BLOCK as u64 + 512, true), "{damage:?}");
}

/// The whole block was sealed as valid, and the next look at it found that it is not.
#[test]
pub(super) fn a_batch_torn_inside_a_block_is_cut_behind_its_last_whole_record() {
    let mut stage = Stage::new(DurabilityMode::Strict);
    stage.execute(RUN, put("a", 1, None));
    for key in ["b", "c"] {
        stage.execute(RUN, put(key, "x".repeat(700), None));
    }
    let first = stage.complete_write();
    let second = stage.complete_write();
    let (header, mut bytes) = segment_of(&[first, second]);
    // The first two of the second batch's sectors were written: the record of `b`, and the start of that of `c`.
    bytes[2 * BLOCK + 1024..].fill(0);
    let judgement = judge(0, Position::START, &[survey(&bytes, &header, None)]).expect("a torn tail is no corruption");
    assert!(judgement.torn.is_some(), "a torn tail is there");
    let mut backlog = Backlog::new(Memory::new(HistoryRetention::Off), BACKLOG);
    let layout = Layout { shards: 1, partitioning: Partitioning::ByRun };
    let target = Target { shard: 0, layout, moved_from: None, by_run: true };
    let extent =
        Extent { end: judgement.ends[0], above: Version::ZERO, cut: Version::MAX, decisions: &Decisions::default() };
    let replayed = replay_segment(&bytes, &header, extent, target, &mut backlog);
    assert_eq!(replayed.map(|(records, _)| records), Ok(2));
    assert!(backlog.finish().is_ok());
}
