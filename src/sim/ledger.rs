//! Ledgers: what a shard has committed and told in one opening, and what a crash may take of it.
//!
//! - `Strict`: nothing that was acknowledged is lost, and nothing that was answered ever turns out not to be so.
//! - `Buffered`: a suffix is lost, of no more acknowledged commits and of no more time than was said.
//! - A flush that was answered makes everything before it safe.

use std::collections::BTreeSet;
use std::time::Duration;

use super::model::{Desk, Home, Model, Sheet};
use super::oracle::{Outcome, ask};
use super::trial::steps_hold;
use crate::base::options::DurabilityMode;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::format::record::HEADER_BYTES;
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

    pub(super) fn acknowledge(&mut self, commit: usize, mode: DurabilityMode) {
        if mode == DurabilityMode::Strict {
            assert!(commit < self.durable, "commit {commit} was acknowledged, durable are {}", self.durable);
        }
        self.acknowledged.insert(commit);
    }

    pub(super) fn flushed(&mut self, commits: usize) {
        self.flushed = self.flushed.max(commits);
    }

    /// A batch goes to the disk: it holds the next commits, in order.
    pub(super) fn appending(&mut self, bytes: &[u8]) {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let mut at = 0;
        assert_eq!(self.in_flight, 0, "at most one batch is in flight");
        while at + HEADER_BYTES <= bytes.len() && bytes[at..at + HEADER_BYTES].iter().any(|byte| *byte != 0) {
            let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
            let version = Version::from(number(at + 24));
            assert_eq!(version, self.commits[self.written].version, "records are logged in the order of commits");
            self.written += 1;
            self.in_flight += 1;
            at += HEADER_BYTES + usize::try_from(length).unwrap();
        }
        assert!(self.in_flight > 0, "a batch holds something");
    }

    pub(super) fn appended(&mut self) {
        self.durable += std::mem::take(&mut self.in_flight);
    }

    /// The version of the last of so many commits.
    pub(super) fn version_of(&self, commits: usize) -> Version {
        commits.checked_sub(1).map_or(self.start, |last| self.commits[last].version)
    }

    /// So many commits survived a crash; `model` is what is left of the database.
    pub(super) fn assert_survived(
        &self,
        commits: usize,
        mode: DurabilityMode,
        crash: Crash,
        home: Home,
        model: &Model,
    ) {
        assert!(commits <= self.commits.len(), "{commits} commits survived of {}", self.commits.len());
        assert!(commits >= self.flushed, "flushed commits are lost: {commits} of {}", self.flushed);
        let lost: Vec<usize> = self.acknowledged.range(commits..).copied().collect();
        match mode {
            DurabilityMode::InMemory => {}
            DurabilityMode::Strict => {
                assert!(lost.is_empty(), "acknowledged commits are lost: {lost:?} survived={commits}");
                for (seen, left) in &self.seen {
                    assert!(!left || holds(seen, home, model), "somebody was told what is not so: {seen:?}");
                }
            }
            DurabilityMode::Buffered { flush_interval_ms, max_pending_writes } => {
                assert!(lost.len() <= max_pending_writes, "more acknowledged commits are lost than may be: {lost:?}");
                let interval = u64::try_from(Duration::from_millis(flush_interval_ms).as_nanos()).unwrap();
                let old = lost.first().map(|oldest| crash.at - self.commits[*oldest].at);
                let is_late = old.is_some_and(|old| old > interval + crash.slack);
                assert!(crash.is_late || !is_late, "a lost commit was acknowledged {old:?} ns ago");
            }
        }
    }
}

fn holds(seen: &Seen, home: Home, model: &Model) -> bool {
    match seen {
        Seen::Read { at, run, command, outcome } => ask(model, home, *at, *run, command) == *outcome,
        Seen::Attempt { version, run, command, outcome } => {
            let mut sheet = Sheet::immediate(*version);
            let mut desk = Desk { model, sheet: &mut sheet, home, now: *version, alone: true };
            desk.execute(*run, command) == *outcome
        }
        Seen::Steps { snapshot, steps } => steps_hold(model, home, *snapshot, steps),
    }
}
