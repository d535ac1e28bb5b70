//! The installed checkpoint ranges: ordered, disjoint, neither merged nor split, as in the thesis.
//!
//! What every [`CheckpointMemory`](crate::platform::CheckpointMemory) keeps account of in the same way. Of fixed size, so
//! that a kernel need not allocate for it.

use crate::platform::{Cptctl, CptctlError, PageRange};

/// Most ranges installed at once.
pub const RANGES_MAX: usize = 1024;

/// The table of installed ranges.
#[derive(Clone, Debug)]
pub struct Ranges {
    sorted: [Option<PageRange>; RANGES_MAX],
    count: usize,
}

impl Ranges {
    /// None.
    pub const fn new() -> Self {
        Ranges {
            sorted: [None; RANGES_MAX],
            count: 0,
        }
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = PageRange> + '_ {
        self.sorted[..self.count].iter().flatten().copied()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Where a range that begins at `start` is or would be.
    fn position(&self, start: usize) -> usize {
        self.sorted[..self.count].partition_point(|range| range.is_some_and(|range| range.start() < start))
    }

    /// Whether one of them shares a page with `range`.
    pub fn overlaps(&self, range: PageRange) -> bool {
        let at = self.position(range.start());
        let before = at.checked_sub(1).and_then(|index| self.sorted[index]);
        let after = self.sorted[..self.count].get(at).copied().flatten();
        before.into_iter().chain(after).any(|other| other.overlaps(range))
    }

    /// `cptctl` for whoever keeps nothing else of them. Whether the pages of a new one are mapped is the caller's to say.
    ///
    /// # Errors
    /// See [`CptctlError`]; nothing is changed then.
    pub fn cptctl(&mut self, request: Cptctl<'_>) -> Result<usize, CptctlError> {
        match request {
            Cptctl::Install(new) => self.install(new).map(|()| new.len()),
            Cptctl::Purge(old) => self.purge(old).map(|()| old.len()),
            Cptctl::PurgeAll => Ok(self.purge_all()),
            Cptctl::Installed(buffer) => {
                if let Some(room) = buffer.get_mut(..self.count) {
                    room.iter_mut()
                        .zip(self.iter())
                        .for_each(|(place, range)| *place = range);
                }
                Ok(self.count)
            }
        }
    }

    /// Adds all of `new`, or none.
    ///
    /// # Errors
    /// One overlaps another, or there are too many.
    pub fn install(&mut self, new: &[PageRange]) -> Result<(), CptctlError> {
        if self.count + new.len() > RANGES_MAX {
            return Err(CptctlError::TooMany);
        }
        for (index, &range) in new.iter().enumerate() {
            if self.overlaps(range) {
                for &added in &new[..index] {
                    self.remove(added);
                }
                return Err(CptctlError::Overlaps(range));
            }
            let at = self.position(range.start());
            self.sorted.copy_within(at..self.count, at + 1);
            self.sorted[at] = Some(range);
            self.count += 1;
        }
        Ok(())
    }

    /// Removes all of `old`, each of which must match exactly, or none.
    ///
    /// # Errors
    /// One is not installed.
    pub fn purge(&mut self, old: &[PageRange]) -> Result<(), CptctlError> {
        for (index, &range) in old.iter().enumerate() {
            if !self.remove(range) {
                // The places are free again, and what was disjoint still is.
                for &removed in &old[..index] {
                    let at = self.position(removed.start());
                    self.sorted.copy_within(at..self.count, at + 1);
                    self.sorted[at] = Some(removed);
                    self.count += 1;
                }
                return Err(CptctlError::NotInstalled(range));
            }
        }
        Ok(())
    }

    fn remove(&mut self, range: PageRange) -> bool {
        let at = self.position(range.start());
        if self.sorted[..self.count].get(at).copied().flatten() != Some(range) {
            return false;
        }
        self.sorted.copy_within(at + 1..self.count, at);
        self.count -= 1;
        self.sorted[self.count] = None;
        true
    }

    /// Removes all; returns how many there were.
    pub fn purge_all(&mut self) -> usize {
        let purged = self.count;
        *self = Ranges::new();
        purged
    }
}

impl Default for Ranges {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn range(page: usize, pages: usize) -> PageRange {
        PageRange::new(page * 4096, pages).expect("aligned and not empty")
    }

