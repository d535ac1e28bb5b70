//! Frames of physical memory: who holds each, and which are free.
//!
//! One record of eight bytes a frame, in an array at the start of the largest range of RAM; it spans all
//! ranges, and the frames of the gaps between them are held for ever. A free frame is a link of the free
//! list; a used one counts its holders, because copy-on-write lets several address spaces hold one frame. Allocation and release are O(1); nothing is ever split or merged.
//!
//! Deliberately absent: contiguous allocation. What devices need comes from the heap, which is one
//! contiguous range taken at boot.

use core::mem::MaybeUninit;
use core::ops::Range;
use core::slice;

use super::layout::PAGE_LEN;
use super::{PhysAddress, phys_to_virt};
use crate::sync::IrqMutex;

/// A frame, by the physical address of its first byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PhysFrame(PhysAddress);

impl PhysFrame {
    /// The frame at `address`.
    ///
    /// # Panics
    /// If `address` is not page-aligned: a broken page-table entry.
    pub fn at(address: PhysAddress) -> Self {
        assert!(
            address.is_multiple_of(PAGE_LEN as u64),
            "frame address {address:#x} is not page-aligned"
        );
        Self(address)
    }

    /// Physical address of the first byte.
    pub const fn address(self) -> PhysAddress {
        self.0
    }

    /// The frame's bytes in the direct map.
    pub fn bytes(self) -> *mut [u8; PAGE_LEN] {
        phys_to_virt(self.0).cast()
    }
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Record {
    /// Holders; 0 while free.
    holders: u32,
    /// The next free frame, while free.
    next_free: u32,
}

struct Frames {
    first: u64,
    records: &'static mut [Record],
    free_head: u32,
    free_count: usize,
    /// Set aside for those who must not fail: see [`allocate_reserved`].
    reserved: usize,
}

#[unsafe(link_section = ".hot.1.frames")]
static FRAMES: IrqMutex<Frames> = IrqMutex::new(Frames {
    first: 0,
    records: &mut [],
    free_head: NONE,
    free_count: 0,
    reserved: 0,
});

/// Takes `ram` over. The first pages of its largest range hold the records; every other frame is free.
///
/// # Panics
/// If called twice, or without RAM.
///
/// # Safety
/// The ranges are page-aligned, disjoint RAM in the direct map that nobody else uses.
pub unsafe fn init(ram: &[Range<PhysAddress>]) {
    let page_len = PAGE_LEN as u64;
    let mut frames = FRAMES.lock();
    assert!(
        frames.records.is_empty(),
        "the frame allocator is initialised once"
    );
    let first = ram
        .iter()
        .map(|range| range.start)
        .min()
        .expect("a machine has RAM");
    let end = ram
        .iter()
        .map(|range| range.end)
        .max()
        .expect("a machine has RAM");
    let largest = ram
        .iter()
        .max_by_key(|range| range.end - range.start)
        .expect("a machine has RAM");
    let total = ((end - first) / page_len) as usize;
    // SAFETY: the caller's promise; every bit pattern is a record.
    let records = unsafe { slice::from_raw_parts_mut(phys_to_virt(largest.start).cast::<Record>(), total) };
    let own = largest.start..largest.start + (size_of_val(records) as u64).next_multiple_of(page_len);
    records.fill(Record {
        holders: 1,
        next_free: NONE,
    });
    // Backwards, so that the lowest frames are handed out first.
    for index in (0..total).rev() {
        let address = first + index as u64 * page_len;
        if ram.iter().any(|range| range.contains(&address)) && !own.contains(&address) {
            records[index] = Record {
                holders: 0,
                next_free: frames.free_head,
            };
            frames.free_head = index as u32;
            frames.free_count += 1;
        }
    }
    frames.first = first;
    frames.records = records;
}

impl Frames {
    fn take(&mut self) -> Option<PhysFrame> {
        let index = self.free_head;
        let record = self.records.get_mut(index as usize)?;
        debug_assert_eq!(record.holders, 0);
        record.holders = 1;
        self.free_head = record.next_free;
        self.free_count -= 1;
        Some(PhysFrame(self.first + u64::from(index) * PAGE_LEN as u64))
    }

