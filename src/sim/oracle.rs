//! The oracle: what every request must be answered, decided at the moment the shard handles it.
//!
//! - A shard handles a request in one synchronous step, so that the model can do the same at the same moment.
//! - A transaction that commits must answer, run again at its commit, what it answered before: that is
//!   serializability. It may lose only against a commit into what it touched.
//! - Every request is answered exactly once.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{Commit, Ledger, Seen, StepSeen};
use super::lineage::Reads;
use super::model::{Allowance, Desk, Home, Model, Refusal, Sheet, history_agrees};
use super::trial::{Open, Trial};
use crate::base::error::{Error, Result};
use crate::base::key::Space;
use crate::base::options::{DurabilityMode, HistoryPolicy};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::message::TransactionNumber;
use crate::primitive::command::{Command, KvCommand, RunCommand};
use crate::primitive::output::{Output, Reply};
use crate::shard::input::{self, Acknowledge, Request, RequestId};

pub(super) type Outcome = std::result::Result<Output, Refusal>;

/// A shard at the moment it handled a request.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what may stand against a request is independent")]
pub(super) struct Moment {
    pub(super) shard: usize,
    /// Database time.
    pub(super) now: Version,
    /// The simulation's time.
    pub(super) at: u64,
    /// The highest version of the shard before and after.
    pub(super) before: Version,
    pub(super) after: Version,
    /// The highest version that any caller has heard of.
    pub(super) heard: Version,
    /// Whether not everything is kept that the request reads.
    pub(super) forgot: bool,
    pub(super) is_poisoned: bool,
    pub(super) is_closed: bool,
    /// The log had no room for it.
    pub(super) is_refused: bool,
}

/// What a request must be answered.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what may happen to an answer on its way is independent")]
struct Expected {
    shard: usize,
    outcome: Outcome,
    /// The commit's place in the ledger, and when its caller wants to hear of it.
    commit: Option<(usize, Acknowledge)>,
    version: Option<Version>,
    /// The transaction's snapshot, if the answer is part of one.
    snapshot: Option<Version>,
    transaction: Option<TransactionNumber>,
    /// What the answer tells, in the ledger.
    seen: Option<usize>,
    step: Option<usize>,
    /// The run that a step is about, unless it is about the directory.
    run: Option<RunId>,
    /// How much of a history may be missing.
    allowance: Option<Allowance>,
    /// A run is deleted of which nothing but history may be left.
    may_be_found: bool,
    /// The transaction asked for a snapshot at which not everything may be kept.
    may_be_too_old: bool,
    /// What a step reads.
    spaces: &'static [Space],
    /// It is.
    is_too_old: bool,
    /// A commit of such a transaction: it loses if it was told so, or must have been told so to lose.
    ends: Option<Ends>,
    /// It may be refused because the shard is poisoned meanwhile.
    may_be_refused: bool,
    /// It may be refused because the shard stops.
    may_be_closed: bool,
    /// A flush: so many commits of this shard are durable.
    flushes: Option<usize>,
    /// A flush: everything up to this version is durable on all shards.
    covers: Option<Version>,
    /// The answer to a close: no other is owed then.
    closes: bool,
}

/// How a transaction that looks back has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    AsExpected,
    /// It lost, and nobody had won.
    AgainstNobody,
}

