//! The global allocator that classes can be put in front of.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use crate::class::scope;
use crate::library;

/// A global allocator, and in front of it the class that the calling thread is in: see
/// [`with_class`](crate::class::with_class).
#[derive(Debug)]
pub struct Scoped<A>(A);

impl<A> Scoped<A> {
    /// `below` serves whatever is allocated outside every class.
    pub const fn new(below: A) -> Self {
        Self(below)
    }
}

// SAFETY: a block comes from a class or from the allocator below, and goes back to where it came from: blocks of classes lie in the
// window, those of the allocator below never do. Both fulfil the contract of an allocator.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Scoped<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match scope::current() {
            // SAFETY: the caller's promise.
            None => unsafe { self.0.alloc(layout) },
            Some(class) => class
                .allocate_block(layout)
                .map_or(ptr::null_mut(), |block| block.cast().as_ptr()),
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if scope::current().is_none() {
            // SAFETY: the caller's promise.
            return unsafe { self.0.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: a block of at least that length, ours.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let address = block.expose_provenance();
        if library::window_holds(address) {
            scope::owner(address, layout).free(address, layout);
        } else {
            // SAFETY: the caller's promise: outside the window it came from the allocator below.
            unsafe { self.0.dealloc(block, layout) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let address = block.expose_provenance();
        if !library::window_holds(address) {
            // SAFETY: the caller's promise, as in `dealloc`.
            return unsafe { self.0.realloc(block, layout, new_size) };
        }
        let class = scope::owner(address, layout);
        // SAFETY: the caller's promise: not 0, and no overflow when rounded up to the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if class.resize(address, layout, new).is_some() {
            return block;
        }
        // It stays in its class, whatever scope it grows in.
        let Ok(moved) = class.allocate_block(new) else {
            return ptr::null_mut();
        };
        let moved: *mut u8 = moved.cast().as_ptr();
        // SAFETY: both are blocks of at least that length, and two.
        unsafe { moved.copy_from_nonoverlapping(block, layout.size().min(new_size)) };
        class.free(address, layout);
        moved
    }
}
