//! What a child's body is given: its dirty list, and copies of the pages of its view.
//!
//! Pages are copied by way of the direct map, so that a child that only reads them out costs no faults. The lock is taken
//! for each span and each page anew: whoever is more urgent waits for one of them at most.

use hs_core::platform::{Frozen, FrozenError, PAGE_LEN, PageRange};
use kernel_core::copy;

use super::settle::{Settler, parents_frame};
use super::span::{SpanIndex, page_of};
use super::{STATE, State, child};
use crate::mem::frames;
use crate::mem::layout::WINDOW;
use crate::thread;

/// The view of the child in one slot.
pub(super) struct View {
    pub(super) slot: usize,
}

/// Calls `with` for each span with notes, ascending, under the lock, which is let go in between.
pub(super) fn each_span(mut with: impl FnMut(&mut State, SpanIndex)) {
    let mut from = SpanIndex::of(WINDOW.start);
    loop {
        let mut state = STATE.lock();
        let Some(index) = state.spans.next(from) else {
            return;
        };
        with(&mut state, index);
        drop(state);
        from = index.next();
    }
}

impl View {
    /// Calls `with` for each range of the dirty list, which is stable: every span is settled.
    fn each_range(&self, mut with: impl FnMut(PageRange)) {
        let mut open: Option<PageRange> = None;
        each_span(|state, index| {
            let span = state.spans.known_mut(index);
            if span.viewers >> self.slot & 1 == 0 {
                return;
            }
            for run in span.views[self.slot].dirty.runs() {
                let range = PageRange::new(index.page(run.start), run.len()).expect("a run is not empty");
                open = match open.take() {
                    Some(before) if before.end() == range.start() => {
                        PageRange::new(before.start(), before.pages() + range.pages())
                    }
                    Some(before) => {
                        with(before);
                        Some(range)
                    }
                    None => Some(range),
                };
            }
        });
        if let Some(last) = open {
            with(last);
        }
    }

    fn copy(&self, address: usize, into: &mut [u8; PAGE_LEN], last: bool) -> Result<(), FrozenError> {
        if !address.is_multiple_of(PAGE_LEN) || !super::window::window().contains(address) {
            return Err(FrozenError::OutsideView(address));
        }
        STATE.lock().copy_page(self.slot, address, into, last)
    }
}

impl Frozen for View {
    fn dirty(&self, buffer: &mut [PageRange]) -> usize {
        let known = STATE.lock().children[self.slot]
            .as_ref()
            .and_then(|child| child.dirty_ranges)
            .map(|count| count as usize);
        let count = known.unwrap_or_else(|| {
            each_span(|state, index| {
                state.settle(index, Settler::Walk);
            });
            let mut count = 0;
            self.each_range(|_| count += 1);
            if let Some(child) = &mut STATE.lock().children[self.slot] {
                child.dirty_ranges = Some(count as u32);
            }
            count
        });
        if let Some(room) = buffer.get_mut(..count) {
            let mut places = room.iter_mut();
            self.each_range(|range| {
                if let Some(place) = places.next() {
                    *place = range;
                }
            });
        }
        count
    }

    fn copy_page(&self, address: usize, into: &mut [u8; PAGE_LEN]) -> Result<(), FrozenError> {
        self.copy(address, into, false)
    }

    fn take_page(&self, address: usize, into: &mut [u8; PAGE_LEN]) -> Result<(), FrozenError> {
        self.copy(address, into, true)
    }

    fn enter(&self) {
        child::enter(self.slot);
    }

    fn leave(&self) {
        thread::leave_address_space();
    }
}

impl State {
    /// Copies a page of the child's view; if for the last time, nobody need keep it any more.
    fn copy_page(
        &mut self,
        slot: usize,
        address: usize,
        into: &mut [u8; PAGE_LEN],
        last: bool,
    ) -> Result<(), FrozenError> {
        let outside = FrozenError::OutsideView(address);
        let (index, page) = (SpanIndex::of(address), page_of(address));
        if self.spans.get(index).is_none() {
            return Err(outside);
        }
        self.settle(index, Settler::Walk);
        let child = self.children[slot].as_mut().ok_or(FrozenError::Cancelled)?;
        if child.cancelled {
            return Err(FrozenError::Cancelled);
        }
        let span = self.spans.known_mut(index);
        if !span.views[slot].seen.contains(page) {
            return Err(outside);
        }
        let own = child.held(address);
        let frame = own.or_else(|| parents_frame(index, page)).ok_or(outside)?;
        // SAFETY: the frame stays while the lock is held, and nobody writes to it; `into` is a page of its own.
        unsafe { copy::page(self.copy, frame.bytes(), into) };
        if last {
            span.views[slot].seen.remove(page);
            span.views[slot].wanted.remove(page);
            if let Some(own) = child.take_back(address) {
                frames::release(own);
            }
            self.unfreeze_page(index, page);
        }
        Ok(())
    }
}
