//! Execution: single commands, and the operations of transactions.
//!
//! - A command of its own is a transaction: it reads just below the version it commits at, in one step.
//! - An operation of a transaction reads at the transaction's snapshot and changes its part only.
//! - Whoever meets the intents of a prepared transaction runs again when its outcome is known.

use super::door::Caller;
use super::gate::Departure;
use super::input::RequestId;
use super::machine::{Outcome, Shard, closed};
use super::transactions::IDLE;
use super::waiting::Waiting;
use crate::base::error::{Conflict, Error, Result};
use crate::base::limits;
use crate::base::planted::{Bug, planted};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::access::Access;
use crate::commit::message::TransactionNumber;
use crate::commit::part::Part;
use crate::primitive::command::Command;
use crate::primitive::output::{Output, Reply};
use crate::primitive::{self, index};

impl Shard {
    pub(super) fn execute(&mut self, id: RequestId, run: RunId, command: Command) {
        if command.is_read() {
            let snapshot = self.snapshot_of_read(run, &command);
            self.read(id, run, command, snapshot, false);
        } else {
            self.knock(Caller::Write { id, run, command });
        }
    }

    /// Reads at a snapshot; `waited`: the snapshot is registered.
    fn read(&mut self, id: RequestId, run: RunId, command: Command, snapshot: Version, waited: bool) {
        let again = (!self.intents.is_empty()).then(|| command.clone());
        let mut part = if self.is_aftermath() { Part::tracked(snapshot) } else { Part::immediate(snapshot) };
        let mut access = Access::new(&self.memory, &mut part, snapshot).beside(&self.intents);
        let result = primitive::execute(&mut access, run, command);
        let (seen, blocked) = (access.seen(), access.blocked());
        let blocked = blocked.filter(|_| !planted(Bug::ReadInDoubt));
        if let Some((holder, command)) = blocked.zip(again)
            && !self.transactions.is_stuck(holder)
        {
            if !waited {
                self.transactions.snapshots().register(snapshot);
            }
            return self.waiting.wait(holder, Waiting::Read { id, run, command, snapshot });
        }
        if waited {
            self.transactions.snapshots().release(snapshot);
        }
        match blocked {
            Some(_) => self.answer(id, (Err(in_doubt(run)), Version::ZERO)),
            None if self.is_aftermath() => {
                #[cfg(test)]
                self.read_in_aftermath.push((id, snapshot));
                let result = self.check_not_lost(&part).and(result);
                self.answer(id, (result.map(Reply::read), Version::ZERO));
            }
            None => self.answer(id, (result.map(Reply::read), seen)),
        }
    }

    pub(super) fn write(&mut self, id: RequestId, run: RunId, command: Command) {
        if let Err(refused) = self.check_writable() {
            return self.depart(None, Departure::Reply { id, result: Err(refused) });
        }
        let version = self.next_version();
        let is_contended = !self.intents.is_empty();
        let again = is_contended.then(|| command.clone());
        let snapshot = version.previous();
        let is_tracked = is_contended || self.memory.keeps_lineage();
        let mut part = if is_tracked { Part::tracked(snapshot) } else { Part::immediate(snapshot) };
        let mut access = Access::new(&self.memory, &mut part, version).beside(&self.intents);
        let result = primitive::execute(&mut access, run, command);
        let (seen, blocked) = (access.seen(), access.blocked());
        if let Some(command) = again {
            index::complete(&mut part, &self.memory, version);
            let holder = blocked.or_else(|| self.intents.obstacle(&part).map(|obstacle| obstacle.holder));
            let holder = holder.filter(|_| !planted(Bug::SingleWriteIgnoresIntents));
            if let Some(holder) = holder.filter(|_| blocked.is_some() || !part.writes().is_empty()) {
                let barred = part.bar();
                self.intents.bar(&barred);
                return self.waiting.wait(holder, Waiting::Write { id, run, command, barred });
            }
        }
        let outcome = match result {
            Ok(output) if !part.writes().is_empty() => self.commit(part, output, version),
            Ok(output) => (Ok(Reply::read(output)), seen),
            Err(error) => (Err(error), seen),
        };
        self.answer(id, outcome);
    }

