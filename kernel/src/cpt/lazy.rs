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
//! The way down to a span that is not settled is closed: somewhere above its table the right to write is missing. The
//! reverse need not hold: what is mapped after a `cptfork` lies under closed entries too, in a span that is settled.

use x86_64::structures::paging::PageTableFlags as Flags;

use super::span::Spans;
use crate::mem::kernel_root;
use crate::mem::layout::WINDOW;
use crate::mem::paging::Root;

/// What one entry of the third level maps.
const THIRD_LEVEL_LEN: usize = 1 << 30;

/// Takes the right to write to the window away. The caller drops the processor's translations.
pub(super) fn protect() {
    set_writable(kernel_root(), WINDOW.start, 3, false);
}

/// Whether nothing above the page table forbids writing to `address`.
pub(super) fn is_open(root: Root, address: usize) -> bool {
    root.upper_flags(address).contains(Flags::WRITABLE)
}

/// Gives the span at `address`, which is settled, the right to write back. What else the upper entries kept from it
/// is passed on to the entries below them.
pub(super) fn open(root: Root, spans: &Spans, address: usize) {
    for level in (1..=3).rev() {
        if writable(root, address, level) {
            continue;
        }
        if level > 1 {
            pass_on(root, spans, address, level);
        }
        set_writable(root, address, level, true);
    }
}

/// Takes the right to write away from the entries below that of `level` at `address`.
fn pass_on(root: Root, spans: &Spans, address: usize, level: u32) {
    let mut third_before = None;
    for span in spans.known() {
        let third = span.start() / THIRD_LEVEL_LEN;
        let below = if level == 3 {
            // One entry for all spans of it.
            third_before.replace(third) != Some(third)
        } else {
            third == address / THIRD_LEVEL_LEN
        };
        if below {
            set_writable(root, span.start(), level - 1, false);
        }
    }
}

/// Whether the entry of `level` on the way to `address` allows writing.
fn writable(root: Root, address: usize, level: u32) -> bool {
    // SAFETY: the state's lock is held.
    let entry = unsafe { root.upper_entry(address, level) };
    entry.is_some_and(|entry| entry.flags().contains(Flags::WRITABLE))
}

/// Gives or takes the right to write in the entry of `level` on the way to `address`, if there is one.
fn set_writable(root: Root, address: usize, level: u32, writable: bool) {
    // SAFETY: the state's lock is held.
    if let Some(entry) = unsafe { root.upper_entry(address, level) }
        && entry.flags().contains(Flags::PRESENT)
    {
        let flags = entry.flags() - Flags::WRITABLE;
        entry.set_flags(if writable { flags | Flags::WRITABLE } else { flags });
    }
}
