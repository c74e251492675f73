//! Hand-made histories with timestamps, each wrong in one way, and twins that differ in as little as possible.

use std::ops::Bound;

use crate::support::isolation::white_box::{
    Fault, Outcome, RangeRead, Read, Seen, Statistics, Transaction, Write, check,
};

type Key = &'static str;

/// A transaction that runs all the time; `commit` 0 says that it only reads.
fn run(id: u64, snapshot: u64, commit: u64) -> Transaction<Key> {
    let outcome = if commit == 0 { Outcome::ReadOnly } else { Outcome::Committed(commit) };
    let (reads, ranges, writes) = (Vec::new(), Vec::new(), Vec::new());
    Transaction { id, snapshot, outcome, reads, ranges, writes, invoked: 0, completed: 1000 }
}

fn unknown(id: u64, snapshot: u64) -> Transaction<Key> {
    Transaction { outcome: Outcome::Unknown, ..run(id, snapshot, 0) }
}

trait Build: Sized {
    fn read(self, key: Key, version: u64) -> Self;
    fn read_of(self, key: Key, version: u64, writer: u64) -> Self;
    fn miss(self, key: Key) -> Self;
    fn range(self, low: Key, high: Key, found: &[(Key, u64)]) -> Self;
    fn write(self, key: Key) -> Self;
    fn delete(self, key: Key) -> Self;
    fn time(self, invoked: u64, completed: u64) -> Self;
}

impl Build for Transaction<Key> {
    fn read(mut self, key: Key, version: u64) -> Self {
        self.reads.push(Read { key, seen: Some(Seen { version, writer: None }) });
        self
    }

    fn read_of(mut self, key: Key, version: u64, writer: u64) -> Self {
        self.reads.push(Read { key, seen: Some(Seen { version, writer: Some(writer) }) });
        self
    }

    fn miss(mut self, key: Key) -> Self {
        self.reads.push(Read { key, seen: None });
        self
    }

    fn range(mut self, low: Key, high: Key, found: &[(Key, u64)]) -> Self {
        let found = found.iter().map(|(key, version)| (*key, Seen { version: *version, writer: None })).collect();
        self.ranges.push(RangeRead { low: Bound::Included(low), high: Bound::Excluded(high), found });
        self
    }

    fn write(mut self, key: Key) -> Self {
        self.writes.push(Write { key, is_present: true });
        self
    }

    fn delete(mut self, key: Key) -> Self {
        self.writes.push(Write { key, is_present: false });
        self
    }

    fn time(self, invoked: u64, completed: u64) -> Self {
        Self { invoked, completed, ..self }
    }
}

#[track_caller]
fn accept(history: &[Transaction<Key>]) -> Statistics {
    match check(history) {
        Ok(statistics) => statistics,
        Err(violations) => panic!("rejected: {violations:#?}"),
    }
}

#[track_caller]
fn rejects(fault: Fault, history: &[Transaction<Key>]) {
    let violations = check(history).expect_err("the history is rejected");
    let faults: Vec<Fault> = violations.iter().map(|violation| violation.fault).collect();
    assert_eq!(faults, [fault], "{violations:#?}");
}

#[test]
fn a_serial_history_is_accepted_and_counted() {
    let history = [
        run(1, 0, 10).miss("a").write("a").write("b").time(1, 2),
        run(2, 10, 20).read_of("a", 10, 1).write("a").delete("b").time(3, 4),
        run(3, 25, 0).read("a", 20).miss("b").range("a", "z", &[("a", 20)]).time(5, 6),
    ];
    let expected = Statistics { committed: 2, read_only: 1, reads: 4, range_keys: 2, ..Statistics::default() };
    assert_eq!(accept(&history), expected);
    assert_eq!(accept(&[]), Statistics::default());
}

#[test]
fn the_input_is_well_formed() {
    rejects(Fault::Malformed, &[run(1, 0, 10), run(1, 0, 20)]);
    accept(&[run(1, 0, 10), run(2, 0, 20)]);
    rejects(Fault::Malformed, &[run(1, 0, 10).write("a").write("a")]);
    accept(&[run(1, 0, 10).write("a").write("b")]);
    rejects(Fault::Malformed, &[run(1, 0, 0).write("a")]);
    rejects(Fault::Malformed, &[run(1, 0, 10).time(2, 1)]);
    accept(&[unknown(1, 0).time(2, 1)]);
}

