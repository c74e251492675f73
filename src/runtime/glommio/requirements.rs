//! What glommio needs of the machine, asked before its first executor: it panics, or worse, about what is not there (T11).

use std::io;
use std::time::{Duration, Instant};

use crate::runtime::sys;

/// How long the kernel may take to give back locked memory.
const MEMORY_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is asked.
const MEMORY_INTERVAL: Duration = Duration::from_millis(10);
/// The least locked memory that glommio starts with.
const LOCKED_MEMORY_BYTES: u64 = 512 << 10;
/// The most locked memory an executor asks for.
const IO_MEMORY_BYTES: u64 = 1 << 20;
/// Files that each shard needs: those of its executor, and a segment.
const FILES_OF_SHARD: usize = 5;
/// Files that opening needs beside those.
const FILES_OF_OPENING: usize = 8;

/// Asks whether executors can run here, and with how many bytes of locked memory each of so many.
///
/// # Errors
/// What stands against it, and what to change.
pub(crate) fn io_memory(shards: usize) -> Result<usize, String> {
    probe_io_uring()?;
    let share = locked_memory()?.map_or(IO_MEMORY_BYTES, |limit| limit / (4 * shards as u64));
    Ok(usize::try_from(share.min(IO_MEMORY_BYTES)).unwrap_or(usize::MAX).max(64 << 10))
}

/// Before so many executors are made.
///
/// # Errors
/// What to change, if too few files can be opened.
pub(crate) fn prepare(shards: usize) -> Result<(), String> {
    spare_files(shards)?;
    sys::register_membarrier();
    Ok(())
}

/// Whether there is an `io_uring` with all that glommio needs.
fn probe_io_uring() -> Result<(), String> {
    let ring = with_locked_memory(|| io_uring::IoUring::new(4), io::Error::raw_os_error);
    let mut ring = ring.map_err(|error| why_refused(&error))?;
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| why_refused(&error))?;
    let needed = [
        ("read", io_uring::opcode::Read::CODE),
        ("write", io_uring::opcode::Write::CODE),
        ("fsync", io_uring::opcode::Fsync::CODE),
        ("timeout", io_uring::opcode::Timeout::CODE),
        ("poll", io_uring::opcode::PollAdd::CODE),
    ];
    for (name, code) in needed {
        if !probe.is_supported(code) {
            return Err(format!("the kernel's io_uring lacks the operation {name}, use Linux 5.8 or newer"));
        }
    }
    sys::submit_nothing(&mut ring).map_err(|error| why_refused(&error))
}

fn why_refused(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring: use Linux 5.8 or newer, or a sandbox that passes io_uring on".into()
        }
        Some(libc::EPERM) => {
            let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
            match disabled.trim() {
                "1" | "2" => format!(
                    "io_uring is disabled: set kernel.io_uring_disabled=0 (it is {}) or run in the allowed group",
                    disabled.trim()
                ),
                _ => "io_uring is refused, probably by a seccomp profile: allow the io_uring system calls \
                      (docker run --security-opt seccomp=PROFILE)"
                    .into(),
            }
        }
        Some(libc::ENOMEM) => {
            "there is too little locked memory for io_uring: raise the limit (ulimit -l, LimitMEMLOCK=)".into()
        }
        Some(libc::EMFILE | libc::ENFILE) => "there are too many open files: raise the limit (ulimit -n)".into(),
        _ => format!("io_uring cannot be set up: reason={error}"),
    }
}

/// Tries for a while what needs locked memory: the kernel gives it back some time after rings were closed.
pub(super) fn with_locked_memory<T, E>(
    mut make: impl FnMut() -> Result<T, E>,
    number_of: impl Fn(&E) -> Option<i32>,
) -> Result<T, E> {
    let deadline = Instant::now() + MEMORY_PATIENCE;
    loop {
        match make() {
            Err(error) if number_of(&error) == Some(libc::ENOMEM) && Instant::now() < deadline => {
                std::thread::sleep(MEMORY_INTERVAL);
            }
            result => return result,
        }
    }
}

/// Raises the soft limit of locked memory to the hard one and returns it; `None` is no limit.
fn locked_memory() -> Result<Option<u64>, String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Memlock);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let _ = setrlimit(Resource::Memlock, raised);
    }
    match getrlimit(Resource::Memlock).current {
        Some(bytes) if bytes < LOCKED_MEMORY_BYTES => Err(format!(
            "there is too little locked memory: limit={bytes} needed={LOCKED_MEMORY_BYTES}; raise it \
             (ulimit -l 512, LimitMEMLOCK=512K, docker run --ulimit memlock=524288)"
        )),
        limit => Ok(limit),
    }
}

/// Makes sure that so many shards can be started. Without it the first of them may panic inside a part of glommio that
/// is used once in the life of a process, and no database would open in this one any more.
fn spare_files(shards: usize) -> Result<(), String> {
    let needed = FILES_OF_SHARD * shards + FILES_OF_OPENING;
    let mut spare = Vec::new();
    for count in 0..needed {
        spare.push(std::fs::File::open("/dev/null").map_err(|error| {
            format!(
                "there are too many open files, raise the limit (ulimit -n, LimitNOFILE=) or open fewer shards: \
                 needed={needed} free={count} reason={error}"
            )
        })?);
    }
    Ok(())
}
