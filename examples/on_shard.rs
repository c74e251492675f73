//! An agent loop that lives on the shard that owns its run: every call is a function call.
//!
//! Run it with `cargo run --release --example on_shard`.

use std::time::Instant;

use in_mem::prelude::*;

const STEPS: u32 = 10_000;

/// What the agent does: think, act, note what it saw, until it is done.
async fn agent(run: LocalRun) -> Result<u32> {
    run.states().init("position", 0).await?;
    for step in 0..STEPS {
        let thought = TraceType::Thought { content: format!("step {step}: go on"), confidence: Some(0.9) };
        let thought = run.traces().record(thought, vec![], Value::Null).await?;
        let position = run.states().increment("position", 1).await?;
        let action = TraceType::ToolCall {
            tool_name: "move".into(),
            arguments: position.into(),
            result: Some(true.into()),
            duration_ms: None,
        };
        run.traces().record_child(&thought, action, vec![], Value::Null).await?;
        run.events().append("moved", position).await?;
    }
    Ok(STEPS)
}

#[tokio::main]
async fn main() -> Result<()> {
    let database = Database::open_in_memory().await?;
    let run = database.start_run(RunOptions { name: Some("walker".into()), ..RunOptions::default() }).await?;

    let start = Instant::now();
    let steps = database.spawn_on(run.id(), agent).await?;
    let took = start.elapsed();

    let calls = steps * 4;
    println!(
        "{steps} steps, {calls} calls in {took:.1?}: {:.2} µs a call",
        took.as_secs_f64() * 1e6 / f64::from(calls)
    );
    println!("position: {}", run.states().read("position").await?.map_or(Value::Null, |state| state.value));
    println!("events: {}, traces: {}", run.events().len().await?, run.traces().count().await?);
    println!("chain: {}", if run.events().verify_chain().await?.is_valid { "valid" } else { "broken" });
    run.end().await?;
    database.close().await
}
