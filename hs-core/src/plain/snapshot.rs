//! The frozen view that is made of copies.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use crate::platform::{Frozen, FrozenError, PAGE_LEN, PageRange};
use crate::sync::Mutex;

/// Copies of pages, each given up when it is taken.
pub(crate) struct Snapshot<P> {
    dirty: Vec<PageRange>,
    /// By address, ascending.
    pages: Mutex<Vec<(usize, Option<P>)>>,
    cancelled: bool,
}

impl<P> Snapshot<P> {
    /// Of `pages`, by address and ascending; `dirty` is what its query answers.
    pub(crate) fn new(dirty: Vec<PageRange>, pages: Vec<(usize, Option<P>)>, cancelled: bool) -> Self {
        Self {
            dirty,
            pages: Mutex::new(pages),
            cancelled,
        }
    }
}

impl<P: Deref<Target = [u8; PAGE_LEN]>> Snapshot<P> {
    fn copy(&self, address: usize, into: &mut [u8; PAGE_LEN], last: bool) -> Result<(), FrozenError> {
        if self.cancelled {
            return Err(FrozenError::Cancelled);
        }
        let outside = FrozenError::OutsideView(address);
        let mut pages = self.pages.lock();
        let index = pages
            .binary_search_by_key(&address, |page| page.0)
            .map_err(|_| outside)?;
        let place = &mut pages[index].1;
        *into = **place.as_ref().ok_or(outside)?;
        let taken = if last { place.take() } else { None };
        // Given back with no lock held.
        drop(pages);
        drop(taken);
        Ok(())
    }
}

impl<P: Deref<Target = [u8; PAGE_LEN]>> Frozen for Snapshot<P> {
    fn dirty(&self, buffer: &mut [PageRange]) -> usize {
        if let Some(buffer) = buffer.get_mut(..self.dirty.len()) {
            buffer.copy_from_slice(&self.dirty);
        }
        self.dirty.len()
    }

    fn copy_page(&self, address: usize, into: &mut [u8; PAGE_LEN]) -> Result<(), FrozenError> {
        self.copy(address, into, false)
    }

    fn take_page(&self, address: usize, into: &mut [u8; PAGE_LEN]) -> Result<(), FrozenError> {
        self.copy(address, into, true)
    }
}

impl<P> fmt::Debug for Snapshot<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("dirty", &self.dirty)
            .field("cancelled", &self.cancelled)
            .finish_non_exhaustive()
    }
}
