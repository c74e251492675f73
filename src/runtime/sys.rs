//! What the standard library does not offer: asking the kernel what it allows.
//!
//! The only module with unsafe code.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// What stands against `io_uring` here; the text says what to change.
pub(crate) fn probe_io_uring() -> Result<(), String> {
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
    submit_nothing(&mut ring).map_err(|error| why_refused(&error))
}

/// Submits an operation that does nothing and waits for it: a seccomp filter may refuse this though it allows setup.
#[expect(unsafe_code, reason = "submitting to a ring is unsafe; this operation uses no memory")]
fn submit_nothing(ring: &mut io_uring::IoUring) -> io::Result<()> {
    let nothing = io_uring::opcode::Nop::new().build();
    // SAFETY: the operation refers to no buffer and no file.
    unsafe { ring.submission().push(&nothing) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    Ok(())
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
pub(crate) fn with_locked_memory<T, E>(
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

/// How long the kernel may take to give back locked memory.
const MEMORY_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is asked.
const MEMORY_INTERVAL: Duration = Duration::from_millis(10);
/// The least locked memory that glommio starts with.
const LOCKED_MEMORY_BYTES: u64 = 512 << 10;

/// Raises the soft limit of locked memory to the hard one and returns it; `None` is no limit.
///
/// # Errors
/// What to change, if it is too small.
pub(crate) fn locked_memory() -> Result<Option<u64>, String> {
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

/// Files that each shard needs: those of its executor, and a segment.
const FILES_OF_SHARD: usize = 5;
/// Files that opening needs beside those.
const FILES_OF_OPENING: usize = 8;

/// Makes sure that so many shards can be started. Without it the first of them may panic inside a part of glommio that
/// is used once in the life of a process, and no database would open in this one any more.
///
/// # Errors
/// What to change, if too few files can be opened.
pub(crate) fn spare_files(shards: usize) -> Result<(), String> {
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

/// Lets a write beyond the limit of file sizes fail in this thread and in those that it starts from now on. By default
/// the signal that comes with it ends the process. What other threads do with it stays theirs.
#[expect(unsafe_code, reason = "there is no safe wrapper for a thread's signal mask")]
pub(crate) fn block_file_size_signal() {
    let mut signals = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is filled in before it is used, and the mask of this thread is all that changes.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGXFSZ);
        libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), std::ptr::null_mut());
    }
}

/// Registers for the barrier that executors use when they park, so that the first park does not pay for it.
#[expect(unsafe_code, reason = "there is no safe wrapper for this system call")]
pub(crate) fn register_membarrier() {
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 16;
    // SAFETY: the call takes two integers and touches no memory of ours. Where it is missing, glommio falls back.
    let _ = unsafe { libc::syscall(libc::SYS_membarrier, REGISTER_PRIVATE_EXPEDITED, 0) };
}

/// Locks an open file as long as anything holds its open file description: `flock`, exclusive, without waiting.
///
/// # Errors
/// `WouldBlock` if it is locked through another one.
#[expect(unsafe_code, reason = "the standard library locks its own files only")]
pub(crate) fn lock(file: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: the call takes two integers, and the descriptor is open as long as the file is borrowed.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The CPUs this process may run on.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}
