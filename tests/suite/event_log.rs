//! Event logs: every operation and its edges.

use crate::support::{BUFFERED, directory, in_memory, on_tokio, open};
use futures::StreamExt;
use in_mem::prelude::*;
use sha2::{Digest, Sha256};

async fn run_with(types: &[&str]) -> RunHandle {
    let (_, run) = in_memory().await;
    run.events().append_many(types.iter().map(|kind| (kind, *kind))).await.unwrap();
    run
}

fn sequences(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.sequence).collect()
}

#[test]
fn an_empty_log_is_empty_for_every_question() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let events = run.events();
        assert_eq!((events.len().await.unwrap(), events.is_empty().await.unwrap()), (0, true));
        assert_eq!((events.head().await.unwrap(), events.read(0).await.unwrap()), (None, None));
        assert!(events.read_range(0, u64::MAX).await.unwrap().is_empty());
        assert!(events.read_by_type("a").await.unwrap().is_empty());
        assert!(events.read_by_time(i64::MIN..i64::MAX).await.unwrap().is_empty());
        assert!(events.event_types().await.unwrap().is_empty());
        assert_eq!(events.stream(0).count().await, 0);
        let chain = database.events().verify_chain(run.id()).await.unwrap();
        assert_eq!(chain, ChainVerification { is_valid: true, length: 0, first_invalid: None, error: None });
    });
}

#[test]
fn sequences_are_without_gaps_and_every_event_names_the_one_before() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let events = run.events();
        let (first, first_hash) = events.append("a", 1).await.unwrap();
        assert_eq!(events.append_many([("b", 2), ("c", 3)]).await.unwrap(), 1..3);
        assert_eq!(events.append_many(Vec::<(String, Value)>::new()).await.unwrap(), 3..3);
        let (last, last_hash) = events.append("d", 4).await.unwrap();
        assert_eq!((first, last), (0, 3));
        let all = events.read_range(0, 9).await.unwrap();
        assert_eq!(sequences(&all), [0, 1, 2, 3]);
        assert_eq!((all[0].prev_hash, all[0].hash, all[3].hash), ([0; 32], first_hash, last_hash));
        assert!(all.windows(2).all(|pair| pair[1].prev_hash == pair[0].hash));
        assert!(all.is_sorted_by_key(|event| event.timestamp));
        assert_eq!(events.head().await.unwrap().as_ref(), all.last());
        assert_eq!(events.read(2).await.unwrap().as_ref(), Some(&all[2]));
        assert_eq!(events.read(4).await.unwrap(), None);
        assert_eq!(events.read(u64::MAX).await.unwrap(), None);
    });
}

#[test]
fn a_range_has_what_there_is_of_it() {
    on_tokio(async {
        let run = run_with(&["a", "b", "c", "d"]).await;
        let range = async |start, end| sequences(&run.events().read_range(start, end).await.unwrap());
        assert_eq!(range(1, 3).await, [1, 2]);
        assert_eq!(range(2, 99).await, [2, 3]);
        assert!(range(2, 2).await.is_empty());
        assert!(range(3, 1).await.is_empty());
        assert!(range(4, u64::MAX).await.is_empty());
        assert!(range(u64::MAX, u64::MAX).await.is_empty());
    });
}

#[test]
fn an_append_can_insist_on_the_length_of_the_log() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let events = run.events();
        assert_eq!(events.append_expected(0, "a", 1).await.unwrap().0, 0);
        let late = events.append_expected(0, "a", 1).await;
        assert!(matches!(late, Err(Error::VersionMismatch { expected: 0, actual: 1 })), "{late:?}");
        let early = database.events().append_expected(run.id(), 2, "a", 1).await;
        assert!(matches!(early, Err(Error::VersionMismatch { expected: 2, actual: 1 })), "{early:?}");
        let racing = (0..20).map(|number| tokio::spawn(events.append_expected(1, "race", number)));
        let results = futures::future::join_all(racing).await;
        assert_eq!(results.iter().filter(|result| result.as_ref().unwrap().is_ok()).count(), 1);
        assert_eq!(events.len().await.unwrap(), 2);
    });
}

#[test]
fn events_are_found_by_exactly_their_type() {
    on_tokio(async {
        let types = ["a", "ab", "a", "a__b", "a\u{0}", "b", "a\u{0}b", "A"];
        let run = run_with(&types).await;
        for wanted in types {
            let found = run.events().read_by_type(wanted).await.unwrap();
            let expected = (0_u64..).zip(types).filter(|(_, kind)| *kind == wanted).map(|(sequence, _)| sequence);
            assert_eq!(sequences(&found), expected.collect::<Vec<_>>(), "{wanted:?}");
            assert!(found.iter().all(|event| event.event_type == wanted));
        }
        assert!(run.events().read_by_type("a_").await.unwrap().is_empty());
        let sorted = ["A", "a", "a\u{0}", "a\u{0}b", "a__b", "ab", "b"];
        assert_eq!(run.events().event_types().await.unwrap(), sorted);
    });
}

