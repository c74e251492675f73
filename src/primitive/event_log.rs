//! Event logs.
//!
//! - Sequences are 0, 1, 2 ... without gaps; timestamps never fall along the log.
//! - Every event names its predecessor's hash. The head (length, last timestamp, last hash) is derived from the last
//!   event; an append needs nothing else.
//! - A transaction that appends has read the head: two that append to one log conflict. An append of its own does not.

use std::ops::{Bound, Range};
use std::sync::Arc;

use super::command::EventCommand;
use super::output::Output;
use super::{index, missing, writable};
use crate::base::error::{Error, Result};
use crate::base::event::{ChainVerification, Event, EventHead};
use crate::base::key::{Name, Space, leading_text, number_at_end, number_name, prefix_end, text_prefix, unit_name};
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::value::Value;
use crate::commit::access::{Access, Scan};

pub(super) fn execute(access: &mut Access<'_>, run: RunId, command: EventCommand) -> Result<Output> {
    match command {
        EventCommand::Append { event_type, payload, expected_len } => {
            writable(access, run)?;
            let mut head = head(access, run);
            if let Some(expected) = expected_len.filter(|expected| *expected != head.len) {
                return Err(Error::VersionMismatch { expected, actual: head.len });
            }
            append(access, run, &mut head, event_type, payload)?;
            Ok(Output::Appended(head.len - 1, head.hash))
        }
        EventCommand::AppendMany { events } => {
            writable(access, run)?;
            let mut head = head(access, run);
            let start = head.len;
            for (event_type, payload) in events {
                append(access, run, &mut head, event_type, payload)?;
            }
            Ok(Output::Range(start..head.len))
        }
        EventCommand::Read { sequence } => Ok(Output::Event(read(access, run, sequence))),
        EventCommand::ReadRange { range, limit } => Ok(Output::Events(read_range(access, run, range, limit))),
        EventCommand::Head => {
            let Some(last) = head(access, run).len.checked_sub(1) else { return Ok(Output::Event(None)) };
            let event = read(access, run, last).ok_or_else(|| missing("event", run, last))?;
            Ok(Output::Event(Some(event)))
        }
        EventCommand::Len => Ok(Output::Count(head(access, run).len)),
        EventCommand::ReadByType { event_type } => read_by_type(access, run, &event_type),
        EventCommand::ReadByTime { range } => read_by_time(access, run, range),
        EventCommand::Types => Ok(Output::Texts(types(access, run))),
        EventCommand::Verify => Ok(Output::Chain(Box::new(verify(access, run)))),
    }
}

fn head(access: &mut Access<'_>, run: RunId) -> EventHead {
    if !access.is_kept(run, Space::EventHead) {
        return head_of_events(access, run);
    }
    match access.get(run, Space::EventHead, &unit_name()) {
        None => EventHead::default(),
        Some(Stored::EventHead(head)) => *head,
        Some(other) => unreachable!("the head of a log is a head, not {other:?}"),
    }
}

/// Appends one event behind `head` and moves `head` there.
/// The end of the log as it was: ends are not kept, events are.
fn head_of_events(access: &mut Access<'_>, run: RunId) -> EventHead {
    let mut head = EventHead::default();
    access.scan(run, Space::Event, &Scan { reverse: true, limit: 1, ..Scan::all() }, |_, stored| {
        if let Stored::Event(event) = stored {
            head = EventHead { len: event.sequence + 1, timestamp: event.timestamp, hash: event.hash };
        }
        false
    });
    head
}

fn append(access: &mut Access<'_>, run: RunId, head: &mut EventHead, event_type: String, payload: Value) -> Result<()> {
    let timestamp = access.now().as_micros().max(head.timestamp);
    let sequence = head.len;
    let mut event = Event { sequence, event_type, payload, timestamp, prev_hash: head.hash, hash: [0; 32] };
    event.hash = event.compute_hash();
    *head = EventHead { len: sequence + 1, timestamp, hash: event.hash };
    index::put(access, run, Space::Event, number_name(sequence), Stored::Event(Arc::new(event)), None)
}

fn read(access: &mut Access<'_>, run: RunId, sequence: u64) -> Option<Arc<Event>> {
    access.get(run, Space::Event, &number_name(sequence)).map(|stored| Arc::clone(event_of(&stored)))
}

