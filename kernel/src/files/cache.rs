//! A cache of blocks between the file system, which asks for one at a time, and a disk that is at its best with long runs.
//!
//! ```text
//!   line: 8 blocks │ a bit each: here, modified │            read:   a miss brings the rest of its line, in a sequence
//!   index: line numbers in order ─► which slot                       of misses sixteen lines at once
//!                                                            write:  stays here until `flush`, or until room is short
//! ```
//!
//! **In which order modified blocks reach the disk** is what makes a power cut harmless, see [`check`](super::check). Blocks
//! of the file allocation table go last of all, and only in [`flush`](Cache::flush): what a chain newly leads to is there
//! before the chain leads to it.
//!
//! All memory is taken at the start: a thread may call whose own allocations are meant for somewhere else.
//!
//! Deliberately absent: writing back by itself after a while. Who wants to keep what was written says so.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::disk::{BLOCK_LEN, Disk, DiskError};

/// Blocks of a line.
const LINE_BLOCKS: u32 = 8;
const LINE_LEN: usize = LINE_BLOCKS as usize * BLOCK_LEN;

/// Lines of the cache: 1 MiB.
pub const LINES: usize = 256;

/// Longest run that is read or written at once, in blocks.
const RUN_BLOCKS: u32 = 128;

/// Lines that are read at once when one follows the other.
const AHEAD_LINES: u32 = RUN_BLOCKS / LINE_BLOCKS;

/// Contents of a block.
pub type Block = [u8; BLOCK_LEN];

#[derive(Clone, Copy, Default)]
struct Line {
    /// Bits of blocks that are here, and of those that the disk does not have like this.
    here: u8,
    modified: u8,
    /// When it was last used.
    used: u64,
}

/// The cache, and the disk under it.
pub struct Cache<D> {
    disk: D,
    lines: Vec<Line>,
    bytes: Box<[u8]>,
    /// Slots that hold a line, by its number.
    index: Vec<(u32, u16)>,
    free: Vec<u16>,
    /// Where a run is put together.
    run: Box<[u8]>,
    clock: u64,
    /// The line after the last one that was read from the disk.
    expected: u32,
    /// Blocks of the file allocation table.
    table: Range<u32>,
    /// Something was written that no barrier followed.
    unflushed: bool,
    /// The disk has failed since the last look at this.
    failed: Option<DiskError>,
}

impl<D: Disk> Cache<D> {
    /// An empty cache of `lines` lines, at least two, over `disk`.
    pub fn new(disk: D, lines: usize) -> Self {
        let lines = lines.clamp(2, usize::from(u16::MAX));
        Self {
            disk,
            lines: vec![Line::default(); lines],
            bytes: vec![0; lines * LINE_LEN].into_boxed_slice(),
            index: Vec::with_capacity(lines),
            free: (0..lines as u16).rev().collect(),
            run: vec![0; RUN_BLOCKS as usize * BLOCK_LEN].into_boxed_slice(),
            clock: 0,
            expected: 0,
            table: 0..0,
            unflushed: false,
            failed: None,
        }
    }

    /// Forgets everything, what was not written too.
    pub fn forget(&mut self) {
        self.index.clear();
        self.free.clear();
        self.free.extend((0..self.lines.len() as u16).rev());
        self.table = 0..0;
        self.unflushed = false;
        self.failed = None;
    }

    /// Names the blocks of the file allocation table.
    pub fn set_table(&mut self, table: Range<u32>) {
        self.table = table;
    }

    /// What the disk has failed with since the last call.
    pub fn take_failure(&mut self) -> Option<DiskError> {
        self.failed.take()
    }

    /// Length of the disk in blocks, as far as a FAT volume can see.
    pub fn blocks(&self) -> u32 {
        u32::try_from(self.disk.blocks()).unwrap_or(u32::MAX)
    }

    /// Reads a block.
    ///
    /// # Errors
    /// See [`DiskError`].
    pub fn read(&mut self, block: u32, into: &mut Block) -> Result<(), DiskError> {
        let outcome = self.slot_with(block);
        let slot = self.noted(outcome)?;
        let at = slot * LINE_LEN + (block % LINE_BLOCKS) as usize * BLOCK_LEN;
        into.copy_from_slice(&self.bytes[at..at + BLOCK_LEN]);
        Ok(())
    }

