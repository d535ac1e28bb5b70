//! A mounted volume: `embedded-sdmmc` over the [cache](super::cache), and what it does not do.
//!
//! | | |
//! |---|---|
//! | chains, directories, names | `embedded-sdmmc` |
//! | figures and chains checked, chains mended | [`check`], before it sees the volume |
//! | cutting a file off, giving a removed file's clusters back | here, on [`table`](super::table) |
//! | several readers of a file, numbers of open files | here |
//! | in which order things reach the disk | here and in the cache; the rule is in [`check`] |
//!
//! It remembers one block by itself. Whoever reaches under it goes through its `device`, which makes it forget that.

use core::cell::RefCell;
use core::time::Duration;

use embedded_sdmmc::{
    BlockCount, BlockDevice, BlockIdx, DirEntry, Error, Mode, RawDirectory, RawFile, RawVolume, TimeSource,
    Timestamp, VolumeIdx, VolumeManager,
};
use hs_core::platform::{FileError, FileHandle};
use hs_core::registry::descriptor::{FileMode, FilePath};

use super::cache::{Block, Cache};
use super::check::{self, Mended};
use super::disk::{BLOCK_LEN, Disk, DiskError};
use super::look;
use super::table::{BadTable, Layout};

/// Most files open at once.
pub const FILES_MAX: usize = 64;

/// A path is walked with its directory and the next one open.
const DIRECTORIES_MAX: usize = 2;

const RECORD_CLUSTER: usize = 26;
const RECORD_LEN_BYTES: usize = 28;

/// The cache as `embedded-sdmmc` sees a disk.
struct Device<D>(RefCell<Cache<D>>);

impl<D: Disk> BlockDevice for Device<D> {
    type Error = DiskError;

    fn read(&self, blocks: &mut [embedded_sdmmc::Block], start: BlockIdx) -> Result<(), DiskError> {
        let mut cache = self.0.borrow_mut();
        (start.0..)
            .zip(blocks)
            .try_for_each(|(index, block)| cache.read(index, &mut block.contents))
    }

    fn write(&self, blocks: &[embedded_sdmmc::Block], start: BlockIdx) -> Result<(), DiskError> {
        let mut cache = self.0.borrow_mut();
        (start.0..)
            .zip(blocks)
            .try_for_each(|(index, block)| cache.write(index, &block.contents))
    }

    fn num_blocks(&self) -> Result<BlockCount, DiskError> {
        Ok(BlockCount(self.0.borrow().blocks()))
    }
}

/// Reads the wall clock: time since 1970, UTC.
#[derive(Clone, Copy)]
struct Clock(fn() -> Duration);

impl TimeSource for Clock {
    fn get_timestamp(&self) -> Timestamp {
        super::date::timestamp((self.0)().as_secs())
    }
}

type Fat<D> = VolumeManager<Device<D>, Clock, DIRECTORIES_MAX, FILES_MAX, 1>;

/// An open file.
#[derive(Clone, Copy)]
struct Open {
    raw: RawFile,
    path: FilePath,
    mode: FileMode,
    /// It was written since its directory was.
    written: bool,
}

struct Mounted<D: Disk> {
    fat: Fat<D>,
    volume: RawVolume,
    layout: Layout,
}

/// A disk, and its volume once it is mounted.
pub struct Volume<D: Disk> {
    /// The cache, while nothing is mounted.
    unmounted: Option<Cache<D>>,
    mounted: Option<Mounted<D>>,
    files: [Option<Open>; FILES_MAX],
    /// Counts mounts: handles of an earlier one are void.
    mounts: u32,
    clock: Clock,
}

/// What a call of `embedded-sdmmc` came to, on behalf of a path.
fn file_error(error: Error<DiskError>, path: &FilePath) -> FileError {
    match error {
        Error::NotFound => FileError::NotFound(*path),
        Error::FileAlreadyOpen | Error::FileAlreadyExists => FileError::Busy(*path),
        Error::OpenedDirAsFile | Error::OpenedFileAsDir | Error::DirAlreadyExists => {
            FileError::IsDirectory(*path)
        }
        Error::TooManyOpenFiles => FileError::TooMany,
        Error::ReadOnly => FileError::WrongMode,
        Error::DiskFull | Error::NotEnoughSpace => FileError::Full,
        Error::InvalidOffset | Error::EndOfFile => FileError::TooLong,
        _ => FileError::Device,
    }
}

/// The directories of a path, and the name in the last of them.
fn split(path: &FilePath) -> (impl Iterator<Item = &str>, &str) {
    let (directories, name) = path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()));
    (directories.split('/').filter(|name| !name.is_empty()), name)
}

