//! A run's traces as OTLP/JSON: what OpenTelemetry collectors read.
//!
//! - The run is the root span, its events are events of that span, and each trace is a span. A trace's own id is the id of its
//!   span: 16 hexadecimal digits. The id of the run is the id of the trace.
//! - A trace is recorded when it has happened: it ends then, and began so long before as it says that it took.
//! - As the protocol says: ids in hexadecimal, times in nanoseconds and 64-bit integers as strings, enumerations as numbers.

use in_mem::blocking::serde_json::{Value as Json, json};
use in_mem::blocking::{Database, Event, RunId, RunMetadata, RunStatus, Trace, TraceType, Value};

use crate::failure::Failure;
use crate::output::hex;

const INTERNAL: u8 = 1;
const OK: u8 = 1;
const ERROR: u8 = 2;

/// All traces of a run.
pub(crate) fn document(database: &Database, run: RunId) -> Result<Json, Failure> {
    let about = database.runs().get_run(run)?;
    let traces = database.traces().stream(run).collect::<Result<Vec<Trace>, _>>()?;
    let events = database.events().stream(run, 0).collect::<Result<Vec<Event>, _>>()?;
    let root = root_span(run, about.as_ref(), &traces, &events);
    let spans: Json = std::iter::once(root).chain(traces.iter().map(|trace| span(run, trace))).collect();
    let resource = [
        attribute("service.name", &json!("in-mem")),
        attribute("in_mem.run.id", &json!(run)),
        attribute("in_mem.run.name", &json!(about.as_ref().map_or_else(|| run.to_string(), |run| run.name.clone()))),
    ];
    let scope = json!({"name": "in-mem", "version": env!("CARGO_PKG_VERSION")});
    Ok(json!({
        "resourceSpans": [{
            "resource": {"attributes": resource},
            "scopeSpans": [{"scope": scope, "spans": spans}],
        }],
    }))
}

fn trace_id(run: RunId) -> String {
    hex(run.as_bytes())
}

/// The second half of the run's id: random in ids of both versions.
fn root_id(run: RunId) -> String {
    hex(&run.as_bytes()[8..])
}

fn root_span(run: RunId, about: Option<&RunMetadata>, traces: &[Trace], events: &[Event]) -> Json {
    let times = traces.iter().map(start_of).chain(events.iter().map(|event| event.timestamp));
    let first = about.map(|about| about.created_at).into_iter().chain(times).min().unwrap_or_default();
    let times = traces.iter().map(|trace| trace.timestamp).chain(events.iter().map(|event| event.timestamp));
    let last = about.and_then(|about| about.completed_at).into_iter().chain(times).max().unwrap_or(first);
    let status = match about {
        Some(about) if about.status == RunStatus::Failed => {
            json!({"code": ERROR, "message": about.error.clone().unwrap_or_default()})
        }
        Some(about) if about.status == RunStatus::Completed => json!({"code": OK}),
        _ => json!({}),
    };
    let events: Json = events
        .iter()
        .map(|event| {
            json!({
                "timeUnixNano": nanoseconds(event.timestamp),
                "name": event.event_type,
                "attributes": [
                    attribute("in_mem.event.sequence", &json!(event.sequence)),
                    attribute("in_mem.event.payload", &event.payload.to_json()),
                ],
            })
        })
        .collect();
    let attributes: Vec<Json> = about.map_or_else(Vec::new, |about| {
        vec![
            attribute("in_mem.run.status", &json!(about.status.as_str())),
            attribute("in_mem.run.tags", &json!(about.tags)),
            attribute("in_mem.run.metadata", &about.metadata.to_json()),
        ]
    });
    json!({
        "traceId": trace_id(run),
        "spanId": root_id(run),
        "name": about.map_or_else(|| run.to_string(), |about| about.name.clone()),
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(first),
        "endTimeUnixNano": nanoseconds(last),
        "attributes": attributes,
        "events": events,
        "status": status,
    })
}

