//! Ledgers: what a shard has committed and told in one opening, and what a crash may take of it.
//!
//! - `Strict`: nothing that was acknowledged is lost, and nothing that was answered ever turns out not to be so.
//! - `Buffered`: what is kept is a prefix of the whole database, all commits up to one cut and none above it. No more
//!   acknowledged commits and no more time than was said are lost, over all shards together.
//! - A flush that was answered makes everything before it safe.

use std::collections::BTreeSet;
use std::time::Duration;

use zerocopy::FromBytes;

use super::model::{Desk, Home, Model, Sheet};
use super::oracle::{Outcome, ask};
use super::trial::steps_hold;
use crate::base::options::DurabilityMode;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::format::record::{HEADER_BYTES, RecordHeader, RecordKind};
use crate::primitive::command::Command;

/// A commit, in the order a shard made them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commit {
    pub(super) version: Version,
    /// The simulation's time.
    pub(super) at: u64,
}

/// A step of a transaction and what it was answered.
#[derive(Clone, Debug)]
pub(super) struct StepSeen {
    pub(super) run: RunId,
    pub(super) command: Command,
    pub(super) now: Version,
    pub(super) outcome: Outcome,
    /// Whether the answer has left the shard.
    pub(super) has_left: bool,
}

/// Something that an answer tells.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Read {
        at: Version,
        run: RunId,
        command: Command,
        outcome: Outcome,
    },
    /// A write that was refused or had nothing to do.
    Attempt {
        version: Version,
        run: RunId,
        command: Command,
        outcome: Outcome,
    },
    Steps {
        snapshot: Version,
        steps: Vec<StepSeen>,
    },
}

/// What is allowed to be lost besides what the mode says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crash {
    /// When it happened.
    pub(super) at: u64,
    /// The longest that a write and everything around it takes.
    pub(super) slack: u64,
    /// The shard could not write any more, or time stood still.
    pub(super) is_late: bool,
}

/// What a shard has committed and told.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Where the opening began.
    start: Version,
    pub(super) commits: Vec<Commit>,
    /// How many commits were handed to the disk, and how many of them the shard knows to be durable.
    written: usize,
    pub(super) durable: usize,
    in_flight: usize,
    /// The mark in the batch in flight, and the last one that the shard knows to be durable.
    mark_in_flight: Option<Version>,
    pub(super) marked: Version,
    is_writing: bool,
    acknowledged: BTreeSet<usize>,
    flushed: usize,
    seen: Vec<(Seen, bool)>,
    /// The highest version that was served or committed.
    highest: Version,
}

impl Ledger {
    pub(super) fn new(start: Version) -> Self {
        Self {
            start,
            commits: Vec::new(),
            written: 0,
            durable: 0,
            in_flight: 0,
            mark_in_flight: None,
            marked: start,
            is_writing: false,
            acknowledged: BTreeSet::new(),
            flushed: 0,
            seen: Vec::new(),
            highest: start,
        }
    }

    pub(super) fn first_pending(&self) -> Option<Version> {
        self.commits.get(self.durable).map(|commit| commit.version)
    }

    /// A reader stands at a version: every later commit must be above it.
    pub(super) fn serve(&mut self, at: Version) {
        self.highest = self.highest.max(at);
    }

    pub(super) fn commit(&mut self, commit: Commit) -> usize {
        let version = commit.version;
        assert!(version > self.highest, "a commit below what was served: {version} {}", self.highest);
        self.highest = version;
        self.commits.push(commit);
        self.commits.len() - 1
    }

    pub(super) fn see(&mut self, seen: Seen) -> usize {
        self.seen.push((seen, false));
        self.seen.len() - 1
    }

    /// Keeps a step and says which it is.
    pub(super) fn see_step(&mut self, at: usize, step: StepSeen) -> usize {
        let (Seen::Steps { steps, .. }, _) = &mut self.seen[at] else { panic!("a transaction is kept as steps") };
        steps.push(step);
        steps.len() - 1
    }

    pub(super) fn steps(&self, at: usize) -> &[StepSeen] {
        let (Seen::Steps { steps, .. }, _) = &self.seen[at] else { panic!("a transaction is kept as steps") };
        steps
    }

    /// An answer left the shard; for a transaction, that of one step.
    pub(super) fn left(&mut self, at: usize, step: Option<usize>) {
        let (seen, left) = &mut self.seen[at];
        *left = true;
        if let (Seen::Steps { steps, .. }, Some(step)) = (seen, step) {
            steps[step].has_left = true;
        }
    }

    /// A commit was acknowledged by somebody who did not ask to hear of it earlier than the mode says.
    pub(super) fn acknowledge(&mut self, commit: usize, mode: DurabilityMode) {
        if mode == DurabilityMode::Strict {
            assert!(commit < self.durable, "commit {commit} was acknowledged, durable are {}", self.durable);
        }
        self.acknowledged.insert(commit);
    }

