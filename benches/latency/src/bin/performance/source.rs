//! Where figures come from: another program is run, and what it prints is read.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use serde_json::Value as Json;

use crate::Result;
use crate::format::{micros, table};

pub(crate) enum Source {
    /// A suite of the latency harness.
    Suite,
    /// The comparison with other stores.
    Peers,
    /// A bench: criterion's, or a program that prints tables.
    Bench,
}

/// What came of it.
pub(crate) struct Output {
    /// Lines of JSON.
    pub(crate) lines: Vec<Json>,
    /// Tables that were printed, and one of criterion's estimates.
    pub(crate) tables: String,
}

impl Source {
    pub(crate) fn measure(&self, name: &str, is_quick: bool, rocksdb: bool) -> Result<Output> {
        let begun = SystemTime::now();
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        match self {
            Self::Suite => {
                command.args(["run", "--release", "--quiet", "--package", "in-mem-latency", "--", name, "--json"]);
                if !is_quick {
                    command.args(["--plot", "docs", "--largest", "10000000"]);
                }
            }
            Self::Peers => {
                command.args(["run", "--release", "--quiet", "--package", "in-mem-peers"]);
                command.args(if rocksdb { &["--features", "rocksdb"][..] } else { &[] });
                command.args(["--", "--json"]);
            }
            Self::Bench => {
                command.args(["bench", "--quiet", "--bench", name, "--"]);
            }
        }
        if is_quick {
            command.arg("--quick");
        }
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("{name} failed: {}", output.status).into());
        }
        let text = String::from_utf8(output.stdout)?;
        let lines = text.lines().filter(|line| line.starts_with('{')).map(serde_json::from_str);
        let mut tables = printed_tables(&text);
        if matches!(self, Self::Bench) {
            let estimates = estimates(begun)?;
            tables += if tables.is_empty() || estimates.is_empty() { "" } else { "\n" };
            tables += &estimates;
        }
        Ok(Output { lines: lines.collect::<std::result::Result<_, _>>()?, tables })
    }
}

/// The tables among other lines, apart from each other.
fn printed_tables(text: &str) -> String {
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    let mut tables = String::new();
    for (at, row) in rows.iter().enumerate() {
        let is_head = rows.get(at + 1).is_some_and(|next| next.starts_with("|--"));
        tables += if is_head && at > 0 { "\n" } else { "" };
        tables += &format!("{row}\n");
    }
    tables
}

/// Criterion's medians, of what was measured since then.
fn estimates(begun: SystemTime) -> Result<String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let mut found = Vec::new();
    collect(&target.join("criterion"), begun, &mut found)?;
    found.sort();
    let rows = found.into_iter().map(|(_, row)| row).collect::<Vec<_>>();
    Ok(if rows.is_empty() { String::new() } else { table(&["bench", "median", "95 %"], &rows) })
}

/// When each was measured, and its row.
fn collect(directory: &Path, begun: SystemTime, found: &mut Vec<(SystemTime, Vec<String>)>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, begun, found)?;
        }
        let written = std::fs::metadata(&path)?.modified()?;
        if path.ends_with("new/estimates.json") && written >= begun {
            let read = |path: &Path| -> Result<Json> { Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?) };
            let median = &read(&path)?["median"];
            let bench = &read(&path.with_file_name("benchmark.json"))?["full_id"];
            let time = |nanos: &Json| micros(nanos.as_f64().unwrap_or(0.0) / 1e3);
            let interval = &median["confidence_interval"];
            let range = format!("{} to {}", time(&interval["lower_bound"]), time(&interval["upper_bound"]));
            let name = bench.as_str().unwrap_or_default().to_owned();
            found.push((written, vec![name, time(&median["point_estimate"]), range]));
        }
    }
    Ok(())
}