impl<D: Disk> Mounted<D> {
    fn with_cache<T>(&self, with: impl FnOnce(&mut Cache<D>) -> T) -> T {
        self.fat.device(|device| with(device.0.get_mut()))
    }

    /// What a call came to. `embedded-sdmmc` takes some failures of the disk for others.
    fn named<T>(&self, outcome: Result<T, Error<DiskError>>, path: &FilePath) -> Result<T, FileError> {
        outcome.map_err(|error| {
            let failure = self.with_cache(Cache::take_failure);
            failure.map_or(file_error(error, path), |_| FileError::Device)
        })
    }

    fn flush(&self) -> Result<(), FileError> {
        self.with_cache(Cache::flush).map_err(|_| FileError::Device)
    }

    /// Calls `with` with the open directory of `path` and the name in it. `make`: directories that are not there are made.
    fn in_directory<T>(
        &self,
        path: &FilePath,
        make: bool,
        with: impl FnOnce(RawDirectory, &str) -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        let (directories, name) = split(path);
        let mut directory = self.named(self.fat.open_root_dir(self.volume), path)?;
        for name in directories {
            let next = self.step(directory, name, path, make);
            self.named(self.fat.close_dir(directory), path)?;
            directory = next?;
        }
        let outcome = with(directory, name);
        self.named(self.fat.close_dir(directory), path)?;
        outcome
    }

    fn step(
        &self,
        directory: RawDirectory,
        name: &str,
        path: &FilePath,
        make: bool,
    ) -> Result<RawDirectory, FileError> {
        match self.named(self.fat.open_dir(directory, name), path) {
            Err(FileError::NotFound(_)) if make => {
                self.named(self.fat.make_dir_in_dir(directory, name), path)?;
                self.named(self.fat.open_dir(directory, name), path)
            }
            outcome => outcome,
        }
    }

    fn find(&self, path: &FilePath) -> Result<DirEntry, FileError> {
        self.in_directory(path, false, |directory, name| {
            self.named(self.fat.find_directory_entry(directory, name), path)
        })
    }

    /// Opens a file that is not open.
    fn open(&self, path: &FilePath, write: bool) -> Result<RawFile, FileError> {
        self.in_directory(path, write, |directory, name| {
            // Asked first, because the call below takes every error for a file that is not there.
            let mode = match self.named(self.fat.find_directory_entry(directory, name), path) {
                Ok(_) if write => Mode::ReadWriteAppend,
                Ok(_) => Mode::ReadOnly,
                Err(FileError::NotFound(_)) if write => Mode::ReadWriteCreate,
                Err(error) => return Err(error),
            };
            self.named(self.fat.open_file_in_dir(directory, name, mode), path)
        })
    }

    /// Writes down what the directory says of the file, once that is true.
    fn sync(&self, open: &Open) -> Result<(), FileError> {
        self.flush()?;
        if open.written {
            self.named(self.fat.flush_file(open.raw), &open.path)?;
            self.flush()?;
        }
        Ok(())
    }

    /// Makes `len` bytes all that the directory says of a file that is not open, and the rest of its chain free.
    fn cut(&self, path: &FilePath, len: u32) -> Result<(), FileError> {
        let entry = self.find(path)?;
        let keep = len.div_ceil(self.layout.cluster_len());
        let cut = self.with_cache(|cache| {
            let mut block: Block = [0; BLOCK_LEN];
            cache.read(entry.entry_block.0, &mut block)?;
            let record = &mut block[entry.entry_offset as usize..];
            let first = first_cluster(record);
            record[RECORD_LEN_BYTES..RECORD_LEN_BYTES + 4].copy_from_slice(&len.to_le_bytes());
            if keep == 0 {
                record[RECORD_CLUSTER..RECORD_CLUSTER + 2].fill(0);
            }
            cache.write(entry.entry_block.0, &block)?;
            cache.flush()?;
            if keep == 0 {
                self.layout.free(cache, first)
            } else {
                self.layout.cut(cache, first, keep)
            }
        });
        cut.map_err(|_| FileError::Device)
    }

    fn remove(&self, path: &FilePath) -> Result<(), FileError> {
        let entry = self.find(path)?;
        if entry.attributes.is_directory() {
            return Err(FileError::IsDirectory(*path));
        }
        let first = self.with_cache(|cache| {
            let mut block: Block = [0; BLOCK_LEN];
            cache.read(entry.entry_block.0, &mut block)?;
            Ok(first_cluster(&block[entry.entry_offset as usize..]))
        });
        let first = first.map_err(|_: DiskError| FileError::Device)?;
        self.in_directory(path, false, |directory, name| {
            self.named(self.fat.delete_entry_in_dir(directory, name), path)
        })?;
        self.flush()?;
        let freed = self.with_cache(|cache| self.layout.free(cache, first));
        freed.map_err(|_| FileError::Device)
    }
}

