//! Which pages are modified between two checkpoints: a share of all pages, in runs, evenly spread.
//!
//! The thesis's "contiguousness factor" (table 6-1): so many neighbouring pages modified, then some skipped, until the
//! share is reached. Always the same pages, so that rounds can be compared.

/// Numbers of the modified pages among `pages`, ascending: `percent` of them (at least one), in runs of `contiguity` with the
/// clean pages spread evenly behind the runs. The last run is shorter where the share does not divide.
///
/// # Panics
/// If there are no pages, no contiguity, or more than 100 percent.
pub(crate) fn dirty_pages(pages: usize, percent: u32, contiguity: usize) -> Vec<usize> {
    assert!(pages > 0 && contiguity > 0 && percent <= 100);
    let dirty = (pages * percent as usize).div_ceil(100).max(1);
    let (clean, runs) = (pages - dirty, dirty.div_ceil(contiguity));
    (0..dirty)
        .map(|nth| nth + clean * (nth / contiguity) / runs)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tenth_in_runs_of_four() {
        let pages = dirty_pages(80, 10, 4);
        assert_eq!(pages, [0, 1, 2, 3, 40, 41, 42, 43]);
        assert_eq!(dirty_pages(10, 100, 4), (0..10).collect::<Vec<_>>());
        assert_eq!(dirty_pages(256, 1, 4), [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn the_share_is_kept_and_spread(pages in 1_usize..5000, percent in 0_u32..=100, contiguity in 1_usize..40) {
            let dirty = dirty_pages(pages, percent, contiguity);
            prop_assert_eq!(dirty.len(), (pages * percent as usize).div_ceil(100).max(1));
            prop_assert!(dirty.is_sorted_by(|a, b| a < b));
            prop_assert!(*dirty.last().unwrap() < pages);
            // Runs are as long as they should be, and what is skipped between them differs by a page at most.
            let mut skipped = Vec::new();
            for (nth, pair) in dirty.windows(2).enumerate() {
                if (nth + 1) % contiguity == 0 {
                    skipped.push(pair[1] - pair[0] - 1);
                } else {
                    prop_assert_eq!(pair[0] + 1, pair[1]);
                }
            }
            let least = skipped.iter().min().copied().unwrap_or(0);
            prop_assert!(skipped.iter().all(|count| *count <= least + 1), "{:?}", skipped);
        }
    }
}
