//! Pages in classes: the thesis's "hsmalloc regions", each a class of its own.

use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicU8, Ordering};

use allocator_api2::boxed::Box;
use bench_plan::pattern;
use hs_core::class::{Class, ClassId};
use hs_core::platform::PAGE_LEN;

use crate::failure::Failure;

/// One page of a class. What is not written to between checkpoints is not zero: empty pages would cost no bytes.
#[repr(C, align(4096))]
struct Page {
    first: AtomicU8,
    rest: [u8; PAGE_LEN - 1],
}

/// All pages of the measured classes. The list itself lies outside of checkpointable memory.
pub(crate) struct Pages {
    pages: Vec<&'static Page>,
    classes: u32,
}

impl Pages {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Pages {
            pages: Vec::new(),
            classes: 0,
        }
    }

    /// Adds `pages` pages in `classes` classes, as equal as can be.
    ///
    /// # Errors
    /// The classes cannot be made.
    pub(crate) fn grow(&mut self, pages: usize, classes: usize) -> Result<(), Failure> {
        for index in 0..classes {
            let count = pages / classes + usize::from(index < pages % classes);
            self.classes += 1;
            // Its header takes a part of the first page.
            let class = Class::create(ClassId(self.classes), (count + 1) * PAGE_LEN)?;
            for _ in 0..count {
                let page = Page {
                    first: AtomicU8::new(1),
                    rest: [1; PAGE_LEN - 1],
                };
                let page = Box::try_new_in(page, class).map_err(|_| Failure::ClassFull)?;
                self.pages.push(Box::leak(page));
            }
        }
        Ok(())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// The numbers of `percent` of them, in runs of `contiguity`, evenly spread.
    pub(crate) fn dirty_set(&self, percent: usize, contiguity: usize) -> Vec<usize> {
        pattern::dirty_set(self.len(), percent, contiguity)
    }

    /// Where the pages of `set` begin.
    pub(crate) fn addresses(&self, set: &[usize]) -> impl Iterator<Item = usize> + Clone {
        set.iter().map(|page| ptr::from_ref(self.pages[*page]).addr())
    }

    /// Writes one byte to each page of `set`.
    pub(crate) fn write(&self, set: &[usize], value: u8) {
        for page in set {
            self.pages[*page].first.store(value | 1, Ordering::Relaxed);
        }
        // So that the rest of a page is not taken for something that nobody reads.
        core::hint::black_box(self.pages.first().map(|page| &page.rest));
    }
}
