//! A recorded agent run, a trajectory of SWE-agent (a `.traj` file), read and stored. Shared by the examples that import one.
//!
//! - A step is one transaction: its thought is a trace; its action a tool call under that, whose tool is the first word
//!   and whose arguments are the whole text; its observation an event and the call's result; its `state` a state cell.
//! - What is known in the end only is stored after the steps: the chat `history`, in the key-value pairs from
//!   `message/000000` on, and `info`, the metadata of the run. Submitted, the run is completed; if not, it failed.
#![allow(dead_code, unreachable_pub, reason = "each example uses a part of it")]

use std::path::Path;
use std::time::Duration;

use in_mem::prelude::*;
use in_mem::serde_json::{self, Value as Json};

/// A result whose error is a line of text for the user.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A recorded run.
pub struct Recording {
    /// The name of the file without its extension.
    pub name: String,
    info: Value,
    /// The status that it failed with; `None`: it was submitted.
    pub failed_with: Option<String>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// The chat.
    pub messages: Vec<Value>,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// What is wrong with the file, and at which place of it.
    pub fn read(path: &Path) -> Outcome<Self> {
        let json = serde_json::from_slice(&std::fs::read(path)?).map_err(|error| format!("not JSON: {error}"))?;
        let root = Part { path: "$".into(), json: &json };
        let nothing = Json::Object(serde_json::Map::new());
        let info = root.optional("info")?.unwrap_or(Part { path: "$.info".into(), json: &nothing });
        let failed_with = match (info.optional("exit_status")?, info.optional("submission")?) {
            (Some(status), _) => Some(status.text()?.to_owned()).filter(|status| !status.starts_with("submitted")),
            (None, Some(submission)) if !submission.text()?.is_empty() => None,
            _ => Some("neither an exit status nor a submission".into()),
        };
        let messages = root.optional("history")?.map_or(Ok(vec![]), |history| history.items())?;
        Ok(Self {
            name: path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into(),
            info: info.json.clone().into(),
            failed_with,
            steps: root.required("trajectory")?.items()?.iter().map(Step::read).collect::<Result<_, _>>()?,
            messages: messages.iter().map(Part::object).collect::<Result<_, _>>()?,
        })
    }

    /// Stores the recording as a run of this name, as a whole or not at all.
    ///
    /// # Errors
    /// What the database refuses, and at which place of the recording.
    pub async fn store(&self, database: &Database, name: &str) -> Outcome<RunId> {
        let run = database.start_run(RunOptions { name: Some(name.into()), ..RunOptions::default() }).await?;
        if let Err(problem) = self.store_in(database, &run).await {
            database.runs().delete_run(run.id()).await?;
            return Err(problem);
        }
        Ok(run.id())
    }

    async fn store_in(&self, database: &Database, run: &RunHandle) -> Outcome<()> {
        for (index, step) in self.steps.iter().enumerate() {
            run.transaction(|txn| step.store(txn)).await.map_err(|error| format!("$.trajectory[{index}]: {error}"))?;
        }
        let keys = (0..self.messages.len()).map(|index| format!("message/{index:06}"));
        run.kv().put_many(keys.zip(&self.messages)).await.map_err(|error| format!("$.history: {error}"))?;
        let info = database.runs().update_metadata(run.id(), &self.info).await;
        info.map_err(|error| format!("$.info: {error}"))?;
        Ok(self.failed_with.as_ref().map_or_else(|| run.end(), |status| run.fail(status)).await?)
    }
}

/// One step of a recorded run.
pub struct Step {
    thought: String,
    action: String,
    observation: Value,
    duration_ms: Option<u64>,
    /// The state of its environment afterwards.
    pub state: Option<Value>,
}

impl Step {
    fn read(step: &Part) -> Result<Self, String> {
        let is_silent = step.json.get("observation").is_some_and(Json::is_null);
        Ok(Self {
            thought: step.required("thought")?.text()?.into(),
            action: step.required("action")?.text()?.into(),
            observation: if is_silent { Value::Null } else { step.required("observation")?.text()?.into() },
            duration_ms: step.optional("execution_time")?.map(|time| time.seconds_as_ms()).transpose()?,
            state: step.optional("state")?.map(|state| state.object()).transpose()?,
        })
    }

    async fn store(&self, txn: Transaction) -> Result<()> {
        let thought = TraceType::Thought { content: self.thought.clone(), confidence: None };
        let thought = txn.trace_record(thought, Value::Null).await?;
        let action = TraceType::ToolCall {
            tool_name: self.action.split_whitespace().next().unwrap_or_default().into(),
            arguments: self.action.as_str().into(),
            result: Some(self.observation.clone()).filter(|observation| !observation.is_null()),
            duration_ms: self.duration_ms,
        };
        txn.trace_record_child(thought, action, Value::Null).await?;
        txn.event_append("observation", &self.observation).await?;
        if let Some(state) = &self.state {
            txn.state_set("state", state).await?;
        }
        Ok(())
    }
}

/// A part of the recording and the path to it. An object or a number may be in a text: one recording format has it so.
struct Part<'a> {
    path: String,
    json: &'a Json,
}

impl<'a> Part<'a> {
    fn read<T>(&self, what: &str, read: impl FnOnce(&'a Json) -> Option<T>) -> Result<T, String> {
        read(self.json).ok_or_else(|| format!("{} is not {what}", self.path))
    }

    /// `None` if the field is missing or null.
    fn optional(&self, name: &str) -> Result<Option<Self>, String> {
        let field = self.read("an object", Json::as_object)?.get(name).filter(|json| !json.is_null());
        Ok(field.map(|json| Self { path: format!("{}.{name}", self.path), json }))
    }

    fn required(&self, name: &str) -> Result<Self, String> {
        self.optional(name)?.ok_or_else(|| format!("{}.{name} is missing or null", self.path))
    }

    fn items(&self) -> Result<Vec<Self>, String> {
        let items = self.read("a list", Json::as_array)?.iter().enumerate();
        Ok(items.map(|(index, json)| Self { path: format!("{}[{index}]", self.path), json }).collect())
    }

    fn text(&self) -> Result<&'a str, String> {
        self.read("a text", Json::as_str)
    }

    fn object(&self) -> Result<Value, String> {
        let inner = self.json.as_str().and_then(|text| serde_json::from_str(text).ok());
        let json: Json = inner.unwrap_or_else(|| self.json.clone());
        self.read("an object", |_| json.is_object().then(|| json.into()))
    }

    fn seconds_as_ms(&self) -> Result<u64, String> {
        self.read("a number of seconds", |json| {
            let seconds = json.as_f64().or_else(|| json.as_str()?.trim().parse().ok())?;
            Duration::try_from_secs_f64(seconds).ok()?.as_millis().try_into().ok()
        })
    }
}
