//! Files on an ordinary system: a directory in place of a volume. Two processes may share it, as a pair shares its disk.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::platform::{FileError, FileHandle, Files};
use crate::registry::descriptor::{FileMode, FilePath};

/// [`Files`] in a directory.
#[derive(Debug)]
pub struct HostFiles {
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mounted: bool,
    next: u32,
    open: BTreeMap<u32, (FilePath, FileMode, File)>,
}

const WRITES: FileMode = FileMode::WRITE.union(FileMode::APPEND);

impl HostFiles {
    /// The files in `directory`, not mounted yet.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open file, if it was opened for one of `wanted`.
    fn file(&self, handle: FileHandle, wanted: FileMode) -> Result<File, FileError> {
        let state = self.state();
        let (_, mode, file) = state.open.get(&handle.0).ok_or(FileError::NotOpen)?;
        if !mode.intersects(wanted) {
            return Err(FileError::WrongMode);
        }
        file.try_clone().map_err(|_| FileError::Device)
    }
}

fn len_of(file: &File) -> Result<u64, FileError> {
    Ok(file.metadata().map_err(|_| FileError::Device)?.len())
}

impl Files for HostFiles {
    fn mount(&self) -> Result<(), FileError> {
        let mut state = self.state();
        *state = State {
            mounted: self.directory.is_dir(),
            next: state.next,
            open: BTreeMap::new(),
        };
        match state.mounted {
            true => Ok(()),
            false => Err(FileError::BadVolume("its directory is not there")),
        }
    }

    fn open(&self, path: &FilePath, mode: FileMode) -> Result<FileHandle, FileError> {
        let mut state = self.state();
        if !state.mounted {
            return Err(FileError::NotMounted);
        }
        let is_written = mode.intersects(WRITES);
        if state
            .open
            .values()
            .any(|(open, mode, _)| open == path && (is_written || mode.intersects(WRITES)))
        {
            return Err(FileError::Busy(*path));
        }
        let name = self.directory.join(path.as_str());
        if name.is_dir() {
            return Err(FileError::IsDirectory(*path));
        }
        if is_written && let Some(parent) = name.parent() {
            fs::create_dir_all(parent).map_err(|_| FileError::IsDirectory(*path))?;
        }
        let opened = OpenOptions::new()
            .read(true)
            .write(is_written)
            .create(is_written)
            .truncate(false)
            .open(name);
        let file = opened.map_err(|error| match error.kind() {
            ErrorKind::NotFound => FileError::NotFound(*path),
            _ => FileError::Device,
        })?;
        state.next += 1;
        let handle = state.next;
        state.open.insert(handle, (*path, mode, file));
        Ok(FileHandle(handle))
    }

    fn close(&self, file: FileHandle) -> Result<(), FileError> {
        let closed = self.state().open.remove(&file.0);
        closed.map(drop).ok_or(FileError::NotOpen)
    }

    fn read_at(&self, file: FileHandle, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        let file = self.file(file, FileMode::READ)?;
        if offset > len_of(&file)? {
            return Err(FileError::TooLong);
        }
        let mut count = 0;
        while count < into.len() {
            match file.read_at(&mut into[count..], offset + count as u64) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(_) => return Err(FileError::Device),
            }
        }
        Ok(count)
    }

    fn write_at(&self, file: FileHandle, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        let file = self.file(file, WRITES)?;
        if offset > len_of(&file)? {
            return Err(FileError::TooLong);
        }
        file.write_all_at(bytes, offset).map_err(|_| FileError::Device)
    }

    fn len_bytes(&self, file: FileHandle) -> Result<u64, FileError> {
        len_of(&self.file(file, FileMode::all())?)
    }

    fn truncate(&self, file: FileHandle, len_bytes: u64) -> Result<(), FileError> {
        let file = self.file(file, WRITES)?;
        if len_bytes > len_of(&file)? {
            return Err(FileError::TooLong);
        }
        file.set_len(len_bytes).map_err(|_| FileError::Device)
    }

    fn sync(&self, file: FileHandle) -> Result<(), FileError> {
        let file = self.file(file, FileMode::all())?;
        file.sync_all().map_err(|_| FileError::Device)
    }

    fn remove(&self, path: &FilePath) -> Result<(), FileError> {
        let state = self.state();
        if !state.mounted {
            return Err(FileError::NotMounted);
        }
        if state.open.values().any(|(open, _, _)| open == path) {
            return Err(FileError::Busy(*path));
        }
        let name = self.directory.join(path.as_str());
        if name.is_dir() {
            return Err(FileError::IsDirectory(*path));
        }
        fs::remove_file(name).map_err(|error| match error.kind() {
            ErrorKind::NotFound => FileError::NotFound(*path),
            _ => FileError::Device,
        })
    }

    fn exists(&self, path: &FilePath) -> Result<bool, FileError> {
        Ok(self.directory.join(path.as_str()).is_file())
    }
}
