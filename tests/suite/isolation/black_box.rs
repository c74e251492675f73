//! Hand-made list-append histories, each wrong in one way, and twins that differ in as little as possible.

use crate::support::isolation::black_box::{Class, Statistics, check};
use crate::support::isolation::history::{Operation, Status, Transaction};

fn append(key: i64, value: i64) -> Operation {
    Operation::Append { key, value }
}

fn read(key: i64, values: &[i64]) -> Operation {
    Operation::Read { key, values: Some(values.to_vec()) }
}

fn scan(low: i64, high: i64, keys: &[(i64, &[i64])]) -> Operation {
    let keys = keys.iter().map(|(key, values)| (*key, values.to_vec())).collect();
    Operation::Scan { low, high, keys: Some(keys) }
}

/// Transactions that all run at the same time.
fn ok(operations: &[Operation]) -> Transaction {
    let operations = operations.to_vec();
    Transaction { process: 0, status: Status::Ok, invoked: 0, completed: 100, operations }
}

fn fail(operations: &[Operation]) -> Transaction {
    Transaction { status: Status::Fail, ..ok(operations) }
}

fn info(operations: &[Operation]) -> Transaction {
    Transaction { status: Status::Info, ..ok(operations) }
}

/// A transaction that runs for a while.
fn timed(invoked: u64, completed: u64, operations: &[Operation]) -> Transaction {
    Transaction { invoked, completed, ..ok(operations) }
}

fn accept(history: &[Transaction]) -> Statistics {
    match check(history) {
        Ok(statistics) => statistics,
        Err(anomalies) => panic!("rejected: {anomalies:#?}"),
    }
}

#[track_caller]
fn classes(history: &[Transaction]) -> Vec<Class> {
    let anomalies = check(history).expect_err("the history is rejected");
    anomalies.iter().map(|anomaly| anomaly.class).collect()
}

#[track_caller]
fn rejects(class: Class, history: &[Transaction]) {
    assert_eq!(classes(history), [class], "{:#?}", check(history));
}

#[test]
fn an_empty_history_is_accepted() {
    assert_eq!(accept(&[]), Statistics::default());
}

#[test]
fn a_serial_history_is_accepted_and_counted() {
    let history = [
        timed(1, 2, &[append(1, 1), append(1, 2), append(2, 3)]),
        timed(3, 4, &[read(1, &[1, 2]), append(1, 4), read(1, &[1, 2, 4])]),
        timed(5, 6, &[read(1, &[1, 2, 4]), read(3, &[]), scan(1, 9, &[(1, &[1, 2, 4]), (2, &[3])])]),
    ];
    let statistics = accept(&history);
    let expected = Statistics { transactions: 3, keys: 3, versions: 4, observations: 4, dependencies: 4, real_time: 2 };
    assert_eq!(statistics, expected);
}

#[test]
fn a_value_is_appended_once() {
    rejects(Class::DuplicateAppend, &[ok(&[append(1, 1)]), ok(&[append(1, 1)])]);
    accept(&[ok(&[append(1, 1)]), ok(&[append(2, 1)])]);
}

#[test]
fn a_value_is_shown_once() {
    rejects(Class::DuplicateElements, &[ok(&[append(1, 1)]), ok(&[read(1, &[1, 1])])]);
    accept(&[ok(&[append(1, 1), append(1, 2)]), ok(&[read(1, &[1, 2])])]);
}

#[test]
fn a_value_that_is_shown_was_appended() {
    rejects(Class::Garbage, &[ok(&[append(1, 1)]), ok(&[read(1, &[1, 7])])]);
    rejects(Class::Garbage, &[ok(&[append(1, 7)]), ok(&[read(2, &[7])])]);
    accept(&[ok(&[append(1, 1)]), ok(&[append(1, 7)]), ok(&[read(1, &[1, 7])])]);
}

#[test]
fn lists_agree_on_an_order() {
    let writers = [ok(&[append(1, 1)]), ok(&[append(1, 2)])];
    let readers = |first: &[i64], second: &[i64]| [ok(&[read(1, first)]), ok(&[read(1, second)])];
    rejects(Class::IncompatibleOrder, &[&writers[..], &readers(&[1, 2], &[2, 1])].concat());
    rejects(Class::IncompatibleOrder, &[&writers[..], &readers(&[1, 2], &[2])].concat());
    accept(&[&writers[..], &readers(&[1, 2], &[1])].concat());
}

