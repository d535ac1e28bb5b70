//! The window's pages in the parent's address space: mapped, unmapped, replaced; and `cptctl`.

use alloc::vec::Vec;

use hs_core::platform::{Cptctl, CptctlError, MapError, PAGE_LEN, PageRange};
use hs_core::sync::Mutex;
use kernel_core::PageSet;
use x86_64::PhysAddr;
use x86_64::structures::paging::PageTableFlags as Flags;

use super::settle::{Settler, parents_frame};
use super::span::{SpanIndex, page_of, pieces};
use super::{Mode, STATE, State};
use crate::mem::frames::{self, PhysFrame};
use crate::mem::kernel_root;
use crate::mem::layout::WINDOW;
use crate::mem::paging::{self, DATA};

/// Held over each change of what is mapped or installed: the checks at its start hold to its end, although the state's lock is
/// let go in between.
static CHANGES: Mutex<()> = Mutex::new(());

/// The window's addresses.
pub fn window() -> PageRange {
    PageRange::new(WINDOW.start, WINDOW.len() / PAGE_LEN).expect("the window is page-aligned")
}

fn inside(range: PageRange) -> Result<(), MapError> {
    if window().encloses(range) {
        Ok(())
    } else {
        Err(MapError::OutsideWindow(range))
    }
}

fn is_mapped(state: &mut State, page: usize) -> bool {
    let span = state.spans.get(SpanIndex::of(page));
    span.is_some_and(|span| span.mapped.contains(page_of(page)))
}

/// Maps zeroed pages.
///
/// # Errors
/// See [`MapError`]: nothing is mapped then.
pub fn map(range: PageRange) -> Result<(), MapError> {
    inside(range)?;
    let _change = CHANGES.lock();
    // Before the look at each page, which has no bound but the window.
    if range.pages() > frames::available() {
        return Err(MapError::OutOfFrames);
    }
    {
        let mut state = STATE.lock();
        if state.is_any_mapped(range) {
            return Err(MapError::Conflict(range));
        }
    }
    // The lock is taken for each page: zeroing them all at once would keep interrupts off for long.
    for (done, page) in range.iter_pages().enumerate() {
        if let Err(error) = map_page(page) {
            if let Some(mapped) = PageRange::new(range.start(), done) {
                remove(mapped);
            }
            return Err(match error {
                MapError::Conflict(_) => MapError::Conflict(range),
                other => other,
            });
        }
    }
    Ok(())
}

fn map_page(address: usize) -> Result<(), MapError> {
    let frame = frames::allocate_zeroed().ok_or(MapError::OutOfFrames)?;
    let mut state = STATE.lock();
    let result = state.map_page(address, frame);
    drop(state);
    if result.is_err() {
        frames::release(frame);
    }
    result
}

impl State {
    fn map_page(&mut self, address: usize, frame: PhysFrame) -> Result<(), MapError> {
        let (index, page) = (SpanIndex::of(address), page_of(address));
        let span = self
            .spans
            .create(index, self.epoch)
            .ok_or(MapError::OutOfFrames)?;
        if span.mapped.contains(page) {
            let range = PageRange::new(address, 1).expect("a page's address is aligned");
            return Err(MapError::Conflict(range));
        }
        self.settle(index, Settler::Walk);
        // SAFETY: the lock is held.
        let entry = unsafe { kernel_root().entry_or_create(address, &mut frames::allocate) };
        let Ok(entry) = entry else {
            // Its first page, perhaps: a span is known only as long as something is mapped in it.
            self.spans.forget_if_empty(index);
            return Err(MapError::OutOfFrames);
        };
        entry.set_addr(PhysAddr::new(frame.address()), DATA);
        self.spans.known_mut(index).mapped.insert(page);
        Ok(())
    }

    /// Takes the page out of the parent's address space: its frame goes to the children that want it, if any.
    fn unmap_page(&mut self, address: usize) {
        let (index, page) = (SpanIndex::of(address), page_of(address));
        self.settle(index, Settler::Walk);
        let Some(frame) = parents_frame(index, page) else {
            return;
        };
        let mut only = PageSet::EMPTY;
        only.insert(page);
        self.take_back_from_children(index, only);
        self.leave_to_children(index, page, frame);
        self.spans.known_mut(index).mapped.remove(page);
        // SAFETY: the lock is held.
        if let Some(entry) = unsafe { kernel_root().entry(address) } {
            entry.set_unused();
        }
        paging::flush(address);
    }
}

/// Unmaps pages. Live children keep their view.
///
/// # Errors
/// See [`MapError`]: nothing is unmapped then.
pub fn unmap(range: PageRange) -> Result<(), MapError> {
    inside(range)?;
    let _change = CHANGES.lock();
    {
        let mut state = STATE.lock();
        if state.ranges.overlaps(range) {
            return Err(MapError::Installed(range));
        }
        if !state.is_all_mapped(range) {
            return Err(MapError::Conflict(range));
        }
    }
    remove(range);
    Ok(())
}

fn remove(range: PageRange) {
    for address in range.iter_pages() {
        let mut state = STATE.lock();
        state.unmap_page(address);
        state.spans.forget_if_empty(SpanIndex::of(address));
    }
}

