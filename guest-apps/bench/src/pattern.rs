//! Which pages are modified between two checkpoints: the thesis's "sets of four contiguous pages", spread evenly.
//!
//! ```text
//! ████······████·······████······████·······     10 of 100 pages and so on: runs of `contiguity` pages,
//! ╰run ╯╰gap─╯                                  the gaps between them as equal as whole pages allow
//! ```
//!
//! A pure function of three numbers, so that every series of an experiment modifies the same pages: the peers on Linux call it too.

use alloc::vec::Vec;

/// The numbers of `percent` of `pages` pages, rounded up: as [`spread`] has them.
///
/// # Panics
/// If `contiguity` is 0.
pub fn dirty_set(pages: usize, percent: usize, contiguity: usize) -> Vec<usize> {
    spread(pages, share(pages, percent), contiguity)
}

/// The numbers of `count` of `pages` pages, ascending, in runs of `contiguity` (the last may be shorter). All pages if there
/// are not so many.
///
/// # Panics
/// If `contiguity` is 0.
pub fn spread(pages: usize, count: usize, contiguity: usize) -> Vec<usize> {
    assert!(contiguity > 0, "a run has at least one page");
    let count = count.min(pages);
    let runs = count.div_ceil(contiguity).max(1);
    let clean = pages - count;
    (0..count)
        .map(|index| index + index / contiguity * clean / runs)
        .collect()
}

/// How many pages `percent` of `pages` are, rounded up: at least one if `percent` is not 0.
pub const fn share(pages: usize, percent: usize) -> usize {
    (pages * percent).div_ceil(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_are_whole_apart_and_evenly_spread(
            pages in 1_usize..5000,
            percent in 1_usize..=100,
            contiguity in 1_usize..30,
        ) {
            let count = share(pages, percent);
            prop_assert!(count <= pages && count * 100 >= pages * percent && (count - 1) * 100 < pages * percent);
            let chosen = dirty_set(pages, percent, contiguity);
            prop_assert_eq!(chosen.len(), count);
            prop_assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(chosen.iter().all(|page| *page < pages));
            let runs: Vec<&[usize]> = chosen.chunks(contiguity).collect();
            prop_assert!(runs.iter().all(|run| run[run.len() - 1] - run[0] == run.len() - 1));
            let gaps: Vec<usize> = runs.windows(2).map(|two| two[1][0] - two[0][contiguity - 1] - 1).collect();
            if let (Some(least), Some(most)) = (gaps.iter().min(), gaps.iter().max()) {
                prop_assert!(most - least <= 1, "gaps from {} to {}", least, most);
            }
        }
    }

    #[test]
    fn shares_are_rounded_up() {
        assert_eq!(share(1024, 10), 103);
        assert_eq!(share(256, 1), 3);
        assert_eq!(share(10, 1), 1);
        assert_eq!(share(10, 0), 0);
        assert_eq!(share(1024, 100), 1024);
    }

    #[test]
    fn everything_is_everything() {
        assert!(spread(10, 10, 4).into_iter().eq(0..10));
        assert_eq!(spread(10, 20, 4).len(), 10);
        assert_eq!(spread(100, 8, 4), [0, 1, 2, 3, 50, 51, 52, 53]);
        assert_eq!(spread(10, 0, 4), []);
        assert_eq!(dirty_set(20, 10, 1), [0, 10]);
    }
}
