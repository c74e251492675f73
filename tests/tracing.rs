//! Tracing: what is said, at which level and with which fields, and that the guide has all of it.
//!
//! The subscriber hears everything that happens in this process: one test at a time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use in_mem::HistoryRetention;
use in_mem::prelude::*;
use support::{directory, on_tokio};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Something that was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    level: String,
    message: String,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => drop(self.fields.insert(name, format!("{value:?}"))),
        }
    }
}

static SAID: Mutex<Vec<Said>> = Mutex::new(Vec::new());

struct Listener(AtomicU64);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("in_mem")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let metadata = span.metadata();
        let mut said = Said { level: format!("span, {}", level(metadata)), ..Said::default() };
        span.record(&mut said);
        said.message = metadata.name().into();
        SAID.lock().unwrap().push(said);
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut said = Said { level: level(event.metadata()), ..Said::default() };
        event.record(&mut said);
        SAID.lock().unwrap().push(said);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn level(metadata: &Metadata<'_>) -> String {
    match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
    .into()
}

/// From now on everything is heard, until the guard goes.
fn listen() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static LISTENING: OnceLock<()> = OnceLock::new();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    LISTENING.get_or_init(|| tracing::subscriber::set_global_default(Listener(AtomicU64::new(1))).unwrap());
    SAID.lock().unwrap().clear();
    turn
}

fn said() -> Vec<Said> {
    SAID.lock().unwrap().clone()
}

fn messages() -> Vec<String> {
    said().into_iter().map(|said| format!("{}: {}", said.level, said.message)).collect()
}

#[test]
fn what_takes_long_is_a_span_and_says_how_it_ended() {
    let _turn = listen();
    on_tokio(async {
        let root = directory();
        let builder = Database::builder().path(root.path().join("live")).shards(2);
        let database = builder.open().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        run.kv().put("k", 1).await.unwrap();
        database.checkpoint().await.unwrap();
        database.backup(root.path().join("copy")).await.unwrap();
        assert!(database.verify().await.unwrap().problems.is_empty());
        database.close().await.unwrap();
        Database::salvage(root.path().join("copy"), root.path().join("salvaged")).await.unwrap();
    });
    let expected = [
        "span, info: open",
        "info: the driver of the shards is chosen",
        "span, info: recovery",
        "info: recovered",
        "span, info: snapshot",
        "info: a snapshot was taken",
        "span, info: backup",
        "info: backed up",
        "span, info: verify",
        "info: verified",
        "span, info: salvage",
        "info: salvaged",
    ];
    let serious: Vec<_> = said().into_iter().filter(|said| ["error", "warn"].contains(&said.level.as_str())).collect();
    let of_the_machine = |said: &Said| said.message.contains("O_DIRECT") || said.message.contains("took long");
    assert!(serious.iter().all(of_the_machine), "{serious:?}");
    let heard: Vec<_> = messages().into_iter().filter(|message| message.contains("info: ")).collect();
    assert_eq!(heard, expected);
}

#[test]
fn no_operation_says_anything() {
    let _turn = listen();
    on_tokio(async {
        let database = Database::open_in_memory().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        let before = messages();
        for number in 0..100 {
            run.kv().put("k", number).await.unwrap();
            run.kv().get("k").await.unwrap();
            run.events().append("e", number).await.unwrap();
            run.transaction(async |txn| txn.kv_put("other", number).await).await.unwrap();
        }
        assert_eq!(messages(), before);
    });
}

#[test]
fn a_transaction_that_loses_says_so_and_one_that_loses_again_and_again_is_warned_of_once() {
    let _turn = listen();
    on_tokio(async {
        let builder = Database::builder().durability(DurabilityMode::InMemory).history(HistoryRetention::Off);
        let database = builder.open().await.unwrap();
        let run = database.start_run(RunOptions::default()).await.unwrap();
        let other = &run;
        for label in ["first", "second"] {
            let label = Some(label.to_owned());
            let options = TransactionOptions { max_retries: 17, label, ..TransactionOptions::default() };
            let loses = async |txn: Transaction| {
                txn.kv_get("k").await?;
                other.kv().put("k", 0).await?;
                txn.kv_put("k", 1).await
            };
            let lost = database.transaction_with(run.id(), options, loses).await;
            assert!(matches!(lost, Err(Error::TransactionConflict(_))));
        }
    });
    let of = |message: &str| said().into_iter().filter(|said| said.message == message).collect::<Vec<_>>();
    let again = of("a transaction lost and runs again");
    assert_eq!(again.len(), 2 * 17);
    assert_eq!((again[3].level.as_str(), again[3].fields["retries"].as_str()), ("debug", "3"));
    assert!(again[3].fields["conflict"].contains('k'), "{again:?}");
    let warned = of("a transaction loses again and again");
    assert_eq!(warned[0].level, "warn");
    assert_eq!((warned[0].fields["label"].as_str(), warned[0].fields["retries"].as_str()), ("\"first\"", "16"));
}