/// What a record of a directory says is the file's first cluster.
fn first_cluster(record: &[u8]) -> u32 {
    u32::from(u16::from_le_bytes([
        record[RECORD_CLUSTER],
        record[RECORD_CLUSTER + 1],
    ]))
}

/// Whether a file opened so may be changed.
fn writes(mode: FileMode) -> bool {
    mode.intersects(FileMode::WRITE | FileMode::APPEND)
}

impl<D: Disk> Volume<D> {
    /// The volume of the disk under `cache`, not mounted. `clock` is the time since 1970, UTC.
    pub fn new(cache: Cache<D>, clock: fn() -> Duration) -> Self {
        Self {
            unmounted: Some(cache),
            mounted: None,
            files: [None; FILES_MAX],
            mounts: 0,
            clock: Clock(clock),
        }
    }

    /// See [`Files::mount`](hs_core::platform::Files::mount). Returns what had to be mended.
    ///
    /// # Errors
    /// See [`FileError`]; nothing is mounted then.
    pub fn mount(&mut self) -> Result<Mended, FileError> {
        self.files = [None; FILES_MAX];
        self.mounts = self.mounts.wrapping_add(1);
        let before = self
            .mounted
            .take()
            .map(|mounted| mounted.fat.free().0.0.into_inner());
        let mut cache = before
            .or_else(|| self.unmounted.take())
            .expect("the cache is in one of the two");
        cache.forget();
        let checked = checked(&mut cache);
        let fat = match checked {
            Ok(_) => Fat::new_with_limits(Device(RefCell::new(cache)), self.clock, 0),
            Err(error) => {
                self.unmounted = Some(cache);
                return Err(error);
            }
        };
        match (fat.open_raw_volume(VolumeIdx(0)), checked) {
            (Ok(volume), Ok((layout, mended))) => {
                self.mounted = Some(Mounted { fat, volume, layout });
                Ok(mended)
            }
            (opened, _) => {
                self.unmounted = Some(fat.free().0.0.into_inner());
                Err(match opened {
                    Err(Error::FormatError(what)) => FileError::BadVolume(what),
                    _ => FileError::Device,
                })
            }
        }
    }

    /// See [`Files::exists`](hs_core::platform::Files::exists).
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn exists(&mut self, path: &FilePath) -> Result<bool, FileError> {
        let Some(cache) = &mut self.unmounted else {
            return match self.mounted()?.find(path) {
                Ok(entry) => Ok(!entry.attributes.is_directory()),
                Err(FileError::NotFound(_)) => Ok(false),
                Err(error) => Err(error),
            };
        };
        cache.forget();
        let layout = layout(cache)?;
        look::exists(cache, &layout, path).map_err(|_| FileError::Device)
    }

    fn mounted(&self) -> Result<&Mounted<D>, FileError> {
        self.mounted.as_ref().ok_or(FileError::NotMounted)
    }

    /// The open file behind a handle, and its place.
    fn file(&self, file: FileHandle) -> Result<(usize, Open), FileError> {
        let index = file.0 as usize % FILES_MAX;
        let current = file.0 / FILES_MAX as u32 == self.mounts % (u32::MAX / FILES_MAX as u32);
        let open = self.files[index].filter(|_| current);
        Ok((index, open.ok_or(FileError::NotOpen)?))
    }

    /// See [`Files::open`](hs_core::platform::Files::open).
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn open(&mut self, path: &FilePath, mode: FileMode) -> Result<FileHandle, FileError> {
        let mounted = self.mounted()?;
        if !mode.intersects(FileMode::all()) {
            return Err(FileError::WrongMode);
        }
        let place = self
            .files
            .iter()
            .position(Option::is_none)
            .ok_or(FileError::TooMany)?;
        let mut others = self.files.iter().flatten().filter(|open| open.path == *path);
        let raw = match others.next() {
            Some(other) if writes(other.mode) || writes(mode) => return Err(FileError::Busy(*path)),
            Some(other) => other.raw,
            None => mounted.open(path, writes(mode))?,
        };
        self.files[place] = Some(Open {
            raw,
            path: *path,
            mode,
            written: false,
        });
        let mounts = self.mounts % (u32::MAX / FILES_MAX as u32);
        Ok(FileHandle(mounts * FILES_MAX as u32 + place as u32))
    }