#[test]
fn appends_of_a_transaction_keep_their_order_and_have_no_gap() {
    let history = |list: &[i64]| [ok(&[append(1, 1), append(1, 2), append(1, 3)]), ok(&[read(1, list)])];
    rejects(Class::IncompatibleOrder, &history(&[2, 1, 3]));
    rejects(Class::IncompatibleOrder, &history(&[1, 3]));
    rejects(Class::IncompatibleOrder, &history(&[3]));
    accept(&history(&[1, 2, 3]));
}

#[test]
fn a_transaction_sees_its_own_appends() {
    rejects(Class::Internal, &[ok(&[append(1, 1), read(1, &[])])]);
    accept(&[ok(&[append(1, 1), read(1, &[1])])]);
    let others = ok(&[append(1, 9)]);
    rejects(Class::Internal, &[others.clone(), ok(&[append(1, 1), read(1, &[1, 9])])]);
    accept(&[others, ok(&[append(1, 1), read(1, &[9, 1])])]);
}

#[test]
fn reads_within_a_transaction_agree() {
    let writer = ok(&[append(1, 1)]);
    rejects(Class::Internal, &[writer.clone(), ok(&[read(1, &[]), read(1, &[1])])]);
    accept(&[writer.clone(), ok(&[read(1, &[1]), read(1, &[1])])]);
    rejects(Class::Internal, &[writer.clone(), ok(&[read(1, &[1]), append(1, 2), read(1, &[1])])]);
    accept(&[writer, ok(&[read(1, &[1]), append(1, 2), read(1, &[1, 2])])]);
}

#[test]
fn scans_and_reads_within_a_transaction_agree() {
    let writer = ok(&[append(1, 1)]);
    rejects(Class::Internal, &[writer.clone(), ok(&[scan(0, 9, &[]), read(1, &[1])])]);
    accept(&[writer.clone(), ok(&[scan(0, 9, &[]), read(1, &[])])]);
    rejects(Class::Internal, &[writer.clone(), ok(&[read(1, &[1]), scan(0, 9, &[])])]);
    accept(&[writer.clone(), ok(&[read(1, &[1]), scan(2, 9, &[])])]);
    rejects(Class::Internal, &[ok(&[append(1, 1), scan(0, 9, &[])])]);
    accept(&[ok(&[scan(0, 9, &[]), append(1, 1), read(1, &[1])])]);
    rejects(Class::Internal, &[writer.clone(), ok(&[scan(2, 9, &[(1, &[1])])])]);
    rejects(Class::Internal, &[writer.clone(), ok(&[scan(9, 0, &[(1, &[1])])])]);
    accept(&[writer, ok(&[scan(9, 0, &[])])]);
}

#[test]
fn no_transaction_reads_what_it_appends_later() {
    rejects(Class::Internal, &[ok(&[read(1, &[1]), append(1, 1)])]);
    accept(&[ok(&[read(1, &[]), append(1, 1)])]);
}

#[test]
fn g1a_what_failed_is_not_read() {
    rejects(Class::AbortedRead, &[fail(&[append(1, 1)]), ok(&[read(1, &[1])])]);
    accept(&[fail(&[append(1, 1)]), ok(&[read(1, &[])])]);
    accept(&[info(&[append(1, 1)]), ok(&[read(1, &[1])])]);
}

#[test]
fn g1b_no_part_of_a_transaction_is_read() {
    let writer = ok(&[append(1, 1), append(1, 2)]);
    rejects(Class::IntermediateRead, &[writer.clone(), ok(&[read(1, &[1])])]);
    rejects(Class::IntermediateRead, &[writer.clone(), ok(&[read(1, &[1])]), ok(&[read(1, &[1, 2])])]);
    accept(&[writer.clone(), ok(&[read(1, &[1, 2])])]);
    accept(&[writer, ok(&[read(1, &[])])]);
    accept(&[ok(&[append(1, 1), read(1, &[1]), append(1, 2)]), ok(&[read(1, &[1, 2])])]);
}

#[test]
fn nothing_is_appended_behind_what_failed() {
    let history =
        |first: fn(&[Operation]) -> Transaction| [first(&[append(1, 1)]), ok(&[append(1, 2)]), ok(&[read(1, &[1, 2])])];
    rejects(Class::DirtyUpdate, &history(fail));
    accept(&history(ok));
    accept(&history(info));
}

#[test]
fn no_update_is_lost() {
    let update = |seen: &[i64], value: i64| ok(&[read(1, seen), append(1, value)]);
    rejects(Class::LostUpdate, &[update(&[], 1), update(&[], 2)]);
    rejects(Class::LostUpdate, &[update(&[], 1), update(&[], 2), ok(&[read(1, &[1, 2])])]);
    rejects(Class::LostUpdate, &[update(&[], 1), update(&[], 2), ok(&[read(1, &[2])])]);
    accept(&[update(&[], 1), update(&[1], 2), ok(&[read(1, &[1, 2])])]);
    let hidden = ok(&[append(1, 2), read(1, &[2])]);
    rejects(Class::LostUpdate, &[update(&[], 1), hidden]);
}

