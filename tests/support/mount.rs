//! Small file systems: in a file, which needs root, and in memory, in a namespace that most machines let anybody make.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{as_nobody, directory, output_of, part, part_behind};

/// How a process gets a namespace in which it may mount.
const NAMESPACE: [&str; 2] = ["unshare", "-Urm"];

/// A small file system; unmounted when dropped.
pub struct Mount {
    directory: PathBuf,
}

impl Mount {
    /// An ext4 in a file; the error says why there is none.
    fn in_a_file(directory: &Path, mebibytes: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("a file system in a file needs root".into());
        }
        let image = directory.join("image");
        std::fs::File::create(&image).and_then(|made| made.set_len(mebibytes << 20)).expect("an image is made");
        let image = image.to_string_lossy().into_owned();
        run(&["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", &image])?;
        Self::made_of(directory, &["-o", "loop", &image])
    }

    fn in_memory(directory: &Path, mebibytes: u64) -> Result<Self, String> {
        Self::made_of(directory, &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
    }

    fn made_of(directory: &Path, what: &[&str]) -> Result<Self, String> {
        let mount = Self { directory: directory.to_owned() };
        std::fs::create_dir_all(mount.path()).expect("a directory is made");
        let at = mount.path().to_string_lossy().into_owned();
        run(&[&["mount"], what, &[&at]].concat())?;
        Ok(mount)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.join("mounted")
    }

    /// A place on another file system.
    pub fn elsewhere(&self) -> PathBuf {
        self.directory.join("elsewhere")
    }

    /// Makes it read-only (`ro`) or writable (`rw`).
    pub fn remount(&self, how: &str) {
        let (how, path) = (format!("remount,bind,{how}"), self.path());
        let command = ["mount", "-o", &how, &path.to_string_lossy()];
        let begun = Instant::now();
        // A process that another test is about to start holds every open file for a moment.
        while let Err(what) = run(&command) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Uses up all room but so many bytes.
    pub fn use_up(&self, but: u64) {
        let all = rustix::fs::statvfs(self.path()).expect("the file system says how full it is");
        let file = std::fs::File::create(self.ballast()).expect("a file is made");
        let bytes = (all.f_bavail * all.f_frsize).saturating_sub(but);
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).expect("there is room");
    }

    /// Uses up all there is.
    pub fn use_up_all(&self) {
        self.use_up(256 << 10);
        let mut rest = std::fs::OpenOptions::new().append(true).open(self.ballast()).expect("it is there");
        while std::io::Write::write_all(&mut rest, &[7; 4 << 10]).is_ok() {}
    }

    /// Gives it back.
    pub fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("room is made");
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run(&["umount", "-l", &self.path().to_string_lossy()]);
    }
}

/// Runs a test on every small file system that can be had here: in a file, and in memory, as this user and as an
/// unprivileged one. Says which cannot be had.
pub fn on_small_disks(test: &str, mebibytes: u64, body: impl Fn(&Mount)) {
    if let Some((_, path)) = part() {
        return body(&Mount::in_memory(&path, mebibytes).expect("it could be mounted before"));
    }
    let own = directory();
    match Mount::in_a_file(own.path(), mebibytes) {
        Ok(mount) => body(&mount),
        Err(why) => println!("skipped, in a file: {why}"),
    }
    for user in ["this user", "an unprivileged user"] {
        let own = directory();
        let start = |mut command: Command| match user {
            "this user" => command.spawn(),
            _ => as_nobody(command, own.path()),
        };
        let mut tries = Command::new(NAMESPACE[0]);
        tries.args(&NAMESPACE[1..]).args(["mount", "-t", "tmpfs", "tmpfs"]).arg(own.path()).stderr(Stdio::null());
        if start(tries).and_then(|mut child| child.wait()).is_ok_and(|status| status.success()) {
            output_of(start(part_behind(&NAMESPACE, test, user, own.path())).expect("the child starts"));
        } else {
            println!("skipped, in memory as {user}: that may not be mounted here");
        }
    }
}

/// The error is the command that failed.
fn run(command: &[&str]) -> Result<(), String> {
    let ran = Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if ran.is_ok_and(|status| status.success()) { Ok(()) } else { Err(format!("this fails here: {command:?}")) }
}
