//! Runs a command to which `io_uring` is refused, as most containers do: how a program does there, without a container.
//!
//! `cargo run --example without_io_uring -- COMMAND ARGUMENTS`
//!
//! As cargo's runner it refuses it to tests: `cargo --config "target.'cfg(unix)'.runner='PATH/without_io_uring'" test`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

#[path = "../tests/support/seccomp.rs"]
mod seccomp;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("without_io_uring: which command? without_io_uring COMMAND ARGUMENTS");
        return ExitCode::from(2);
    };
    seccomp::refuse_io_uring();
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("without_io_uring: {} cannot be started: {error}", program.display());
    ExitCode::FAILURE
}
