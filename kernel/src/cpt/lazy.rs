//! `cptfork` in constant time: the right to write is taken away high up in the window's tree, and given back span by span.
//!
//! ```text
//!   PML4 entry r--        after cptfork: one write, whatever the size
//!      │ first write: passed on to the entries below, then given back
//!   PDPT entries  rw- r-- r--
//!      │
//!   PD entries    r-- rw- r-- …      one for each span: given back when the span is settled
//!      │
//!   page table    rw- r-- rw- …      r--: frozen for a child
//! ```
//!
//! An entry whose way down is not writable belongs to a span that is not settled; the reverse need not hold (a table made
//! meanwhile is writable, and its span settled).

use x86_64::structures::paging::PageTableFlags as Flags;

use super::span::{SpanIndex, Spans};
use crate::mem::kernel_root;
use crate::mem::layout::WINDOW;
use crate::mem::paging::Root;

/// What one entry of the third level maps.
const THIRD_LEVEL_LEN: usize = 1 << 30;

/// Takes the right to write to the window away. The caller drops the processor's translations.
pub(super) fn protect() {
    // SAFETY: the state's lock is held.
    if let Some(top) = unsafe { kernel_root().upper_entry(WINDOW.start, 3) } {
        top.set_flags(top.flags() - Flags::WRITABLE);
    }
}

/// Whether nothing above the page table forbids writing to `address`.
pub(super) fn is_open(root: Root, address: usize) -> bool {
    root.upper_flags(address).contains(Flags::WRITABLE)
}

/// Gives the span at `address`, which is settled, the right to write back. What else the upper entries kept from it
/// is passed on to the entries below them.
pub(super) fn open(root: Root, spans: &Spans, address: usize) {
    for level in (1..=3).rev() {
        // SAFETY: the state's lock is held.
        let Some(entry) = (unsafe { root.upper_entry(address, level) }) else {
            return;
        };
        if entry.flags().contains(Flags::WRITABLE) {
            continue;
        }
        if level > 1 {
            pass_on(root, spans, address, level);
        }
        entry.set_flags(entry.flags() | Flags::WRITABLE);
    }
}

/// Takes the right to write away from the entries below that of `level` at `address`.
fn pass_on(root: Root, spans: &Spans, address: usize, level: u32) {
    let third = |span: &SpanIndex| span.start() / THIRD_LEVEL_LEN;
    for span in spans.known() {
        if level == 3 || third(span) == address / THIRD_LEVEL_LEN {
            // SAFETY: as in `open`.
            if let Some(entry) = unsafe { root.upper_entry(span.start(), level - 1) } {
                entry.set_flags(entry.flags() - Flags::WRITABLE);
            }
        }
    }
}
