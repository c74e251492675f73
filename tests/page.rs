//! The page that `export --html` writes: what is in it, and what somebody sees of it in a browser.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/browser.rs"]
mod browser;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use browser::Browser;
use in_mem::blocking::prelude::*;
use in_mem::blocking::serde_json::{self, Value as Json, json};

const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 20, max_pending_writes: 1000 };
const NASTY: &str = "</script><script>document.title = 'broken out'</script><!--";

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
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
    run.json().create("plan", json!({"goal": "find out why invoices are late", "steps": [], "open": 3})).unwrap();
    run.kv().put("precise", i64::MAX).unwrap();
    let mut task = String::new();
    for step in 0..steps {
        if step % 10 == 0 {
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
            tool_name: if step % 3 == 0 { "search_log" } else { "read_file" }.into(),
            arguments: json!({"query": format!("batch {step}"), "limit": 20}).into(),
            result: (step % 7 != 6).then(|| found.into()),
            duration_ms: Some(1 + step % 5),
        };
        txn.trace_record_child(&thought, call, Value::Null)?;
        if step % 13 == 12 {
            let message = format!("no answer after {step} s");
            let error = TraceType::Error { error_type: "Timeout".into(), message, recoverable: step % 2 == 0 };
            txn.trace_record_child(&thought, error, json!({"attempt": 2}))?;
        }
        txn.event_append("tool_called", json!({"step": step, "found": found, "note": NASTY}))?;
        txn.kv_put("last/found", found)?;
        txn.kv_put(format!("batch/{:05}", step % 1000), json!({"seen": step, "late": step % 4 == 0}))?;
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

/// Exports a run, and another beside it, as the tool does; where the page is.
fn export(directory: &Path, run: RunId, with: Option<RunId>) -> std::path::PathBuf {
    let file = directory.join(format!("{run}.html"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_in-mem"));
    command.arg("export").arg(directory.join("db")).arg(run.to_string()).arg("--html").arg("--output").arg(&file);
    command.args(with.map(|with| ["--with".into(), with.to_string()]).into_iter().flatten());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

#[test]
#[ignore = "for looking"]
fn look() {
    let directory = directory();
    let db = Database::open_with_mode(directory.path().join("db"), BUFFERED).unwrap();
    let steps: u64 = std::env::var("STEPS").map_or(20, |steps| steps.parse().unwrap());
    let start = Instant::now();
    let a = record(&db, "nightly", steps, u64::MAX);
    let b = record(&db, "nightly-retry", steps, steps / 2);
    db.close().unwrap();
    println!("recorded in {:?}", start.elapsed());
    let start = Instant::now();
    let single = export(directory.path(), a, None);
    println!("exported in {:?}, {} bytes", start.elapsed(), single.metadata().unwrap().len());
    let pair = export(directory.path(), b, Some(a));
    std::fs::copy(&single, "/tmp/wt-h/target/single.html").unwrap();
    std::fs::copy(&pair, "/tmp/wt-h/target/pair.html").unwrap();
    let mut browser = Browser::start().unwrap();
    for (name, file) in [("single", &single), ("pair", &pair)] {
        for (width, height, dark) in [(1280, 900, false), (1280, 900, true), (400, 1800, false), (400, 1800, true)] {
            browser.look(width, height, dark);
            let start = Instant::now();
            browser.open(file);
            println!("loaded in {:?}", start.elapsed());
            if name == "single" {
                let times = browser.value("(() => { const n = view.run.commits.length; const t = []; for (let i = 0; i < 20; i++) { const s = performance.now(); showCommit((i * 977 + (i % 2) * (n >> 1)) % n); document.body.offsetHeight; t.push(performance.now() - s); } showCommit(n >> 1); return t.map(Math.round); })()");
                println!("steps {times}");
            }
            let picture = browser.screenshot();
            let path = format!("/tmp/wt-h/target/{name}-{width}-{dark}.png");
            std::fs::write(&path, picture).unwrap();
        }
    }
    println!("{:?}", browser.addresses);
}
