//! Participation: a shard's part in transactions over several shards.
//!
//! - A yes is a promise: the part is logged, its intents are granted, and from then on only the coordinator decides.
//!   In `Strict` mode the vote leaves when the part is durable.
//! - A no has logged nothing and leaves nothing behind.
//! - When the transaction has failed after parts were logged, the intents go only when an abort record is durable; on a
//!   shard that cannot write one, when that of another is.
//! - All of it is idempotent: what is not promised here, no decision changes.

use std::sync::Arc;

use super::execution::lost_operation;
use super::gate::{Departure, Until};
use super::machine::{Shard, closed};
use super::transactions::{Open, Promise};
use crate::base::error::{Error, Result};
use crate::base::kill_point::{KillPoint, kill_point};
use crate::base::lineage::ReadSet;
use crate::base::options::DurabilityMode;
use crate::base::planted::{Bug, planted};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::message::{Message, TransactionNumber, Vote};
use crate::commit::part::Part;
use crate::format::record::{CommitBody, PartBody, PartHead, RecordHeader, TransactionId};
use crate::primitive::{digest, index, lineage};

/// Why a part is not promised, and the version that the answer depends on.
type Refusal = (Error, Version);

impl Shard {
    /// The coordinator asks for a promise.
    pub(super) fn prepare(&mut self, from: u32, number: TransactionNumber, operations: u64, participants: &[u32]) {
        let (vote, until) = match self.promise(from, number, operations, participants) {
            Ok(vote) => (vote, self.once_durable(self.log.logged()).filter(|_| !planted(Bug::VoteNotDurable))),
            Err((error, depends_on)) => {
                self.forget(number);
                // A conflict that names a version is a read of it.
                (Vote::No(error), self.once_durable(self.log.commit_of(depends_on)))
            }
        };
        self.depart(until, Departure::Vote { coordinator: from, transaction: number, vote });
    }

    /// Validates, logs and locks, in one step.
    fn promise(
        &mut self,
        coordinator: u32,
        number: TransactionNumber,
        operations: u64,
        participants: &[u32],
    ) -> Result<Vote, Refusal> {
        let at_once = |error: Error| (error, Version::ZERO);
        self.check_writable().and_then(|()| self.check_others()).map_err(at_once)?;
        if !self.transactions.is_open(number) {
            // Forgotten, or its operations have not come: those that come later come too late.
            self.transactions.refuse(number);
            let lost = if self.is_closing() { closed() } else { lost_operation(RunId::DIRECTORY) };
            return Err(at_once(lost));
        }
        self.check_part(number, operations).map_err(at_once)?;
        let part = self.transactions.part(number);
        part.map_or(Ok(()), |part| self.check_growth(part.writes())).map_err(at_once)?;
        let version = self.next_version();
        let Some(open) = self.transactions.get(number, self.now) else {
            return Err(at_once(lost_operation(RunId::DIRECTORY)));
        };
        if let Err(conflict) = open.part.validate(&self.memory, version) {
            let winner = conflict.winner.unwrap_or_default();
            return Err((Error::TransactionConflict(conflict), winner));
        }
        index::complete(&mut open.part, &self.memory, version);
        let obstacle = self.intents.obstacle(&open.part).map(|obstacle| obstacle.conflict());
        let obstacle = obstacle.filter(|_| !planted(Bug::WriteIntentsIgnored));
        if let Some(conflict) = obstacle.or_else(|| self.intents.barred(&open.part)) {
            return Err(at_once(Error::TransactionConflict(conflict)));
        }
        let earliest_expiry = open.part.earliest_expiry();
        let reads = lineage::read_by(&self.memory, &open.part);
        let is_left_out = planted(Bug::ReadPartNotLogged) && open.part.writes().is_empty();
        if self.config.mode != DurabilityMode::InMemory && !is_left_out {
            let id = TransactionId { incarnation: self.config.incarnation, shard: coordinator, number: number.0 };
            let (header, body) = part_record(self.config.shard, id, version, participants, &open.part, reads.clone());
            self.log.stage_if_room(header, version, &body).map_err(at_once)?;
            kill_point(KillPoint::PartLogged);
        }
        self.latest = version;
        self.intents.grant(number, version, &open.part);
        let promise = Promise { coordinator, logged: self.log.logged(), is_stuck: false };
        self.transactions.promise(number, promise);
        Ok(Vote::Yes { timestamp: version, earliest_expiry, reads })
    }

