//! `cptfork` as the thesis sketches it in chapter 6.1: the write fault records which pages are modified, so that
//! nothing but these need be looked at.
//!
//! For machines whose hardware has no dirty bits, and as a baseline. Every page's first write after a `cptfork` costs a
//! fault, so pages are never made writable ahead of it.

use kernel_core::PageSet;

use super::settle::{freeze, give_view};
use super::state::State;

/// Freezes what was recorded as modified (all else is write-protected already) for the child in `slot`.
pub(super) fn freeze_recorded(state: &mut State, slot: usize) {
    for at in 0..state.spans.known().len() {
        let index = state.spans.known()[at];
        let span = state.spans.known_mut(index);
        span.settled = state.epoch;
        let dirty = core::mem::take(&mut span.soft_dirty);
        if let Some(child) = &mut state.children[slot] {
            let seen = give_view(span, slot, child, dirty);
            freeze(index, PageSet::EMPTY, dirty | (seen - span.installed));
        }
    }
}
