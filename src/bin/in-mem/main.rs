//! The tool `in-mem`: looks at databases, checks, copies and rescues them.
//!
//! - Sees the library's public names only.
//! - Opens a database read-only, also beside a process that writes to it. What writes says so: `backup`, `salvage`, `import`,
//!   `bench`, `export --output`.
//! - Results go to standard output: tables on a terminal, JSON lines elsewhere. Everything else goes to standard error.

mod backup;
mod bench;
mod change;
mod diff;
mod events;
mod export;
mod failure;
mod import;
mod json;
mod jsonl;
mod kv;
mod otlp;
mod output;
mod page;
mod progress;
mod replay;
mod runs;
mod salvage;
mod session;
mod shell;
mod show;
mod stat;
mod state;
mod time;
mod timeline;
mod trace;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;
use output::Output;
use session::Session;

const EXIT_CODES: &str = "\
Exit codes: 0 all well, 1 something was found (verify, diff, salvage), 2 wrong usage,
3 input or output failed.
A RUN is an id, a name, or the beginning or the end of an id (4 characters or more) that no other run has.";

/// Looks at in-mem databases, checks, copies and rescues them.
#[derive(Debug, Parser)]
#[command(name = "in-mem", version, after_help = EXIT_CODES)]
struct Tool {
    /// JSON lines instead of tables; as when the output is no terminal
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// What the tool can do.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Question(Question),
    Salvage(salvage::Salvage),
    Import(import::Import),
    Bench(bench::Bench),
    Shell(shell::Shell),
}

/// What can be asked of a database; nothing in it is changed.
#[derive(Debug, Subcommand)]
enum Question {
    Runs(runs::Runs),
    Show(show::Show),
    Timeline(timeline::Timeline),
    Events(events::Events),
    Kv(kv::Kv),
    State(state::State),
    Json(json::Json),
    Trace(trace::Trace),
    Diff(diff::Diff),
    Replay(replay::Replay),
    Verify(verify::Verify),
    Stat(stat::Stat),
    Backup(backup::Backup),
    Export(export::Export),
}

impl Command {
    fn run(self, output: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Question(question) => question.run(&Session::default(), output),
            Self::Salvage(command) => command.run(output),
            Self::Import(command) => command.run(output),
            Self::Bench(command) => command.run(output),
            Self::Shell(command) => command.run(output),
        }
    }
}

impl Question {
    fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Runs(command) => command.run(session, output),
            Self::Show(command) => command.run(session, output),
            Self::Timeline(command) => command.run(session, output),
            Self::Events(command) => command.run(session, output),
            Self::Kv(command) => command.run(session, output),
            Self::State(command) => command.run(session, output),
            Self::Json(command) => command.run(session, output),
            Self::Trace(command) => command.run(session, output),
            Self::Diff(command) => command.run(session, output),
            Self::Replay(command) => command.run(session, output),
            Self::Verify(command) => command.run(session, output),
            Self::Stat(command) => command.run(session, output),
            Self::Backup(command) => command.run(session, output),
            Self::Export(command) => command.run(session, output),
        }
    }
}

fn main() -> ExitCode {
    // Wrong usage ends here, with the same code as a failure of that kind.
    let tool = Tool::parse();
    let mut output = Output::new(tool.json);
    let result = tool.command.run(&mut output);
    // What was found is told, whatever came then.
    match output.finish().and(result) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.say();
            failure.code().into()
        }
    }
}
