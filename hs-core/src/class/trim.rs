//! Giving a class's memory back.
//!
//! A class grows by doubling, so that most of its memory is one area: that one block lives in it must not keep all of it.
//! What is given back are runs of pages on which nothing lives, found by counting the free bytes of each page. Blocks of less
//! than a page lie within one, longer ones are whole pages: a run never cuts a block in two.
//!
//! What is left of an area is installed anew, as areas of their own, and counts as modified: the next checkpoint holds all of
//! it. So short runs stay.
//!
//! Deliberately absent: moving blocks together. Their addresses are the application's.

use alloc::vec::Vec;

use super::ClassError;
use super::buckets::Buckets;
use crate::library::AREAS_MAX;
use crate::platform::{PAGE_LEN, PageRange};
use crate::raw::Words;

/// Shorter runs of free pages stay, unless they hold a whole area.
const RUN_PAGES_MIN: usize = 16;
/// Trimming never makes more areas than this: half of the table is for growing.
const AREAS_TRIMMED_MAX: usize = AREAS_MAX / 2;

/// What to do with a class's areas.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Runs of pages that go: ascending, disjoint.
    pub(super) runs: Vec<PageRange>,
    /// Areas that they lie in.
    pub(super) old: Vec<PageRange>,
    /// What is left of those.
    pub(super) new: Vec<PageRange>,
}

impl Plan {
    /// Whether `address` is on a page that goes.
    pub(super) fn takes(&self, address: usize) -> bool {
        let behind = self.runs.partition_point(|run| run.start() <= address);
        self.runs[..behind]
            .last()
            .is_some_and(|run| run.contains(address))
    }

    /// Length of all that goes, in bytes.
    pub(super) fn len_bytes(&self) -> usize {
        self.runs.iter().map(|run| run.len_bytes()).sum()
    }

    /// What can be given back of `areas` (ascending), with `areas_left` free places in the table.
    ///
    /// # Errors
    /// No memory to count in.
    pub(super) fn new(
        areas: &[PageRange],
        buckets: &Buckets,
        words: &Words<'_>,
        areas_left: usize,
    ) -> Result<Self, ClassError> {
        let mut count = FreeBytes::new(areas)?;
        let fresh = buckets.fresh();
        count.add(fresh.start, fresh.end - fresh.start);
        let total_bytes = areas.iter().map(|area| area.len_bytes()).sum();
        buckets.each_free(words, total_bytes, |block, len_bytes| count.add(block, len_bytes));
        let mut plan = Plan::default();
        let used = AREAS_MAX - areas_left;
        let mut room = AREAS_TRIMMED_MAX.saturating_sub(used);
        count.each_run(|run| {
            let touched = areas.iter().filter(|area| area.overlaps(run));
            let holds_area = touched
                .clone()
                .any(|area| run.start() <= area.start() && area.end() <= run.end());
            let splits_area = touched
                .clone()
                .any(|area| area.start() < run.start() && run.end() < area.end());
            if !holds_area && run.pages() < RUN_PAGES_MIN || splits_area && room == 0 {
                return;
            }
            room -= usize::from(splits_area);
            plan.runs.push(run);
        });
        for area in areas {
            let runs = plan.runs.iter().filter(|run| run.overlaps(*area));
            let mut next = area.start();
            for run in runs {
                plan.new.extend(between(next, run.start()));
                next = run.end();
            }
            if next != area.start() || plan.takes(area.start()) {
                plan.new.extend(between(next, area.end()));
                plan.old.push(*area);
            }
        }
        Ok(plan)
    }
}

/// The pages from `start` to `end`, if there are any.
fn between(start: usize, end: usize) -> Option<PageRange> {
    PageRange::new(start, end.saturating_sub(start) / PAGE_LEN)
}

/// How many bytes of each page are free.
struct FreeBytes<'a> {
    areas: &'a [PageRange],
    /// How many pages lie in the areas before each.
    pages_before: Vec<usize>,
    /// Of all pages of all areas.
    bytes: Vec<u16>,
}

impl<'a> FreeBytes<'a> {
    fn new(areas: &'a [PageRange]) -> Result<Self, ClassError> {
        let mut pages = 0;
        let pages_before = areas.iter().map(|area| {
            pages += area.pages();
            pages - area.pages()
        });
        let pages_before = pages_before.collect();
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(pages)
            .map_err(|_| ClassError::OutOfHeap)?;
        bytes.resize(pages, 0);
        Ok(Self {
            areas,
            pages_before,
            bytes,
        })
    }

    /// The bytes from `start` on, which may run over into areas that touch, are free.
    fn add(&mut self, start: usize, len_bytes: usize) {
        let (mut start, end) = (start, start + len_bytes);
        while start < end {
            let index = self.areas.partition_point(|area| area.end() <= start);
            let area = self.areas[index];
            let first = self.pages_before[index];
            while start < area.end().min(end) {
                let page = (start - area.start()) / PAGE_LEN;
                let until = (area.start() + (page + 1) * PAGE_LEN).min(end);
                self.bytes[first + page] += (until - start) as u16;
                start = until;
            }
        }
    }

    /// Hands over the longest runs of pages that are free, over areas that touch: ascending.
    fn each_run(&self, mut with: impl FnMut(PageRange)) {
        let mut run: Option<PageRange> = None;
        let pages = self.areas.iter().flat_map(|area| area.iter_pages());
        for (page, bytes) in pages.zip(&self.bytes) {
            if usize::from(*bytes) < PAGE_LEN {
                continue;
            }
            let longer = run
                .filter(|run| run.end() == page)
                .and_then(|run| between(run.start(), page + PAGE_LEN));
            if longer.is_none() {
                run.into_iter().for_each(&mut with);
            }
            run = longer.or(PageRange::new(page, 1));
        }
        run.into_iter().for_each(with);
    }
}
