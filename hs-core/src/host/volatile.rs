//! Files in memory, which know what a power cut leaves of them; with a directory behind them, for processes that follow each
//! other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::string::String;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use crate::platform::{FileError, FileHandle, Files};
use crate::registry::descriptor::{FileMode, FilePath};

/// A [`Files`] on an ordinary operating system. Names of one level only.
#[derive(Debug, Default)]
pub struct VolatileFiles {
    directory: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mounted: bool,
    /// As read and written.
    live: BTreeMap<String, Vec<u8>>,
    /// As on the disk.
    durable: BTreeMap<String, Vec<u8>>,
    open: BTreeMap<u32, (FilePath, FileMode)>,
    opened: u32,
    /// So many more writes and syncs succeed.
    left: Option<usize>,
    /// Syncs do nothing.
    lies: bool,
}

impl State {
    fn path(&self, file: FileHandle, mode: FileMode) -> Result<FilePath, FileError> {
        let (path, given) = self.open.get(&file.0).ok_or(FileError::NotOpen)?;
        if !given.contains(mode) {
            return Err(FileError::WrongMode);
        }
        Ok(*path)
    }

    fn bytes(&mut self, file: FileHandle, mode: FileMode) -> Result<&mut Vec<u8>, FileError> {
        let path = self.path(file, mode)?;
        self.live.get_mut(path.as_str()).ok_or(FileError::NotFound(path))
    }

