//! Checkpointable memory as the library's own bookkeeping sees it: tables and words at addresses.
//!
//! All of it is reached through one [`Window`], which the global allocation lock guards.

use core::alloc::Layout;
use core::mem::size_of;
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};

use crate::class::{Class, ClassError};
use crate::library;
use crate::platform::{PAGE_LEN, PageRange};

/// A table of integers that lies in checkpointable memory.
///
/// # Safety
/// `repr(C)`, aligned to at most a page, and every pattern of bits is a value of it.
pub(crate) unsafe trait Table {}

// SAFETY: `repr(C)` structs of integers and of arrays of such structs.
unsafe impl Table for library::LibraryArea {}
// SAFETY: as above.
unsafe impl Table for crate::class::ClassHeader {}

/// The right to the library's own data in the window: its tables, and the free blocks of its classes.
#[derive(Debug)]
pub(crate) struct Window {
    range: PageRange,
}

impl Window {
    /// The right to the bookkeeping in `range`. Whoever makes one guards it with the allocation lock, and touches only
    /// what is mapped.
    pub(crate) const fn new(range: PageRange) -> Self {
        Self { range }
    }

    pub(crate) const fn range(&self) -> PageRange {
        self.range
    }

    /// Overwrites the beginning of `range`, which is mapped, with `bytes`: the initial values of the program's variables there,
    /// which nothing refers to yet.
    ///
    /// # Panics
    /// If the range is outside the window, or `bytes` is longer.
    pub(crate) fn fill(&mut self, range: PageRange, bytes: &[u8]) {
        assert!(
            self.range.encloses(range) && bytes.len() <= range.len_bytes(),
            "{} bytes do not fit into {range} of the checkpoint window",
            bytes.len()
        );
        let target = ptr::with_exposed_provenance_mut::<u8>(range.start());
        // SAFETY: inside the window and long enough (checked), and mapped; nothing has a reference into it yet.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }

    fn check<T>(&self, address: usize) {
        let end = self.range.len_bytes().checked_sub(size_of::<T>());
        // One comparison for both ends: what lies before the window wraps to far behind it.
        let inside = end.is_some_and(|last| address.wrapping_sub(self.range.start()) <= last);
        if !inside || !address.is_multiple_of(align_of::<T>()) {
            no_place(address);
        }
    }

    /// The table at `address`.
    pub(crate) fn table<T: Table>(&self, address: usize) -> &T {
        self.check::<T>(address);
        // SAFETY: inside the window and aligned (checked); `Table` allows any bits; the bookkeeping is reached through
        // this `Window` alone, which is borrowed for as long as the reference lives.
        unsafe { &*ptr::with_exposed_provenance(address) }
    }

    /// The table at `address`, and the words around it.
    pub(crate) fn table_mut<T: Table>(&mut self, address: usize) -> (&mut T, Words<'_>) {
        self.check::<T>(address);
        const { assert!(align_of::<T>().is_multiple_of(align_of::<usize>())) };
        let words = Words {
            start: self.range.start(),
            last: self.range.len_bytes() - size_of::<usize>(),
            table: address,
            table_len_bytes: size_of::<T>(),
            _window: &(),
        };
        // SAFETY: as in `table`; `Words` refuses the addresses of the table.
        (unsafe { &mut *ptr::with_exposed_provenance_mut(address) }, words)
    }
}

/// The words of free blocks: where the intrusive lists are.
pub(crate) struct Words<'a> {
    /// Address of the window.
    start: usize,
    /// Where in the window its last word is.
    last: usize,
    /// Address of the borrowed table, which is aligned as words are.
    table: usize,
    table_len_bytes: usize,
    _window: &'a (),
}

#[cold]
fn no_place(address: usize) -> ! {
    panic!("{address:#x} is no place in the checkpoint window")
}

#[cold]
fn no_word(address: usize) -> ! {
    panic!("{address:#x} is no word of a free block: a block was written to after it was freed")
}

impl Words<'_> {
    #[inline]
    fn check(&self, address: usize) {
        // One comparison for both ends each: what lies before wraps to far behind.
        let inside = address.wrapping_sub(self.start) <= self.last;
        let in_table = address.wrapping_sub(self.table) < self.table_len_bytes;
        if !inside || in_table || !address.is_multiple_of(align_of::<usize>()) {
            no_word(address);
        }
    }

    /// The word at `address`, which lies in a free block.
    pub(crate) fn load(&self, address: usize) -> usize {
        self.check(address);
        // SAFETY: inside the window, outside the borrowed table and aligned (checked). It lies in a free block, so
        // that nobody but the allocator, whose lock is held, has to do with it.
        unsafe { ptr::with_exposed_provenance::<usize>(address).read() }
    }

    /// Writes the word at `address`, which lies in a free block.
    pub(crate) fn store(&mut self, address: usize, value: usize) {
        self.check(address);
        // SAFETY: as in `load`.
        unsafe { ptr::with_exposed_provenance_mut::<usize>(address).write(value) }
    }
}

