//! The map of virtual memory, and the linker's symbols as typed ranges.
//!
//! ```text
//! 0000_0000_0000_0000  never mapped (null pointers)
//! 0000_0000_0020_0000  the image, 4 KiB pages: text r-x, constants r--, data rw-     (physical = virtual)
//! 0000_2000_0000_0000  the checkpoint window, 512 GiB = one PML4 entry, 4 KiB pages rw-.
//!                      Every address space has its own; all else below is shared.
//! 0000_207f_ff00_0000  its last 16 MiB: the program's checkpointed variables (link.ld), from the start of the library on
//! ffff_8000_0000_0000  the direct map: all RAM, 2 MiB pages rw-; the image's part r--;
//!                      the devices between 2.75 and 4 GiB, uncached
//! ffff_d000_0000_0000  stacks, 4 KiB pages rw-, an unmapped guard page under each
//! ffff_e000_0000_0000  notes on the window's spans, 4 KiB for each 2 MiB, rw-
//! ```
//!
//! The kernel heap is a piece of RAM, seen in the direct map: its physical address is a subtraction
//! away, which is what device drivers want.

use core::ops::Range;

/// Length of a page and of a frame in bytes.
pub use hs_core::platform::PAGE_LEN;

/// Length of a large page: what one page-directory entry maps. The unit is called a span.
pub const SPAN_LEN: usize = 2 << 20;

/// What one PML4 entry maps.
pub const PML4_ENTRY_LEN: usize = 512 << 30;

/// The checkpoint window.
pub const WINDOW: Range<usize> = 0x2000_0000_0000..0x2000_0000_0000 + PML4_ENTRY_LEN;

/// Where the program's checkpointed variables begin. The linker script knows it too.
pub const STATICS: usize = WINDOW.end - (16 << 20);

/// Where the direct map begins.
pub const DIRECT_MAP: usize = 0xffff_8000_0000_0000;

/// Where the stacks begin.
pub const STACKS: usize = 0xffff_d000_0000_0000;

/// Where the notes on the window's spans begin: a page for each.
pub const SPANS: usize = 0xffff_e000_0000_0000;

/// Physical addresses of devices: ECAM, BARs, I/O APIC, LAPIC.
pub const DEVICES: Range<u64> = 0xb000_0000..0x1_0000_0000;

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
    static text_start: u8;
    static text_end: u8;
    static rodata_start: u8;
    static rodata_end: u8;
    static data_start: u8;
    static data_end: u8;
    static statics_initial: u8;
    static statics_initial_end: u8;
    static boot_stack_guard: u8;
    static build_id_note: u8;
}

macro_rules! symbol {
    ($name:ident) => {
        (&raw const $name) as usize
    };
}

/// The whole image, in units of [`SPAN_LEN`].
pub fn image() -> Range<usize> {
    symbol!(image_start)..symbol!(image_end)
}

/// Code.
pub fn text() -> Range<usize> {
    symbol!(text_start)..symbol!(text_end)
}

/// Constants.
pub fn rodata() -> Range<usize> {
    symbol!(rodata_start)..symbol!(rodata_end)
}

/// Variables.
pub fn data() -> Range<usize> {
    symbol!(data_start)..symbol!(data_end)
}

/// Checkpointed variables, in the window; empty if the program has none.
pub fn statics() -> Range<usize> {
    STATICS..STATICS + statics_initial_bytes().len()
}

/// What those are at the program's start.
pub fn statics_initial_bytes() -> &'static [u8] {
    let len_bytes = symbol!(statics_initial_end) - symbol!(statics_initial);
    // SAFETY: between the two symbols, among the constants.
    unsafe { core::slice::from_raw_parts(&raw const statics_initial, len_bytes) }
}

/// The page below the boot stack.
pub fn boot_guard() -> usize {
    symbol!(boot_stack_guard)
}

/// The linker's SHA-1 over the image.
pub fn build_id() -> [u8; 20] {
    let note = (&raw const build_id_note).cast::<[u8; 36]>();
    // SAFETY: the linker script asserts that the note is 36 bytes long; it lies in the constants.
    let note = unsafe { note.read() };
    let mut id = [0; 20];
    // Name length, value length, type, "GNU\0": 16 bytes before the value.
    id.copy_from_slice(&note[16..]);
    id
}
