//! The example `import_trajectory` as its users meet it: recorded runs go in and come back whole; what is wrong with one
//! is said in a line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{BUFFERED, directory, example, on_tokio, open};
use in_mem::prelude::*;
use in_mem::serde_json::{self, Value as Json, json};

const MODES: [&str; 3] = ["strict", "buffered", "in-memory"];

/// Runs the example. Its temporary directories are made in a place that must be empty afterwards.
fn run(arguments: &[&str]) -> Output {
    let temporary = directory();
    let output =
        Command::new(example("import_trajectory")).args(arguments).env("TMPDIR", temporary.path()).output().unwrap();
    let left = std::fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind: arguments={arguments:?}");
    output
}

/// Runs the example, which must go well, and returns what it printed.
fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "arguments={arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the example, which must fail with this code and one line that says all of `parts`.
fn fail(arguments: &[&str], code: i32, parts: &[&str]) {
    let output = run(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "arguments={arguments:?} errors={errors}");
    assert_eq!(errors.lines().count(), 1, "one line: {errors}");
    for part in parts {
        assert!(errors.contains(part), "part={part:?} errors={errors:?}");
    }
}

/// What follows `what: ` in what the example printed.
fn printed<'a>(text: &'a str, what: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
    let found = lines.next().unwrap_or_else(|| panic!("what={what:?} text={text:?}"));
    assert_eq!(lines.next(), None, "once: what={what:?} text={text:?}");
    found
}

fn write(path: &Path, json: &Json) -> String {
    std::fs::write(path, json.to_string()).unwrap();
    path.to_str().unwrap().into()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A structured part of a recording, which may be JSON in a text.
fn structured(json: &Json) -> Json {
    json.as_str().map_or_else(|| json.clone(), |text| serde_json::from_str(text).unwrap())
}

/// Checks what the example printed about a recording against the recording.
fn check_printed(text: &str, recording: &Json, name: &str, status: &str) {
    let steps = recording["trajectory"].as_array().unwrap();
    assert_eq!(printed(text, "run"), name);
    assert_eq!(printed(text, "status"), status);
    assert_eq!(printed(text, "steps"), steps.len().to_string());
    assert_eq!(printed(text, "events"), steps.len().to_string());
    assert_eq!(printed(text, "traces"), (steps.len() * 2).to_string());
    assert_eq!(printed(text, "messages"), recording["history"].as_array().map_or(0, Vec::len).to_string());
    assert_eq!(printed(text, "chain"), "valid");
    let last = steps.iter().rev().map(|step| &step["state"]).find(|state| !state.is_null());
    let found: Json = serde_json::from_str(printed(text, "last state")).unwrap();
    assert_eq!(found, last.map_or(Json::Null, structured));
    assert!(text.lines().any(|line| line.starts_with("imported in ")), "{text}");
}

/// Checks everything in the database against the recording.
async fn check_stored(path: &Path, recording: &Json, name: &str) {
    let database = open(path, BUFFERED, 1).await;
    let about = database.runs().get_run(name).await.unwrap().unwrap();
    assert_eq!(about.metadata.to_json(), recording["info"]);
    let run = database.run(about.run_id);
    let events = run.events().read_range(0, u64::MAX).await.unwrap();
    let thoughts = run.traces().get_roots().await.unwrap();
    let mut states = 0;
    for (index, step) in recording["trajectory"].as_array().unwrap().iter().enumerate() {
        assert_eq!(
            (events[index].event_type.as_str(), events[index].payload.to_json()),
            ("observation", step["observation"].clone())
        );
        let content = step["thought"].as_str().unwrap().into();
        assert_eq!(thoughts[index].trace_type, TraceType::Thought { content, confidence: None });
        let children = run.traces().get_children(&thoughts[index].id).await.unwrap();
        let [Trace { trace_type: TraceType::ToolCall { tool_name, arguments, result, duration_ms }, .. }] =
            &children[..]
        else {
            panic!("one tool call under a thought: {children:?}");
        };
        let action = step["action"].as_str().unwrap();
        assert_eq!(tool_name, action.split_whitespace().next().unwrap_or(""));
        assert_eq!(*arguments, Value::from(action));
        assert_eq!(result.as_ref().map_or(Json::Null, Value::to_json), step["observation"]);
        let time = &step["execution_time"];
        let seconds: Option<f64> = time.as_f64().or_else(|| time.as_str().map(|text| text.trim().parse().unwrap()));
        assert_eq!(seconds.is_some(), duration_ms.is_some());
        let off = f64::from(u32::try_from(duration_ms.unwrap_or(0)).unwrap()) - seconds.unwrap_or(0.0) * 1000.0;
        assert!(off.abs() <= 1.0, "index={index} off={off}");
        states += u64::from(!step["state"].is_null());
    }
    let messages = run.kv().list_with_values(None).await.unwrap();
    let history = recording["history"].as_array().cloned().unwrap_or_default();
    assert_eq!(messages.len(), history.len());
    for (index, (key, message)) in messages.iter().enumerate() {
        assert_eq!((key.as_str(), message.to_json()), (format!("message/{index:06}").as_str(), history[index].clone()));
    }
    let state = run.states().read("state").await.unwrap();
    assert_eq!(state.as_ref().map_or(0, |state| state.version), states, "one version for each step");
    assert!(state.is_none_or(|state| state.value.as_map().is_some()), "structured");
    database.close().await.unwrap();
}

/// Imports a recording in every mode, into temporary directories and into one that stays.
fn check(path: &Path, status: &str) {
    let recording: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let name = path.file_stem().unwrap().to_str().unwrap();
    check_printed(&succeed(&[text(path)]), &recording, name, status);
    for mode in MODES {
        let report = succeed(&["--mode", mode, text(path)]);
        check_printed(&report, &recording, name, status);
        assert_eq!(report.contains("not reopened"), mode == "in-memory", "{report}");
    }
    let unmade = path.with_extension("database");
    check_printed(&succeed(&[text(path), "--db", text(&unmade), "--mode", "in-memory"]), &recording, name, status);
    assert!(!unmade.exists(), "in memory, nothing is written to disk");
    for mode in ["strict", "buffered"] {
        let kept = directory();
        let report = succeed(&[text(path), "--db", text(kept.path()), "--mode", mode]);
        check_printed(&report, &recording, name, status);
        on_tokio(check_stored(kept.path(), &recording, name));
    }
}

fn recordings(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            recordings(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "traj") {
            found.push(path);
        }
    }
}