    /// How many commits are at or below a version.
    pub(super) fn count_through(&self, version: Version) -> usize {
        self.commits.partition_point(|commit| commit.version <= version)
    }

    pub(super) fn flushed(&mut self, commits: usize) {
        self.flushed = self.flushed.max(commits);
    }

    /// A batch goes to the disk: it holds the next commits, in order, and marks.
    pub(super) fn appending(&mut self, bytes: &[u8]) {
        assert!(!self.is_writing, "at most one batch is in flight");
        let mut at = 0;
        while at + HEADER_BYTES <= bytes.len() && bytes[at..at + HEADER_BYTES].iter().any(|byte| *byte != 0) {
            let (header, _) = RecordHeader::read_from_prefix(&bytes[at..]).expect("a header is whole");
            match header.kind() {
                Some(RecordKind::Commit) => {
                    let next = self.commits[self.written].version;
                    assert_eq!(header.version(), next, "records are logged in the order of commits");
                    self.written += 1;
                    self.in_flight += 1;
                }
                Some(RecordKind::Mark) => self.mark(header.version()),
                kind => panic!("nobody here commits over several shards: {kind:?}"),
            }
            self.is_writing = true;
            at += HEADER_BYTES + usize::try_from(header.length.get()).unwrap();
        }
        assert!(self.is_writing, "a batch holds something");
    }

    /// A mark stands behind everything that is committed up to it.
    fn mark(&mut self, through: Version) {
        assert!(through > self.mark_in_flight.unwrap_or(self.marked), "marks rise along the log");
        assert!(self.count_through(through) <= self.written, "a commit below a mark comes behind it: mark={through}");
        self.highest = self.highest.max(through);
        self.mark_in_flight = Some(through);
    }

    pub(super) fn appended(&mut self) {
        self.is_writing = false;
        self.durable += std::mem::take(&mut self.in_flight);
        self.marked = self.mark_in_flight.take().unwrap_or(self.marked);
    }

    /// The version of the last of so many commits.
    pub(super) fn version_of(&self, commits: usize) -> Version {
        commits.checked_sub(1).map_or(self.start, |last| self.commits[last].version)
    }

    /// So many commits survived a crash; `model` is what is left of the database.
    pub(super) fn assert_survived(&self, commits: usize, mode: DurabilityMode, home: Home, model: &Model) {
        assert!(commits <= self.commits.len(), "{commits} commits survived of {}", self.commits.len());
        assert!(commits >= self.flushed, "flushed commits are lost: {commits} of {}", self.flushed);
        if mode == DurabilityMode::Strict {
            let lost: Vec<usize> = self.acknowledged.range(commits..).copied().collect();
            assert!(lost.is_empty(), "acknowledged commits are lost: {lost:?} survived={commits}");
            for (seen, left) in &self.seen {
                assert!(!left || holds(seen, home, model), "somebody was told what is not so: {seen:?}");
            }
        }
    }

    /// The acknowledged commits above a version.
    fn acknowledged_above(&self, cut: Version) -> impl Iterator<Item = &Commit> {
        self.acknowledged.range(self.count_through(cut)..).map(|commit| &self.commits[*commit])
    }
}

/// In `Buffered` mode, everything up to a cut survived a crash. `covered`: what somebody was told to be safe.
pub(super) fn assert_cut(ledgers: &[Ledger], cut: Version, covered: Version, mode: DurabilityMode, crash: Crash) {
    let DurabilityMode::Buffered { flush_interval_ms, max_pending_writes } = mode else { return };
    assert!(cut >= covered, "what was flushed is lost: cut={cut} flushed={covered}");
    let marked = ledgers.iter().map(|ledger| ledger.marked).min().unwrap_or_default();
    assert!(cut >= marked, "marks that were durable on all shards do not count: cut={cut} marked={marked}");
    let lost: Vec<&Commit> = ledgers.iter().flat_map(|ledger| ledger.acknowledged_above(cut)).collect();
    assert!(lost.len() <= max_pending_writes, "more acknowledged commits are lost than may be: {lost:?}");
    let interval = u64::try_from(Duration::from_millis(flush_interval_ms).as_nanos()).unwrap();
    let old = lost.iter().map(|commit| crash.at - commit.at).max();
    let is_late = old.is_some_and(|old| old > interval + crash.slack);
    assert!(crash.is_late || !is_late, "a lost commit was acknowledged {old:?} ns ago");
}

fn holds(seen: &Seen, home: Home, model: &Model) -> bool {
    match seen {
        Seen::Read { at, run, command, outcome } => ask(model, home, *at, *run, command) == *outcome,
        Seen::Attempt { version, run, command, outcome } => {
            let mut sheet = Sheet::immediate(*version);
            let mut desk = Desk { model, sheet: &mut sheet, home, now: *version };
            desk.execute(*run, command) == *outcome
        }
        Seen::Steps { snapshot, steps } => steps_hold(model, home, *snapshot, steps),
    }
}
