//! Publishing: every number reaches the recorder of the `metrics` facade, with its kind, description and shard.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use in_mem::prelude::*;
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use support::on_tokio;

type Numbers = Arc<Mutex<BTreeMap<String, f64>>>;

#[derive(Default)]
struct Recording {
    numbers: Numbers,
    described: Mutex<Vec<String>>,
}

struct Number {
    name: String,
    numbers: Numbers,
}

impl CounterFn for Number {
    fn increment(&self, _: u64) {
        unreachable!("a counter is set");
    }

    fn absolute(&self, value: u64) {
        self.numbers.lock().unwrap().insert(self.name.clone(), f64::from(u32::try_from(value).unwrap_or(u32::MAX)));
    }
}

impl GaugeFn for Number {
    fn increment(&self, _: f64) {
        unreachable!("a gauge is set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("a gauge is set");
    }

    fn set(&self, value: f64) {
        self.numbers.lock().unwrap().insert(self.name.clone(), value);
    }
}

impl Recording {
    fn number(&self, key: &Key, kind: &str) -> Arc<Number> {
        let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Number { name: format!("{kind} {} {}", key.name(), labels.join(",")), numbers: self.numbers.clone() })
    }

    fn describe(&self, key: &KeyName) {
        self.described.lock().unwrap().push(key.as_str().to_owned());
    }
}

impl Recorder for Recording {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key, "counter"))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(key, "gauge"))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        unreachable!("there is none")
    }
}

#[test]
fn every_number_is_published() {
    let metrics = on_tokio(async {
        let database = Database::builder().durability(DurabilityMode::InMemory).shards(2).open().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        run.kv().put("k", 1).await.unwrap();
        database.metrics().await.unwrap()
    });
    let recording = Recording::default();
    metrics::with_local_recorder(&recording, || metrics.publish());
    let numbers = recording.numbers.lock().unwrap();
    for (number, shard) in metrics.shards.iter().enumerate() {
        for metric in shard.all() {
            let kind = if metric.kind == in_mem::MetricKind::Counter { "counter" } else { "gauge" };
            let found = numbers[&format!("{kind} in_mem_{} shard={number}", metric.name)];
            assert!((found - f64::from(u32::try_from(metric.value).unwrap())).abs() < 0.5, "{}", metric.name);
        }
    }
    assert!(numbers["gauge in_mem_memory_limit_bytes "] > 1e18, "there is none");
    let described = recording.described.lock().unwrap();
    for name in numbers.keys().map(|name| name.split(' ').nth(1).unwrap()) {
        assert!(described.iter().any(|described| described == name), "{name} is not described");
    }
}
