//! The memory of a measurement, and what of it is modified between two checkpoints.

use alloc::vec::Vec;
use core::ops::Range;

use bench_plan::pattern;
use hs_core::platform::{PAGE_LEN, PageRange};
use kernel::cpt::region::Region;
use kernel::cpt::{Mode, set_mode, window};
use kernel::mem::frames;

use crate::MIB_PAGES;
use crate::failure::Failure;

/// What is left to the kernel beside a measurement's pages and copies, in pages.
const SLACK_PAGES: usize = 8 * MIB_PAGES;

/// Regions side by side at the window's start.
pub(super) struct Memory {
    regions: Vec<Region>,
}

/// Pages that are modified between two checkpoints, ascending: for each run its region and its pages there.
pub(super) struct DirtySet {
    runs: Vec<(usize, Range<usize>)>,
    pages: usize,
}

impl DirtySet {
    /// Bytes of contents of a checkpoint of them.
    pub(super) fn bytes(&self) -> u64 {
        (self.pages * PAGE_LEN) as u64
    }
}

impl Memory {
    /// Maps `pages` pages in `regions` regions, as equal as can be, and installs them, to be frozen in the way of `mode`.
    ///
    /// # Errors
    /// There are not so many frames, or something of an earlier measurement is still there.
    pub(super) fn install(mode: Mode, pages: usize, regions: usize) -> Result<Memory, Failure> {
        let mut memory = Memory::map(mode, pages, regions)?;
        for region in &mut memory.regions {
            region.install()?;
        }
        Ok(memory)
    }

    /// As [`install`](Self::install), but the regions are ordinary memory, that is in no checkpoint range.
    pub(super) fn map(mode: Mode, pages: usize, regions: usize) -> Result<Memory, Failure> {
        let equal = |index| pages / regions + usize::from(index < pages % regions);
        Memory::map_apart(mode, (0..regions).map(equal), 0)
    }

    /// Maps a region of each of `lens` pages, with `gap` pages that are not mapped behind each.
    pub(super) fn map_apart(
        mode: Mode,
        lens: impl Iterator<Item = usize>,
        gap: usize,
    ) -> Result<Memory, Failure> {
        set_mode(mode)?;
        let mut start = window::window().start();
        let mut regions = Vec::new();
        for len in lens {
            if let Some(range) = PageRange::new(start, len) {
                regions.push(Region::map(range)?);
            }
            start += (len + gap) * PAGE_LEN;
        }
        Ok(Memory { regions })
    }

    /// Pages of all regions.
    pub(super) fn pages(&self) -> usize {
        self.regions.iter().map(|region| region.range().pages()).sum()
    }

    /// The regions' ranges.
    pub(super) fn ranges(&self) -> Vec<PageRange> {
        self.regions.iter().map(Region::range).collect()
    }

    /// `count` of the pages, in runs of `contiguity`, evenly spread.
    pub(super) fn dirty_set(&self, count: usize, contiguity: usize) -> DirtySet {
        self.set_of(&pattern::spread(self.pages(), count, contiguity))
    }

    /// The pages that `set` does not have.
    pub(super) fn clean_set(&self, set: &DirtySet) -> DirtySet {
        let mut clean = Vec::new();
        let mut first = 0;
        for (index, region) in self.regions.iter().enumerate() {
            let mut from = 0;
            for (_, run) in set.runs.iter().filter(|(of, _)| *of == index) {
                clean.extend((from..run.start).map(|page| first + page));
                from = run.end;
            }
            clean.extend((from..region.range().pages()).map(|page| first + page));
            first += region.range().pages();
        }
        self.set_of(&clean)
    }

    /// The pages of these numbers, ascending, counted through all regions.
    fn set_of(&self, pages: &[usize]) -> DirtySet {
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        let (mut region, mut first) = (0, 0);
        for &page in pages {
            while page - first >= self.regions[region].range().pages() {
                first += self.regions[region].range().pages();
                region += 1;
            }
            let page = page - first;
            match runs.last_mut() {
                Some((of, run)) if *of == region && run.end == page => run.end += 1,
                _ => runs.push((region, page..page + 1)),
            }
        }
        DirtySet {
            runs,
            pages: pages.len(),
        }
    }

    /// Where the pages of `set` begin.
    pub(super) fn addresses<'a>(&'a self, set: &'a DirtySet) -> impl Iterator<Item = usize> + Clone + 'a {
        set.runs.iter().flat_map(|(region, run)| {
            let start = self.regions[*region].range().start();
            run.clone().map(move |page| start + page * PAGE_LEN)
        })
    }

    /// Writes one byte to each page of `set`.
    pub(super) fn write(&mut self, set: &DirtySet, value: u8) {
        for (region, run) in &set.runs {
            let region = &mut self.regions[*region];
            for page in run.clone() {
                region.write(page, value);
            }
        }
    }
}

/// Whether there is memory for so many mapped pages and copies.
///
/// # Errors
/// There is not.
pub(crate) fn check_room(pages: usize) -> Result<(), Failure> {
    let needed = pages + SLACK_PAGES;
    let free = frames::available();
    if needed > free {
        return Err(Failure::TooLittleMemory {
            needed_mib: needed.div_ceil(MIB_PAGES),
            free_mib: free / MIB_PAGES,
        });
    }
    Ok(())
}