    /// The transaction is committed.
    pub(super) fn decide(&mut self, number: TransactionNumber, timestamp: Version, reads: Option<&Arc<ReadSet>>) {
        if !planted(Bug::NotLearned) {
            self.latest = self.latest.max(timestamp);
        }
        let Some(open) = self.take_promised(number) else { return };
        self.counted.parts += 1;
        self.note_kept(timestamp);
        let links = digest::alone(&self.memory, open.part.writes(), timestamp);
        self.apply(open.part, timestamp, links, reads);
        self.wake(number);
    }

    /// The transaction is not committed.
    pub(super) fn abort(&mut self, coordinator: u32, number: TransactionNumber, log: bool) {
        let Some(promise) = self.transactions.promised(number) else {
            self.transactions.end(number);
            return;
        };
        assert_eq!(promise.coordinator, coordinator, "only the coordinator decides");
        if !log {
            return self.abandon(number);
        }
        if self.poisoned().is_some() {
            return self.stick(number);
        }
        let id = TransactionId { incarnation: self.config.incarnation, shard: coordinator, number: number.0 };
        // A version of its own in the log's order: whoever has seen the commit before it does not depend on it.
        self.latest = self.next_version();
        let staged = self.log.stage(RecordHeader::abort(id), self.latest, &());
        kill_point(KillPoint::AbortLogged);
        match staged {
            Ok(_) if planted(Bug::AbortNotAwaited) => self.abandoned(number),
            Ok(at) => self.depart(Some(Until::Logged(at)), Departure::Abandoned { transaction: number }),
            Err(_) => self.stick(number),
        }
    }

    /// This shard's abort record is durable.
    pub(super) fn abandoned(&mut self, number: TransactionNumber) {
        if let Some(promise) = self.transactions.promised(number) {
            let coordinator = promise.coordinator;
            self.abandon(number);
            self.tell(coordinator, Message::AbortIsDurable { transaction: number });
        }
    }

    /// Lets go of the intents of a transaction that can never be committed.
    pub(super) fn abandon(&mut self, number: TransactionNumber) {
        if self.take_promised(number).is_some() {
            self.wake(number);
        }
    }

    /// The outcome will not be known here: the intents stay, and whoever meets them gets an error.
    pub(super) fn stick(&mut self, number: TransactionNumber) {
        if let Some(promise) = self.transactions.promised(number) {
            promise.is_stuck = true;
            self.wake(number);
        }
    }

    fn take_promised(&mut self, number: TransactionNumber) -> Option<Box<Open>> {
        self.transactions.promised(number)?;
        let open = self.transactions.end(number)?;
        self.intents.release(number, &open.part);
        Some(open)
    }
}

