//! The examples `time_travel`, `replay_and_diff`, `handover` and `approval` as their users meet them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{directory, example};
use in_mem::serde_json::{self, Value as Json, json};

fn run(name: &str, arguments: &[&Path]) -> Output {
    Command::new(example(name)).args(arguments).output().unwrap()
}

/// Runs an example, which must go well, and returns what it printed.
fn succeed(name: &str, arguments: &[&Path]) -> String {
    let output = run(name, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "arguments={arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `replay_and_diff`, which must fail with this code and one line that says this.
fn fail(arguments: &[&Path], code: i32, said: &str) {
    let output = run("replay_and_diff", arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(code), 1), "{errors}");
    assert!(errors.contains(said), "said={said:?} errors={errors:?}");
}

fn record(folder: &Path, name: &str, actions: &[&str]) -> PathBuf {
    let step = |action: &&str| {
        let observation = format!("did {action}");
        json!({"thought": "next", "action": action, "observation": observation, "state": {"last": action}})
    };
    let trajectory: Vec<Json> = actions.iter().map(step).collect();
    let path = folder.join(name);
    let recording = json!({"trajectory": trajectory, "history": [], "info": {"exit_status": "submitted"}});
    std::fs::write(&path, recording.to_string()).unwrap();
    path
}

#[test]
fn time_travel_shows_every_commit_and_what_was_there() {
    let printed = succeed("time_travel", &[]);
    assert_eq!(printed.lines().filter(|line| line.starts_with("commit ")).count(), 6);
    for line in [
        "    event  1 edited \"tests.py\"",
        "  then: [goal=\"make the rounding right\", open=\"tests.py\"], budget 45, 2 events",
        "  then: [goal=\"make the rounding right\"], budget 45, 2 events",
        "the last two commits: 0 added, 1 removed, 1 modified",
        "~ runs status: \"Active\" -> \"Completed\"",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "line={line:?}\n{printed}");
    }
}

#[test]
fn two_recordings_are_compared_step_by_step() {
    let folder = directory();
    let a = record(folder.path(), "a.traj", &["ls", "cat x", "submit"]);
    let b = record(folder.path(), "b.traj", &["ls", "pwd", "cat x", "submit"]);
    let printed = succeed("replay_and_diff", &[&a, &b]);
    let expected = [
        "3 added, 0 removed, 0 modified",
        "+ events 1: {\"payload\":\"did pwd\",\"type\":\"observation\"}",
        "+ traces 2: {\"metadata\":null,\"tags\":[],\"type\":{\"Thought\":{\"confidence\":null,\"content\":\"next\"}}}",
        "first divergence: step 2",
        "  a: states state: {\"last\":\"cat x\"}",
        "  b: states state: {\"last\":\"pwd\"}",
    ];
    for line in expected {
        assert!(printed.lines().any(|printed| printed == line), "line={line:?}\n{printed}");
    }
    assert_eq!(printed.lines().filter(|line| line.starts_with(['+', '-', '~'])).count(), 3, "{printed}");
    let json: Json = serde_json::from_str(&succeed("replay_and_diff", &[&a, &b, Path::new("--json")])).unwrap();
    assert_eq!(json["first_divergence"]["index"], json!(2));
    assert_eq!(json["added"].as_array().map(Vec::len), Some(3));
    let same = succeed("replay_and_diff", &[&a, &a, Path::new("--full")]);
    assert_eq!(same.lines().last(), Some("both runs did the same"));
}

#[test]
fn the_recorded_agents_are_compared() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let [a, b] = ["cursors", "function_calling"].map(|name| folder.join(format!("marshmallow-1867.{name}.traj")));
    if !a.exists() {
        println!("skipped: there are no recorded runs in {}", folder.display());
        return;
    }
    let printed = succeed("replay_and_diff", &[&a, &b]);
    assert!(printed.lines().any(|line| line == "first divergence: step 1"), "{printed}");
    assert_eq!(printed, succeed("replay_and_diff", &[&a, &b]), "the same every time");
}

#[test]
fn what_is_wrong_is_said_in_a_line() {
    let folder = directory();
    let (fine, missing) = (record(folder.path(), "a.traj", &[]), folder.path().join("none.traj"));
    let usage = "usage: replay_and_diff PATH_A PATH_B";
    fail(&[&fine, &missing], 1, "none.traj: No such file");
    fail(&[], 2, usage);
    fail(&[&fine], 2, usage);
    fail(&[&fine, &fine, Path::new("--fast")], 2, usage);
    fail(&[&fine, &fine, Path::new("--json"), Path::new("--full")], 2, usage);
    assert!(succeed("replay_and_diff", &[Path::new("--help")]).starts_with(usage));
}

#[test]
fn two_agents_hand_work_over() {
    let printed = succeed("handover", &[]);
    let expected = [
        "coder: read the issue",
        "planner: read the issue: done",
        "coder: write a failing test",
        "planner: write a failing test: done",
        "coder: make it pass",
        "planner: make it pass: done",
        "events: 3",
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn an_approval_survives_a_kill_and_a_restart() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    let folder = directory();
    let start = || {
        let mut command = Command::new(example("approval"));
        command.arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    // Killed while it waits.
    let mut first = start();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "planned: delete the old backups");
    assert_eq!(lines.next().unwrap().unwrap(), "waiting for approval");
    first.kill().unwrap();
    first.wait().unwrap();
    // Ended with no answer.
    let output = start().wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, "waiting for approval\nnobody has answered: start it again\n");
    let mut third = start();
    third.stdin.take().unwrap().write_all(b"approve\n").unwrap();
    let printed = String::from_utf8(third.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(printed, "waiting for approval\ndeleted\n");
    let printed = String::from_utf8(start().wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(printed, "it was decided before\n");
}
