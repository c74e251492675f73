//! The example `history` as its users meet it, and what it records: histories that a checker of strict serializability
//! which knows nothing of the database accepts.
//!
//! - `HISTORY_TXNS=20000` makes each history so long, with sixteen clients; `HISTORY_SEED=7` makes other ones.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::isolation::anomaly::{Anomaly, Class};
use crate::support::isolation::black_box::{Statistics, check};
use crate::support::isolation::history::{Operation, Status, Transaction};
use crate::support::isolation::jsonl;
use crate::support::{directory, example};

/// The last transaction reads every key.
const LAST: usize = 1;

/// Runs the example with so many words, in a temporary directory that must be empty afterwards.
fn record(arguments: &str) -> String {
    let temporary = directory();
    let mut command = Command::new(example("history"));
    let output = command.args(arguments.split_whitespace()).env("TMPDIR", temporary.path()).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "arguments={arguments}");
    let left = std::fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind: arguments={arguments}");
    String::from_utf8(output.stdout).unwrap()
}

/// How many transactions a history has here, and how many clients.
fn extent() -> (usize, usize) {
    let wanted = std::env::var("HISTORY_TXNS").ok().map(|text| text.parse().expect("HISTORY_TXNS is a number"));
    wanted.map_or((160, 8), |transactions| (transactions, 16))
}

fn accept(history: &[Transaction], arguments: &str) -> Statistics {
    match check(history) {
        Ok(statistics) => statistics,
        Err(anomalies) => {
            let told: Vec<String> = anomalies.iter().take(5).map(Anomaly::to_string).collect();
            panic!("arguments={arguments} anomalies={} the first: {told:#?}", anomalies.len());
        }
    }
}

/// Records histories in a mode over so many shards and checks them.
fn survey(mode: &str, shards: usize) {
    let (transactions, clients) = extent();
    let first: u64 = std::env::var("HISTORY_SEED").map_or(0, |text| text.parse().expect("HISTORY_SEED is a number"));
    for (seed, partitioning) in [(first + 1, "by-run"), (first + 2, "by-key")] {
        let arguments = format!(
            "--mode {mode} --shards {shards} --partitioning {partitioning} --seed {seed} \
             --txns {transactions} --clients {clients}"
        );
        let history = jsonl::parse(&record(&arguments)).unwrap();
        assert_eq!(history.len(), transactions + LAST, "arguments={arguments}");
        let statistics = accept(&history, &arguments);
        let count = |status| history.iter().filter(|transaction| transaction.status == status).count();
        let (ok, failed, unknown) = (count(Status::Ok), count(Status::Fail), count(Status::Info));
        println!("{arguments}: ok={ok} fail={failed} info={unknown} {statistics:?}");
        assert_eq!(unknown, 0, "nothing goes wrong here: arguments={arguments}");
        assert!(ok > transactions / 2, "most transactions win: arguments={arguments} ok={ok}");
        assert!(statistics.versions > transactions / 4, "arguments={arguments} {statistics:?}");
    }
}

#[test]
fn histories_in_memory_are_strictly_serializable() {
    survey("in-memory", 2);
    survey("in-memory", 4);
}

#[test]
fn buffered_histories_are_strictly_serializable() {
    survey("buffered", 2);
    survey("buffered", 4);
}

#[test]
fn strict_histories_are_strictly_serializable() {
    survey("strict", 2);
    survey("strict", 4);
}

#[test]
fn a_history_of_one_shard_and_one_client_is_a_serial_one() {
    let history = jsonl::parse(&record("--txns 60 --clients 1 --shards 1 --mode in-memory")).unwrap();
    assert!(history.iter().all(|transaction| transaction.status == Status::Ok), "nobody is in the way");
    accept(&history, "one client");
    let keys = history.last().unwrap().operations.iter();
    let kinds: BTreeSet<i64> =
        keys.map(|operation| if let Operation::Read { key, .. } = operation { key % 4 } else { -1 }).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3], "the last one reads lists of every kind");
}

#[test]
fn a_value_that_was_lost_or_changed_place_would_be_found() {
    let recorded = jsonl::parse(&record("--txns 80 --mode in-memory")).unwrap();
    let tampered = |change: &dyn Fn(&mut Vec<i64>)| {
        let mut history = recorded.clone();
        let reads = history.last_mut().unwrap().operations.iter_mut();
        let lists =
            reads.filter_map(|read| if let Operation::Read { values, .. } = read { values.as_mut() } else { None });
        change(lists.max_by_key(|values| values.len()).unwrap());
        let anomalies = check(&history).unwrap_err();
        anomalies.into_iter().map(|anomaly| anomaly.class).collect::<BTreeSet<Class>>()
    };
    // Which class it is depends on who else saw the value, and on whether its writer appended another one.
    let lost = tampered(&|values| values.truncate(values.len() - 1));
    assert!(!lost.is_empty());
    let swapped = tampered(&|values| values.swap(0, 1));
    assert!(swapped.contains(&Class::IncompatibleOrder), "{swapped:?}");
    let invented = tampered(&|values| values.push(i64::MAX));
    assert!(invented.contains(&Class::Garbage), "{invented:?}");
}

#[test]
fn what_is_wrong_with_the_arguments_is_said_in_a_line() {
    for (arguments, part) in [
        ("--txns", "--txns needs a value"),
        ("--txns many", "--txns needs a whole number"),
        ("--clients 0", "at least 1"),
        ("--shards -1", "--shards"),
        ("--seed x", "--seed"),
        ("--mode fast", "there is no mode \"fast\""),
        ("--partitioning by-luck", "there is no partitioning \"by-luck\""),
        ("--colour red", "there is no option --colour"),
        ("1000", "there is no option 1000"),
    ] {
        let output = Command::new(example("history")).args(arguments.split(' ')).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "arguments={arguments} {errors}");
        assert!(errors.lines().count() == 1 && errors.contains(part) && errors.contains("usage:"), "{errors}");
    }
    let help = record("--help");
    assert!(help.starts_with("usage: history"), "{help}");
}

#[test]
fn whoever_stops_listening_ends_it_without_a_word() {
    let temporary = directory();
    let mut command = Command::new(example("history"));
    command.args(["--txns", "1000000", "--mode", "in-memory"]).env("TMPDIR", temporary.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"index\":0,\"process\":"), "{first}");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}