#[test]
fn real_runs_come_back_whole_in_every_mode() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    if !folder.is_dir() {
        println!("skipped: there are no recorded runs in {}", folder.display());
        return;
    }
    let mut found = Vec::new();
    recordings(&folder, &mut found);
    for path in &found {
        let recording: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let status = recording["info"]["exit_status"].as_str().unwrap();
        assert!(status.starts_with("submitted"), "path={} status={status}", path.display());
        check(path, "Completed");
    }
    println!("imported {} recorded runs", found.len());
}

/// The state is JSON inside of a text, and so is the time.
fn in_texts() -> Json {
    json!({
        "environment": "somewhere",
        "trajectory": [
            {"thought": "Look.", "action": "ls -a\n", "observation": "a\nb\n", "response": "Look. ls -a",
             "state": "{\"open_file\": \"n/a\", \"lines\": [1, 2.5, null]}\n", "execution_time": " 0.25\n"},
            {"thought": "", "action": "", "observation": "", "response": "", "state": "{}"},
        ],
        "history": [{"role": "system", "content": "be good"}, {"role": "user", "content": "fix it", "is_demo": true}],
        "info": {"exit_status": "submitted", "submission": "diff", "model_stats": {"cost": 1.5, "calls": 3}},
    })
}

/// The state is an object, the time a number; unicode, an action without an answer, and no state at the end.
fn in_objects() -> Json {
    json!({
        "trajectory": [
            {"thought": "Größe? 🦀", "action": "\tgrep\u{a0}-r 'ß' .", "observation": "a:ß\u{0}",
             "state": {"dir": "/"}, "execution_time": 3},
            {"thought": "Go on", "action": "submit", "observation": null,
             "state": {"dir": "/", "open": {"file": "x"}}, "execution_time": 0.0},
            {"thought": "End", "action": "exit_cost", "observation": "", "state": null, "execution_time": null},
        ],
        "history": [],
        "info": {"exit_status": "submitted (exit_cost)"},
    })
}

#[test]
fn both_recording_formats_are_understood() {
    let folder = directory();
    for (name, recording) in
        [("in texts.traj", in_texts()), ("größe.v2.traj", in_objects()), ("no extension", in_texts())]
    {
        let path = folder.path().join(name);
        write(&path, &recording);
        check(&path, "Completed");
    }
}

