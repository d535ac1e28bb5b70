//! A disk in memory that loses, on demand, what a loss of power would.

use core::cell::RefCell;
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use super::*;

/// Block at which the volume of [`formatted`] begins.
pub(crate) const PARTITION_START: usize = 8;
const VOLUME_BLOCKS: usize = 9000;

#[derive(Default)]
struct Inner {
    /// What survives.
    durable: Vec<u8>,
    /// What is read: some of it may be lost.
    present: Vec<u8>,
    /// Runs written since the last barrier: where, how long.
    unflushed: Vec<(usize, usize)>,
    /// All runs ever written.
    log: Vec<(usize, Vec<u8>)>,
    reads: usize,
    failing: bool,
}

/// A disk in memory; copies are the same one.
#[derive(Clone)]
pub(crate) struct RamDisk(Rc<RefCell<Inner>>);

impl RamDisk {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            durable: bytes.clone(),
            present: bytes,
            ..Inner::default()
        })))
    }

    /// What a loss of power would leave at worst.
    pub(crate) fn durable(&self) -> Vec<u8> {
        self.0.borrow().durable.clone()
    }
}

impl Disk for RamDisk {
    fn blocks(&self) -> u64 {
        (self.0.borrow().present.len() / BLOCK_LEN) as u64
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let mut inner = self.0.borrow_mut();
        inner.reads += 1;
        if inner.failing {
            return Err(DiskError::Refused { block: first });
        }
        let start = first as usize * BLOCK_LEN;
        let from = inner.present.get(start..start + into.len());
        into.copy_from_slice(from.ok_or(DiskError::Beyond { block: first })?);
        Ok(())
    }

    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), DiskError> {
        let mut inner = self.0.borrow_mut();
        if inner.failing {
            return Err(DiskError::Refused { block: first });
        }
        let start = first as usize * BLOCK_LEN;
        let into = inner.present.get_mut(start..start + from.len());
        into.ok_or(DiskError::Beyond { block: first })?
            .copy_from_slice(from);
        inner.unflushed.push((start, from.len()));
        inner.log.push((start, from.to_vec()));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let mut inner = self.0.borrow_mut();
        if inner.failing {
            return Err(DiskError::Refused { block: 0 });
        }
        for (start, len) in core::mem::take(&mut inner.unflushed) {
            let Inner { durable, present, .. } = &mut *inner;
            durable[start..start + len].copy_from_slice(&present[start..start + len]);
        }
        Ok(())
    }
}

/// A disk of 4.4 MiB with an empty FAT16 volume.
pub(crate) fn formatted() -> RamDisk {
    let mut volume = Cursor::new(vec![0; VOLUME_BLOCKS * BLOCK_LEN]);
    let options = fatfs::FormatVolumeOptions::new()
        .fat_type(fatfs::FatType::Fat16)
        .bytes_per_cluster(1024)
        .total_sectors(VOLUME_BLOCKS as u32);
    fatfs::format_volume(&mut volume, options).unwrap();
    let mut disk = Cursor::new(Vec::new());
    let mut boot = [0; BLOCK_LEN];
    boot[446..462].copy_from_slice(&[
        0,
        0,
        0,
        0,
        0x0e,
        0,
        0,
        0,
        PARTITION_START as u8,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    boot[458..462].copy_from_slice(&(VOLUME_BLOCKS as u32).to_le_bytes());
    boot[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.write_all(&boot).unwrap();
    disk.seek(SeekFrom::Start((PARTITION_START * BLOCK_LEN) as u64))
        .unwrap();
    disk.write_all(volume.get_ref()).unwrap();
    RamDisk::new(disk.into_inner())
}
