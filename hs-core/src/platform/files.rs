//! The files of the disk that a pair shares.
//!
//! Nothing of a mounted volume is ever checkpointed: what is cached of it would contradict the disk after a restore. So a
//! spare mounts nothing until it takes over, and then afresh.
//!
//! A file is read and written at an offset that the caller keeps: whose offsets are, is the descriptor table's business.

use core::fmt;

use crate::registry::descriptor::{FileMode, FilePath};

/// An open file, as its [`Files`] knows it. Void after the next [`mount`](Files::mount).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileHandle(pub u32);

/// Why a file could not be had, read or written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileError {
    /// This machine has no disk.
    NoDisk,
    /// No volume is mounted: only the node that serves mounts it.
    NotMounted,
    /// The disk has no volume that can be mounted; what is wrong with it.
    BadVolume(&'static str),
    /// There is no file of this path, or no directory that it should lie in.
    NotFound(FilePath),
    /// The path is a directory's, or one of its directories is a file.
    IsDirectory(FilePath),
    /// It is open already, and of two open ones one is to be written.
    Busy(FilePath),
    /// As many files as possible are open.
    TooMany,
    /// The handle is of no open file.
    NotOpen,
    /// The file was not opened to be read, or not to be written.
    WrongMode,
    /// The volume, or its table of names, is full.
    Full,
    /// The file would be longer than FAT allows, or a read or write begins behind its end.
    TooLong,
    /// The device failed, or gave nonsense.
    Device,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::NoDisk => f.write_str("this machine has no disk"),
            FileError::NotMounted => {
                f.write_str("no volume is mounted: the node that serves has it (Files::mount)")
            }
            FileError::BadVolume(what) => write!(f, "the disk cannot be mounted: {what}"),
            FileError::NotFound(path) => write!(f, "there is no file {}", path.as_str()),
            FileError::IsDirectory(path) => {
                write!(f, "{} is a directory, or leads through a file", path.as_str())
            }
            FileError::Busy(path) => write!(f, "{} is open already", path.as_str()),
            FileError::TooMany => f.write_str("as many files as possible are open"),
            FileError::NotOpen => f.write_str("the file is not open"),
            FileError::WrongMode => f.write_str("the file was not opened for this"),
            FileError::Full => f.write_str("the disk is full"),
            FileError::TooLong => f.write_str("the file has no such offset, or would be too long"),
            FileError::Device => f.write_str("the disk failed"),
        }
    }
}

/// The files of one volume. Calls may sleep.
pub trait Files: Sync {
    /// Mounts the volume afresh: what was open is closed without a word to the disk, what was cached is forgotten.
    ///
    /// # Errors
    /// See [`FileError`]; nothing is mounted then.
    fn mount(&self) -> Result<(), FileError>;

    /// Opens a file; one to be written is made if it is not there, and so are the directories of its path. Files may be
    /// open several times while none of them is to be written.
    ///
    /// # Errors
    /// See [`FileError`].
    fn open(&self, path: &FilePath, mode: FileMode) -> Result<FileHandle, FileError>;

    /// Closes a file; what was written is on the disk afterwards.
    ///
    /// # Errors
    /// See [`FileError`]; the file is closed all the same.
    fn close(&self, file: FileHandle) -> Result<(), FileError>;

    /// Reads up to the end of `into`; returns how many bytes, 0 at the end of the file.
    ///
    /// # Errors
    /// See [`FileError`].
    fn read_at(&self, file: FileHandle, offset: u64, into: &mut [u8]) -> Result<usize, FileError>;

    /// Writes all of `bytes`, and makes the file longer where needed. `offset` is at most its length.
    ///
    /// # Errors
    /// See [`FileError`]; part of it may be written.
    fn write_at(&self, file: FileHandle, offset: u64, bytes: &[u8]) -> Result<(), FileError>;

    /// Length in bytes.
    ///
    /// # Errors
    /// See [`FileError`].
    fn len_bytes(&self, file: FileHandle) -> Result<u64, FileError>;

    /// Cuts the file off at `len_bytes`, at most its length.
    ///
    /// # Errors
    /// See [`FileError`].
    fn truncate(&self, file: FileHandle, len_bytes: u64) -> Result<(), FileError>;

    /// Returns when everything written to the file, its length too, is on the disk.
    ///
    /// # Errors
    /// See [`FileError`].
    fn sync(&self, file: FileHandle) -> Result<(), FileError>;

    /// Removes a file that is not open.
    ///
    /// # Errors
    /// See [`FileError`].
    fn remove(&self, path: &FilePath) -> Result<(), FileError>;

    /// Whether a file of this path is there. Before the first [`mount`](Files::mount) the disk is read afresh, and nothing is
    /// written: so a spare looks, while another node is the writer.
    ///
    /// # Errors
    /// See [`FileError`].
    fn exists(&self, path: &FilePath) -> Result<bool, FileError>;
}