    /// See [`Files::close`](hs_core::platform::Files::close).
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn close(&mut self, file: FileHandle) -> Result<(), FileError> {
        let (index, open) = self.file(file)?;
        self.files[index] = None;
        let shared = self.files.iter().flatten().any(|other| other.raw == open.raw);
        let mounted = self.mounted()?;
        let synced = mounted.sync(&open);
        if !shared {
            mounted.named(mounted.fat.close_file(open.raw), &open.path)?;
        }
        synced
    }

    /// See [`Files::read_at`](hs_core::platform::Files::read_at).
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn read_at(&mut self, file: FileHandle, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        let (_, open) = self.file(file)?;
        if !open.mode.contains(FileMode::READ) {
            return Err(FileError::WrongMode);
        }
        let offset = u32::try_from(offset).map_err(|_| FileError::TooLong)?;
        let mounted = self.mounted()?;
        mounted.named(mounted.fat.file_seek_from_start(open.raw, offset), &open.path)?;
        mounted.named(mounted.fat.read(open.raw, into), &open.path)
    }

    /// See [`Files::write_at`](hs_core::platform::Files::write_at).
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn write_at(&mut self, file: FileHandle, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        let (index, open) = self.file(file)?;
        if !writes(open.mode) {
            return Err(FileError::WrongMode);
        }
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > u64::from(u32::MAX)) {
            return Err(FileError::TooLong);
        }
        let mounted = self.mounted()?;
        mounted.named(
            mounted.fat.file_seek_from_start(open.raw, offset as u32),
            &open.path,
        )?;
        if bytes.is_empty() {
            return Ok(());
        }
        let outcome = mounted.named(mounted.fat.write(open.raw, bytes), &open.path);
        self.files[index] = Some(Open {
            written: true,
            ..open
        });
        outcome
    }

    /// See [`Files::len_bytes`](hs_core::platform::Files::len_bytes).
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn len_bytes(&self, file: FileHandle) -> Result<u64, FileError> {
        let (_, open) = self.file(file)?;
        let mounted = self.mounted()?;
        mounted.named(mounted.fat.file_length(open.raw).map(u64::from), &open.path)
    }

    /// See [`Files::truncate`](hs_core::platform::Files::truncate).
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn truncate(&mut self, file: FileHandle, len_bytes: u64) -> Result<(), FileError> {
        let (index, open) = self.file(file)?;
        if !writes(open.mode) {
            return Err(FileError::WrongMode);
        }
        let now = self.len_bytes(file)?;
        if len_bytes > now {
            return Err(FileError::TooLong);
        }
        if len_bytes == now {
            return Ok(());
        }
        let mounted = self.mounted()?;
        // `embedded-sdmmc` keeps the length of an open file by itself.
        mounted.sync(&open)?;
        mounted.named(mounted.fat.close_file(open.raw), &open.path)?;
        let outcome = mounted.cut(&open.path, len_bytes as u32);
        match mounted.open(&open.path, true) {
            Ok(raw) => {
                let written = false;
                self.files[index] = Some(Open { raw, written, ..open });
                outcome
            }
            Err(error) => {
                self.files[index] = None;
                outcome.and(Err(error))
            }
        }
    }

    /// See [`Files::sync`](hs_core::platform::Files::sync).
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn sync(&mut self, file: FileHandle) -> Result<(), FileError> {
        let (index, open) = self.file(file)?;
        self.mounted()?.sync(&open)?;
        self.files[index] = Some(Open {
            written: false,
            ..open
        });
        Ok(())
    }

    /// See [`Files::remove`](hs_core::platform::Files::remove).
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn remove(&mut self, path: &FilePath) -> Result<(), FileError> {
        let mounted = self.mounted()?;
        if self.files.iter().flatten().any(|open| open.path == *path) {
            return Err(FileError::Busy(*path));
        }
        mounted.remove(path)
    }
}

/// Checks the volume and mends it, on the disk too.
fn checked<D: Disk>(cache: &mut Cache<D>) -> Result<(Layout, Mended), FileError> {
    let layout = layout(cache)?;
    cache.set_table(layout.table());
    let mended = check::check(cache, &layout).and_then(|mended| cache.flush().map(|()| mended));
    Ok((layout, mended.map_err(|_| FileError::Device)?))
}

fn layout<D: Disk>(cache: &mut Cache<D>) -> Result<Layout, FileError> {
    Layout::read(cache).map_err(|error| match error {
        BadTable::Format(what) => FileError::BadVolume(what),
        BadTable::Disk(_) => FileError::Device,
    })
}

#[cfg(test)]
#[path = "volume_model.rs"]
mod model;
#[cfg(test)]
#[path = "volume_tests.rs"]
mod tests;
