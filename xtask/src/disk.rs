//! The disk that the two guests of a pair share: a file on the host, made and formatted here.
//!
//! ```text
//!   block 0: one partition │ from 1 MiB on: FAT16, one table, clusters so large that there are at most 64 Ki of them
//! ```
//!
//! It goes to QEMU as an open file, not by its name: the namespace may see other names, and the lock that keeps a second
//! pair off lies on what is open, so that it ends with the last guest. The guests write through the host's page cache: what
//! one has written the other reads. Tests have disks in memory, which nobody needs to remove.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fatfs::{FatType, FormatVolumeOptions};
use rustix::fs::{CWD, FlockOperation, MemfdFlags, RenameFlags, flock, memfd_create, renameat_with};

use crate::command::root;

/// Length of a disk that nobody has asked for another, and bounds. FAT16 ends below 2 GiB.
pub(crate) const MIB_DEFAULT: u32 = 64;
pub(crate) const MIB_MIN: i64 = 8;
pub(crate) const MIB_MAX: i64 = 2000;

const BLOCK_LEN: usize = 512;
const MIB: u64 = 1 << 20;
/// Where the partition begins, as partitioning tools have it.
const START: u64 = MIB;
/// FAT16 beyond 32 MiB, by block numbers.
const PARTITION_TYPE: u8 = 0x0e;

/// Where the disk lies if nobody says otherwise.
pub(crate) fn usual_place() -> PathBuf {
    root().join("target/pair/disk.img")
}

/// Opens the disk in `path`, which is made first if there is nothing of this name, `mib` MiB long.
///
/// # Errors
/// What is there is no disk of a pair, or another pair has it, or the file system refuses.
pub(crate) fn open(path: &Path, mib: u32) -> Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    if fs::exists(path).with_context(|| format!("cannot look at {}", path.display()))? {
        return open_existing(path);
    }
    // Under another name at first: nobody finds half a disk.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let made = make(&unfinished, path, mib);
    if made.is_err() {
        // It may not be there: then there is nothing to remove.
        let _ = fs::remove_file(&unfinished);
    }
    made.with_context(|| format!("cannot make the disk {}", path.display()))
}

fn make(unfinished: &Path, path: &Path, mib: u32) -> Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(unfinished)?;
    lock(&file)?;
    format(&mut file, mib)?;
    file.sync_all()?;
    renameat_with(CWD, unfinished, CWD, path, RenameFlags::NOREPLACE)?;
    eprintln!("made the disk {}, {mib} MiB", path.display());
    Ok(file)
}

fn open_existing(path: &Path) -> Result<File> {
    let name = path.display();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open the disk {name}"))?;
    lock(&file).with_context(|| format!("the disk {name}"))?;
    ensure!(
        is_disk(&file).with_context(|| format!("cannot read the disk {name}"))?,
        "{name} is there and is not the disk of a pair, a partition with FAT16 in it: it was left as it is; --disk takes another name"
    );
    Ok(file)
}

fn lock(file: &File) -> Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            bail!("it is in use by another pair; --disk takes another one")
        }
        outcome => Ok(outcome?),
    }
}

/// Whether a file begins as what [`format()`] makes.
fn is_disk(file: &File) -> Result<bool> {
    let mut block = [0; BLOCK_LEN];
    let is_boot = |at: u64, block: &mut [u8; BLOCK_LEN]| match file.read_exact_at(block, at) {
        Ok(()) => Ok(block[510..] == [0x55, 0xaa]),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    };
    if !is_boot(0, &mut block)? || ![0x04, 0x06, 0x0e].contains(&block[450]) {
        return Ok(false);
    }
    let start = u32::from_le_bytes([block[454], block[455], block[456], block[457]]);
    Ok(is_boot(u64::from(start) * BLOCK_LEN as u64, &mut block)? && &block[54..59] == b"FAT16")
}

/// An empty disk in memory, for a test.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn scratch(mib: u32) -> Result<File> {
    let mut file = File::from(memfd_create(c"disk", MemfdFlags::CLOEXEC)?);
    format(&mut file, mib)?;
    Ok(file)
}

