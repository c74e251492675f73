//! Hostile environments: a typed error that says what to change, never a panic.

mod support;

use std::path::Path;

use in_mem::prelude::*;
use support::{as_nobody, directory, on_tokio, output_of, part, part_of, spawn_part};

/// Runs the test again as a child and returns what it printed.
fn output_of_child(test: &str, part: &str, path: &Path) -> String {
    output_of(spawn_part(test, part, path))
}

fn open_and_print(path: &Path) {
    on_tokio(async {
        match Database::open(path).await {
            Ok(_) => println!("opened"),
            Err(Error::RuntimeUnavailable(reason)) => println!("unavailable: {reason}"),
            Err(other) => println!("another error: {other}"),
        }
    });
}

#[test]
fn too_little_locked_memory_is_refused_with_the_limit_to_raise() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Some((_, path)) = part() {
        let small = Rlimit { current: Some(64 << 10), maximum: Some(64 << 10) };
        setrlimit(Resource::Memlock, small).expect("a limit can be lowered");
        return open_and_print(&path);
    }
    let directory = directory();
    let test = "too_little_locked_memory_is_refused_with_the_limit_to_raise";
    let printed = output_of_child(test, "little memory", directory.path());
    assert!(printed.contains("unavailable: there is too little locked memory"), "{printed}");
    assert!(printed.contains("ulimit -l"), "{printed}");
}

/// The kernel gives locked memory back some time after whoever held it has closed it.
#[test]
fn a_database_is_opened_again_and_again_where_locked_memory_suffices_for_one() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let test = "a_database_is_opened_again_and_again_where_locked_memory_suffices_for_one";
    if part().is_some() {
        let enough = Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
        setrlimit(Resource::Memlock, enough).expect("a limit can be lowered");
        return on_tokio(async {
            for _ in 0..20 {
                let database = support::sharded(4).await;
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
    let child = spawn_part("the_directory_of_a_dead_process_opens_at_once", "writer", directory.path());
    assert!(!child.wait_with_output().expect("the child ends").status.success());
    let found = on_tokio(async {
        let database = Database::open(directory.path()).await.expect("the database opens");
        database.kv().get(RunId::from_bytes([1; 16]), "key").await.expect("the key is read")
    });
    assert_eq!(found, Some(1.into()));
}