fn read_range(access: &mut Access<'_>, run: RunId, range: Range<u64>, limit: usize) -> Vec<Arc<Event>> {
    let mut events = Vec::new();
    let scan = Scan { limit, ..Scan::range(names(range)) };
    access.scan(run, Space::Event, &scan, |_, stored| {
        events.push(Arc::clone(event_of(stored)));
        true
    });
    events
}

fn read_by_type(access: &mut Access<'_>, run: RunId, event_type: &str) -> Result<Output> {
    let mut sequences = Vec::new();
    access.scan(run, Space::EventType, &Scan::prefix(&text_prefix(event_type)), |name, _| {
        sequences.extend(number_at_end(name));
        true
    });
    let mut events = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        events.push(read(access, run, sequence).ok_or_else(|| missing("event", run, sequence))?);
    }
    Ok(Output::Events(events))
}

/// Finds the first event by halving, which it can because timestamps never fall, and walks on from there.
fn read_by_time(access: &mut Access<'_>, run: RunId, range: Range<i64>) -> Result<Output> {
    let mut sequences = 0..head(access, run).len;
    let end = sequences.end;
    while sequences.start < sequences.end {
        let middle = sequences.start + (sequences.end - sequences.start) / 2;
        let event = read(access, run, middle).ok_or_else(|| missing("event", run, middle))?;
        if event.timestamp < range.start {
            sequences.start = middle + 1;
        } else {
            sequences.end = middle;
        }
    }
    let mut events = Vec::new();
    access.scan(run, Space::Event, &Scan::range(names(sequences.start..end)), |_, stored| {
        let event = event_of(stored);
        let is_within = event.timestamp < range.end;
        if is_within {
            events.push(Arc::clone(event));
        }
        is_within
    });
    Ok(Output::Events(events))
}

/// The types there are, in order: from one type, straight to behind its last event.
fn types(access: &mut Access<'_>, run: RunId) -> Vec<String> {
    let mut types = Vec::new();
    let mut from = Bound::Unbounded;
    loop {
        let mut next = None;
        let scan = Scan { limit: 1, ..Scan::range((from, Bound::Unbounded)) };
        access.scan(run, Space::EventType, &scan, |name, _| {
            next = leading_text(name);
            true
        });
        let Some(event_type) = next else { return types };
        let behind = prefix_end(&text_prefix(&event_type));
        types.push(event_type);
        // A text's form ends with zero bytes, so that something always lies behind it.
        let Some(behind) = behind else { return types };
        from = Bound::Included(behind);
    }
}

/// Walks the whole log: every event must be there, be what its hash says and name its predecessor's hash, and the head
/// must name the last one.
fn verify(access: &mut Access<'_>, run: RunId) -> ChainVerification {
    let head = head(access, run);
    let mut walk = Walk { len: 0, hash: [0; 32] };
    let mut wrong: Option<(u64, String)> = None;
    access.scan(run, Space::Event, &Scan::all(), |name, stored| {
        wrong = walk.step(number_at_end(name), event_of(stored)).err();
        wrong.is_none()
    });
    let wrong = wrong.or_else(|| walk.finish(head).err());
    let is_valid = wrong.is_none();
    let (first_invalid, error) = wrong.unzip();
    ChainVerification { is_valid, length: head.len, first_invalid, error }
}

/// How far the check of a hash chain has come.
struct Walk {
    len: u64,
    hash: [u8; 32],
}

impl Walk {
    fn step(&mut self, position: Option<u64>, event: &Event) -> Result<(), (u64, String)> {
        let expected = self.len;
        if position != Some(expected) {
            return Err((expected, "the event is missing".into()));
        }
        if event.sequence != expected {
            return Err((expected, format!("the event has another sequence: sequence={}", event.sequence)));
        }
        if event.prev_hash != self.hash {
            return Err((expected, "the event does not name the hash of the event before it".into()));
        }
        if event.compute_hash() != event.hash {
            return Err((expected, "the event does not have the hash it was stored with".into()));
        }
        *self = Self { len: expected + 1, hash: event.hash };
        Ok(())
    }

    fn finish(&self, head: EventHead) -> Result<(), (u64, String)> {
        let lengths = format!("stored={} found={}", head.len, self.len);
        if self.len < head.len {
            return Err((self.len, format!("the tail of the log is missing: {lengths}")));
        }
        if self.len > head.len {
            return Err((head.len, format!("the log goes on behind its stored length: {lengths}")));
        }
        if self.hash != head.hash {
            return Err((self.len.saturating_sub(1), "the last event does not have the hash the head names".into()));
        }
        Ok(())
    }
}