/// `level | message | fields`, as the guide's table has it.
type Row = (String, String, BTreeSet<String>);

/// The parts of a text between commas that are in no brackets and no literal.
fn parts(text: &str) -> Vec<String> {
    let (mut all, mut depth, mut quoted) = (vec![String::new()], 0, false);
    for char in text.chars() {
        quoted ^= char == '"';
        depth += i32::from("([{".contains(char)) - i32::from(")]}".contains(char));
        if char == ',' && depth == 0 && !quoted {
            all.push(String::new());
        } else {
            all.last_mut().unwrap().push(char);
        }
    }
    all.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// What a source says, by its macros.
fn rows_of_source(text: &str) -> Vec<Row> {
    let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut rows = Vec::new();
    for call in shipped.split("tracing::").skip(1) {
        let Some((name, rest)) = call.split_once("!(") else { continue };
        let level = match name {
            "error" | "warn" | "info" | "debug" | "trace" => name.to_owned(),
            name => match name.strip_suffix("_span") {
                Some(level) => format!("span, {level}"),
                None => continue,
            },
        };
        let mut depth = 1;
        let end = rest.find(|char| {
            depth += i32::from(char == '(') - i32::from(char == ')');
            depth == 0
        });
        let arguments = parts(&rest[..end.unwrap()]);
        let (literals, fields): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|part| part.starts_with('"'));
        let field = |field: String| field.split('=').next().unwrap().trim().trim_start_matches(['%', '?']).to_owned();
        rows.push((level, literals[0].trim_matches('"').to_owned(), fields.into_iter().map(field).collect()));
    }
    rows
}

fn rows_of_table(text: &str) -> BTreeSet<Row> {
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let is_level =
        |level: &str| ["error", "warn", "info", "debug", "trace"].contains(&level.trim_start_matches("span, "));
    let row = |line: &str| match line.split('|').map(str::trim).collect::<Vec<_>>()[..] {
        ["", level, message, fields, ..] if is_level(level) => {
            Some((level.to_owned(), names(message).concat(), names(fields).into_iter().collect()))
        }
        _ => None,
    };
    text.lines().filter_map(row).collect()
}

fn sources(directory: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else {
            all.push(fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn the_guide_lists_everything_that_is_said() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    sources(&root.join("src"), &mut texts);
    let from_source: BTreeSet<Row> = texts.iter().flat_map(|text| rows_of_source(text)).collect();
    let from_guide = rows_of_table(&fs::read_to_string(root.join("docs/guide/operating.md")).unwrap());
    assert!(from_source.len() > 20, "the source is read: {from_source:?}");
    let missing: Vec<_> = from_source.difference(&from_guide).collect();
    let too_much: Vec<_> = from_guide.difference(&from_source).collect();
    assert!(missing.is_empty() && too_much.is_empty(), "not in the guide: {missing:#?}\nonly there: {too_much:#?}");
}

#[test]
fn a_source_and_a_table_are_read_alike() {
    let source = "fn f() {\n    tracing::warn!(\n        shard = 1,\n        %reason,\n        a = ?g(b, c),\n        \"it is, so\"\n    );\n    \
                  let _ = tracing::info_span!(\"name\", id = 7).entered();\n    tracing::enabled!(X);\n}";
    let table = "| level | message | fields |\n|---|---|---|\n| warn | `it is, so` | `a`, `reason`, `shard` | do |\n| span, info | `name` | `id` | |";
    assert_eq!(rows_of_source(source).into_iter().collect::<BTreeSet<_>>(), rows_of_table(table));
    assert_eq!(rows_of_table(table).len(), 2);
}
