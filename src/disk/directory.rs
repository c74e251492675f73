//! The database directory: its manifest and its segment files.
//!
//! - Files are made under a temporary name, synced, renamed, and the directory is synced.
//! - Every error names the file.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::file_system::FileSystem;
use crate::base::error::{Error, Result};
use crate::base::kill_point::{KillPoint, kill_point};
use crate::base::planted::{Bug, planted};
use crate::format::BLOCK;
use crate::format::manifest::Manifest;
use crate::format::segment::{SegmentHeader, SegmentId};
use crate::format::snapshot::SnapshotId;
use crate::shard::replay::Damage;

/// Where the segments are.
pub(crate) const LOG: &str = "log";
/// Where the snapshots are.
pub(crate) const SNAPSHOTS: &str = "snapshots";
const ROOT: &str = "";
/// The file that says what the database consists of.
pub(crate) const MANIFEST: &str = "MANIFEST";
const NEW_MANIFEST: &str = "MANIFEST.tmp";
/// What stands in place of the manifest while a copy is made: whatever becomes of it, it does not look like a new database.
pub(crate) const UNFINISHED: &[u8] = b"in-mem: a copy that is not finished\n";
/// How the name of a file ends that is being made.
const TEMPORARY: &str = ".tmp";

/// The directory of one database.
#[derive(Debug)]
pub(crate) struct Directory<F> {
    files: F,
}

impl<F: FileSystem> Directory<F> {
    pub(crate) const fn new(files: F) -> Self {
        Self { files }
    }

