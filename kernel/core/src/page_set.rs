//! A set of pages of one span: one bit for each of its 512 entries.

use core::ops::{BitAnd, BitOr, BitOrAssign, Range, Sub, SubAssign};

/// Pages of a span, and entries of a page table.
pub const SPAN_PAGES: usize = 512;

const WORD_BITS: usize = 64;
const WORDS: usize = SPAN_PAGES / WORD_BITS;

/// A set of pages of one span, each by its number from 0 to 511.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct PageSet([u64; WORDS]);

impl PageSet {
    /// No page.
    pub const EMPTY: PageSet = PageSet([0; WORDS]);

    /// The pages whose bits are set: page 0 is the lowest bit of the first word.
    pub const fn from_words(words: [u64; WORDS]) -> Self {
        PageSet(words)
    }

    /// The pages of `range`.
    pub fn range(range: Range<usize>) -> PageSet {
        let mut set = PageSet::EMPTY;
        for (index, word) in set.0.iter_mut().enumerate() {
            let first = range.start.saturating_sub(index * WORD_BITS).min(WORD_BITS);
            let end = range.end.saturating_sub(index * WORD_BITS).min(WORD_BITS);
            if first < end {
                *word = (u64::MAX >> (WORD_BITS - (end - first))) << first;
            }
        }
        set
    }

    /// Every `step`-th page from `first` on, where `step` divides 64.
    ///
    /// # Panics
    /// If it does not, or `first` is not below it.
    pub const fn every(step: usize, first: usize) -> PageSet {
        assert!(
            WORD_BITS.is_multiple_of(step) && first < step,
            "the pattern is the same in each word"
        );
        let mut word = 0;
        let mut bit = first;
        while bit < WORD_BITS {
            word |= 1 << bit;
            bit += step;
        }
        PageSet([word; WORDS])
    }

    /// Whether `page` is in the set.
    ///
    /// # Panics
    /// If there is no such page in a span, here and below.
    pub const fn contains(&self, page: usize) -> bool {
        self.0[page / WORD_BITS] >> (page % WORD_BITS) & 1 != 0
    }

    /// Adds `page`.
    pub const fn insert(&mut self, page: usize) {
        self.0[page / WORD_BITS] |= 1 << (page % WORD_BITS);
    }

    /// Takes `page` out.
    pub const fn remove(&mut self, page: usize) {
        self.0[page / WORD_BITS] &= !(1 << (page % WORD_BITS));
    }

    /// Whether there is no page in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().fold(0, |all, word| all | word) == 0
    }

    /// How many pages.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The pages, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        let mut words = self.0;
        let mut word = 0;
        core::iter::from_fn(move || {
            while words[word] == 0 {
                if word + 1 == WORDS {
                    return None;
                }
                word += 1;
            }
            let bit = words[word].trailing_zeros() as usize;
            words[word] &= words[word] - 1;
            Some(word * WORD_BITS + bit)
        })
    }

    /// Calls `with` for each page, ascending: [`iter`](PageSet::iter) for where each instruction counts.
    #[inline]
    pub fn for_each(&self, mut with: impl FnMut(usize)) {
        for (index, word) in self.0.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                // The compiler sees that this is below 512.
                with(index * WORD_BITS + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
    }

    /// The pages as runs of neighbours, ascending, each as long as can be.
    pub fn runs(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let mut pages = self.iter().peekable();
        core::iter::from_fn(move || {
            let first = pages.next()?;
            let mut end = first + 1;
            while pages.next_if_eq(&end).is_some() {
                end += 1;
            }
            Some(first..end)
        })
    }

    /// The first `count` pages, or all if there are fewer.
    pub fn first(&self, count: usize) -> PageSet {
        let mut first = *self;
        let mut left = count;
        for word in &mut first.0 {
            let here = word.count_ones() as usize;
            if here > left {
                let mut kept = 0;
                for _ in 0..left {
                    kept |= *word & word.wrapping_neg();
                    *word &= *word - 1;
                }
                *word = kept;
            }
            left = left.saturating_sub(here);
        }
        first
    }

    /// The pages above `page`.
    pub fn after(&self, page: usize) -> PageSet {
        let mut after = *self;
        let word = page / WORD_BITS;
        after.0[..word].fill(0);
        after.0[word] &= (!0 << (page % WORD_BITS)) & !(1 << (page % WORD_BITS));
        after
    }

    fn zip(self, other: PageSet, combine: impl Fn(u64, u64) -> u64) -> PageSet {
        let mut words = self.0;
        for (word, other) in words.iter_mut().zip(other.0) {
            *word = combine(*word, other);
        }
        PageSet(words)
    }
}

