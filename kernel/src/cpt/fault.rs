//! Page faults in the window: the parent's writes to frozen pages, a child's first look at a page.

use x86_64::PhysAddr;
use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::structures::paging::page_table::PageTableEntry;

use hs_core::platform::{FrozenError, PAGE_LEN};

use super::snapshot::Snapshot;
use super::{COUNTERS, State, child};
use crate::arch::trap::TrapFrame;
use crate::mem::frames::{self, PhysFrame};
use crate::mem::kernel_root;
use crate::mem::layout::WINDOW;
use crate::mem::paging;

const ERROR_PRESENT: u64 = 1 << 0;
const ERROR_WRITE: u64 = 1 << 1;
const ERROR_FETCH: u64 = 1 << 4;

/// Resolves the fault at `address`, so that the instruction can run again; `false` if it is a bug.
pub fn resolve(address: usize, frame: &mut TrapFrame) -> bool {
    if !WINDOW.contains(&address) {
        return false;
    }
    let page = address / PAGE_LEN * PAGE_LEN;
    // A fault with the lock held would mean that kernel code touched the window.
    let Some(mut state) = super::STATE.try_lock() else {
        return false;
    };
    let root = paging::current();
    if root == kernel_root() {
        return frame.error & ERROR_WRITE != 0 && parent_write(&mut state, page);
    }
    let Some(slot) = state.slot_of(root) else {
        return false;
    };
    let found = if frame.error & (ERROR_WRITE | ERROR_FETCH) != 0 {
        Err(FrozenError::OutsideView(address))
    } else {
        child_read(&mut state, slot, page, frame.error & ERROR_PRESENT != 0)
    };
    drop(state);
    match found {
        Ok(()) => true,
        Err(error) => child::access_failed(slot, error, frame),
    }
}

/// Makes the page writable for the parent: with a copy if a child needs the frame, without one otherwise.
fn parent_write(state: &mut State, page: usize) -> bool {
    // SAFETY: the state's lock is held.
    let Some(entry) = (unsafe { kernel_root().entry(page) }) else {
        return false;
    };
    if !entry.flags().contains(Flags::PRESENT) {
        return false;
    }
    if !entry.flags().contains(Flags::WRITABLE) {
        COUNTERS.lock().write_faults += 1;
        let frame = PhysFrame::at(entry.addr().as_u64());
        state.give_to_children(page, frame);
        if frames::holders(frame) > 1 {
            copy(state, page, frame, entry);
        }
        entry.set_flags(entry.flags() | Flags::WRITABLE);
    }
    paging::flush(page);
    true
}

/// Puts a copy in the parent's entry and leaves `frame` to the children. If no frame is left for the copy,
/// children are cancelled until the parent holds `frame` alone.
fn copy(state: &mut State, page: usize, frame: PhysFrame, entry: &mut PageTableEntry) {
    let new = loop {
        if let Some(new) = state.frame_for_copy(page, frame) {
            break new;
        }
        // Its frames may suffice for the copy that the others need.
        if !state.cancel_holder(page, frame) || frames::holders(frame) == 1 {
            return;
        }
    };
    // SAFETY: the new frame is ours alone, the old one is frozen: nobody writes to it.
    unsafe { new.bytes().copy_from_nonoverlapping(frame.bytes(), 1) };
    entry.set_addr(PhysAddr::new(new.address()), entry.flags());
    frames::release(frame);
    COUNTERS.lock().copies += 1;
}

/// Gives the child in `slot` the page that it looks at.
fn child_read(state: &mut State, slot: usize, page: usize, present: bool) -> Result<(), FrozenError> {
    let Some(snapshot) = &mut state.children[slot] else {
        return Err(FrozenError::Cancelled);
    };
    if snapshot.cancelled {
        return Err(FrozenError::Cancelled);
    }
    if !snapshot.sees(page) {
        return Err(FrozenError::OutsideView(page));
    }
    if !present && snapshot.held(page).is_none() {
        COUNTERS.lock().child_faults += 1;
        // SAFETY: the state's lock is held.
        let entry =
            unsafe { kernel_root().entry(page) }.filter(|entry| entry.flags().contains(Flags::PRESENT));
        // What the parent unmapped it has given to its children first.
        let frame = PhysFrame::at(entry.ok_or(FrozenError::OutsideView(page))?.addr().as_u64());
        if snapshot.give(page, frame).is_err() {
            state.cancel(slot);
            return Err(FrozenError::Cancelled);
        }
    }
    paging::flush(page);
    Ok(())
}

impl State {
    pub(super) fn slot_of(&self, root: paging::Root) -> Option<usize> {
        self.children
            .iter()
            .position(|child| child.as_ref().is_some_and(|child| child.root == root))
    }

    /// Gives `frame`, the parent's present one for `page`, to every child that still needs it.
    pub(super) fn give_to_children(&mut self, page: usize, frame: PhysFrame) {
        for slot in 0..self.children.len() {
            let failed = match &mut self.children[slot] {
                Some(child) if child.needs(page) => child.give(page, frame).is_err(),
                _ => false,
            };
            if failed {
                self.cancel(slot);
            }
        }
    }

    /// A frame for a copy of the page that children hold as `frame`: what was set aside for one of them, or a free one.
    fn frame_for_copy(&mut self, page: usize, frame: PhysFrame) -> Option<PhysFrame> {
        let mut holders = self
            .children
            .iter_mut()
            .flatten()
            .filter(|child| child.held(page) == Some(frame));
        holders
            .find_map(Snapshot::take_reserved)
            .or_else(frames::allocate)
    }

    /// Cancels a child that holds `frame` as its `page`; whether there was one.
    fn cancel_holder(&mut self, page: usize, frame: PhysFrame) -> bool {
        let holds = |child: &Option<Snapshot>| {
            child
                .as_ref()
                .is_some_and(|child| child.held(page) == Some(frame))
        };
        let slot = self.children.iter().rposition(holds);
        if let Some(slot) = slot {
            self.cancel(slot);
        }
        slot.is_some()
    }

    /// Ends the child's view. Its thread learns of it at its next look; its pages become dirty again then.
    pub(super) fn cancel(&mut self, slot: usize) {
        if let Some(child) = &mut self.children[slot] {
            child.cancelled = true;
            child.release();
            if paging::current() == child.root {
                // SAFETY: it is loaded already; this drops the CPU's copies of what was just freed.
                unsafe { child.root.load() };
            }
            COUNTERS.lock().cancelled += 1;
        }
    }
}