fn span(run: RunId, trace: &Trace) -> Json {
    let status = match &trace.trace_type {
        TraceType::Error { message, .. } => json!({"code": ERROR, "message": message}),
        _ => json!({}),
    };
    let mut attributes = vec![attribute("in_mem.trace.kind", &json!(trace.trace_type.kind()))];
    attributes.extend(said(&trace.trace_type).into_iter().map(|(name, value)| attribute(name, &value)));
    if !trace.tags.is_empty() {
        attributes.push(attribute("in_mem.trace.tags", &json!(trace.tags)));
    }
    if trace.metadata != Value::Null {
        attributes.push(attribute("in_mem.trace.metadata", &trace.metadata.to_json()));
    }
    json!({
        "traceId": trace_id(run),
        "spanId": padded(&trace.id),
        "parentSpanId": trace.parent_id.as_deref().map_or_else(|| root_id(run), padded),
        "name": name(&trace.trace_type),
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(start_of(trace)),
        "endTimeUnixNano": nanoseconds(trace.timestamp),
        "attributes": attributes,
        "status": status,
    })
}

fn name(trace: &TraceType) -> String {
    match trace {
        TraceType::ToolCall { tool_name, .. } => format!("execute_tool {tool_name}"),
        other => other.kind(),
    }
}

/// What a trace says, under the names of OpenTelemetry where it has any.
fn said(trace: &TraceType) -> Vec<(&'static str, Json)> {
    match trace {
        TraceType::ToolCall { tool_name, arguments, result, .. } => {
            let result = result.as_ref().map(|result| ("gen_ai.tool.call.result", result.to_json()));
            let mut said = vec![
                ("gen_ai.operation.name", json!("execute_tool")),
                ("gen_ai.tool.name", json!(tool_name)),
                ("gen_ai.tool.call.arguments", arguments.to_json()),
            ];
            said.extend(result);
            said
        }
        TraceType::Decision { question, options, chosen, reasoning } => vec![
            ("in_mem.decision.question", json!(question)),
            ("in_mem.decision.options", json!(options)),
            ("in_mem.decision.chosen", json!(chosen)),
            ("in_mem.decision.reasoning", json!(reasoning)),
        ],
        TraceType::Query { query_type, query, results_count } => vec![
            ("in_mem.query.type", json!(query_type)),
            ("in_mem.query.text", json!(query)),
            ("in_mem.query.results", json!(results_count)),
        ],
        TraceType::Thought { content, confidence } => {
            vec![("in_mem.thought.content", json!(content)), ("in_mem.thought.confidence", json!(confidence))]
        }
        TraceType::Error { error_type, message, recoverable } => vec![
            ("error.type", json!(error_type)),
            ("in_mem.error.message", json!(message)),
            ("in_mem.error.recoverable", json!(recoverable)),
        ],
        TraceType::Custom { name, data } => {
            vec![("in_mem.custom.name", json!(name)), ("in_mem.custom.data", data.to_json())]
        }
    }
}

/// When a trace began, in microseconds.
fn start_of(trace: &Trace) -> i64 {
    let took = match &trace.trace_type {
        TraceType::ToolCall { duration_ms: Some(ms), .. } => {
            i64::try_from(ms.saturating_mul(1_000)).unwrap_or(i64::MAX)
        }
        _ => 0,
    };
    trace.timestamp.saturating_sub(took).max(0)
}

/// Nanoseconds since the Unix epoch from microseconds.
fn nanoseconds(micros: i64) -> String {
    (i128::from(micros.max(0)) * 1_000).to_string()
}

/// The id of a span has 16 digits.
fn padded(id: &str) -> String {
    format!("{id:0>16}")
}

fn attribute(name: &str, value: &Json) -> Json {
    json!({"key": name, "value": any_value(value)})
}

/// JSON as the protocol's `AnyValue`.
fn any_value(value: &Json) -> Json {
    match value {
        Json::Null => json!({}),
        Json::Bool(value) => json!({"boolValue": value}),
        Json::String(text) => json!({"stringValue": text}),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => json!({"intValue": integer.to_string()}),
            // Beyond what the protocol's integers hold.
            (None, Some(integer)) => json!({"stringValue": integer.to_string()}),
            (None, None) => json!({"doubleValue": number}),
        },
        Json::Array(items) => json!({"arrayValue": {"values": items.iter().map(any_value).collect::<Json>()}}),
        Json::Object(fields) => {
            let values: Json = fields.iter().map(|(name, value)| attribute(name, value)).collect();
            json!({"kvlistValue": {"values": values}})
        }
    }
}
