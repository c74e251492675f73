//! What the integration tests share.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::missing_panics_doc, reason = "a test fails by panicking")]

#[cfg(feature = "tool")]
pub mod browser;
pub mod isolation;
pub mod mount;
pub mod placement;
#[cfg(target_os = "linux")]
pub mod seccomp;
pub mod steps;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use in_mem::prelude::*;

/// A directory on a real file system, removed when dropped; where another user has built the test, in `TMPDIR`.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_| tempfile::tempdir()).expect("a directory is made")
}

/// Every file with its length and the time of its last change.
pub fn files(path: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(path).expect("it is listed") {
        let entry = entry.expect("it is listed");
        let about = entry.metadata().expect("it is there");
        found.insert(entry.path(), (about.len(), about.modified().expect("a time")));
        if about.is_dir() {
            found.extend(files(&entry.path()));
        }
    }
    found
}

/// The buffered mode most tests use.
pub const BUFFERED: DurabilityMode = DurabilityMode::Buffered { flush_interval_ms: 20, max_pending_writes: 1000 };

/// The three modes.
pub const MODES: [DurabilityMode; 3] = [DurabilityMode::InMemory, BUFFERED, DurabilityMode::Strict];

/// Runs a future on tokio, and fails if it takes so long that something must hang.
pub fn on_tokio<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(120), future).await.expect("the test ends within two minutes")
    })
}

/// Opens a database.
pub async fn open(path: &Path, mode: DurabilityMode, shards: usize) -> Database {
    Database::builder().path(path).durability(mode).shards(shards).open().await.expect("the database opens")
}

/// A database in memory and a run in it.
pub async fn in_memory() -> (Database, RunHandle) {
    let database = Database::open_in_memory().await.expect("the database opens");
    let run = database.start_run(RunOptions::default()).await.expect("the run begins");
    (database, run)
}

/// Whether `io_uring` is there. Where it is not, the driver's own tests have nothing to test.
pub async fn has_io_uring() -> bool {
    let database = Database::open_in_memory().await.expect("the database opens");
    database.info().driver == in_mem::Driver::IoUring
}

/// Starts a test of this binary again, by its name and module, as a child process that plays another part.
pub fn spawn_part(test: &str, part: &str, path: &Path) -> Child {
    part_of(test, part, path).spawn().expect("the child starts")
}

/// How that is done.
pub fn part_of(test: &str, part: &str, path: &Path) -> Command {
    part_behind(&[], test, part, path)
}

/// The same behind another command, which starts it.
pub fn part_behind(before: &[&str], test: &str, part: &str, path: &Path) -> Command {
    // A child that has no such test ends well.
    let thread = std::thread::current();
    assert!(thread.name().is_none_or(|name| name == test || name == "main"), "this test is {:?}", thread.name());
    let own = std::env::current_exe().expect("the test knows itself");
    let mut all = before.iter().map(OsStr::new).chain([own.as_os_str()]);
    let mut command = Command::new(all.next().expect("there is one"));
    command
        .args(all)
        .args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads=1"])
        .env("IN_MEM_TEST_PART", part)
        .env("IN_MEM_TEST_PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts a child as an unprivileged user, to whom its directory is given.
///
/// # Errors
/// Why that cannot be done.
pub fn as_nobody(mut command: Command, path: &Path) -> std::io::Result<Child> {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))?;
    command.uid(NOBODY).gid(NOBODY).spawn()
}

/// Waits for a child, which must end well and soon; returns what it printed.
pub fn output_of(mut child: Child) -> String {
    let deadline = Instant::now() + Duration::from_secs(100);
    while child.try_wait().expect("the child can be waited for").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let output = child.wait_with_output().expect("the child ends");
            panic!("the child hangs: {}", String::from_utf8_lossy(&output.stdout));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("the child ends");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{printed}\n{errors}", output.status);
    assert!(!errors.contains("panicked at"), "{errors}");
    printed
}

/// The part that this process plays, and the path it was given; `None` in the test itself.
pub fn part() -> Option<(String, PathBuf)> {
    let part = std::env::var("IN_MEM_TEST_PART").ok()?;
    Some((part, std::env::var_os("IN_MEM_TEST_PATH")?.into()))
}

/// How many times a test kills a process: so many, unless `KILLS=n` asks for another number.
pub fn kills(usual: u32) -> u32 {
    std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(usual)
}

/// The log segments of a database, in order.
pub fn segments(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path.join("log")).expect("the log directory is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}

/// A database in memory with so many shards.
pub async fn sharded(shards: usize) -> Database {
    Database::builder().shards(shards).open().await.expect("the database opens")
}

/// An example, next to this test. `cargo test --test NAME` alone does not build it: if it is missing or older than its
/// sources, it is built here, once.
pub fn example(name: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock().expect("no build has failed");
    let test = std::env::current_exe().expect("the test knows itself");
    let profile = test.ancestors().nth(2).expect("tests are two levels below their profile");
    let example = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let sources = [sources.join(format!("{name}.rs")), sources.join("support/recording.rs")];
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if sources.iter().any(|source| changed(&example) < changed(source)) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--example", name]);
        cargo.arg("--target-dir").arg(profile.parent().expect("a profile is in a target directory"));
        cargo.args(profile.ends_with("release").then_some("--release"));
        assert!(cargo.status().expect("cargo starts").success(), "the example is built");
    }
    example
}
