//! A process in which `io_uring` is refused, as in most containers.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Refuses `io_uring` to this process and to all that it starts, for ever.
pub fn refuse_io_uring() {
    let arch: TargetArch = std::env::consts::ARCH.try_into().expect("seccompiler knows the architecture");
    let setup = [(libc::SYS_io_uring_setup, vec![])].into();
    let deny = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(setup, SeccompAction::Allow, deny, arch).expect("the filter is right");
    let program: BpfProgram = filter.try_into().expect("the filter compiles");
    seccompiler::apply_filter_all_threads(&program).expect("the filter applies");
}