    #[derive(Clone, Debug)]
    enum Step {
        Install(Vec<(usize, usize)>),
        Purge(Vec<(usize, usize)>),
        PurgeAll,
    }

    fn step() -> impl Strategy<Value = Step> {
        let ranges = prop::collection::vec((0usize..40, 1usize..6), 1..4);
        prop_oneof![
            5 => ranges.clone().prop_map(Step::Install),
            5 => ranges.prop_map(Step::Purge),
            1 => Just(Step::PurgeAll),
        ]
    }

    proptest! {
        /// Against a set of ranges that knows only the rules.
        #[test]
        fn behaves_as_a_set_of_disjoint_ranges(steps in prop::collection::vec(step(), 0..60)) {
            let mut ranges = Ranges::new();
            let mut model: std::collections::BTreeSet<PageRange> = Default::default();
            for step in steps {
                match step {
                    Step::Install(new) => {
                        let new: Vec<_> = new.into_iter().map(|(page, pages)| range(page, pages)).collect();
                        let mut all: Vec<_> = model.iter().copied().collect();
                        let fits = new.iter().all(|&range| {
                            let free = !all.iter().any(|other| other.overlaps(range));
                            all.push(range);
                            free
                        });
                        prop_assert_eq!(ranges.install(&new).is_ok(), fits);
                        if fits {
                            model.extend(new);
                        }
                    }
                    Step::Purge(old) => {
                        let old: Vec<_> = old.into_iter().map(|(page, pages)| range(page, pages)).collect();
                        let mut left = model.clone();
                        let all_there = old.iter().all(|range| left.remove(range));
                        prop_assert_eq!(ranges.purge(&old).is_ok(), all_there);
                        if all_there {
                            model = left;
                        }
                    }
                    Step::PurgeAll => {
                        prop_assert_eq!(ranges.purge_all(), model.len());
                        model.clear();
                    }
                }
                prop_assert_eq!(ranges.count(), model.len());
                prop_assert_eq!(ranges.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_range_is_whole_pages_or_none() {
        let whole = range(3, 2);
        assert_eq!(
            (whole.start(), whole.end(), whole.pages(), whole.len_bytes()),
            (0x3000, 0x5000, 2, 8192)
        );
        assert_eq!(PageRange::new(0x3001, 2), None);
        assert_eq!(PageRange::new(0x3000, 0), None);
        assert_eq!(PageRange::new(0x3000, usize::MAX / 4096), None);
        assert_eq!(PageRange::new(0x3000, usize::MAX), None);
    }

    #[test]
    fn neighbours_are_not_merged_and_a_range_grows_by_being_replaced() {
        let (first, second, larger) = (range(0, 4), range(4, 4), range(0, 12));
        let mut ranges = Ranges::new();
        ranges.install(&[first, second]).unwrap();
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [first, second]);
        for other in [range(0, 8), range(4, 2), range(2, 4)] {
            assert_eq!(ranges.purge(&[other]), Err(CptctlError::NotInstalled(other)));
        }
        assert_eq!(ranges.install(&[larger]), Err(CptctlError::Overlaps(larger)));
        ranges.purge(&[first, second]).unwrap();
        ranges.install(&[larger]).unwrap();
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [larger]);
    }

    #[test]
    fn a_full_table_is_said() {
        let mut ranges = Ranges::new();
        for index in 0..RANGES_MAX {
            ranges.install(&[range(index * 2, 1)]).expect("there is room");
        }
        assert_eq!(
            ranges.install(&[range(RANGES_MAX * 2, 1)]),
            Err(CptctlError::TooMany)
        );
    }
}
