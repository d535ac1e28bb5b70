//! Finds the modified pages of a span: which of its 512 page-table entries have the hardware's dirty bit.
//!
//! The 4 KiB of a table hold 512 of these bits; a vector register gathers four or eight of them at once. An emulator
//! may be slower with vectors than without, so that the choice is by trial and not by what the processor says.

use core::arch::x86_64::{
    __cpuid, __cpuid_count, __m256i, __m512i, _mm256_castsi256_pd, _mm256_loadu_si256, _mm256_movemask_pd,
    _mm256_slli_epi64, _mm512_loadu_si512, _mm512_set1_epi64, _mm512_test_epi64_mask,
};

use crate::page_set::{PageSet, SPAN_PAGES};

/// The dirty bit of a page-table entry.
pub const DIRTY: u64 = 1 << DIRTY_SHIFT;
const DIRTY_SHIFT: u32 = 6;

/// A page table, as the processor sees it.
pub type Entries = [u64; SPAN_PAGES];

/// How a table is scanned. Only [`candidates`] makes those that need more than every x86-64 has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan(Way);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Entry by entry.
    Scalar,
    /// Four entries at a time.
    Avx2,
    /// Eight entries at a time.
    Avx512,
}

/// All ways that work here. `states_enabled` is the low half of XCR0, the register states that the system has switched
/// on; 0 if it has none.
pub fn candidates(states_enabled: u32) -> impl Iterator<Item = Scan> {
    const YMM: u32 = 0b110;
    const ZMM: u32 = 0b1110_0110;
    const LEAF7_AVX2: u32 = 1 << 5;
    const LEAF7_AVX512F: u32 = 1 << 16;
    let leaf7 = if __cpuid(0).eax >= 7 {
        __cpuid_count(7, 0).ebx
    } else {
        0
    };
    let has = |states: u32, feature: u32| states_enabled & states == states && leaf7 & feature != 0;
    [
        Some(Way::Scalar),
        has(YMM, LEAF7_AVX2).then_some(Way::Avx2),
        has(ZMM, LEAF7_AVX512F).then_some(Way::Avx512),
    ]
    .into_iter()
    .flatten()
    .map(Scan)
}

impl Scan {
    /// The one that works everywhere.
    pub const SCALAR: Scan = Scan(Way::Scalar);

    /// The pages whose entries have the dirty bit. The upper halves of the vector registers are lost: whoever is
    /// interrupted by this must not rely on them.
    #[inline]
    pub fn dirty(self, entries: &Entries) -> PageSet {
        match self.0 {
            Way::Scalar => scalar(entries),
            // SAFETY: `candidates` has seen that processor and system have it.
            Way::Avx2 => unsafe { avx2(entries) },
            // SAFETY: as above.
            Way::Avx512 => unsafe { avx512(entries) },
        }
    }
}

fn scalar(entries: &Entries) -> PageSet {
    let mut words = [0; SPAN_PAGES / 64];
    for (word, entries) in words.iter_mut().zip(entries.as_chunks::<64>().0) {
        for (index, eight) in entries.as_chunks::<8>().0.iter().enumerate() {
            // Most neighbours are clean together.
            if eight.iter().fold(0, |all, entry| all | entry) & DIRTY != 0 {
                let bits = eight
                    .iter()
                    .rev()
                    .fold(0, |bits, entry| bits << 1 | entry >> DIRTY_SHIFT & 1);
                *word |= bits << (8 * index);
            }
        }
    }
    PageSet::from_words(words)
}

#[target_feature(enable = "avx2")]
fn avx2(entries: &Entries) -> PageSet {
    let mut words = [0; SPAN_PAGES / 64];
    for (word, entries) in words.iter_mut().zip(entries.as_chunks::<64>().0) {
        for (index, four) in entries.as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: four entries are as long as the register, and an unaligned load takes any address.
            let four = unsafe { _mm256_loadu_si256(four.as_ptr().cast::<__m256i>()) };
            // The dirty bit becomes the sign, and the signs are gathered.
            let signs = _mm256_slli_epi64::<{ 63 - DIRTY_SHIFT as i32 }>(four);
            *word |= (_mm256_movemask_pd(_mm256_castsi256_pd(signs)) as u64) << (4 * index);
        }
    }
    PageSet::from_words(words)
}

#[target_feature(enable = "avx512f")]
fn avx512(entries: &Entries) -> PageSet {
    let mut words = [0; SPAN_PAGES / 64];
    let bit = _mm512_set1_epi64(DIRTY as i64);
    for (word, entries) in words.iter_mut().zip(entries.as_chunks::<64>().0) {
        for (index, eight) in entries.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: eight entries are as long as the register, and an unaligned load takes any address.
            let eight = unsafe { _mm512_loadu_si512(eight.as_ptr().cast::<__m512i>()) };
            *word |= u64::from(_mm512_test_epi64_mask(eight, bit)) << (8 * index);
        }
    }
    PageSet::from_words(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All ways of the host, whose system says itself what it has switched on.
    fn of_the_host() -> impl Iterator<Item = Scan> {
        let ymm = std::arch::is_x86_feature_detected!("avx2");
        let zmm = std::arch::is_x86_feature_detected!("avx512f");
        candidates(if zmm {
            0xe7
        } else if ymm {
            0x7
        } else {
            0x3
        })
    }

    proptest! {
        #[test]
        fn every_way_finds_what_the_model_finds(seed in any::<u64>(), density in 0_u32..=64) {
            let mut entries = [0; SPAN_PAGES];
            let mut state = seed | 1;
            for entry in &mut entries {
                state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ seed;
                // Every other bit is noise, the dirty bit as dense as asked for.
                *entry = state & !DIRTY | if (state >> 58) as u32 >= density { 0 } else { DIRTY };
            }
            let mut model = PageSet::EMPTY;
            (0..SPAN_PAGES).filter(|page| entries[*page] & DIRTY != 0).for_each(|page| model.insert(page));
            for scan in of_the_host() {
                prop_assert_eq!(scan.dirty(&entries), model, "{:?}", scan);
            }
        }
    }

    #[test]
    fn without_the_system_there_are_no_vectors() {
        assert_eq!(candidates(0).collect::<Vec<_>>(), [Scan::SCALAR]);
    }
}
