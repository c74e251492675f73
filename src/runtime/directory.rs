//! The database directory: its lock, its manifest, its segment files.
//!
//! - One process at a time: a lock on the file `LOCK`, which names its holder.
//! - Files are made under a temporary name, synced, renamed, and the directory is synced.
//! - Every error names the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::base::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::manifest::Manifest;
use crate::format::segment::{SegmentHeader, SegmentId};

const LOCK: &str = "LOCK";
const MANIFEST: &str = "MANIFEST";
const LOG: &str = "log";
const ZEROS: usize = 1 << 20;

/// An open, locked database directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Held while the directory is open.
    _lock: File,
}

impl Directory {
    /// Opens a directory, making it if it is not there, and locks it.
    ///
    /// # Errors
    /// `Locked` if it is open elsewhere, `Io` if it cannot be made, read or written.
    pub(crate) fn open(path: &Path, read_only: bool) -> Result<Self> {
        if path.exists() && !path.is_dir() {
            let what = "a database is a directory and this is something else, give another path";
            return Err(naming(what, path, &io::ErrorKind::NotADirectory.into()));
        }
        if read_only && !path.join(MANIFEST).exists() {
            return Err(Error::InvalidOperation(format!("there is no database to read here: path={}", path.display())));
        }
        if !read_only {
            std::fs::create_dir_all(path.join(LOG))
                .map_err(|error| naming("cannot make the directory", path, &error))?;
        }
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .create(!read_only)
            .truncate(false)
            .open(&file)
            .map_err(|error| naming("cannot open", &file, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                let holder = if holder.is_empty() {
                    "unknown".into()
                } else if holder == this_process() {
                    format!("{holder}, which is this one: share the database by cloning its handle")
                } else {
                    holder
                };
                return Err(Error::Locked { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(naming("cannot lock", &file, &error)),
        }
        if read_only {
            return Ok(Self { path: path.to_owned(), _lock: lock });
        }
        let holder = this_process();
        lock.set_len(0)
            .and_then(|()| lock.seek(SeekFrom::Start(0)))
            .and_then(|_| lock.write_all(holder.as_bytes()))
            .map_err(|error| naming("cannot write", &file, &error))?;
        let directory = Self { path: path.to_owned(), _lock: lock };
        sync_directory(path)?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest; `None` if the directory is new.
    ///
    /// # Errors
    /// `Corruption` if it is damaged, or missing though there are segments.
    pub(crate) fn read_manifest(&self) -> Result<Option<Manifest>> {
        let file = self.path.join(MANIFEST);
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.segments()?.is_empty() {
                    return Ok(None);
                }
                return Err(Error::Corruption(format!(
                    "the manifest is missing though there are log segments: file={}",
                    file.display()
                )));
            }
            Err(error) => return Err(naming("cannot read", &file, &error)),
        };
        let manifest = Manifest::read(&bytes).map_err(|what| corruption(&file, 0, &what))?;
        Ok(Some(manifest))
    }

    /// Replaces the manifest; durable when this returns.
    ///
    /// # Errors
    /// `Io` if it cannot be written; the old one is then still in place.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let file = self.path.join(MANIFEST);
        let temporary = self.path.join("MANIFEST.tmp");
        let write = || {
            let mut new = File::create(&temporary)?;
            new.write_all(&manifest.to_bytes())?;
            new.sync_all()?;
            std::fs::rename(&temporary, &file)
        };
        write().map_err(|error| naming("cannot write", &file, &error))?;
        sync_directory(&self.path)
    }

    /// The segments there are, in order.
    ///
    /// # Errors
    /// `Io` if the directory cannot be read.
    pub(crate) fn segments(&self) -> Result<Vec<SegmentId>> {
        let log = self.path.join(LOG);
        let entries = std::fs::read_dir(&log).map_err(|error| naming("cannot read", &log, &error))?;
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| naming("cannot read", &log, &error))?;
            ids.extend(entry.file_name().to_str().and_then(SegmentId::parse));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// The file of a segment.
    pub(crate) fn segment_path(&self, id: SegmentId) -> PathBuf {
        self.path.join(LOG).join(id.file_name())
    }

    /// Makes a segment: its header, then zeros to its capacity, all on disk when this returns.
    ///
    /// # Errors
    /// `Io` if there is no room; nothing is left behind.
    pub(crate) fn create_segment(&self, header: &SegmentHeader) -> Result<PathBuf> {
        let file = self.segment_path(header.id);
        check_file_size(&file, header.capacity)?;
        let temporary = file.with_extension("tmp");
        let make = || {
            let new = File::create(&temporary)?;
            new.write_all_at(&header.to_block(), 0)?;
            let zeros = vec![0; ZEROS];
            let mut at = BLOCK as u64;
            while at < header.capacity {
                let length = usize::try_from(header.capacity - at).unwrap_or(ZEROS).min(ZEROS);
                new.write_all_at(&zeros[..length], at)?;
                at += length as u64;
            }
            new.sync_all()?;
            std::fs::rename(&temporary, &file)
        };
        if let Err(error) = make() {
            let _ = std::fs::remove_file(&temporary);
            return Err(naming("cannot make the segment", &file, &error));
        }
        sync_directory(&self.path.join(LOG))?;
        Ok(file)
    }

    /// Makes durable whatever is in a segment, then reads it.
    ///
    /// # Errors
    /// `Io` if it cannot be read.
    pub(crate) fn read_segment(&self, id: SegmentId, settle: bool) -> Result<Vec<u8>> {
        let path = self.segment_path(id);
        let read = || {
            let mut file = File::open(&path)?;
            if settle {
                file.sync_all()?;
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error: io::Error| naming("cannot read", &path, &error))
    }

    /// Removes segments that were being made when a process died.
    ///
    /// # Errors
    /// `Io` if they cannot be removed.
    pub(crate) fn remove_unfinished(&self) -> Result<()> {
        let log = self.path.join(LOG);
        let entries = std::fs::read_dir(&log).map_err(|error| naming("cannot read", &log, &error))?;
        for entry in entries {
            let file = entry.map_err(|error| naming("cannot read", &log, &error))?.path();
            if file.extension().is_some_and(|extension| extension == "tmp") {
                std::fs::remove_file(&file).map_err(|error| naming("cannot remove", &file, &error))?;
            }
        }
        Ok(())
    }

    /// Removes a segment that no manifest names.
    ///
    /// # Errors
    /// `Io` if it cannot be removed.
    pub(crate) fn remove_segment(&self, id: SegmentId) -> Result<()> {
        let path = self.segment_path(id);
        std::fs::remove_file(&path).map_err(|error| naming("cannot remove", &path, &error))
    }

    /// Cuts a finished segment off behind its end, to give back the room it did not use.
    ///
    /// # Errors
    /// `Io` if it cannot be cut.
    pub(crate) fn trim_segment(&self, id: SegmentId, end: u64) -> Result<()> {
        let path = self.segment_path(id);
        let trim = || OpenOptions::new().write(true).open(&path)?.set_len(end);
        trim().map_err(|error| naming("cannot trim", &path, &error))
    }
}

/// Refuses a file that is larger than this process may write: the kernel would end the process instead.
fn check_file_size(file: &Path, bytes: u64) -> Result<()> {
    use rustix::process::{Resource, getrlimit};
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| bytes > limit) {
        let what = "a segment is larger than the limit of file sizes, raise it (ulimit -f)";
        return Err(naming(what, file, &io::ErrorKind::FileTooLarge.into()));
    }
    Ok(())
}

/// How a lock names its holder.
fn this_process() -> String {
    format!("process {}", std::process::id())
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| naming("cannot sync the directory", path, &error))
}

/// An error of the operating system, with the file it is about.
pub(crate) fn naming(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::Io(io::Error::new(error.kind(), format!("{what}: file={} reason={error}", path.display())))
}

/// Damage in a file.
pub(crate) fn corruption(path: &Path, offset: u64, what: &str) -> Error {
    Error::Corruption(format!("{what}: file={} offset={offset}", path.display()))
}
