//! A fixed number of live blocks of one allocator, and the allocators that are compared.
//!
//! All are called as one that is shared by threads must be, with its lock.
#![allow(unsafe_code, reason = "allocators take back what they are told is theirs")]

use std::alloc::{GlobalAlloc, Layout};
use std::fmt;
use std::ptr::NonNull;

use allocator_api2::alloc::Allocator;
use hs_core::class::Class;
use talc::TalcLock;
use talc::source::Manual;

/// Where blocks come from.
pub trait Blocks {
    /// A new block.
    ///
    /// # Panics
    /// There is no more memory.
    fn take(&self, layout: Layout) -> NonNull<u8>;

    /// Takes a block back.
    ///
    /// # Safety
    /// It came from `take` with this layout, and was not given back yet.
    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout);
}

impl Blocks for Class {
    fn take(&self, layout: Layout) -> NonNull<u8> {
        self.allocate(layout).expect("the class has room").cast()
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { self.deallocate(block, layout) }
    }
}

/// `talc` with a lock of the kind `L`.
pub struct Talc<L: lock_api::RawMutex>(TalcLock<L, Manual>);

impl<L: lock_api::RawMutex> Talc<L> {
    /// An allocator over memory of its own, which is never freed.
    ///
    /// # Panics
    /// The memory is too small for its tables.
    pub fn new(len_bytes: usize) -> Self {
        let memory = Box::leak(vec![0_u8; len_bytes].into_boxed_slice());
        let talc = TalcLock::new(Manual);
        // SAFETY: the memory was given up for this.
        let claimed = unsafe { talc.lock().claim(memory.as_mut_ptr(), memory.len()) };
        assert!(claimed.is_some(), "talc needs more than {len_bytes} bytes");
        Self(talc)
    }
}

impl<L: lock_api::RawMutex> fmt::Debug for Talc<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Talc")
    }
}

impl<L: lock_api::RawMutex> Blocks for Talc<L> {
    fn take(&self, layout: Layout) -> NonNull<u8> {
        assert!(layout.size() != 0, "an empty block is no block");
        // SAFETY: the layout is not empty (checked).
        NonNull::new(unsafe { self.0.alloc(layout) }).expect("talc has room")
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { self.0.dealloc(block.as_ptr(), layout) }
    }
}

/// `linked_list_allocator` with a spin lock.
pub struct LinkedList(spin::Mutex<linked_list_allocator::Heap>);

impl LinkedList {
    /// An allocator over memory of its own, which is never freed.
    pub fn new(len_bytes: usize) -> Self {
        let memory = Box::leak(vec![0_u8; len_bytes].into_boxed_slice());
        let mut heap = linked_list_allocator::Heap::empty();
        // SAFETY: the memory was given up for this.
        unsafe { heap.init(memory.as_mut_ptr(), memory.len()) };
        Self(spin::Mutex::new(heap))
    }
}

impl fmt::Debug for LinkedList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkedList")
    }
}

impl Blocks for LinkedList {
    fn take(&self, layout: Layout) -> NonNull<u8> {
        let block = self.0.lock().allocate_first_fit(layout);
        block.expect("the linked list has room")
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { self.0.lock().deallocate(block, layout) }
    }
}

/// Live blocks, each in a slot.
#[derive(Debug)]
pub struct Pool<'a, B: Blocks> {
    blocks: &'a B,
    slots: Vec<Option<(NonNull<u8>, Layout)>>,
}

impl<'a, B: Blocks> Pool<'a, B> {
    /// A pool with so many slots, all empty.
    pub fn new(blocks: &'a B, slots: usize) -> Self {
        Self {
            blocks,
            slots: vec![None; slots],
        }
    }

    /// Frees the block in `slot`, if there is one, and puts a new one there, whose first bytes it writes, as whoever asks
    /// for a block does.
    ///
    /// # Panics
    /// There is no such slot, no memory, or no room for a word in `layout`.
    pub fn replace(&mut self, slot: usize, layout: Layout) {
        assert!(
            layout.size() >= size_of::<usize>(),
            "a block holds at least a word"
        );
        let slot = &mut self.slots[slot];
        if let Some((block, layout)) = slot.take() {
            // SAFETY: it lay in the slot, so it was taken with this layout and is still alive.
            unsafe { self.blocks.give_back(block, layout) };
        }
        let block = self.blocks.take(layout);
        let word = block.as_ptr().cast::<usize>();
        // SAFETY: the block is new and has room for a word (checked).
        unsafe { word.write_unaligned(layout.size()) };
        *slot = Some((block, layout));
    }
}

impl<B: Blocks> Drop for Pool<'_, B> {
    fn drop(&mut self) {
        for (block, layout) in self.slots.drain(..).flatten() {
            // SAFETY: as in `replace`.
            unsafe { self.blocks.give_back(block, layout) };
        }
    }
}
