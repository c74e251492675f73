//! Imports a recorded agent run, a trajectory of SWE-agent (a `.traj` file), and reads it back from disk.
//!
//! Run it with `cargo run --release --example import_trajectory -- PATH [--db DIR] [--mode strict|buffered|in-memory]`.
//! Without `--db` the database is in a temporary directory, which is removed at the end.
//!
//! - The run has the name of the file without its extension, `info` is its metadata. It is completed if it was
//!   submitted; otherwise it fails with its exit status. It is imported as a whole or not at all.
//! - A step is one transaction. Its thought is a trace, its action a tool call under that (the first word is the tool,
//!   the whole text its arguments), its observation an event and the result of the call, its `state` the cell `state`.
//! - The chat `history` is in the key-value pairs, from `message/000000` on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use in_mem::prelude::*;
use in_mem::serde_json::{self, Value as Json};

const USAGE: &str = "usage: import_trajectory PATH [--db DIR] [--mode strict|buffered|in-memory]";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(report) => println!("{report}"),
        Err((code, problem)) => {
            eprintln!("import_trajectory: {problem}");
            return ExitCode::from(code);
        }
    }
    ExitCode::SUCCESS
}

async fn run() -> Result<String, (u8, String)> {
    let command = Command::parse(std::env::args_os().skip(1)).map_err(|problem| (2, format!("{problem}; {USAGE}")))?;
    let Some(command) = command else { return Ok(USAGE.into()) };
    command.import().await.map_err(|problem| (1, format!("{}: {problem}", command.path.display())))
}

/// What the command line says.
struct Command {
    path: PathBuf,
    directory: Option<PathBuf>,
    mode: DurabilityMode,
}

impl Command {
    /// `None` if only help is wanted.
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, String> {
        let (mut path, mut directory) = (None, None);
        let mut mode = DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 1000 };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next().filter(|value| !value.as_encoded_bytes().starts_with(b"--"));
                value.ok_or_else(|| format!("{} needs a value", argument.display()))
            };
            match argument.to_str() {
                Some("--help" | "-h") => return Ok(None),
                Some("--db") => directory = Some(PathBuf::from(value()?)),
                Some("--mode") => match value()?.to_str() {
                    Some("strict") => mode = DurabilityMode::Strict,
                    Some("buffered") => {}
                    Some("in-memory") => mode = DurabilityMode::InMemory,
                    _ => return Err("there is no such mode".into()),
                },
                Some(option) if option.starts_with('-') => return Err(format!("there is no option {option}")),
                _ if path.is_some() => return Err("more than one recording".into()),
                _ => path = Some(PathBuf::from(&argument)),
            }
        }
        if mode == DurabilityMode::InMemory && directory.is_some() {
            return Err("in-memory mode writes nothing, it takes no --db".into());
        }
        Ok(Some(Self { path: path.ok_or("which recording?")?, directory, mode }))
    }

    /// Imports the recording, reads it back, and reports what was found if that is what was recorded.
    async fn import(&self) -> Result<String, String> {
        let recording = Recording::read(&self.path)?;
        let temporary = self.directory.is_none().then(tempfile::tempdir).transpose().map_err(text_of)?;
        let directory = self.directory.as_deref().or(temporary.as_ref().map(tempfile::TempDir::path));
        let directory = directory.ok_or("there is no directory")?;
        let open = async || {
            let opened = Database::open_with_mode(directory, self.mode).await;
            opened.map_err(|error| format!("cannot open the database in {}: {error}", directory.display()))
        };

        let mut database = open().await?;
        let start = Instant::now();
        let run = recording.begin(&database, directory).await?;
        if let Err(problem) = recording.store(&run).await {
            database.runs().delete_run(run.id()).await.map_err(text_of)?;
            return Err(problem);
        }
        database.flush().await.map_err(text_of)?;
        let took = start.elapsed();
        let from = if self.mode == DurabilityMode::InMemory {
            "the live database: one in memory cannot be reopened"
        } else {
            database.close().await.map_err(text_of)?;
            database = open().await?;
            "the reopened database"
        };

        let found = look_back(&database, &recording.name).await.map_err(text_of)?;
        database.close().await.map_err(text_of)?;
        let mut report = format!("read back from {from}\n");
        for ((what, found), (_, recorded)) in found.iter().zip(recording.summary()) {
            if *found != recorded {
                return Err(format!("{what} in the database is not as recorded: found={found} recorded={recorded}"));
            }
            report += &format!("{what}: {found}\n");
        }
        Ok(format!("{report}import took: {took:.1?}"))
    }
}

