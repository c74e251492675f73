//! The door: writes that wait for room in the log.
//!
//! - A write is let in when there is room for its record, so that what was let in can be written whatever the disk says
//!   to the next segment. They are let in in the order they came.
//! - Who waits has seen nothing and changed nothing: to everybody else it is a request that has not arrived yet.
//! - When there is no room to be had, those who wait are let in and refused where their record would be logged, and so
//!   is everybody after them whose record does not fit, until there is room again. A refused write leaves no trace.
//! - In `Buffered` mode a shard without room tells the others, and they refuse writes too: it may soon have no room for
//!   a mark, and then nothing that they acknowledge becomes durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::input::{Commit, RequestId};
use super::machine::Shard;
use crate::base::error::{IoFailure, Result};
use crate::base::key::{Space, unit_name};
use crate::base::limits;
use crate::base::options::DurabilityMode;
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::version::Version;
use crate::commit::message::{Message, TransactionNumber};
use crate::primitive::command::Command;

/// What a record may take beside its writes.
const RECORD_BYTES: usize = 128;
/// What a record takes for each participant.
const PARTICIPANT_BYTES: usize = 5;

/// Somebody who waits.
#[derive(Debug)]
pub(super) enum Caller {
    Write { id: RequestId, run: RunId, command: Command },
    Commit { id: RequestId, transaction: TransactionNumber, commit: Commit },
    Prepare { from: u32, transaction: TransactionNumber, operations: u64, participants: Arc<[u32]> },
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub(crate) struct Door {
    waiting: VecDeque<Caller>,
    /// Other shards whose logs have no room, and why.
    short: BTreeMap<u32, IoFailure>,
    /// Whether the others have been told that this one has none.
    is_told: bool,
}

impl Door {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no more requests should be taken until some of those that wait are let in.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting.len() >= limits::BATCH_REQUESTS
    }
}

impl Shard {
    /// Lets somebody in whose record has room, or lets them wait.
    pub(super) fn knock(&mut self, caller: Caller) {
        let bytes = self.bytes_of(&caller);
        if bytes == 0 || (self.door.is_empty() && self.may_enter(bytes)) {
            return self.enter(caller);
        }
        if self.door.is_empty() {
            self.log.want(bytes);
        }
        self.set_committing(&caller, true);
        self.door.waiting.push_back(caller);
    }

    /// Whoever waits to commit is not forgotten, however long that takes.
    fn set_committing(&mut self, caller: &Caller, is_committing: bool) {
        if let Caller::Commit { transaction, .. } | Caller::Prepare { transaction, .. } = caller
            && let Some(open) = self.transactions.get(*transaction, self.now)
        {
            open.is_committing = is_committing;
        }
    }

    /// Lets in who can be let in, or is to be refused.
    pub(super) fn open_door(&mut self) {
        while let Some(caller) = self.door.waiting.pop_front() {
            // Whoever came in before may have changed what it takes.
            let bytes = self.bytes_of(&caller);
            if bytes > 0 && !self.may_enter(bytes) {
                self.log.want(bytes);
                return self.door.waiting.push_front(caller);
            }
            self.set_committing(&caller, false);
            self.enter(caller);
        }
        self.log.want(0);
    }

