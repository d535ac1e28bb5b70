//! Page faults in the window: the parent's writes to frozen pages, a child's first look at a page.

use hs_core::platform::{FrozenError, PAGE_LEN};
use kernel_core::PageSet;
use x86_64::structures::paging::PageTableFlags as Flags;

use super::settle::{FAULT_COPIES_MAX, Settler, parents_frame};
use super::span::{SpanIndex, page_of};
use super::{Mode, Other, State, child, lazy};
use crate::arch::trap::TrapFrame;
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
        return frame.error & ERROR_WRITE != 0 && state.parent_write(page);
    }
    let Some(slot) = state.slot_of(root) else {
        return false;
    };
    let found = if frame.error & (ERROR_WRITE | ERROR_FETCH) != 0 {
        Err(FrozenError::OutsideView(address))
    } else {
        state.child_read(slot, page, frame.error & ERROR_PRESENT != 0)
    };
    drop(state);
    match found {
        Ok(()) => true,
        Err(error) => child::access_failed(slot, error, frame),
    }
}

impl State {
    fn slot_of(&self, root: paging::Root) -> Option<usize> {
        self.children
            .iter()
            .position(|child| child.as_ref().is_some_and(|child| child.root == root))
    }

    /// Makes the page writable for the parent, after a copy for the children that want it. `false` if it is not mapped.
    fn parent_write(&mut self, address: usize) -> bool {
        let (index, page) = (SpanIndex::of(address), page_of(address));
        if self
            .spans
            .get(index)
            .is_none_or(|span| !span.mapped.contains(page))
        {
            return false;
        }
        self.counters.parent_faults += 1;
        let was_open = self.mode != Mode::Lazy || lazy::is_open(kernel_root(), address);
        let mut copied = 0;
        if !was_open {
            copied = self.settle(index, Settler::Fault);
            // Mapped after the last cptfork, it was settled before.
            lazy::open(kernel_root(), &self.spans, address);
            self.counters.span_faults += 1;
        }
        if !is_writable(address) {
            self.counters.write_faults += 1;
            self.keep_for_children(index, page, FAULT_COPIES_MAX - copied);
            make_writable(address);
            let span = self.spans.known_mut(index);
            if self.mode == Mode::Faults && span.installed.contains(page) {
                span.soft_dirty.insert(page);
            }
        } else if was_open {
            self.counters.stale_faults += 1;
        }
        paging::flush(address);
        true
    }

    /// Leaves a copy of the page to the children that want it, and with it copies of hot ones after it, which would fault
    /// too; `copies_max` in all, at least one. If there is no frame for it, children are cancelled until none wants it: the
    /// write must not fail.
    fn keep_for_children(&mut self, index: SpanIndex, page: usize, copies_max: usize) {
        loop {
            let span = self.spans.known_mut(index);
            let wanted = span.wanted();
            if !wanted.contains(page) {
                return;
            }
            let mut pages = PageSet::EMPTY;
            if span.hot.contains(page) {
                pages = (span.hot & wanted).after(page).first(copies_max - 1);
            }
            pages.insert(page);
            let copied = self.copy_for_children(index, pages) as u64;
            if copied > 0 {
                self.spans.known_mut(index).faulted.insert(page);
                self.counters.copies += 1;
                self.counters.hot_copies += copied - 1;
                self.unfreeze(index, pages);
                return;
            }
            if !self.cancel_wanting(index, page) {
                return;
            }
        }
    }

    /// Gives the child in `slot` the page that it looks at through its own address space.
    fn child_read(&mut self, slot: usize, address: usize, present: bool) -> Result<(), FrozenError> {
        let outside = FrozenError::OutsideView(address);
        let (index, page) = (SpanIndex::of(address), page_of(address));
        let known = self.spans.get(index).is_some();
        if known {
            self.settle(index, Settler::Walk);
        }
        let child = self.children[slot].as_mut().ok_or(FrozenError::Cancelled)?;
        if child.cancelled {
            return Err(FrozenError::Cancelled);
        }
        if !known {
            return Err(outside);
        }
        let span = self.spans.known_mut(index);
        // Since a range of the span changed hands, nobody knows what was in one when an older child was made.
        let shared = child.other == Other::Share
            && child.epoch > span.changed
            && (span.mapped - span.installed).contains(page);
        if !span.views[slot].seen.contains(page) && !shared {
            return Err(outside);
        }
        if !present && child.held(address).is_none() {
            let frame = parents_frame(index, page).ok_or(outside)?;
            if child.lend(address, frame).is_err() {
                self.cancel(slot);
                return Err(FrozenError::Cancelled);
            }
            // Noted even if it is only shared: what the parent unmaps must be taken back.
            span.viewers |= 1 << slot;
            self.counters.child_faults += 1;
        }
        paging::flush(address);
        Ok(())
    }

    /// Takes the parent's page, whose frame is about to go, out of the children that borrow it.
    pub(super) fn take_back_from_children(&mut self, index: SpanIndex, pages: PageSet) {
        let span = self.spans.known_mut(index);
        for slot in span.viewers() {
            let Some(child) = &mut self.children[slot] else {
                continue;
            };
            for page in pages
                .iter()
                .filter(|page| !span.views[slot].wanted.contains(*page))
            {
                if child.held(index.page(page)).is_none() {
                    child.take_back(index.page(page));
                }
            }
        }
    }
}

fn is_writable(address: usize) -> bool {
    // SAFETY: the state's lock is held.
    let entry = unsafe { kernel_root().entry(address) };
    entry.is_some_and(|entry| entry.flags().contains(Flags::WRITABLE))
}

fn make_writable(address: usize) {
    // SAFETY: the state's lock is held.
    if let Some(entry) = unsafe { kernel_root().entry(address) } {
        entry.set_flags(entry.flags() | Flags::WRITABLE);
    }
}
