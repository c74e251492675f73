//! Runs a command to which `io_uring` is refused, as most containers do: how a program does there, without a container.
//!
//! `cargo run --example without_io_uring -- COMMAND ARGUMENTS`
//!
//! As cargo's runner it refuses it to tests: `cargo --config "target.'cfg(unix)'.runner='PATH/without_io_uring'" test`.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
#[path = "../tests/support/seccomp.rs"]
mod seccomp;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("without_io_uring: there is no io_uring here that could be refused");
    ExitCode::FAILURE
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use std::os::unix::process::CommandExt;
    use std::process::Command;
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
