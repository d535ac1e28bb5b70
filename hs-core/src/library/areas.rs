//! The table of areas: which pages of the window are whose, and where more can be had.
//!
//! Ascending and disjoint. Addresses of what was given back are given out again, the lowest that fit first: the window is
//! large, but a program that makes and destroys classes all its life would come to its end.

use alloc::vec::Vec;

use super::{AREAS_MAX, LIBRARY_PAGES, Library, LibraryArea};
use crate::class::ClassError;
use crate::platform::{Cptctl, PAGE_LEN, PageRange};

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct AreaEntry {
    pub(super) start: usize,
    pub(super) pages: u32,
    /// The class's place in the table of classes.
    pub(super) class: u32,
}

impl AreaEntry {
    /// Its pages, of an entry that is sound.
    pub(super) fn range(self) -> PageRange {
        PageRange::new(self.start, self.pages as usize).expect("an area in the table is a range")
    }
}

impl LibraryArea {
    pub(super) fn areas(&self) -> &[AreaEntry] {
        &self.areas[..self.area_count as usize]
    }

    /// The place of the first area that begins behind `address`.
    fn behind(&self, address: usize) -> usize {
        self.areas().partition_point(|area| area.start <= address)
    }

    /// The area that `address` lies in, and the place of its class in the table of classes.
    pub(crate) fn area_at(&self, address: usize) -> Option<(PageRange, usize)> {
        let entry = self.areas()[..self.behind(address)].last()?;
        let range = entry.range();
        range.contains(address).then_some((range, entry.class as usize))
    }

    /// Whether the `len_bytes` bytes at `address`, at least one, lie in one class.
    pub(crate) fn lies_in_class(&self, address: usize, len_bytes: usize) -> bool {
        let last = len_bytes.checked_sub(1).and_then(|len| address.checked_add(len));
        let ends = last.map(|last| [self.area_at(address), self.area_at(last)]);
        // Areas that touch may share a block: then they are the same class's.
        matches!(ends, Some([Some((_, first)), Some((_, last))]) if first == last)
    }

    fn insert_area(&mut self, range: PageRange, class: usize) {
        let at = self.behind(range.start());
        let count = self.area_count as usize;
        self.areas.copy_within(at..count, at + 1);
        self.areas[at] = AreaEntry {
            start: range.start(),
            pages: range.pages() as u32,
            class: class as u32,
        };
        self.area_count += 1;
    }

    fn remove_area(&mut self, range: PageRange) {
        let at = self.behind(range.start()) - 1;
        super::remove(&mut self.areas, &mut self.area_count, at);
    }

    /// The lowest `pages` pages of `window` that nobody has.
    fn place(&self, window: PageRange, pages: usize) -> Option<PageRange> {
        u32::try_from(pages).ok()?;
        let own = PageRange::new(window.start(), LIBRARY_PAGES)?;
        let mut next = own.end();
        for area in self.areas() {
            let fits = PageRange::new(next, pages).filter(|range| range.end() <= area.start);
            if fits.is_some() {
                return fits;
            }
            next = area.range().end();
        }
        PageRange::new(next, pages).filter(|range| window.encloses(*range))
    }
}

impl Library {
    /// Maps and installs `pages` pages of the window for the class at `class` of the table.
    pub(crate) fn add_area(&mut self, class: usize, pages: usize) -> Result<PageRange, ClassError> {
        let tables = self.tables();
        if tables.area_count as usize == AREAS_MAX {
            return Err(ClassError::TooManyAreas);
        }
        let range = tables.place(self.ground(), pages).ok_or(ClassError::WindowFull)?;
        self.memory.map(range).map_err(ClassError::Map)?;
        if let Err(error) = self.memory.cptctl(Cptctl::Install(&[range])) {
            self.unmap(range);
            return Err(ClassError::Install(error));
        }
        self.tables_mut().insert_area(range, class);
        Ok(range)
    }

    /// Where areas may be: the window up to the program's variables.
    fn ground(&self) -> PageRange {
        let window = self.window.range();
        let end = self
            .memory
            .statics()
            .map_or(window.end(), |statics| statics.range.start());
        PageRange::new(window.start(), (end - window.start()) / PAGE_LEN).unwrap_or(window)
    }

    /// Whether the `len_bytes` bytes at `address` are the same after a restore: in a class, or among the program's variables, or
    /// none at all.
    pub(crate) fn keeps(&self, address: usize, len_bytes: usize) -> bool {
        let is_static = self.memory.statics().is_some_and(|statics| {
            let offset = address.wrapping_sub(statics.range.start());
            offset.saturating_add(len_bytes) <= statics.range.len_bytes()
        });
        len_bytes == 0 || is_static || self.tables().lies_in_class(address, len_bytes)
    }

    /// The areas of the class at `class` of the table, ascending.
    pub(crate) fn areas_of(&self, class: usize) -> Vec<PageRange> {
        let areas = self.tables().areas().iter();
        areas
            .filter(|area| area.class as usize == class)
            .map(|area| area.range())
            .collect()
    }

    /// How many more areas there may be.
    pub(crate) fn areas_left(&self) -> usize {
        AREAS_MAX - self.tables().area_count as usize
    }

    /// Has `new` in place of `old` areas of the class: parts of them, for which there is room in the table. What is in no area
    /// any more is still mapped: it is the caller's to [`unmap`](Self::unmap).
    ///
    /// # Errors
    /// The memory refuses; nothing was changed.
    pub(crate) fn replace_areas(
        &mut self,
        class: usize,
        old: &[PageRange],
        new: &[PageRange],
    ) -> Result<(), ClassError> {
        self.memory
            .cptctl(Cptctl::Purge(old))
            .map_err(ClassError::Install)?;
        if let Err(error) = self.memory.cptctl(Cptctl::Install(new)) {
            self.memory
                .cptctl(Cptctl::Install(old))
                .expect("ranges purged just now can be installed");
            return Err(ClassError::Install(error));
        }
        let tables = self.tables_mut();
        old.iter().for_each(|range| tables.remove_area(*range));
        new.iter().for_each(|range| tables.insert_area(*range, class));
        Ok(())
    }

    /// Gives back pages that are in no area any more.
    pub(crate) fn unmap(&self, range: PageRange) {
        self.memory
            .unmap(range)
            .expect("a range that was an area's, and is installed no more, can be unmapped");
    }
}