impl BitOr for PageSet {
    type Output = PageSet;

    fn bitor(self, other: PageSet) -> PageSet {
        self.zip(other, |a, b| a | b)
    }
}

impl BitAnd for PageSet {
    type Output = PageSet;

    fn bitand(self, other: PageSet) -> PageSet {
        self.zip(other, |a, b| a & b)
    }
}

impl Sub for PageSet {
    type Output = PageSet;

    fn sub(self, other: PageSet) -> PageSet {
        self.zip(other, |a, b| a & !b)
    }
}

impl BitOrAssign for PageSet {
    fn bitor_assign(&mut self, other: PageSet) {
        *self = *self | other;
    }
}

impl SubAssign for PageSet {
    fn sub_assign(&mut self, other: PageSet) {
        *self = *self - other;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn set(pages: &BTreeSet<usize>) -> PageSet {
        let mut set = PageSet::EMPTY;
        pages.iter().for_each(|page| set.insert(*page));
        set
    }

    /// Few pages, or all but few.
    fn pages() -> impl Strategy<Value = BTreeSet<usize>> {
        (btree_set(0..SPAN_PAGES, 0..40), any::<bool>()).prop_map(|(few, all_but)| {
            if all_but {
                (0..SPAN_PAGES).filter(|page| !few.contains(page)).collect()
            } else {
                few
            }
        })
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(a in pages(), b in pages(), page in 0..SPAN_PAGES, count in 0..600_usize) {
            let (x, y) = (set(&a), set(&b));
            prop_assert_eq!(x.len(), a.len());
            prop_assert_eq!(x.is_empty(), a.is_empty());
            prop_assert_eq!(x.contains(page), a.contains(&page));
            prop_assert_eq!(x.iter().collect::<Vec<_>>(), a.iter().copied().collect::<Vec<_>>());
            let mut each = Vec::new();
            x.for_each(|page| each.push(page));
            prop_assert_eq!(each, a.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(x | y, set(&(&a | &b)));
            prop_assert_eq!(x & y, set(&(&a & &b)));
            prop_assert_eq!(x - y, set(&(&a - &b)));
            prop_assert_eq!(x.after(page), set(&a.iter().copied().filter(|other| *other > page).collect()));
            prop_assert_eq!(x.first(count), set(&a.iter().copied().take(count).collect()));
            let mut without = x;
            without.remove(page);
            prop_assert!(!without.contains(page));
            prop_assert_eq!(without.len(), a.len() - usize::from(a.contains(&page)));
        }

        #[test]
        fn every_page_of_a_step_is_in_it(step in 0_u32..7, first in 0..64_usize, page in 0..SPAN_PAGES) {
            let step = 1 << step;
            prop_assert_eq!(PageSet::every(step, first % step).contains(page), page % step == first % step);
        }

        #[test]
        fn a_range_holds_its_pages(start in 0..=SPAN_PAGES, len in 0..=SPAN_PAGES) {
            let range = start..(start + len).min(SPAN_PAGES);
            prop_assert_eq!(PageSet::range(range.clone()), set(&range.collect()));
        }

        #[test]
        fn runs_are_maximal_and_hold_every_page(pages in pages()) {
            let runs: Vec<_> = set(&pages).runs().collect();
            prop_assert_eq!(runs.iter().cloned().flatten().collect::<BTreeSet<_>>(), pages);
            prop_assert!(runs.iter().all(|run| !run.is_empty()));
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
