//! The host's stand-in for raw memory: the backing of a window, and where this program's code is.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};

use crate::platform::PAGE_LEN;

/// Page-aligned memory that is never freed.
#[derive(Debug)]
pub(crate) struct Backing {
    start: usize,
    len_bytes: usize,
}

impl Backing {
    /// Zeroed, and not touched before it is used.
    pub(crate) fn new(pages: usize) -> Self {
        let len_bytes = pages * PAGE_LEN;
        // Not aligned by the allocator: that would clear it by hand.
        let layout = Layout::from_size_align(len_bytes + PAGE_LEN, 16).expect("a window of sensible length");
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) };
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        Self {
            start: memory.expose_provenance().next_multiple_of(PAGE_LEN),
            len_bytes,
        }
    }

    pub(crate) const fn start(&self) -> usize {
        self.start
    }

    fn page(&self, index: usize) -> *mut [u8; PAGE_LEN] {
        assert!(
            index < self.len_bytes / PAGE_LEN,
            "page {index} is outside the backing"
        );
        core::ptr::with_exposed_provenance_mut(self.start + index * PAGE_LEN)
    }

    /// Copies page `index` out.
    pub(crate) fn read(&self, index: usize, into: &mut [u8; PAGE_LEN]) {
        // SAFETY: inside the backing (checked); any bytes are a page. Whoever copies checkpointable memory sees to it
        // that nobody writes there meanwhile: that is what quiescence is for.
        unsafe { self.page(index).copy_to_nonoverlapping(into, 1) };
    }

    /// Overwrites page `index`.
    pub(crate) fn write(&self, index: usize, from: &[u8; PAGE_LEN]) {
        // SAFETY: as in `read`.
        unsafe { self.page(index).copy_from_nonoverlapping(from, 1) };
    }
}

unsafe extern "C" {
    static __executable_start: u8;
    static etext: u8;
}

/// Whether `address` lies in this program's code (or the constants before it), by the linker's symbols.
pub(crate) fn is_code(address: usize) -> bool {
    // Only the addresses of the two symbols are taken.
    (&raw const __executable_start).addr() <= address && address < (&raw const etext).addr()
}