fn event_of(stored: &Stored) -> &Arc<Event> {
    match stored {
        Stored::Event(event) => event,
        other => unreachable!("a sequence holds an event, not {other:?}"),
    }
}

fn names(range: Range<u64>) -> (Bound<Name>, Bound<Name>) {
    (Bound::Included(number_name(range.start)), Bound::Excluded(number_name(range.end)))
}

#[cfg(test)]
mod tests {
    use super::super::harness::{Harness, append, assert_collide};
    use super::*;

    fn log(types: &[&str]) -> Harness {
        let mut harness = Harness::new();
        for event_type in types {
            harness.run(append(event_type)).unwrap();
        }
        harness
    }

    fn events(output: Output) -> Vec<Arc<Event>> {
        match output {
            Output::Events(events) => events,
            Output::Event(event) => event.into_iter().collect(),
            other => panic!("no events: {other:?}"),
        }
    }

    fn all(harness: &mut Harness) -> Vec<Arc<Event>> {
        events(harness.run(EventCommand::ReadRange { range: 0..u64::MAX, limit: 999 }).unwrap())
    }

    fn verified(harness: &mut Harness) -> ChainVerification {
        match harness.run(EventCommand::Verify).unwrap() {
            Output::Chain(chain) => *chain,
            other => panic!("no verification: {other:?}"),
        }
    }

    #[track_caller]
    fn assert_invalid(harness: &mut Harness, length: u64, first_invalid: u64, error: &str) {
        let chain = verified(harness);
        assert_eq!((chain.is_valid, chain.length, chain.first_invalid), (false, length, Some(first_invalid)));
        assert!(chain.error.as_deref().is_some_and(|found| found.contains(error)), "{chain:?}");
    }

    #[test]
    fn events_are_chained_from_the_first_to_the_head() {
        let mut harness = log(&["a", "b", "a"]);
        let events = all(&mut harness);
        assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(events[0].prev_hash, [0; 32]);
        assert!(events.windows(2).all(|pair| pair[1].prev_hash == pair[0].hash));
        assert_eq!(harness.run(EventCommand::Head).unwrap(), Output::Event(events.last().cloned()));
        let valid = ChainVerification { is_valid: true, length: 3, first_invalid: None, error: None };
        assert_eq!(verified(&mut harness), valid);
        assert!(verified(&mut Harness::new()).is_valid);
        assert_eq!(Harness::new().run(EventCommand::Head).unwrap(), Output::Event(None));
    }

    #[test]
    fn many_are_appended_together_and_none_write_nothing() {
        let mut harness = log(&["a"]);
        let events = vec![("b".to_owned(), Value::Null), ("c".to_owned(), Value::Null)];
        assert_eq!(harness.run(EventCommand::AppendMany { events }).unwrap(), Output::Range(1..3));
        let mut part = harness.begin();
        let none = EventCommand::AppendMany { events: vec![] };
        assert_eq!(harness.step(&mut part, none).unwrap(), Output::Range(3..3));
        assert!(part.writes().is_empty());
        assert!(verified(&mut harness).is_valid);
    }

    #[test]
    fn an_append_can_insist_on_a_length() {
        let mut harness = log(&["a"]);
        let append = |expected| EventCommand::Append {
            event_type: "b".into(),
            payload: Value::Null,
            expected_len: Some(expected),
        };
        let stale = harness.run(append(0));
        assert!(matches!(stale, Err(Error::VersionMismatch { expected: 0, actual: 1 })), "{stale:?}");
        let hash = |harness: &mut Harness| all(harness)[1].hash;
        let appended = harness.run(append(1)).unwrap();
        assert_eq!(appended, Output::Appended(1, hash(&mut harness)));
        assert_eq!(harness.run(EventCommand::Len).unwrap(), Output::Count(2));
    }

    #[test]
    fn timestamps_never_fall() {
        let mut harness = log(&["a"]);
        let last = all(&mut harness)[0].timestamp;
        let mut part = harness.begin();
        let now = std::mem::replace(&mut harness.now, 5_000);
        harness.step(&mut part, append("b")).unwrap();
        harness.now = now;
        harness.commit(part).unwrap();
        assert_eq!(all(&mut harness)[1].timestamp, last);
    }

