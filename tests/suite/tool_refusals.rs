//! The tool, asked for what is not there or cannot be: what it says, that it ends, and that nothing is left behind.

use std::fs::{Permissions, set_permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use super::tool::{RUN, as_reader, command, lines, text, tool, with_sample};
use crate::support::{directory, segments};
use in_mem::HistoryRetention;
use in_mem::blocking::prelude::*;
use in_mem::blocking::serde_json::{Value as Json, json};

const NOBODY: &str = "11111111-2222-4333-8444-555555555555";
const FORM: &str = "in-mem run, form 1";

/// What it said when it ended with this code.
fn said(arguments: &[&str], code: i32) -> String {
    let output = tool(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty() && !said.contains("panicked"), "{arguments:?}: {said}");
    said
}

#[test]
fn the_full_id_of_no_run_is_no_run() {
    let (_directory, path) = with_sample();
    let path = path.as_str();
    let questions: [&[&str]; 11] = [
        &["show", path, NOBODY],
        &["timeline", path, NOBODY],
        &["events", path, NOBODY],
        &["events", path, NOBODY, "--follow"],
        &["kv", path, NOBODY, "list"],
        &["state", path, NOBODY],
        &["json", path, NOBODY],
        &["trace", path, NOBODY],
        &["verify", path, NOBODY],
        &["export", path, NOBODY, "--otlp-json"],
        &["diff", path, "nightly", NOBODY],
    ];
    for question in questions {
        assert!(said(question, 2).contains("there is no such run"), "{question:?}");
    }
}

#[test]
fn a_run_that_nobody_began_is_found_by_its_id_however_little_history_is_kept() {
    for history in [HistoryRetention::Off, HistoryRetention::Commits(1), HistoryRetention::Forever] {
        let directory = directory();
        let open = || Database::builder().path(directory.path()).history(history).open().unwrap();
        for round in 0..3 {
            let database = open();
            database.kv().put(RUN, "k", round).unwrap();
            database.events().append(RUN, "tick", round).unwrap();
            if round == 1 {
                database.checkpoint().unwrap();
            }
            database.close().unwrap();
            let path = directory.path().to_str().unwrap();
            let (id, other) = (RUN.to_string(), RunId::from_bytes([7; 16]).to_string());
            assert_eq!(lines(&["kv", path, &id, "list"]), [json!({"key": "k", "value": round})], "{history:?}");
            assert_eq!(said(&["kv", path, &other, "list"], 2).lines().count(), 1);
        }
    }
}

/// A run as a file; these are the changes of its commits.
fn recording(directory: &Path, commits: &[Json]) -> String {
    let first = json!({"form": FORM, "run": NOBODY, "commits": commits.len(), "version": 1});
    let commits = commits.iter().map(|changes| json!({"version": 1, "changes": changes}));
    let lines = [first].into_iter().chain(commits).chain([json!({"end": true, "expired": []})]);
    let text: Vec<String> = lines.map(|line| line.to_string()).collect();
    let file = directory.join("run.jsonl");
    std::fs::write(&file, text.join("\n") + "\n\n \n").unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn what_cannot_be_imported_leaves_nothing_behind() {
    let (directory, path) = with_sample();
    let good = json!([{"primitive": "kv", "key": "k", "value": 1}]);
    let about = |status: &str, name: &str| {
        json!([{"primitive": "runs", "key": NOBODY, "run": NOBODY, "name": name, "status": status, "parent": null,
            "created_at": 1, "updated_at": 1, "completed_at": null, "tags": [], "metadata": null, "error": null}])
    };
    let trace = json!({"Guess": {"content": "hm"}});
    let bad = [
        json!([{"primitive": "kv", "key": "k", "vlaue": 5}]),
        json!([{"primitive": "kv", "value": 5}]),
        json!([{"primitive": "json", "key": "k", "value": {}}]),
        json!([{"primitive": "events", "key": "0", "payload": 1}]),
        json!([{"primitive": "traces", "key": "t", "trace": trace, "tags": [], "metadata": null, "parent": null}]),
        json!([{"primitive": "dreams", "key": "k", "value": 5}]),
        json!([{"primitive": "kv", "key": "k".repeat(1 << 20), "value": 5}]),
        about("Sleeping", "another"),
    ];
    for bad in bad {
        let file = recording(directory.path(), &[good.clone(), bad.clone()]);
        assert!(said(&["import", &path, &file], 2).contains("line 3"), "{bad}");
        let new = directory.path().join("new.db");
        said(&["import", new.to_str().unwrap(), &file], 2);
        assert!(!new.exists());
    }
    let taken = said(&["import", &path, &recording(directory.path(), &[good.clone(), about("Active", "retry")])], 2);
    assert!(taken.contains("has this name"), "{taken}");
    let file = recording(directory.path(), &[good.clone(), about("Active", "another")]);
    assert_eq!(lines(&["import", &path, &file])[0]["commits"], 2, "nothing is in the way, and blank lines are none");
    assert_eq!(lines(&["show", &path, "another"])[0]["keys"], 1);
    let database = Database::open(&path).unwrap();
    database.runs().delete_run("another").unwrap();
    database.close().unwrap();
    assert!(said(&["import", &path, &file], 2).contains("deleted"), "its id is used up");
    let without = std::fs::read_to_string(&file).unwrap().replace(",\"expired\":[]", "");
    std::fs::write(&file, without).unwrap();
    assert!(said(&["import", &path, &file], 2).contains("line 4"));
}

#[test]
fn a_missing_segment_is_a_finding() {
    let (directory, path) = with_sample();
    for _ in 0..2 {
        let database = Database::open(&path).unwrap();
        database.kv().put(RUN, "k", 1).unwrap();
        database.close().unwrap();
    }
    std::fs::remove_file(segments(Path::new(&path)).last().unwrap()).unwrap();
    let found = text(&["verify", &path], 1);
    assert!(found.contains("log/") && found.lines().count() == 1, "{found}");
    let nothing = directory.path().join("nothing");
    said(&["verify", nothing.to_str().unwrap()], 3);
}

#[test]
fn who_may_not_look_is_not_told_that_nothing_is_there() {
    let (directory, path) = with_sample();
    let permit = |path: &Path, mode: u32| set_permissions(path, Permissions::from_mode(mode)).unwrap();
    permit(directory.path(), 0o755);
    let file = directory.path().join("run.jsonl");
    std::fs::write(&file, text(&["export", &path, "nightly"], 0)).unwrap();
    let new = directory.path().join("new.db");
    let (file, new) = (file.to_str().unwrap(), new.to_str().unwrap());
    let refused = |arguments: &[&str]| {
        let output = as_reader(arguments)?;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.to_lowercase().contains("permission denied"), "{arguments:?}: {said}");
        Some(said)
    };
    let snapshots = Path::new(&path).join("snapshots");
    permit(&snapshots, 0o000);
    let Some(said) = refused(&["stat", &path]) else {
        println!("skipped: another user cannot start the tool here");
        return;
    };
    assert!(said.contains("snapshots"), "{said}");
    permit(&snapshots, 0o755);
    permit(Path::new(&path), 0o000);
    for arguments in [&["salvage", &path, new][..], &["import", &path, file]] {
        let said = refused(arguments).unwrap();
        assert!(said.contains("cannot read") && said.contains(&path), "{said}");
    }
    permit(Path::new(&path), 0o755);
}

#[test]
fn a_query_of_no_document_is_told_so() {
    let (_directory, path) = with_sample();
    assert!(said(&["json", &path, "nightly", "nothing", "--query", "$.a"], 2).contains("no such document"));
    assert_eq!(text(&["json", &path, "nightly", "plan", "--query", "$.nothing"], 0), "");
}

#[test]
fn a_shell_shows_and_takes_what_can_be_said_in_it_only() {
    let (_directory, path) = with_sample();
    let ask = |input: &str| {
        let mut shell = command(&["shell", &path]);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        let [answer, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), answer, said)
    };
    for help in ["help kv", "kv --help", "help stat"] {
        let (_, answer, _) = ask(help);
        assert!(answer.contains("Usage") && !answer.contains("agents.db") && !answer.contains("PATH"), "{answer}");
    }
    let (code, answer, said) = ask("events nightly --follow\n");
    assert!(code == Some(2) && answer.is_empty() && said.contains("--follow"), "{said}");
    let (code, answer, said) = ask("stat --path /elsewhere\n");
    assert!(code == Some(2) && answer.is_empty() && said.contains("unexpected argument"), "{said}");
}
