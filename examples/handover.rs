//! Two agents hand work over through state cells: each waits for the state that is its turn, and nobody asks again and again.
//!
//! Run it with `cargo run --release --example handover`.

use in_mem::prelude::*;
use in_mem::serde_json::json;

const TASKS: [&str; 3] = ["read the issue", "write a failing test", "make it pass"];

/// Whose turn it is, as both agents read it.
fn is_turn_of(state: &State, who: &str) -> bool {
    state.value.get("turn").and_then(Value::as_str) == Some(who)
}

fn said(state: &State) -> String {
    state.value.get("says").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Gives out one task after the other, each when the one before is done.
async fn planner(run: RunHandle) -> Result<()> {
    for task in TASKS {
        run.states().set("desk", json!({"turn": "coder", "says": task})).await?;
        let done = run.states().wait_for("desk", |state| is_turn_of(state, "planner")).await?;
        println!("planner: {}", said(&done));
    }
    run.states().set("desk", json!({"turn": "nobody", "says": ""})).await?;
    Ok(())
}

/// Does what is on the desk until it is nobody's turn any more.
async fn coder(run: RunHandle) -> Result<()> {
    loop {
        let asked = run.states().wait_for("desk", |state| !is_turn_of(state, "planner")).await?;
        if is_turn_of(&asked, "nobody") {
            return Ok(());
        }
        println!("coder: {}", said(&asked));
        // One commit: what was done, and that it is the other's turn.
        run.transaction(async |txn| {
            txn.event_append("did", said(&asked)).await?;
            txn.state_set("desk", json!({"turn": "planner", "says": format!("{}: done", said(&asked))})).await
        })
        .await?;
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let database = Database::open_in_memory().await?;
    let run = database.start_run(RunOptions { name: Some("fix".into()), ..RunOptions::default() }).await?;
    let (planned, coded) = tokio::join!(tokio::spawn(planner(run.clone())), tokio::spawn(coder(run.clone())));
    planned.map_err(Error::other)??;
    coded.map_err(Error::other)??;
    println!("events: {}", run.events().len().await?);
    run.end().await?;
    database.close().await
}
