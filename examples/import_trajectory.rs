//! Imports a recorded agent run, a trajectory of SWE-agent (a `.traj` file), and reads it back from disk.
//!
//! Run it with `cargo run --release --example import_trajectory -- PATH [--db DIR] [--mode strict|buffered|in-memory]`.
//! Without `--db` the database is in a temporary directory, which is removed at the end.
//!
//! - The run is named after the file, and `info` is its metadata. Submitted, it is completed; if not, it failed.
//! - A step is one transaction: its thought is a trace; its action a tool call under that, whose tool is the first word
//!   and whose arguments are the whole text; its observation an event and the call's result; its `state` a state cell.
//! - The chat `history` is in the key-value pairs, from `message/000000` on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use in_mem::prelude::*;
use in_mem::serde_json::{self, Value as Json};

const USAGE: &str = "usage: import_trajectory PATH [--db DIR] [--mode strict|buffered|in-memory]";
const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 100, max_pending_writes: 1000 };

/// A result whose error is a line of text for the user.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args_os().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let (code, problem) = match Command::parse(std::env::args_os().skip(1)) {
        Err(problem) => (2, format!("{problem}; {USAGE}")),
        Ok(command) => match command.import().await {
            Ok(()) => return ExitCode::SUCCESS,
            Err(problem) => (1, format!("{}: {problem}", command.path.display())),
        },
    };
    eprintln!("import_trajectory: {problem}");
    ExitCode::from(code)
}

/// What the command line says.
struct Command {
    path: PathBuf,
    directory: Option<PathBuf>,
    mode: DurabilityMode,
}

impl Command {
    fn parse(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Outcome<Self> {
        let (mut path, mut directory, mut mode) = (None, None, BUFFERED);
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--db") => directory = Some(arguments.next().ok_or("--db needs a directory")?.into()),
                Some("--mode") => match arguments.next().and_then(|mode| mode.into_string().ok()).as_deref() {
                    Some("strict") => mode = DurabilityMode::Strict,
                    Some("buffered") => mode = BUFFERED,
                    Some("in-memory") => mode = DurabilityMode::InMemory,
                    _ => return Err("--mode needs one of three modes".into()),
                },
                Some(option) if option.starts_with('-') => return Err(format!("there is no option {option}").into()),
                _ if path.is_some() => return Err("there is more than one PATH".into()),
                _ => path = Some(argument.into()),
            }
        }
        Ok(Self { path: path.ok_or("there is no PATH")?, directory, mode })
    }

    /// Imports the recording as a whole or not at all, and shows and compares what the database then holds.
    async fn import(&self) -> Outcome<()> {
        let recording = Recording::read(&self.path)?;
        let temporary = tempfile::tempdir()?;
        let directory = self.directory.as_deref().unwrap_or(temporary.path());
        let open = async || {
            let opened = Database::open_with_mode(directory, self.mode).await;
            opened.map_err(|error| format!("{}: {error}", directory.display()))
        };
        let mut database = open().await?;
        if database.runs().exists(&recording.name).await? {
            return Err(format!("{} has a run named {:?} already", directory.display(), recording.name).into());
        }
        let start = Instant::now();
        let (name, metadata) = (Some(recording.name.clone()), recording.info.clone());
        let run = database.start_run(RunOptions { name, metadata, ..RunOptions::default() }).await;
        let run = run.map_err(|error| format!("$.info: {error}"))?;
        if let Err(problem) = recording.store(&run).await {
            database.runs().delete_run(run.id()).await?;
            return Err(problem);
        }
        database.flush().await?;
        println!("imported in {:.1?}", start.elapsed());
        if self.mode == DurabilityMode::InMemory {
            println!("not reopened: in memory, nothing is written to disk");
        } else {
            database.close().await?;
            database = open().await?;
        }
        let findings = recording.look_back(&database).await?;
        database.close().await?;
        println!("run: {}", recording.name);
        for (what, found, recorded) in findings {
            println!("{what}: {found}");
            if found != recorded {
                return Err(format!("{what} in the database differs: found={found} recorded={recorded}").into());
            }
        }
        Ok(())
    }
}

struct Recording {
    name: String,
    info: Value,
    failed_with: Option<String>,
    steps: Vec<Step>,
    messages: Vec<Value>,
}

impl Recording {
    fn read(path: &Path) -> Outcome<Self> {
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

    async fn store(&self, run: &RunHandle) -> Outcome<()> {
        let keys = (0..self.messages.len()).map(|index| format!("message/{index:06}"));
        run.kv().put_many(keys.zip(&self.messages)).await.map_err(|error| format!("$.history: {error}"))?;
        for (index, step) in self.steps.iter().enumerate() {
            run.transaction(|txn| step.store(txn)).await.map_err(|error| format!("$.trajectory[{index}]: {error}"))?;
        }
        Ok(self.failed_with.as_ref().map_or_else(|| run.end(), |status| run.fail(status)).await?)
    }

    /// What the database holds of the run, beside what was recorded.
    async fn look_back(&self, database: &Database) -> Outcome<[(&'static str, String, String); 7]> {
        let about = database.runs().get_run(&self.name).await?.ok_or("the run is not in the database")?;
        let run = database.run(about.run_id);
        let found_status = about.error.map_or(about.status.to_string(), |error| format!("{}: {error}", about.status));
        let status = self.failed_with.as_ref().map_or("Completed".into(), |status| format!("Failed: {status}"));
        let found_state = Value::from(run.states().read("state").await?.map(|state| state.value));
        let state = Value::from(self.steps.iter().rev().find_map(|step| step.state.clone()));
        let chain = if run.events().verify_chain().await?.is_valid { "valid" } else { "broken" };
        let steps = self.steps.len();
        Ok([
            ("status", found_status, status),
            ("steps", run.traces().query_by_type("Thought").await?.len().to_string(), steps.to_string()),
            ("events", run.events().len().await?.to_string(), steps.to_string()),
            ("traces", run.traces().count().await?.to_string(), (2 * steps).to_string()),
            ("messages", run.kv().count(Some("message/")).await?.to_string(), self.messages.len().to_string()),
            ("last state", found_state.to_string(), state.to_string()),
            ("chain", chain.into(), "valid".into()),
        ])
    }
}

struct Step {
    thought: String,
    action: String,
    observation: Value,
    duration_ms: Option<u64>,
    state: Option<Value>,
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
