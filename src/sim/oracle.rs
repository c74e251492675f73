//! The oracle: what every request must be answered, decided at the moment the shard handles it.
//!
//! - A shard handles a request in one synchronous step, so that the model can do the same at the same moment.
//! - A transaction that commits must answer, run again at its commit, what it answered before: that is
//!   serializability. It may lose only against a commit into what it touched.
//! - Every request is answered exactly once.

use std::collections::BTreeMap;

use super::ledger::{Commit, Ledger, Seen, StepSeen};
use super::model::{Allowance, Desk, Home, Model, Refusal, Sheet, history_agrees};
use super::trial::{Open, Trial};
use crate::base::error::Result;
use crate::base::options::{DurabilityMode, HistoryRetention};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::primitive::command::{Command, KvCommand};
use crate::primitive::output::{Output, Reply};
use crate::shard::input::{Request, RequestId, TransactionNumber};

pub(super) type Outcome = std::result::Result<Output, Refusal>;

/// A shard at the moment it handled a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) shard: usize,
    /// Database time.
    pub(super) now: Version,
    /// The simulation's time.
    pub(super) at: u64,
    /// The highest version of the shard before and after.
    pub(super) before: Version,
    pub(super) after: Version,
    pub(super) is_poisoned: bool,
    pub(super) is_closed: bool,
}

/// What a request must be answered.
#[derive(Debug)]
struct Expected {
    shard: usize,
    outcome: Outcome,
    /// The commit's place in the ledger.
    commit: Option<usize>,
    version: Option<Version>,
    /// What the answer tells, in the ledger.
    seen: Option<usize>,
    step: Option<usize>,
    /// How much of a history may be missing.
    allowance: Option<Allowance>,
    /// The read asked for a snapshot that may have been collected.
    may_be_too_old: bool,
    /// It may be refused because the shard is poisoned meanwhile.
    may_be_refused: bool,
    /// A flush: everything up to this commit is durable.
    flushes: Option<usize>,
}

/// What must be true.
#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) model: Model,
    pub(super) mode: DurabilityMode,
    pub(super) history: HistoryRetention,
    pub(super) ledgers: Vec<Ledger>,
    expected: BTreeMap<RequestId, Expected>,
    pub(super) open: BTreeMap<TransactionNumber, Open>,
    pub(super) tally: Tally,
}

/// What happened how often.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) commits: u64,
    pub(super) transactions: u64,
    pub(super) conflicts: u64,
    pub(super) refused: u64,
    pub(super) too_old: u64,
    pub(super) lost: u64,
    pub(super) revived: u64,
}

