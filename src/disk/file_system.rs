//! The file system: the few calls of it that a database is made of.
//!
//! - Names are relative to the database's directory, with `/` between directory and file; the directory itself is the
//!   empty name.
//! - Nothing is durable before it was synced: what is in a file by `sync`, its name by `sync_directory`.
//! - A call that fails may have happened, whole or in part. After a failed sync, nobody knows what is on disk: it is not
//!   tried again.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// What keeps the files of one database.
pub(crate) trait FileSystem {
    /// An open file.
    type File;

    /// How errors name a file or a directory.
    fn path(&self, name: &str) -> PathBuf;

    /// The names of the files in a directory, in any order.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Returns when no process that has ended can write the file any more: its writes may land after it was killed. Some
    /// seconds later it fails with `TimedOut`.
    fn fence(&self, file: &str) -> io::Result<()>;

    /// Opens a file to read it.
    fn open(&self, file: &str) -> io::Result<Self::File>;

    /// Makes an empty file that will have at most so many bytes; one of that name is emptied.
    fn create(&self, file: &str, bytes: u64) -> io::Result<Self::File>;

    /// Lets go of what is kept in memory of a file, so that it is read from the device: what a failed sync did not write
    /// may be in memory, and taken for written.
    fn drop_cache(&self, file: &Self::File);

    /// All of a file; zeros at its end may be left out.
    fn read(&self, file: &Self::File) -> io::Result<Vec<u8>>;

    /// A part of a file, which may end early where the file does.
    fn read_at(&self, file: &Self::File, place: Range<u64>) -> io::Result<Vec<u8>>;

    /// How many bytes are in a file.
    fn length(&self, file: &Self::File) -> io::Result<u64>;

    /// Writes bytes at a place of a new file.
    fn write_at(&self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes zeros into a new file.
    fn write_zeros(&self, file: &Self::File, place: Range<u64>) -> io::Result<()>;

    /// Makes durable what is in a file, its length included.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Cuts a file off.
    fn truncate(&self, file: &str, bytes: u64) -> io::Result<()>;

    /// Gives a file another name, in place of what had it before; at every moment the name is that of one of the two.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, file: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;
}