/// The record of a part.
#[expect(clippy::cast_possible_truncation, reason = "there are at most 1024 shards")]
fn part_record<'a>(
    shard: u32,
    id: TransactionId,
    version: Version,
    participants: &[u32],
    part: &'a Part,
    reads: Option<Arc<ReadSet>>,
) -> (RecordHeader, PartBody<&'a [crate::base::stored::Write]>) {
    let own = participants.iter().position(|participant| *participant == shard);
    let Some(own) = own else { panic!("a participant is among the participants") };
    let header = RecordHeader::part(version, id, own as u16, participants.len() as u16);
    let head = PartHead { participants: participants.into(), earliest_expiry: part.earliest_expiry(), reads };
    (header, PartBody { head, commit: CommitBody::of(part.writes()) })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::time::Duration;

    use super::*;
    use crate::base::options::HistoryRetention;
    use crate::commit::message::Envelope;
    use crate::format::record::Position;
    use crate::primitive::command::{Command, KvCommand};
    use crate::primitive::output::{Output, Reply};
    use crate::shard::effect::{Append, Effect};
    use crate::shard::input::{Acknowledge, Commit, Input, Request, RequestId};
    use crate::shard::machine::ShardConfig;
    use crate::store::memory::Memory;

    const RUN: RunId = RunId::from_bytes([1; 16]);
    const X: TransactionNumber = TransactionNumber(7);

    /// Shards whose messages and writes go on when a test says so. Time stands still.
    struct World {
        shards: Vec<Shard>,
        writes: BTreeMap<usize, Append>,
        mail: VecDeque<(u32, u32, Envelope)>,
        replies: BTreeMap<RequestId, Result<Reply>>,
        asked: RequestId,
    }

    impl World {
        fn new(mode: DurabilityMode, count: u32) -> Self {
            let shard = |shard: u32| {
                let config = ShardConfig { incarnation: 1, shard, shards: count, mode, read_only: false };
                Shard::new(config, Memory::new(HistoryRetention::Off), Version::from(100))
            };
            let shards = (0..count).map(shard).collect();
            Self { shards, writes: BTreeMap::new(), mail: VecDeque::new(), replies: BTreeMap::new(), asked: 0 }
        }

        fn handle(&mut self, shard: usize, input: Input) {
            self.shards[shard].handle(Version::from(100), input);
            while let Some(effect) = self.shards[shard].poll_effect() {
                match effect {
                    Effect::Reply { id, result } => drop(self.replies.insert(id, result)),
                    Effect::Send { to, envelope } => self.mail.push_back((u32::try_from(shard).unwrap(), to, envelope)),
                    Effect::Append(append) => assert!(self.writes.insert(shard, append).is_none(), "one at a time"),
                    Effect::PrepareSegment { index, capacity } => {
                        self.shards[shard].handle(100.into(), Input::SegmentReady { index, capacity, salt: 1 });
                    }
                    Effect::Stop => {}
                }
            }
        }

        fn ask(&mut self, shard: usize, request: Request) -> RequestId {
            self.asked += 1;
            self.handle(shard, Input::Request { id: self.asked, request });
            self.asked
        }

        fn execute(&mut self, shard: usize, command: KvCommand) -> RequestId {
            self.ask(shard, Request::Execute { run: RUN, command: Command::Kv(command) })
        }

        /// One operation of X on each of two shards, then its commit on the first of them.
        fn commit_x(&mut self, operations: [KvCommand; 2], acknowledge: Acknowledge) -> RequestId {
            for (shard, command) in operations.into_iter().enumerate() {
                let (run, command) = (RUN, Command::Kv(command));
                let snapshot = (shard > 0).then_some(Version::from(100));
                self.ask(shard, Request::Step { transaction: X, operation: 0, snapshot, run, command });
            }
            let commit = Commit { participants: vec![(0, 1), (1, 1)].into(), acknowledge };
            self.ask(0, Request::Commit { transaction: X, commit })
        }

        fn write_ends(&mut self, shard: usize, is_good: bool) {
            let write = self.writes.remove(&shard).unwrap();
            let through = Position::new(write.segment, write.offset + write.bytes.len() as u64);
            let reason = "it broke".into();
            self.handle(
                shard,
                if is_good {
                    Input::Appended { through, took: Duration::ZERO }
                } else {
                    Input::AppendFailed { reason }
                },
            );
        }

        /// Delivers the oldest message to a shard.
        fn deliver(&mut self, to: usize) {
            let at = self.mail.iter().position(|(_, addressee, _)| *addressee as usize == to).unwrap();
            let (from, _, envelope) = self.mail.remove(at).unwrap();
            self.handle(to, Input::Peer { from, envelope });
        }

        fn error(&self, id: RequestId) -> &Error {
            self.replies[&id].as_ref().unwrap_err()
        }
    }

    fn put(key: &str) -> KvCommand {
        KvCommand::Put { key: key.into(), value: 1.into(), ttl: None }
    }

    fn get(key: &str) -> KvCommand {
        KvCommand::Get { key: key.into() }
    }

    /// X fails on shard 0. Meanwhile Y commits on shard 1 and is acknowledged. Then shard 1 can neither write the abort
    /// record of X: Y must still be seen there, for it is on disk.
    #[test]
    fn an_abort_record_that_is_lost_takes_no_durable_commit_with_it() {
        let mut world = World::new(DurabilityMode::Strict, 2);
        let commit = world.commit_x([put("a"), put("b")], Acknowledge::AsUsual);
        world.deliver(1);
        world.write_ends(0, false);
        assert!(matches!(world.error(commit), Error::CommitUnknown(_)));
        world.write_ends(1, true);
        let acknowledged = world.execute(1, put("y"));
        world.write_ends(1, true);
        assert!(world.replies[&acknowledged].is_ok());
        world.deliver(1);
        world.write_ends(1, false);
        let read = world.execute(1, get("y"));
        let found = &world.replies[&read].as_ref().unwrap().output;
        assert_eq!(*found, Output::Value(Some(1.into())));
        let read = world.execute(1, get("b"));
        assert!(matches!(world.error(read), Error::Unavailable(_)), "nobody knows what became of X");
    }

    /// X fails on shard 0, and shard 1 refuses it later: nobody has an abort record, and none is needed.
    #[test]
    fn a_failed_transaction_is_let_go_when_another_part_was_refused() {
        let mut world = World::new(DurabilityMode::Strict, 2);
        let snapshot = Some(Version::from(100));
        let (run, command) = (RUN, Command::Kv(get("b")));
        world.ask(1, Request::Step { transaction: X, operation: 0, snapshot, run, command });
        world.execute(1, put("b"));
        world.write_ends(1, true);
        let command = Command::Kv(put("a"));
        world.ask(0, Request::Step { transaction: X, operation: 0, snapshot, run, command });
        let commit = Commit { participants: vec![(0, 1), (1, 1)].into(), acknowledge: Acknowledge::AsUsual };
        let commit = world.ask(0, Request::Commit { transaction: X, commit });
        world.write_ends(0, false);
        assert!(matches!(world.error(commit), Error::CommitUnknown(_)));
        assert!(world.shards[0].held_intents() > 0);
        world.deliver(1);
        world.deliver(0);
        assert_eq!(world.shards[0].held_intents(), 0);
        assert_eq!(world.shards[0].open_transactions(), 0, "its snapshot holds nobody up");
        assert!(world.shards[0].failed.is_empty());
    }

    /// A third shard cannot write and says so to the coordinator before the last vote arrives.
    #[test]
    fn a_commit_decided_on_a_poisoned_shard_is_not_called_one_that_did_not_happen() {
        let mode = DurabilityMode::Buffered { flush_interval_ms: 1_000, max_pending_writes: 1_000 };
        let mut world = World::new(mode, 3);
        let commit = world.commit_x([put("a"), put("b")], Acknowledge::Durable);
        world.deliver(1);
        let message = Message::Poisoned { reason: "it broke".into() };
        world.handle(0, Input::Peer { from: 2, envelope: Envelope { horizon: Version::ZERO, message } });
        world.deliver(0);
        assert!(matches!(world.error(commit), Error::CommitUnknown(_)), "{:?}", world.replies[&commit]);
        world.deliver(1);
        assert_eq!([0, 1].map(|shard: usize| world.shards[shard].held_intents()), [0, 0]);
    }
}