#[test]
fn a_timestamp_is_of_one_writer_of_a_key() {
    rejects(Fault::SharedTimestamp, &[run(1, 0, 10).write("a"), run(2, 0, 10).write("a")]);
    accept(&[run(1, 0, 10).write("a"), run(2, 0, 10).write("b")]);
}

#[test]
fn a_snapshot_is_below_the_commit() {
    rejects(Fault::SnapshotNotBelowCommit, &[run(1, 10, 10).write("a")]);
    accept(&[run(1, 9, 10).write("a")]);
}

#[test]
fn a_version_that_was_seen_was_written() {
    rejects(Fault::UnwrittenVersion, &[run(1, 0, 10).write("a"), run(2, 20, 0).read("a", 11)]);
    rejects(Fault::UnwrittenVersion, &[run(1, 0, 10).delete("a"), run(2, 20, 0).read("a", 10)]);
    accept(&[run(1, 0, 10).write("a"), run(2, 20, 0).read("a", 10)]);
}

#[test]
fn a_version_has_the_content_of_its_writer() {
    let writers = [run(1, 0, 10).write("a"), run(2, 10, 20).write("a")];
    rejects(Fault::WrongWriter, &[&writers[..], &[run(3, 30, 0).read_of("a", 20, 1)]].concat());
    accept(&[&writers[..], &[run(3, 30, 0).read_of("a", 20, 2)]].concat());
}

#[test]
fn a_read_is_of_the_snapshot() {
    let writers = [run(1, 0, 10).write("a"), run(2, 0, 20).write("a"), run(4, 20, 30).delete("a")];
    let with = |reader: Transaction<Key>| [&writers[..], &[reader]].concat();
    rejects(Fault::WrongRead, &with(run(3, 25, 0).read("a", 10)));
    rejects(Fault::WrongRead, &with(run(3, 19, 0).read("a", 20)));
    rejects(Fault::WrongRead, &with(run(3, 25, 0).miss("a")));
    rejects(Fault::WrongRead, &with(run(3, 30, 0).read("a", 20)));
    accept(&with(run(3, 20, 0).read("a", 20)));
    accept(&with(run(3, 19, 0).read("a", 10)));
    accept(&with(run(3, 9, 0).miss("a")));
    accept(&with(run(3, 30, 0).miss("a")));
}

#[test]
fn what_was_read_has_not_changed_at_the_commit() {
    let writers = [run(1, 0, 10).write("a"), run(2, 10, 20).write("a")];
    let with = |reader: Transaction<Key>| [&writers[..], &[reader]].concat();
    rejects(Fault::ChangedRead, &with(run(3, 15, 25).read("a", 10).write("b")));
    accept(&with(run(3, 15, 18).read("a", 10).write("b")));
    accept(&with(run(3, 15, 20).read("a", 10).write("b")));
    accept(&with(run(3, 15, 0).read("a", 10)));
    rejects(Fault::WrongRead, &with(run(3, 15, 25).read("a", 20).write("b")));
    rejects(Fault::ChangedRead, &with(run(3, 5, 12).miss("a").write("a")));
    accept(&with(run(3, 5, 9).miss("a").write("a")));
}

#[test]
fn a_key_that_came_and_went_has_not_changed() {
    let writers = [run(1, 0, 10).write("a"), run(2, 10, 20).delete("a")];
    let with = |reader: Transaction<Key>| [&writers[..], &[reader]].concat();
    accept(&with(run(3, 5, 25).miss("a").write("b")));
    rejects(Fault::ChangedRead, &with(run(3, 5, 15).miss("a").write("b")));
}