    /// How errors and reports name a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path(name)
    }

    /// The manifest; `None` if the directory is new.
    ///
    /// # Errors
    /// `Corruption` if it is damaged, or missing though there are other files: it is written before any of them, unless
    /// they are copies; or if a copy into the directory was not finished.
    pub(crate) fn read_manifest(&self) -> Result<Option<Manifest>> {
        let path = || self.files.path(MANIFEST);
        let bytes = match self.files.open(MANIFEST).and_then(|file| self.files.read(&file)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some(other) = self.any_file()? else { return Ok(None) };
                return Err(Error::Corruption(format!(
                    "the manifest is missing though there are other files, remove the directory if it is an unfinished \
                     copy, and salvage it if it was a database: file={} found={}",
                    path().display(),
                    self.files.path(&other).display()
                )));
            }
            Err(error) => return Err(naming("cannot read", &path(), &error)),
        };
        if bytes == UNFINISHED {
            let what = "a backup or a salvage into this directory was not finished, remove it and make it again";
            return Err(corruption(&path(), 0, what));
        }
        let manifest = Manifest::read(&bytes).map_err(|what| corruption(&path(), 0, &what))?;
        Ok(Some(manifest))
    }

    /// Replaces the manifest; durable when this returns.
    ///
    /// # Errors
    /// `Io` if it cannot be written; the one that is in place is then the old or the new one.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let bytes = manifest.to_bytes();
        let name = if planted(Bug::ManifestInPlace) { MANIFEST } else { NEW_MANIFEST };
        let write = || {
            let new = self.files.create(name, bytes.len() as u64)?;
            self.files.write_at(&new, &bytes, 0)?;
            kill_point(KillPoint::ManifestWritten);
            if !planted(Bug::ManifestNotSynced) {
                self.sync(&new)?;
            }
            kill_point(KillPoint::ManifestSynced);
            if planted(Bug::ManifestInPlace) { Ok(()) } else { self.files.rename(NEW_MANIFEST, MANIFEST) }
        };
        write().map_err(|error| naming("cannot write", &self.files.path(MANIFEST), &error))?;
        kill_point(KillPoint::ManifestRenamed);
        if !planted(Bug::ManifestNameNotSynced) {
            self.sync_directory(ROOT)?;
        }
        kill_point(KillPoint::ManifestNamed);
        Ok(())
    }

    /// Changes the manifest, on disk and then here.
    ///
    /// # Errors
    /// `Io` if it cannot be written; the one on disk is then the old or the new one, and here it is the old one.
    pub(crate) fn change_manifest(&self, manifest: &mut Manifest, change: impl FnOnce(&mut Manifest)) -> Result<()> {
        let mut next = manifest.clone();
        change(&mut next);
        self.write_manifest(&next)?;
        *manifest = next;
        Ok(())
    }

    /// The segments there are, in order.
    ///
    /// # Errors
    /// `Io` if the directory cannot be read.
    pub(crate) fn segments(&self) -> Result<Vec<SegmentId>> {
        let mut ids: Vec<SegmentId> = self.list(LOG)?.iter().filter_map(|name| SegmentId::parse(name)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The files of snapshots there are, in order.
    ///
    /// # Errors
    /// `Io` if the directory cannot be read.
    pub(crate) fn snapshots(&self) -> Result<Vec<SnapshotId>> {
        let mut ids: Vec<SnapshotId> =
            self.list(SNAPSHOTS)?.iter().filter_map(|name| SnapshotId::parse(name)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Makes durable which segments there are. One that a process was making when it was killed may be seen and lose its
    /// name in a power cut; a manifest that lists it must not be written before.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn settle_segments(&self) -> Result<()> {
        if planted(Bug::NamesNotSettled) { Ok(()) } else { self.sync_directory(LOG) }
    }

    /// Makes a segment: its header, then zeros to its capacity, all on disk when this returns.
    ///
    /// # Errors
    /// `Io` if there is no room; nothing is left behind.
    pub(crate) fn create_segment(&self, header: &SegmentHeader) -> Result<()> {
        self.make_segment(header.id, &header.to_block(), header.capacity)
    }

    /// Makes a segment of all that will ever be in it, on disk when this returns.
    ///
    /// # Errors
    /// `Io` if there is no room; nothing is left behind.
    pub(crate) fn write_segment(&self, id: SegmentId, bytes: &[u8]) -> Result<()> {
        self.make_segment(id, bytes, bytes.len() as u64)
    }

    fn make_segment(&self, id: SegmentId, start: &[u8], capacity: u64) -> Result<()> {
        let name = segment_name(id);
        let temporary = name.replace(".log", TEMPORARY);
        let make = || {
            let new = self.files.create(&temporary, capacity)?;
            kill_point(KillPoint::SegmentCreated);
            self.files.write_at(&new, start, 0)?;
            if !planted(Bug::ZerosLeftOut) {
                self.files.write_zeros(&new, start.len() as u64..capacity)?;
            }
            kill_point(KillPoint::SegmentZeroed);
            if !planted(Bug::SegmentNotSynced) {
                self.sync(&new)?;
            }
            kill_point(KillPoint::SegmentSynced);
            self.files.rename(&temporary, &name)
        };
        if let Err(error) = make() {
            let _ = self.files.remove(&temporary);
            return Err(naming("cannot make the segment", &self.files.path(&name), &error));
        }
        kill_point(KillPoint::SegmentRenamed);
        if !planted(Bug::SegmentNameNotSynced) {
            self.sync_directory(LOG)?;
        }
        kill_point(KillPoint::SegmentNamed);
        Ok(())
    }

    /// Waits until nothing of a dead process is on its way into a segment. What is read before that may still change.
    ///
    /// # Errors
    /// `Locked` if that takes too long; `Io`.
    pub(crate) fn fence_segment(&self, id: SegmentId) -> Result<()> {
        let name = segment_name(id);
        self.files.fence(&name).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => {
                let holder = format!("a process that was killed and whose writes are still under way, to {name}");
                Error::Locked { path: self.files.path(ROOT), holder }
            }
            _ => naming("cannot lock", &self.files.path(&name), &error),
        })
    }

    /// Reads a segment; with `settle`, makes durable what was read. In this order: a write of a dead process that lands
    /// between a sync and a read would be seen, decided about, and lost in a power cut. What an earlier opening failed to
    /// sync may be seen as well, and no sync would write it: so the device is asked.
    ///
    /// # Errors
    /// `Io` if it cannot be read.
    pub(crate) fn read_segment(&self, id: SegmentId, settle: bool) -> Result<Vec<u8>> {
        let name = segment_name(id);
        let read = || {
            let file = self.files.open(&name)?;
            if settle && !planted(Bug::CacheBelieved) {
                self.files.drop_cache(&file);
            }
            let bytes = self.files.read(&file)?;
            if settle && !planted(Bug::NotSettled) {
                self.sync(&file)?;
            }
            Ok(bytes)
        };
        read().map_err(|error: io::Error| naming("cannot read", &self.files.path(&name), &error))
    }

    /// Reads what can be read of a segment; returns the places that cannot, as zeros.
    ///
    /// # Errors
    /// `Io` if it cannot be opened.
    pub(crate) fn read_damaged_segment(&self, id: SegmentId) -> Result<(Vec<u8>, Vec<Range<u64>>)> {
        let name = segment_name(id);
        let failed = |error: io::Error| naming("cannot read", &self.files.path(&name), &error);
        let file = self.files.open(&name).map_err(failed)?;
        if let Ok(bytes) = self.files.read(&file) {
            return Ok((bytes, Vec::new()));
        }
        let length = self.files.length(&file).map_err(failed)?;
        let (mut bytes, mut unreadable) = (Vec::new(), Vec::new());
        for start in (0..length).step_by(BLOCK) {
            let end = length.min(start + BLOCK as u64);
            match self.files.read_at(&file, start..end) {
                Ok(block) => bytes.extend(block),
                Err(_) => unreadable.push(start..end),
            }
            bytes.resize(usize::try_from(end).unwrap_or(usize::MAX), 0);
        }
        Ok((bytes, unreadable))
    }

    /// Reads a segment up to an end, from the device.
    ///
    /// # Errors
    /// `Io` if it cannot be read.
    pub(crate) fn read_segment_to(&self, id: SegmentId, end: u64) -> Result<Vec<u8>> {
        let name = segment_name(id);
        let read = || {
            let file = self.files.open(&name)?;
            self.files.drop_cache(&file);
            self.files.read_at(&file, 0..end)
        };
        read().map_err(|error: io::Error| naming("cannot read", &self.files.path(&name), &error))
    }

    /// How long a segment's file is, in bytes.
    ///
    /// # Errors
    /// `Io` if that cannot be found out.
    pub(crate) fn segment_length(&self, id: SegmentId) -> Result<u64> {
        let name = segment_name(id);
        let length = self.files.open(&name).and_then(|file| self.files.length(&file));
        length.map_err(|error| naming("cannot read", &self.files.path(&name), &error))
    }

    /// The header of a segment, from its bytes.
    ///
    /// # Errors
    /// `Corruption` if it is damaged or that of another segment.
    pub(crate) fn read_header(&self, id: SegmentId, bytes: &[u8], database: &[u8; 16]) -> Result<SegmentHeader> {
        SegmentHeader::read_of(id, database, bytes).map_err(|what| self.corruption(id, 0, &what))
    }

    /// Removes what the manifest does not name: segments that an earlier opening made ahead of need and never used,
    /// snapshots, and files that were not made to their end.
    ///
    /// # Errors
    /// `Io` if they cannot be removed.
    pub(crate) fn remove_strays(&self, manifest: &Manifest) -> Result<()> {
        self.remove_temporary(LOG)?;
        for id in self.segments()? {
            if !manifest.sealed.iter().any(|segment| segment.id == id) {
                self.remove_segment(id)?;
                kill_point(KillPoint::StrayRemoved);
            }
        }
        self.remove_unnamed_snapshots(manifest)
    }

    /// Removes snapshots that the manifest does not name, and what there is of one that was not finished.
    ///
    /// # Errors
    /// `Io` if they cannot be removed.
    pub(crate) fn remove_unnamed_snapshots(&self, manifest: &Manifest) -> Result<()> {
        self.remove_temporary(SNAPSHOTS)?;
        for id in self.snapshots()?.into_iter().filter(|id| !manifest.names_snapshot(id.number)) {
            self.remove(&snapshot_name(id))?;
            kill_point(KillPoint::StrayRemoved);
        }
        Ok(())
    }

    fn remove_temporary(&self, directory: &str) -> Result<()> {
        for name in self.list(directory)?.iter().filter(|name| name.ends_with(TEMPORARY)) {
            self.remove(&format!("{directory}/{name}"))?;
            kill_point(KillPoint::StrayRemoved);
        }
        Ok(())
    }

    /// Removes what the manifest of the running opening needs no more: segments before those it names, and snapshots that it
    /// does not name any more. The next one may be being taken.
    ///
    /// # Errors
    /// `Io` if they cannot be removed; the next opening does.
    pub(crate) fn remove_obsolete(&self, manifest: &Manifest) -> Result<()> {
        for id in self.segments()? {
            let is_own = id.incarnation == manifest.incarnation;
            let is_needed = match manifest.segments.get(id.shard as usize) {
                Some(own) if is_own => id.index >= own.start,
                _ => manifest.sealed.iter().any(|segment| segment.id == id),
            };
            if !is_needed {
                self.remove_segment(id)?;
                kill_point(KillPoint::SegmentCut);
            }
        }
        let is_old = |id: &SnapshotId| id.number <= manifest.last_snapshot && !manifest.names_snapshot(id.number);
        self.snapshots()?.into_iter().filter(is_old).try_for_each(|id| self.remove(&snapshot_name(id)))
    }

    /// Removes a segment that no manifest names.
    ///
    /// # Errors
    /// `Io` if it cannot be removed.
    pub(crate) fn remove_segment(&self, id: SegmentId) -> Result<()> {
        self.remove(&segment_name(id))
    }

    /// Cuts a finished segment off behind its end, to give back the room it did not use.
    ///
    /// # Errors
    /// `Io` if it cannot be cut.
    pub(crate) fn trim_segment(&self, id: SegmentId, end: u64) -> Result<()> {
        let name = segment_name(id);
        self.files.truncate(&name, end).map_err(|error| naming("cannot trim", &self.files.path(&name), &error))
    }

    /// Begins a snapshot's file under a temporary name.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn create_snapshot(&self, id: SnapshotId) -> Result<F::File> {
        let name = temporary_snapshot(id);
        let file = self.files.create(&name, 0);
        let file = file.map_err(|error| naming("cannot make", &self.files.path(&name), &error))?;
        kill_point(KillPoint::SnapshotCreated);
        Ok(file)
    }

    /// Writes a part of a snapshot.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn write_snapshot(&self, id: SnapshotId, file: &F::File, bytes: &[u8], offset: u64) -> Result<()> {
        let name = temporary_snapshot(id);
        let written = self.files.write_at(file, bytes, offset);
        written.map_err(|error| naming("cannot write", &self.files.path(&name), &error))?;
        kill_point(KillPoint::SnapshotWritten);
        Ok(())
    }

    /// Makes a snapshot durable, and its name.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn publish_snapshot(&self, id: SnapshotId, file: &F::File) -> Result<()> {
        let name = snapshot_name(id);
        let publish = || {
            self.files.sync(file)?;
            kill_point(KillPoint::SnapshotSynced);
            self.files.rename(&temporary_snapshot(id), &name)
        };
        publish().map_err(|error| naming("cannot write", &self.files.path(&name), &error))?;
        kill_point(KillPoint::SnapshotRenamed);
        self.sync_directory(SNAPSHOTS)?;
        kill_point(KillPoint::SnapshotNamed);
        Ok(())
    }

    /// All of a snapshot's file; with `from_device`, not what is kept in memory of it.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn read_snapshot(&self, id: SnapshotId, from_device: bool) -> Result<Vec<u8>> {
        self.reading_snapshot(id, || {
            let file = self.files.open(&snapshot_name(id))?;
            if from_device {
                self.files.drop_cache(&file);
            }
            self.files.read(&file)
        })
    }

    /// A snapshot's file, and how many bytes are in it.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn open_snapshot(&self, id: SnapshotId) -> Result<(F::File, u64)> {
        self.reading_snapshot(id, || {
            let file = self.files.open(&snapshot_name(id))?;
            let length = self.files.length(&file)?;
            Ok((file, length))
        })
    }

    /// A part of a snapshot's file.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn read_snapshot_at(&self, id: SnapshotId, file: &F::File, place: Range<u64>) -> Result<Vec<u8>> {
        self.reading_snapshot(id, || self.files.read_at(file, place))
    }

    fn reading_snapshot<T>(&self, id: SnapshotId, read: impl FnOnce() -> io::Result<T>) -> Result<T> {
        read().map_err(|error| {
            let path = self.files.path(&snapshot_name(id));
            match error.raw_os_error() {
                Some(libc::EIO) => corruption(&path, 0, "the device cannot read the file"),
                _ => naming("cannot read", &path, &error),
            }
        })
    }

    /// Damage in a snapshot.
    pub(crate) fn damaged_snapshot(&self, id: SnapshotId, offset: u64, what: &str) -> Error {
        corruption(&self.files.path(&snapshot_name(id)), offset, what)
    }

    /// Damage in a segment.
    pub(crate) fn corruption(&self, id: SegmentId, offset: u64, what: &str) -> Error {
        corruption(&self.files.path(&segment_name(id)), offset, what)
    }

    /// The same, as it was judged.
    pub(crate) fn damaged(&self, damage: &Damage) -> Error {
        self.corruption(damage.segment, damage.offset, &damage.what)
    }

    /// What is in a directory; a copy may lack one that was empty.
    fn list(&self, directory: &str) -> Result<Vec<String>> {
        match self.files.list(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names.map_err(|error| naming("cannot read", &self.files.path(directory), &error)),
        }
    }

    /// Something that is there beside the manifest.
    fn any_file(&self) -> Result<Option<String>> {
        for directory in [LOG, SNAPSHOTS] {
            if let Some(name) = self.list(directory)?.first() {
                return Ok(Some(format!("{directory}/{name}")));
            }
        }
        Ok(None)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.files.remove(name).map_err(|error| naming("cannot remove", &self.files.path(name), &error))
    }

    fn sync(&self, file: &F::File) -> io::Result<()> {
        let result = self.files.sync(file);
        if planted(Bug::FailedSyncRetried) && result.is_err() {
            return self.files.sync(file);
        }
        result
    }

    fn sync_directory(&self, directory: &str) -> Result<()> {
        let failed = |error| naming("cannot sync the directory", &self.files.path(directory), &error);
        self.files.sync_directory(directory).map_err(failed)
    }
}

