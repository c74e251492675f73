//! A run as it was at each of its commits: step by step, rebuilt from its history, and read at a version.
//!
//! Run it with `cargo run --release --example time_travel`.

use in_mem::Change;
use in_mem::prelude::*;

#[tokio::main]
async fn main() -> Result<()> {
    let db = Database::open_in_memory().await?;
    let run = work(&db).await?;

    // The whole run, rebuilt from its history: its commits, and what each of them changed.
    let whole = db.replay_run(run).await?;
    println!("{} commits, {} records", whole.steps().len(), whole.records());
    for (index, step) in whole.steps().enumerate() {
        println!("\ncommit {index}");
        for change in &step.changes {
            println!("    {}", line(change));
        }
        // As it was after this commit, from history alone, and as the database itself reads it at this version.
        let then = db.replay_run_until(run, step.version).await?;
        let snapshot = db.snapshot_at(run, step.version).await?;
        let pairs = then.kv().list_with_values(None).await?;
        assert_eq!(pairs, snapshot.kv().list_with_values(None).await?);
        let budget = then.states().read("budget").await?;
        assert_eq!(budget, snapshot.states().read("budget").await?);
        let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let (budget, events) = (budget.map_or(Value::Null, |state| state.value), then.events().len().await?);
        println!("  then: [{}], budget {budget}, {events} events", pairs.join(", "));
    }

    // What the last two commits did to the run.
    let steps: Vec<_> = whole.steps().collect();
    let before = db.replay_run_until(run, steps[steps.len() - 3].version).await?;
    println!("\nthe last two commits: {}", before.diff(&whole));
    db.close().await
}

/// The agent at work.
async fn work(db: &Database) -> Result<RunId> {
    let run = db.start_run(RunOptions { name: Some("fix-issue-1867".into()), ..RunOptions::default() }).await?;
    run.transaction(async |txn| {
        txn.kv_put("goal", "make the rounding right").await?;
        txn.state_set("budget", 100).await
    })
    .await?;
    for (file, cost) in [("fields.py", 30), ("tests.py", 25)] {
        run.transaction(async |txn| {
            let thought = TraceType::Thought { content: format!("{file} needs a change"), confidence: Some(0.9) };
            txn.trace_record(thought, Value::Null).await?;
            txn.kv_put("open", file).await?;
            txn.event_append("edited", file).await?;
            txn.state_transition("budget", |budget| Ok((Value::from(budget.value.as_i64().unwrap_or(0) - cost), ())))
                .await
        })
        .await?;
    }
    run.kv().delete("open").await?;
    run.end().await?;
    Ok(run.id())
}

fn line(change: &Change) -> String {
    match change {
        Change::Kv { key, value: Some(value) } => format!("kv     {key} = {value}"),
        Change::Kv { key, value: None } => format!("kv     {key} deleted"),
        Change::Event(event) => format!("event  {} {} {}", event.sequence, event.event_type, event.payload),
        Change::State { name, state: Some(state) } => {
            format!("state  {name} = {} (version {})", state.value, state.version)
        }
        Change::State { name, state: None } => format!("state  {name} deleted"),
        Change::Trace(trace) => format!("trace  {}", trace.trace_type.kind()),
        Change::Run(about) => format!("run    {}", about.status),
        other => format!("{other:?}"),
    }
}
