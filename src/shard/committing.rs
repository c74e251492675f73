//! Committing: transactions with one part, and the coordinator's side of those with several.
//!
//! - One part: validated, logged and applied in one step, or it waits for the transaction whose intents it meets.
//! - Several: the coordinator asks all others before itself, counts the votes, and tells everybody the decision.
//! - A coordination ends only with a decision. Nobody needs to wait for it: dropping the caller's future changes nothing.

use std::sync::Arc;

use super::counting::End;
use super::door::Caller;
use super::execution::lost_operation;
use super::gate::{Departure, Until};
use super::input::{Acknowledge, Commit, RequestId};
use super::machine::{Outcome, Shard, unit};
use super::waiting::Waiting;
use crate::base::error::{Error, Result};
use crate::base::lineage::ReadSet;
use crate::base::options::DurabilityMode;
use crate::base::planted::{Bug, planted};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::coordinator::{Coordinator, Decision};
use crate::commit::message::{Message, TransactionNumber, Vote};
use crate::commit::part::Part;
use crate::format::record::{CommitBody, RecordHeader, TransactionId};
use crate::primitive::digest::{self, Links};
use crate::primitive::output::{Output, Reply};
use crate::primitive::{index, lineage};

/// How many keys are swept with every commit.
pub(super) const SWEEP_WITH_COMMIT: usize = 4;

/// A transaction over several shards that waits for votes, and who waits for it.
#[derive(Debug)]
pub(crate) struct Coordination {
    id: RequestId,
    acknowledge: Acknowledge,
    coordinator: Coordinator,
}

impl Shard {
    /// Somebody asks for a commit. It is let in when there is room for what this shard alone would log.
    pub(super) fn ask_commit(&mut self, id: RequestId, number: TransactionNumber, commit: Commit) {
        self.knock(Caller::Commit { id, transaction: number, commit });
    }

    pub(super) fn commit_transaction(&mut self, id: RequestId, number: TransactionNumber, commit: Commit) {
        if commit.acknowledge == Acknowledge::Durable && self.config.mode == DurabilityMode::InMemory {
            self.count_end(number, End::Refused);
            self.forget(number);
            let refused = "the database keeps nothing on disk, so a transaction cannot be made durable";
            return self.answer(id, (Err(Error::InvalidOperation(refused.into())), Version::ZERO));
        }
        match commit.participants[..] {
            [] => {
                self.count_end(number, End::ReadOnly);
                self.forget(number);
                self.answer(id, (Ok(unit()), Version::ZERO));
            }
            [(shard, operations)] if shard == self.config.shard => self.commit_alone(id, number, operations, commit),
            _ => self.coordinate(id, number, &commit),
        }
    }

    fn commit_alone(&mut self, id: RequestId, number: TransactionNumber, operations: u64, commit: Commit) {
        match self.check_part(number, operations) {
            Err(error) => return self.refuse(id, number, error, Version::ZERO),
            Ok(false) => {
                self.count_end(number, End::ReadOnly);
                self.forget(number);
                return self.answer(id, (Ok(unit()), Version::ZERO));
            }
            Ok(true) => {}
        }
        if let Err(refused) = self.check_writable() {
            return self.refuse(id, number, refused, Version::ZERO);
        }
        let version = self.next_version();
        let Some(open) = self.transactions.get(number, self.now) else {
            unreachable!("the part was looked at above");
        };
        if let Err(conflict) = open.part.validate(&self.memory, version) {
            let winner = conflict.winner.unwrap_or_default();
            return self.refuse(id, number, Error::TransactionConflict(conflict), winner);
        }
        if !self.intents.is_empty() {
            index::complete(&mut open.part, &self.memory, version);
        }
        if let Some(obstacle) = self.intents.obstacle(&open.part) {
            let barred = open.part.bar();
            open.is_committing = true;
            self.intents.bar(&barred);
            let waiting = Waiting::Commit { id, transaction: number, commit, barred };
            return self.waiting.wait(obstacle.holder, waiting);
        }
        let Some(open) = self.transactions.end(number) else { unreachable!("the part was looked at above") };
        let outcome = self.commit(open.part, Output::Unit, version);
        self.count_outcome(outcome.0.as_ref().map_or_else(End::from, |_| End::Committed));
        self.answer_as(id, outcome, commit.acknowledge);
    }

    /// Ends a transaction that cannot be committed. `depends_on`: what the error tells of.
    fn refuse(&mut self, id: RequestId, number: TransactionNumber, error: Error, depends_on: Version) {
        self.count_end(number, End::from(&error));
        self.forget(number);
        self.answer(id, (Err(error), depends_on));
    }

    /// Whether a part is whole, and if so whether it has writes.
    pub(super) fn check_part(&mut self, number: TransactionNumber, operations: u64) -> Result<bool> {
        let Some(open) = self.transactions.get(number, self.now) else { return Err(self.forgotten()) };
        let is_whole = open.part.operations == operations || planted(Bug::OperationsNotCounted);
        if open.broken || open.waiting > 0 || !is_whole {
            return Err(lost_operation(RunId::DIRECTORY));
        }
        Ok(!open.part.writes().is_empty())
    }

