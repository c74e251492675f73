//! Publishing: metrics handed to the `metrics` facade.

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};

use super::metrics::Metrics;
use crate::base::metrics::{Metric, MetricKind};

impl Metrics {
    /// Hands every number to the recorder of the [`metrics`] facade, described: those of a shard as `in_mem_NAME`, with the
    /// label `shard`. Counters are set to what they are: publish those of one database only.
    pub fn publish(&self) {
        for (number, shard) in self.shards.iter().enumerate() {
            for metric in shard.all() {
                publish(&metric, vec![Label::new("shard", number.to_string())]);
            }
        }
        let disk = &self.disk;
        count("transactions_retried", "How often a transaction ran again.", self.transactions_retried);
        count("snapshots_taken", "Snapshots taken.", disk.snapshots_taken);
        count("snapshots_failed", "Snapshots that could not be taken.", disk.snapshots_failed);
        measure("memory_limit_bytes", "How many bytes of memory may be taken.", self.memory_limit.unwrap_or(u64::MAX));
        measure("segments", "Segments of the log that are needed.", disk.segments);
        measure("snapshots", "Snapshots that can be recovered from.", disk.snapshots);
        let took = disk.last_snapshot_took.unwrap_or_default().as_secs_f64();
        describe_gauge!("in_mem_last_snapshot_seconds", Unit::Seconds, "How long the last snapshot took.");
        gauge!("in_mem_last_snapshot_seconds").set(took);
        describe_gauge!("in_mem_recovery_seconds", Unit::Seconds, "How long it took to open the database.");
        gauge!("in_mem_recovery_seconds").set(self.recovery.duration.as_secs_f64());
    }
}

fn publish(metric: &Metric, labels: Vec<Label>) {
    let name = format!("in_mem_{}", metric.name);
    match metric.kind {
        MetricKind::Counter => {
            describe_counter!(name.clone(), metric.description);
            counter!(name, labels).absolute(metric.value);
        }
        MetricKind::Gauge | MetricKind::Maximum => {
            describe_gauge!(name.clone(), metric.description);
            gauge!(name, labels).set(number(metric.value));
        }
    }
}

fn count(name: &'static str, description: &'static str, value: u64) {
    publish(&Metric { name, kind: MetricKind::Counter, description, value }, Vec::new());
}

fn measure(name: &'static str, description: &'static str, value: u64) {
    publish(&Metric { name, kind: MetricKind::Gauge, description, value }, Vec::new());
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats, and exact up to 2^53")]
const fn number(value: u64) -> f64 {
    value as f64
}
