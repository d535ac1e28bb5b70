//! The kernel heap: `linked_list_allocator` behind an interrupt-safe lock, in one contiguous piece of RAM.
//!
//! It holds what is not checkpointed: kernel structures, device buffers, the replication channel. Interrupt
//! handlers never allocate; the lock keeps interrupts off so that a preempted thread cannot hold it.
//!
//! In front of it, as the global allocator, is the class that a thread is in (`hs_core::class::with_class`). The kernel knows
//! no more of classes than the thread's word, and that it must not use them for what is its own.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use hs_core::raw::Scoped;
use linked_list_allocator::Heap;

use super::layout::PAGE_LEN;
use super::{PhysAddress, phys_to_virt};
use crate::sync::IrqMutex;

const HEAP_LEN_MIN: u64 = 16 << 20;
const HEAP_LEN_MAX: u64 = 256 << 20;

static HEAP: IrqMutex<Heap> = IrqMutex::new(Heap::empty());

struct KernelHeap;

#[global_allocator]
static ALLOCATOR: Scoped<KernelHeap> = Scoped::new(KernelHeap);

// SAFETY: the lock makes every call exclusive; `Heap` fulfils the rest.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.lock()
            .allocate_first_fit(layout)
            .map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's promise: it came from `alloc` with this layout.
            unsafe { HEAP.lock().deallocate(block, layout) }
        }
    }
}

/// How much of `ram_len` bytes of RAM the heap takes: an eighth, within bounds.
pub fn len_for(ram_len: u64) -> u64 {
    (ram_len / 8).clamp(HEAP_LEN_MIN, HEAP_LEN_MAX) & !(PAGE_LEN as u64 - 1)
}

/// Gives `len` bytes of RAM at `start` to the heap.
///
/// # Safety
/// They are ours alone, mapped in the direct map; called once.
pub unsafe fn init(start: PhysAddress, len: u64) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.lock().init(phys_to_virt(start), len as usize) }
}

fn pages_layout(pages: usize) -> Option<Layout> {
    Layout::from_size_align(pages.checked_mul(PAGE_LEN)?, PAGE_LEN).ok()
}

/// `pages` contiguous zeroed pages.
pub(super) fn allocate_pages(pages: usize) -> Option<NonNull<u8>> {
    let layout = pages_layout(pages)?;
    let block = HEAP.lock().allocate_first_fit(layout).ok()?;
    // SAFETY: just allocated, of that length.
    unsafe { block.as_ptr().write_bytes(0, layout.size()) };
    Some(block)
}

/// Frees what [`allocate_pages`] gave.
///
/// # Safety
/// It came from there with the same `pages`, and is not used any more.
pub(super) unsafe fn free_pages(block: NonNull<u8>, pages: usize) {
    let layout = pages_layout(pages).expect("the layout was valid at allocation");
    // SAFETY: the caller's promise.
    unsafe { HEAP.lock().deallocate(block, layout) }
}

/// Bytes in use and bytes free.
pub fn usage() -> (usize, usize) {
    let heap = HEAP.lock();
    (heap.used(), heap.free())
}
