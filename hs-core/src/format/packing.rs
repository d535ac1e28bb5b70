//! Pages as LZ4 blocks: each a block of its own, without a dictionary, in the format of LZ4's own specification.
//!
//! A choice of the master's. A spare takes both kinds of page, whatever it was told itself.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use super::difference::BODY_LEN_MAX;
use crate::platform::PAGE_LEN;

/// How page contents are compressed that are sent whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As LZ4 blocks, where that is shorter.
    Lz4,
}

/// Room for a block before it is known to be short enough.
pub(super) const BLOCK_ROOM: usize = get_maximum_output_size(PAGE_LEN);

/// Makes LZ4 blocks of pages.
pub struct Packer {
    /// Where in a page four bytes were seen: made once, 8 KiB.
    seen: CompressTable,
}

impl Packer {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self {
            seen: CompressTable::small(),
        }
    }

    /// Makes a block of `page` in `into`. Returns its length, or `None` if it is not shorter than the page.
    pub fn pack(&mut self, page: &[u8; PAGE_LEN], into: &mut [u8]) -> Option<usize> {
        let len = compress_into_with_table(page, into, &mut self.seen).ok()?;
        (len <= BODY_LEN_MAX).then_some(len)
    }
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes the page of `block` again; `false` if it is no block of exactly one page.
pub(super) fn unpack(block: &[u8], page: &mut [u8]) -> bool {
    decompress_into(block, page).is_ok_and(|len| len == PAGE_LEN)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_page_comes_back(
            pattern in prop::collection::vec(any::<u8>(), 1..300),
            noise in prop::collection::vec((0..PAGE_LEN, any::<u8>()), 0..200),
        ) {
            let mut page: [u8; PAGE_LEN] = core::array::from_fn(|index| pattern[index % pattern.len()]);
            for (at, byte) in noise {
                page[at] = byte;
            }
            let mut block = vec![0; BLOCK_ROOM];
            if let Some(len) = Packer::new().pack(&page, &mut block) {
                let mut again = [1; PAGE_LEN];
                prop_assert!(unpack(&block[..len], &mut again));
                prop_assert!(again == page);
                prop_assert!(!unpack(&block[..len - 1], &mut again), "cut off");
            }
        }

        #[test]
        fn any_bytes_are_refused_or_a_page(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = unpack(&bytes, &mut [0; PAGE_LEN]);
        }
    }

    #[test]
    fn a_page_of_noise_is_not_packed() {
        let mut state = 1_u64;
        let page = core::array::from_fn(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        });
        let mut block = vec![0; BLOCK_ROOM];
        assert_eq!(Packer::new().pack(&page, &mut block), None);
        let text = core::array::from_fn(|index| b"a row of a table, "[index % 18]);
        assert!(Packer::new().pack(&text, &mut block).unwrap() < 100);
    }

    #[test]
    fn a_block_of_another_length_is_refused() {
        // Five literals.
        assert!(!unpack(&[0x50, 1, 2, 3, 4, 5], &mut [0; PAGE_LEN]));
        assert!(!unpack(&[], &mut [0; PAGE_LEN]));
    }
}
