//! The window's pages in the parent's address space: mapped, unmapped, replaced; and `cptctl`.

use alloc::vec::Vec;

use hs_core::platform::{Cptctl, CptctlError, MapError, PAGE_LEN, PageRange};
use x86_64::PhysAddr;
use x86_64::structures::paging::PageTableFlags as Flags;

use super::STATE;
use crate::mem::frames::{self, PhysFrame};
use crate::mem::kernel_root;
use crate::mem::layout::WINDOW;
use crate::mem::paging::{self, DATA, SOFT_DIRTY};

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

fn mapped(page: usize) -> Option<PhysFrame> {
    // SAFETY: the callers hold the state's lock.
    let entry = unsafe { kernel_root().entry(page) }?;
    entry
        .flags()
        .contains(Flags::PRESENT)
        .then(|| PhysFrame::at(entry.addr().as_u64()))
}

/// Maps zeroed pages.
///
/// # Errors
/// See [`MapError`]: nothing is mapped then.
pub fn map(range: PageRange) -> Result<(), MapError> {
    inside(range)?;
    // Before the look at each page, which has no bound but the window.
    if range.pages() > frames::available() {
        return Err(MapError::OutOfFrames);
    }
    {
        let _state = STATE.lock();
        if range.iter_pages().any(|page| mapped(page).is_some()) {
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

fn map_page(page: usize) -> Result<(), MapError> {
    let frame = frames::allocate_zeroed().ok_or(MapError::OutOfFrames)?;
    let state = STATE.lock();
    // SAFETY: the lock is held.
    let entry = unsafe { kernel_root().entry_or_create(page, &mut frames::allocate) };
    let result = match entry {
        Ok(entry) if entry.is_unused() => {
            entry.set_addr(PhysAddr::new(frame.address()), DATA);
            Ok(())
        }
        Ok(_) => Err(MapError::Conflict(
            PageRange::new(page, 1).expect("a page's address is aligned"),
        )),
        Err(paging::OutOfFrames) => Err(MapError::OutOfFrames),
    };
    drop(state);
    if result.is_err() {
        frames::release(frame);
    }
    result
}

/// Unmaps pages. Live children keep their view.
///
/// # Errors
/// See [`MapError`]: nothing is unmapped then.
pub fn unmap(range: PageRange) -> Result<(), MapError> {
    inside(range)?;
    {
        let state = STATE.lock();
        if state.ranges.overlaps(range) {
            return Err(MapError::Installed(range));
        }
        if range.iter_pages().any(|page| mapped(page).is_none()) {
            return Err(MapError::Conflict(range));
        }
    }
    remove(range);
    Ok(())
}

fn remove(range: PageRange) {
    for page in range.iter_pages() {
        let mut state = STATE.lock();
        if let Some(frame) = mapped(page) {
            state.give_to_children(page, frame);
            // SAFETY: the lock is held.
            if let Some(entry) = unsafe { kernel_root().entry(page) } {
                entry.set_unused();
            }
            paging::flush(page);
            frames::release(frame);
        }
    }
}

/// Puts `frame` in place of what is mapped at `page`, clean.
///
/// # Errors
/// Nothing is mapped there; `frame` is given back.
pub fn place(page: usize, frame: PhysFrame) -> Result<(), PhysFrame> {
    let mut state = STATE.lock();
    if !WINDOW.contains(&page) || !page.is_multiple_of(PAGE_LEN) {
        return Err(frame);
    }
    let Some(old) = mapped(page) else {
        return Err(frame);
    };
    state.give_to_children(page, old);
    // SAFETY: the lock is held.
    let Some(entry) = (unsafe { kernel_root().entry(page) }) else {
        return Err(frame);
    };
    entry.set_addr(PhysAddr::new(frame.address()), DATA);
    paging::flush(page);
    frames::release(old);
    Ok(())
}

/// The thesis's `cptctl`.
///
/// # Errors
/// See [`CptctlError`]: nothing is changed then.
pub fn cptctl(request: Cptctl<'_>) -> Result<usize, CptctlError> {
    let mut state = STATE.lock();
    match request {
        Cptctl::Install(new) => {
            for &range in new {
                if inside(range).is_err() || range.iter_pages().any(|page| mapped(page).is_none()) {
                    return Err(CptctlError::NotMapped(range));
                }
            }
            state.ranges.install(new)?;
            for page in new.iter().flat_map(|range| range.iter_pages()) {
                mark_dirty(page);
            }
            Ok(new.len())
        }
        Cptctl::Purge(old) => {
            state.ranges.purge(old)?;
            Ok(old.len())
        }
        Cptctl::PurgeAll => Ok(state.ranges.purge_all()),
        Cptctl::Installed(buffer) => {
            let ranges: Vec<PageRange> = state.ranges.iter().collect();
            // The buffer may lie in the window, which nobody may touch who holds the lock.
            drop(state);
            if let Some(room) = buffer.get_mut(..ranges.len()) {
                room.copy_from_slice(&ranges);
            }
            Ok(ranges.len())
        }
    }
}

/// Counts the page as modified from now on. The caller holds the state's lock.
pub(super) fn mark_dirty(page: usize) {
    // SAFETY: the lock is held.
    if let Some(entry) = unsafe { kernel_root().entry(page) }
        && entry.flags().contains(Flags::PRESENT)
    {
        entry.set_flags(entry.flags() | SOFT_DIRTY);
    }
}