    fn index(&self, frame: PhysFrame) -> usize {
        ((frame.0 - self.first) / PAGE_LEN as u64) as usize
    }
}

/// A frame with one holder, its contents whatever they were; `None` if all that is left is reserved.
pub fn allocate() -> Option<PhysFrame> {
    let mut frames = FRAMES.lock();
    if frames.free_count <= frames.reserved {
        None
    } else {
        frames.take()
    }
}

/// As [`allocate`], zeroed.
pub fn allocate_zeroed() -> Option<PhysFrame> {
    let frame = allocate()?;
    // SAFETY: the frame is ours alone.
    unsafe { frame.bytes().write_bytes(0, 1) };
    Some(frame)
}

/// A few frames, each with one holder: fetched together, so that the lock is taken once.
#[derive(Debug)]
pub struct Batch {
    /// By number, which is half as long as the address. The first `len` are there: an empty batch is made in the pause of
    /// a cptfork, so the rest is left as it is.
    numbers: [MaybeUninit<u32>; Batch::LEN_MAX],
    len: u32,
}

impl Batch {
    /// Most frames in one.
    pub const LEN_MAX: usize = 8;

    /// One without any.
    pub const EMPTY: Batch = Batch {
        numbers: [const { MaybeUninit::uninit() }; Batch::LEN_MAX],
        len: 0,
    };

    /// How many are left.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One of them.
    pub fn pop(&mut self) -> Option<PhysFrame> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the one below the old `len` was written by `push`.
        let number = unsafe { self.numbers[self.len as usize].assume_init() };
        Some(PhysFrame(u64::from(number) * PAGE_LEN as u64))
    }

    fn push(&mut self, frame: PhysFrame) {
        // RAM ends below 4 GiB, or at least below what 32 bits count in frames.
        self.numbers[self.len as usize].write((frame.0 / PAGE_LEN as u64) as u32);
        self.len += 1;
    }
}

/// Up to `count` frames, but not more than a batch, out of the reserve that [`reserve_most`] set aside; the reserve shrinks by as
/// many.
pub fn allocate_reserved(count: usize) -> Batch {
    let mut frames = FRAMES.lock();
    let mut batch = Batch::EMPTY;
    while batch.len() < count.min(Batch::LEN_MAX) && frames.reserved > 0 {
        let Some(frame) = frames.take() else {
            break;
        };
        frames.reserved -= 1;
        batch.push(frame);
    }
    batch
}

/// Sets up to `most` more free frames aside, but not more than three quarters of what is free; at least `least`, or none.
/// Returns how many.
pub fn reserve_most(least: usize, most: usize) -> Option<usize> {
    let mut frames = FRAMES.lock();
    let free = frames.free_count - frames.reserved;
    let count = most.min(free - free / 4);
    if count < least {
        return None;
    }
    frames.reserved += count;
    Some(count)
}

/// Gives back what is left of a reservation.
///
/// # Panics
/// If more is given back than was reserved.
pub fn unreserve(count: usize) {
    let mut frames = FRAMES.lock();
    frames.reserved = frames
        .reserved
        .checked_sub(count)
        .expect("only what was reserved is given back");
}

/// One more holder of a frame that has one.
pub fn hold(frame: PhysFrame) {
    let mut frames = FRAMES.lock();
    let index = frames.index(frame);
    let record = &mut frames.records[index];
    assert!(record.holders > 0, "frame {frame:?} is free and cannot be shared");
    record.holders += 1;
}

/// How many hold `frame`.
pub fn holders(frame: PhysFrame) -> u32 {
    let frames = FRAMES.lock();
    frames.records[frames.index(frame)].holders
}

/// One holder less; the last one frees the frame.
///
/// # Panics
/// If the frame is free already.
pub fn release(frame: PhysFrame) {
    let mut frames = FRAMES.lock();
    let index = frames.index(frame);
    let head = frames.free_head;
    let record = &mut frames.records[index];
    assert!(record.holders > 0, "frame {frame:?} is freed twice");
    record.holders -= 1;
    if record.holders == 0 {
        record.next_free = head;
        frames.free_head = index as u32;
        frames.free_count += 1;
    }
}

/// Free frames that are not reserved.
pub fn available() -> usize {
    let frames = FRAMES.lock();
    frames.free_count - frames.reserved
}
