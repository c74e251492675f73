//! The quick start that in-mem was first described with: what is printed there, with `.await` added and nothing else
//! changed, compiles and runs. In a process of its own: it opens "./my-agent-db".
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{directory, on_tokio};

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

#[test]
fn the_quick_start_runs() {
    let directory = directory();
    std::env::set_current_dir(directory.path()).unwrap();
    on_tokio(quick_start()).unwrap();
    assert!(directory.path().join("my-agent-db").is_dir());
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
}

#[test]
fn what_runs_here_is_what_was_printed_with_await_added() {
    let source = include_str!("seed_quickstart.rs");
    let lines = source.lines().map(str::trim_start);
    let marked =
        lines.skip_while(|line| *line != "// Here it begins.").skip(1).take_while(|line| *line != "// Here it ends.");
    let without_await: Vec<String> = marked.map(|line| line.replace(".await", "")).collect();
    let printed: Vec<&str> = PRINTED.trim().lines().map(str::trim_start).collect();
    assert_eq!(without_await, printed);
}