#[test]
fn a_run_ends_as_it_was_recorded() {
    let folder = directory();
    let path = folder.path().join("run.traj");
    let ends = [
        (json!({"exit_status": "submitted"}), "Completed"),
        (json!({"exit_status": "submitted (exit_context)", "submission": null}), "Completed"),
        (json!({"submission": "diff"}), "Completed"),
        (json!({"exit_status": null, "submission": "diff"}), "Completed"),
        (json!({"exit_status": "exit_cost", "submission": "diff"}), "Failed: exit_cost"),
        (json!({"exit_status": ""}), "Failed: "),
        (json!({"submission": ""}), "Failed: neither an exit status nor a submission"),
        (json!({}), "Failed: neither an exit status nor a submission"),
    ];
    for (info, status) in ends {
        write(&path, &json!({"trajectory": [], "info": info}));
        check_printed(&succeed(&[text(&path)]), &json!({"trajectory": []}), "run", status);
    }
    let least = json!({"trajectory": []});
    write(&path, &least);
    check_printed(&succeed(&[text(&path)]), &least, "run", "Failed: neither an exit status nor a submission");
}

#[test]
fn runs_of_several_names_share_a_database_and_one_name_is_refused_twice() {
    let folder = directory();
    let database = folder.path().join("new/database");
    let first = write(&folder.path().join("first.traj"), &in_texts());
    let second = write(&folder.path().join("7E57C0DE-0000-4000-8000-00000000ABCD.traj"), &in_objects());
    for recording in [&first, &second] {
        succeed(&[recording, "--db", text(&database)]);
    }
    for recording in [&first, &second] {
        for mode in ["strict", "buffered"] {
            let name = Path::new(recording).file_stem().unwrap().to_str().unwrap();
            let parts = [recording.as_str(), text(&database), "has a run named", name, "already"];
            fail(&[recording, "--db", text(&database), "--mode", mode], 1, &parts);
        }
    }
    on_tokio(check_stored(&database, &in_texts(), "first"));
    on_tokio(check_stored(&database, &in_objects(), "7E57C0DE-0000-4000-8000-00000000ABCD"));
}