/// Puts `frame` in place of what is mapped at `address`, clean.
///
/// # Errors
/// Nothing is mapped there; `frame` is given back.
pub fn place(address: usize, frame: PhysFrame) -> Result<(), PhysFrame> {
    let mut state = STATE.lock();
    if !WINDOW.contains(&address) || !address.is_multiple_of(PAGE_LEN) || !is_mapped(&mut state, address) {
        return Err(frame);
    }
    state.unmap_page(address);
    let (index, page) = (SpanIndex::of(address), page_of(address));
    let recorded = state.mode == Mode::Faults;
    let span = state.spans.known_mut(index);
    span.mapped.insert(page);
    span.soft_dirty.remove(page);
    // Where faults record what is modified, a clean page has to fault.
    let flags = if recorded && span.installed.contains(page) {
        DATA - Flags::WRITABLE
    } else {
        DATA
    };
    // SAFETY: the lock is held.
    if let Some(entry) = unsafe { kernel_root().entry(address) } {
        entry.set_addr(PhysAddr::new(frame.address()), flags);
    }
    Ok(())
}

/// Lets `change` change the page at `address` in place, without any fault or mark. No child looks at it.
///
/// # Errors
/// Nothing is mapped there; `change` was not called.
pub fn patch(address: usize, change: &mut dyn FnMut(&mut [u8; PAGE_LEN])) -> Result<(), MapError> {
    let range = PageRange::new(address / PAGE_LEN * PAGE_LEN, 1).expect("one page");
    inside(range)?;
    let mut state = STATE.lock();
    if !is_mapped(&mut state, range.start()) {
        return Err(MapError::Conflict(range));
    }
    let frame = parents_frame(SpanIndex::of(address), page_of(address)).ok_or(MapError::Conflict(range))?;
    // SAFETY: the frame is mapped in the window and nowhere else, and stays so while the lock is held. The caller is the
    // only one that has to do with the window, as `CheckpointMemory::patch` asks: nobody else has a reference into it.
    change(unsafe { &mut *frame.bytes() });
    Ok(())
}

/// The thesis's `cptctl`.
///
/// # Errors
/// See [`CptctlError`]: nothing is changed then.
pub fn cptctl(request: Cptctl<'_>) -> Result<usize, CptctlError> {
    // Who only asks does not wait: it may be in the pause of a checkpoint.
    let _change = (!matches!(request, Cptctl::Installed(_))).then(|| CHANGES.lock());
    let mut state = STATE.lock();
    match request {
        Cptctl::Install(new) => {
            for &range in new {
                if inside(range).is_err() || !state.is_all_mapped(range) {
                    return Err(CptctlError::NotMapped(range));
                }
            }
            state.ranges.install(new)?;
            new.iter().for_each(|range| state.note_installed(*range, true));
            Ok(new.len())
        }
        Cptctl::Purge(old) => {
            state.ranges.purge(old)?;
            old.iter().for_each(|range| state.note_installed(*range, false));
            Ok(old.len())
        }
        Cptctl::PurgeAll => {
            let ranges: Vec<PageRange> = state.ranges.iter().collect();
            ranges
                .iter()
                .for_each(|range| state.note_installed(*range, false));
            Ok(state.ranges.purge_all())
        }
        Cptctl::Installed(buffer) => {
            let count = state.ranges.count();
            let Some(room) = buffer.get_mut(..count) else {
                return Ok(count);
            };
            if WINDOW.contains(&(room.as_ptr() as usize)) {
                // Nobody may touch the window who holds the lock.
                let ranges: Vec<PageRange> = state.ranges.iter().collect();
                drop(state);
                room.copy_from_slice(&ranges);
            } else {
                // In the pause of a checkpoint: without a detour.
                for (place, range) in room.iter_mut().zip(state.ranges.iter()) {
                    *place = range;
                }
            }
            Ok(count)
        }
    }
}

impl State {
    /// The pages of `range` belong to an installed range from now on, and count as modified; or they do no longer. What
    /// children look at is not changed by it.
    fn note_installed(&mut self, range: PageRange, installed: bool) {
        let epoch = self.epoch;
        for (index, pages) in pieces(range) {
            self.settle(index, Settler::Walk);
            let pages = PageSet::range(pages);
            let span = self.spans.known_mut(index);
            span.changed = epoch;
            span.hot -= pages;
            span.faulted -= pages;
            if installed {
                span.installed |= pages;
                span.soft_dirty |= pages;
            } else {
                span.installed -= pages;
                span.soft_dirty -= pages;
            }
        }
        if installed {
            self.installed_pages += range.pages();
        } else {
            self.installed_pages -= range.pages();
        }
    }

    /// Whether every page of `range` is mapped.
    fn is_all_mapped(&mut self, range: PageRange) -> bool {
        pieces(range).all(|(index, pages)| {
            let span = self.spans.get(index);
            span.is_some_and(|span| (PageSet::range(pages) - span.mapped).is_empty())
        })
    }

    /// Whether any page of `range` is mapped.
    fn is_any_mapped(&mut self, range: PageRange) -> bool {
        pieces(range).any(|(index, pages)| {
            let span = self.spans.get(index);
            span.is_some_and(|span| !(PageSet::range(pages) & span.mapped).is_empty())
        })
    }
}
