//! Aftermath: what a shard still answers in `Strict` mode when its log has failed.
//!
//! - Whether the next opening finds what was not durable (*lost*), nobody knows: no answer depends on it. What was
//!   committed over several shards is durable on all of them and may have been acknowledged, though its version is above
//!   that of something lost (*kept*): no answer misses it.
//! - So a read stands at a version at or below which nothing that it read is lost, and above which nothing that it read is
//!   kept: what it answers is true at that version for ever. There is nearly always one; if there is none, the read is
//!   refused.

use super::machine::Shard;
use crate::base::error::Result;
use crate::base::options::DurabilityMode;
use crate::base::planted::{Bug, planted};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::access::Access;
use crate::commit::part::Part;
use crate::primitive;
use crate::primitive::command::Command;

impl Shard {
    /// Whether the log has failed and answers depend on what is durable.
    pub(super) fn is_aftermath(&self) -> bool {
        self.poisoned().is_some() && self.config.mode == DurabilityMode::Strict
    }

    /// A commit over several shards is applied.
    pub(super) fn note_kept(&mut self, timestamp: Version) {
        let is_strict = self.config.mode == DurabilityMode::Strict;
        if is_strict && self.log.first_pending().is_some_and(|pending| pending <= timestamp) {
            self.kept.insert(timestamp);
        }
    }

    /// More is durable: what is below everything that is not needs no care.
    pub(super) fn forget_kept(&mut self) {
        match self.log.first_pending() {
            _ if self.kept.is_empty() => {}
            None => self.kept.clear(),
            Some(pending) => self.kept = self.kept.split_off(&pending),
        }
    }

    /// The snapshot of a single read that comes now.
    pub(super) fn snapshot_of_read(&mut self, run: RunId, command: &Command) -> Version {
        let lowest = self.snapshot();
        if self.kept.is_empty() || !self.is_aftermath() || planted(Bug::KeptMissed) {
            return lowest;
        }
        let below_lost = |kept: &Version| self.log.pending_above(*kept).map_or(self.latest, Version::previous);
        let mut all = std::iter::once(lowest).chain(self.kept.iter().map(below_lost));
        let is_missed = |at: Version, version: Version| version > at && self.kept.contains(&version);
        let found = all.find(|at| {
            let mut part = Part::tracked(*at);
            let mut access = Access::new(&self.memory, &mut part, *at).beside(&self.intents);
            let _ = primitive::execute(&mut access, run, command.clone());
            // What blocks it here blocks it later too.
            let is_blocked = access.blocked().is_some();
            let mut versions = part.versions_read(&self.memory);
            is_blocked || versions.all(|version| !is_missed(*at, version) && !self.is_lost(*at, version))
        });
        found.unwrap_or(self.latest)
    }

    /// In the aftermath an answer depends on nothing that may be lost.
    ///
    /// # Errors
    /// `Unavailable` if what was read does.
    pub(super) fn check_not_lost(&self, part: &Part) -> Result<()> {
        let at = part.snapshot;
        let is_lost = part.versions_read(&self.memory).any(|version| self.is_lost(at, version));
        let is_lost = is_lost && !planted(Bug::LostTold);
        if is_lost { self.check_not_poisoned() } else { Ok(()) }
    }

    fn is_lost(&self, at: Version, version: Version) -> bool {
        version <= at && self.log.is_pending(version)
    }
}
