//! The page that `export --html` writes: what is in it, and what somebody sees of it in a browser.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::browser::Browser;
use in_mem::blocking::prelude::*;
use in_mem::blocking::serde_json::{self, Value as Json, json};
use in_mem::blocking::{Change, ReplayView, TraceType};

const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 20, max_pending_writes: 1000 };
/// What must stay text, wherever it is put.
const NASTY: &str = "</script><script>document.title = 'broken out'</script><!--";

/// A database in a directory of its own, in which the pages are as well.
struct Place {
    directory: tempfile::TempDir,
    db: Database,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_| tempfile::tempdir()).unwrap();
        let db = Database::open_with_mode(directory.path().join("db"), BUFFERED).unwrap();
        Self { directory, db }
    }

    /// The page of a run, and of another beside it, as the tool writes it.
    fn export(&self, run: RunId, with: Option<RunId>) -> PathBuf {
        self.db.flush().unwrap();
        let file = self.directory.path().join(format!("{run}{}.html", if with.is_some() { "-pair" } else { "" }));
        let mut command = Command::new(env!("CARGO_BIN_EXE_in-mem"));
        command.arg("export").arg(self.directory.path().join("db")).arg(run.to_string()).arg("--html");
        command.args(with.map(|with| ["--with".into(), with.to_string()]).into_iter().flatten());
        let output = command.arg("--output").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        file
    }
}

/// A run of an agent that searches, thinks, fails now and then, and writes down what it found. `surprise`: the step from which
/// on it finds something else.
fn record(db: &Database, name: &str, steps: u64, surprise: u64) -> RunId {
    let options = RunOptions {
        name: Some(name.into()),
        tags: vec!["nightly".into(), "billing".into()],
        metadata: json!({"model": "example-1", "temperature": 0.2, "note": NASTY}).into(),
        ..RunOptions::default()
    };
    let run = db.start_run(options).unwrap();
    run.kv().put(NASTY, NASTY).unwrap();
    run.json().create("plan", json!({"goal": "find out why invoices are late", "steps": [], "open": 3})).unwrap();
    run.kv().put("precise", i64::MAX).unwrap();
    let mut task = String::new();
    for step in 0..steps {
        if step.is_multiple_of(10) {
            let question = format!("What next, after {step} steps?");
            let options = vec!["search the log".into(), "read the code".into(), "ask".into()];
            let (chosen, reasoning) = ("search the log".into(), Some("the last change was on Friday".into()));
            let decision = TraceType::Decision { question, options, chosen, reasoning };
            task = run.traces().record(decision, vec!["plan".into()], Value::Null).unwrap();
        }
        act(&run, &task, step, step >= surprise);
    }
    run.kv().delete("precise").unwrap();
    run.end().unwrap();
    run.id()
}

fn act(run: &RunHandle, task: &str, step: u64, surprised: bool) {
    let found = if surprised { "nothing" } else { "three late batches" };
    let content = format!("Batch {step} looks slow.\nIs it the lock on `invoices`, or the disk?");
    run.transaction(|txn| {
        let thought = TraceType::Thought { content: content.clone(), confidence: Some(0.75) };
        let thought = txn.trace_record_child(task, thought, Value::Null)?;
        let call = TraceType::ToolCall {
            tool_name: if step.is_multiple_of(3) { "search_log" } else { "read_file" }.into(),
            arguments: json!({"query": format!("batch {step}"), "limit": 20}).into(),
            result: (step % 7 != 6).then(|| found.into()),
            duration_ms: Some(1 + step % 5),
        };
        txn.trace_record_child(&thought, call, Value::Null)?;
        if step % 13 == 12 {
            let message = format!("no answer after {step} s");
            let error = TraceType::Error { error_type: "Timeout".into(), message, recoverable: step.is_multiple_of(2) };
            txn.trace_record_child(&thought, error, json!({"attempt": 2}))?;
        }
        txn.event_append("tool_called", json!({"step": step, "found": found, "note": NASTY}))?;
        txn.kv_put("last/found", found)?;
        txn.kv_put(format!("batch/{:05}", step % 1000), json!({"seen": step, "late": step.is_multiple_of(4)}))?;
        txn.state_set("phase", ["searching", "reading", "asking"][(step / 5 % 3) as usize])?;
        if step >= 50 {
            txn.json().delete_at("plan", "/steps/0")?;
        }
        txn.json().array_push("plan", "/steps", json!({"step": step, "found": found}))?;
        txn.json().set("plan", "/open", step)?;
        Ok(())
    })
    .unwrap();
}

