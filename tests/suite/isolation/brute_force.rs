//! The black-box checker against all orders there are: on small histories it must say the same.
//!
//! - A history is right if some set of the transactions of unknown outcome can be run with those that are `Ok`, in some
//!   order that agrees with real time, with the same answers.

use std::collections::BTreeMap;

use super::serial::Random;
use crate::support::isolation::black_box::check;
use crate::support::isolation::history::{Operation, Status, Transaction};

type State = BTreeMap<i64, Vec<i64>>;

/// The state after a transaction, if it gets the answers it got.
fn run(mut state: State, transaction: &Transaction) -> Option<State> {
    for operation in &transaction.operations {
        let is_right = match operation {
            Operation::Append { key, value } => {
                state.entry(*key).or_default().push(*value);
                true
            }
            Operation::Read { key, values } => {
                values.as_ref().is_none_or(|values| values == state.get(key).map_or(&vec![], |values| values))
            }
            Operation::Scan { low, high, keys } => {
                let found: Vec<_> = state.range(low..=high).map(|(key, values)| (*key, values.clone())).collect();
                keys.as_ref().is_none_or(|keys| *keys == found)
            }
        };
        if !is_right {
            return None;
        }
    }
    Some(state)
}

fn completed(transaction: &Transaction) -> u64 {
    if transaction.status == Status::Ok { transaction.completed } else { u64::MAX }
}

/// Whether the rest can be run from here.
fn can_run(state: &State, rest: &[&Transaction]) -> bool {
    rest.iter().all(|transaction| transaction.status == Status::Info)
        || (0..rest.len()).any(|at| {
            let mut others = rest.to_vec();
            let next = others.remove(at);
            let is_first = others.iter().all(|other| {
                // One of unknown outcome that has not been run by then may never be.
                other.status == Status::Info || completed(other) >= next.invoked
            });
            is_first && run(state.clone(), next).is_some_and(|state| can_run(&state, &others))
        })
}

/// A list as others and the transaction itself may have made it, most often.
fn list(order: &[i64], own: &[i64], random: &mut Random) -> Vec<i64> {
    let mut list: Vec<i64> =
        order[..=random.below(order.len())].iter().filter(|value| !own.contains(value)).copied().collect();
    if random.below(3) == 0 {
        list.clear();
    }
    list.extend(own);
    if random.below(40) == 0 {
        list.pop();
    }
    list
}

fn history(random: &mut Random) -> Vec<Transaction> {
    let count = 2 + random.below(4);
    let mut history: Vec<Transaction> = Vec::new();
    let mut orders: BTreeMap<i64, Vec<i64>> = (0..3).map(|key| (key, vec![99])).collect();
    for place in 0..count {
        let status = [Status::Ok, Status::Ok, Status::Ok, Status::Ok, Status::Info, Status::Fail][random.below(6)];
        let mut operations = Vec::new();
        for step in 0..=random.below(4) {
            let key = i64::try_from(random.below(3)).unwrap();
            let value = i64::try_from(place * 10 + step).unwrap();
            operations.push(match random.below(7) {
                0..3 => {
                    let order = orders.entry(key).or_default();
                    order.insert(random.below(order.len()), value);
                    Operation::Append { key, value }
                }
                3..6 => Operation::Read { key, values: Some(Vec::new()) },
                _ => Operation::Scan { low: 0, high: key, keys: Some(Vec::new()) },
            });
        }
        let invoked = random.below(20) as u64;
        let completed = invoked + random.below(12) as u64;
        history.push(Transaction { process: place as u64, status, invoked, completed, operations });
    }
    for order in orders.values_mut() {
        order.retain(|value| *value != 99 || random.below(50) == 0);
        order.push(98);
    }
    for transaction in &mut history {
        answer(transaction, &orders, random);
    }
    history
}

/// Fills in what was read.
fn answer(transaction: &mut Transaction, orders: &BTreeMap<i64, Vec<i64>>, random: &mut Random) {
    let mut own: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut seen: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for operation in &mut transaction.operations {
        let mut look = |key: i64, own: &BTreeMap<i64, Vec<i64>>, random: &mut Random| {
            let own = own.get(&key).map_or(&[][..], Vec::as_slice);
            let mut fresh = list(&orders[&key], own, random);
            fresh.retain(|value| *value != 98);
            let list = seen.entry(key).or_insert(fresh);
            list.extend(own.iter().filter(|value| !list.contains(value)).copied().collect::<Vec<_>>());
            list.clone()
        };
        match operation {
            Operation::Append { key, value } => own.entry(*key).or_default().push(*value),
            Operation::Read { key, values: Some(values) } => *values = look(*key, &own, random),
            Operation::Scan { low, high, keys: Some(keys) } => {
                let found = (*low..=*high).map(|key| (key, look(key, &own, random)));
                *keys = found.filter(|(_, values)| !values.is_empty()).collect();
            }
            Operation::Read { .. } | Operation::Scan { .. } => {}
        }
    }
}

#[test]
fn the_checker_agrees_with_all_orders() {
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..4000 {
        let history = history(&mut Random::new(seed));
        let counted: Vec<&Transaction> =
            history.iter().filter(|transaction| transaction.status != Status::Fail).collect();
        let is_right = can_run(&State::new(), &counted);
        let answer = check(&history);
        assert_eq!(answer.is_ok(), is_right, "seed={seed} {answer:#?} {history:#?}");
        right += u64::from(is_right);
        wrong += u64::from(!is_right);
    }
    assert!(right > 400 && wrong > 400, "right={right} wrong={wrong}");
}