    fn spend(&mut self) -> Result<(), FileError> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => Err(FileError::Device),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl VolatileFiles {
    /// An empty volume in memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The files of a directory, which must be there; what is written goes there when it is synced.
    pub fn at(directory: PathBuf) -> Self {
        Self {
            directory: Some(directory),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many more writes and syncs succeed, then each fails; `None`: all succeed.
    pub fn fail_after(&self, calls: Option<usize>) {
        self.state().left = calls;
    }

    /// From here on the disk says that what was written is safe, and it is not.
    pub fn forget_syncs(&self, lies: bool) {
        self.state().lies = lies;
    }

    /// What is on the disk of a file, synced or not.
    pub fn contents(&self, path: &FilePath) -> Option<Vec<u8>> {
        self.state().live.get(path.as_str()).cloned()
    }

    /// Puts a file there, synced.
    pub fn put(&self, path: &FilePath, bytes: Vec<u8>) {
        let mut state = self.state();
        state.live.insert(path.as_str().into(), bytes.clone());
        state.durable.insert(path.as_str().into(), bytes);
    }

    /// The power fails: each file is as it was synced, or of what was written since, some has reached the disk, as `roll`
    /// has it, which returns a number below its argument. Nothing is mounted afterwards.
    pub fn cut_power(&self, mut roll: impl FnMut(usize) -> usize) {
        let mut state = self.state();
        let state = &mut *state;
        for (name, live) in &state.live {
            let durable = state.durable.entry(name.clone()).or_default();
            // What is the same since the last sync cannot be lost.
            let same = (live.iter().zip(&*durable))
                .take_while(|(new, old)| new == old)
                .count();
            let reached = same + roll(live.len() - same + 1);
            match roll(4) {
                0 => *durable = live.clone(),
                // The file's length as of some moment in between.
                1 => *durable = live[..reached].to_vec(),
                // The old length, or one behind what was written.
                2 => {
                    let old = durable.get(reached..).unwrap_or_default().to_vec();
                    *durable = live[..reached].to_vec();
                    durable.extend(old);
                }
                _ => {}
            }
        }
        state.live = state.durable.clone();
        state.mounted = false;
        state.open.clear();
        state.left = None;
    }

    /// As [`cut_power`](Self::cut_power), on an orderly disk: what was synced is there, and nothing else.
    pub fn lose_unsynced(&self) {
        self.cut_power(|sides| sides - 1);
    }

    fn save(&self, state: &mut State, path: &FilePath) -> Result<(), FileError> {
        let Some(bytes) = state.live.get(path.as_str()) else {
            return Ok(());
        };
        state.durable.insert(path.as_str().into(), bytes.clone());
        if let Some(directory) = &self.directory {
            std::fs::write(directory.join(path.as_str()), bytes).map_err(|_| FileError::Device)?;
        }
        Ok(())
    }
}

impl Files for VolatileFiles {
    fn mount(&self) -> Result<(), FileError> {
        let mut state = self.state();
        state.open.clear();
        state.mounted = true;
        if let Some(directory) = &self.directory {
            state.durable.clear();
            for entry in std::fs::read_dir(directory).map_err(|_| FileError::Device)? {
                let path = entry.map_err(|_| FileError::Device)?.path();
                let name = path.file_name().and_then(|name| name.to_str());
                if let (Some(name), Ok(bytes)) = (name, std::fs::read(&path)) {
                    state.durable.insert(name.into(), bytes);
                }
            }
        }
        state.live = state.durable.clone();
        Ok(())
    }

    fn open(&self, path: &FilePath, mode: FileMode) -> Result<FileHandle, FileError> {
        let mut state = self.state();
        if !state.mounted {
            return Err(FileError::BadVolume("it was not mounted"));
        }
        let writes = mode.contains(FileMode::WRITE);
        if !state.live.contains_key(path.as_str()) {
            if !writes {
                return Err(FileError::NotFound(*path));
            }
            state.live.insert(path.as_str().into(), Vec::new());
        }
        let clash = |(other, given): &(FilePath, FileMode)| {
            other == path && (writes || given.contains(FileMode::WRITE))
        };
        if state.open.values().any(clash) {
            return Err(FileError::Busy(*path));
        }
        state.opened += 1;
        let handle = state.opened;
        state.open.insert(handle, (*path, mode));
        Ok(FileHandle(handle))
    }

    fn exists(&self, path: &FilePath) -> Result<bool, FileError> {
        let state = self.state();
        Ok(match &self.directory {
            Some(directory) if !state.mounted => directory.join(path.as_str()).is_file(),
            _ => state.live.contains_key(path.as_str()),
        })
    }

    fn close(&self, file: FileHandle) -> Result<(), FileError> {
        let mut state = self.state();
        let (path, mode) = state.open.remove(&file.0).ok_or(FileError::NotOpen)?;
        if mode.contains(FileMode::WRITE) {
            self.save(&mut state, &path)?;
        }
        Ok(())
    }

    fn read_at(&self, file: FileHandle, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        let mut state = self.state();
        let bytes = state.bytes(file, FileMode::READ)?;
        let rest = bytes.get(offset as usize..).ok_or(FileError::TooLong)?;
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, file: FileHandle, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        let mut state = self.state();
        state.spend()?;
        let old = state.bytes(file, FileMode::WRITE)?;
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if start > old.len() {
            return Err(FileError::TooLong);
        }
        old.resize(old.len().max(end), 0);
        old[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn len_bytes(&self, file: FileHandle) -> Result<u64, FileError> {
        let mut state = self.state();
        Ok(state.bytes(file, FileMode::empty())?.len() as u64)
    }

    fn truncate(&self, file: FileHandle, len_bytes: u64) -> Result<(), FileError> {
        let mut state = self.state();
        state.bytes(file, FileMode::WRITE)?.truncate(len_bytes as usize);
        Ok(())
    }

    fn sync(&self, file: FileHandle) -> Result<(), FileError> {
        let mut state = self.state();
        state.spend()?;
        let path = state.path(file, FileMode::empty())?;
        if state.lies {
            return Ok(());
        }
        self.save(&mut state, &path)
    }

    fn remove(&self, path: &FilePath) -> Result<(), FileError> {
        let mut state = self.state();
        if state.open.values().any(|(other, _)| other == path) {
            return Err(FileError::Busy(*path));
        }
        state.durable.remove(path.as_str());
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_file(directory.join(path.as_str()));
        }
        let removed = state.live.remove(path.as_str());
        removed.map(drop).ok_or(FileError::NotFound(*path))
    }
}