    /// Begins a transaction that this shard coordinates, or says what its snapshot is.
    pub(super) fn begin(&mut self, number: TransactionNumber, snapshot: Option<Version>) -> Result<Reply> {
        if let Some(known) = self.transactions.snapshot_of(number) {
            return Ok(Reply::in_transaction(Output::Unit, known));
        }
        self.latest = self.latest.max(self.now);
        if let Some(asked) = snapshot.filter(|asked| *asked > self.now.max(self.latest)) {
            let now = self.now;
            return Err(Error::InvalidOperation(format!("the version is in the future: version={asked} now={now}")));
        }
        let snapshot = snapshot.unwrap_or_else(|| self.snapshot_of_transaction());
        self.counted.transactions_begun += 1;
        self.transactions.begin(number, snapshot, self.now, true);
        Ok(Reply::in_transaction(Output::Unit, snapshot))
    }

    /// A transaction may read on other shards too: there it must see everything that has been acknowledged.
    fn snapshot_of_transaction(&mut self) -> Version {
        let snapshot = self.snapshot();
        if self.config.shards == 1 { snapshot } else { self.latest }
    }

    /// An operation of a transaction: its number on this shard, and the snapshot if another shard has chosen it.
    pub(super) fn step(
        &mut self,
        id: RequestId,
        number: TransactionNumber,
        (operation, snapshot): (u64, Option<Version>),
        run: RunId,
        command: Command,
    ) {
        if operation == 0 && self.transactions.is_refused(number) {
            return self.answer(id, (Err(lost_operation(run)), Version::ZERO));
        }
        if operation == 0 && !self.transactions.is_open(number) {
            let is_begun_here = snapshot.is_none();
            self.counted.transactions_begun += u64::from(is_begun_here);
            let snapshot = snapshot.unwrap_or_else(|| self.snapshot_of_transaction());
            // No commit comes below a snapshot that was served.
            if !planted(Bug::FloorIgnored) {
                self.latest = self.latest.max(snapshot);
            }
            self.transactions.begin(number, snapshot, self.now, is_begun_here);
        }
        match self.admit(number, operation, run, &command) {
            Ok(()) => self.operate(id, number, run, command),
            Err(error) => self.answer(id, (Err(error), Version::ZERO)),
        }
    }

    fn admit(&mut self, number: TransactionNumber, operation: u64, run: RunId, command: &Command) -> Result<()> {
        if !command.is_read() {
            self.check_writable()?;
        }
        let Some(open) = self.transactions.get(number, self.now) else { return Err(self.forgotten()) };
        if open.part.operations != operation {
            open.broken = true;
            return Err(lost_operation(run));
        }
        open.part.operations += 1;
        if operation >= limits::TRANSACTION_OPERATIONS as u64 {
            let limit = limits::TRANSACTION_OPERATIONS;
            return Err(Error::limit("transaction operations", limit, limit + 1));
        }
        if command.is_read() || command.is_delete() { Ok(()) } else { self.check_overlays() }
    }