/// What a page was given to show, and the page without it.
fn content_of(file: &Path) -> (Json, String) {
    const BEGINNING: &str = "<script type=\"application/json\" id=\"content\">";
    let page = std::fs::read_to_string(file).unwrap();
    let (before, rest) = page.split_once(BEGINNING).unwrap();
    let (content, behind) = rest.split_once("</script>").unwrap();
    (serde_json::from_str(content).unwrap(), format!("{before}{behind}"))
}

/// What holds something at one moment, as the text of its JSON.
fn pairs_of(view: &ReplayView) -> BTreeMap<String, String> {
    view.kv().list_with_values(None).unwrap().into_iter().map(|(key, value)| (key, value.to_string())).collect()
}

fn states_of(view: &ReplayView) -> BTreeMap<String, String> {
    let states = view.states();
    let read = |name: String| {
        let state = states.read(&name).unwrap().unwrap();
        (name, state.value.to_string())
    };
    states.list().unwrap().into_iter().map(read).collect()
}

/// A browser, or a word on why the test has nothing to do.
fn browser() -> Option<Browser> {
    let browser = Browser::start();
    if browser.is_none() {
        eprintln!("skipped: there is no browser; CHROME may name one");
    }
    browser
}

#[test]
fn the_page_holds_everything_and_asks_for_nothing() {
    let place = Place::new();
    let run = record(&place.db, NASTY, 20, u64::MAX);
    let (content, page) = content_of(&place.export(run, None));
    let story = &content["runs"][0];
    assert_eq!((&story["id"], &story["about"]["name"]), (&json!(run.to_string()), &json!(NASTY)));
    assert_eq!(story["chain"]["is_valid"], true);
    let view = place.db.replay_run(run).unwrap();
    let (mut pairs, mut events, mut traces) = (BTreeMap::new(), Vec::new(), Vec::new());
    assert_eq!(story["commits"].as_array().unwrap().len(), view.steps().len());
    for (commit, step) in story["commits"].as_array().unwrap().iter().zip(view.steps()) {
        assert_eq!(commit["version"], step.version.to_string());
        for (key, value) in commit["kv"].as_object().into_iter().flatten() {
            match value.as_str() {
                Some(value) => drop(pairs.insert(key.clone(), value.to_owned())),
                None => drop(pairs.remove(key)),
            }
        }
        assert_eq!(pairs, pairs_of(&place.db.replay_run_until(run, step.version).unwrap()));
        for change in step.changes {
            match change {
                Change::Event(event) => events.push((json!(event.event_type), json!(event.payload.to_string()))),
                Change::Trace(trace) => traces.push((json!(trace.id), json!(trace.trace_type.kind()))),
                _ => {}
            }
        }
    }
    let both = |list: &str, names: [&str; 2]| -> Vec<_> {
        story[list].as_array().unwrap().iter().map(|item| (item[names[0]].clone(), item[names[1]].clone())).collect()
    };
    assert_eq!(both("events", ["type", "payload"]), events);
    assert_eq!(both("traces", ["id", "kind"]), traces);
    assert_eq!((events.len(), traces.len()), (20, 43));
    // Of what the run holds, nothing got out of its element; of what is left, nothing names another file.
    assert!(!page.contains("broken out"));
    for address in [
        "http:",
        "https:",
        "//www",
        "src=",
        "href=",
        "@import",
        "url(",
        "fetch(",
        "XMLHttpRequest",
        "WebSocket",
        "import(",
    ] {
        assert!(!page.contains(address), "{address}");
    }
}

