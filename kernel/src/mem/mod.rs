//! Memory: the map ([`layout`]), frames, page tables, heap, stacks.
//!
//! Boot order: [`init`] takes the RAM that the loader names, sets the heap aside, gives the rest to the
//! frame allocator and switches to the kernel's own page tables.

pub mod frames;
pub mod heap;
pub mod layout;
pub mod paging;
pub mod stacks;

use core::ops::Range;
use core::ptr::NonNull;

use spin::Once;

use crate::boot::BootInfo;
use layout::{DEVICES, DIRECT_MAP, PAGE_LEN, SPAN_LEN};

/// A physical address.
pub type PhysAddress = u64;

/// Below this RAM belongs to firmware and loader.
const RAM_START: PhysAddress = 1 << 20;

/// What the boot page tables map: RAM above is reached only on the kernel's own.
const BOOT_MAPPED: PhysAddress = 4 << 30;

#[unsafe(link_section = ".hot.1.root")]
static KERNEL_ROOT: Once<paging::Root> = Once::new();

/// Where `physical` lies in the direct map.
pub fn phys_to_virt(physical: PhysAddress) -> *mut u8 {
    (DIRECT_MAP as u64 + physical) as *mut u8
}

/// The physical address of something in the direct map, the kernel heap included.
///
/// # Panics
/// If `address` is elsewhere (a stack, the window): its frames need not be contiguous.
pub fn virt_to_phys(address: *const u8) -> PhysAddress {
    (address as u64)
        .checked_sub(DIRECT_MAP as u64)
        .expect("only the direct map's addresses are a subtraction away")
}

/// Where the device register at `physical` is mapped, uncached.
///
/// # Panics
/// If it is outside [`DEVICES`].
pub fn mmio(physical: PhysAddress) -> *mut u8 {
    assert!(
        DEVICES.contains(&physical),
        "device address {physical:#x} is outside {DEVICES:#x?}"
    );
    phys_to_virt(physical)
}

/// `pages` contiguous zeroed pages for a device, with their physical address; `None` if the heap has none.
pub fn dma_pages(pages: usize) -> Option<(PhysAddress, NonNull<u8>)> {
    let bytes = heap::allocate_pages(pages)?;
    Some((virt_to_phys(bytes.as_ptr()), bytes))
}

/// Gives back what [`dma_pages`] gave.
///
/// # Safety
/// `bytes` came from there with the same `pages`, and neither we nor the device will touch it again.
pub unsafe fn free_dma_pages(bytes: NonNull<u8>, pages: usize) {
    // SAFETY: the caller's promise.
    unsafe { heap::free_pages(bytes, pages) };
}

/// The kernel's address space, which every thread but a checkpoint child runs in.
pub fn kernel_root() -> paging::Root {
    *KERNEL_ROOT.get().expect("memory is initialised first of all")
}

/// Sets up all of memory. Returns the number of bytes of RAM.
///
/// # Panics
/// If the machine has too little RAM to boot at all (less than 32 MiB beside the image).
///
/// # Safety
/// Called once, at boot, on the boot page tables.
pub unsafe fn init(boot: &BootInfo) -> u64 {
    let mut usable = [const { 0..0 }; 16];
    let mut count = 0;
    for range in boot.ram() {
        let mut start = range.start.max(RAM_START).next_multiple_of(PAGE_LEN as u64);
        // The image lies at the start of its range; the module (if any) is kept too.
        if range.contains(&(layout::image().start as u64)) {
            start = start.max(layout::image().end as u64);
        }
        let end = range.end.min(BOOT_MAPPED) & !(PAGE_LEN as u64 - 1);
        let mut pieces = [start..end, 0..0];
        if let Some(module) = &boot.module {
            pieces = without(start..end, module);
        }
        for piece in pieces {
            if piece.end > piece.start && count < usable.len() {
                usable[count] = piece;
                count += 1;
            }
        }
    }
    let usable = &mut usable[..count];
    let total: u64 = usable.iter().map(|range| range.end - range.start).sum();
    let heap_len = heap::len_for(total);
    let largest = usable
        .iter_mut()
        .max_by_key(|range| range.end - range.start)
        .filter(|range| range.end - range.start > heap_len + (16 << 20))
        .expect("the guest has at least 64 MiB of RAM (--mem)");
    let heap_start = largest.end - heap_len;
    largest.end = heap_start;
    // SAFETY: this RAM is ours alone, and mapped by the boot page tables.
    unsafe {
        heap::init(heap_start, heap_len);
        frames::init(usable);
        KERNEL_ROOT.call_once(|| paging::init(boot));
    }
    total
}

/// `range` without the pages of `hole`.
fn without(range: Range<u64>, hole: &Range<u64>) -> [Range<u64>; 2] {
    let span = SPAN_LEN as u64;
    let hole = hole.start / span * span..hole.end.next_multiple_of(span);
    if hole.end <= range.start || range.end <= hole.start {
        return [range, 0..0];
    }
    [
        range.start..hole.start.max(range.start),
        hole.end.min(range.end)..range.end,
    ]
}