/// What must be true.
#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) model: Model,
    pub(super) mode: DurabilityMode,
    pub(super) history: HistoryPolicy,
    pub(super) ledgers: Vec<Ledger>,
    expected: BTreeMap<RequestId, Expected>,
    pub(super) open: BTreeMap<TransactionNumber, Open>,
    /// Transactions that were told that their snapshot is too old.
    told: BTreeSet<TransactionNumber>,
    /// Shards that were asked to stop.
    stopped: BTreeSet<usize>,
    /// Whether a run can be read at a transaction's snapshot: that never changes while it is open.
    kept: BTreeMap<(TransactionNumber, RunId, &'static [Space]), bool>,
    /// The highest version that a caller has heard of in this opening.
    pub(super) heard: Version,
    /// Everything up to this version was said to be safe, on all shards.
    pub(super) covered: Version,
    pub(super) tally: Tally,
    /// What commits were asked to read.
    pub(super) reads: Reads,
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
    pub(super) fn new(mode: DurabilityMode, history: HistoryPolicy) -> Self {
        Self {
            model: Model::default(),
            mode,
            history,
            ledgers: Vec::new(),
            expected: BTreeMap::new(),
            open: BTreeMap::new(),
            told: BTreeSet::new(),
            stopped: BTreeSet::new(),
            kept: BTreeMap::new(),
            heard: Version::ZERO,
            covered: Version::ZERO,
            tally: Tally::default(),
            reads: Reads::default(),
        }
    }

    pub(super) fn home(&self, shard: usize) -> Home {
        Home { shard, shards: self.ledgers.len() }
    }

    /// Requests that were handled and not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.expected.len()
    }

    /// Whether a shard was asked to stop.
    pub(super) fn has_stopped(&self, shard: usize) -> bool {
        self.stopped.contains(&shard)
    }

    /// Requests that a shard handled and did not answer.
    pub(super) fn unanswered_by(&self, shard: usize) -> usize {
        self.expected.values().filter(|expected| expected.shard == shard).count()
    }

    pub(super) fn forget_requests(&mut self) {
        self.expected.clear();
        self.open.clear();
        self.told.clear();
        self.stopped.clear();
        self.kept.clear();
        self.heard = Version::ZERO;
    }

    /// A caller has heard of a commit.
    pub(super) fn heard(&mut self, version: Option<Version>) {
        self.heard = self.heard.max(version.unwrap_or_default());
    }

    /// A shard handled a request.
    pub(super) fn handled(&mut self, moment: Moment, id: RequestId, request: Request) {
        self.tally.requests += 1;
        let mut expected = match request {
            _ if self.stopped.contains(&moment.shard) => refusal(Refusal::Unavailable),
            Request::Flush | Request::Stop if moment.is_poisoned => refusal(Refusal::Unavailable),
            Request::Flush => self.flush(moment),
            Request::Stop => self.stop(moment),
            _ if moment.is_closed => refusal(Refusal::Unavailable),
            Request::Execute { run, command } if command.is_read() => self.read(moment, run, command),
            Request::Execute { run, command } => self.write(moment, run, command),
            Request::Begin { transaction, snapshot } => self.begin(moment, transaction, snapshot),
            Request::Step { transaction, operation, run, command, .. } => {
                self.step(moment, transaction, operation, run, command)
            }
            Request::Commit { transaction, commit } => self.commit(moment, transaction, &commit),
            Request::Abort { transaction, .. } => {
                self.open.remove(&transaction);
                plain(Ok(Output::Unit))
            }
            Request::AskLogStart { .. }
            | Request::ChooseDump { .. }
            | Request::BeginDump { .. }
            | Request::Dump { .. }
            | Request::EndDump { .. }
            | Request::AskDurable
            | Request::ListEventLogs
            | Request::AskMetrics
            | Request::Subscribe { .. }
            | Request::Next { .. }
            | Request::Advance { .. }
            | Request::Unsubscribe { .. }
            | Request::Panic => unreachable!("no caller asks for that"),
            Request::Close if moment.is_poisoned => Expected { closes: true, ..refusal(Refusal::Unavailable) },
            Request::Close => {
                let is_strict = self.mode == DurabilityMode::Strict;
                let flushes = is_strict.then(|| self.ledgers[moment.shard].commits.len());
                Expected { flushes, closes: true, may_be_refused: true, ..plain(Ok(Output::Unit)) }
            }
        };
        expected.shard = moment.shard;
        if expected.commit.is_none() {
            assert!(moment.after <= moment.before.max(moment.now), "a version was given out without a commit");
        }
        assert!(self.expected.insert(id, expected).is_none(), "request {id} was handled twice");
    }

    /// Whoever asked for a flush when the shard had closed may get none.
    fn stop(&mut self, moment: Moment) -> Expected {
        self.stopped.insert(moment.shard);
        for expected in self.expected.values_mut().filter(|expected| expected.shard == moment.shard) {
            // Refusals are on their way.
            let is_refused = expected.outcome == Err(Refusal::Unavailable);
            assert!(
                expected.flushes.is_some() || is_refused,
                "a shard that has closed owes nothing else: {expected:?}"
            );
            expected.may_be_closed = true;
        }
        Expected { may_be_refused: true, ..plain(Ok(Output::Unit)) }
    }

    fn flush(&self, moment: Moment) -> Expected {
        let flushes = Some(self.ledgers[moment.shard].commits.len());
        let is_buffered = matches!(self.mode, DurabilityMode::Buffered { .. });
        let last = self.ledgers[moment.shard].version_of(self.ledgers[moment.shard].commits.len());
        Expected { flushes, covers: is_buffered.then_some(last), ..plain(Ok(Output::Unit)) }
    }

    /// Where a reader stands that comes now.
    fn snapshot(&self, moment: Moment) -> Version {
        let here = moment.before.max(moment.now);
        let pending = self.ledgers[moment.shard].first_pending();
        if let Some(pending) = pending.filter(|_| moment.is_poisoned && self.mode == DurabilityMode::Strict) {
            return here.min(pending.previous());
        }
        assert!(here >= moment.heard, "a reader does not see what somebody has heard of");
        here
    }

    /// Where a transaction stands that comes now: it may go on to other shards.
    fn snapshot_of_transaction(&self, moment: Moment) -> Version {
        if self.ledgers.len() == 1 { self.snapshot(moment) } else { moment.before.max(moment.now) }
    }

    fn read(&mut self, moment: Moment, run: RunId, command: Command) -> Expected {
        let at = self.snapshot(moment);
        let outcome = self.ask(moment.shard, at, run, &command);
        self.ledgers[moment.shard].serve(at);
        let allowance = self.allowance(moment, at, run, &command);
        let seen = self.ledgers[moment.shard].see(Seen::Read { at, run, command, outcome: outcome.clone() });
        let may_be_refused = !moment.is_poisoned;
        Expected { seen: Some(seen), allowance, may_be_refused, ..plain(outcome) }
    }

    /// What a history may leave out.
    fn allowance(&self, moment: Moment, at: Version, run: RunId, command: &Command) -> Option<Allowance> {
        let Command::Kv(KvCommand::History { key }) = command else { return None };
        let state = self.model.run(run);
        let revisions = state.pairs.get(key.as_str()).map_or(&[][..], Vec::as_slice);
        let newer = revisions.iter().filter(|revision| revision.version > at).count();
        Some(Allowance { policy: state.retained(self.history), now: moment.before.max(moment.now), newer })
    }

    /// What a reader at a version is answered.
    pub(super) fn ask(&self, shard: usize, at: Version, run: RunId, command: &Command) -> Outcome {
        ask(&self.model, self.home(shard), at, run, command)
    }

    fn next_version(&self, moment: Moment) -> Version {
        let number = |count: usize| u32::try_from(count).unwrap();
        moment.now.max(moment.before.next()).of_shard(number(moment.shard), number(self.ledgers.len()))
    }

    fn write(&mut self, moment: Moment, run: RunId, command: Command) -> Expected {
        if moment.is_poisoned {
            return refusal(Refusal::Unavailable);
        }
        let version = self.next_version(moment);
        let mut sheet = Sheet::immediate(version);
        let home = self.home(moment.shard);
        let may_be_found = self.may_be_found(run, &command);
        let outcome = Desk { model: &self.model, sheet: &mut sheet, home, now: version }.execute(run, &command);
        if outcome.is_ok() && !sheet.is_clean() {
            if moment.is_refused {
                return refusal(Refusal::NoRoom);
            }
            assert_eq!(moment.after, version, "a write commits: {command:?}");
            self.reads.note(version, std::iter::once((run, &command)));
            let commit = self.committed(moment, sheet, version);
            let commit = Some((commit, Acknowledge::AsUsual));
            return Expected { commit, version: Some(version), may_be_found, ..plain(outcome) };
        }
        let seen = Seen::Attempt { version, run, command, outcome: outcome.clone() };
        let seen = self.ledgers[moment.shard].see(seen);
        Expected { seen: Some(seen), may_be_refused: true, ..plain(outcome) }
    }

    /// Whether a run is deleted that was written in.
    fn may_be_found(&self, run: RunId, command: &Command) -> bool {
        matches!(command, Command::Run(RunCommand::Delete)) && self.model.run(run).was_written
    }

    fn committed(&mut self, moment: Moment, sheet: Sheet, version: Version) -> usize {
        self.tally.commits += 1;
        self.model.commit(sheet, version);
        self.ledgers[moment.shard].commit(Commit { version, at: moment.at })
    }

    fn begin(&mut self, moment: Moment, number: TransactionNumber, asked: Option<Version>) -> Expected {
        if let Some(open) = self.open.get(&number) {
            return Expected { snapshot: Some(open.snapshot), ..plain(Ok(Output::Unit)) };
        }
        if asked.is_some_and(|asked| asked > moment.before.max(moment.now)) {
            return refusal(Refusal::Invalid);
        }
        let snapshot = self.open(moment, number, asked);
        Expected { snapshot: Some(snapshot), ..plain(Ok(Output::Unit)) }
    }

    fn open(&mut self, moment: Moment, number: TransactionNumber, asked: Option<Version>) -> Version {
        let here = self.snapshot_of_transaction(moment);
        let snapshot = asked.unwrap_or(here);
        let ledger = &mut self.ledgers[moment.shard];
        ledger.serve(here);
        let trial = ledger.see(Seen::Steps { snapshot, steps: Vec::new() });
        self.open.insert(number, Open::new(snapshot, trial, asked.is_some()));
        snapshot
    }

    fn step(
        &mut self,
        moment: Moment,
        number: TransactionNumber,
        operation: u64,
        run: RunId,
        command: Command,
    ) -> Expected {
        if operation == 0 && !self.open.contains_key(&number) {
            self.open(moment, number, None);
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
        if moment.forgot {
            assert!(open.looks_back, "what an open transaction reads was forgotten: {command:?}");
            open.is_broken = true;
            let (transaction, run) = (Some(number), Some(run).filter(|run| *run != RunId::DIRECTORY));
            let spaces = command.spaces();
            let refused = refusal(Refusal::Invalid);
            return Expected { is_too_old: true, may_be_too_old: true, transaction, run, spaces, ..refused };
        }
        let is_list = matches!(command, Command::Run(RunCommand::List(_)));
        let spaces = command.spaces();
        let mut desk = Desk { model: &self.model, sheet: &mut open.sheet, home, now: moment.now };
        let outcome = desk.execute(run, &command);
        let (at, snapshot, may_be_too_old) = (open.seen, open.snapshot, open.looks_back && is_list);
        let allowance = self.allowance(moment, snapshot, run, &command);
        let may_be_found = self.may_be_found(run, &command);
        let step = StepSeen { run, command, now: moment.now, outcome: outcome.clone(), has_left: false };
        Expected {
            seen: Some(at),
            step: Some(self.ledgers[moment.shard].see_step(at, step)),
            allowance,
            may_be_found,
            may_be_refused: true,
            may_be_too_old,
            snapshot: Some(snapshot),
            transaction: Some(number),
            run: Some(run).filter(|run| *run != RunId::DIRECTORY),
            spaces,
            ..plain(outcome)
        }
    }

    fn commit(&mut self, moment: Moment, number: TransactionNumber, commit: &input::Commit) -> Expected {
        let open = self.open.remove(&number);
        if commit.acknowledge == Acknowledge::Durable && self.mode == DurabilityMode::InMemory {
            return refusal(Refusal::Invalid);
        }
        let [(shard, operations)] = commit.participants[..] else { return plain(Ok(Output::Unit)) };
        assert_eq!(usize::try_from(shard), Ok(moment.shard), "nobody here commits over several shards");
        let Some(open) = open else { return refusal(Refusal::Timeout) };
        let mut expected = self.commit_open(moment, &open, operations, commit.acknowledge);
        if open.looks_back {
            expected.transaction = Some(number);
            expected.ends.get_or_insert(Ends::AsExpected);
        }
        expected
    }

    fn commit_open(&mut self, moment: Moment, open: &Open, operations: u64, acknowledge: Acknowledge) -> Expected {
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
        let version = self.next_version(moment);
        let home = self.home(moment.shard);
        let steps = self.ledgers[moment.shard].steps(open.seen);
        let trial = Trial { model: &self.model, home, snapshot: open.snapshot, version, steps };
        if moment.is_refused {
            return refusal(Refusal::NoRoom);
        }
        if moment.after < version {
            self.tally.conflicts += 1;
            let may_lose = trial.may_lose();
            assert!(may_lose || open.looks_back, "a transaction lost against nobody: {steps:?}");
            let ends = (!may_lose).then_some(Ends::AgainstNobody);
            return Expected { may_be_refused: true, ends, ..refusal(Refusal::Conflict) };
        }
        assert_eq!(moment.after, version, "a transaction commits at the next version");
        let sheet = trial.run_again();
        let answered = steps.iter().filter(|step| step.outcome.is_ok());
        self.reads.note(version, answered.map(|step| (step.run, &step.command)));
        let commit = self.committed(moment, sheet, version);
        Expected { commit: Some((commit, acknowledge)), version: Some(version), ..plain(Ok(Output::Unit)) }
    }

    /// A reply left a shard.
    pub(super) fn replied(&mut self, shard: usize, id: RequestId, is_poisoned: bool, result: &Result<Reply>) {
        let Some(mut expected) = self.expected.remove(&id) else {
            panic!("a reply that nobody waits for: id={id} {result:?}");
        };
        assert_eq!(expected.shard, shard, "the shard that was asked answers");
        if expected.closes {
            assert_eq!(self.unanswered_by(shard), 0, "shard {shard} has closed and owes answers");
        }
        if let Some(ends) = expected.ends {
            let was_told = expected.transaction.is_some_and(|number| self.told.contains(&number));
            assert!(was_told || ends == Ends::AsExpected, "a transaction lost against nobody: {expected:?}");
            if was_told {
                expected.outcome = Err(Refusal::Conflict);
            }
        }
        let told = result.as_ref().is_err_and(is_too_old);
        assert!(told || !expected.is_too_old, "answered from what is not kept: {result:?} {expected:?}");
        match result {
            Ok(reply) => {
                assert_eq!(reply.version, expected.version, "the version of the commit");
                assert_eq!(reply.snapshot, expected.snapshot, "the snapshot of the transaction");
                assert_agrees(&reply.output, &expected);
                self.note_kept(&expected, true);
                self.left(shard, &expected);
            }
            Err(error) if told => {
                assert!(expected.may_be_too_old, "nobody asked for an older version: {error} {expected:?}");
                self.tally.too_old += 1;
                self.note_kept(&expected, false);
                self.told.extend(expected.transaction);
            }
            Err(error) => {
                let refusal = Refusal::from(error);
                if expected.outcome.as_ref().is_err_and(|expected| *expected == refusal) {
                    if expected.step.is_some() {
                        self.note_kept(&expected, true);
                    }
                    return self.left(shard, &expected);
                }
                let is_lost = expected.commit.is_some() || expected.flushes.is_some() || expected.may_be_refused;
                let fitting = if expected.commit.is_some() { Refusal::Unknown } else { Refusal::Unavailable };
                let is_fitting = (is_poisoned || expected.may_be_closed) && is_lost && refusal == fitting;
                assert!(is_fitting, "answered {refusal:?}, expected {:?}", expected.outcome);
                self.tally.refused += 1;
            }
        }
    }

    /// While a transaction is open, nothing that it could read is forgotten.
    fn note_kept(&mut self, expected: &Expected, is_kept: bool) {
        let Some((transaction, run)) = expected.transaction.zip(expected.run) else { return };
        let key = (transaction, run, expected.spaces);
        let before = *self.kept.entry(key).or_insert(is_kept);
        assert_eq!(before, is_kept, "what an open transaction can read was forgotten: {expected:?}");
    }

    fn left(&mut self, shard: usize, expected: &Expected) {
        let ledger = &mut self.ledgers[shard];
        // Who wants to hear of a commit before it is durable is promised nothing in `Strict` mode.
        let is_promised = |how: Acknowledge| how != Acknowledge::Visible || self.mode != DurabilityMode::Strict;
        if let Some((commit, how)) = expected.commit.filter(|(_, how)| is_promised(*how)) {
            ledger.acknowledge(commit, self.mode);
            if how == Acknowledge::Durable {
                self.covered = self.covered.max(expected.version.unwrap_or_default());
            }
        }
        if let Some(seen) = expected.seen {
            ledger.left(seen, expected.step);
        }
        if let Some(commits) = expected.flushes {
            ledger.flushed(commits);
        }
        self.covered = self.covered.max(expected.covers.unwrap_or_default());
    }
}

