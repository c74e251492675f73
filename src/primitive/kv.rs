//! Key-value pairs.
//!
//! - A pair that has expired is absent for every command, from exactly the version at which it expires.
//! - A delete is a revision like any other: it has a version, and history shows it. Where there is nothing, there is
//!   nothing to delete and nothing is written.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::command::{KvCommand, KvScan};
use super::output::Output;
use super::{index, text_of, writable};
use crate::base::error::{Error, Result};
use crate::base::key::{Name, Space, prefix_end};
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::value::Value;
use crate::base::version::{Version, Versioned};
use crate::commit::access::{Access, Scan};

pub(super) fn execute(access: &mut Access<'_>, run: RunId, command: KvCommand) -> Result<Output> {
    match command {
        KvCommand::Get { key } => Ok(Output::Value(get(access, run, &key))),
        KvCommand::GetVersioned { key } => {
            let found = access.get_versioned(run, Space::Kv, &key);
            let versioned = found.map(|(stored, version)| Box::new(Versioned { value: value_of(stored), version }));
            Ok(Output::Versioned(versioned))
        }
        KvCommand::GetMany { keys } => Ok(Output::Values(keys.iter().map(|key| get(access, run, key)).collect())),
        KvCommand::Exists { key } => Ok(Output::Flag(exists(access, run, &key))),
        KvCommand::History { key } => Ok(Output::History(history(access, run, &key))),
        KvCommand::Put { key, value, ttl } => {
            writable(access, run)?;
            let expires = ttl.map(|ttl| access.now().after(ttl));
            put(access, run, &key, value, expires)?;
            Ok(Output::Unit)
        }
        KvCommand::PutMany { pairs } => {
            writable(access, run)?;
            for (key, value) in pairs {
                put(access, run, &key, value, None)?;
            }
            Ok(Output::Unit)
        }
        KvCommand::Delete { key } => Ok(Output::Flag(delete_many(access, run, &[key])? == 1)),
        KvCommand::DeleteMany { keys } => Ok(Output::Count(delete_many(access, run, &keys)?)),
        KvCommand::CompareAndPut { key, expected, value } => compare_and_put(access, run, &key, expected, value),
        KvCommand::List { prefix } => {
            let mut keys = Vec::new();
            access.scan(run, Space::Kv, &prefixed(prefix.as_deref()), |name, _| {
                keys.push(text_of(name));
                true
            });
            Ok(Output::Texts(keys))
        }
        KvCommand::ListWithValues { prefix } => Ok(pairs(access, run, &prefixed(prefix.as_deref()))),
        KvCommand::Count { prefix } => {
            let mut count = 0;
            access.scan(run, Space::Kv, &prefixed(prefix.as_deref()), |_, _| {
                count += 1;
                true
            });
            Ok(Output::Count(count))
        }
        KvCommand::Scan(scan) => Ok(pairs(access, run, &names_of(*scan))),
    }
}

fn get(access: &mut Access<'_>, run: RunId, key: &Name) -> Option<Value> {
    access.get(run, Space::Kv, key).map(value_of)
}

fn exists(access: &mut Access<'_>, run: RunId, key: &Name) -> bool {
    access.get(run, Space::Kv, key).is_some()
}

fn history(access: &mut Access<'_>, run: RunId, key: &Name) -> Vec<Versioned<Option<Value>>> {
    let revisions = access.revisions(run, Space::Kv, key).into_iter();
    revisions.map(|(version, stored)| Versioned { value: stored.map(value_of), version }).collect()
}

fn put(access: &mut Access<'_>, run: RunId, key: &Name, value: Value, expires: Option<Version>) -> Result<()> {
    index::put(access, run, Space::Kv, key.clone(), Stored::Value(value.into()), expires)
}

/// Deletes what there is of these keys and says how many that were.
fn delete_many(access: &mut Access<'_>, run: RunId, keys: &[Name]) -> Result<u64> {
    writable(access, run)?;
    let distinct: BTreeSet<&Name> = keys.iter().collect();
    let mut count = 0;
    for key in distinct {
        if access.get(run, Space::Kv, key).is_some() {
            access.delete(run, Space::Kv, key.clone())?;
            count += 1;
        }
    }
    Ok(count)
}

fn compare_and_put(
    access: &mut Access<'_>,
    run: RunId,
    key: &Name,
    expected: Option<Version>,
    value: Value,
) -> Result<Output> {
    writable(access, run)?;
    let actual = access.get_versioned(run, Space::Kv, key).map(|(_, version)| version);
    if actual != expected {
        let number = |version: Option<Version>| version.map_or(0, Version::get);
        return Err(Error::VersionMismatch { expected: number(expected), actual: number(actual) });
    }
    put(access, run, key, value, None)?;
    Ok(Output::Unit)
}

