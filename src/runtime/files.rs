//! The files of a database on the real file system, and the lock on their directory.
//!
//! - One process writes: a lock on the file `LOCK`, which names its holder. Those that only read share it while they read; if
//!   it is taken, they read beside its holder (decision 23).
//! - That lock ends with the process, and what it gave to `io_uring` does not: a write may land seconds later. So every
//!   segment is locked through the open file description it is written through. The kernel keeps that description, and
//!   with it the lock, until the last request on it has ended.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind::NotFound;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::base::error::{Error, Result};
use crate::disk::directory::{LOG, MANIFEST, SNAPSHOTS, UNFINISHED, naming};
use crate::disk::file_system::FileSystem;

const LOCK: &str = "LOCK";
const ZEROS: usize = 1 << 20;
/// How long a dead process's writes may take before an opening gives up.
const FENCE_PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const FENCE_INTERVAL: Duration = Duration::from_millis(10);
/// How long readers may take before an opening gives up.
const READER_PATIENCE: Duration = Duration::from_secs(60);

/// An open, locked directory.
#[derive(Debug)]
pub(crate) struct Files {
    path: PathBuf,
    /// Held while the directory is open; a damaged one may have none, and somebody else may hold it.
    lock: Option<File>,
}

impl Files {
    /// Opens a directory, making it if it is not there, and locks it.
    ///
    /// # Errors
    /// `Locked` if it is open elsewhere, `Io` if it cannot be made, read or written.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        refuse_other_than_directory(path)?;
        for directory in [LOG, SNAPSHOTS] {
            make_directories(&path.join(directory))
                .map_err(|error| naming("cannot make the directory", path, &error))?;
        }
        let mut lock = lock(path)?;
        let holder = this_process();
        lock.set_len(0)
            .and_then(|()| lock.seek(SeekFrom::Start(0)))
            .and_then(|_| lock.write_all(holder.as_bytes()))
            .map_err(|error| naming("cannot write", &path.join(LOCK), &error))?;
        let files = Self { path: path.to_owned(), lock: Some(lock) };
        files.sync_directory("").map_err(|error| naming("cannot sync the directory", path, &error))?;
        Ok(files)
    }

    /// Opens a directory to read it, and keeps out who would write. If somebody writes already, it is opened beside them, and
    /// they are named.
    ///
    /// # Errors
    /// `InvalidOperation` if there is no database, `Io` if it cannot be read.
    pub(crate) fn open_to_read(path: &Path) -> Result<(Self, Option<String>)> {
        refuse_other_than_directory(path)?;
        let manifest = path.join(MANIFEST);
        let is_there = manifest.try_exists().map_err(|error| naming("cannot read", &manifest, &error))?;
        // Who reads the manifest says what to do about one that was lost.
        if !is_there && !holds_files(path)? {
            return Err(nothing_to_read(path));
        }
        match share_lock(path)? {
            Ok(lock) => Ok((Self { path: path.to_owned(), lock: Some(lock) }, None)),
            Err(holder) => Ok((Self::beside(path), Some(holder))),
        }
    }

    /// Opens a new directory for a copy; until that has a manifest, the directory says that it is not finished.
    ///
    /// # Errors
    /// `InvalidOperation` if there is something in it, and those of [`open`](Self::open).
    pub(crate) fn open_new(path: &Path) -> Result<Self> {
        let taken = || {
            let what = "a copy needs a directory of its own, give a new or an empty one";
            Error::InvalidOperation(format!("{what}: path={}", path.display()))
        };
        refuse_other_than_directory(path)?;
        make_directories(path).map_err(|error| naming("cannot make the directory", path, &error))?;
        let mut entries = std::fs::read_dir(path).map_err(|error| naming("cannot read", path, &error))?;
        if entries.next().is_some() {
            return Err(taken());
        }
        let manifest = path.join(MANIFEST);
        let begin = || {
            let mut file = File::create_new(&manifest)?;
            file.write_all(UNFINISHED)?;
            file.sync_all()?;
            File::open(path)?.sync_all()
        };
        match begin() {
            Ok(()) => Self::open(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(taken()),
            Err(error) => Err(naming("cannot write", &manifest, &error)),
        }
    }

    /// A directory that somebody has open, to read it beside them.
    pub(crate) fn beside(path: &Path) -> Self {
        Self { path: path.to_owned(), lock: None }
    }

    /// Opens a directory of which anything may be missing, to read it.
    ///
    /// # Errors
    /// `Locked` if it is open elsewhere, `InvalidOperation` if nothing of a database is there, `Io`.
    pub(crate) fn open_damaged(path: &Path) -> Result<Self> {
        if !holds_files(path)? {
            return Err(nothing_to_read(path));
        }
        if !path.join(LOCK).exists() {
            return Ok(Self::beside(path));
        }
        match share_lock(path)? {
            Ok(lock) => Ok(Self { path: path.to_owned(), lock: Some(lock) }),
            Err(holder) => Err(Error::Locked { path: path.to_owned(), holder }),
        }
    }
}

/// Whether there are folders of a database. Who may not look is told so, and not that there are none.
fn holds_files(path: &Path) -> Result<bool> {
    for folder in [LOG, SNAPSHOTS].map(|folder| path.join(folder)) {
        match folder.metadata() {
            Ok(about) if about.is_dir() => return Ok(true),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(naming("cannot read", &folder, &error)),
        }
    }
    Ok(false)
}