fn is_too_old(error: &Error) -> bool {
    matches!(error, Error::InvalidOperation(text) if text.contains("is no longer kept"))
}

pub(super) fn ask(model: &Model, home: Home, at: Version, run: RunId, command: &Command) -> Outcome {
    Desk { model, sheet: &mut Sheet::at(at), home, now: at }.execute(run, command)
}

fn plain(outcome: Outcome) -> Expected {
    Expected {
        shard: 0,
        outcome,
        commit: None,
        version: None,
        snapshot: None,
        transaction: None,
        seen: None,
        step: None,
        run: None,
        allowance: None,
        may_be_found: false,
        may_be_too_old: false,
        spaces: &[],
        is_too_old: false,
        ends: None,
        may_be_refused: false,
        may_be_closed: false,
        flushes: None,
        covers: None,
        closes: false,
    }
}

fn refusal(refusal: Refusal) -> Expected {
    plain(Err(refusal))
}

#[track_caller]
fn assert_agrees(output: &Output, expected: &Expected) {
    let agrees = match (output, &expected.outcome, expected.allowance) {
        (Output::History(answer), Ok(Output::History(all)), Some(allowance)) => history_agrees(answer, all, allowance),
        (Output::Flag(true), Ok(Output::Flag(false)), _) if expected.may_be_found => true,
        (output, Ok(expected), _) => output == expected,
        (_, Err(_), _) => false,
    };
    assert!(agrees, "answered {output:?}\nexpected {:?} {:?}", expected.outcome, expected.allowance);
}
