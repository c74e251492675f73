//! System calls that are refused: `io_uring`, as in most containers, and others.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Refuses `io_uring` to this process and to all that it starts, for ever.
pub fn refuse_io_uring() {
    refuse(libc::SYS_io_uring_setup, libc::EPERM);
}

/// Answers a system call with an error, in this process and in all that it starts, for ever.
pub fn refuse(call: libc::c_long, error: libc::c_int) {
    let arch: TargetArch = std::env::consts::ARCH.try_into().expect("seccompiler knows the architecture");
    let deny = SeccompAction::Errno(error.unsigned_abs());
    let filter = SeccompFilter::new([(call, vec![])].into(), SeccompAction::Allow, deny, arch);
    let program: BpfProgram = filter.expect("the filter is right").try_into().expect("the filter compiles");
    seccompiler::apply_filter_all_threads(&program).expect("the filter applies");
}
