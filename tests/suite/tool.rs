//! The tool: every command on a small database, as JSON lines; exit codes; and that nothing is written that was not asked for.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::support::{directory, files};
use in_mem::RunStatus;
use in_mem::blocking::prelude::*;
use in_mem::blocking::serde_json::{Value as Json, from_str, json};

const COMMANDS: [&str; 18] = [
    "runs", "show", "timeline", "events", "kv", "state", "json", "trace", "diff", "replay", "verify", "stat", "backup",
    "salvage", "export", "import", "bench", "shell",
];
pub(super) const RUN: RunId = RunId::from_bytes([0xab; 16]);

/// The tool, which has ended.
pub(super) fn tool(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub(super) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_in-mem"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What it printed, when it had to end with this code.
pub(super) fn text(arguments: &[&str], code: i32) -> String {
    let output = tool(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert_eq!(said.is_empty(), code < 2, "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of JSON that it printed.
pub(super) fn lines(arguments: &[&str]) -> Vec<Json> {
    lines_of(&text(arguments, 0))
}

fn lines_of(text: &str) -> Vec<Json> {
    text.lines().map(|line| from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// A run of every primitive, another one that goes another way, and a third that has ended.
fn sample(path: &Path) {
    let database = Database::open(path).unwrap();
    for (id, name, answer) in [(RUN, "nightly", 42), (RunId::from_bytes([0xcd; 16]), "retry", 43)] {
        let options = RunOptions {
            id: Some(id),
            name: Some(name.into()),
            tags: vec!["tagged".into()],
            metadata: Value::from_json(json!({"model": "m"})),
            ..RunOptions::default()
        };
        let run = database.start_run(options).unwrap();
        run.transaction(|txn| {
            txn.kv_put("goal", "fix the bug")?;
            txn.kv_put("answer", answer)?;
            txn.event_append("started", Value::Null)?;
            txn.state_set("phase", "begin")
        })
        .unwrap();
        run.kv().put("goal", "fix it well").unwrap();
        run.kv().put("gone", 1).unwrap();
        run.kv().delete("gone").unwrap();
        run.events().append("finished", answer).unwrap();
        run.states().set("phase", "end").unwrap();
        run.json().create("plan", json!({"steps": ["read", "write"]})).unwrap();
        run.json().set("plan", "/steps/1", "test").unwrap();
        let call = TraceType::ToolCall {
            tool_name: "grep".into(),
            arguments: Value::from_json(json!({"pattern": "TODO", "limit": 3, "bytes": {"$bytes": "00ff"}})),
            result: Some("none".into()),
            duration_ms: Some(7),
        };
        let parent = run.traces().record(call, vec!["search".into()], Value::Null).unwrap();
        let thought = TraceType::Thought { content: "hm".into(), confidence: Some(0.5) };
        run.traces().record_child(&parent, thought, vec![], 1).unwrap();
        run.traces()
            .record(
                TraceType::Error { error_type: "io".into(), message: "lost".into(), recoverable: true },
                vec![],
                Value::Null,
            )
            .unwrap();
    }
    let ended = database.runs().create_run("ended").unwrap();
    database.kv().put(ended.run_id, "k", 1).unwrap();
    database.runs().fail_run("ended", "out of tokens").unwrap();
    database.close().unwrap();
}

/// A directory with a sample in it, and the sample's path.
pub(super) fn with_sample() -> (tempfile::TempDir, String) {
    let directory = directory();
    let path = directory.path().join("agents.db");
    sample(&path);
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn every_command_describes_itself_with_examples() {
    let all = text(&["--help"], 0);
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command} is not listed: {all}");
        let help = text(&[command, "--help"], 0);
        assert!(help.contains("Examples:\n  ") && help.contains(&format!("in-mem {command}")), "{help}");
    }
    assert_eq!(text(&["--version"], 0), format!("in-mem {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn questions_are_answered_in_lines_of_json_and_nothing_is_written() {
    let (_directory, path) = with_sample();
    let path = path.as_str();
    let before = files(Path::new(path));
    let questions: [(&[&str], usize); 17] = [
        (&["runs", path], 3),
        (&["runs", path, "--status", "failed"], 1),
        (&["runs", path, "--tag", "tagged"], 2),
        (&["show", path, "nightly"], 1),
        (&["timeline", path, "nightly"], 15),
        (&["events", path, "nightly"], 2),
        (&["events", path, "nightly", "--type", "started"], 1),
        (&["kv", path, "nightly", "get", "goal"], 1),
        (&["kv", path, "nightly", "list"], 2),
        (&["kv", path, "nightly", "history", "gone"], 2),
        (&["state", path, "nightly"], 1),
        (&["json", path, "nightly"], 1),
        (&["trace", path, "nightly"], 3),
        (&["trace", path, "nightly", "--tree"], 2),
        (&["replay", path, "nightly"], 10),
        (&["verify", path], 1),
        (&["stat", path], 1),
    ];
    for (question, expected) in questions {
        let found = lines(question);
        assert_eq!(found.len(), expected, "{question:?}: {found:?}");
        assert!(found.iter().all(Json::is_object), "{question:?}: {found:?}");
        let again = [question, &["--json"]].concat();
        if question[0] != "stat" {
            assert_eq!(lines(&again), found, "with --json and without a terminal it is the same");
        }
    }
    assert_eq!(files(Path::new(path)), before);
}

#[test]
fn answers_say_what_is_there() {
    let (_directory, path) = with_sample();
    let path = path.as_str();
    let show = &lines(&["show", path, "nightly"])[0];
    let counts = ["keys", "events", "states", "traces", "documents"].map(|name| show[name].as_u64().unwrap());
    assert_eq!(counts, [2, 2, 1, 3, 1]);
    assert_eq!((&show["run"], &show["tags"]), (&json!(RUN), &json!(["tagged"])));
    let goal = &lines(&["kv", path, "nightly", "history", "goal"]);
    assert_eq!(goal.iter().map(|row| &row["value"]).collect::<Vec<_>>(), ["fix the bug", "fix it well"]);
    let first = goal[0]["version"].to_string();
    assert_eq!(lines(&["kv", path, "nightly", "get", "goal", "--at", &first])[0]["value"], "fix the bug");
    assert_eq!(lines(&["state", path, "nightly", "phase", "--at", &first])[0]["value"], "begin");
    let then = lines(&["replay", path, "nightly", "--until", &first]);
    let held = |key: &str| then.iter().find(|row| row["key"] == key).map(|row| &row["value"]);
    assert_eq!((held("goal"), held("phase"), held("plan")), (Some(&json!("fix the bug")), Some(&json!("begin")), None));
    let tree = lines(&["trace", path, "nightly", "--tree"]);
    assert_eq!(tree[0]["children"][0]["trace"], json!({"Thought": {"content": "hm", "confidence": 0.5}}));
    assert_eq!(lines(&["json", path, "nightly", "plan", "--query", "$.steps[1]"]), ["test"]);
    let versions: Vec<u64> =
        lines(&["timeline", path, "nightly"]).iter().map(|line| line["version"].as_u64().unwrap()).collect();
    assert!(versions.is_sorted() && versions.contains(&goal[1]["version"].as_u64().unwrap()));
    let stat = &lines(&["stat", path])[0];
    assert_eq!((&stat["runs"], &stat["keys"], &stat["closed_cleanly"]), (&json!(3), &json!(5), &json!(true)));
    assert!(stat["log_bytes"].as_u64().unwrap() > 4096 && stat["writer"].is_null());
}

#[test]
fn a_run_is_found_by_its_name_its_id_and_a_part_of_it() {
    let (_directory, path) = with_sample();
    let id = RUN.to_string();
    for which in ["nightly", &id, &id[..8], &id[30..], "ABAB"] {
        assert_eq!(lines(&["show", &path, which])[0]["name"], "nightly", "{which}");
    }
    for which in ["aba", "nobody", "abcd"] {
        let output = tool(&["show", &path, which]);
        assert_eq!(output.status.code(), Some(2), "{which}");
        assert!(String::from_utf8(output.stderr).unwrap().contains(which));
    }
}

#[test]
fn a_difference_and_damage_are_findings() {
    let (_directory, path) = with_sample();
    assert_eq!(lines(&["diff", &path, "nightly", "nightly"])[0]["modified"], json!([]));
    let diff = lines_of(&text(&["diff", &path, "nightly", "retry"], 1));
    assert!(diff[0].to_string().contains("answer"), "{diff:?}");
    let segment = &crate::support::segments(Path::new(&path))[0];
    let mut bytes = std::fs::read(segment).unwrap();
    bytes[4096 + 80] ^= 1;
    std::fs::write(segment, bytes).unwrap();
    let found = lines_of(&text(&["verify", &path], 1));
    assert!(found[0]["what"].as_str().unwrap().contains(segment.to_str().unwrap()), "{found:?}");
    assert!(tool(&["runs", &path]).status.code() == Some(3));
    let rescued = format!("{path}.rescued");
    let report = lines_of(&text(&["salvage", &path, &rescued], 1));
    assert!(report[0]["whole"] == false && report[0]["damage"].as_array().unwrap().len() == 1, "{report:?}");
    assert!(lines(&["runs", &rescued]).len() <= 3);
}

#[test]
fn wrong_usage_and_what_cannot_be_read_have_codes_of_their_own() {
    let (directory, path) = with_sample();
    for wrong in [&[][..], &["frobnicate"], &["show", &path], &["kv", &path, "nightly", "get", "nothing"]] {
        let output = tool(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{wrong:?}");
    }
    let file = directory.path().join("file");
    std::fs::write(&file, "no database").unwrap();
    let other_format = directory.path().join("other.db");
    std::fs::create_dir_all(other_format.join("log")).unwrap();
    let mut manifest = std::fs::read(Path::new(&path).join("MANIFEST")).unwrap();
    manifest[8] += 1;
    std::fs::write(other_format.join("MANIFEST"), manifest).unwrap();
    let nothing = directory.path().join("nothing");
    let cases = [
        (nothing.clone(), "there is no database to read here"),
        (file, "a database is a directory"),
        (other_format, "written by a newer version"),
    ];
    for (path, what) in cases {
        let output = tool(&["runs", path.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(what) && said.contains(path.to_str().unwrap()), "{said}");
    }
    assert!(!nothing.exists());
}

#[test]
fn who_asks_wrongly_is_told_what_there_is() {
    let (directory, path) = with_sample();
    let other = directory.path().join("other.jsonl");
    std::fs::write(&other, "{\n}\n").unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&["kv", &path, "nightly", "get", "nothing"], "`in-mem kv PATH RUN list` lists"),
        (&["kv", &path, "nightly", "history", "nothing"], "`in-mem kv PATH RUN list` lists"),
        (&["state", &path, "nightly", "nothing"], "without a name all are shown"),
        (&["json", &path, "nightly", "nothing"], "without a key all are shown"),
        (&["show", &path, "nothing"], "`in-mem runs` lists"),
        (&["runs", &path, "--status", "done"], "completed, failed"),
        (&["trace", &path, "nightly", "--kind", "Tool"], "ToolCall, Decision"),
        (&["import", &path, other.to_str().unwrap()], "not what `in-mem export --jsonl` writes: line 1"),
    ];
    for (arguments, what) in cases {
        let output = tool(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(what) && output.stdout.is_empty(), "{arguments:?}: {said}");
    }
    let kinds = |kind: &str| lines(&["trace", &path, "nightly", "--kind", kind]).len();
    assert!(kinds("toolcall") > 0 && kinds("toolcall") == kinds("ToolCall"));
}

#[test]
fn who_reads_what_is_damaged_is_told_to_salvage_it() {
    let (_directory, path) = with_sample();
    let said = || {
        let output = tool(&["runs", &path]);
        assert_eq!(output.status.code(), Some(3));
        String::from_utf8(output.stderr).unwrap()
    };
    let segment = &crate::support::segments(Path::new(&path))[0];
    let mut bytes = std::fs::read(segment).unwrap();
    bytes[4096 + 80] ^= 1;
    std::fs::write(segment, bytes).unwrap();
    assert!(said().contains("salvage"), "{}", said());
    std::fs::remove_file(Path::new(&path).join("MANIFEST")).unwrap();
    assert!(said().contains("the manifest is missing") && said().contains("salvage"), "{}", said());
    std::fs::remove_dir_all(Path::new(&path).join("log")).unwrap();
    assert!(said().contains("give the directory of one"), "{}", said());
}

/// As somebody who may write nowhere, if that can be had: who is root is made nobody. `None` if the tool cannot be reached then.
pub(super) fn as_reader(arguments: &[&str]) -> Option<Output> {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    let mut command = command(arguments);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().ok()
}

#[test]
fn who_may_only_read_can_look_and_who_may_not_is_told() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let (directory, path) = with_sample();
    let permit = |path: &Path, mode: u32| set_permissions(path, Permissions::from_mode(mode)).unwrap();
    permit(directory.path(), 0o755);
    let database = Database::open(&path).unwrap();
    for entry in [Path::new(&path).to_owned()].into_iter().chain(files(Path::new(&path)).into_keys()) {
        permit(&entry, if entry.is_dir() { 0o555 } else { 0o444 });
    }
    let Some(looked) = as_reader(&["runs", &path]) else {
        println!("skipped: another user cannot start the tool here");
        return;
    };
    assert_eq!(looked.status.code(), Some(0), "{}", String::from_utf8_lossy(&looked.stderr));
    assert_eq!(lines_of(&String::from_utf8(looked.stdout).unwrap()).len(), 3);
    permit(Path::new(&path), 0o000);
    let refused = as_reader(&["runs", &path]).unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.to_lowercase().contains("permission denied") && said.contains(&path), "{said}");
    permit(Path::new(&path), 0o755);
    drop(database);
}

#[test]
fn a_backup_and_a_salvage_are_databases() {
    let (_directory, path) = with_sample();
    let (copy, rescued) = (format!("{path}.copy"), format!("{path}.rescued"));
    assert!(lines(&["backup", &path, &copy])[0]["keys"].as_u64().unwrap() > 0);
    assert_eq!(lines(&["runs", &copy]), lines(&["runs", &path]));
    assert_eq!(tool(&["backup", &path, &copy]).status.code(), Some(3), "it needs a place of its own");
    assert_eq!(lines(&["salvage", &path, &rescued])[0]["whole"], true);
    assert_eq!(lines(&["replay", &rescued, "nightly"]), lines(&["replay", &path, "nightly"]));
}

/// What a run holds, without what a new commit is given anew.
fn held(path: &str, run: &str) -> Vec<Json> {
    let mut rows = lines(&["replay", path, run]);
    for row in &mut rows {
        let primitive = row["primitive"].clone();
        if primitive == "traces" {
            row["key"].take();
        }
        if let Some(value) = row["value"].as_object_mut().filter(|_| primitive == "traces" || primitive == "runs") {
            for name in ["id", "parent", "timestamp", "created_at", "updated_at", "completed_at"] {
                value.remove(name);
            }
        }
    }
    rows
}

#[test]
fn what_was_exported_can_be_imported() {
    let (directory, path) = with_sample();
    let to = directory.path().join("imported.db");
    let to = to.to_str().unwrap();
    let database = Database::open(&path).unwrap();
    let fork = database.fork_run(RUN, None, "fork").unwrap();
    fork.kv().put("goal", "another one").unwrap();
    database.runs().add_tags("fork", vec!["forked".into()]).unwrap();
    database.runs().pause_run("fork").unwrap();
    database.close().unwrap();
    for run in ["nightly", "fork", "ended"] {
        let file = directory.path().join(format!("{run}.jsonl"));
        let file = file.to_str().unwrap();
        assert_eq!(text(&["export", &path, run, "--output", file], 0), "");
        assert_eq!(tool(&["export", &path, run, "--output", file]).status.code(), Some(3), "it is there already");
        assert_eq!(std::fs::read_to_string(file).unwrap(), text(&["export", &path, run, "--jsonl"], 0));
        lines(&["import", to, file]);
        assert_eq!(held(to, run), held(&path, run));
        let refused = tool(&["import", to, file]);
        assert_eq!(refused.status.code(), Some(2), "the run is there already");
    }
    assert_eq!(lines(&["runs", to, "--status", "failed"])[0]["name"], "ended");
    assert_eq!(lines(&["show", to, "ended"])[0]["error"], "out of tokens");
    assert_eq!(lines(&["show", to, "fork"])[0]["parent"], json!(RUN));
    let tree = lines(&["trace", to, "nightly", "--tree"]);
    assert_eq!(tree[0]["children"].as_array().unwrap().len(), 1, "traces keep their parents");
    assert_eq!(lines(&["verify", to])[0]["sound"], true);
    let cut_off = directory.path().join("cut-off.jsonl");
    let whole = text(&["export", &path, "retry"], 0);
    std::fs::write(&cut_off, whole.lines().take(3).collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(tool(&["import", to, cut_off.to_str().unwrap()]).status.code(), Some(2));
    assert_eq!(lines(&["runs", to]).len(), 3, "nothing of it was written");
}

#[test]
fn what_has_expired_does_not_come_back_by_an_import() {
    let directory = directory();
    let (from, to) = (directory.path().join("from.db"), directory.path().join("to.db"));
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    let database = Database::open(from).unwrap();
    let run = database.start_run(RunOptions { name: Some("run".into()), ..RunOptions::default() }).unwrap();
    run.kv().put("kept", 1).unwrap();
    run.kv().put_with_ttl("expires", 1, std::time::Duration::from_millis(1)).unwrap();
    database.close().unwrap();
    let mut import = command(&["import", to, "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
    import.stdin.take().unwrap().write_all(text(&["export", from, "run"], 0).as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
    assert_eq!(lines(&["kv", to, "run", "list"]), [json!({"key": "kept", "value": 1})]);
}

#[test]
fn traces_are_exported_as_spans() {
    let (_directory, path) = with_sample();
    let document = &lines(&["export", &path, "nightly", "--otlp-json"])[0];
    let resource = &document["resourceSpans"][0];
    let name = resource["resource"]["attributes"].as_array().unwrap().iter().find(|one| one["key"] == "service.name");
    assert_eq!(name.unwrap()["value"], json!({"stringValue": "in-mem"}));
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 4, "the run and its traces");
    let is_hex = |id: &Json, digits: usize| {
        let id = id.as_str().unwrap();
        id.len() == digits && id.bytes().all(|digit| digit.is_ascii_hexdigit()) && id.bytes().any(|digit| digit != b'0')
    };
    let nanoseconds = |span: &Json, name: &str| -> u64 { span[name].as_str().unwrap().parse().unwrap() };
    let ids: Vec<&Json> = spans.iter().map(|span| &span["spanId"]).collect();
    for span in spans {
        assert!(is_hex(&span["traceId"], 32) && is_hex(&span["spanId"], 16), "{span}");
        assert_eq!((&span["traceId"], &span["kind"]), (&spans[0]["traceId"], &json!(1)));
        assert!(nanoseconds(span, "startTimeUnixNano") <= nanoseconds(span, "endTimeUnixNano"));
        assert!(span.get("parentSpanId").is_none_or(|parent| ids.contains(&parent)), "{span}");
    }
    let [root, call, thought, error] = &spans[..] else { unreachable!("there are four") };
    assert_eq!((root.get("parentSpanId"), &root["name"]), (None, &json!("nightly")));
    assert_eq!(root["events"].as_array().unwrap().len(), 2);
    assert_eq!((&call["parentSpanId"], &thought["parentSpanId"]), (&root["spanId"], &call["spanId"]));
    assert_eq!(nanoseconds(call, "endTimeUnixNano") - nanoseconds(call, "startTimeUnixNano"), 7_000_000);
    assert_eq!(
        (&error["status"], &call["name"]),
        (&json!({"code": 2, "message": "lost"}), &json!("execute_tool grep"))
    );
    let arguments =
        call["attributes"].as_array().unwrap().iter().find(|one| one["key"] == "gen_ai.tool.call.arguments");
    let limit = json!({"key": "limit", "value": {"intValue": "3"}});
    assert!(arguments.unwrap()["value"]["kvlistValue"]["values"].as_array().unwrap().contains(&limit), "{arguments:?}");
}

/// A child that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn events_are_followed_while_another_process_writes() {
    let directory = directory();
    let path = directory.path().to_str().unwrap();
    let database = Database::open(path).unwrap();
    let run = database.start_run(RunOptions { name: Some("live".into()), ..RunOptions::default() }).unwrap();
    run.events().append("tick", 0).unwrap();
    let mut follow = Killed(command(&["events", path, "live", "--follow"]).stdout(Stdio::piped()).spawn().unwrap());
    let mut seen = BufReader::new(follow.0.stdout.take().unwrap()).lines();
    for number in 0_u64..3 {
        let event: Json = from_str(&seen.next().expect("it goes on").unwrap()).unwrap();
        assert_eq!((&event["sequence"], &event["payload"]), (&json!(number), &json!(number)));
        run.events().append("tick", number + 1).unwrap();
    }
    let stat = &lines(&["stat", path])[0];
    assert!(stat["writer"].as_str().unwrap().contains(&std::process::id().to_string()), "{stat}");
    let salvage = tool(&["salvage", path, &format!("{path}.rescued")]);
    assert_eq!(salvage.status.code(), Some(3), "what is written to is not salvaged");
    assert_eq!(database.runs().get_run("live").unwrap().unwrap().status, RunStatus::Active);
    database.close().unwrap();
}

#[test]
fn a_shell_answers_line_by_line() {
    let (_directory, path) = with_sample();
    let ask = |input: &str| {
        let mut shell = command(&["shell", &path]);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may have ended before it has read everything.
        let _ = shell.stdin.take().unwrap().write_all(input.as_bytes());
        let output = shell.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, answers) = ask("kv nightly get 'goal'\n\nreload\nkv retry get answer\nexit\nruns\n");
    let answers: Vec<Json> = lines_of(&answers).into_iter().map(|answer| answer["value"].clone()).collect();
    assert_eq!((code, answers), (Some(0), vec![json!("fix it well"), json!(43)]));
    assert_eq!(ask("kv nightly get nothing\nruns\n"), (Some(2), String::new()), "the first failure ends it");
    assert_eq!(ask("diff nightly retry\n").0, Some(1));
    assert!(ask("help kv").1.contains("<RUN>"));
}

#[test]
fn a_bench_measures_every_mode() {
    let directory = directory();
    let rows =
        lines(&["bench", "--seconds", "0.05", "--shards", "1", "--directory", directory.path().to_str().unwrap()]);
    let measured: Vec<_> =
        rows.iter().map(|row| (row["mode"].as_str().unwrap(), row["operation"].as_str().unwrap())).collect();
    let expected = ["in_memory", "buffered", "strict"].map(|mode| [(mode, "put"), (mode, "get")]).concat();
    assert_eq!(measured, expected);
    for row in &rows {
        let [p50, p999, max] = ["p50_us", "p99.9_us", "max_us"].map(|name| row[name].as_f64().unwrap());
        assert!(row["count"].as_u64().unwrap() > 0 && 0.0 < p50 && p50 <= p999 && p999 <= max, "{row}");
    }
    assert!(files(directory.path()).is_empty(), "its database is gone");
}

#[test]
fn a_bench_asks_at_a_rate() {
    let directory = directory();
    let path = directory.path().to_str().unwrap();
    let rows = lines(&["bench", "--seconds", "0.2", "--rate", "100", "--clients", "2", "--directory", path]);
    assert_eq!(rows.len(), 6);
    for row in &rows {
        assert!((1..=20).contains(&row["count"].as_u64().unwrap()), "20 questions are meant to be asked: {row}");
    }
}

#[test]
fn nobody_who_stops_reading_is_a_failure() {
    let (_directory, path) = with_sample();
    let mut child =
        command(&["timeline", &path, "nightly"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}