#[test]
fn a_range_is_of_the_snapshot() {
    let writers = [run(1, 0, 10).write("a").write("b"), run(2, 10, 20).write("c").delete("a")];
    let with =
        |found: &[(Key, u64)], snapshot: u64| [&writers[..], &[run(3, snapshot, 0).range("a", "d", found)]].concat();
    rejects(Fault::WrongRange, &with(&[("a", 10), ("b", 10), ("c", 20)], 15));
    rejects(Fault::WrongRange, &with(&[("a", 10)], 15));
    rejects(Fault::WrongRange, &with(&[("a", 10), ("b", 10), ("b", 10)], 15));
    rejects(Fault::UnwrittenVersion, &with(&[("a", 10), ("b", 9)], 15));
    accept(&with(&[("a", 10), ("b", 10)], 15));
    rejects(Fault::WrongRange, &with(&[("a", 10), ("b", 10), ("c", 20)], 20));
    accept(&with(&[("b", 10), ("c", 20)], 20));
    let reader = |high: Key| [&writers[..], &[run(3, 20, 0).range("b", high, &[("b", 10), ("c", 20)])]].concat();
    rejects(Fault::WrongRange, &reader("c"));
    accept(&reader("d"));
    accept(&[run(1, 0, 10).range("z", "a", &[]).range("a", "a", &[]).write("b")]);
}

#[test]
fn no_phantom_is_in_a_range_at_the_commit() {
    let writers = [run(1, 0, 10).write("a"), run(2, 10, 20).write("b")];
    let with = |high: Key| [&writers[..], &[run(3, 15, 25).range("a", high, &[("a", 10)]).write("z")]].concat();
    rejects(Fault::ChangedRange, &with("c"));
    accept(&with("b"));
}

#[test]
fn commits_at_one_time_have_an_order() {
    let skew = |commit: u64| [run(1, 0, 10).miss("a").write("b"), run(2, 0, commit).miss("b").write("a")];
    rejects(Fault::TiedCommits, &skew(10));
    rejects(Fault::ChangedRead, &skew(11));
    let ranges =
        |high: Key| [run(1, 0, 10).range("a", "b", &[]).write("c"), run(2, 0, 10).range("b", high, &[]).write("a")];
    rejects(Fault::TiedCommits, &ranges("d"));
    accept(&ranges("c"));
    accept(&[run(1, 0, 10).miss("a").write("b"), run(2, 0, 10).miss("b").delete("a")]);
    let circle = |last: Key| {
        let second = run(2, 0, 10).miss("b").write("c");
        [run(1, 0, 10).miss("a").write("b"), second, run(3, 0, 10).miss("c").write(last)]
    };
    rejects(Fault::TiedCommits, &circle("a"));
    accept(&circle("d"));
}

#[test]
fn a_completed_commit_is_in_every_later_snapshot() {
    let history = |invoked: u64| [run(1, 0, 10).write("a").time(1, 5), run(2, 9, 20).write("b").time(invoked, 9)];
    rejects(Fault::MissedCommit, &history(6));
    accept(&history(5));
    let reader = |snapshot: u64| [run(1, 0, 10).write("a").time(1, 5), run(2, snapshot, 0).miss("b").time(6, 9)];
    rejects(Fault::MissedCommit, &reader(9));
    accept(&reader(10));
}

#[test]
fn a_version_that_was_seen_is_in_every_later_snapshot() {
    let history = |invoked: u64| {
        [
            run(1, 0, 10).write("a").time(1, 100),
            run(2, 15, 0).read("a", 10).time(2, 5),
            run(3, 9, 0).miss("a").time(invoked, 9),
        ]
    };
    rejects(Fault::MissedVersion, &history(6));
    accept(&history(5));
}

#[test]
fn a_deletion_that_was_seen_is_in_every_later_snapshot() {
    let history = |first: &[Transaction<Key>]| {
        let writers = [run(1, 0, 10).write("a").time(1, 100), run(2, 10, 15).delete("a").time(1, 100)];
        [&writers[..], first, &[run(4, 14, 0).read("a", 10).time(6, 9)]].concat()
    };
    rejects(Fault::MissedVersion, &history(&[run(3, 16, 0).miss("a").time(2, 5)]));
    rejects(Fault::MissedVersion, &history(&[run(3, 16, 0).range("a", "b", &[]).time(2, 5)]));
    accept(&history(&[run(3, 16, 0).miss("b").time(2, 5)]));
    accept(&history(&[run(3, 16, 0).miss("a").time(2, 6)]));
    // The deletion of what is not there is no change.
    accept(&[run(1, 0, 10).delete("a"), run(3, 16, 0).miss("a").time(2, 5), run(4, 9, 0).miss("a").time(6, 9)]);
}