#[test]
fn a_browser_shows_what_the_run_held_at_every_commit() {
    let place = Place::new();
    let run = record(&place.db, NASTY, 20, u64::MAX);
    let file = place.export(run, None);
    let Some(mut browser) = browser() else { return };
    browser.look(1280, 2400, false);
    browser.open(&file);
    let view = place.db.replay_run(run).unwrap();
    assert_eq!(browser.text("document.title"), format!("{NASTY} · in-mem"));
    assert_eq!(browser.text("document.getElementById('chain').textContent"), "chain verified · 20 events");
    // From the first commit on, by the button; the state is read from what is there to see.
    browser.value("document.getElementById('commit').focus()");
    browser.press("Home");
    for (at, step) in view.steps().enumerate() {
        if at > 0 {
            browser.click("#next");
        }
        let then = place.db.replay_run_until(run, step.version).unwrap();
        let position = browser.text("document.getElementById('position').textContent");
        assert!(position.starts_with(&format!("commit {} of {} · ", at + 1, view.steps().len())), "{position}");
        browser.click("#primitives :nth-child(1)");
        assert_eq!(shown(&mut browser), pairs_of(&then), "pairs after commit {at}");
        browser.click("#primitives :nth-child(2)");
        assert_eq!(shown(&mut browser), states_of(&then), "states after commit {at}");
        let document = browser.text("write(view.run.primitives.json.get('plan')?.at(view.at) ?? null)");
        let held = then.json().get("plan", "").unwrap().unwrap_or_default();
        assert_eq!(serde_json::from_str::<Json>(&document).unwrap(), held, "document after commit {at}");
    }
    // A document is looked at, and what the commit changed in it is marked.
    browser.click("#previous");
    browser.value("document.activeElement.blur()");
    browser.press("ArrowLeft");
    browser.click("#primitives :nth-child(3)");
    assert_eq!(browser.text("document.getElementById('detail-title').textContent"), "plan");
    let marked =
        browser.value("[...document.querySelectorAll('#detail-body .changed')].map((place) => place.textContent)");
    assert_eq!(marked[1], "open: 19", "{marked}");
    // A span says what it is, and leads to its commit.
    browser.click("#spans .row:nth-child(2)");
    assert_eq!(browser.text("document.getElementById('detail-title').textContent"), "Thought");
    assert!(browser.text("document.getElementById('detail-body').textContent").contains("Batch 0 looks slow"));
    assert_eq!(browser.value("view.at"), 5);
    browser.click("#close");
    assert_eq!(browser.text("document.getElementById('detail-title').textContent"), "What commit 6 did");
    browser.value("showChain(document.getElementById('chain'), { is_valid: false, length: 20, first_invalid: 3 })");
    assert_eq!(browser.text("document.getElementById('chain').textContent"), "chain broken at 3 · 20 events");
    browser.value("showAbout()");
    assert_eq!(browser.value("document.scripts.length"), 2);
    assert_eq!(browser.addresses, [format!("file://{}", file.display())]);
    save(&mut browser, "run");
    browser.look(400, 900, true);
    assert_eq!(
        browser.value("(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)(document.documentElement)"),
        0
    );
    save(&mut browser, "narrow");
}

/// The keys and values in the list of the state; of long ones, the beginning. What the commit emptied is not among them.
fn shown(browser: &mut Browser) -> BTreeMap<String, String> {
    let rows = "[...document.querySelectorAll('#entries .row:not(.gone)')].map((row) => [...row.children].map((cell) => cell.textContent))";
    serde_json::from_value::<Vec<(String, String)>>(browser.value(rows)).unwrap().into_iter().collect()
}

/// Keeps what the window shows, for people to look at.
fn save(browser: &mut Browser, name: &str) {
    let picture = browser.screenshot();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{} bytes", picture.len());
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}.png")), picture).unwrap();
}

#[test]
fn a_pair_that_expired_is_gone_from_the_next_commit_on() {
    let place = Place::new();
    let run = place.db.start_run(RunOptions::default()).unwrap();
    run.kv().put_with_ttl("lease", "mine", Duration::from_millis(30)).unwrap();
    run.kv().put("work", 1).unwrap();
    std::thread::sleep(Duration::from_millis(40));
    run.kv().put("work", 2).unwrap();
    let (content, _) = content_of(&place.export(run.id(), None));
    let commits = content["runs"][0]["commits"].as_array().unwrap();
    let leases: Vec<_> = commits.iter().map(|commit| commit["kv"].get("lease").cloned()).collect();
    assert_eq!(leases, [None, Some(json!("\"mine\"")), None, Some(Json::Null)]);
}

