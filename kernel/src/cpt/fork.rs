//! `cptfork` itself: what all ways of freezing have in common.

use core::fmt;

use hs_core::platform::{ChildBody, CptforkError, EndedHook, View};
use x86_64::structures::paging::PageTableFlags as Flags;

use super::settle::Settler;
use super::snapshot::Snapshot;
use super::span::Epoch;
use super::{Mode, STATE, State, bitmap, child, eager, lazy};
use crate::mem::frames;
use crate::mem::layout::WINDOW;
use crate::mem::{kernel_root, paging};

/// What a child has of the window's pages that are in no installed range, the thesis's table 3-2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Other {
    /// The parent's pages, as they are when it looks.
    #[default]
    Share,
    /// Nothing: looking is an error.
    Drop,
    /// What they were at `cptfork`.
    Cow,
}

/// A checkpoint is not begun with frames for fewer copies than this, unless it needs fewer.
const COPIES_MIN: usize = 16;

/// Most pages that are copied in the pause, for [`View::Copied`]; the pages beyond are frozen. Whoever asks for that view
/// expects few, and may be wrong.
const COPIES_MAX: usize = 64;

/// Frames for a child's upper tables, and for the lowest of its first span.
const TABLES_MIN: usize = 4;

/// Freezes the installed ranges for a child that runs `body`; `ended` is told when it is gone.
///
/// # Errors
/// See [`CptforkError`]: nothing is changed then.
#[unsafe(link_section = ".hot_text")]
pub fn cptfork(view: View, other: Other, body: ChildBody, ended: EndedHook) -> Result<(), CptforkError> {
    let mut state = STATE.lock();
    let (slot, root) = child::free_slot(&state).ok_or(CptforkError::TooManyChildren)?;
    let reserved = reserve(&state, view).ok_or(CptforkError::OutOfFrames)?;
    state.epoch = Epoch(state.epoch.0 + 1);
    let mut child = Snapshot::new(root, state.epoch, view, other, reserved);
    (child.body, child.ended) = (Some(body), Some(ended));
    state.children[slot] = Some(child);
    match (state.mode, view) {
        (Mode::Lazy, View::Copied) => settle_all(&mut state),
        (Mode::Lazy, View::Incremental | View::Whole) => lazy::protect(),
        (Mode::Eager, _) => eager::freeze_all(&mut state, slot),
        (Mode::Faults, _) => bitmap::freeze_recorded(&mut state, slot),
    }
    if view == View::Copied && state.mode != Mode::Lazy {
        copy_dirty(&mut state, slot);
    }
    child::start(&state, slot);
    // Rights were taken away and dirty bits cleared under translations that know nothing of it. Last, because whatever is
    // touched after it has to be translated anew; nobody writes to the window before the lock is let go.
    if state.mode != Mode::Lazy || view != View::Copied || !flush_stale(&mut state) {
        flush_all();
    }
    Ok(())
}

/// Settles every span at once, with a copy of each dirty page: nothing is frozen unless there are more than was foretold.
fn settle_all(state: &mut State) {
    let mut left = COPIES_MAX as u64;
    for at in 0..state.spans.known().len() {
        let before = state.counters.hot_copies;
        state.settle(state.spans.known()[at], Settler::Copying(left as usize));
        left -= state.counters.hot_copies - before;
    }
}

/// Drops the translations of the pages that [`settle_all`] found modified, if they are few. All others do not allow to write
/// without a walk, and nothing but modified pages was frozen. `false`: everything is to be dropped.
fn flush_stale(state: &mut State) -> bool {
    let Some(pages) = state.stale.take() else {
        return false;
    };
    // One at least: with it go the processor's copies of the upper entries, whose accessed bits were cleared.
    paging::flush(WINDOW.start);
    pages.iter().for_each(|page| paging::flush(*page));
    true
}

/// Copies what the child in `slot` has on its dirty list, as long as there are frames. (For the baselines: a write to such a
/// page still faults, though without a copy.)
fn copy_dirty(state: &mut State, slot: usize) {
    let mut left = COPIES_MAX;
    for at in 0..state.spans.known().len() {
        let index = state.spans.known()[at];
        let dirty = state.spans.known_mut(index).views[slot].dirty.first(left);
        if !dirty.is_empty() {
            left -= state.copy_for_children(index, dirty);
        }
    }
}

/// Sets frames aside for a checkpoint: for the copies that it is likely to come to, or most of what there is; some is left
/// for the application to grow. If they run dry, the checkpoint is cancelled.
fn reserve(state: &State, view: View) -> Option<usize> {
    let copies = match view {
        View::Whole => state.installed_pages,
        // How much is modified is known only once the spans are settled: rather twice what it was.
        View::Incremental | View::Copied => {
            state.installed_pages.min(2 * state.dirty_lately + 4 * COPIES_MIN)
        }
    };
    let tables = state.spans.known().len().min(copies) + TABLES_MIN;
    frames::reserve_most(TABLES_MIN + copies.min(COPIES_MIN), tables + copies)
}

/// Drops all of the processor's translations of the window, by loading CR3 anew. Public because it is the floor of every
/// `cptfork`, and measured beside it.
pub fn flush_all() {
    // SAFETY: the address space that is loaded already.
    unsafe { paging::current().load() };
}

/// Why the way of freezing cannot be changed now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModeError {
    /// Children are alive.
    Children,
    /// Ranges are installed.
    Ranges,
}

impl fmt::Display for ModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModeError::Children => {
                "checkpoints are in progress: wait for their end to change the way of cptfork"
            }
            ModeError::Ranges => "checkpoint ranges are installed: purge them to change the way of cptfork",
        })
    }
}

/// How `cptfork` freezes at present.
pub fn mode() -> Mode {
    STATE.lock().mode
}

/// Chooses how `cptfork` freezes from now on.
///
/// # Errors
/// See [`ModeError`]: nothing is changed then.
pub fn set_mode(mode: Mode) -> Result<(), ModeError> {
    let mut state = STATE.lock();
    if state.children.iter().any(Option::is_some) {
        return Err(ModeError::Children);
    }
    if state.ranges.count() > 0 {
        return Err(ModeError::Ranges);
    }
    state.mode = mode;
    // What one way leaves behind means something else to another: all is writable again.
    for at in 0..state.spans.known().len() {
        let index = state.spans.known()[at];
        let epoch = state.epoch;
        let span = state.spans.known_mut(index);
        span.settled = epoch;
        let mapped = span.mapped;
        lazy::open(kernel_root(), &state.spans, index.start());
        // SAFETY: the state's lock is held.
        if let Some(entries) = unsafe { kernel_root().entries(index.start()) } {
            mapped
                .iter()
                .for_each(|page| entries[page] |= Flags::WRITABLE.bits());
        }
    }
    flush_all();
    Ok(())
}
