//! What the kernel computes without touching the machine, so that tests and benchmarks on the host run the same code.
//!
//! [`PageSet`] is a set of pages of one span; [`scan`] finds the modified pages among a span's page-table entries;
//! [`copy`] copies a page. The latter two come in several variants, because what is fastest differs by an order of
//! magnitude between an emulator and a real processor: [`fastest`] chooses by trying.
//!
//! Deliberately absent: hardware, clocks, allocation.
#![cfg_attr(not(test), no_std)]

pub mod copy;
mod page_set;
pub mod scan;

pub use page_set::{PageSet, SPAN_PAGES};

/// How often each candidate is tried by [`fastest`].
const TRIES: usize = 9;

/// The candidate that takes the least time, by its best of several tries: what disturbs a try only makes it longer.
/// `time` runs one and returns how long it took, in any unit. `None` without candidates.
pub fn fastest<C: Copy>(candidates: impl Iterator<Item = C>, mut time: impl FnMut(C) -> u64) -> Option<C> {
    candidates.min_by_key(|candidate| (0..TRIES).map(|_| time(*candidate)).min())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_fastest_by_its_best_try_is_chosen() {
        let mut noise = 0;
        let chosen = super::fastest([30, 10, 20].into_iter(), |candidate| {
            noise = (noise + 7) % 50;
            candidate + noise / 10 * 10
        });
        assert_eq!(chosen, Some(10));
    }
}
