//! Histories as text are read, and lines that are wrong are refused with their number.

use crate::support::isolation::black_box::{Class, check};
use crate::support::isolation::history::{Operation, Status};
use crate::support::isolation::jsonl::parse;

const TEXT: &str = r#"
{"index":0,"process":0,"type":"invoke","time":1,"value":[["append",1,2],["r",1,null]]}
{"index":1, "process":1, "type":"invoke", "f":"txn", "time":2, "value":[["append", -3, 4], ["scan", 1, 9, null]]}
{"index":2,"process":0,"type":"ok","time":3,"value":[["append",1,2],["r",1,[2]]]}
{"index":3,"process":1,"type":"info","time":4,"value":[["append",-3,4],["scan",1,9,null]]}
{"index":4,"process":0,"type":"invoke","time":5,"value":[["scan",-9,9,null]]}
{"index":5,"process":2,"type":"invoke","time":6,"value":[["append",1,7]]}
{"index":6,"process":3,"type":"invoke","time":6,"value":[["append",1,8]]}
{"index":7,"process":0,"type":"ok","time":7,"value":[["scan",-9,9,[[-3,[4]],[1,[2]]]]]}
{"index":8,"process":2,"type":"fail","time":8,"value":[]}
"#;

#[test]
fn a_history_is_read() {
    let history = parse(TEXT).expect("the text is a history");
    let statuses: Vec<Status> = history.iter().map(|transaction| transaction.status).collect();
    assert_eq!(statuses, [Status::Ok, Status::Info, Status::Ok, Status::Fail, Status::Info]);
    let times: Vec<(u64, u64)> =
        history.iter().map(|transaction| (transaction.invoked, transaction.completed)).collect();
    assert_eq!(times, [(0, 2), (1, 3), (4, 7), (5, 8), (6, u64::MAX)]);
    let operations = [Operation::Append { key: 1, value: 2 }, Operation::Read { key: 1, values: Some(vec![2]) }];
    assert_eq!(history[0].operations, operations);
    let scan = Operation::Scan { low: -9, high: 9, keys: Some(vec![(-3, vec![4]), (1, vec![2])]) };
    assert_eq!(history[2].operations, [scan]);
    assert_eq!(history[3].operations, [Operation::Append { key: 1, value: 7 }], "what failed was tried");
    assert_eq!(check(&history).expect("the history is accepted").transactions, 3);
}

#[test]
fn a_broken_history_is_read_and_rejected() {
    let text = TEXT.replace("[1,[2]]", "[1,[2,7]]");
    let anomalies = check(&parse(&text).expect("the text is a history")).expect_err("what failed was read");
    assert_eq!(anomalies[0].class, Class::AbortedRead);
}

#[test]
fn lines_that_are_wrong_are_refused() {
    let wrong = [
        ("\"process\":0", "\"process\":-1"),
        ("\"index\":0,", ""),
        ("invoke", "begin"),
        ("[\"append\",1,2]", "[\"append\",1]"),
        ("[\"append\",1,2]", "[\"append\",1,2.5]"),
        ("null]]}", "null]]"),
        ("null]]}", "null]]}}"),
        ("\"invoke\"", "\"in\\u0076oke\""),
        ("\"invoke\"", "\"ok\""),
    ];
    for (from, to) in wrong {
        let error = parse(&TEXT.replacen(from, to, 1)).expect_err(to);
        assert!(error.starts_with("line 2: "), "{error}");
    }
    let twice = parse(&TEXT.replace("\"type\":\"ok\",\"time\":3", "\"type\":\"invoke\",\"time\":3"));
    assert_eq!(twice.expect_err("a process runs one at a time"), "line 4: the process has not completed");
}
