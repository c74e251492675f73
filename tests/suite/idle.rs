//! An idle database uses no processor time. In a process of its own: the figure is that of the whole process.

use std::time::Duration;

use crate::support::{BUFFERED, MODES, directory, on_tokio, output_of, part, spawn_part};
use futures::StreamExt;
use in_mem::Driver;
use in_mem::prelude::*;

/// User and system time of this process so far.
fn processor_time() -> Duration {
    let usage = std::fs::read_to_string("/proc/self/stat").expect("the kernel tells");
    let behind_name = usage.rsplit_once(')').expect("the name is in parentheses").1;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    // Fields 14 and 15 of the line, in ticks of 10 ms; the first field here is the third.
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn an_idle_database_uses_no_measurable_processor_time() {
    if part().is_none() {
        let directory = directory();
        let test = "idle::an_idle_database_uses_no_measurable_processor_time";
        output_of(spawn_part(test, "idle", directory.path()));
        return;
    }
    on_tokio(async {
        let (mut databases, mut waiting) = (Vec::new(), Vec::new());
        let both = MODES.into_iter().flat_map(|mode| [(mode, Driver::Auto), (mode, Driver::Threads)]);
        let directories: Vec<_> = both.map(|both| (both, directory())).collect();
        for ((mode, driver), directory) in &directories {
            let builder = Database::builder().path(directory.path()).durability(*mode).driver(*driver);
            let database = builder.shards(2).open().await.unwrap();
            let run = database.start_run(RunOptions::default()).await.unwrap();
            for number in 0..1000 {
                run.kv().put(format!("key-{number}"), number).await.unwrap();
                if *mode == DurabilityMode::Strict && number == 50 {
                    break;
                }
            }
            // Subscribers that wait are idle, too.
            let mut pairs = run.kv().watch(None).await.unwrap();
            let mut runs = database.runs().watch(None).await.unwrap();
            let mut events = run.events().subscribe(0).await.unwrap();
            let state = run.states().wait_for("never", |_| true);
            waiting.push(tokio::spawn(async move {
                let told = futures::join!(pairs.next(), runs.next(), events.next(), state);
                drop(told);
            }));
            databases.push(database);
        }
        assert_eq!(databases.len(), 6, "{BUFFERED:?} is among them");
        tokio::time::sleep(Duration::from_millis(500)).await;
        // Six databases with two shards each. The least of several seconds: the machine may be busy with others.
        let mut least = Duration::MAX;
        for _ in 0..3 {
            let before = processor_time();
            tokio::time::sleep(Duration::from_secs(1)).await;
            least = least.min(processor_time().saturating_sub(before));
        }
        assert!(least <= Duration::from_millis(10), "an idle second took {least:?}");
        assert!(waiting.iter().all(|task| !task.is_finished()), "they wait");
    });
}
