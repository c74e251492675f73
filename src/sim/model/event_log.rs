//! What commands of the event log answer.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Desk, Refusal, Run};
use crate::base::event::{ChainVerification, Event};
use crate::base::run_id::RunId;
use crate::base::value::{Value, write_canonical};
use crate::primitive::command::EventCommand;
use crate::primitive::output::Output;

impl Desk<'_> {
    pub(super) fn event(&mut self, run: RunId, command: &EventCommand) -> Result<Output, Refusal> {
        let events = self.run(run).events;
        let length = events.len() as u64;
        let those = |keep: &dyn Fn(&Event) -> bool| {
            Output::Events(events.iter().filter(|event| keep(event)).cloned().collect())
        };
        Ok(match command {
            EventCommand::Append { event_type, payload, expected_len } => {
                let mut state = self.writable(run)?;
                if let Some(expected) = expected_len.filter(|expected| *expected != length) {
                    return Err(Refusal::Mismatch(expected, length));
                }
                let hash = self.append(&mut state, event_type, payload);
                self.change(run, state);
                Output::Appended(length, hash)
            }
            EventCommand::AppendMany { events } => {
                let mut state = self.writable(run)?;
                for (event_type, payload) in events {
                    self.append(&mut state, event_type, payload);
                }
                if !events.is_empty() {
                    self.change(run, state);
                }
                Output::Range(length..length + events.len() as u64)
            }
            EventCommand::Read { sequence } => Output::Event(event_at(&events, *sequence)),
            EventCommand::ReadRange { range, limit } => {
                let found = events.iter().filter(|event| range.contains(&event.sequence)).take(*limit);
                Output::Events(found.cloned().collect())
            }
            EventCommand::Head => Output::Event(events.last().cloned()),
            EventCommand::Len => Output::Count(length),
            EventCommand::ReadByType { event_type } => those(&|event| event.event_type == *event_type),
            EventCommand::ReadByTime { range } => those(&|event| range.contains(&event.timestamp)),
            EventCommand::Types => {
                let types: BTreeSet<&String> = events.iter().map(|event| &event.event_type).collect();
                Output::Texts(types.into_iter().cloned().collect())
            }
            EventCommand::Verify => {
                Output::Chain(Box::new(ChainVerification { is_valid: true, length, first_invalid: None, error: None }))
            }
        })
    }

    fn append(&self, state: &mut Run, event_type: &str, payload: &Value) -> [u8; 32] {
        let events = Rc::make_mut(&mut state.events);
        let sequence = events.len() as u64;
        let before = events.last();
        let timestamp = before.map_or(i64::MIN, |event| event.timestamp).max(self.now.as_micros());
        let prev_hash = before.map_or([0; 32], |event| event.hash);
        let mut hash = Sha256::new();
        hash.update(prev_hash);
        hash.update(sequence.to_le_bytes());
        hash.update(timestamp.to_le_bytes());
        hash.update((event_type.len() as u64).to_le_bytes());
        hash.update(event_type);
        let mut canonical = Vec::new();
        write_canonical(payload, &mut canonical);
        hash.update(&canonical);
        let hash = hash.finalize().into();
        let event_type = event_type.to_owned();
        events.push(Arc::new(Event { sequence, event_type, payload: payload.clone(), timestamp, prev_hash, hash }));
        hash
    }
}

fn event_at(events: &[Arc<Event>], sequence: u64) -> Option<Arc<Event>> {
    events.get(usize::try_from(sequence).ok()?).cloned()
}