    fn operate(&mut self, id: RequestId, number: TransactionNumber, run: RunId, command: Command) {
        let now = self.now;
        let Some(open) = self.transactions.get(number, now) else {
            return self.answer(id, (Err(self.forgotten()), Version::ZERO));
        };
        if let Some(holder) = open.waits_for {
            open.waiting += 1;
            return self.waiting.wait(holder, Waiting::Step { id, transaction: number, run, command });
        }
        let snapshot = open.part.snapshot;
        if command.spaces().iter().any(|space| self.memory.is_collected(&run, *space, snapshot)) {
            // Before it writes anything that follows from what is missing.
            open.broken = true;
            return self.answer(id, (Err(too_old(snapshot)), Version::ZERO));
        }
        let may_wait = !self.intents.is_empty();
        let again = may_wait.then(|| command.clone());
        if may_wait {
            index::complete(&mut open.part, &self.memory, now);
        }
        let savepoint = open.part.savepoint(may_wait);
        let mut access = Access::new(&self.memory, &mut open.part, now).beside(&self.intents);
        let result = primitive::execute(&mut access, run, command);
        let (seen, is_too_old, blocked) = (access.seen(), access.is_too_old(), access.blocked());
        let blocked = blocked.filter(|_| !planted(Bug::StepInDoubt));
        if let Some((holder, command)) = blocked.zip(again) {
            open.part.roll_back(savepoint);
            if self.transactions.is_stuck(holder) {
                return self.answer(id, (Err(in_doubt(run)), Version::ZERO));
            }
            if let Some(open) = self.transactions.get(number, now) {
                open.waiting += 1;
                open.waits_for = Some(holder);
            }
            return self.waiting.wait(holder, Waiting::Step { id, transaction: number, run, command });
        }
        // What the directory names is in other runs, which may keep less.
        if is_too_old {
            open.broken = true;
            return self.answer(id, (Err(too_old(snapshot)), Version::ZERO));
        }
        // What it has written may follow from what it had read: a later answer depends on all that came before.
        open.seen = open.seen.max(seen);
        let seen = open.seen;
        open.broken |= result.is_err() && open.part.wrote_since(&savepoint);
        self.transactions.weigh(number);
        if self.is_aftermath() {
            let part = self.transactions.part(number);
            let result = part.map_or(Ok(()), |part| self.check_not_lost(part)).and(result);
            let result = result.map(|output| Reply::in_transaction(output, snapshot));
            return self.answer(id, (result, Version::ZERO));
        }
        let outcome: Outcome = (result.map(|output| Reply::in_transaction(output, snapshot)), seen);
        self.answer(id, outcome);
    }

    /// Runs requests again that waited for an outcome, in the order they came.
    pub(super) fn run_again(&mut self, all: Vec<Waiting>) {
        for waiting in &all {
            if let Waiting::Step { transaction, .. } = waiting
                && let Some(open) = self.transactions.get(*transaction, self.now)
            {
                open.waits_for = None;
            }
        }
        for waiting in all {
            self.again(waiting);
        }
    }

    fn again(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Read { id, run, command, snapshot } if self.is_aftermath() => {
                self.transactions.snapshots().release(snapshot);
                self.execute(id, run, command);
            }
            Waiting::Read { id, run, command, snapshot } => self.read(id, run, command, snapshot, true),
            Waiting::Write { id, run, command, barred } => {
                self.intents.unbar(&barred);
                self.execute(id, run, command);
            }
            Waiting::Step { id, transaction, run, command } => {
                if let Some(open) = self.transactions.get(transaction, self.now) {
                    open.waiting -= 1;
                }
                self.operate(id, transaction, run, command);
            }
            Waiting::Commit { id, transaction, commit, barred } => {
                self.intents.unbar(&barred);
                if let Some(open) = self.transactions.get(transaction, self.now) {
                    open.is_committing = false;
                }
                self.ask_commit(id, transaction, commit);
            }
        }
    }

    /// The outcome of a transaction is known: those that waited for it go on.
    pub(super) fn wake(&mut self, number: TransactionNumber) {
        let mut all = self.waiting.wake(number);
        all.truncate(if planted(Bug::WakeLost) { 1 } else { all.len() });
        self.run_again(all);
    }

    /// Why a transaction is not there any more.
    pub(super) fn forgotten(&self) -> Error {
        if self.is_closing() { closed() } else { Error::Timeout(IDLE) }
    }

    /// Forgets a transaction that has not voted.
    pub(super) fn forget(&mut self, number: TransactionNumber) {
        if self.transactions.promised(number).is_none() {
            self.transactions.end(number);
        }
    }
}

impl Waiting {
    /// Who waits.
    pub(super) const fn id(&self) -> RequestId {
        match self {
            Self::Read { id, .. } | Self::Write { id, .. } | Self::Step { id, .. } | Self::Commit { id, .. } => *id,
        }
    }
}

pub(super) fn lost_operation(run: RunId) -> Error {
    let key = "an operation of the transaction was lost, abandoned, or failed half-way".into();
    Error::TransactionConflict(Conflict { run, primitive: "transaction", key, winner: None })
}

fn in_doubt(run: RunId) -> Error {
    Error::Unavailable(format!(
        "a transaction failed while it was being committed, and whether it is committed is known when the database is \
         opened again: run={run}"
    ))
}

fn too_old(snapshot: Version) -> Error {
    Error::InvalidOperation(format!(
        "what was current at that version is no longer kept, read at a later one: version={snapshot}"
    ))
}
