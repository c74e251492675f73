//! What the standard library does not offer: asking the kernel what it allows.
//!
//! The only module with unsafe code.

use std::io;
use std::os::fd::AsRawFd;

/// Submits to `io_uring` an operation that does nothing and waits for it: a seccomp filter may refuse this though it allows setup.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "submitting to a ring is unsafe; this operation uses no memory")]
pub(crate) fn submit_nothing(ring: &mut io_uring::IoUring) -> io::Result<()> {
    let nothing = io_uring::opcode::Nop::new().build();
    // SAFETY: the operation refers to no buffer and no file.
    unsafe { ring.submission().push(&nothing) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
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
#[cfg(target_os = "linux")]
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

/// The CPUs this thread may run on; none where it cannot be asked.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        return (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    }
    Vec::new()
}

/// Keeps this thread on some of the CPUs that `allowed_cpus` has named.
pub(crate) fn stay_on(cpus: &[usize]) {
    #[cfg(target_os = "linux")]
    {
        let mut set = rustix::thread::CpuSet::new();
        for cpu in cpus {
            set.set(*cpu);
        }
        // A core may have gone since. Then the thread runs anywhere.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = cpus;
}
