//! Which pages are mapped: as many runs as there are gaps, whatever the size of the window.

use alloc::vec::Vec;

use crate::platform::{PAGE_LEN, PageRange};

/// Mapped pages, as runs: ascending, with a gap between each two.
#[derive(Debug, Default)]
pub(super) struct Mapped {
    runs: Vec<PageRange>,
}

impl Mapped {
    /// Makes room for one change; `false` if there is no memory for it.
    pub(super) fn reserve(&mut self) -> bool {
        self.runs.try_reserve(1).is_ok()
    }

    /// Whether every page of `range` is mapped.
    pub(super) fn encloses(&self, range: PageRange) -> bool {
        let after = self.runs.partition_point(|run| run.start() <= range.start());
        after
            .checked_sub(1)
            .is_some_and(|index| self.runs[index].encloses(range))
    }

    /// The pages of `range`, none of which was, are mapped.
    pub(super) fn add(&mut self, range: PageRange) {
        let at = self.runs.partition_point(|run| run.start() < range.start());
        let before = at
            .checked_sub(1)
            .filter(|index| self.runs[*index].end() == range.start());
        let after = self
            .runs
            .get(at)
            .filter(|run| run.start() == range.end())
            .copied();
        let whole = joined(
            before.map_or(range, |index| joined(self.runs[index], Some(range))),
            after,
        );
        match (before, after) {
            (Some(index), Some(_)) => {
                self.runs[index] = whole;
                self.runs.remove(at);
            }
            (Some(index), None) => self.runs[index] = whole,
            (None, Some(_)) => self.runs[at] = whole,
            (None, None) => self.runs.insert(at, whole),
        }
    }

    /// The pages of `range`, which all were, are no longer mapped.
    pub(super) fn remove(&mut self, range: PageRange) {
        let at = self
            .runs
            .iter()
            .position(|run| run.encloses(range))
            .expect("only what is mapped is unmapped");
        let run = self.runs[at];
        let left = between(run.start(), range.start());
        let right = between(range.end(), run.end());
        self.runs.splice(at..=at, left.into_iter().chain(right));
    }
}

/// `first`, and `second` if there is one, which follows it.
pub(super) fn joined(first: PageRange, second: Option<PageRange>) -> PageRange {
    let pages = first.pages() + second.map_or(0, PageRange::pages);
    PageRange::new(first.start(), pages).expect("two ranges of one window")
}

fn between(start: usize, end: usize) -> Option<PageRange> {
    PageRange::new(start, (end - start) / PAGE_LEN)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_a_set_of_pages_in_as_few_runs_as_can_be(
            steps in prop::collection::vec((0usize..30, 1usize..6), 0..60),
        ) {
            let mut mapped = Mapped::default();
            let mut model: BTreeSet<usize> = BTreeSet::new();
            for (page, pages) in steps {
                let range = PageRange::new(page * PAGE_LEN, pages).unwrap();
                let there = (page..page + pages).filter(|page| model.contains(page)).count();
                prop_assert_eq!(mapped.encloses(range), there == pages);
                prop_assert!(mapped.reserve());
                if there == 0 {
                    mapped.add(range);
                    model.extend(page..page + pages);
                } else if there == pages {
                    mapped.remove(range);
                    model.retain(|other| !(page..page + pages).contains(other));
                }
                let pages: Vec<usize> = model.iter().copied().collect();
                let runs = pages.chunk_by(|before, after| before + 1 == *after);
                let runs = runs.map(|run| PageRange::new(run[0] * PAGE_LEN, run.len()).unwrap());
                prop_assert!(runs.eq(mapped.runs.iter().copied()));
            }
        }
    }
}