fn pairs(access: &mut Access<'_>, run: RunId, scan: &Scan) -> Output {
    let mut pairs = Vec::new();
    access.scan(run, Space::Kv, scan, |name, stored| {
        pairs.push((text_of(name), value_of(stored.clone())));
        true
    });
    Output::Pairs(pairs)
}

fn prefixed(prefix: Option<&str>) -> Scan {
    prefix.map_or_else(Scan::all, |prefix| Scan::prefix(prefix.as_bytes()))
}

fn value_of(stored: Stored) -> Value {
    match stored {
        Stored::Value(value) => value.into(),
        other => unreachable!("a key holds a value, not {other:?}"),
    }
}

/// The keys in [start, end) that have the prefix and lie behind `after`, where an earlier scan ended, in the direction of
/// travel.
fn names_of(scan: KvScan) -> Scan {
    let KvScan { prefix, start, end, after, reverse, limit } = scan;
    let name = |text: &String| Name::from_slice(text.as_bytes());
    let (above, below) = if reverse { (None, after) } else { (after, None) };
    // Nothing is below every text.
    let from = prefix.as_ref().max(start.as_ref());
    let low = match &above {
        Some(above) if Some(above) >= from => Bound::Excluded(name(above)),
        _ => from.map(name).map_or(Bound::Unbounded, Bound::Included),
    };
    let behind_prefix = prefix.as_ref().and_then(|prefix| prefix_end(prefix.as_bytes()));
    let ends = [behind_prefix, end.as_ref().map(name), below.as_ref().map(name)];
    let high = ends.into_iter().flatten().min().map_or(Bound::Unbounded, Bound::Excluded);
    Scan { range: (low, high), reverse, limit }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::harness::{Harness, assert_collide};
    use super::*;

    fn put(key: &str, value: i64) -> KvCommand {
        KvCommand::Put { key: key.into(), value: value.into(), ttl: None }
    }

    fn put_for(key: &str, nanoseconds: u64) -> KvCommand {
        KvCommand::Put { key: key.into(), value: 1.into(), ttl: Some(Duration::from_nanos(nanoseconds)) }
    }

    fn get(key: &str) -> KvCommand {
        KvCommand::Get { key: key.into() }
    }

    fn with(keys: &[&str]) -> Harness {
        let mut harness = Harness::new();
        for key in keys {
            harness.run(put(key, 1)).unwrap();
        }
        harness
    }

    #[test]
    fn a_scan_takes_what_lies_within_all_its_bounds() {
        let mut harness = with(&["a", "b", "b1", "b2", "b3", "c"]);
        let mut scan = |prefix: &str, start: &str, end: &str, after: &str, reverse: bool, limit: usize| {
            let some = |text: &str| (!text.is_empty()).then(|| text.into());
            let (prefix, start, end, after) = (some(prefix), some(start), some(end), some(after));
            let scan = KvScan { prefix, start, end, after, reverse, limit };
            harness.run(KvCommand::Scan(Box::new(scan))).unwrap().ids().join(" ")
        };
        assert_eq!(scan("", "", "", "", false, 99), "a b b1 b2 b3 c");
        assert_eq!(scan("b", "", "", "", true, 99), "b3 b2 b1 b");
        assert_eq!(scan("b", "b1", "b3", "", false, 99), "b1 b2");
        assert_eq!(scan("b", "a", "z", "", false, 2), "b b1");
        assert_eq!(scan("", "b1", "", "b1", false, 99), "b2 b3 c");
        assert_eq!(scan("", "b2", "", "a", false, 99), "b2 b3 c");
        assert_eq!(scan("", "b1", "", "b3", true, 99), "b2 b1");
        assert_eq!(scan("", "", "b2", "c", true, 1), "b1");
        assert_eq!(scan("b", "c", "a", "", false, 99), "");
        assert_eq!(scan("", "", "", "b", false, 0), "");
    }

    #[test]
    fn a_pair_is_gone_from_exactly_the_version_at_which_it_expires() {
        let mut harness = Harness::new();
        harness.run(put_for("k", 5_000)).unwrap();
        let expires = harness.now + 5_000;
        let looks = |harness: &mut Harness, at: u64| {
            harness.now = at - 1_000;
            let list = harness.run(KvCommand::List { prefix: None }).unwrap().ids().len();
            harness.now = at - 1_000;
            (harness.run(KvCommand::Exists { key: "k".into() }).unwrap(), list)
        };
        assert_eq!(looks(&mut harness, expires - 1), (Output::Flag(true), 1));
        assert_eq!(looks(&mut harness, expires), (Output::Flag(false), 0));
        assert_eq!(harness.run(KvCommand::Delete { key: "k".into() }).unwrap(), Output::Flag(false));
        let must_be_absent = KvCommand::CompareAndPut { key: "k".into(), expected: None, value: 2.into() };
        assert_eq!(harness.run(must_be_absent).unwrap(), Output::Unit);
    }

    #[test]
    fn a_pair_that_expires_before_its_commit_still_replaces_what_was_there() {
        let mut harness = with(&["k"]);
        let mut part = harness.begin();
        harness.step(&mut part, put_for("k", 1_500)).unwrap();
        harness.now += 10_000;
        harness.commit(part).unwrap();
        assert_eq!(harness.run(get("k")).unwrap(), Output::Value(None));
        let Output::History(history) = harness.run(KvCommand::History { key: "k".into() }).unwrap() else {
            panic!("there is a history")
        };
        let ends: Vec<_> = history.iter().map(|entry| (entry.value.is_some(), entry.version)).collect();
        let committed = Version::from(harness.now - 2_000);
        assert_eq!(ends, [(true, Version::from(1_001_000)), (false, committed)], "it expired as it was committed");
    }

    #[test]
    fn a_transaction_that_saw_a_pair_does_not_commit_once_it_has_expired() {
        let mut harness = Harness::new();
        harness.run(put_for("k", 9_000)).unwrap();
        let mut part = harness.begin();
        harness.step(&mut part, get("k")).unwrap();
        harness.step(&mut part, put("seen", 1)).unwrap();
        harness.now += 9_000;
        assert!(harness.commit(part).is_err());
    }

    #[test]
    fn compare_and_put_goes_by_the_version_of_the_pair() {
        let mut harness = with(&["k"]);
        let version = harness.version();
        let swap = |expected| KvCommand::CompareAndPut { key: "k".into(), expected, value: 2.into() };
        let mismatch = |result: Result<Output>| match result {
            Err(Error::VersionMismatch { expected, actual }) => (expected, actual),
            other => panic!("no mismatch: {other:?}"),
        };
        assert_eq!(mismatch(harness.run(swap(None))), (0, version.get()));
        assert_eq!(mismatch(harness.run(swap(Some(7.into())))), (7, version.get()));
        assert_eq!(harness.run(swap(Some(version))).unwrap(), Output::Unit);
        harness.run(KvCommand::Delete { key: "k".into() }).unwrap();
        assert_eq!(mismatch(harness.run(swap(Some(version)))), (version.get(), 0));
    }

    #[test]
    fn deletes_count_distinct_keys_that_were_there_and_absent_ones_write_nothing() {
        let mut harness = with(&["a", "b", "c"]);
        let keys = ["a", "x", "a", "c"].map(Name::from).to_vec();
        assert_eq!(harness.run(KvCommand::DeleteMany { keys }).unwrap(), Output::Count(2));
        let mut part = harness.begin();
        assert_eq!(harness.step(&mut part, KvCommand::Delete { key: "a".into() }).unwrap(), Output::Flag(false));
        assert!(part.writes().is_empty());
    }

    #[test]
    fn many_are_put_and_got_in_the_order_asked_for_and_the_last_of_one_key_counts() {
        let mut harness = Harness::new();
        let pairs = [("a", 1), ("b", 2), ("a", 3)].map(|(key, value)| (Name::from(key), Value::from(value)));
        harness.run(KvCommand::PutMany { pairs: pairs.to_vec() }).unwrap();
        let keys = ["b", "x", "a", "b"].map(Name::from).to_vec();
        let two = Some(Value::from(2));
        let expected = vec![two.clone(), None, Some(Value::from(3)), two];
        assert_eq!(harness.run(KvCommand::GetMany { keys }).unwrap(), Output::Values(expected));
    }

    #[test]
    fn history_has_every_put_delete_and_expiry() {
        let mut harness = with(&["k"]);
        harness.run(KvCommand::Delete { key: "k".into() }).unwrap();
        harness.run(put_for("k", 500)).unwrap();
        harness.run(put("k", 4)).unwrap();
        let Output::History(history) = harness.run(KvCommand::History { key: "k".into() }).unwrap() else {
            panic!("there is a history")
        };
        let values: Vec<_> = history.iter().map(|entry| entry.value.as_ref().and_then(Value::as_i64)).collect();
        assert_eq!(values, [Some(1), None, Some(1), None, Some(4)]);
        assert!(history.is_sorted_by(|a, b| a.version < b.version));
    }

    #[test]
    fn blind_writes_never_conflict_and_what_was_read_does() {
        let mut harness = with(&["k"]);
        assert_collide(&mut harness, put("k", 1), put("k", 2), false);
        assert_eq!(harness.run(get("k")).unwrap(), Output::Value(Some(2.into())), "the later commit counts");
        assert_collide(&mut harness, put("k", 1), get("k"), true);
        assert_collide(&mut harness, put("k", 1), get("absent"), false);
        assert_collide(&mut harness, put("new", 1), get("new"), true);
        assert_collide(&mut harness, put("p2", 1), KvCommand::Count { prefix: Some("p".into()) }, true);
        assert_collide(&mut harness, put("q", 1), KvCommand::Count { prefix: Some("p".into()) }, false);
    }
}
