//! Measures everything, and rewrites the tables of `docs/PERFORMANCE.md` and `README.md`.
//!
//! `cargo run --release -p in-mem-latency --bin performance [-- NAME.. --quick --rocksdb]`, in the root of the repository. A name is that of
//! a suite of the latency harness, of a bench, or `peers`; without one, all of them take their turn, an hour together. What
//! stands between `<!-- table: NAME -->` and `<!-- end -->` is replaced, and the machine and the commit are named below it.
//! `--quick` measures for a moment, and prints the tables instead. `--rocksdb` builds RocksDB for the comparison with peers.

#![allow(missing_docs, reason = "a program of its own")]

mod document;
mod format;
mod machine;
mod source;
mod tables;

use document::Document;
use source::Source;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Tables that come of one source.
struct Section {
    name: &'static str,
    source: Source,
    /// Names and tables, from what was measured.
    tables: fn(&source::Output) -> Vec<(&'static str, String)>,
}

const fn suite(name: &'static str, tables: fn(&source::Output) -> Vec<(&'static str, String)>) -> Section {
    Section { name, source: Source::Suite, tables }
}

const fn bench(name: &'static str, tables: fn(&source::Output) -> Vec<(&'static str, String)>) -> Section {
    Section { name, source: Source::Bench, tables }
}

const SECTIONS: [Section; 17] = [
    suite("calls", tables::calls),
    suite("open", |output| vec![("open", tables::open(output))]),
    suite("shards", |output| vec![("shards", tables::shards(output))]),
    suite("callers", |output| vec![("callers", tables::callers(output))]),
    suite("sizes", |output| vec![("sizes", tables::sizes(output))]),
    suite("values", |output| vec![("values", tables::values(output))]),
    suite("oversubscribed", |output| vec![("oversubscribed", tables::oversubscribed(output))]),
    suite("idle", |output| vec![("idle", tables::idle(output))]),
    suite("memory", |output| vec![("memory", tables::memory(output))]),
    Section { name: "peers", source: Source::Peers, tables: tables::peers },
    bench("allocations", |output| vec![("allocations", output.tables.clone())]),
    bench("primitives", |output| vec![("primitives", output.tables.clone())]),
    bench("commit", |output| vec![("commit", output.tables.clone())]),
    bench("lineage", |output| vec![("lineage", output.tables.clone())]),
    bench("contention", |output| vec![("contention", output.tables.clone())]),
    bench("replay", |output| vec![("replay", output.tables.clone())]),
    bench("snapshots", |output| vec![("snapshots", output.tables.clone())]),
];

fn main() -> Result<()> {
    let (options, names): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    if let Some(other) = options.iter().find(|option| !matches!(option.as_str(), "--quick" | "--rocksdb")) {
        return Err(format!("unknown argument: {other}").into());
    }
    if let Some(other) = names.iter().find(|name| SECTIONS.iter().all(|section| section.name != *name)) {
        return Err(format!("there is no table of that name: {other}").into());
    }
    let is_asked = |option: &str| options.iter().any(|asked| asked == option);
    let (is_quick, rocksdb) = (is_asked("--quick"), is_asked("--rocksdb"));
    let machine = machine::describe()?;
    for section in SECTIONS.iter().filter(|section| names.is_empty() || names.iter().any(|name| name == section.name)) {
        eprintln!("measuring: {}", section.name);
        let output = section.source.measure(section.name, is_quick, rocksdb)?;
        for (name, table) in (section.tables)(&output) {
            let block = format!("{table}\n{machine}\n");
            if is_quick {
                println!("{name}\n\n{block}");
            } else {
                Document::holding(name)?.replace(name, &block)?;
            }
        }
    }
    Ok(())
}
