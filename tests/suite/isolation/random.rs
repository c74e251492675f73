//! Random histories: serial ones are accepted, and changed in one place they are mostly rejected.

use super::serial::{Load, Random, lists, timestamps};
use crate::support::isolation::history::{Operation, Status, Transaction};
use crate::support::isolation::{black_box, white_box};

const SMALL: Load = Load { transactions: 150, processes: 8, keys: 6, is_snapshot: false };
const LARGE: Load = Load { transactions: 20_000, processes: 16, keys: 12, is_snapshot: false };
const SEEDS: u64 = 60;

/// Of how many changed histories so many must be rejected.
fn assert_most(rejected: u64, changed: u64, per_cent: u64) {
    assert!(changed > SEEDS / 2 && rejected * 100 >= changed * per_cent, "rejected={rejected} changed={changed}");
}

#[test]
fn serial_lists_are_accepted() {
    for seed in 0..SEEDS {
        let history = lists(SMALL, &mut Random::new(seed));
        let statistics = black_box::check(&history).unwrap_or_else(|anomalies| panic!("{anomalies:#?} seed={seed}"));
        assert!(statistics.observations > 50 && statistics.versions > 50, "{statistics:?}");
    }
}

#[test]
fn many_serial_lists_are_accepted_soon() {
    let history = lists(LARGE, &mut Random::new(1));
    let statistics = black_box::check(&history).unwrap_or_else(|anomalies| panic!("{:#?}", anomalies[0]));
    assert!(statistics.transactions > 15_000 && statistics.real_time < 20_000 * 16, "{statistics:?}");
}

#[test]
fn snapshot_isolation_is_not_enough() {
    let mut found = std::collections::BTreeSet::new();
    for (seed, load) in (0..SEEDS).map(|seed| (seed, SMALL)).chain([(1, LARGE)]) {
        let history = lists(Load { is_snapshot: true, ..load }, &mut Random::new(seed));
        found.extend(black_box::check(&history).err().into_iter().flatten().map(|anomaly| anomaly.class));
    }
    let graver = found.iter().filter(|class| **class < black_box::Class::G2Item);
    assert_eq!(graver.count(), 0, "a snapshot allows no more: {found:?}");
    assert!(found.contains(&black_box::Class::G2Item), "{found:?}");
}

/// Changes one thing; `None` if there is nothing to change.
type Change<T> = fn(&mut Vec<T>, &mut Random) -> Option<()>;

fn try_changes<T>(
    make: impl Fn(&mut Random) -> Vec<T>,
    change: Change<T>,
    is_rejected: impl Fn(&[T]) -> bool,
) -> (u64, u64) {
    let (mut rejected, mut changed) = (0, 0);
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut history = make(&mut random);
        if change(&mut history, &mut random).is_some() {
            changed += 1;
            rejected += u64::from(is_rejected(&history));
        }
    }
    (rejected, changed)
}

/// One of the things that are as wanted.
fn pick<T>(things: Vec<T>, random: &mut Random) -> Option<T> {
    let at = random.below(things.len().max(1));
    things.into_iter().nth(at)
}

fn long_lists(history: &mut [Transaction], length: usize) -> Vec<&mut Vec<i64>> {
    let counted = history.iter_mut().filter(|transaction| transaction.status == Status::Ok);
    let values = counted.flat_map(|transaction| &mut transaction.operations).filter_map(|operation| match operation {
        Operation::Read { values: Some(values), .. } if values.len() >= length => Some(values),
        _ => None,
    });
    values.collect()
}