    /// Nobody is let in any more; gives out the requests that waited.
    pub(super) fn close_door(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.door.waiting).iter().filter_map(Caller::id).collect()
    }

    fn may_enter(&self, bytes: usize) -> bool {
        self.poisoned().is_some() || self.log.refuses(bytes).is_some() || self.log.has_room_for(bytes)
    }

    fn enter(&mut self, caller: Caller) {
        #[cfg(test)]
        let (id, before) = (caller.id(), self.latest());
        match caller {
            Caller::Write { id, run, command } => self.write(id, run, command),
            Caller::Commit { id, transaction, commit } => self.commit_transaction(id, transaction, commit),
            Caller::Prepare { from, transaction, operations, participants } => {
                self.prepare(from, transaction, operations, &participants);
            }
        }
        #[cfg(test)]
        self.let_in.extend(id.map(|id| super::machine::LetIn { id, before, after: self.latest() }));
    }

    /// The most bytes that somebody may log; 0 is nothing.
    fn bytes_of(&mut self, caller: &Caller) -> usize {
        if self.config.read_only || self.config.mode == DurabilityMode::InMemory {
            return 0;
        }
        match caller {
            Caller::Write { run, command, .. } => self.bytes_of_command(run, command),
            Caller::Commit { transaction, commit, .. } => match commit.participants[..] {
                [(shard, _)] if shard == self.config.shard => self.bytes_of_part(*transaction, 1),
                // This shard's part is let in when it is prepared.
                _ => 0,
            },
            Caller::Prepare { transaction, participants, .. } => self.bytes_of_part(*transaction, participants.len()),
        }
    }

    /// The most bytes that what a commit read takes in the log.
    const fn bytes_of_lineage(&self) -> usize {
        if self.memory.keeps_lineage() { limits::LINEAGE_BYTES } else { 0 }
    }

    fn bytes_of_command(&self, run: &RunId, command: &Command) -> usize {
        let metadata = match command {
            Command::Run(_) => self.memory.at(run, Space::Run, &unit_name(), Version::MAX),
            _ => None,
        };
        let kept = metadata.and_then(|revision| revision.stored.as_ref()).map_or(0, Stored::weight);
        RECORD_BYTES + command.logged_bytes() + kept + self.bytes_of_lineage()
    }

    fn bytes_of_part(&mut self, number: TransactionNumber, participants: usize) -> usize {
        let fixed = RECORD_BYTES + participants * PARTICIPANT_BYTES + self.bytes_of_lineage();
        let part = self.transactions.get(number, self.now).map(|open| &open.part);
        part.map_or(0, |part| fixed + part.logged_bytes())
    }

    /// Why nothing may be committed here because another shard's log has no room.
    pub(super) fn check_others(&self) -> Result<()> {
        self.door.short.values().next().map_or(Ok(()), |reason| Err(reason.refused()))
    }

    /// Another shard's log has no room, or has again.
    pub(super) fn others_short(&mut self, from: u32, reason: Option<IoFailure>) {
        match reason {
            Some(reason) => self.door.short.insert(from, reason),
            None => self.door.short.remove(&from),
        };
    }

    /// Tells the others when this shard's log has no room any more, and when it has again.
    pub(super) fn tell_of_shortage(&mut self) {
        let is_buffered = matches!(self.config.mode, DurabilityMode::Buffered { .. });
        let shortage = self.log.shortage().filter(|_| is_buffered).cloned();
        if shortage.is_some() != self.door.is_told {
            self.door.is_told = shortage.is_some();
            self.tell_others(|| Message::Short { reason: shortage.clone() });
        }
    }
}