#[test]
fn g0_writes_are_in_one_order() {
    let history = |second: &[i64]| {
        let writers = [ok(&[append(1, 1), append(2, 1)]), ok(&[append(1, 2), append(2, 2)])];
        [&writers[..], &[ok(&[read(1, &[1, 2])]), ok(&[read(2, second)])]].concat()
    };
    rejects(Class::G0, &history(&[2, 1]));
    accept(&history(&[1, 2]));
}

#[test]
fn g0_appends_of_two_transactions_do_not_mix() {
    let history = |list: &[i64]| [ok(&[append(1, 1), append(1, 2)]), ok(&[append(1, 3)]), ok(&[read(1, list)])];
    rejects(Class::G0, &history(&[1, 3, 2]));
    accept(&history(&[1, 2, 3]));
}

#[test]
fn g1c_information_flows_in_no_circle() {
    let history = |seen: &[i64]| [ok(&[append(1, 1), read(2, &[1])]), ok(&[append(2, 1), read(1, seen)])];
    rejects(Class::G1c, &history(&[1]));
    accept(&history(&[]));
}

#[test]
fn g_single_a_snapshot_is_of_one_moment() {
    let history = |first: &[i64]| [ok(&[append(1, 1), append(2, 1)]), ok(&[read(1, first), read(2, &[1])])];
    rejects(Class::GSingle, &history(&[]));
    accept(&history(&[1]));
}

#[test]
fn g_single_holds_for_ranges_too() {
    let history =
        |found: &[(i64, &[i64])]| [ok(&[append(1, 1), append(2, 1)]), ok(&[scan(1, 1, found), read(2, &[1])])];
    rejects(Class::GSingle, &history(&[]));
    accept(&history(&[(1, &[1])]));
}

#[test]
fn g2_item_no_write_skew() {
    let skew = |first: &[i64]| [ok(&[read(1, first), append(2, 1)]), ok(&[read(2, &[]), append(1, 1)])];
    rejects(Class::G2Item, &skew(&[]));
    accept(&skew(&[1]));
}

#[test]
fn g2_item_a_reader_alone_makes_the_circle() {
    // The first did not see the second; the reader saw the second and not the first.
    let history =
        |seen: &[i64]| [ok(&[read(2, &[]), append(1, 1)]), ok(&[append(2, 1)]), ok(&[read(2, &[1]), read(1, seen)])];
    rejects(Class::G2Item, &history(&[]));
    accept(&history(&[1]));
}

#[test]
fn g2_no_phantoms() {
    let history =
        |found: &[(i64, &[i64])]| [ok(&[scan(1, 9, found), append(20, 1)]), ok(&[scan(20, 29, &[]), append(5, 1)])];
    rejects(Class::G2, &history(&[]));
    accept(&history(&[(5, &[1])]));
    // With a key that was found the dependency is on the item.
    let first = ok(&[append(5, 1), append(20, 1)]);
    let skew = [
        first.clone(),
        ok(&[scan(1, 9, &[(5, &[1])]), append(20, 2)]),
        ok(&[scan(20, 29, &[(20, &[1])]), append(5, 2)]),
    ];
    rejects(Class::G2Item, &skew);
    accept(&[first, skew[1].clone(), ok(&[scan(20, 29, &[(20, &[1, 2])]), append(5, 2)])]);
}

#[test]
fn g0_real_time_an_append_is_behind_those_completed_before() {
    let history = |invoked: u64| {
        [timed(1, 2, &[append(1, 1)]), timed(invoked, 9, &[append(1, 2)]), timed(1, 9, &[read(1, &[2, 1])])]
    };
    rejects(Class::G0RealTime, &history(3));
    accept(&history(2));
}

#[test]
fn g1c_real_time_nothing_is_read_before_it_was_asked_for() {
    let history = |invoked: u64| [timed(1, 2, &[read(1, &[1])]), timed(invoked, 9, &[append(1, 1)])];
    rejects(Class::G1cRealTime, &history(3));
    accept(&history(2));
}

#[test]
fn g_single_real_time_no_read_is_stale() {
    let history = |invoked: u64| [timed(1, 2, &[append(1, 1)]), timed(invoked, 9, &[read(1, &[])])];
    rejects(Class::GSingleRealTime, &history(3));
    accept(&history(2));
}