    /// Logs and applies the writes of a part that nothing stands against.
    pub(super) fn commit(&mut self, part: Part, output: Output, version: Version) -> Outcome {
        if let Err(error) = self.check_growth(part.writes()) {
            return (Err(error), Version::ZERO);
        }
        let links = digest::chained(&self.memory, part.writes(), version);
        let reads = lineage::read_by_commit(&self.memory, &part, &links);
        if self.config.mode != DurabilityMode::InMemory {
            let transaction =
                TransactionId { incarnation: self.config.incarnation, shard: self.config.shard, number: self.commits };
            let header = RecordHeader::commit(version, transaction);
            let is_known = links.iter().any(|(_, link)| link.is_known());
            let logged = if is_known { links.iter().map(|(_, link)| *link).collect() } else { Vec::new() };
            let body = CommitBody { writes: part.writes(), links: logged, reads: reads.clone() };
            let staged = self.check_others().and_then(|()| self.log.stage_if_room(header, version, &body));
            if let Err(error) = staged {
                if planted(Bug::RefusedIsApplied) {
                    self.apply(part, version, links, reads.as_ref());
                }
                return (Err(error), Version::ZERO);
            }
        }
        self.commits += 1;
        self.latest = version;
        self.apply(part, version, links, reads.as_ref());
        (Ok(Reply::written(output, version)), version)
    }

    /// Puts the writes of a committed part into memory.
    pub(super) fn apply(&mut self, part: Part, version: Version, links: Links, reads: Option<&Arc<ReadSet>>) {
        let horizon = self.horizon();
        let told = self.subscriptions.concerned(part.writes(), &self.memory);
        for write in part.into_writes() {
            index::apply(&mut self.memory, write, version, horizon);
        }
        self.subscriptions.tell(told, &self.memory, version);
        lineage::note(&mut self.memory, version, links.iter().map(|(run, _)| *run), reads);
        digest::note(&mut self.memory, version, links);
        self.memory.sweep(horizon, SWEEP_WITH_COMMIT);
    }

    fn coordinate(&mut self, id: RequestId, number: TransactionNumber, commit: &Commit) {
        let own = self.config.shard;
        let participants: Arc<[u32]> = commit.participants.iter().map(|(shard, _)| *shard).collect();
        let coordinator = Coordinator::new(Arc::clone(&participants));
        let coordination = Coordination { id, acknowledge: commit.acknowledge, coordinator };
        self.coordinations.insert(number, coordination);
        if !participants.contains(&own) {
            self.forget(number);
        }
        // The others first: this shard's own vote may already decide.
        let (here, there): (Vec<_>, Vec<_>) = commit.participants.iter().partition(|(shard, _)| *shard == own);
        for (shard, operations) in there.into_iter().chain(here) {
            let participants = Arc::clone(&participants);
            self.tell(shard, Message::Prepare { transaction: number, operations, participants });
        }
    }

    /// A participant has voted.
    pub(super) fn vote(&mut self, from: u32, number: TransactionNumber, vote: Vote) {
        let Some(coordination) = self.coordinations.get_mut(&number) else {
            // A part that was refused was never logged, so that a failed transaction can never be complete.
            if matches!(vote, Vote::No(_)) {
                self.abort_is_durable(number);
            }
            return;
        };
        let Some(decision) = coordination.coordinator.vote(from, vote) else { return };
        let Some(coordination) = self.coordinations.remove(&number) else { return };
        let participants = Arc::clone(coordination.coordinator.participants());
        let Coordination { id, acknowledge, .. } = coordination;
        match decision {
            Decision::Commit(timestamp, reads) => {
                self.counted.commits_across += 1;
                self.count_outcome(End::Committed);
                self.latest = self.latest.max(timestamp);
                let decide = || Message::Decide { transaction: number, timestamp, reads: reads.clone() };
                self.tell_all(&participants, decide);
                let until = match self.config.mode {
                    DurabilityMode::Buffered { .. } => Some(Until::Covered(self.covered(timestamp, acknowledge))),
                    // In `Strict` mode the votes were held until all parts were durable.
                    DurabilityMode::Strict | DurabilityMode::InMemory => None,
                };
                self.depart(until, Departure::Reply { id, result: Ok(Reply::written(Output::Unit, timestamp)) });
            }
            Decision::Abort(error) => {
                self.count_outcome(End::from(&error));
                self.tell_all(&participants, || Message::Abort { transaction: number, log: false });
                self.depart(None, Departure::Reply { id, result: Err(error) });
            }
            Decision::Fail(reason) => {
                self.count_outcome(End::Refused);
                self.failed.insert(number, Arc::clone(&participants));
                self.tell_all(&participants, || Message::Abort { transaction: number, log: true });
                self.depart(None, Departure::Reply { id, result: Err(Error::CommitUnknown(reason)) });
            }
        }
    }

    /// A failed transaction can never be committed: some abort record is durable, or some part was never logged.
    pub(super) fn abort_is_durable(&mut self, number: TransactionNumber) {
        if let Some(participants) = self.failed.remove(&number) {
            self.tell_all(&participants, || Message::Release { transaction: number });
        }
    }

    /// Tells all participants, the others first.
    fn tell_all(&mut self, participants: &[u32], message: impl Fn() -> Message) {
        let own = self.config.shard;
        for shard in participants.iter().filter(|shard| **shard != own) {
            self.tell(*shard, message());
        }
        if participants.contains(&own) {
            self.tell(own, message());
        }
    }
}