impl Oracle {
    pub(super) fn new(mode: DurabilityMode, history: HistoryRetention) -> Self {
        Self {
            model: Model::default(),
            mode,
            history,
            ledgers: Vec::new(),
            expected: BTreeMap::new(),
            open: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    pub(super) fn home(&self, shard: usize) -> Home {
        Home { shard, shards: self.ledgers.len() }
    }

    /// Requests that were handled and not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.expected.len()
    }

    /// Requests that a shard handled and did not answer.
    pub(super) fn unanswered_by(&self, shard: usize) -> usize {
        self.expected.values().filter(|expected| expected.shard == shard).count()
    }

    pub(super) fn forget_requests(&mut self) {
        self.expected.clear();
        self.open.clear();
    }

    /// A shard handled a request.
    pub(super) fn handled(&mut self, moment: Moment, id: RequestId, request: Request) {
        self.tally.requests += 1;
        let mut expected = match request {
            _ if moment.is_closed => refusal(Refusal::Unavailable),
            Request::Execute { run, command, snapshot } if command.is_read() => {
                self.read(moment, run, command, snapshot)
            }
            Request::Execute { run, command, .. } => self.write(moment, run, command),
            Request::Step { transaction, operation, run, command } => {
                self.step(moment, transaction, operation, run, command)
            }
            Request::Commit { transaction, operations } => self.commit(moment, transaction, operations),
            Request::Abort { transaction } => {
                self.open.remove(&transaction);
                plain(Ok(Output::Unit))
            }
            Request::Panic => unreachable!("nobody asks for that"),
            Request::Flush | Request::Close if moment.is_poisoned => refusal(Refusal::Unavailable),
            Request::Flush | Request::Close => {
                let flushes = Some(self.ledgers[moment.shard].commits.len());
                Expected { flushes, ..plain(Ok(Output::Unit)) }
            }
        };
        expected.shard = moment.shard;
        if expected.commit.is_none() {
            assert!(moment.after <= moment.before.max(moment.now), "a version was given out without a commit");
        }
        assert!(self.expected.insert(id, expected).is_none(), "request {id} was handled twice");
    }

    /// Where a reader stands that comes now.
    fn snapshot(&self, moment: Moment) -> Version {
        let here = moment.before.max(moment.now);
        let pending = self.ledgers[moment.shard].first_pending();
        match pending.filter(|_| moment.is_poisoned && self.mode == DurabilityMode::Strict) {
            Some(pending) => here.min(pending.previous()),
            None => here,
        }
    }

    fn read(&mut self, moment: Moment, run: RunId, command: Command, asked: Option<Version>) -> Expected {
        let here = self.snapshot(moment);
        let at = asked.map_or(here, |asked| asked.min(here));
        let outcome = self.ask(moment.shard, at, run, &command);
        self.ledgers[moment.shard].serve(at);
        let allowance = self.allowance(moment, at, run, &command);
        let seen = self.ledgers[moment.shard].see(Seen::Read { at, run, command, outcome: outcome.clone() });
        let may_be_refused = !moment.is_poisoned;
        Expected { seen: Some(seen), may_be_too_old: at < here, allowance, may_be_refused, ..plain(outcome) }
    }

    /// What a history may leave out.
    fn allowance(&self, moment: Moment, at: Version, run: RunId, command: &Command) -> Option<Allowance> {
        let Command::Kv(KvCommand::History { key }) = command else { return None };
        let state = self.model.run(run);
        let revisions = state.pairs.get(key.as_str()).map_or(&[][..], Vec::as_slice);
        let newer = revisions.iter().filter(|revision| revision.version > at).count();
        Some(Allowance { policy: self.history, now: moment.before.max(moment.now), newer })
    }

    /// What a reader at a version is answered.
    pub(super) fn ask(&self, shard: usize, at: Version, run: RunId, command: &Command) -> Outcome {
        ask(&self.model, self.home(shard), at, run, command)
    }

    fn next_version(moment: Moment) -> Version {
        moment.now.max(moment.before.next())
    }

    fn write(&mut self, moment: Moment, run: RunId, command: Command) -> Expected {
        if moment.is_poisoned {
            return refusal(Refusal::Unavailable);
        }
        let version = Self::next_version(moment);
        let mut sheet = Sheet::immediate(version);
        let home = self.home(moment.shard);
        let outcome =
            Desk { model: &self.model, sheet: &mut sheet, home, now: version, alone: true }.execute(run, &command);
        if outcome.is_ok() && !sheet.is_clean() {
            assert_eq!(moment.after, version, "a write commits: {command:?}");
            let commit = self.committed(moment, sheet, version);
            return Expected { commit: Some(commit), version: Some(version), ..plain(outcome) };
        }
        let seen = Seen::Attempt { version, run, command, outcome: outcome.clone() };
        let seen = self.ledgers[moment.shard].see(seen);
        Expected { seen: Some(seen), may_be_refused: true, ..plain(outcome) }
    }

    fn committed(&mut self, moment: Moment, sheet: Sheet, version: Version) -> usize {
        self.tally.commits += 1;
        self.model.commit(sheet, version);
        self.ledgers[moment.shard].commit(Commit { version, at: moment.at })
    }

    fn step(
        &mut self,
        moment: Moment,
        number: TransactionNumber,
        operation: u64,
        run: RunId,
        command: Command,
    ) -> Expected {
        let snapshot = self.snapshot(moment);
        if operation == 0 && !self.open.contains_key(&number) {
            self.ledgers[moment.shard].serve(snapshot);
            let trial = self.ledgers[moment.shard].see(Seen::Steps { snapshot, steps: Vec::new() });
            self.open.insert(number, Open::new(snapshot, trial));
        }
        if moment.is_poisoned && !command.is_read() {
            return refusal(Refusal::Unavailable);
        }
        let home = self.home(moment.shard);
        let Some(open) = self.open.get_mut(&number) else { return refusal(Refusal::Timeout) };
        if open.operations != operation {
            open.is_broken = true;
            return refusal(Refusal::Conflict);
        }
        open.operations += 1;
        let mut desk = Desk { model: &self.model, sheet: &mut open.sheet, home, now: moment.now, alone: false };
        let outcome = desk.execute(run, &command);
        let (at, snapshot) = (open.seen, open.snapshot);
        let allowance = self.allowance(moment, snapshot, run, &command);
        let step = StepSeen { run, command, now: moment.now, outcome: outcome.clone(), has_left: false };
        let step = Some(self.ledgers[moment.shard].see_step(at, step));
        Expected { seen: Some(at), step, allowance, may_be_refused: true, ..plain(outcome) }
    }

    fn commit(&mut self, moment: Moment, number: TransactionNumber, operations: u64) -> Expected {
        let Some(open) = self.open.remove(&number) else {
            return if operations == 0 { plain(Ok(Output::Unit)) } else { refusal(Refusal::Timeout) };
        };
        if open.is_broken || open.operations != operations {
            return refusal(Refusal::Conflict);
        }
        if open.sheet.is_clean() {
            return plain(Ok(Output::Unit));
        }
        if moment.is_poisoned {
            return refusal(Refusal::Unavailable);
        }
        self.tally.transactions += 1;
        let version = Self::next_version(moment);
        let home = self.home(moment.shard);
        let steps = self.ledgers[moment.shard].steps(open.seen);
        let trial = Trial { model: &self.model, home, snapshot: open.snapshot, version, steps };
        if moment.after < version {
            self.tally.conflicts += 1;
            trial.assert_may_lose();
            return Expected { may_be_refused: true, ..refusal(Refusal::Conflict) };
        }
        assert_eq!(moment.after, version, "a transaction commits at the next version");
        let sheet = trial.run_again();
        let commit = self.committed(moment, sheet, version);
        Expected { commit: Some(commit), version: Some(version), ..plain(Ok(Output::Unit)) }
    }

    /// A reply left a shard.
    pub(super) fn replied(&mut self, shard: usize, id: RequestId, is_poisoned: bool, result: &Result<Reply>) {
        let Some(expected) = self.expected.remove(&id) else {
            panic!("a reply that nobody waits for: id={id} {result:?}");
        };
        assert_eq!(expected.shard, shard, "the shard that was asked answers");
        match result {
            Ok(Reply { output: Output::TooOld, version: None }) if expected.may_be_too_old => self.tally.too_old += 1,
            Ok(reply) => {
                assert_eq!(reply.version, expected.version, "the version of the commit");
                assert_agrees(&reply.output, &expected);
                self.left(shard, &expected);
            }
            Err(error) => {
                let refusal = Refusal::from(error);
                if expected.outcome.as_ref().is_err_and(|expected| *expected == refusal) {
                    return self.left(shard, &expected);
                }
                let is_lost = expected.commit.is_some() || expected.flushes.is_some() || expected.may_be_refused;
                let fitting = if expected.commit.is_some() { Refusal::Unknown } else { Refusal::Unavailable };
                let is_fitting = is_poisoned && is_lost && refusal == fitting;
                assert!(is_fitting, "answered {refusal:?}, expected {:?}", expected.outcome);
                self.tally.refused += 1;
            }
        }
    }

    fn left(&mut self, shard: usize, expected: &Expected) {
        let ledger = &mut self.ledgers[shard];
        if let Some(commit) = expected.commit {
            ledger.acknowledge(commit, self.mode);
        }
        if let Some(seen) = expected.seen {
            ledger.left(seen, expected.step);
        }
        if let Some(commits) = expected.flushes {
            ledger.flushed(commits);
        }
    }
}

pub(super) fn ask(model: &Model, home: Home, at: Version, run: RunId, command: &Command) -> Outcome {
    Desk { model, sheet: &mut Sheet::at(at), home, now: at, alone: true }.execute(run, command)
}

fn plain(outcome: Outcome) -> Expected {
    Expected {
        shard: 0,
        outcome,
        commit: None,
        version: None,
        seen: None,
        step: None,
        allowance: None,
        may_be_too_old: false,
        may_be_refused: false,
        flushes: None,
    }
}

fn refusal(refusal: Refusal) -> Expected {
    plain(Err(refusal))
}

#[track_caller]
fn assert_agrees(output: &Output, expected: &Expected) {
    let agrees = match (output, &expected.outcome, expected.allowance) {
        (Output::History(answer), Ok(Output::History(all)), Some(allowance)) => history_agrees(answer, all, allowance),
        (output, Ok(expected), _) => output == expected,
        (_, Err(_), _) => false,
    };
    assert!(agrees, "answered {output:?}\nexpected {:?} {:?}", expected.outcome, expected.allowance);
}