#[test]
fn changed_lists_are_rejected() {
    let changes: [(u64, Change<Transaction>); 5] = [
        // Two values of a list are swapped.
        (95, |history, random| pick(long_lists(history, 2), random).map(|list| list.swap(0, 1))),
        // A read is stale.
        (70, |history, random| {
            let list = pick(long_lists(history, 3), random)?;
            list.truncate(list.len() - 2);
            Some(())
        }),
        // A read misses a value in the middle.
        (90, |history, random| {
            let list = pick(long_lists(history, 3), random)?;
            list.remove(1);
            Some(())
        }),
        // An append is lost: nobody sees it any more.
        (90, |history, random| {
            let values: Vec<i64> = long_lists(history, 1).iter().filter_map(|list| list.first().copied()).collect();
            let lost = pick(values, random)?;
            for list in long_lists(history, 1) {
                list.retain(|value| *value != lost);
            }
            Some(())
        }),
        // What was told to have failed is there.
        (95, |history, random| {
            let lost = *pick(long_lists(history, 1), random)?.last()?;
            let appended =
                |operation: &Operation| matches!(operation, Operation::Append { value, .. } if *value == lost);
            let writer = history.iter_mut().find(|transaction| transaction.operations.iter().any(appended))?;
            writer.status = Status::Fail;
            Some(())
        }),
    ];
    for (per_cent, change) in changes {
        let make = |random: &mut Random| lists(SMALL, random);
        let (rejected, tried) = try_changes(make, change, |history| black_box::check(history).is_err());
        assert_most(rejected, tried, per_cent);
    }
}

#[test]
fn serial_timestamps_are_accepted() {
    for seed in 0..SEEDS {
        let history = timestamps(SMALL, &mut Random::new(seed));
        let statistics = white_box::check(&history).unwrap_or_else(|faults| panic!("{faults:#?} seed={seed}"));
        assert!(statistics.reads > 100 && statistics.range_keys > 20, "{statistics:?}");
    }
    let load = Load { transactions: 10_000, keys: 200, ..LARGE };
    let history = timestamps(load, &mut Random::new(1));
    let statistics = white_box::check(&history).unwrap_or_else(|faults| panic!("{:#?}", faults[0]));
    assert!(statistics.found_out > 50 && statistics.reads > 10_000, "{statistics:?}");
}

#[test]
fn changed_timestamps_are_rejected() {
    type Timed = white_box::Transaction<String>;
    let changes: [(u64, Change<Timed>); 5] = [
        // The commits of two transactions are swapped.
        (100, |history, random| {
            let is_writer = |at: &usize| matches!(history[*at].outcome, white_box::Outcome::Committed(_));
            let at = pick((0..history.len() - 1).filter(|at| is_writer(at) && is_writer(&(at + 1))).collect(), random)?;
            let earlier = history[at].outcome;
            history[at].outcome = std::mem::replace(&mut history[at + 1].outcome, earlier);
            Some(())
        }),
        // A read is stale: it finds nothing, which a deletion of unknown outcome may excuse.
        (80, |history, random| {
            let decided = history.iter_mut().filter(|transaction| transaction.outcome != white_box::Outcome::Unknown);
            let reads = decided.flat_map(|transaction| &mut transaction.reads).filter(|read| read.seen.is_some());
            pick(reads.collect(), random).map(|read| read.seen = None)
        }),
        // A key is missing in a range.
        (80, |history, random| {
            let decided = history.iter_mut().filter(|transaction| transaction.outcome != white_box::Outcome::Unknown);
            let ranges =
                decided.flat_map(|transaction| &mut transaction.ranges).filter(|range| !range.found.is_empty());
            pick(ranges.collect(), random).map(|range| drop(range.found.remove(0)))
        }),
        // A write is lost.
        (60, |history, random| {
            let decided = history.iter_mut().filter(|transaction| transaction.outcome != white_box::Outcome::Unknown);
            let writers = decided.filter(|transaction| transaction.writes.iter().any(|write| write.is_present));
            pick(writers.collect(), random).map(|writer| writer.writes.retain(|write| !write.is_present))
        }),
        // A snapshot is old.
        (90, |history, random| {
            let decided = history.iter_mut().filter(|transaction| transaction.outcome != white_box::Outcome::Unknown);
            pick(decided.skip(50).collect(), random).map(|reader| reader.snapshot -= 400)
        }),
    ];
    for (per_cent, change) in changes {
        let make = |random: &mut Random| timestamps(SMALL, random);
        let (rejected, tried) = try_changes(make, change, |history| white_box::check(history).is_err());
        assert_most(rejected, tried, per_cent);
    }
}
