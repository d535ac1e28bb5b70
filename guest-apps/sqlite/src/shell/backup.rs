//! `.backup`: the database file, onto the disk.
//!
//! A piece at a time, so that other clients get their turns; a shared lock keeps the file as it is meanwhile. The first piece,
//! with the header that makes it a database, is written last: what was not finished is recognised by its zeroes.

use alloc::boxed::Box;
use core::fmt;

use hs_core::platform::{FileError, FileHandle, Files};
use hs_core::registry::descriptor::{FileMode, FilePath, PathError};

use crate::engine::Engine;
use crate::engine::volume::Lock;

/// Written at once, in bytes.
const PIECE_BYTES: usize = 32 << 10;

/// Why there is no backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BackupError {
    /// The file cannot be called so.
    Path(PathError),
    /// Somebody is writing to the database.
    Locked,
    /// The disk's.
    File(FileError),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Path(error) => error.fmt(f),
            BackupError::Locked => f.write_str("database is locked"),
            BackupError::File(error) => error.fmt(f),
        }
    }
}

impl From<FileError> for BackupError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// A backup under way.
#[derive(Debug)]
pub(crate) struct Backup {
    path: FilePath,
    file: FileHandle,
    /// Where the next piece is; after the last comes the first.
    offset: usize,
}

impl Backup {
    /// Opens the file and takes the lock.
    pub(crate) fn begin(engine: &Engine, files: Option<&dyn Files>, path: &str) -> Result<Self, BackupError> {
        let path = FilePath::new(path).map_err(BackupError::Path)?;
        let files = files.ok_or(FileError::NoDisk)?;
        if engine.volume(|volume| volume.lock(Lock::None, Lock::Shared)) == Lock::None {
            return Err(BackupError::Locked);
        }
        Self::open(engine, files, path)
    }

    /// After a takeover, where nobody knows the file: opens it again, and begins from its start. The lock has come along.
    pub(crate) fn begin_again(self, engine: &Engine, files: Option<&dyn Files>) -> Result<Self, BackupError> {
        match files {
            Some(files) => Self::open(engine, files, self.path),
            None => {
                unlock(engine);
                Err(FileError::NoDisk.into())
            }
        }
    }

    /// Opens the file, empty. If that fails, lets go of the lock.
    fn open(engine: &Engine, files: &dyn Files, path: FilePath) -> Result<Self, BackupError> {
        let begun = files.open(&path, FileMode::WRITE).and_then(|file| {
            let emptied = files.truncate(file, 0);
            if emptied.is_err() {
                // What is wrong has been said already.
                let _ = files.close(file);
            }
            emptied.map(|()| file)
        });
        match begun {
            Ok(file) => Ok(Self {
                path,
                file,
                offset: 0,
            }),
            Err(error) => {
                unlock(engine);
                Err(error.into())
            }
        }
    }

    /// Writes the next piece; whether that was the last.
    pub(crate) fn go_on(&mut self, engine: &Engine, files: &dyn Files) -> Result<bool, BackupError> {
        let mut piece = Box::new([0; PIECE_BYTES]);
        let len = engine.volume(|volume| volume.len_bytes());
        if self.offset == 0 && len > 0 {
            files.write_at(self.file, 0, &piece[..len.min(PIECE_BYTES)])?;
            self.offset = PIECE_BYTES;
        }
        let is_last = self.offset >= len;
        let at = if is_last { 0 } else { self.offset };
        let count = engine.volume(|volume| volume.read(at, &mut piece[..]));
        files.write_at(self.file, at as u64, &piece[..count])?;
        self.offset += PIECE_BYTES;
        Ok(is_last)
    }

    /// Closes the file, and lets go of the lock.
    pub(crate) fn end(self, engine: &Engine, files: &dyn Files) -> Result<(), BackupError> {
        unlock(engine);
        Ok(files.close(self.file)?)
    }

    /// Lets go of the lock alone: after a takeover nobody knows the file.
    pub(crate) fn abandon(self, engine: &Engine) {
        unlock(engine);
    }
}

fn unlock(engine: &Engine) {
    engine.volume(|volume| volume.unlock(Lock::Shared, Lock::None));
}
