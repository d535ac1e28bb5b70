//! `cptfork` as in the thesis: one walk over every entry of the installed ranges, in the pause.
//!
//! Its cost grows with all pages, not with the modified ones. It is the baseline that better ways are measured
//! against.

use alloc::vec::Vec;

use hs_core::platform::{ChildBody, CptforkError, EndedHook, PageRange, View};
use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::structures::paging::page_table::PageTableEntry;

use super::snapshot::{Cost, Snapshot, append_page, cost_of};
use super::{State, child};
use crate::mem::frames;
use crate::mem::kernel_root;
use crate::mem::layout::{PAGE_LEN, SPAN_LEN};
use crate::mem::paging::{self, SOFT_DIRTY};

/// Freezes the installed ranges for a child that runs `body`; `ended` is told when it is gone.
///
/// # Errors
/// See [`CptforkError`]: nothing is changed then.
pub fn cptfork(view: View, body: ChildBody, ended: EndedHook) -> Result<(), CptforkError> {
    let mut state = super::STATE.lock();
    let slot = child::free_slot(&state).ok_or(CptforkError::TooManyChildren)?;
    let mut dirty = Vec::new();
    if !collect_dirty(&state, &mut dirty) {
        return Err(CptforkError::OutOfFrames);
    }
    let seen = match view {
        View::Incremental | View::Copied => list(dirty.iter().copied(), dirty.len()),
        View::Whole => list(state.ranges.iter(), state.ranges.count()),
    };
    let seen = seen.ok_or(CptforkError::OutOfFrames)?;
    let reserved = reserve(&cost_of(&seen)).ok_or(CptforkError::OutOfFrames)?;
    let Some(root) = frames::allocate_reserved() else {
        frames::unreserve(reserved);
        return Err(CptforkError::OutOfFrames);
    };
    let root = kernel_root().share(root);
    protect(&state);
    state.children[slot] = Some(Snapshot::new(root, seen, dirty, reserved - 1));
    child::start(slot, body, ended);
    Ok(())
}

/// A checkpoint is not begun with frames for fewer copies than this, unless it needs fewer.
const COPIES_MIN: usize = 16;

/// Sets frames aside for a checkpoint: for every copy that it may come to, or most of what there is; some is left for the
/// application to grow. One that writes to less than all of its memory meanwhile needs fewer; if they run dry, the
/// checkpoint is cancelled.
fn reserve(cost: &Cost) -> Option<usize> {
    let free = frames::available();
    let count = (cost.tables + cost.copies).min(free - free / 4);
    let enough = count >= cost.tables + cost.copies.min(COPIES_MIN);
    (enough && frames::reserve(count)).then_some(count)
}

/// A list of `count` ranges, if there is memory for it.
fn list(ranges: impl Iterator<Item = PageRange>, count: usize) -> Option<Vec<PageRange>> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).ok()?;
    list.extend(ranges);
    Some(list)
}

/// Lists the modified pages, coalesced; `false` if there is no memory for the list. Changes nothing.
fn collect_dirty(state: &State, dirty: &mut Vec<PageRange>) -> bool {
    each_entry(state, |address, entry_flags, _| {
        !entry_flags.intersects(Flags::DIRTY | SOFT_DIRTY) || append_page(dirty, address)
    })
}

/// Clears every dirty bit and every right to write, then the TLB.
fn protect(state: &State) {
    each_entry(state, |_, entry_flags, entry| {
        entry.set_flags(entry_flags - Flags::DIRTY - SOFT_DIRTY - Flags::WRITABLE);
        true
    });
    // SAFETY: the kernel's own root; the parent runs in it.
    unsafe { paging::current().load() };
}

/// Calls `with` for each mapped page of the installed ranges, ascending, until it says `false`.
fn each_entry(state: &State, mut with: impl FnMut(usize, Flags, &mut PageTableEntry) -> bool) -> bool {
    let root = kernel_root();
    for range in state.ranges.iter() {
        let mut address = range.start();
        while address < range.end() {
            let table_end = (address / SPAN_LEN + 1) * SPAN_LEN;
            // SAFETY: the state's lock is held.
            let Some(entries) = (unsafe { root.entries(address, table_end.min(range.end())) }) else {
                address = table_end;
                continue;
            };
            for entry in entries {
                let flags = entry.flags();
                if flags.contains(Flags::PRESENT) && !with(address, flags, entry) {
                    return false;
                }
                address += PAGE_LEN;
            }
        }
    }
    true
}
