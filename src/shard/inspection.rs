//! Inspection: what whoever verifies a running database must know of a shard.

use super::input::RequestId;
use super::machine::Shard;
use crate::base::version::Version;
use crate::primitive::output::{Output, Reply};

impl Shard {
    /// Says how far the log is durable.
    pub(super) fn say_durable(&mut self, id: RequestId) {
        let durable = self.log.durable_through();
        self.answer(id, (Ok(Reply::read(Output::Position(durable))), Version::ZERO));
    }

    /// Says which runs have event logs.
    pub(super) fn list_event_logs(&mut self, id: RequestId) {
        let runs = self.memory.event_logs();
        self.answer(id, (Ok(Reply::read(Output::RunIds(runs))), Version::ZERO));
    }
}
