//! Participation: a shard's part in transactions over several shards.
//!
//! - A yes is a promise: the part is logged, its intents are granted, and from then on only the coordinator decides.
//!   In `Strict` mode the vote leaves when the part is durable.
//! - A no has logged nothing and leaves nothing behind.
//! - When the transaction has failed after parts were logged, the intents go only when an abort record is durable; on a
//!   shard that cannot write one, when that of another is.
//! - All of it is idempotent: what is not promised here, no decision changes.

use super::execution::lost_operation;
use super::gate::{Departure, Until};
use super::machine::Shard;
use super::transactions::{Open, Promise};
use crate::base::error::{Error, Result};
use crate::base::options::DurabilityMode;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::message::{Message, TransactionNumber, Vote};
use crate::commit::part::Part;
use crate::format::record::{CommitBody, PartBody, PartHead, RecordHeader, TransactionId};

/// Why a part is not promised, and the version that the answer depends on.
type Refusal = (Error, Version);

impl Shard {
    /// The coordinator asks for a promise.
    pub(super) fn prepare(&mut self, from: u32, number: TransactionNumber, operations: u64, participants: &[u32]) {
        match self.promise(from, number, operations, participants) {
            Ok(vote) => {
                let until = match self.config.mode {
                    DurabilityMode::Strict => Some(Until::Logged(self.log.logged())),
                    DurabilityMode::Buffered { .. } | DurabilityMode::InMemory => None,
                };
                self.depart(until, Departure::Vote { coordinator: from, transaction: number, vote });
            }
            Err((error, depends_on)) => {
                self.forget(number);
                // A conflict that names a version is a read of it.
                let until = match self.config.mode {
                    DurabilityMode::Strict => Some(Until::Logged(self.log.commit_of(depends_on))),
                    DurabilityMode::Buffered { .. } | DurabilityMode::InMemory => None,
                };
                let vote = Vote::No(error);
                self.depart(until, Departure::Vote { coordinator: from, transaction: number, vote });
            }
        }
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
        self.check_writable().map_err(at_once)?;
        if !self.transactions.is_open(number) {
            // Forgotten, or its operations have not come: those that come later come too late.
            self.transactions.refuse(number);
            return Err(at_once(lost_operation(RunId::DIRECTORY)));
        }
        self.check_part(number, operations).map_err(at_once)?;
        let version = self.next_version();
        let Some(open) = self.transactions.get(number, self.now) else {
            return Err(at_once(lost_operation(RunId::DIRECTORY)));
        };
        if let Err(conflict) = open.part.validate(&self.memory, version) {
            let winner = conflict.winner.unwrap_or_default();
            return Err((Error::TransactionConflict(conflict), winner));
        }
        let obstacle = self.intents.obstacle(&open.part).map(|obstacle| obstacle.conflict());
        if let Some(conflict) = obstacle.or_else(|| self.intents.barred(&open.part)) {
            return Err(at_once(Error::TransactionConflict(conflict)));
        }
        let earliest_expiry = open.part.earliest_expiry();
        if self.config.mode != DurabilityMode::InMemory {
            let id = TransactionId { incarnation: self.config.incarnation, shard: coordinator, number: number.0 };
            let (header, body) = part_record(self.config.shard, id, version, participants, &open.part);
            self.log.stage(header, version, &body).map_err(at_once)?;
        }
        self.latest = version;
        self.intents.grant(number, version, &open.part);
        let promise = Promise { coordinator, is_stuck: false };
        self.transactions.promise(number, promise);
        Ok(Vote::Yes { timestamp: version, earliest_expiry })
    }

    /// The transaction is committed.
    pub(super) fn decide(&mut self, number: TransactionNumber, timestamp: Version) {
        self.latest = self.latest.max(timestamp);
        let Some(open) = self.take_promised(number) else { return };
        self.across = self.across.max(timestamp);
        self.apply(open.part, timestamp);
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
        match self.log.stage(RecordHeader::abort(id), self.latest, &()) {
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

    fn take_promised(&mut self, number: TransactionNumber) -> Option<Open> {
        self.transactions.promised(number)?;
        let open = self.transactions.end(number)?;
        self.intents.release(number, &open.part);
        Some(open)
    }
}

/// The record of a part.
#[expect(clippy::cast_possible_truncation, reason = "there are at most 256 shards")]
fn part_record<'a>(
    shard: u32,
    id: TransactionId,
    version: Version,
    participants: &[u32],
    part: &'a Part,
) -> (RecordHeader, PartBody<&'a [crate::base::stored::Write]>) {
    let own = participants.iter().position(|participant| *participant == shard);
    let Some(own) = own else { panic!("a participant is among the participants") };
    let header = RecordHeader::part(version, id, own as u16, participants.len() as u16);
    let head = PartHead { participants: participants.to_vec(), earliest_expiry: part.earliest_expiry() };
    (header, PartBody { head, commit: CommitBody { writes: part.writes() } })
}
