//! The tables, from lines of JSON.

use serde_json::Value as Json;

use crate::format::{micros, table, thousands};
use crate::source::Output;

type Cell = fn(&Json) -> String;

fn number(line: &Json, name: &str) -> f64 {
    line[name].as_f64().unwrap_or(f64::NAN)
}

/// A field as it is.
fn text(line: &Json, name: &str) -> String {
    match &line[name] {
        Json::String(text) => text.clone(),
        Json::Number(number) => thousands(number.as_f64().unwrap_or(f64::NAN)),
        _ => String::new(),
    }
}

fn p50(line: &Json) -> String {
    micros(number(line, "p50_us"))
}

fn p99(line: &Json) -> String {
    micros(number(line, "p99_us"))
}

fn p50_and_p99(line: &Json) -> String {
    format!("{}, {}", p50(line), p99(line))
}

fn per_second(line: &Json) -> String {
    thousands(number(line, "per_second"))
}

fn decimals(line: &Json, name: &str) -> String {
    line[name].as_f64().map_or(String::new(), |number| format!("{number:.2}"))
}

fn cpu(line: &Json) -> String {
    decimals(line, "cpu_s_per_million")
}

/// A line for each measurement: what tells it apart, and cells.
fn list<'a>(lines: impl IntoIterator<Item = &'a Json>, keys: &[&str], cells: &[(&str, Cell)]) -> String {
    let head: Vec<&str> = keys.iter().copied().chain(cells.iter().map(|(title, _)| *title)).collect();
    let row = |line: &Json| {
        let keys = keys.iter().map(|key| text(line, key));
        keys.chain(cells.iter().map(|(_, cell)| cell(line))).collect()
    };
    table(&head, &lines.into_iter().map(row).collect::<Vec<_>>())
}

/// A line for what has the same keys, with a column for each value of something else.
fn pivot<'a>(lines: impl IntoIterator<Item = &'a Json>, keys: &[&str], column: Cell, cell: Cell) -> String {
    let mut columns: Vec<String> = Vec::new();
    let mut rows: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for line in lines {
        let (column, key) = (column(line), keys.iter().map(|key| text(line, key)).collect::<Vec<_>>());
        let at = columns.iter().position(|known| *known == column).unwrap_or_else(|| {
            columns.push(column);
            columns.len() - 1
        });
        let row = rows.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            rows.push((key, Vec::new()));
            rows.len() - 1
        });
        let cells = &mut rows[row].1;
        cells.resize(cells.len().max(at + 1), String::new());
        cells[at] = cell(line);
    }
    let head: Vec<&str> = keys.iter().copied().chain(columns.iter().map(String::as_str)).collect();
    let rows = rows.into_iter().map(|(key, mut cells)| {
        cells.resize(columns.len(), String::new());
        [key, cells].concat()
    });
    table(&head, &rows.collect::<Vec<_>>())
}

fn is_device(line: &Json) -> bool {
    text(line, "caller").starts_with("raw device")
}

/// The faster of the ways to write to the device alone.
fn device_p50(lines: &[Json]) -> f64 {
    lines.iter().filter(|line| is_device(line)).map(|line| number(line, "p50_us")).fold(f64::INFINITY, f64::min)
}

pub(crate) fn calls(output: &Output) -> Vec<(&'static str, String)> {
    let is_one = |line: &&Json| line["callers"] == 1 && !is_device(line);
    let one =
        pivot(output.lines.iter().filter(is_one), &["mode", "operation"], |line| text(line, "caller"), p50_and_p99);
    let device = list(output.lines.iter().filter(|line| is_device(line)), &["caller"], &[("p50", p50), ("p99", p99)]);
    let pipelined = list(
        output.lines.iter().filter(|line| line["callers"] != 1),
        &["mode", "operation", "callers"],
        &[("per second", per_second), ("p50", p50), ("p99", p99), ("CPU s per million", cpu)],
    );
    let callers = "callers";
    let pipelined = pipelined.replacen(callers, "in flight", 1);
    vec![("goals", goals(&output.lines)), ("calls", format!("{one}\n{device}")), ("pipelined", pipelined)]
}

