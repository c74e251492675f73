//! Audits: the whole state of every shard against the model, and what must be so when nothing happens any more.

use super::model::{Home, dump::Dump};
use super::world::{PATIENCE, World};
use crate::base::json::path::Path;
use crate::base::key::Space;
use crate::base::metrics::ShardMetrics;
use crate::base::options::{DurabilityMode, HistoryRetention};
use crate::base::run::RunStatus;
use crate::base::run_id::RunId;
use crate::primitive::command::{
    Command, EventCommand, JsonCommand, KvCommand, RunCommand, RunFilter, StateCommand, TraceCommand,
};
use crate::shard::input::{Input, Request};

/// Longer than any open transaction may be idle, and the check for it may take.
const IDLE: u64 = 70_000_000_000;

impl World {
    /// Every shard's memory holds what the model holds.
    pub(super) fn assert_memories(&mut self) {
        self.stats.audits += 1;
        let shards = self.nodes.len();
        for (shard, node) in self.nodes.iter().enumerate() {
            let at = node.shard.latest();
            let expected = self.oracle.model.dump(Home { shard, shards }, at);
            assert_same(&node.shard.memory().dump(at), &expected, shard);
            let memory = node.shard.memory();
            assert_eq!(memory.footprint(), memory.count_footprint(), "the footprint of shard {shard} is exact");
            let (counted, commits) = (node.shard.metrics().commits, self.oracle.ledgers[shard].commits.len());
            assert_eq!(counted, commits as u64, "shard {shard} counts the commits that were seen");
        }
        self.assert_replays();
    }

