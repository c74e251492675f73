//! What a commit changed, as JSON for programs and in one line for people.

use in_mem::blocking::serde_json::{Value as Json, json};
use in_mem::blocking::{Change, RunMetadata, Trace, TraceType, Value};

use crate::output::hex;

/// A change: `primitive`, `key`, and what it holds from then on, or `deleted`.
pub(crate) fn change_json(change: &Change) -> Json {
    match change {
        Change::Kv { key, value } => held("kv", key, "value", value.as_ref().map(Value::to_json)),
        Change::Json { key, document } => held("json", key, "document", document.clone()),
        Change::State { name, state } => {
            let mut json = held("states", name, "value", state.as_ref().map(|state| state.value.to_json()));
            if let Some(state) = state {
                json["state_version"] = json!(state.version);
                json["timestamp"] = json!(state.updated_at);
            }
            json
        }
        Change::Event(event) => json!({
            "primitive": "events",
            "key": event.sequence.to_string(),
            "type": event.event_type,
            "payload": event.payload.to_json(),
            "timestamp": event.timestamp,
            "hash": hex(&event.hash),
        }),
        Change::Trace(trace) => named("traces", &trace.id, trace_json(trace)),
        Change::Run(about) => named("runs", &about.run_id.to_string(), run_json(about)),
        other => json!({"primitive": "unknown", "key": "", "value": format!("{other:?}")}),
    }
}

/// An object under a primitive and a key.
fn named(primitive: &str, key: &str, object: Json) -> Json {
    let mut named = json!({"primitive": primitive, "key": key});
    if let (Json::Object(named), Json::Object(mut object)) = (&mut named, object) {
        named.append(&mut object);
    }
    named
}

fn held(primitive: &str, key: &str, name: &str, value: Option<Json>) -> Json {
    named(primitive, key, value.map_or_else(|| json!({"deleted": true}), |value| json!({name: value})))
}

/// A trace as JSON.
pub(crate) fn trace_json(trace: &Trace) -> Json {
    json!({
        "id": trace.id,
        "parent": trace.parent_id,
        "kind": trace.trace_type.kind(),
        "trace": trace.trace_type,
        "timestamp": trace.timestamp,
        "tags": trace.tags,
        "metadata": trace.metadata.to_json(),
    })
}

/// What is known about a run, as JSON.
pub(crate) fn run_json(about: &RunMetadata) -> Json {
    json!({
        "run": about.run_id,
        "name": about.name,
        "status": about.status.as_str(),
        "parent": about.parent_run,
        "created_at": about.created_at,
        "updated_at": about.updated_at,
        "completed_at": about.completed_at,
        "tags": about.tags,
        "metadata": about.metadata.to_json(),
        "error": about.error,
    })
}

/// A change in three cells: primitive, key, and what happened.
pub(crate) fn change_cells(change: &Change) -> [Json; 3] {
    const DELETED: &str = "deleted";
    let value = |value: Option<String>| value.unwrap_or_else(|| DELETED.into());
    let (primitive, key, what) = match change {
        Change::Kv { key, value: held } => ("kv", key.clone(), value(held.as_ref().map(Value::to_string))),
        Change::Json { key, document } => ("json", key.clone(), value(document.as_ref().map(Json::to_string))),
        Change::State { name, state } => {
            ("states", name.clone(), value(state.as_ref().map(|state| state.value.to_string())))
        }
        Change::Event(event) => {
            ("events", event.sequence.to_string(), format!("{} {}", event.event_type, event.payload))
        }
        Change::Trace(trace) => ("traces", trace.id.clone(), trace_line(&trace.trace_type)),
        Change::Run(about) => ("runs", about.name.clone(), run_line(about)),
        other => ("unknown", String::new(), format!("{other:?}")),
    };
    [primitive.into(), key.into(), shortened(&what).into()]
}

/// What a trace says, in one line.
pub(crate) fn trace_line(trace: &TraceType) -> String {
    let after = |before: &str, text: Option<String>| text.map_or_else(String::new, |text| format!("{before}{text}"));
    match trace {
        TraceType::ToolCall { tool_name, arguments, result, duration_ms } => {
            let result = after(" -> ", result.as_ref().map(Value::to_string));
            format!("{tool_name}({arguments}){result}{}", after(", ms: ", duration_ms.map(|ms| ms.to_string())))
        }
        TraceType::Decision { question, options, chosen, reasoning } => {
            let reasoning = after(", because: ", reasoning.clone());
            format!("{question} [{}] -> {chosen}{reasoning}", options.join(", "))
        }
        TraceType::Query { query_type, query, results_count } => {
            format!("{query_type}: {query}{}", after(", results: ", results_count.map(|count| count.to_string())))
        }
        TraceType::Thought { content, confidence } => {
            format!("{content}{}", after(", confidence: ", confidence.map(|confidence| confidence.to_string())))
        }
        TraceType::Error { error_type, message, recoverable } => {
            format!("{error_type}: {message}{}", if *recoverable { "" } else { " (fatal)" })
        }
        TraceType::Custom { data, .. } => data.to_string(),
    }
}

fn run_line(about: &RunMetadata) -> String {
    let error = about.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    format!("{}{error}", about.status)
}

/// A line that fits.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", visible(&text[..end])),
        None => visible(text),
    }
}

/// Text as a terminal may have it: what somebody stored commands nothing.
pub(crate) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() || turns_direction(char) {
            visible.extend(char.escape_default());
        } else {
            visible.push(char);
        }
    }
    visible
}

/// Whether a character turns the direction of the text around it: what follows would be read where it is not.
const fn turns_direction(char: char) -> bool {
    matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
