//! Bringing the window from one checkpoint to the next.

use alloc::vec;
use alloc::vec::Vec;

use super::ImageError;
use super::pieces::{Piece, Pieces};
use crate::platform::{CheckpointMemory, MapError, PAGE_LEN, PageRange, StagedPage};

/// A mapped area.
struct Area {
    range: PageRange,
    /// A bit a page: something other than zeroes was placed there once. The others are zero as mapped, so that a full
    /// checkpoint's untouched pages cost nothing.
    written: Vec<u64>,
}

impl Area {
    fn new(range: PageRange) -> Self {
        Self {
            range,
            written: vec![0; range.pages().div_ceil(64)],
        }
    }

    fn bit(&mut self, address: usize) -> (&mut u64, u64) {
        let page = (address - self.range.start()) / PAGE_LEN;
        (&mut self.written[page / 64], 1 << (page % 64))
    }
}

/// What is mapped in the window: ascending.
#[derive(Default)]
pub(super) struct Areas {
    areas: Vec<Area>,
}

impl Areas {
    pub(super) fn ranges(&self) -> Vec<PageRange> {
        self.areas.iter().map(|area| area.range).collect()
    }

    /// Maps `wanted` instead of what is mapped, and puts `pieces` in place.
    ///
    /// # Errors
    /// Out of memory, or a difference to a page that is not there; nothing was changed. Or broken: nothing is mapped any
    /// more.
    pub(super) fn apply(
        &mut self,
        memory: &dyn CheckpointMemory,
        wanted: &[PageRange],
        mut pieces: Pieces,
    ) -> Result<(), ImageError> {
        let zeroes = self.stage_zeroes(memory, wanted, pieces.list())?;
        self.check_differences(wanted, pieces.list())?;
        if !self
            .areas
            .iter()
            .map(|area| area.range)
            .eq(wanted.iter().copied())
        {
            self.remap(memory, wanted)?;
        }
        for piece in pieces.take_list() {
            let address = match &piece {
                Piece::Page(address, _) | Piece::Difference(address, _) => *address,
                Piece::Zero(_) => continue,
            };
            let (word, bit) = self
                .area(address)
                .expect("a checkpoint's pages lie in its areas")
                .bit(address);
            *word |= bit;
            let placed = match piece {
                Piece::Page(_, page) => memory.place(address, page),
                Piece::Difference(_, body) => {
                    let difference = pieces.difference(body);
                    memory.patch(address, &mut |page| difference.apply(page))
                }
                Piece::Zero(_) => Ok(()),
            };
            if let Err(error) = placed {
                return Err(self.broken(memory, error));
            }
        }
        for (address, page) in zeroes {
            // Not before: had the areas not been mapped, the page would be as it was.
            let (word, bit) = self
                .area(address)
                .expect("areas that are wanted stay")
                .bit(address);
            *word &= !bit;
            if let Err(error) = memory.place(address, page) {
                return Err(self.broken(memory, error));
            }
        }
        Ok(())
    }

    /// A zero page for each page that must become zero and is not known to be: taken first, so that it cannot fail later.
    fn stage_zeroes(
        &mut self,
        memory: &dyn CheckpointMemory,
        wanted: &[PageRange],
        pieces: &[Piece],
    ) -> Result<Vec<(usize, StagedPage)>, ImageError> {
        let mut zeroes = Vec::new();
        for piece in pieces {
            let Piece::Zero(range) = piece else { continue };
            for address in range.iter_pages() {
                let Some(area) = self.area(address) else { continue };
                let (word, bit) = area.bit(address);
                if *word & bit != 0 && wanted.binary_search(&area.range).is_ok() {
                    zeroes.try_reserve(1).map_err(|_| ImageError::OutOfMemory)?;
                    let mut page = memory.stage().ok_or(ImageError::OutOfMemory)?;
                    page.fill(0);
                    zeroes.push((address, page));
                }
            }
        }
        Ok(zeroes)
    }

    /// Whether each page with a difference is there, and stays.
    fn check_differences(&mut self, wanted: &[PageRange], pieces: &[Piece]) -> Result<(), ImageError> {
        for piece in pieces {
            let Piece::Difference(address, _) = piece else {
                continue;
            };
            let stays = |area: &mut Area| wanted.binary_search(&area.range).is_ok();
            if !self.area(*address).is_some_and(stays) {
                return Err(ImageError::NoPage(*address));
            }
        }
        Ok(())
    }

    /// Unmaps the areas that are not wanted, and maps those that are wanted and missing.
    fn remap(&mut self, memory: &dyn CheckpointMemory, wanted: &[PageRange]) -> Result<(), ImageError> {
        let have = self.ranges();
        let missing: Vec<PageRange> = wanted
            .iter()
            .copied()
            .filter(|range| have.binary_search(range).is_err())
            .collect();
        let vanished: Vec<PageRange> = have
            .into_iter()
            .filter(|range| wanted.binary_search(range).is_err())
            .collect();
        // First what can be mapped beside the old areas: failing, it can be undone.
        let (over, beside): (Vec<PageRange>, Vec<PageRange>) = missing
            .into_iter()
            .partition(|range| vanished.iter().any(|old| old.overlaps(*range)));
        for (index, range) in beside.iter().enumerate() {
            if let Err(error) = memory.map(*range) {
                log::warn!("an area of a checkpoint cannot be mapped: {error}");
                for mapped in &beside[..index] {
                    memory
                        .unmap(*mapped)
                        .expect("a range mapped just now can be unmapped");
                }
                return Err(ImageError::OutOfMemory);
            }
        }
        self.areas.extend(beside.into_iter().map(Area::new));
        for range in vanished {
            self.areas.retain(|area| area.range != range);
            if let Err(error) = memory.unmap(range) {
                return Err(self.broken(memory, error));
            }
        }
        for range in over {
            if let Err(error) = memory.map(range) {
                return Err(self.broken(memory, error));
            }
            self.areas.push(Area::new(range));
        }
        self.areas.sort_unstable_by_key(|area| area.range);
        Ok(())
    }

    /// Half a checkpoint is worth nothing: unmaps all.
    fn broken(&mut self, memory: &dyn CheckpointMemory, error: MapError) -> ImageError {
        for area in self.areas.drain(..) {
            if let Err(error) = memory.unmap(area.range) {
                log::error!("cannot unmap: {error}");
            }
        }
        ImageError::Broken(error)
    }

    fn area(&mut self, address: usize) -> Option<&mut Area> {
        let index = self.areas.partition_point(|area| area.range.end() <= address);
        self.areas
            .get_mut(index)
            .filter(|area| area.range.contains(address))
    }
}
