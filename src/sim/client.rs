//! Clients: scripts of requests, one at a time or pipelined.

use std::collections::{BTreeSet, VecDeque};

use super::rng::Rng;
use super::swarm::Swarm;
use crate::base::run_id::RunId;
use crate::commit::message::TransactionNumber;
use crate::shard::input::{Acknowledge, RequestId};

/// What a client will ask; the command is made up when it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Execute,
    /// Begins a transaction before its first step; if it looks back, at a version a little in the past.
    Begin {
        transaction: TransactionNumber,
        looks_back: bool,
    },
    Step {
        transaction: TransactionNumber,
        operation: u64,
    },
    Commit {
        transaction: TransactionNumber,
        operations: u64,
        acknowledge: Acknowledge,
    },
    Abort {
        transaction: TransactionNumber,
    },
    Flush,
}

/// Somebody who uses the database.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) script: VecDeque<Call>,
    /// Everything in a script goes to the shard of this run.
    pub(super) run: RunId,
    pub(super) is_pipelined: bool,
    pub(super) waits_for: BTreeSet<RequestId>,
    pub(super) scripts_left: u64,
}

impl Client {
    pub(super) fn new(scripts: u64) -> Self {
        Self {
            script: VecDeque::new(),
            run: RunId::DIRECTORY,
            is_pipelined: false,
            waits_for: BTreeSet::new(),
            scripts_left: scripts,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.scripts_left == 0 && self.script.is_empty() && self.waits_for.is_empty()
    }

    /// The database is gone: so are the answers, and what was open.
    pub(super) fn disconnect(&mut self) {
        self.script.clear();
        self.waits_for.clear();
    }

    /// Thinks of something new to do.
    pub(super) fn plan(&mut self, rng: &mut Rng, swarm: &Swarm, run: RunId, transaction: TransactionNumber) {
        self.scripts_left -= 1;
        self.run = run;
        self.is_pipelined = rng.chance(swarm.pipelined);
        self.script.clear();
        let looks_back = rng.chance(swarm.snapshot_reads);
        if looks_back || rng.chance(swarm.transactions) {
            return self.plan_transaction(rng, transaction, looks_back);
        }
        if rng.chance(20) {
            return self.script.push_back(Call::Flush);
        }
        let count = if self.is_pipelined { rng.within(1..8) } else { rng.within(1..3) };
        for _ in 0..count {
            self.script.push_back(Call::Execute);
        }
    }

    fn plan_transaction(&mut self, rng: &mut Rng, transaction: TransactionNumber, looks_back: bool) {
        let operations = rng.below(6);
        // One operation is lost on the way, in a few.
        let lost = if rng.chance(20) { rng.below(6) } else { operations };
        if looks_back || rng.chance(150) {
            self.script.push_back(Call::Begin { transaction, looks_back });
        }
        for operation in (0..operations).filter(|operation| *operation != lost) {
            self.script.push_back(Call::Step { transaction, operation });
            if rng.chance(10) {
                self.script.push_back(Call::Begin { transaction, looks_back });
            }
        }
        let acknowledge = match rng.below(10) {
            0 => Acknowledge::Visible,
            1 => Acknowledge::Durable,
            _ => Acknowledge::AsUsual,
        };
        match rng.below(20) {
            0 => {}
            1 => self.script.push_back(Call::Abort { transaction }),
            2 => self.script.push_back(Call::Commit { transaction, operations: operations + 1, acknowledge }),
            _ => self.script.push_back(Call::Commit { transaction, operations, acknowledge }),
        }
    }
}
