//! A class's blocks: power-of-two buckets over fresh memory.
//!
//! ```text
//! bucket      0    1    2  …   8  …  35
//! block      16   32   64    4096    512 GiB      aligned to its length, at most to a page
//!
//! a free block:   next free block of the bucket, or 0 │ …
//! ```
//!
//! A block comes from, in this order: the free list of its bucket; fresh memory, by moving a cursor (so that what is
//! allocated together lies together, whatever its size, and memory never used is never touched); a larger free block,
//! split in halves. What alignment skips and what is left of an area at its end goes to the free lists.
//! Each is O(1) in the number of blocks, and at most one step a bucket.
//!
//! No block has a header: the size comes back with the layout at `free`.
//!
//! Deliberately absent: joining free blocks. A class holds things of a kind, whose sizes return. (Whole pages that are free are
//! found by `trim`, which counts.)

use core::alloc::Layout;
use core::ops::Range;

use crate::platform::{PAGE_LEN, PageRange};
use crate::raw::Words;

const SMALLEST_SHIFT: u32 = 4;
const BUCKETS: usize = 36;

/// Index of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Bucket(u32);

impl Bucket {
    /// The bucket whose blocks fit `layout`, or `None` if there is none: too large, or aligned beyond a page.
    pub(super) fn of(layout: Layout) -> Option<Self> {
        if layout.align() > PAGE_LEN {
            return None;
        }
        // One less than the block's length at least: its highest bit tells the power of two above it.
        let most = (layout.size().max(layout.align()) - 1) | ((1 << SMALLEST_SHIFT) - 1);
        let index = most.ilog2() + 1 - SMALLEST_SHIFT;
        ((index as usize) < BUCKETS).then_some(Self(index))
    }

    /// The largest bucket that a block at `address` of at most `room` bytes may belong to. `room` is at least the
    /// smallest block.
    fn filling(address: usize, room: usize) -> Self {
        let by_room = room.ilog2();
        let aligned = address.trailing_zeros();
        let shift = if aligned < PAGE_LEN.trailing_zeros() {
            by_room.min(aligned)
        } else {
            by_room
        };
        Self((shift - SMALLEST_SHIFT).min(BUCKETS as u32 - 1))
    }

    /// Length of its blocks.
    pub(super) const fn block_bytes(self) -> usize {
        1 << (self.0 + SMALLEST_SHIFT)
    }

    /// What its blocks are aligned to.
    pub(super) fn align(self) -> usize {
        self.block_bytes().min(PAGE_LEN)
    }
}

#[derive(Debug)]
#[repr(C)]
pub(crate) struct Buckets {
    /// First byte never given out, and the end of the memory that it may run to.
    fresh: usize,
    fresh_end: usize,
    /// Bit n: bucket n's free list is not empty.
    occupied: u64,
    lists: [List; BUCKETS],
}

/// A bucket's free list, and the count that goes with it: a malloc or free touches one line of the cache. (One count of all
/// blocks and one of all bytes beside each other were a fifth of a free: compiled into a 16-byte load just behind two 8-byte
/// stores, which no store buffer forwards.)
#[derive(Debug)]
#[repr(C)]
struct List {
    head: usize,
    /// Blocks given out.
    blocks: usize,
}

impl Buckets {
    /// Blocks given out, and their length together.
    pub(super) fn in_use(&self) -> (usize, usize) {
        let each = (0..).map(Bucket).zip(&self.lists);
        each.fold((0, 0), |(blocks, block_bytes), (bucket, list)| {
            (
                blocks + list.blocks,
                block_bytes + list.blocks * bucket.block_bytes(),
            )
        })
    }

    /// Bytes never given out, in one piece.
    pub(super) fn fresh_bytes(&self) -> usize {
        self.fresh_end - self.fresh
    }

    /// Bytes of fresh memory that a block of `bucket` would need there now, with what alignment skips.
    pub(super) fn fresh_needed(&self, bucket: Bucket) -> usize {
        self.fresh.next_multiple_of(bucket.align()) - self.fresh + bucket.block_bytes()
    }

    /// The memory of a new area: fresh from `first` on. What was left of the area before is joined to it if they touch, and
    /// otherwise goes to the free lists.
    pub(super) fn add_fresh(&mut self, words: &mut Words<'_>, area: PageRange, first: usize) {
        if self.fresh_end == area.start() && self.fresh_end != 0 {
            self.fresh_end = area.end();
            return;
        }
        self.scatter(words, self.fresh, self.fresh_end);
        self.fresh = first;
        self.fresh_end = area.end();
    }

    /// A block of `bucket`, or `None` if the class must grow first. The thesis's `hs_malloc`.
    #[inline]
    pub(super) fn malloc(&mut self, words: &mut Words<'_>, bucket: Bucket) -> Option<usize> {
        let block = match self.pop(words, bucket) {
            Some(block) => block,
            None => self.cut(words, bucket)?,
        };
        self.lists[bucket.0 as usize].blocks += 1;
        Some(block)
    }

    /// A new block, where none of `bucket` is free.
    #[cold]
    fn cut(&mut self, words: &mut Words<'_>, bucket: Bucket) -> Option<usize> {
        self.take_fresh(words, bucket)
            .or_else(|| self.split_larger(words, bucket))
    }

    /// Takes back a block of `bucket`. The thesis's `hs_free`.
    #[inline]
    pub(super) fn free(&mut self, words: &mut Words<'_>, block: usize, bucket: Bucket) {
        self.push(words, block, bucket);
        self.lists[bucket.0 as usize].blocks -= 1;
    }