/// Copies the page at `address` out. The caller knows it mapped, readable and not written to meanwhile.
pub(crate) fn copy_page(address: usize, into: &mut [u8; PAGE_LEN]) {
    debug_assert!(address.is_multiple_of(PAGE_LEN));
    let page = ptr::with_exposed_provenance::<[u8; PAGE_LEN]>(address);
    // SAFETY: a page of an installed range, which is mapped as long as it is installed, and `cptfork`, the only caller, is
    // called when nobody is in the middle of a change of it. Any bytes are a page.
    unsafe { page.copy_to_nonoverlapping(into, 1) };
}

// SAFETY: a block that was given out is given out to nobody else, and stays in place, until it is freed: a class's memory is given
// back only where no block lives, or by `discard`, whose caller vouches for the rest. Copies of a `Class` are the same
// allocator, and one whose class is gone gives out nothing. A block's bucket follows from any layout that fits it.
unsafe impl Allocator for Class {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.allocate_block(layout).map_err(|_| AllocError)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            self.free(block.as_ptr().expose_provenance(), layout);
        }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if let Some(len_bytes) = self.resize(block.as_ptr().expose_provenance(), old, new) {
            return Ok(NonNull::slice_from_raw_parts(block, len_bytes));
        }
        let moved = self.allocate(new)?;
        // SAFETY: `block` holds `old.size()` bytes, which the caller vouches for, and `moved` at least as many.
        unsafe { ptr::copy_nonoverlapping(block.as_ptr(), moved.as_ptr().cast(), old.size()) };
        // SAFETY: the caller vouches for `block` and `old`.
        unsafe { self.deallocate(block, old) };
        Ok(moved)
    }

    unsafe fn grow_zeroed(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        let grown = unsafe { self.grow(block, old, new)? };
        // SAFETY: `grown` holds at least `new.size()` bytes, and `new` is at least as long as `old`.
        unsafe {
            grown
                .as_ptr()
                .cast::<u8>()
                .add(old.size())
                .write_bytes(0, grown.len() - old.size())
        };
        Ok(grown)
    }

    unsafe fn shrink(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if let Some(len_bytes) = self.resize(block.as_ptr().expose_provenance(), old, new) {
            return Ok(NonNull::slice_from_raw_parts(block, len_bytes));
        }
        let moved = self.allocate(new)?;
        // SAFETY: both hold at least `new.size()` bytes, for which the caller vouches.
        unsafe { ptr::copy_nonoverlapping(block.as_ptr(), moved.as_ptr().cast(), new.size()) };
        // SAFETY: the caller vouches for `block` and `old`.
        unsafe { self.deallocate(block, old) };
        Ok(moved)
    }
}

impl Class {
    /// Gives back all memory of the class with whatever lives in it: its id is free again, and its handles are void. Nothing in
    /// it is dropped. Checkpoints in flight keep their view.
    ///
    /// # Safety
    /// Nothing in the class is used from here on: no reference or pointer into it, and no container that would free a
    /// block of it. After a restore that is so of whatever is not found again.
    ///
    /// # Errors
    /// See [`ClassError`].
    pub unsafe fn discard(self) -> Result<(), ClassError> {
        library::with(|library| self.give_back(library)).unwrap_or(Err(ClassError::NotStarted))
    }
}

/// The address of a worker's state, given up to the registry.
pub(crate) fn expose<T>(state: &'static mut T) -> usize {
    ptr::from_mut(state).expose_provenance()
}

/// The state at `address` that a root keeps.
pub(crate) fn reclaim<T>(address: usize) -> &'static mut T {
    let state = ptr::with_exposed_provenance_mut::<T>(address);
    // SAFETY: `Root::keep` stored it with the tag of `T`, giving up the one reference to a `T` there, in this build. `Root::take`
    // has seen that it lies in an area, hands it out once in the life of this library state, and that nobody else does: no
    // other root keeps a part of it, and no worker or restore hook is called with it.
    unsafe { &mut *state }
}
