//! An agent without async: several threads, one run.
//!
//! Run it with `cargo run --release --example blocking`.

use std::thread;

use in_mem::blocking::prelude::*;

const WORKERS: usize = 4;

fn main() -> Result<()> {
    let db = Database::open_in_memory()?;
    let run = db.start_run(RunOptions { name: Some("fix-the-tests".into()), ..Default::default() })?;
    for number in 0..10 {
        run.kv().put(format!("todo/{number}"), format!("test {number}"))?;
    }

    thread::scope(|scope| {
        let run = &run;
        let workers: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || work(run, worker))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;

    for event in run.events().stream(0) {
        let event = event?;
        println!("{} {} {}", event.sequence, event.event_type, event.payload);
    }
    assert_eq!(run.kv().count(Some("todo/"))?, 0);
    run.end()?;
    db.close()
}

/// Takes one task after the other, until there is none. No task is taken twice: who loses, looks again.
fn work(run: &RunHandle, worker: usize) -> Result<()> {
    loop {
        let is_done = run.transaction(|txn| {
            let Some(task) = txn.kv_list(Some("todo/"))?.into_iter().next() else { return Ok(true) };
            txn.kv_delete(&task)?;
            txn.event_append(format!("done by {worker}"), task)?;
            Ok(false)
        })?;
        if is_done {
            return Ok(());
        }
    }
}
