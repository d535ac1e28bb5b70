//! A disk in memory that remembers what was written when, and so knows what a loss of power would leave of it.

use core::cell::RefCell;
use std::boxed::Box;
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use super::*;

/// Block at which the volume of [`formatted`] begins.
pub(crate) const PARTITION_START: usize = 8;
const VOLUME_BLOCKS: usize = 9000;

enum Word {
    /// This block got these contents.
    Write(usize, Box<[u8; BLOCK_LEN]>),
    Flush,
}

#[derive(Default)]
struct Inner {
    begun: Vec<u8>,
    bytes: Vec<u8>,
    words: Vec<Word>,
    reads: usize,
    failing: bool,
}

/// A disk in memory; copies are the same one.
#[derive(Clone)]
pub(crate) struct RamDisk(Rc<RefCell<Inner>>);

impl RamDisk {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            begun: bytes.clone(),
            bytes,
            ..Inner::default()
        })))
    }

    /// What is on it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }

    /// How many words were spoken to it: blocks written, and flushes.
    pub(crate) fn words(&self) -> usize {
        self.0.borrow().words.len()
    }

    /// How many runs were read.
    pub(crate) fn reads(&self) -> usize {
        self.0.borrow().reads
    }

    /// From now on it fails, or not any more.
    pub(crate) fn set_failing(&self, failing: bool) {
        self.0.borrow_mut().failing = failing;
    }

    /// The disk as a loss of power at this word leaves it: of the blocks written after the last flush before it, those
    /// remain that `keep` keeps.
    pub(crate) fn after_loss(&self, at: usize, mut keep: impl FnMut() -> bool) -> RamDisk {
        let inner = self.0.borrow();
        let words = &inner.words[..at];
        let safe = words.iter().rposition(|word| matches!(word, Word::Flush));
        let mut bytes = inner.begun.clone();
        for (index, word) in words.iter().enumerate() {
            if let Word::Write(block, contents) = word
                && (safe.is_some_and(|safe| index < safe) || keep())
            {
                bytes[block * BLOCK_LEN..][..BLOCK_LEN].copy_from_slice(&contents[..]);
            }
        }
        RamDisk::new(bytes)
    }

    /// The same disk, but one that has never done what a flush asks for: to see that this is noticed.
    pub(crate) fn lying(&self) -> RamDisk {
        let inner = self.0.borrow();
        let word = |word: &Word| match word {
            Word::Write(block, contents) => Some(Word::Write(*block, contents.clone())),
            Word::Flush => None,
        };
        RamDisk(Rc::new(RefCell::new(Inner {
            begun: inner.begun.clone(),
            bytes: inner.bytes.clone(),
            words: inner.words.iter().filter_map(word).collect(),
            ..Inner::default()
        })))
    }
}

impl Disk for RamDisk {
    fn blocks(&self) -> u64 {
        (self.0.borrow().bytes.len() / BLOCK_LEN) as u64
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let mut inner = self.0.borrow_mut();
        inner.reads += 1;
        if inner.failing {
            return Err(DiskError::Refused { block: first });
        }
        let start = first as usize * BLOCK_LEN;
        let from = inner.bytes.get(start..start + into.len());
        into.copy_from_slice(from.ok_or(DiskError::Beyond { block: first })?);
        Ok(())
    }

    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), DiskError> {
        let inner = &mut *self.0.borrow_mut();
        if inner.failing {
            return Err(DiskError::Refused { block: first });
        }
        let start = first as usize * BLOCK_LEN;
        let into = inner.bytes.get_mut(start..start + from.len());
        into.ok_or(DiskError::Beyond { block: first })?
            .copy_from_slice(from);
        for (index, block) in from.chunks_exact(BLOCK_LEN).enumerate() {
            let contents = block.try_into().expect("a block");
            inner
                .words
                .push(Word::Write(first as usize + index, Box::new(contents)));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let mut inner = self.0.borrow_mut();
        if inner.failing {
            return Err(DiskError::Refused { block: 0 });
        }
        inner.words.push(Word::Flush);
        Ok(())
    }
}

/// A disk of 4.4 MiB with an empty FAT16 volume that has so many tables.
pub(crate) fn formatted(tables: u8) -> RamDisk {
    let mut volume = Cursor::new(vec![0; VOLUME_BLOCKS * BLOCK_LEN]);
    let options = fatfs::FormatVolumeOptions::new()
        .fat_type(fatfs::FatType::Fat16)
        .bytes_per_cluster(1024)
        .fats(tables)
        .total_sectors(VOLUME_BLOCKS as u32);
    fatfs::format_volume(&mut volume, options).unwrap();
    let mut disk = Cursor::new(Vec::new());
    let mut boot = [0; BLOCK_LEN];
    boot[450] = 0x0e;
    boot[454] = PARTITION_START as u8;
    boot[458..462].copy_from_slice(&(VOLUME_BLOCKS as u32).to_le_bytes());
    boot[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.write_all(&boot).unwrap();
    disk.seek(SeekFrom::Start((PARTITION_START * BLOCK_LEN) as u64))
        .unwrap();
    disk.write_all(volume.get_ref()).unwrap();
    RamDisk::new(disk.into_inner())
}
