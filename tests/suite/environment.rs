//! Hostile environments: another driver, or a typed error that says what to change, never a panic.
#![cfg(target_os = "linux")]

use std::path::Path;

use crate::support::seccomp::refuse_io_uring;
use crate::support::{as_nobody, directory, on_tokio, output_of, part, part_of, spawn_part};
use in_mem::Driver;
use in_mem::prelude::*;

/// Runs the test again as a child and returns what it printed.
fn output_of_child(test: &str, part: &str, path: &Path) -> String {
    output_of(spawn_part(test, part, path))
}

/// Opens with each driver and says what came of it.
fn open_and_print(path: &Path) {
    on_tokio(async {
        for driver in [Driver::IoUring, Driver::Auto, Driver::Threads] {
            match Database::builder().path(path).durability(DurabilityMode::Strict).driver(driver).open().await {
                Ok(database) => {
                    database.kv().put(RunId::from_bytes([1; 16]), "key", 1).await.expect("the key is written");
                    let info = database.info();
                    println!("{driver:?} opened {:?}: {}", info.driver, info.driver_reason);
                    database.close().await.expect("the database closes");
                }
                Err(Error::RuntimeUnavailable(reason)) => println!("{driver:?} unavailable: {reason}"),
                Err(other) => println!("{driver:?} another error: {other}"),
            }
        }
    });
}

/// Asserts that `io_uring` was refused, that the default took threads and says why, and that threads need nothing.
fn assert_threads_help(printed: &str, why: &str) {
    assert!(printed.contains(&format!("IoUring unavailable: {why}")), "{printed}");
    assert!(printed.contains(&format!("Auto opened Threads: {why}")), "{printed}");
    assert!(printed.contains("Threads opened Threads: threads were asked for"), "{printed}");
}

#[test]
fn threads_run_the_shards_where_locked_memory_is_too_little() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let test = "environment::threads_run_the_shards_where_locked_memory_is_too_little";
    if let Some((_, path)) = part() {
        let small = Rlimit { current: Some(64 << 10), maximum: Some(64 << 10) };
        setrlimit(Resource::Memlock, small).expect("a limit can be lowered");
        return open_and_print(&path);
    }
    if !on_tokio(crate::support::has_io_uring()) {
        return println!("skipped: io_uring is refused");
    }
    let directory = directory();
    let printed = output_of_child(test, "little memory", directory.path());
    assert_threads_help(&printed, "there is too little locked memory");
    assert!(printed.contains("ulimit -l"), "{printed}");
}

#[test]
fn threads_run_the_shards_where_io_uring_is_refused() {
    let test = "environment::threads_run_the_shards_where_io_uring_is_refused";
    if let Some((_, path)) = part() {
        refuse_io_uring();
        return open_and_print(&path);
    }
    let directory = directory();
    let printed = output_of_child(test, "no io_uring", directory.path());
    assert_threads_help(&printed, "io_uring is ");
    assert!(printed.contains("seccomp") || printed.contains("io_uring_disabled"), "{printed}");
}

/// The kernel gives locked memory back some time after whoever held it has closed it.
#[test]
fn a_database_is_opened_again_and_again_where_locked_memory_suffices_for_one() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let test = "environment::a_database_is_opened_again_and_again_where_locked_memory_suffices_for_one";
    if part().is_some() {
        let enough = Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
        setrlimit(Resource::Memlock, enough).expect("a limit can be lowered");
        return on_tokio(async {
            for _ in 0..20 {
                let database = crate::support::sharded(4).await;
                database.kv().put(RunId::from_bytes([1; 16]), "key", 1).await.expect("the key is written");
                database.close().await.expect("the database closes");
            }
        });
    }
    let directory = directory();
    // The limit is none for root.
    if rustix::process::geteuid().is_root() {
        let child = as_nobody(part_of(test, "nobody", directory.path()), directory.path());
        output_of(child.expect("root may start it"));
    } else {
        output_of_child(test, "child", directory.path());
    }
}

#[test]
fn the_directory_of_a_dead_process_opens_at_once() {
    if let Some((_, path)) = part() {
        on_tokio(async {
            let database = Database::open(&path).await.expect("the database opens");
            database.kv().put(RunId::from_bytes([1; 16]), "key", 1).await.expect("the key is written");
        });
        std::process::abort();
    }
    let directory = directory();
    let child = spawn_part("environment::the_directory_of_a_dead_process_opens_at_once", "writer", directory.path());
    assert!(!child.wait_with_output().expect("the child ends").status.success());
    let found = on_tokio(async {
        let database = Database::open(directory.path()).await.expect("the database opens");
        database.kv().get(RunId::from_bytes([1; 16]), "key").await.expect("the key is read")
    });
    assert_eq!(found, Some(1.into()));
}
