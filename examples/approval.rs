//! An agent that asks a human before it acts, and waits for the answer longer than a process lives.
//!
//! Run it with `cargo run --release --example approval -- DIRECTORY` and answer `approve` or `deny`. End it without an answer,
//! or kill it, and start it again: it goes on where it was, and asks nothing twice.

use std::io::BufRead;

use in_mem::prelude::*;

/// Plans and asks, unless that was done before.
async fn ask(run: &RunHandle) -> Result<()> {
    if run.states().read("approval").await?.is_none() {
        // The plan and the question are one commit.
        run.transaction(async |txn| {
            txn.event_append("planned", "delete the old backups").await?;
            txn.state_init("approval", "asked").await
        })
        .await?;
        println!("planned: delete the old backups");
    }
    println!("waiting for approval");
    Ok(())
}

/// Waits for the decision, and acts.
async fn act(run: &RunHandle) -> Result<String> {
    let is_decided = |state: &State| state.value.as_str() != Some("asked");
    let decision = run.states().wait_for("approval", is_decided).await?;
    let decision = decision.value.as_str().unwrap_or_default().to_owned();
    let done = if decision == "approve" { "deleted" } else { "left alone" };
    run.events().append(done, decision.as_str()).await?;
    run.end().await?;
    Ok(done.into())
}

/// The next line that somebody types; `None` if nobody does any more.
async fn typed() -> Option<String> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let line = std::io::stdin().lock().lines().next().and_then(std::result::Result::ok);
        let _ = sender.send(line);
    });
    receiver.await.ok().flatten()
}

/// Puts the human's answer where the agent waits for it.
async fn human(run: &RunHandle) -> Result<bool> {
    let Some(answer) = typed().await else { return Ok(false) };
    let decision = if answer.trim() == "approve" { "approve" } else { "deny" };
    run.states().set("approval", decision).await?;
    Ok(true)
}

#[tokio::main]
async fn main() -> Result<()> {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: approval DIRECTORY");
        std::process::exit(2);
    };
    let database = Database::open(path).await?;
    let run = match database.runs().get_run("cleanup").await? {
        Some(known) if known.status != RunStatus::Active => {
            println!("it was decided before");
            return database.close().await;
        }
        Some(known) => database.run(known.run_id),
        None => database.start_run(RunOptions { name: Some("cleanup".into()), ..RunOptions::default() }).await?,
    };
    ask(&run).await?;
    let acting = act(&run);
    tokio::pin!(acting);
    let done = tokio::select! {
        biased;
        done = &mut acting => Some(done?),
        is_answered = human(&run) => if is_answered? { Some(acting.await?) } else { None },
    };
    match done {
        Some(done) => println!("{done}"),
        None => println!("nobody has answered: start it again"),
    }
    database.close().await
}