    /// Makes a block of `old` into one of the smaller bucket `new`, in place; the rest is free.
    pub(super) fn shrink(&mut self, words: &mut Words<'_>, block: usize, old: Bucket, new: Bucket) {
        self.scatter(words, block + new.block_bytes(), block + old.block_bytes());
        self.lists[old.0 as usize].blocks -= 1;
        self.lists[new.0 as usize].blocks += 1;
    }

    fn take_fresh(&mut self, words: &mut Words<'_>, bucket: Bucket) -> Option<usize> {
        if self.fresh_needed(bucket) > self.fresh_bytes() {
            return None;
        }
        let block = self.fresh.next_multiple_of(bucket.align());
        self.scatter(words, self.fresh, block);
        self.fresh = block + bucket.block_bytes();
        Some(block)
    }

    fn split_larger(&mut self, words: &mut Words<'_>, bucket: Bucket) -> Option<usize> {
        let larger = self.occupied & (u64::MAX << bucket.0 << 1);
        if larger == 0 {
            return None;
        }
        let from = Bucket(larger.trailing_zeros());
        let block = self.pop(words, from)?;
        self.scatter(words, block + bucket.block_bytes(), block + from.block_bytes());
        Some(block)
    }

    /// Cuts `start..end` into blocks, as large as alignment allows, and frees them.
    fn scatter(&mut self, words: &mut Words<'_>, mut start: usize, end: usize) {
        while start < end {
            let bucket = Bucket::filling(start, end - start);
            self.push(words, start, bucket);
            start += bucket.block_bytes();
        }
    }

    fn pop(&mut self, words: &Words<'_>, bucket: Bucket) -> Option<usize> {
        let head = &mut self.lists[bucket.0 as usize].head;
        let block = *head;
        if block == 0 {
            return None;
        }
        *head = words.load(block);
        if *head == 0 {
            self.occupied &= !(1 << bucket.0);
        }
        Some(block)
    }

    fn push(&mut self, words: &mut Words<'_>, block: usize, bucket: Bucket) {
        let head = &mut self.lists[bucket.0 as usize].head;
        words.store(block, *head);
        *head = block;
        self.occupied |= 1 << bucket.0;
    }

    /// What was never given out, in one piece.
    pub(super) fn fresh(&self) -> Range<usize> {
        self.fresh..self.fresh_end
    }

    /// Every free block of a class of `total_bytes`, its address and its length, in no order.
    ///
    /// # Panics
    /// If a list does not end: a block was written to after it was freed.
    pub(super) fn each_free(
        &self,
        words: &Words<'_>,
        total_bytes: usize,
        mut with: impl FnMut(usize, usize),
    ) {
        for (bucket, list) in (0..).map(Bucket).zip(&self.lists) {
            let len_bytes = bucket.block_bytes();
            let mut left = total_bytes / len_bytes;
            let mut next = list.head;
            while next != 0 {
                left = left.checked_sub(1).unwrap_or_else(|| endless(bucket));
                with(next, len_bytes);
                next = words.load(next);
            }
        }
    }

    /// Whether any of the bytes from `start` to `end` are free.
    pub(super) fn is_free(&self, words: &Words<'_>, total_bytes: usize, start: usize, end: usize) -> bool {
        let mut found = self.fresh < end && start < self.fresh_end;
        self.each_free(words, total_bytes, |block, len_bytes| {
            found |= block < end && start < block + len_bytes;
        });
        found
    }

    /// Forgets the free blocks, and the fresh memory, that are `gone`: pages, of which no block lies half in. Must be called
    /// before they go.
    pub(super) fn forget(&mut self, words: &mut Words<'_>, total_bytes: usize, gone: impl Fn(usize) -> bool) {
        for index in 0..BUCKETS {
            let bucket = Bucket(index as u32);
            let mut left = total_bytes / bucket.block_bytes();
            let (mut kept, mut next) = (0, self.lists[index].head);
            let mut skipped = false;
            while next != 0 {
                left = left.checked_sub(1).unwrap_or_else(|| endless(bucket));
                let after = words.load(next);
                if gone(next) {
                    skipped = true;
                } else {
                    // Only where something is left out: the rest stays clean.
                    if skipped {
                        self.link(words, bucket, kept, next);
                    }
                    (kept, skipped) = (next, false);
                }
                next = after;
            }
            if skipped {
                self.link(words, bucket, kept, 0);
            }
            if self.lists[index].head == 0 {
                self.occupied &= !(1 << index);
            }
        }
        // Of the page that it begins in, all or nothing of it goes.
        if self.fresh < self.fresh_end && gone(self.fresh) {
            (self.fresh, self.fresh_end) = (0, 0);
        }
        let mut pages = (self.fresh.next_multiple_of(PAGE_LEN)..self.fresh_end).step_by(PAGE_LEN);
        if let Some(end) = pages.find(|page| gone(*page)) {
            self.fresh_end = end;
        }
    }

    /// Makes `next` follow `block`, or begin the list if `block` is 0.
    fn link(&mut self, words: &mut Words<'_>, bucket: Bucket, block: usize, next: usize) {
        if block == 0 {
            self.lists[bucket.0 as usize].head = next;
        } else {
            words.store(block, next);
        }
    }
}

#[cold]
fn endless(bucket: Bucket) -> ! {
    panic!(
        "the free list of {} bytes has no end: a block was written to after it was freed",
        bucket.block_bytes()
    )
}