    #[test]
    fn a_range_ends_before_its_end_and_at_its_limit() {
        let mut harness = log(&["a"; 6]);
        let mut range = |range, limit| harness.run(EventCommand::ReadRange { range, limit }).unwrap().ids().join(" ");
        assert_eq!([range(1..4, 99), range(4..99, 99), range(0..6, 2)], ["1 2 3", "4 5", "0 1"]);
        #[expect(clippy::reversed_empty_ranges, reason = "callers can ask for anything")]
        let empty = [range(3..3, 99), range(5..2, 99), range(0..6, 0), range(6..9, 9)];
        assert_eq!(empty, [""; 4]);
        assert_eq!(harness.run(EventCommand::Read { sequence: 6 }).unwrap(), Output::Event(None));
    }

    #[test]
    fn time_finds_the_same_events_as_looking_at_each() {
        let mut harness = log(&["a", "b", "c"]);
        harness.now += 50_000;
        let together = vec![("d".to_owned(), Value::Null); 3];
        harness.run(EventCommand::AppendMany { events: together }).unwrap();
        harness.run(append("e")).unwrap();
        let every = all(&mut harness);
        let (first, last) = (every[0].timestamp - 2, every[6].timestamp + 2);
        for start in first..last {
            for end in first..last {
                let range = start..end;
                let found = events(harness.run(EventCommand::ReadByTime { range: range.clone() }).unwrap());
                let expected: Vec<_> = every.iter().filter(|event| range.contains(&event.timestamp)).cloned().collect();
                assert_eq!(found, expected, "{range:?}");
            }
        }
    }

    #[test]
    fn types_are_listed_once_and_found_exactly() {
        let mut harness = log(&["b", "a", "a\0", "a__b", "a", "b"]);
        assert_eq!(harness.run(EventCommand::Types).unwrap().ids(), ["a", "a\0", "a__b", "b"]);
        let mut of = |event_type: &str| {
            harness.run(EventCommand::ReadByType { event_type: event_type.into() }).unwrap().ids().join(" ")
        };
        assert_eq!([of("a"), of("a__b"), of("b"), of("")], ["1 4", "3", "0 5", ""]);
    }

    #[test]
    fn a_cut_off_tail_is_found() {
        let mut harness = log(&["a", "b", "c"]);
        harness.tamper(Space::Event, number_name(2), None);
        assert_invalid(&mut harness, 3, 2, "tail of the log is missing");
    }

    #[test]
    fn a_gap_is_found() {
        let mut harness = log(&["a", "b", "c"]);
        harness.tamper(Space::Event, number_name(1), None);
        assert_invalid(&mut harness, 3, 1, "the event is missing");
    }

    #[test]
    fn a_changed_event_is_found_even_if_its_hash_was_changed_with_it() {
        let change = |sequence: u64, rehash: bool| {
            let mut harness = log(&["a", "b", "c"]);
            let events = all(&mut harness);
            let mut event = Event::clone(events.iter().find(|event| event.sequence == sequence).unwrap());
            event.payload = "something else".into();
            if rehash {
                event.hash = event.compute_hash();
            }
            harness.tamper(Space::Event, number_name(sequence), Some(Stored::Event(Arc::new(event))));
            harness
        };
        assert_invalid(&mut change(1, false), 3, 1, "does not have the hash it was stored with");
        assert_invalid(&mut change(1, true), 3, 2, "does not name the hash of the event before");
        assert_invalid(&mut change(2, true), 3, 2, "the hash the head names");
    }

    #[test]
    fn an_event_behind_the_stored_length_is_found() {
        let mut harness = log(&["a", "b"]);
        let first = all(&mut harness)[0].clone();
        let head = EventHead { len: 1, timestamp: first.timestamp, hash: first.hash };
        harness.tamper(Space::EventHead, unit_name(), Some(Stored::EventHead(Arc::new(head))));
        assert_invalid(&mut harness, 1, 1, "goes on behind its stored length");
    }

    #[test]
    fn transactions_that_append_to_one_log_conflict() {
        let mut harness = log(&["a"]);
        assert_collide(&mut harness, append("b"), append("c"), true);
        assert_collide(&mut harness, append("b"), EventCommand::Read { sequence: 0 }, false);
        assert_collide(&mut harness, append("b"), EventCommand::ReadByType { event_type: "a".into() }, false);
        assert_collide(&mut harness, append("b"), EventCommand::Len, true);
        assert!(verified(&mut harness).is_valid);
    }
}
