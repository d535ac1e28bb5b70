//! The files of the disk that a pair shares: FAT16 on virtio-blk, behind [`hs_core::platform::Files`].
//!
//! ```text
//!   Files ─ lock ─ volume ─ embedded-sdmmc ─ cache ─ disk (virtio-blk)
//!                    └── check, table: what embedded-sdmmc does not do ─┘
//! ```
//!
//! Both guests of a pair have the same disk. **One of them is the writer: the node that serves.** It mounts the volume when
//! it begins to serve, a spare at takeover, and never before: what it had cached of the volume would be old. (A spare may [look](look::exists) whether a file is there, which changes nothing.) Names are
//! those of FAT, eight letters and three.
//!
//! FAT has no journal. A file that was synced is as it was, whenever the writer dies; of what was written since, any part
//! may be there. The order in which things are written sees to it that nothing else suffers ([`check`]), and each mount
//! frees what a dead writer had begun. If two nodes write at once, because one wrongly thinks the other dead, the volume is
//! damaged: that is for the pair to prevent, not for a file system without locks.
//!
//! All but the driver is plain code that tests run on the host.
//!
//! Deliberately absent: FAT32 and long names, listing and removing directories, writing back what nobody syncs.

pub mod cache;
pub mod check;
mod date;
pub mod disk;
pub mod look;
pub mod table;
pub mod volume;

use core::time::Duration;

use hs_core::platform::{FileError, FileHandle, Files};
use hs_core::registry::descriptor::{FileMode, FilePath};
use hs_core::sync::Mutex;

use self::cache::{Cache, LINES};
use self::disk::Disk;
use self::volume::Volume;

/// The files of a disk. Not mounted at first.
pub struct DiskFiles<D: Disk> {
    volume: Mutex<Volume<D>>,
}

impl<D: Disk> DiskFiles<D> {
    /// The files of `disk`; `clock` reads the time since 1970, UTC. Takes all the memory that it will need.
    pub fn new(disk: D, clock: fn() -> Duration) -> Self {
        Self {
            volume: Mutex::new(Volume::new(Cache::new(disk, LINES), clock)),
        }
    }
}

impl<D: Disk + Send> Files for DiskFiles<D> {
    fn mount(&self) -> Result<(), FileError> {
        let mended = self.volume.lock().mount()?;
        if mended == check::Mended::default() {
            log::info!("files: mounted the disk");
        } else {
            log::info!(
                "files: mounted the disk; its last writer has left {} files to be cut off and {} clusters to be freed",
                mended.files,
                mended.clusters
            );
        }
        Ok(())
    }

    fn open(&self, path: &FilePath, mode: FileMode) -> Result<FileHandle, FileError> {
        self.volume.lock().open(path, mode)
    }

    fn close(&self, file: FileHandle) -> Result<(), FileError> {
        self.volume.lock().close(file)
    }

    fn read_at(&self, file: FileHandle, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        self.volume.lock().read_at(file, offset, into)
    }

    fn write_at(&self, file: FileHandle, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        self.volume.lock().write_at(file, offset, bytes)
    }

    fn len_bytes(&self, file: FileHandle) -> Result<u64, FileError> {
        self.volume.lock().len_bytes(file)
    }

    fn truncate(&self, file: FileHandle, len_bytes: u64) -> Result<(), FileError> {
        self.volume.lock().truncate(file, len_bytes)
    }

    fn sync(&self, file: FileHandle) -> Result<(), FileError> {
        self.volume.lock().sync(file)
    }

    fn remove(&self, path: &FilePath) -> Result<(), FileError> {
        self.volume.lock().remove(path)
    }

    fn exists(&self, path: &FilePath) -> Result<bool, FileError> {
        self.volume.lock().exists(path)
    }
}