#[test]
fn a_run_that_cannot_be_stored_leaves_nothing_behind() {
    let folder = directory();
    let database = folder.path().join("database");
    let deep = (0..105).fold(json!(1), |inner, _| json!({"inner": inner}));
    let mut cases = vec![];
    for (part, place) in [("trajectory", "$.trajectory[1]"), ("history", "$.history"), ("info", "$.info")] {
        let mut recording = in_texts();
        match part {
            "trajectory" => recording[part][1]["state"] = deep.clone(),
            "history" => recording[part][1]["content"] = deep.clone(),
            _ => recording[part]["deep"] = deep.clone(),
        }
        cases.push((recording, place, "depth"));
    }
    let mut large = in_texts();
    large["trajectory"][1]["observation"] = "x".repeat((16 << 20) + 1).into();
    cases.push((large, "$.trajectory[1]", "bytes"));
    let path = folder.path().join("run.traj");
    for mode in ["strict", "buffered"] {
        for (recording, place, what) in &cases {
            write(&path, recording);
            fail(
                &[text(&path), "--db", text(&database), "--mode", mode],
                1,
                &["run.traj", place, "limit exceeded", what],
            );
        }
    }
    write(&path, &in_texts());
    succeed(&[text(&path), "--db", text(&database)]);
    on_tokio(check_stored(&database, &in_texts(), "run"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = directory();
    let path = folder.path().join("run.traj");
    fail(&[text(&path)], 1, &["run.traj", "No such file"]);
    fail(&[text(folder.path())], 1, &[text(folder.path()), "directory"]);
    fail(&["/"], 1, &["directory"]);
    fail(&[""], 1, &["No such file"]);
    let texts: [&[u8]; 7] =
        [b"", b"{", b"no", b"{\"trajectory\": []} more", b"{\"trajectory\": [1e999]}", b"\"\xff\"", b"\0"];
    for bytes in texts {
        std::fs::write(&path, bytes).unwrap();
        fail(&[text(&path)], 1, &["run.traj", "not JSON", "line 1"]);
    }
    std::fs::write(&path, "[".repeat(100_000)).unwrap();
    fail(&[text(&path)], 1, &["run.traj", "not JSON", "recursion"]);
}

#[test]
fn a_field_that_is_wrong_is_named() {
    let folder = directory();
    let path = folder.path().join("run.traj");
    let whole = [json!([]), json!(null), json!(1), json!("{\"trajectory\": []}")];
    for recording in whole {
        write(&path, &recording);
        fail(&[text(&path)], 1, &["run.traj", "$ is not an object"]);
    }
    // The place, what is put there (`None`: the field is taken away), and what is said about it.
    let cases = [
        ("/trajectory", None, "$.trajectory is missing"),
        ("/trajectory", Some(json!(null)), "$.trajectory is missing or null"),
        ("/trajectory", Some(json!({"0": {}})), "$.trajectory is not a list"),
        ("/trajectory/1", Some(json!("step")), "$.trajectory[1] is not an object"),
        ("/trajectory/1", Some(json!(null)), "$.trajectory[1] is not an object"),
        ("/trajectory/1", Some(json!({})), "$.trajectory[1].thought is missing"),
        ("/trajectory/1/thought", None, "$.trajectory[1].thought is missing"),
        ("/trajectory/1/thought", Some(json!(5)), "$.trajectory[1].thought is not a text"),
        ("/trajectory/0/action", None, "$.trajectory[0].action is missing"),
        ("/trajectory/0/action", Some(json!(["ls"])), "$.trajectory[0].action is not a text"),
        ("/trajectory/0/observation", None, "$.trajectory[0].observation is missing"),
        ("/trajectory/0/observation", Some(json!(false)), "$.trajectory[0].observation is not a text"),
        ("/trajectory/0/state", Some(json!("no JSON")), "$.trajectory[0].state is not an object"),
        ("/trajectory/0/state", Some(json!("[]")), "$.trajectory[0].state is not an object"),
        ("/trajectory/0/state", Some(json!(7)), "$.trajectory[0].state is not an object"),
        ("/trajectory/1/execution_time", Some(json!("soon")), "$.trajectory[1].execution_time is not a number"),
        ("/trajectory/1/execution_time", Some(json!("NaN")), "$.trajectory[1].execution_time is not a number"),
        ("/trajectory/1/execution_time", Some(json!(-1)), "$.trajectory[1].execution_time is not a number"),
        ("/trajectory/1/execution_time", Some(json!(1e300)), "$.trajectory[1].execution_time is not a number"),
        ("/trajectory/1/execution_time", Some(json!({})), "$.trajectory[1].execution_time is not a number"),
        ("/history", Some(json!("chat")), "$.history is not a list"),
        ("/history/1", Some(json!("hello")), "$.history[1] is not an object"),
        ("/info", Some(json!([])), "$.info is not an object"),
        ("/info/exit_status", Some(json!(0)), "$.info.exit_status is not a text"),
        ("/info/submission", Some(json!(["diff"])), "$.info.submission is not a text"),
    ];
    for (place, put, said) in cases {
        let mut recording = in_texts();
        if said.contains("submission") {
            recording["info"]["exit_status"] = Json::Null;
        }
        let (parent, field) = place.rsplit_once('/').unwrap();
        let parent = recording.pointer_mut(parent).unwrap();
        match put {
            Some(json) if parent.is_array() => parent[field.parse::<usize>().unwrap()] = json,
            Some(json) => parent[field] = json,
            None => drop(parent.as_object_mut().unwrap().remove(field).unwrap()),
        }
        write(&path, &recording);
        let database = folder.path().join("database");
        fail(&[text(&path), "--db", text(&database)], 1, &["run.traj", said]);
        assert!(!database.exists(), "nothing is made before the recording is understood");
    }
}

#[test]
fn a_database_that_cannot_be_opened_is_named() {
    let folder = directory();
    let recording = write(&folder.path().join("run.traj"), &in_texts());
    fail(&[&recording, "--db", &recording], 1, &["run.traj"]);
    let taken = folder.path().join("taken");
    on_tokio(async {
        let database = open(&taken, BUFFERED, 1).await;
        fail(&[&recording, "--db", text(&taken)], 1, &[text(&taken), "open elsewhere"]);
        database.close().await.unwrap();
    });
    succeed(&[&recording, "--db", text(&taken)]);
}

#[test]
fn usage_is_explained() {
    assert!(succeed(&["--help"]).starts_with("usage: import_trajectory PATH"));
    let usage = "usage: import_trajectory PATH";
    fail(&[], 2, &["no PATH", usage]);
    fail(&["--db", "x"], 2, &["no PATH", usage]);
    fail(&["a", "b"], 2, &["more than one PATH", usage]);
    fail(&["a", "--db"], 2, &["--db needs", usage]);
    fail(&["a", "--mode"], 2, &["--mode needs", usage]);
    fail(&["a", "--mode", "fast"], 2, &["--mode needs", usage]);
    fail(&["a", "--fast"], 2, &["--fast", usage]);
}

#[cfg(unix)]
#[test]
fn names_that_are_not_unicode_are_no_reason_to_panic() {
    use std::os::unix::ffi::OsStrExt;
    let folder = directory();
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"run\xff.traj"));
    std::fs::write(&path, in_texts().to_string()).unwrap();
    let database = folder.path().join(std::ffi::OsStr::from_bytes(b"database\xff"));
    let output = Command::new(example("import_trajectory")).arg(&path).arg("--db").arg(&database).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(database.is_dir());
}