#[test]
fn g_single_real_time_goes_through_others() {
    let history = |last: &[i64]| {
        [
            timed(1, 2, &[append(1, 1)]),
            timed(3, 4, &[append(2, 1)]),
            timed(5, 6, &[append(3, 1)]),
            timed(7, 8, &[read(1, last)]),
        ]
    };
    rejects(Class::GSingleRealTime, &history(&[]));
    accept(&history(&[1]));
}

#[test]
fn g2_item_real_time_two_stale_reads() {
    let history = |invoked: u64| {
        [timed(1, 9, &[read(1, &[]), append(2, 1)]), timed(1, 3, &[append(1, 1)]), timed(invoked, 9, &[read(2, &[])])]
    };
    rejects(Class::G2ItemRealTime, &history(4));
    accept(&history(3));
}

#[test]
fn g2_real_time_two_stale_scans() {
    let history = |invoked: u64| {
        [
            timed(1, 9, &[scan(1, 1, &[]), append(2, 1)]),
            timed(1, 3, &[append(1, 1)]),
            timed(invoked, 9, &[scan(2, 2, &[])]),
        ]
    };
    rejects(Class::G2RealTime, &history(4));
    accept(&history(3));
}

#[test]
fn an_append_of_unknown_outcome_is_there_or_not_but_whole() {
    let unknown = info(&[append(1, 1), append(2, 1)]);
    accept(&[unknown.clone(), ok(&[read(1, &[]), read(2, &[])])]);
    accept(&[unknown.clone(), ok(&[read(1, &[1]), read(2, &[1])])]);
    rejects(Class::GSingle, &[unknown, ok(&[read(1, &[1]), read(2, &[])])]);
}

#[test]
fn what_is_of_unknown_outcome_may_happen_late_but_not_early() {
    let unknown = Transaction { invoked: 3, completed: 3, ..info(&[append(1, 1)]) };
    accept(&[unknown.clone(), timed(4, 5, &[read(1, &[])]), timed(6, 7, &[read(1, &[1])])]);
    rejects(Class::G1cRealTime, &[unknown, timed(1, 2, &[read(1, &[1])])]);
}

#[test]
fn who_is_seen_by_one_of_unknown_outcome_that_was_seen_counts() {
    let first = info(&[append(1, 1), append(3, 1)]);
    let second = info(&[read(1, &[1]), append(2, 1)]);
    accept(&[first.clone(), second.clone(), ok(&[read(2, &[1]), read(3, &[1])])]);
    accept(&[first.clone(), second.clone(), ok(&[read(2, &[]), read(3, &[])])]);
    rejects(Class::GSingle, &[first, second, ok(&[read(2, &[1]), read(3, &[])])]);
}

#[test]
fn appends_that_nobody_saw_are_behind_the_others() {
    let writers = [timed(1, 2, &[append(1, 1)]), timed(3, 4, &[append(1, 2)])];
    accept(&[&writers[..], &[timed(3, 9, &[read(1, &[1])])]].concat());
    rejects(Class::GSingleRealTime, &[&writers[..], &[timed(5, 9, &[read(1, &[1])])]].concat());
}

#[test]
fn a_lost_append_after_a_recovery_is_noticed() {
    let history =
        |last: &[i64]| [timed(1, 2, &[append(1, 1)]), timed(3, 4, &[append(1, 2)]), timed(9, 10, &[read(1, last)])];
    rejects(Class::GSingleRealTime, &history(&[1]));
    rejects(Class::GSingleRealTime, &history(&[]));
    rejects(Class::G0RealTime, &history(&[2]));
    accept(&history(&[1, 2]));
}

#[test]
fn separate_cycles_are_reported_separately() {
    let stale =
        |key: i64, time: u64| [timed(time, time + 1, &[append(key, 1)]), timed(time + 2, time + 3, &[read(key, &[])])];
    let history = [stale(1, 1), stale(2, 11), stale(3, 21)].concat();
    assert_eq!(classes(&history), [Class::GSingleRealTime; 3]);
}

#[test]
fn a_cycle_is_told_as_a_story() {
    let anomalies =
        check(&[timed(1, 2, &[append(1, 5)]), timed(3, 4, &[read(1, &[])])]).expect_err("the read is stale");
    let expected = "G-single-realtime: T1 -rw-> T0, whose append it does not see: key=1 value=5; \
                    T0 -rt-> T1, which is invoked after it completed";
    assert_eq!(anomalies[0].to_string(), expected);
    assert_eq!(anomalies[0].transactions, [1, 0]);
}
