//! `cptfork` as in the thesis: one walk over every entry of the installed ranges, in the pause.
//!
//! Its cost grows with all pages, not with the modified ones. It is the baseline that better ways are measured
//! against, and is kept for good. A page that no child may look at becomes writable again without a copy, but not without
//! a fault; pages that were sent stay frozen.

use kernel_core::{PageSet, scan};
use x86_64::structures::paging::PageTableFlags as Flags;

use super::settle::{freeze, give_view};
use super::state::State;
use crate::mem::kernel_root;

/// Collects the dirty bits of every page, clears them and takes the right to write away; all of it for the child in `slot`.
pub(super) fn freeze_all(state: &mut State, slot: usize) {
    for at in 0..state.spans.known().len() {
        let index = state.spans.known()[at];
        let span = state.spans.known_mut(index);
        span.settled = state.epoch;
        let mut dirty = core::mem::take(&mut span.soft_dirty);
        // SAFETY: the state's lock is held.
        if let Some(entries) = unsafe { kernel_root().entries(index.start()) } {
            for page in span.installed.iter() {
                if entries[page] & scan::DIRTY != 0 {
                    dirty.insert(page);
                }
                entries[page] &= !(scan::DIRTY | Flags::WRITABLE.bits());
            }
        }
        if let Some(child) = &mut state.children[slot] {
            let seen = give_view(span, slot, child, dirty);
            freeze(index, PageSet::EMPTY, seen - span.installed);
        }
    }
}