#[test]
fn what_is_of_unknown_outcome_counts_if_it_was_seen() {
    let writer = || unknown(1, 5).write("a").write("b");
    let statistics = accept(&[writer(), run(2, 20, 0).read_of("a", 10, 1).read("b", 10)]);
    assert_eq!(statistics.found_out, 1);
    accept(&[writer(), run(2, 20, 0).miss("a").miss("b")]);
    rejects(Fault::WrongRead, &[writer(), run(2, 20, 0).read("a", 10).miss("b")]);
    rejects(Fault::UnwrittenVersion, &[writer(), run(2, 20, 0).read("a", 10), run(3, 20, 0).read("b", 11)]);
    rejects(Fault::UnwrittenVersion, &[writer(), run(2, 20, 0).read("a", 5)]);
    rejects(Fault::UnwrittenVersion, &[writer(), run(2, 20, 0).read_of("a", 10, 7)]);
    rejects(Fault::UnwrittenVersion, &[writer().time(6, 7), run(2, 20, 0).read("a", 10).time(1, 6)]);
    accept(&[writer().time(6, 7), run(2, 20, 0).read("a", 10).time(1, 7)]);
}

#[test]
fn who_of_several_has_written_a_version_must_be_clear() {
    let writers = [unknown(1, 5).write("a"), unknown(2, 5).write("a").write("b")];
    let with = |reader: Transaction<Key>| [&writers[..], &[reader]].concat();
    rejects(Fault::AmbiguousVersion, &with(run(3, 20, 0).read("a", 10)));
    accept(&with(run(3, 20, 0).read_of("a", 10, 1)));
    accept(&with(run(3, 20, 0).read("a", 10).read("b", 10)));
    accept(&with(run(3, 20, 0).read("a", 10).read("b", 9).range("a", "b", &[("a", 10)])));
}

#[test]
fn what_was_found_out_was_right_to_commit() {
    let writers =
        |version: u64| [run(1, 0, 4).write("a"), run(2, 4, 8).write("a"), unknown(3, 5).read("a", version).write("b")];
    rejects(Fault::ChangedRead, &[&writers(4)[..], &[run(4, 20, 0).read("b", 10)]].concat());
    accept(&[&writers(4)[..], &[run(4, 20, 0).read("b", 7)]].concat());
    accept(&[&writers(4)[..], &[run(4, 20, 0).miss("b")]].concat());
    rejects(Fault::WrongRead, &[&writers(8)[..], &[run(4, 20, 0).read("b", 10)]].concat());
}

#[test]
fn one_of_unknown_outcome_tells_of_another() {
    let writers = [unknown(1, 1).write("a").write("c"), unknown(2, 12).read("a", 10).write("b")];
    let with = |reader: Transaction<Key>| [&writers[..], &[reader]].concat();
    let statistics = accept(&with(run(3, 30, 0).read("b", 20).read("c", 10)));
    assert_eq!(statistics.found_out, 2);
    rejects(Fault::WrongRead, &with(run(3, 30, 0).read("b", 20).miss("c")));
}

#[test]
fn a_deletion_of_unknown_outcome_may_be_seen() {
    let history = |snapshot: u64, invoked: u64| {
        [
            run(1, 0, 10).write("a"),
            unknown(2, snapshot).delete("a").time(invoked, invoked),
            run(3, 20, 0).miss("a").range("a", "z", &[]).time(1, 5),
        ]
    };
    assert_eq!(accept(&history(10, 4)).excused, 2);
    let is_rejected = |snapshot: u64, invoked: u64| check(&history(snapshot, invoked)).is_err();
    assert!(is_rejected(20, 4) && is_rejected(10, 5));
    rejects(Fault::WrongRead, &[run(1, 0, 10).write("a"), unknown(2, 10).delete("b"), run(3, 20, 0).miss("a")]);
}

#[test]
fn a_violation_tells_who_saw_what() {
    let history = [run(1, 0, 10).write("a"), run(2, 20, 0).miss("a")];
    let violations = check(&history).expect_err("the read is wrong");
    let expected = "WrongRead: T2 sees nothing instead of version 10: key=\"a\" snapshot=20";
    assert_eq!(violations[0].to_string(), expected);
    assert_eq!(violations[0].transactions, [2]);
}