#[test]
fn a_browser_shows_two_runs_side_by_side_from_where_they_parted() {
    let place = Place::new();
    let [a, b] = [("nightly", u64::MAX), ("retry", 25)].map(|(name, surprise)| record(&place.db, name, 40, surprise));
    let file = place.export(a, Some(b));
    let Some(mut browser) = browser() else { return };
    browser.look(1280, 900, true);
    browser.open(&file);
    let parting = place.db.diff_runs(a, b).unwrap().divergence.unwrap();
    let row = "document.querySelector('#rows .divergence')";
    assert_eq!(browser.value(&format!("Number({row}.dataset.at)")), parting.index);
    let in_sight = format!(
        "(() => {{ const [row, box] = [{row}, {row}.closest('.list')].map((it) => it.getBoundingClientRect());
        return box.top <= row.top && row.bottom <= box.bottom; }})()"
    );
    assert_eq!(browser.value(&in_sight), true);
    let sides = browser.value(&format!("[...{row}.children].map((side) => side.textContent)"));
    assert!(sides[0].as_str().unwrap().contains("three late batches"), "{sides}");
    assert!(sides[1].as_str().unwrap().contains("nothing"), "{sides}");
    save(&mut browser, "difference");
    // The step leads to the run as it was then.
    browser.click("#side-b .link");
    assert_eq!(browser.text("document.getElementById('name').textContent"), "retry");
    assert_eq!(browser.value("view.at"), parting.index);
    browser.click("#views :nth-child(3)");
    assert_eq!(browser.value("document.getElementById('difference').hidden"), false);
}

#[test]
fn a_fork_is_beside_what_its_parent_did_until_then() {
    let place = Place::new();
    let parent = record(&place.db, "parent", 10, u64::MAX);
    let at = place.db.replay_run(parent).unwrap().steps().nth(7).unwrap().version;
    let child = place.db.fork_run(parent, Some(at), "child").unwrap();
    child.kv().put("last/found", "something else").unwrap();
    let (content, _) = content_of(&place.export(parent, Some(child.id())));
    let comparison = &content["comparison"];
    assert_eq!(comparison["divergence"], 8);
    let rows: Vec<_> =
        comparison["rows"].as_array().unwrap().iter().map(|row| (row["a"].as_u64(), row["b"].as_u64())).collect();
    assert_eq!(rows[6..10], [(Some(6), None), (Some(7), Some(0)), (Some(8), Some(1)), (Some(9), None)]);
    assert_eq!(content["runs"][1]["about"]["parent"]["name"], "parent");
}

/// A version, and the pairs, states and documents at it.
type Held = (String, BTreeMap<String, String>, BTreeMap<String, String>, BTreeMap<String, String>);