/// The file of a segment.
pub(crate) fn segment_name(id: SegmentId) -> String {
    format!("{LOG}/{}", id.file_name())
}

/// The file of a snapshot.
pub(crate) fn snapshot_name(id: SnapshotId) -> String {
    format!("{SNAPSHOTS}/{}", id.file_name())
}

fn temporary_snapshot(id: SnapshotId) -> String {
    snapshot_name(id).replace(".snap", TEMPORARY)
}

/// An error of the operating system, with what to do about it and the file it is about.
pub(crate) fn naming(what: &str, path: &Path, error: &io::Error) -> Error {
    let advice = advice(error);
    Error::Io(io::Error::new(error.kind(), format!("{what}{advice}: file={} reason={error}", path.display())))
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => ", the disk is full, make room on it",
        io::ErrorKind::QuotaExceeded => ", the quota is used up, make room or raise it",
        io::ErrorKind::FileTooLarge => ", it is beyond the limit of file sizes, raise it (ulimit -f)",
        io::ErrorKind::ReadOnlyFilesystem => {
            ", the file system is read-only, mount it writable or open the database with read_only(true)"
        }
        io::ErrorKind::PermissionDenied => ", this user may not, change the owner or the mode",
        _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
            ", there are too many open files, raise the limit (ulimit -n)"
        }
        _ => "",
    }
}

/// Damage in a file.
fn corruption(path: &Path, offset: u64, what: &str) -> Error {
    Error::Corruption(format!("{what}: file={} offset={offset}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_is_named_with_its_kind_the_file_and_what_to_do() {
        use io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let all = [
            (libc::ENOSPC, Some(StorageFull), "the disk is full, make room"),
            (libc::EDQUOT, Some(QuotaExceeded), "the quota is used up, make room or raise it"),
            (libc::EFBIG, Some(FileTooLarge), "ulimit -f"),
            (libc::EROFS, Some(ReadOnlyFilesystem), "mount it writable"),
            (libc::EACCES, Some(PermissionDenied), "change the owner or the mode"),
            (libc::EMFILE, None, "ulimit -n"),
            (libc::ENFILE, None, "ulimit -n"),
        ];
        for (number, kind, advice) in all {
            let refused = io::Error::from_raw_os_error(number);
            let Error::Io(error) = naming("cannot write", Path::new("a/file"), &refused) else { panic!("{number}") };
            assert!(kind.is_none_or(|kind| error.kind() == kind), "{number}: {error:?}");
            let text = error.to_string();
            assert!(text.contains(advice) && text.contains("file=a/file") && text.contains("os error"), "{text}");
        }
    }
}