    /// Writes a block, here for now.
    ///
    /// # Errors
    /// See [`DiskError`]: room had to be made.
    pub fn write(&mut self, block: u32, from: &Block) -> Result<(), DiskError> {
        if block >= self.blocks() {
            return self.noted(Err(DiskError::Beyond {
                block: u64::from(block),
            }));
        }
        let number = block / LINE_BLOCKS;
        let outcome = match self.find(number) {
            Some(slot) => Ok(slot),
            None => self.take_slot(number),
        };
        let slot = self.noted(outcome)?;
        let at = slot * LINE_LEN + (block % LINE_BLOCKS) as usize * BLOCK_LEN;
        self.bytes[at..at + BLOCK_LEN].copy_from_slice(from);
        let bit = 1 << (block % LINE_BLOCKS);
        self.lines[slot].here |= bit;
        self.lines[slot].modified |= bit;
        self.touch(slot);
        Ok(())
    }

    /// Returns when all that was written is on the disk for good: what the file allocation table leads to first, then the
    /// table.
    ///
    /// # Errors
    /// See [`DiskError`]; what is not on the disk is still here.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        let outcome = self.write_back(false).and_then(|()| self.barrier());
        self.noted(outcome)?;
        let outcome = self.write_back(true).and_then(|()| self.barrier());
        self.noted(outcome)
    }

    fn noted<T>(&mut self, outcome: Result<T, DiskError>) -> Result<T, DiskError> {
        if let Err(error) = &outcome {
            self.failed.get_or_insert(*error);
        }
        outcome
    }

    fn barrier(&mut self) -> Result<(), DiskError> {
        if self.unflushed {
            self.disk.flush()?;
            self.unflushed = false;
        }
        Ok(())
    }

    fn find(&self, number: u32) -> Option<usize> {
        let place = self.index.binary_search_by_key(&number, |&(number, _)| number);
        place.ok().map(|place| usize::from(self.index[place].1))
    }

    fn touch(&mut self, slot: usize) {
        self.clock += 1;
        self.lines[slot].used = self.clock;
    }

    /// The slot of the line with `block` in it, which is here afterwards.
    fn slot_with(&mut self, block: u32) -> Result<usize, DiskError> {
        if block >= self.blocks() {
            return Err(DiskError::Beyond {
                block: u64::from(block),
            });
        }
        let number = block / LINE_BLOCKS;
        let found = self.find(number);
        if let Some(slot) = found
            && self.lines[slot].here & 1 << (block % LINE_BLOCKS) != 0
        {
            self.touch(slot);
            return Ok(slot);
        }
        let wanted = if number == self.expected { AHEAD_LINES } else { 1 };
        let lines_max = self.blocks().div_ceil(LINE_BLOCKS) - number;
        let half = (self.lines.len() / 2).max(1) as u32;
        // Up to the next one that is here.
        let next = self.index.partition_point(|&(other, _)| other <= number);
        let gap = self
            .index
            .get(next)
            .map_or(u32::MAX, |&(other, _)| other - number);
        let count = wanted.min(lines_max).min(half).min(gap).max(1);
        self.read_lines(number, count)?;
        self.expected = number + count;
        self.find(number).ok_or(DiskError::OutOfUse)
    }

    /// Brings `count` lines; what of them is here already stays as it is.
    fn read_lines(&mut self, first: u32, count: u32) -> Result<(), DiskError> {
        let begun = self.clock;
        let start = first * LINE_BLOCKS;
        let blocks = (count * LINE_BLOCKS).min(self.blocks() - start);
        let len = blocks as usize * BLOCK_LEN;
        self.disk.read(u64::from(start), &mut self.run[..len])?;
        for line in 0..count {
            let slot = match self.find(first + line) {
                Some(slot) => slot,
                None => {
                    if self.free.is_empty() && !self.evict_clean(begun) {
                        // Those ahead are not worth more than what is here.
                        if line > 0 {
                            break;
                        }
                        // This may write runs, and so use the place that the one just read lies in.
                        self.make_room()?;
                        self.disk.read(u64::from(start), &mut self.run[..len])?;
                    }
                    self.take_slot(first + line)?
                }
            };
            let from = line as usize * LINE_LEN;
            for block in 0..LINE_BLOCKS.min(blocks - line * LINE_BLOCKS) {
                let bit = 1 << block;
                if self.lines[slot].here & bit == 0 {
                    let offset = block as usize * BLOCK_LEN;
                    self.bytes[slot * LINE_LEN + offset..][..BLOCK_LEN]
                        .copy_from_slice(&self.run[from + offset..][..BLOCK_LEN]);
                    self.lines[slot].here |= bit;
                }
            }
            self.touch(slot);
        }
        Ok(())
    }

    /// An empty slot for line `number`, which has none.
    fn take_slot(&mut self, number: u32) -> Result<usize, DiskError> {
        if self.free.is_empty() && !self.evict_clean(self.clock) {
            self.make_room()?;
        }
        let slot = self.free.pop().ok_or(DiskError::OutOfUse)?;
        let place = self.index.partition_point(|&(other, _)| other < number);
        self.index.insert(place, (number, slot));
        let slot = usize::from(slot);
        self.lines[slot] = Line::default();
        self.touch(slot);
        Ok(slot)
    }

    /// Frees the slot that was not used for longest, of those whose contents the disk has and that were not used since
    /// `begun`.
    fn evict_clean(&mut self, begun: u64) -> bool {
        let clean = self
            .index
            .iter()
            .enumerate()
            .filter(|(_, (_, slot))| {
                let line = &self.lines[usize::from(*slot)];
                line.modified == 0 && line.used <= begun
            })
            .min_by_key(|(_, (_, slot))| self.lines[usize::from(*slot)].used);
        let Some((place, _)) = clean else {
            return false;
        };
        let (_, slot) = self.index.remove(place);
        self.free.push(slot);
        true
    }

    /// Frees a slot when all are modified: by writing, the file allocation table only if there is nothing else.
    fn make_room(&mut self) -> Result<(), DiskError> {
        self.write_back(false)?;
        if !self.evict_clean(self.clock) {
            self.barrier()?;
            self.write_back(true)?;
            self.evict_clean(self.clock);
        }
        Ok(())
    }

    /// Whether `block` is modified, and of the table or not, as asked.
    fn is_due(&self, block: u32, table: bool) -> Option<usize> {
        let slot = self.find(block / LINE_BLOCKS)?;
        let modified = self.lines[slot].modified & 1 << (block % LINE_BLOCKS) != 0;
        (modified && self.table.contains(&block) == table).then_some(slot)
    }

    /// Writes the modified blocks of the table, or all others, in runs as long as they come.
    fn write_back(&mut self, table: bool) -> Result<(), DiskError> {
        let mut place = 0;
        while let Some(&(number, slot)) = self.index.get(place) {
            place += 1;
            if self.lines[usize::from(slot)].modified == 0 {
                continue;
            }
            let end = (number + 1) * LINE_BLOCKS;
            let mut block = number * LINE_BLOCKS;
            while block < end {
                if self.is_due(block, table).is_none() {
                    block += 1;
                    continue;
                }
                block += self.write_run(block, table)?;
            }
        }
        Ok(())
    }

    /// Writes the run of modified blocks that begins at `first`; returns its length.
    fn write_run(&mut self, first: u32, table: bool) -> Result<u32, DiskError> {
        let mut count = 0;
        while count < RUN_BLOCKS
            && let Some(slot) = self.is_due(first + count, table)
        {
            let from = slot * LINE_LEN + ((first + count) % LINE_BLOCKS) as usize * BLOCK_LEN;
            self.run[count as usize * BLOCK_LEN..][..BLOCK_LEN]
                .copy_from_slice(&self.bytes[from..from + BLOCK_LEN]);
            count += 1;
        }
        self.unflushed = true;
        self.disk
            .write(u64::from(first), &self.run[..count as usize * BLOCK_LEN])?;
        for block in first..first + count {
            if let Some(slot) = self.find(block / LINE_BLOCKS) {
                self.lines[slot].modified &= !(1 << (block % LINE_BLOCKS));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