/// What comes, changes, goes and comes again, in any order of looking at it; in a run that nobody began.
#[test]
fn a_browser_rebuilds_what_was_deleted_and_made_again() {
    let place = Place::new();
    let run = place.db.run(RunId::new());
    let mut seed = 7_u32;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) as usize % below
    };
    for step in 0..700_u64 {
        let [key, path, choice] = [next(5) / 4, next(3), next(12)];
        let (key, path) = (format!("key {key}"), ["/a~1b", "/list/0", "/list/1/x"][path]);
        let whole =
            json!({"a/b": step, "list": [step, 1.0, -0.5, u64::MAX, {"<": [null, "\u{2028}\n\"#"]}], "#": "#1"});
        run.transaction(|txn| match choice {
            0 => txn.json().delete(&key).map(drop),
            1 => txn.states().delete(&key).map(drop),
            2 => txn.kv_delete(&key).map(drop),
            3 => txn.kv_put(&key, whole.clone()),
            4 => txn.state_set(&key, f64::NAN).map(drop),
            _ if !txn.json().exists(&key)? => txn.json().create(&key, whole.clone()).map(drop),
            5 => txn.json().delete_at(&key, "/list/0").map(drop),
            6 => txn.json().set(&key, "", whole.clone()).map(drop),
            7 | 8 => txn.json().array_push(&key, "/list", step).map(drop),
            _ => txn
                .json()
                .set(&key, path, if step.is_multiple_of(5) { whole.clone() } else { step.into() })
                .map(drop)
                .or(Ok(())),
        })
        .unwrap();
    }
    let file = place.export(run.id(), None);
    let Some(mut browser) = browser() else { return };
    browser.look(1280, 900, false);
    browser.open(&file);
    assert_eq!(browser.text("document.getElementById('name').textContent"), run.id().to_string());
    // Out of order, so that what is kept from one look to the next is put to the test.
    let held = "view.run.commits.map((_, at) => (at * 389) % view.run.commits.length).map((at) => {
        const { kv, states, json } = view.run.primitives;
        const all = (histories, text) => Object.fromEntries([...histories].filter(([, it]) => it.holdsAt(at)).map(([key, it]) => [key, text(it.at(at))]));
        return [view.run.commits[at].version, all(kv, (value) => value), all(states, ({ value }) => value), all(json, write)]; })";
    let held: Vec<Held> = serde_json::from_value(browser.value(held)).unwrap();
    assert!(held.len() > 400, "{} commits", held.len());
    for (version, pairs, states, documents) in held {
        let then = place.db.replay_run_until(run.id(), Version::from(version.parse::<u64>().unwrap())).unwrap();
        assert_eq!((pairs, states), (pairs_of(&then), states_of(&then)), "at {version}");
        let documents: BTreeMap<String, Json> =
            documents.iter().map(|(key, text)| (key.clone(), serde_json::from_str(text).unwrap())).collect();
        let json = then.json();
        let read = |key: String| (key.clone(), json.get(&key, "").unwrap().unwrap());
        assert_eq!(documents, json.list(None).unwrap().into_iter().map(read).collect(), "at {version}");
    }
}

/// A long run: what is looked at is there soon, and the document holds no more than what is in sight.
#[test]
fn a_browser_shows_a_run_of_many_steps() {
    const STEPS: u64 = 20_000;
    let place = Place::new();
    let run = record_briefly(&place.db, STEPS);
    let file = place.export(run, None);
    println!("{STEPS} steps: {} bytes", file.metadata().unwrap().len());
    let Some(mut browser) = browser() else { return };
    browser.look(1280, 900, false);
    let start = Instant::now();
    browser.open(&file);
    println!("open in {:?}", start.elapsed());
    let steps = "(() => { const times = []; for (let at = 0; at < 50; at += 1) { const start = performance.now();
        showCommit((at * 7919) % 20000); document.body.getBoundingClientRect(); times.push(performance.now() - start); }
        return times.sort((a, b) => a - b); })()";
    let times = browser.value(steps);
    println!("a step of the scrubber takes {} ms, at most {} ms", times[25], times[49]);
    assert!(times[25].as_f64().unwrap() < 1000.0, "{times}");
    browser.value("showCommit(12344)");
    browser.click("#next");
    assert_eq!(browser.text("document.querySelector('#events .now .place').textContent"), "12344");
    let version = place.db.replay_run(run).unwrap().steps().nth(12_345).unwrap().version;
    let then = place.db.replay_run_until(run, version).unwrap();
    let held = shown(&mut browser);
    let pairs = pairs_of(&then);
    assert!(held.len() > 5 && held.iter().all(|(key, value)| pairs.get(key) == Some(value)), "{held:?}");
    let elements = browser.value("document.getElementsByTagName('*').length").as_u64().unwrap();
    assert!(elements < 2_000, "{elements} elements");
    save(&mut browser, "many-steps");
}

/// A long run of small steps.
fn record_briefly(db: &Database, steps: u64) -> RunId {
    let run = db.start_run(RunOptions::default()).unwrap();
    for step in 0..steps {
        run.transaction(|txn| {
            let call = TraceType::ToolCall {
                tool_name: "read_file".into(),
                arguments: json!({"path": format!("src/{step}.rs")}).into(),
                result: Some("ok".into()),
                duration_ms: Some(step % 20),
            };
            txn.trace_record(call, Value::Null)?;
            txn.event_append("tool_called", json!({"step": step}))?;
            txn.kv_put(format!("file/{:05}", step % 5_000), step)?;
            txn.state_set("phase", step / 100)
        })
        .unwrap();
    }
    run.id()
}