    /// Everybody is done: looks at everything through commands, waits until what is idle is forgotten, and opens once
    /// more.
    pub(super) fn finish(&mut self) {
        self.assert_memories();
        self.swarm.crash = 0;
        self.swarm.crash_in_write = 0;
        (self.swarm.reserve_fails, self.swarm.faults, self.swarm.stalls) = (0, 0, 0);
        self.disk.disarm();
        self.swarm.reservation = 60_000_000_000;
        self.audit();
        self.settle();
        let until = self.now + IDLE;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            self.next_event();
        }
        self.now = until;
        self.assert_at_rest();
        if self.rng.chance(500) {
            self.crash();
        } else {
            self.close();
            let serving = self.manifest.as_ref().map(|manifest| manifest.incarnation);
            while self.manifest.as_ref().map(|manifest| manifest.incarnation) == serving && self.is_closing() {
                self.next_event();
            }
        }
        self.audit();
        self.settle();
    }

    /// Everybody has been gone for a while: nothing is held, nothing waits, and nobody wants to be woken.
    fn assert_at_rest(&self) {
        let is_poisoned = self.nodes.iter().any(|node| node.is_poisoned);
        let is_buffered = matches!(self.swarm.mode, DurabilityMode::Buffered { .. });
        for (shard, node) in self.nodes.iter().enumerate() {
            assert_eq!(node.shard.open_transactions(), 0, "shard {shard} keeps transactions open");
            assert_eq!(node.shard.held_intents(), 0, "shard {shard} keeps intents");
            assert_counted(&node.shard.metrics(), shard);
            assert!(
                node.is_poisoned || !(is_poisoned && is_buffered),
                "shard {shard} writes on, and no mark can count"
            );
            let ledger = &self.oracle.ledgers[shard];
            let is_written = ledger.durable == ledger.commits.len() || self.swarm.mode == DurabilityMode::InMemory;
            assert!(is_written || node.is_poisoned || self.stood_still, "shard {shard} keeps commits unwritten");
        }
        if is_poisoned || self.stood_still {
            return;
        }
        if is_buffered {
            let marked = self.oracle.ledgers.iter().map(|ledger| ledger.marked).min().unwrap_or_default();
            let last = self.oracle.ledgers.iter().map(|ledger| ledger.version_of(ledger.commits.len())).max();
            assert!(last.is_none_or(|last| last <= marked), "commits are not covered: last={last:?} marked={marked}");
        }
        for (shard, node) in self.nodes.iter().enumerate() {
            assert_eq!(node.shard.poll_timeout(), None, "shard {shard} does not come to rest");
            let due = node.shard.memory().sweep_due();
            assert_eq!(due, None, "shard {shard} has something left to forget: latest={}", node.shard.latest());
        }
        self.assert_swept();
        self.assert_told();
    }

    /// Nobody reads any more: no more is left than retention asks for.
    fn assert_swept(&self) {
        let shards = self.nodes.len();
        for (run, chain) in &self.oracle.model.runs {
            let node = &self.nodes[Home::of_run(run, shards)];
            let state = chain.last();
            for name in state.cells.keys() {
                let kept = node.shard.memory().revisions(run, Space::State, &name.as_str().into()).count() as u64;
                let most = match state.retention(self.swarm.history) {
                    HistoryRetention::Off | HistoryRetention::For(_) => 1,
                    HistoryRetention::Commits(count) => count.max(1),
                    HistoryRetention::Forever => u64::MAX,
                };
                assert!((1..=most).contains(&kept), "run {run} keeps {kept} states of {name}, not {most}");
            }
        }
    }

    /// Until every question is answered.
    fn settle(&mut self) {
        let until = self.now + PATIENCE;
        while self.oracle.unanswered() > 0 || self.nodes.iter().any(|node| !node.inbox.is_empty()) {
            self.next_event();
            assert!(self.now < until, "somebody waits for ever: handled={}", self.oracle.unanswered());
        }
    }

    /// Asks every shard about everything.
    fn audit(&mut self) {
        let runs: Vec<RunId> = self.oracle.model.runs.keys().copied().collect();
        let shards = self.nodes.len();
        for run in runs {
            let shard = Home::of_run(&run, shards);
            for question in self.questions(run) {
                self.ask(shard, run, question);
            }
        }
        let names: Vec<String> = self.oracle.model.names.keys().cloned().collect();
        for name in names {
            let shard = Home::of_name(&name, shards);
            self.ask(shard, RunId::DIRECTORY, Command::Run(RunCommand::LookUpName { name }));
        }
        for shard in 0..shards {
            let filters = [RunFilter::All, RunFilter::Status(RunStatus::Active), RunFilter::Tag("a".into())];
            for filter in filters.into_iter().chain(self.runs.clone().into_iter().map(RunFilter::Parent)) {
                self.ask(shard, RunId::DIRECTORY, Command::Run(RunCommand::List(filter)));
            }
        }
    }

    fn ask(&mut self, shard: usize, run: RunId, command: Command) {
        self.requests += 1;
        let request = Request::Execute { run, command };
        self.tell(shard, Input::Request { id: self.requests, request });
    }

    fn questions(&self, run: RunId) -> Vec<Command> {
        let state = self.oracle.model.run(run);
        let mut questions = vec![
            Command::Run(RunCommand::Get),
            Command::Kv(KvCommand::ListWithValues { prefix: None }),
            Command::Event(EventCommand::Verify),
            Command::Event(EventCommand::ReadRange { range: 0..u64::MAX, limit: usize::MAX }),
            Command::Event(EventCommand::Types),
            Command::State(StateCommand::List),
            Command::Json(JsonCommand::List { prefix: None }),
            Command::Trace(TraceCommand::Count),
            Command::Trace(TraceCommand::Roots),
            Command::Trace(TraceCommand::ByTag { tag: "a".into() }),
            Command::Trace(TraceCommand::ByKind { kind: "Custom".into() }),
            Command::Trace(TraceCommand::Page { after: 0, limit: usize::MAX }),
        ];
        for key in state.pairs.keys() {
            questions.push(Command::Kv(KvCommand::GetVersioned { key: key.as_str().into() }));
            questions.push(Command::Kv(KvCommand::History { key: key.as_str().into() }));
        }
        for key in state.documents.keys() {
            questions.push(Command::Json(JsonCommand::Get { key: key.as_str().into(), path: Path::default() }));
            questions.push(Command::Json(JsonCommand::Version { key: key.as_str().into() }));
        }
        let names = state.cells.keys();
        questions.extend(names.map(|name| Command::State(StateCommand::Read { name: name.as_str().into() })));
        questions
    }
}

fn assert_same(actual: &Dump, expected: &Dump, shard: usize) {
    for (key, stored) in expected {
        let found = actual.get(key);
        assert_eq!(found, Some(stored), "shard {shard} lost or changed {key:?}");
    }
    for key in actual.keys() {
        assert!(expected.contains_key(key), "shard {shard} holds what nobody wrote: {key:?} {:?}", actual[key]);
    }
}

/// Every transaction has ended, in one way.
fn assert_counted(counted: &ShardMetrics, shard: usize) {
    let ended = counted.transactions_committed
        + counted.transactions_read_only
        + counted.transactions_conflicted
        + counted.transactions_refused
        + counted.transactions_aborted
        + counted.transactions_timed_out;
    assert_eq!(counted.transactions_begun, ended, "shard {shard} counts how each transaction ends: {counted:?}");
}