/// What who wants to read is told where no database is.
pub(super) fn nothing_to_read(path: &Path) -> Error {
    let what = "there is no database to read here, give the directory of one";
    Error::InvalidOperation(format!("{what}: path={}", path.display()))
}

fn refuse_other_than_directory(path: &Path) -> Result<()> {
    if path.exists() && !path.is_dir() {
        let what = "a database is a directory and this is something else, give another path";
        return Err(naming(what, path, &io::ErrorKind::NotADirectory.into()));
    }
    Ok(())
}

/// Takes the lock of a directory; waits for those who read it to have read.
fn lock(path: &Path) -> Result<File> {
    let file = path.join(LOCK);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file)
        .map_err(|error| naming("cannot open", &file, &error))?;
    let deadline = Instant::now() + READER_PATIENCE;
    loop {
        let failed = match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => {
                lock.try_lock_shared().and_then(|()| lock.unlock().map_err(TryLockError::Error))
            }
            Err(error) => Err(error),
        };
        match failed {
            Ok(()) if Instant::now() < deadline => std::thread::sleep(FENCE_INTERVAL),
            Ok(()) => {
                let holder = "those who only read it, for too long".into();
                return Err(Error::Locked { path: path.to_owned(), holder });
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { path: path.to_owned(), holder: holder_of(&mut lock) });
            }
            Err(TryLockError::Error(error)) => return Err(naming("cannot lock", &file, &error)),
        }
    }
}

/// Takes the lock together with others who only read; if somebody writes, says who.
fn share_lock(path: &Path) -> Result<Result<File, String>> {
    let file = path.join(LOCK);
    let mut lock = File::open(&file)
        // A copy without the file cannot be given one where nothing can be written.
        .or_else(|error| if error.kind() == NotFound { File::open(path) } else { Err(error) })
        .map_err(|error| naming("cannot open", &file, &error))?;
    match lock.try_lock_shared() {
        Ok(()) => Ok(Ok(lock)),
        Err(TryLockError::WouldBlock) => Ok(Err(holder_of(&mut lock))),
        Err(TryLockError::Error(error)) => Err(naming("cannot lock", &file, &error)),
    }
}

/// Who has written its name into a lock.
fn holder_of(lock: &mut File) -> String {
    let mut holder = String::new();
    let _ = lock.read_to_string(&mut holder);
    if holder.is_empty() {
        "unknown".into()
    } else if holder == this_process() {
        format!("{holder}, which is this one: share the database by cloning its handle")
    } else {
        holder
    }
}

impl Drop for Files {
    /// Closing the file would do, were there no copy of the descriptor: a process that is being started has one.
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            let _ = lock.unlock();
        }
    }
}

impl FileSystem for Files {
    type File = File;

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(self.path(directory))?;
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    /// Shared, so that a descriptor for reading is enough on every file system, and not kept: only a living process takes
    /// such a lock, and there is none but this one.
    fn fence(&self, file: &str) -> io::Result<()> {
        let file = FileSystem::open(self, file)?;
        let deadline = Instant::now() + FENCE_PATIENCE;
        loop {
            match file.try_lock_shared() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(FENCE_INTERVAL),
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::TimedOut.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn open(&self, file: &str) -> io::Result<File> {
        File::open(self.path(file))
    }

    /// Refuses a file that is larger than this process may write before anything is written.
    fn create(&self, file: &str, bytes: u64) -> io::Result<File> {
        use rustix::process::{Resource, getrlimit};
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| bytes > limit) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        File::create(self.path(file))
    }

    fn drop_cache(&self, file: &File) {
        // Advice: where it is not taken, nothing else helps.
        #[cfg(any(target_os = "linux", target_os = "freebsd"))]
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
        #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
        let _ = file;
    }

    fn read(&self, mut file: &File) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_at(&self, file: &File, place: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(place.end - place.start).unwrap_or(usize::MAX)];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], place.start + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn length(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn write_zeros(&self, file: &File, place: Range<u64>) -> io::Result<()> {
        // On a full disk this fails at once, and not after most of what there was has been used up.
        match rustix::fs::fallocate(file, FallocateFlags::empty(), place.start, place.end - place.start) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        let zeros = vec![0; ZEROS];
        let mut at = place.start;
        while at < place.end {
            let length = usize::try_from(place.end - at).unwrap_or(ZEROS).min(ZEROS);
            file.write_all_at(&zeros[..length], at)?;
            at += length as u64;
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn truncate(&self, file: &str, bytes: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.path(file))?.set_len(bytes)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(file))
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        File::open(self.path(directory))?.sync_all()
    }
}

/// Makes directories that are not there yet, and makes their names durable: whoever loses the name of a database has
/// lost all that is in it.
fn make_directories(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|directory| !directory.exists()).collect();
    std::fs::create_dir_all(path)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match File::open(parent).and_then(|parent| parent.sync_all()) {
            // It may be closed to readers, as long as something may be made in it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            result => result?,
        }
    }
    Ok(())
}

/// How a lock names its holder.
fn this_process() -> String {
    format!("process {}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that another thread is starting has a copy of every descriptor until it begins its program, and a lock
    /// lasts as long as any copy.
    #[test]
    fn a_directory_that_was_given_back_is_free_while_a_process_is_being_started() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::open(directory.path()).unwrap();
        let _copy = files.lock.as_ref().unwrap().try_clone().unwrap();
        drop(files);
        Files::open(directory.path()).expect("nobody has it open");
    }
}