impl Caller {
    /// The request; other shards are told when they ask again.
    fn id(&self) -> Option<RequestId> {
        match self {
            Self::Write { id, .. } | Self::Commit { id, .. } => Some(*id),
            Self::Prepare { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::error::Error;
    use crate::base::options::HistoryRetention;
    use crate::format::record::Position;
    use crate::primitive::command::{KvCommand, NewRun, RunCommand};
    use crate::primitive::output::Output;
    use crate::shard::effect::Effect;
    use crate::shard::input::{Input, Request};
    use crate::shard::machine::ShardConfig;
    use crate::store::memory::Memory;

    const RUN: RunId = RunId::from_bytes([1; 16]);

    /// Shards whose segments are made, or not, when a test says so. Writes and messages take no time.
    struct World {
        shards: Vec<Shard>,
        asked: Vec<Option<(u32, u64)>>,
        replies: BTreeMap<RequestId, Result<Output>>,
        now: u64,
    }

    impl World {
        fn new(mode: DurabilityMode, count: u32) -> Self {
            let shard = |shard: u32| {
                let config = ShardConfig { incarnation: 1, shard, shards: count, mode, read_only: false };
                Shard::new(config, Memory::new(HistoryRetention::Off), Version::from(100))
            };
            let shards: Vec<Shard> = (0..count).map(shard).collect();
            let asked = vec![None; shards.len()];
            Self { shards, asked, replies: BTreeMap::new(), now: 100 }
        }

        fn give(&mut self, shard: usize, input: Input) {
            self.now += 10;
            self.shards[shard].handle(self.now.into(), input);
            while let Some(effect) = self.shards[shard].poll_effect() {
                match effect {
                    Effect::Reply { id, result } => drop(self.replies.insert(id, result.map(|reply| reply.output))),
                    Effect::Send { to, envelope } => {
                        let from = u32::try_from(shard).unwrap();
                        self.give(to as usize, Input::Peer { from, envelope });
                    }
                    Effect::Append(append) => {
                        let through = Position::new(append.segment, append.offset + append.bytes.len() as u64);
                        self.give(shard, Input::Appended { through, took: Duration::ZERO });
                    }
                    Effect::PrepareSegment { index, capacity } => self.asked[shard] = Some((index, capacity)),
                    Effect::Stop => {}
                }
            }
        }

        fn make(&mut self, shard: usize) {
            let (index, capacity) = self.asked[shard].take().expect("a segment was asked for");
            self.give(shard, Input::SegmentReady { index, capacity, salt: 1 });
        }

        fn refuse(&mut self, shard: usize) {
            let (index, _) = self.asked[shard].take().expect("a segment was asked for");
            let reason = IoFailure::new(std::io::ErrorKind::StorageFull, "the disk is full".into());
            self.give(shard, Input::SegmentFailed { index, reason });
        }

        fn put(&mut self, shard: usize, id: RequestId, bytes: usize) {
            let command = KvCommand::Put { key: id.to_string().into(), value: vec![7_u8; bytes].into(), ttl: None };
            let request = Request::Execute { run: RUN, command: Command::Kv(command) };
            self.give(shard, Input::Request { id, request });
        }

        fn execute(&mut self, shard: usize, id: RequestId, command: RunCommand) {
            let request = Request::Execute { run: RUN, command: Command::Run(command) };
            self.give(shard, Input::Request { id, request });
        }

        fn keys(&mut self, shard: usize) -> Vec<String> {
            let command = Command::Kv(KvCommand::List { prefix: None });
            self.give(shard, Input::Request { id: 0, request: Request::Execute { run: RUN, command } });
            match self.replies.remove(&0) {
                Some(Ok(Output::Texts(keys))) => keys,
                other => panic!("{other:?}"),
            }
        }

        fn is_refused(&self, id: RequestId) -> bool {
            matches!(&self.replies[&id], Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::StorageFull)
        }
    }

    const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 1, max_pending_writes: 100 };

    #[test]
    fn who_waits_is_let_in_in_order_or_refused_without_a_trace() {
        let mut world = World::new(DurabilityMode::Strict, 1);
        for id in 1..4 {
            world.put(0, id, 10);
        }
        assert!(world.replies.is_empty() && world.keys(0).is_empty(), "they wait, and nobody sees them");
        world.refuse(0);
        assert!((1..4).all(|id| world.is_refused(id)) && world.keys(0).is_empty());
        world.put(0, 4, 10);
        assert!(world.is_refused(4) && world.asked[0].is_none(), "it is too early to ask again");
        world.give(0, Input::AskAgain);
        assert!(world.asked[0].is_none(), "nobody needs it");
        world.put(0, 5, 10);
        world.put(0, 6, 10);
        world.make(0);
        assert_eq!(world.keys(0), ["5", "6"]);
        assert!(world.replies[&5].is_ok() && world.replies[&6].is_ok());
    }

    #[test]
    fn what_fits_the_current_segment_is_taken_though_the_next_cannot_be_made() {
        let mut world = World::new(DurabilityMode::Strict, 1);
        world.put(0, 1, 600_000);
        world.make(0);
        world.refuse(0);
        world.refuse(0);
        world.put(0, 2, 600_000);
        world.put(0, 3, 1_000);
        assert!(world.is_refused(2) && world.replies[&3].is_ok());
        assert_eq!(world.keys(0), ["1", "3"]);
    }

    #[test]
    fn a_large_write_gets_a_segment_of_its_size_in_place_of_the_next_one() {
        let mut world = World::new(DurabilityMode::Strict, 1);
        world.put(0, 1, 600_000);
        world.make(0);
        world.make(0);
        world.put(0, 2, 10 << 20);
        world.put(0, 3, 10);
        assert!(world.asked[0].is_some_and(|(index, capacity)| index == 1 && capacity > 10 << 20));
        world.make(0);
        assert_eq!(world.keys(0), ["1", "2", "3"]);
    }

    /// Tags are logged with the metadata of their run, which had become large while somebody waited to add one.
    #[test]
    fn what_a_write_takes_is_looked_at_when_it_is_let_in() {
        let mut world = World::new(DurabilityMode::Strict, 1);
        let (name, parent, tags) = ("run".into(), None, Vec::new());
        world.execute(
            0,
            1,
            RunCommand::Create(Box::new(NewRun { name, parent, tags, metadata: 1.into(), history: None })),
        );
        world.make(0);
        world.put(0, 2, 600_000);
        world.execute(0, 3, RunCommand::UpdateMetadata { metadata: vec![7_u8; 1_200_000].into() });
        world.execute(0, 4, RunCommand::AddTags { tags: vec!["tag".into()] });
        assert!(!world.replies.contains_key(&3), "there is no room for it");
        world.make(0);
        assert!(world.replies[&3].is_ok());
        world.refuse(0);
        world.refuse(0);
        assert!(world.is_refused(4), "what there is room for is not what it takes now");
    }

    #[test]
    fn in_buffered_mode_nobody_commits_while_one_has_no_room() {
        let mut world = World::new(BUFFERED, 2);
        world.give(0, Input::Tick);
        world.give(1, Input::Tick);
        world.make(0);
        world.put(0, 1, 10);
        world.refuse(1);
        world.put(0, 2, 10);
        assert!(world.replies[&1].is_ok() && world.is_refused(2), "its mark would wait for the other's");
        world.give(1, Input::AskAgain);
        world.make(1);
        world.put(0, 3, 10);
        assert!(world.replies[&3].is_ok());
        assert_eq!(world.keys(0), ["1", "3"]);
    }
}
