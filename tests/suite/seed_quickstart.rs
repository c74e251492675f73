//! The quick start that in-mem was first described with: what is printed there compiles and runs, with `.await` added and
//! nothing else changed, and with the blocking API and nothing changed but the line that names it. In a process of its
//! own: it opens "./my-agent-db".

use crate::support::{directory, on_tokio, output_of, part, part_of};

/// The quick start as it was printed.
const PRINTED: &str = r#"
use in_mem::{Database, DurabilityMode, primitives::KVStore, Value};
use std::sync::Arc;

// Open database with Buffered durability
let db = Arc::new(Database::open_with_mode(
    "./my-agent-db",
    DurabilityMode::Buffered {
        flush_interval_ms: 100,
        max_pending_writes: 1000,
    }
)?);

// Create KVStore primitive
let kv = KVStore::new(db.clone());

// Begin a run
let run_id = db.begin_run();

// Store and retrieve data
kv.put(&run_id, "key", Value::String("value".into()))?;
let value = kv.get(&run_id, "key")?;

// End run
db.end_run(run_id)?;
"#;

/// The quick start between the two marks, then what must have come of it.
#[rustfmt::skip]
#[expect(clippy::needless_borrows_for_generic_args, reason = "it was printed so")]
async fn quick_start() -> in_mem::Result<()> {
    // Here it begins.
    use in_mem::{Database, DurabilityMode, primitives::KVStore, Value};
    use std::sync::Arc;

    // Open database with Buffered durability
    let db = Arc::new(Database::open_with_mode(
        "./my-agent-db",
        DurabilityMode::Buffered {
            flush_interval_ms: 100,
            max_pending_writes: 1000,
        }
    ).await?);

    // Create KVStore primitive
    let kv = KVStore::new(db.clone());

    // Begin a run
    let run_id = db.begin_run().await;

    // Store and retrieve data
    kv.put(&run_id, "key", Value::String("value".into())).await?;
    let value = kv.get(&run_id, "key").await?;

    // End run
    db.end_run(run_id).await?;
    // Here it ends.

    assert_eq!(value, Some(Value::String("value".into())));
    assert_eq!(db.run_status(run_id).await?, Some(in_mem::RunStatus::Completed));
    db.close().await?;
    let db = Database::open("./my-agent-db").await?;
    assert_eq!(db.kv().get(run_id, "key").await?, value, "it is there another day");
    db.close().await
}

/// The same, blocking.
#[rustfmt::skip]
#[expect(clippy::needless_borrows_for_generic_args, reason = "it was printed so")]
fn blocking_quick_start() -> in_mem::Result<()> {
    // Here it begins.
    use in_mem::blocking::{Database, DurabilityMode, primitives::KVStore, Value};
    use std::sync::Arc;

    // Open database with Buffered durability
    let db = Arc::new(Database::open_with_mode(
        "./my-agent-db",
        DurabilityMode::Buffered {
            flush_interval_ms: 100,
            max_pending_writes: 1000,
        }
    )?);

    // Create KVStore primitive
    let kv = KVStore::new(db.clone());

    // Begin a run
    let run_id = db.begin_run();

    // Store and retrieve data
    kv.put(&run_id, "key", Value::String("value".into()))?;
    let value = kv.get(&run_id, "key")?;

    // End run
    db.end_run(run_id)?;
    // Here it ends.

    assert_eq!(value, Some(Value::String("value".into())));
    assert_eq!(db.run_status(run_id)?, Some(in_mem::RunStatus::Completed));
    drop((db, kv));
    let db = Database::open("./my-agent-db")?;
    assert_eq!(db.kv().get(run_id, "key")?, value, "it is there another day");
    db.close()
}

#[test]
fn the_quick_start_runs() {
    match part() {
        Some((part, _)) if part == "blocking" => return blocking_quick_start().unwrap(),
        Some(_) => return on_tokio(quick_start()).unwrap(),
        None => {}
    }
    for part in ["asynchronous", "blocking"] {
        let directory = directory();
        let mut child = part_of("seed_quickstart::the_quick_start_runs", part, directory.path());
        output_of(child.current_dir(directory.path()).spawn().unwrap());
        assert!(directory.path().join("my-agent-db").is_dir());
    }
}

/// What is marked in this file, the first of it or the second.
fn marked(number: usize) -> Vec<&'static str> {
    let lines = include_str!("seed_quickstart.rs").lines().map(str::trim_start);
    let mut parts = lines.collect::<Vec<_>>().into_iter();
    for _ in 0..=number {
        assert!(parts.any(|line| line == "// Here it begins."));
    }
    parts.take_while(|line| *line != "// Here it ends.").collect()
}

fn printed() -> Vec<&'static str> {
    PRINTED.trim().lines().map(str::trim_start).collect()
}

#[test]
fn what_runs_here_is_what_was_printed_with_await_added() {
    let without_await: Vec<String> = marked(0).iter().map(|line| line.replace(".await", "")).collect();
    assert_eq!(without_await, printed());
}

#[test]
fn what_runs_blocking_is_what_was_printed_but_for_one_line() {
    let changed = |line: &str| line.replace("use in_mem::{", "use in_mem::blocking::{");
    assert_eq!(marked(1), printed().into_iter().map(changed).collect::<Vec<_>>());
}
