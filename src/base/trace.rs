//! Traces: the records of how an agent reasoned.

use serde::{Deserialize, Serialize};

use super::value::Value;

/// What an agent did in one step of its reasoning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TraceType {
    /// It called a tool.
    ToolCall {
        /// The name of the tool.
        tool_name: String,
        /// What it was called with.
        arguments: Value,
        /// What it answered, if it has.
        result: Option<Value>,
        /// How long it took, in milliseconds.
        duration_ms: Option<u64>,
    },
    /// It chose between options.
    Decision {
        /// What was to be decided.
        question: String,
        /// What could be chosen.
        options: Vec<String>,
        /// What was chosen.
        chosen: String,
        /// Why.
        reasoning: Option<String>,
    },
    /// It looked something up.
    Query {
        /// The kind of query.
        query_type: String,
        /// The query.
        query: String,
        /// How many results came back.
        results_count: Option<u32>,
    },
    /// It thought.
    Thought {
        /// The thought.
        content: String,
        /// How sure it was, 0 to 1.
        confidence: Option<f64>,
    },
    /// Something went wrong.
    Error {
        /// The kind of error.
        error_type: String,
        /// What it said.
        message: String,
        /// Whether the agent can go on.
        recoverable: bool,
    },
    /// Anything else.
    Custom {
        /// The name of the kind.
        name: String,
        /// Its data.
        data: Value,
    },
}

impl TraceType {
    /// The kind by which traces are queried: `ToolCall`, `Decision`, `Query`, `Thought`, `Error`, or `Custom:NAME`.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Custom { name, .. } => format!("Custom:{name}"),
            other => other.family().into(),
        }
    }

    /// The kind without the name of a custom one.
    pub(crate) const fn family(&self) -> &'static str {
        match self {
            Self::ToolCall { .. } => "ToolCall",
            Self::Decision { .. } => "Decision",
            Self::Query { .. } => "Query",
            Self::Thought { .. } => "Thought",
            Self::Error { .. } => "Error",
            Self::Custom { .. } => "Custom",
        }
    }

    /// About how many bytes it takes, for limits.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::ToolCall { tool_name, arguments, result, .. } => {
                tool_name.len() + arguments.weight() + result.as_ref().map_or(0, Value::weight)
            }
            Self::Decision { question, options, chosen, reasoning } => {
                question.len()
                    + options.iter().map(|option| option.len() + 8).sum::<usize>()
                    + chosen.len()
                    + reasoning.as_ref().map_or(0, String::len)
            }
            Self::Query { query_type, query, .. } => query_type.len() + query.len(),
            Self::Thought { content, .. } => content.len(),
            Self::Error { error_type, message, .. } => error_type.len() + message.len(),
            Self::Custom { name, data } => name.len() + data.weight(),
        }
    }
}

impl From<&str> for TraceType {
    /// A custom type of that name without data.
    fn from(name: &str) -> Self {
        Self::Custom { name: name.into(), data: Value::Null }
    }
}

impl From<String> for TraceType {
    fn from(name: String) -> Self {
        Self::Custom { name, data: Value::Null }
    }
}

/// One recorded step of an agent's reasoning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The identifier, unique in the database, ordered by time of recording.
    pub id: String,
    /// The trace this one belongs under.
    pub parent_id: Option<String>,
    /// What the agent did.
    pub trace_type: TraceType,
    /// When it was recorded, in microseconds since the Unix epoch.
    pub timestamp: i64,
    /// Labels to find it by.
    pub tags: Vec<String>,
    /// Anything else worth keeping.
    pub metadata: Value,
}

/// A trace and, in recording order, the traces below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceTree {
    /// The trace.
    pub trace: Trace,
    /// Its children, each with its own.
    pub children: Vec<TraceTree>,
}
