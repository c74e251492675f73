//! An agent's run, from beginning to end, and again from disk.
//!
//! Run it with `cargo run --release --example quickstart`.

use in_mem::prelude::*;

#[tokio::main]
async fn main() -> Result<()> {
    let path = std::env::temp_dir().join(format!("in-mem-quickstart-{}", std::process::id()));
    let run_id = work(&path).await?;
    look_back(&path, run_id).await?;
    Ok(std::fs::remove_dir_all(&path)?)
}

/// The agent at work: everything it does belongs to one run.
async fn work(path: &std::path::Path) -> Result<RunId> {
    let mode = DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 1000 };
    let db = Database::open_with_mode(path, mode).await?;
    let run = db.start_run(RunOptions { name: Some("fix-issue-1867".into()), ..Default::default() }).await?;

    run.kv().put("goal", "make the rounding right").await?;
    run.states().init("budget", 100).await?;
    run.events().append("started", "an issue came in").await?;

    let thought = TraceType::Thought { content: "int() cuts off, it should round".into(), confidence: Some(0.9) };
    let thought = run.traces().record(thought, vec!["analysis".into()], Value::Null).await?;

    // One step of the agent: all of it happens, or nothing.
    run.transaction(async |txn| {
        let edit = TraceType::ToolCall {
            tool_name: "edit".into(),
            arguments: "fields.py:1475".into(),
            result: Some("round(...) added".into()),
            duration_ms: Some(240),
        };
        txn.trace_record_child(&thought, edit, Value::Null).await?;
        txn.event_append("edited", "fields.py").await?;
        txn.kv_put("fields.py", "int(round(value / base))").await?;
        txn.state_transition("budget", |budget| Ok((Value::from(budget.value.as_i64().unwrap_or(0) - 30), ()))).await?;
        Ok(())
    })
    .await?;

    run.events().append("finished", "tests pass").await?;
    run.end().await?;
    db.close().await?;
    Ok(run.id())
}

/// Another process, another day: the whole run is there.
async fn look_back(path: &std::path::Path, run_id: RunId) -> Result<()> {
    let db = Database::open(path).await?;
    let run = db.run(run_id);
    let about = db.runs().get_run(run_id).await?.ok_or_else(|| Error::KeyNotFound(run_id.to_string()))?;
    println!("run {} ({})\n", about.name, about.status);

    let mut timeline: Vec<(i64, String)> = Vec::new();
    for event in run.events().read_range(0, u64::MAX).await? {
        timeline.push((event.timestamp, format!("event  {} {}", event.event_type, event.payload)));
    }
    for root in run.traces().get_roots().await? {
        if let Some(tree) = run.traces().get_tree(&root.id).await? {
            timeline.push((tree.trace.timestamp, format!("trace  {}", tree.trace.trace_type.kind())));
            for child in tree.children {
                timeline.push((child.trace.timestamp, format!("trace    └ {}", child.trace.trace_type.kind())));
            }
        }
    }
    for (key, value) in run.kv().list_with_values(None).await? {
        let version = run.kv().get_versioned(&key).await?.map_or(0, |found| found.version.get());
        timeline.push((i64::try_from(version / 1000).unwrap_or(0), format!("kv     {key} = {value}")));
    }
    timeline.sort();
    for (time, line) in &timeline {
        println!("{:>8} µs  {line}", time - about.created_at);
    }

    let budget = run.states().read("budget").await?.map(|state| state.value).unwrap_or_default();
    let chain = run.events().verify_chain().await?;
    println!("\nbudget left: {budget}");
    println!("chain: {} ({} events)", if chain.is_valid { "valid" } else { "broken" }, chain.length);
    db.close().await
}