/// What a file on the disk holds.
///
/// # Errors
/// It is no disk, or has no such file.
pub(crate) fn contents(disk: &File, path: &str) -> Result<Vec<u8>> {
    ensure!(is_disk(disk)?, "it is not a disk that run-pair made");
    let mut disk = disk.try_clone()?;
    disk.seek(SeekFrom::Start(START))?;
    let volume = fatfs::FileSystem::new(Partition(&mut disk), fatfs::FsOptions::new())?;
    let mut bytes = Vec::new();
    let file = volume.root_dir().open_file(path);
    file.with_context(|| format!("the disk has no file {path}"))?
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes an empty file a disk of `mib` MiB.
fn format(file: &mut File, mib: u32) -> Result<()> {
    let len = u64::from(mib) * MIB;
    file.set_len(len)?;
    let blocks = |bytes: u64| (bytes / BLOCK_LEN as u64) as u32;
    let mut boot = [0; BLOCK_LEN];
    boot[450] = PARTITION_TYPE;
    boot[454..458].copy_from_slice(&blocks(START).to_le_bytes());
    boot[458..462].copy_from_slice(&blocks(len - START).to_le_bytes());
    boot[510..].copy_from_slice(&[0x55, 0xaa]);
    file.write_all_at(&boot, 0)?;
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat16)
        .bytes_per_cluster(cluster_len(mib))
        // One table: the writer keeps the order that makes a second one needless.
        .fats(1)
        .total_sectors(blocks(len - START))
        .volume_label(*b"HOTSPARE   ");
    file.seek(SeekFrom::Start(START))?;
    fatfs::format_volume(Partition(file), options)?;
    Ok(())
}

/// Length of a cluster: the volume has about 16 Ki of them, where that is possible.
fn cluster_len(mib: u32) -> u32 {
    (mib.next_power_of_two() * (MIB as u32 / (16 << 10))).clamp(512, 32 << 10)
}

/// What lies behind the start of the partition.
struct Partition<'a>(&'a mut File);

impl Read for Partition<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Partition<'_> {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.0.write(from)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Partition<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(at + START),
            other => other,
        };
        let at = self.0.seek(to)?;
        at.checked_sub(START)
            .ok_or_else(|| ErrorKind::InvalidInput.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is removed again.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hotspare-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_disk_is_made_once_and_kept() {
        let directory = Scratch::new("kept");
        let path = directory.0.join("new/disk.img");
        let file = open(&path, 8).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 8 << 20);
        // In the last block there is no more than contents of files.
        file.write_all_at(b"kept", (8 << 20) - 4).unwrap();
        let error = open(&path, 8).unwrap_err();
        assert!(
            std::format!("{error:#}").contains("in use by another pair"),
            "{error:#}"
        );
        drop(file);
        let file = open(&path, 16).unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, (8 << 20) - 4).unwrap();
        assert_eq!(&bytes, b"kept");
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "nothing stays beside it");
    }

    #[test]
    fn what_is_no_disk_is_named_and_left_alone() {
        let directory = Scratch::new("foreign");
        let path = directory.0.join("letter.txt");
        for contents in [&b"dear reader"[..], &[0; 4096], &[]] {
            fs::write(&path, contents).unwrap();
            let error = open(&path, 8).unwrap_err().to_string();
            assert!(
                error.contains("letter.txt") && error.contains("not the disk"),
                "{error}"
            );
            assert_eq!(fs::read(&path).unwrap(), contents);
        }
    }

    #[test]
    fn every_length_that_may_be_asked_for_is_fat16() {
        for mib in [8, 9, 15, 31, 64, 100, 511, 1025, 2000] {
            let file = scratch(mib).unwrap();
            assert!(is_disk(&file).unwrap(), "{mib}");
            let mut file = file;
            file.seek(SeekFrom::Start(START)).unwrap();
            let fat = fatfs::FileSystem::new(Partition(&mut file), fatfs::FsOptions::new()).unwrap();
            assert_eq!(fat.fat_type(), FatType::Fat16, "{mib}");
            let free = fat.stats().unwrap().free_clusters() as u64 * u64::from(fat.cluster_size());
            assert!(free > u64::from(mib - 2) * MIB, "{mib}: {free}");
        }
    }
}