#[test]
fn events_are_found_by_their_time_from_start_up_to_but_not_including_end() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let events = run.events();
        while events.len().await.unwrap() < 50
            || events.read(0).await.unwrap().unwrap().timestamp == events.head().await.unwrap().unwrap().timestamp
        {
            events.append("tick", 1).await.unwrap();
        }
        let all = events.read_range(0, u64::MAX).await.unwrap();
        let (first, last) = (all[0].timestamp, all[all.len() - 1].timestamp);
        let middle = all[all.len() / 2].timestamp;
        for range in [first..last, first..last + 1, middle..middle, middle..middle + 1, first..middle, middle..i64::MAX]
        {
            let expected: Vec<_> = all.iter().filter(|event| range.contains(&event.timestamp)).cloned().collect();
            assert_eq!(events.read_by_time(range).await.unwrap(), expected);
        }
        assert_eq!(events.read_by_time(i64::MIN..i64::MAX).await.unwrap(), all);
        let (start, end) = (last, first - 1);
        assert!(events.read_by_time(start..end).await.unwrap().is_empty());
    });
}

#[test]
fn a_stream_gives_the_log_as_it_was_when_it_began() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        run.events().append_many((0..700).map(|number| ("step", number))).await.unwrap();
        let mut stream = run.events().stream(100);
        assert_eq!(stream.next().await.unwrap().unwrap().sequence, 100);
        run.events().append_many((0..300).map(|number| ("late", number))).await.unwrap();
        let rest: Vec<Event> = stream.map(Result::unwrap).collect().await;
        assert!(sequences(&rest).into_iter().eq(101..700));
        assert_eq!(run.events().stream(0).count().await, 1000);
        assert_eq!(run.events().stream(1000).count().await, 0);
        assert_eq!(run.events().stream(u64::MAX).count().await, 0);
        assert_eq!(run.events().stream(744).count().await, 256, "exactly one page");
    });
}

/// The hash of an event with a text as its payload, by the documented encoding and a standard library alone.
fn hash_by_hand(event: &Event) -> [u8; 32] {
    let text = event.payload.as_str().unwrap();
    let mut bytes = event.prev_hash.to_vec();
    bytes.extend(event.sequence.to_le_bytes());
    bytes.extend(event.timestamp.to_le_bytes());
    bytes.extend((event.event_type.len() as u64).to_le_bytes());
    bytes.extend(event.event_type.as_bytes());
    bytes.push(0x06);
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
    Sha256::digest(bytes).into()
}

#[test]
fn anyone_can_compute_the_chain_again_and_it_survives_reopening() {
    on_tokio(async {
        let directory = directory();
        let run = RunId::new();
        let database = open(directory.path(), BUFFERED, 2).await;
        let texts = ["", "one", "zwei", "três", "\u{0}", "\u{1f600}"];
        database.events().append_many(run, texts.map(|text| ("text", text))).await.unwrap();
        for round in 0..2 {
            let events = database.events().read_range(run, 0, u64::MAX).await.unwrap();
            let mut previous = [0; 32];
            for event in &events {
                assert_eq!(event.prev_hash, previous);
                assert_eq!(event.compute_hash(), event.hash);
                assert_eq!(hash_by_hand(event), event.hash, "round={round}");
                previous = event.hash;
            }
            let mut forged = events[2].clone();
            forged.payload = "drei".into();
            assert_ne!(forged.compute_hash(), forged.hash);
        }
        database.close().await.unwrap();
        let database = open(directory.path(), BUFFERED, 1).await;
        let chain = database.events().verify_chain(run).await.unwrap();
        assert_eq!(chain, ChainVerification { is_valid: true, length: 6, first_invalid: None, error: None });
        let before = database.events().head(run).await.unwrap().unwrap();
        let (sequence, hash) = database.events().append(run, "text", "after").await.unwrap();
        let after = database.events().read(run, sequence).await.unwrap().unwrap();
        assert_eq!((after.sequence, after.prev_hash, after.hash), (6, before.hash, hash));
        assert!(after.timestamp >= before.timestamp);
        assert_eq!(hash_by_hand(&after), hash);
    });
}

#[test]
fn an_event_survives_serde() {
    on_tokio(async {
        let run = run_with(&["a"]).await;
        let event = run.events().head().await.unwrap().unwrap();
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    });
}
