//! The disk's side of the files: which are open there, and changes made to them.
//!
//! A file is open on the disk once, whoever has it open here, and only for as long as it is of use. Everything that reads or
//! changes the disk goes through the one lock around this: it sees all of a change or nothing of it.

use alloc::vec::Vec;

use hs_core::platform::{FileError, FileHandle, Files};
use hs_core::registry::descriptor::{FileMode, FilePath};

use crate::writes::{Batch, Change};

/// Zeroes are written in pieces of so many bytes.
const ZEROES: [u8; 512] = [0; 512];
/// Most files open on the disk at once; the volume has room for a few more.
const OPEN_MAX: usize = 32;
/// Most failures that are kept for whoever asks; more are of the same disk.
const FAILURES_MAX: usize = 64;

#[derive(Debug)]
struct OnDisk {
    path: FilePath,
    handle: FileHandle,
    writable: bool,
    /// Changed since its last sync.
    unsynced: bool,
}

/// The files that are open on the disk. Takes its memory when it is made: later the calling thread may be in the scope of a class.
#[derive(Debug)]
pub(in crate::node) struct Disk {
    open: Vec<OnDisk>,
    /// Changes on their way.
    pub(super) batch: Batch,
    /// What could not be made or synced, and was not told yet.
    failures: Vec<(FilePath, FileError)>,
}

impl Disk {
    pub(in crate::node) fn new() -> Self {
        Self {
            open: Vec::with_capacity(OPEN_MAX),
            batch: Batch::default(),
            failures: Vec::with_capacity(FAILURES_MAX),
        }
    }

    fn entry(&mut self, path: &FilePath) -> Option<usize> {
        self.open.iter().position(|open| open.path == *path)
    }

    /// The file, open to be read, or also to be written: then it is made if it is not there.
    fn open(&mut self, files: &dyn Files, path: &FilePath, write: bool) -> Result<usize, FileError> {
        if let Some(index) = self.entry(path) {
            if self.open[index].writable || !write {
                return Ok(index);
            }
            self.close(files, path);
        }
        if self.open.len() >= OPEN_MAX {
            let idle = self.open.iter().position(|open| !open.unsynced).unwrap_or(0);
            let path = self.open[idle].path;
            self.close(files, &path);
        }
        let mode = match write {
            true => FileMode::READ | FileMode::WRITE,
            false => FileMode::READ,
        };
        let handle = files.open(path, mode)?;
        self.open.push(OnDisk {
            path: *path,
            handle,
            writable: write,
            unsynced: false,
        });
        Ok(self.open.len() - 1)
    }

    /// Closes the file on the disk, where it is synced afterwards.
    pub(super) fn close(&mut self, files: &dyn Files, path: &FilePath) {
        if let Some(index) = self.entry(path) {
            let open = self.open.swap_remove(index);
            if let Err(error) = files.close(open.handle) {
                self.fail(path, error);
            }
        }
    }

    /// The files that are open on the disk.
    pub(super) fn paths(&self) -> impl Iterator<Item = FilePath> {
        self.open.iter().map(|open| open.path)
    }

    /// How long the file is on the disk. `write`: it is to be written too, but is not made here.
    pub(super) fn len_bytes(
        &mut self,
        files: &dyn Files,
        path: &FilePath,
        write: bool,
    ) -> Result<u64, FileError> {
        let mut index = self.open(files, path, false)?;
        if write {
            index = self.open(files, path, true)?;
        }
        files.len_bytes(self.open[index].handle)
    }

    /// Reads from `offset` on; zeroes where the disk has nothing.
    pub(super) fn read(
        &mut self,
        files: &dyn Files,
        path: &FilePath,
        offset: u64,
        into: &mut [u8],
    ) -> Result<(), FileError> {
        into.fill(0);
        let index = match self.open(files, path, false) {
            Ok(index) => index,
            // Its creation waits.
            Err(FileError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let handle = self.open[index].handle;
        if offset < files.len_bytes(handle)? {
            files.read_at(handle, offset, into)?;
        }
        Ok(())
    }

    /// Makes a change, whatever of it was made before.
    pub(super) fn apply(
        &mut self,
        files: &dyn Files,
        path: &FilePath,
        change: &Change<'_>,
    ) -> Result<(), FileError> {
        if *change == Change::Remove {
            self.close(files, path);
            return match files.remove(path) {
                Err(FileError::NotFound(_)) => Ok(()),
                other => other,
            };
        }
        let index = self.open(files, path, true)?;
        self.open[index].unsynced = true;
        let handle = self.open[index].handle;
        let len_bytes = files.len_bytes(handle)?;
        match *change {
            Change::Create | Change::Remove => Ok(()),
            Change::Write { offset, bytes } => {
                lengthen(files, handle, len_bytes, offset)?;
                files.write_at(handle, offset, bytes)
            }
            Change::SetLen(to) if to < len_bytes => files.truncate(handle, to),
            Change::SetLen(to) => lengthen(files, handle, len_bytes, to),
        }
    }

    /// Returns when everything that was changed is on the disk.
    pub(super) fn sync(&mut self, files: &dyn Files) {
        for index in 0..self.open.len() {
            let open = &mut self.open[index];
            if core::mem::take(&mut open.unsynced)
                && let Err(error) = files.sync(open.handle)
            {
                let path = open.path;
                self.fail(&path, error);
            }
        }
    }

    /// Notes what could not be done; of a file once.
    pub(super) fn fail(&mut self, path: &FilePath, error: FileError) {
        let is_known = self.failures.iter().any(|(known, _)| known == path);
        if !is_known && self.failures.len() < FAILURES_MAX {
            self.failures.push((*path, error));
        }
    }

    /// How much could not be done and was not told yet.
    pub(super) fn failures(&self) -> usize {
        self.failures.len()
    }

    /// Something of that.
    pub(super) fn take_failure(&mut self) -> Option<(FilePath, FileError)> {
        self.failures.pop()
    }
}

/// Fills a file of `len_bytes` up with zeroes until it has `to`.
fn lengthen(files: &dyn Files, handle: FileHandle, mut len_bytes: u64, to: u64) -> Result<(), FileError> {
    while len_bytes < to {
        let count = (to - len_bytes).min(ZEROES.len() as u64);
        files.write_at(handle, len_bytes, &ZEROES[..count as usize])?;
        len_bytes += count;
    }
    Ok(())
}
