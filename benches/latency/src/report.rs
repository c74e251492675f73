//! What is said of a case: the medians of its rounds.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::case::Case;
use crate::load::{Measured, Opened};

const QUANTILES: [(&str, f64); 5] =
    [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p99.9_us", 0.999), ("max_us", 1.0)];

/// The numbers of one round.
pub(crate) fn figures(case: &Case, opened: &Opened, measured: &Measured) -> Vec<(&'static str, Option<f64>)> {
    let count = measured.latencies.len() as f64;
    let each = |number: f64, of: f64| (of > 0.0).then(|| number / of);
    // Others on the machine, and waiting for the moment of a call, are no work of the database.
    let is_all_work = case.busy == 0 && case.rate.is_none() && case.limit().is_none();
    let cpu = measured.cpu.as_secs_f64();
    let mut all = vec![
        ("per_second", each(count, measured.took.as_secs_f64()).filter(|_| case.limit().is_none())),
        ("cpu_s_per_million", each(cpu * 1e6, count).filter(|_| is_all_work)),
        ("cpu_s_per_second", each(cpu, measured.took.as_secs_f64())),
        ("flushes_per_commit", each(measured.flushes as f64, measured.commits as f64)),
        ("overhead_bytes", Some(opened.overhead)),
    ];
    let micros = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64() * 1e6;
    all.extend(
        QUANTILES.map(|(name, at)| (name, (count > 0.0).then(|| micros(measured.latencies.value_at_quantile(at))))),
    );
    all
}

/// One line: the case, and the median of each number.
pub(crate) fn line(suite: &str, case: &Case, rounds: &[Vec<(&'static str, Option<f64>)>]) -> Json {
    let mut line = case.describe();
    line["suite"] = json!(suite);
    for (at, (name, _)) in rounds[0].iter().enumerate() {
        let mut all: Vec<f64> = rounds.iter().filter_map(|round| round[at].1).collect();
        all.sort_by(f64::total_cmp);
        line[*name] = json!(all.get(all.len() / 2).map(|median| (median * 1e6).round() / 1e6));
    }
    line
}

/// The same to read: what is there, name by name.
pub(crate) fn text(line: &Json) -> String {
    let fields = line.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| format!("{name}={}", value.to_string().trim_matches('"'))).collect::<Vec<_>>().join(" ")
}
