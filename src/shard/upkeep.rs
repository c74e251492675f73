//! Upkeep: marks, old versions, idle transactions, and when to come back.
//!
//! - Nothing here runs while there is nothing to do: an idle shard has no timeout.

use super::machine::Shard;
use crate::base::kill_point::{KillPoint, kill_point};
use crate::base::options::DurabilityMode;
use crate::base::planted::{Bug, planted};
use crate::base::version::Version;
use crate::commit::message::Message;
use crate::format::record::RecordHeader;

/// How many keys are swept with every tick.
const SWEEP_WITH_TICK: usize = 1024;

impl Shard {
    /// When to come back with `Tick` if nothing else happens.
    pub(crate) fn poll_timeout(&self) -> Option<Version> {
        let marks = if self.poisoned().is_none() { self.marks.poll_timeout() } else { None };
        [self.sweep_timeout(), marks, self.transactions.poll_timeout()].into_iter().flatten().min()
    }

    fn sweep_timeout(&self) -> Option<Version> {
        let due = self.memory.sweep_due()?;
        if due <= self.horizon() {
            Some(self.now)
        } else if due <= self.own_horizon() {
            Some(self.horizons.next_question().max(self.now))
        } else {
            Some(due).filter(|due| *due > self.latest)
        }
    }

    pub(super) fn tick(&mut self) {
        self.latest = self.latest.max(self.now);
        self.transactions.tick(self.now);
        self.memory.sweep(self.horizon(), SWEEP_WITH_TICK);
        let is_curious = self.memory.sweep_due().is_some_and(|due| due > self.horizon() && due <= self.own_horizon());
        if is_curious && self.horizons.next_question() <= self.now {
            self.horizons.ask(self.now);
            self.tell_others(|| Message::AskHorizon);
        }
    }

    /// No reader here is or will come below this version, and nothing at or below it can be lost.
    pub(super) fn own_horizon(&self) -> Version {
        let readers = self.transactions.oldest_snapshot().unwrap_or(Version::MAX);
        let durable = match self.config.mode {
            DurabilityMode::Strict => self.log.first_pending().map_or(Version::MAX, Version::previous),
            DurabilityMode::InMemory | DurabilityMode::Buffered { .. } => Version::MAX,
        };
        self.latest.min(readers).min(durable)
    }

    /// The same over all shards.
    pub(super) fn horizon(&self) -> Version {
        if planted(Bug::CollectedEarly) {
            return self.latest;
        }
        self.horizons.lowest(self.own_horizon())
    }

    /// Begins a round of marks if it is time.
    pub(super) fn begin_round_if_due(&mut self) {
        let is_buffered = matches!(self.config.mode, DurabilityMode::Buffered { .. });
        if !is_buffered || self.config.read_only || !self.marks.is_due(self.now, self.gate.wanted()) {
            return;
        }
        let through = self.latest.max(self.now);
        self.mark(through);
        self.tell_others(|| Message::Mark { through });
    }

    /// Marks that everything this shard commits up to a version stands before this place in its log.
    pub(super) fn mark(&mut self, through: Version) {
        if !planted(Bug::MarkBelowFloor) {
            self.latest = self.latest.max(through);
        }
        if self.poisoned().is_some() || !self.marks.is_news(through) {
            return;
        }
        if let Ok(at) = self.log.stage(RecordHeader::mark(through), self.latest, &()) {
            self.marks.logged(at, through);
            kill_point(KillPoint::MarkLogged);
            self.log.hurry();
        }
    }
}
