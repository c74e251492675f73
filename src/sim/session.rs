//! Sessions: what clients do next.

use super::client::Call;
use super::mesh::{Message, Party};
use super::mix::Mix;
use super::model::Home;
use super::world::{Event, World};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::commit::message::TransactionNumber;
use crate::primitive::command::Command;
use crate::shard::input::{Commit, Request};

impl World {
    /// A client goes on with its script, or with a new one.
    pub(super) fn think(&mut self, client: usize) {
        if !self.clients[client].waits_for.is_empty() || self.clients[client].is_done() {
            return;
        }
        if self.clients[client].script.is_empty() {
            if self.rng.chance(self.swarm.close) {
                self.schedule(self.now, Event::Close);
            }
            let run = self.pick_run();
            self.transactions += 1;
            let transaction = TransactionNumber(self.transactions);
            self.clients[client].plan(&mut self.rng, &self.swarm, run, transaction);
        }
        while let Some(call) = self.clients[client].script.pop_front() {
            self.call(client, call);
            if !self.clients[client].is_pipelined {
                break;
            }
        }
        if self.clients[client].waits_for.is_empty() && !self.clients[client].is_done() {
            self.schedule(self.now + 1, Event::Think { client });
        }
    }

    /// Some run; one that was deleted is now and then replaced by a new one.
    fn pick_run(&mut self) -> RunId {
        let at = self.rng.index(self.runs.len());
        if self.oracle.model.run(self.runs[at]).deleted && self.rng.chance(300) {
            self.runs[at] = RunId::from_bytes(self.rng.bytes());
        }
        self.runs[at]
    }

    fn call(&mut self, client: usize, call: Call) {
        let shards = self.nodes.len();
        let run = self.clients[client].run;
        let shard = Home::of_run(&run, shards);
        let request = match call {
            Call::Execute => {
                let (run, command) = self.command(shard, run);
                Request::Execute { run, command }
            }
            Call::Begin { transaction, looks_back } => {
                let snapshot = looks_back.then(|| self.look_back());
                Request::Begin { transaction, snapshot }
            }
            Call::Step { transaction, operation } => {
                let (run, command) = self.command(shard, run);
                Request::Step { transaction, operation, snapshot: None, run, command }
            }
            Call::Commit { transaction, operations, acknowledge } => {
                let own = (u32::try_from(shard).unwrap(), operations);
                let participants = Some(own).filter(|_| operations > 0).into_iter().collect();
                Request::Commit { transaction, commit: Commit { participants, acknowledge } }
            }
            Call::Abort { transaction } => Request::Abort { transaction, wrote: true },
            Call::Flush => Request::Flush,
        };
        self.requests += 1;
        self.asked_at = self.now;
        let id = self.requests;
        self.clients[client].waits_for.insert(id);
        let (from, to) = (Party::Client(client), Party::Shard(shard));
        let at = self.mesh.send(&mut self.rng, self.now, from, to, self.swarm.longest_link);
        self.schedule(at, Event::Arrive { to, message: Message::Request { id, request } });
    }

    /// A version a little in the past; now and then one in the future.
    fn look_back(&mut self) -> Version {
        let now = self.clock.at(self.now).get();
        if self.rng.chance(20) {
            return Version::from(now + 1_000_000_000);
        }
        let longest = *self.rng.pick(&[1_000, 2 * self.swarm.longest_ttl, 20_000_000]);
        Version::from(now - self.rng.below(longest))
    }

    /// A command for a run or for another of its shard.
    fn command(&mut self, shard: usize, run: RunId) -> (RunId, Command) {
        let shards = self.nodes.len();
        let home = Home { shard, shards };
        let near: Vec<RunId> = self.runs.iter().copied().filter(|other| home.owns_run(other)).collect();
        let run = if !near.is_empty() && self.rng.chance(250) { *self.rng.pick(&near) } else { run };
        let names: Vec<String> = (0..8).map(|name| format!("n{name}")).filter(|name| home.owns_name(name)).collect();
        let number = self.clock.unique_number(self.now);
        let mut mix = Mix {
            rng: &mut self.rng,
            swarm: &self.swarm,
            model: &self.oracle.model,
            runs: &self.runs,
            names: &names,
            number,
            now: self.clock.at(self.now),
        };
        mix.command(run)
    }
}