/// What was promised of calls, and what became of it.
fn goals(lines: &[Json]) -> String {
    let (shard, tokio) = ("on the shard", "tokio, current thread");
    let find = |mode: &str, operation: &str, caller: &str, field: &str| {
        let is_it = |line: &&Json| line["mode"] == mode && line["operation"] == operation && line["caller"] == caller;
        lines.iter().rfind(is_it).map_or(f64::NAN, |line| number(line, field))
    };
    let mut rows = Vec::new();
    for (mode, operation, caller, field, goal) in [
        ("InMemory", "get", tokio, "p50_us", 1.5),
        ("InMemory", "put", tokio, "p50_us", 1.5),
        ("InMemory", "transaction", tokio, "p50_us", 8.0),
        ("InMemory", "get", shard, "p50_us", 0.75),
        ("InMemory", "put", shard, "p50_us", 1.0),
        ("InMemory", "append", shard, "p50_us", 2.0),
        ("InMemory", "transaction", shard, "p50_us", 5.0),
        ("Buffered", "put", shard, "p50_us", 1.5),
        ("Buffered", "put", tokio, "p50_us", 2.5),
        ("Buffered", "put", tokio, "p99_us", 50.0),
    ] {
        let quantile = field.trim_end_matches("_us");
        let measured = find(mode, operation, caller, field);
        rows.push((
            format!("{mode} {operation}, {caller}, {quantile}"),
            micros(goal),
            micros(measured),
            measured <= goal,
        ));
    }
    let pipelined = find("Buffered", "put", "pipelined", "per_second");
    let many = "Buffered puts a second, pipelined into one shard".into();
    rows.push((many, "500,000".into(), thousands(pipelined), pipelined >= 500_000.0));
    for caller in [shard, tokio] {
        let put = find("Strict", "put", caller, "p50_us");
        let transaction = find("Strict", "transaction", caller, "p50_us") / put;
        let put = put / device_p50(lines);
        rows.push((
            format!("Strict put, {caller}, against the raw device"),
            "1.20".into(),
            format!("{put:.2}"),
            put <= 1.2,
        ));
        let name = format!("Strict transaction, {caller}, against that");
        rows.push((name, "1.30".into(), format!("{transaction:.2}"), transaction <= 1.3));
    }
    let verdict = |is_met| String::from(if is_met { "yes" } else { "**no**" });
    let rows = rows.into_iter().map(|(name, goal, measured, is_met)| vec![name, goal, measured, verdict(is_met)]);
    table(&["figure", "goal", "measured", "met"], &rows.collect::<Vec<_>>())
}

pub(crate) fn open(output: &Output) -> String {
    let cells: [(&str, Cell); 6] = [
        ("done per second", per_second),
        ("p50", p50),
        ("p90", |line| micros(number(line, "p90_us"))),
        ("p99", p99),
        ("p99.9", |line| micros(number(line, "p99.9_us"))),
        ("max", |line| micros(number(line, "max_us"))),
    ];
    let (device, ours): (Vec<_>, Vec<_>) = output.lines.iter().partition(|line| is_device(line));
    let ours = list(ours, &["mode", "operation", "rate"], &cells);
    format!("{ours}\n{}", list(device, &["caller"], &cells))
}

pub(crate) fn shards(output: &Output) -> String {
    let cells: [(&str, Cell); 4] =
        [("CPU s per million", cpu), ("puts per second", per_second), ("p50", p50), ("p99", p99)];
    list(&output.lines, &["mode", "caller", "shards"], &cells)
}

pub(crate) fn callers(output: &Output) -> String {
    let cells: [(&str, Cell); 5] = [
        ("puts per second", per_second),
        ("p50", p50),
        ("p99", p99),
        ("CPU s per million", cpu),
        ("flushes per commit", |line| {
            line["flushes_per_commit"].as_f64().map_or(String::new(), |all| format!("{all:.4}"))
        }),
    ];
    list(&output.lines, &["mode", "callers"], &cells)
}

pub(crate) fn sizes(output: &Output) -> String {
    pivot(&output.lines, &["operation"], |line| text(line, "count"), p50)
}

pub(crate) fn values(output: &Output) -> String {
    pivot(&output.lines, &["mode", "operation"], |line| format!("{} B", text(line, "value_bytes")), p50)
}

pub(crate) fn oversubscribed(output: &Output) -> String {
    let column: Cell = |line| format!("spinning {}", text(line, "spin"));
    pivot(&output.lines, &["mode", "shards", "callers", "busy"], column, p50_and_p99)
}

pub(crate) fn idle(output: &Output) -> String {
    let cell: Cell = |line| micros(number(line, "cpu_s_per_second") * 1e6);
    list(&output.lines, &["mode", "shards"], &[("CPU per second", cell)])
}

pub(crate) fn memory(output: &Output) -> String {
    let counted: Cell = |line| format!("{:.0} B", number(line, "overhead_bytes"));
    list(&output.lines, &["items", "count"], &[("beyond key and value, as counted", counted)])
}

pub(crate) fn peers(output: &Output) -> Vec<(&'static str, String)> {
    let cell: Cell = |line| match line["workload"].as_str() {
        Some("get") => p50(line),
        Some("put") => p50_and_p99(line),
        _ => format!("{}/s", per_second(line)),
    };
    let mut tables = vec![("peers-summary", peers_summary(&output.lines))];
    for (name, durability) in [
        ("peers-none", "survives nothing"),
        ("peers-process", "survives the process"),
        ("peers-machine", "survives the machine"),
    ] {
        let lines = output.lines.iter().filter(|line| line["durability"] == durability);
        tables.push((name, pivot(lines, &["store"], |line| text(line, "workload"), cell)));
    }
    tables
}

/// For the README: a column for each promise.
fn peers_summary(lines: &[Json]) -> String {
    let column: Cell = |line| {
        let name = match (line["workload"].as_str(), line["durability"].as_str()) {
            (Some("get"), Some("survives the process") | Some("survives nothing")) => "get",
            (Some("put"), Some("survives nothing")) => "put in memory",
            (Some("put"), Some("survives the process")) => "buffered put",
            (Some("put"), _) => "durable put",
            _ => "durable puts a second, 16 callers",
        };
        name.into()
    };
    let is_shown = |line: &&Json| match line["workload"].as_str() {
        Some("get") => line["durability"] != "survives the machine",
        Some("put") => true,
        _ => line["durability"] == "survives the machine",
    };
    let cell: Cell = |line| if text(line, "workload").ends_with("callers") { per_second(line) } else { p50(line) };
    pivot(lines.iter().filter(is_shown), &["store"], column, cell)
}