/// A summary of a run: what and how much or which.
type Summary = [(&'static str, String); 8];

/// What the database holds of a run.
async fn look_back(database: &Database, name: &str) -> Result<Summary> {
    let about =
        database.runs().get_run(name).await?.ok_or_else(|| Error::KeyNotFound(format!("run: name={name:?}")))?;
    let run = database.run(about.run_id);
    let chain = run.events().verify_chain().await?;
    Ok([
        ("run", about.name),
        ("status", about.error.map_or(about.status.to_string(), |error| format!("{} ({error})", about.status))),
        ("steps", run.traces().query_by_type("Thought").await?.len().to_string()),
        ("events", run.events().len().await?.to_string()),
        ("traces", run.traces().count().await?.to_string()),
        ("messages", run.kv().count(Some("message/")).await?.to_string()),
        ("last state", run.states().read("state").await?.map_or("none".into(), |state| state.value.to_string())),
        ("chain", chain.error.unwrap_or(if chain.is_valid { "valid" } else { "broken" }.into())),
    ])
}

/// A recorded run, checked.
struct Recording {
    name: String,
    info: Value,
    /// What the run failed with; `None` if it was submitted.
    failure: Option<String>,
    steps: Vec<Step>,
    messages: Vec<Value>,
}

struct Step {
    thought: String,
    action: String,
    /// Null if the action showed nothing.
    observation: Value,
    duration_ms: Option<u64>,
    state: Option<Value>,
}

impl Recording {
    fn read(path: &Path) -> Result<Self, String> {
        let json: Json = serde_json::from_slice(&std::fs::read(path).map_err(text_of)?)
            .map_err(|error| format!("the file is not JSON: {error}"))?;
        let root = Part { path: "$".into(), json: &json };
        let info = root.optional("info")?;
        let status = info.as_ref().map_or(Ok(None), |info| info.optional("exit_status"))?;
        let submission = info.as_ref().map_or(Ok(None), |info| info.optional("submission"))?;
        let failure = match (status, submission) {
            (Some(status), _) => Some(status.text()?.to_owned()).filter(|status| !status.starts_with("submitted")),
            (None, Some(submission)) if !submission.text()?.is_empty() => None,
            _ => Some("neither an exit status nor a submission".into()),
        };
        let messages = root.optional("history")?.map_or(Ok(vec![]), |history| history.items())?;
        Ok(Self {
            name: path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into(),
            info: info.map_or(Value::Null, |info| info.json.clone().into()),
            failure,
            steps: root.required("trajectory")?.items()?.iter().map(Step::read).collect::<Result<_, _>>()?,
            messages: messages.iter().map(Part::object).collect::<Result<_, _>>()?,
        })
    }

    async fn begin(&self, database: &Database, directory: &Path) -> Result<RunHandle, String> {
        let options =
            RunOptions { name: Some(self.name.clone()), metadata: self.info.clone(), ..RunOptions::default() };
        database.start_run(options).await.map_err(|error| match error {
            Error::AlreadyExists(_) => format!("a run named {:?} exists already in {}", self.name, directory.display()),
            error => format!("info: {error}"),
        })
    }

    async fn store(&self, run: &RunHandle) -> Result<(), String> {
        let kv = run.kv();
        let puts = self.messages.iter().enumerate().map(|(index, message)| {
            let put = kv.put(format!("message/{index:06}"), message);
            async move { put.await.map_err(|error| format!("history[{index}]: {error}")) }
        });
        try_join_all(puts).await?;
        for (index, step) in self.steps.iter().enumerate() {
            let stored = run.transaction(|txn| step.store(txn)).await;
            stored.map_err(|error| format!("trajectory[{index}]: {error}"))?;
        }
        let ended = match &self.failure {
            None => run.end().await,
            Some(status) => run.fail(status).await,
        };
        ended.map_err(text_of)
    }

    /// What the database must hold.
    fn summary(&self) -> Summary {
        let last_state = self.steps.iter().rev().find_map(|step| step.state.as_ref());
        [
            ("run", self.name.clone()),
            ("status", self.failure.as_ref().map_or("Completed".into(), |status| format!("Failed ({status})"))),
            ("steps", self.steps.len().to_string()),
            ("events", self.steps.len().to_string()),
            ("traces", (2 * self.steps.len()).to_string()),
            ("messages", self.messages.len().to_string()),
            ("last state", last_state.map_or("none".into(), Value::to_string)),
            ("chain", "valid".into()),
        ]
    }
}

impl Step {
    fn read(step: &Part) -> Result<Self, String> {
        let has_observation = !step.json.get("observation").is_some_and(Json::is_null);
        Ok(Self {
            thought: step.required("thought")?.text()?.into(),
            action: step.required("action")?.text()?.into(),
            observation: if has_observation { step.required("observation")?.text()?.into() } else { Value::Null },
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

/// A part of the recording, and the path to it, for errors that say where.
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

    /// An object; one recording format has it as JSON in a text.
    fn object(&self) -> Result<Value, String> {
        let parsed = self.json.as_str().and_then(|text| serde_json::from_str(text).ok());
        let object = parsed.unwrap_or_else(|| self.json.clone());
        self.read("an object, nor one in a text", |_| object.is_object().then(|| object.into()))
    }

    /// A number of seconds; one recording format has it as a text.
    fn seconds_as_ms(&self) -> Result<u64, String> {
        self.read("a number of seconds", |json| {
            let seconds = json.as_f64().or_else(|| json.as_str()?.trim().parse().ok())?;
            Duration::try_from_secs_f64(seconds).ok()?.as_millis().try_into().ok()
        })
    }
}

fn text_of(error: impl std::fmt::Display) -> String {
    error.to_string()
}
