//! How long an encoded checkpoint is: a check that it holds the pages that were modified, no fewer and no more.
//!
//! Exact to a page as long as all headers together are shorter than one, that is up to some 480 pages; beyond it to 0.2 %.

use hs_core::format::BUFFER_BYTES;
use hs_core::platform::PAGE_LEN;

/// Most bytes that a page costs besides its contents: as a run of its own.
const RUN_LEN: usize = 8;
/// Most bytes that each piece of a checkpoint costs besides: a section's header.
const SECTION_LEN: usize = 8;
/// Most bytes that the number of pages in the header may be longer.
const COUNT_LEN: usize = 9;

/// Whether `bytes` more than a checkpoint without any pages has can be `pages` pages, none of them all zero.
pub fn fit(pages: usize, bytes: u64) -> bool {
    let contents = (pages * PAGE_LEN) as u64;
    let pieces = (pages * PAGE_LEN).div_ceil(BUFFER_BYTES - 3 * PAGE_LEN) + 1;
    let headers = (pages * RUN_LEN + pieces * SECTION_LEN + COUNT_LEN) as u64;
    (contents..=contents + headers).contains(&bytes)
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;
    use core::convert::Infallible;

    use hs_core::format::{CheckpointId, Encoder, Header, Kind, Tables};
    use hs_core::role::Term;
    use proptest::prelude::*;

    use super::*;
    use crate::pattern;

    const WINDOW_START: usize = 1 << 40;

    /// Length of a checkpoint of these pages.
    fn encoded(pages: &[usize]) -> u64 {
        let header = Header {
            build_id: [7; 20],
            application: 1,
            term: Term::FIRST,
            id: CheckpointId {
                generation: 1,
                increment: 0,
            },
            kind: Kind::Full,
            window_start: WINDOW_START as u64,
            window_pages: 1 << 20,
            threads: 0,
            descriptors: 0,
            signals: 0,
            areas: 0,
            pages: pages.len() as u64,
        };
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut flush = |_: &[u8]| Ok::<(), Infallible>(());
        let mut encoder = Encoder::begin(&mut buffer, &mut flush, &header, &Tables::default()).unwrap();
        for page in pages {
            let filled = encoder.page(WINDOW_START + page * PAGE_LEN, |bytes| {
                bytes.fill(1);
                Ok(())
            });
            filled.unwrap();
        }
        encoder.end().unwrap()
    }

    proptest! {
        #[test]
        fn the_pages_fit_and_one_more_or_less_does_not(count in 0_usize..400, contiguity in 1_usize..30, gaps in any::<bool>()) {
            let among = if gaps { 2 * count } else { count };
            let pages: Vec<usize> = pattern::spread(among, count, contiguity);
            let bytes = encoded(&pages) - encoded(&[]);
            prop_assert!(fit(count, bytes));
            prop_assert!(!fit(count + 1, bytes));
            prop_assert!(count == 0 || !fit(count - 1, bytes));
        }
    }
}
