//! What became different in a page, against the page as the spare will have it.
//!
//! ```text
//! segment   first word u16 │ words u16 │ the words themselves, 8 bytes each        as many as it takes, perhaps none
//! ```
//!
//! Words are the page's 512 aligned ones of 8 bytes: what a program changes are mostly words, and a difference is found in
//! one pass. A word that did not change is never sent: between two segments lies at least one, so that a difference has
//! one form only.

use super::section::{u16_at, u64_at};
use crate::platform::PAGE_LEN;

const WORD_LEN: usize = 8;
const WORDS: usize = PAGE_LEN / WORD_LEN;
const SEGMENT_HEADER_LEN: usize = 4;
/// Words that are looked at together.
const LINE_LEN: usize = 64;

/// Most bytes of a body that stands for a page: with its length before it, it is shorter than the page.
pub(super) const BODY_LEN_MAX: usize = PAGE_LEN - 4;

/// A difference that is sound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Difference<'a> {
    bytes: &'a [u8],
}

impl<'a> Difference<'a> {
    /// The difference in `bytes`, if they are one: its segments lie in the page, ascend, and do not touch.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (mut at, mut next) = (0, 0);
        while at < bytes.len() {
            let header = bytes.get(at..at + SEGMENT_HEADER_LEN)?;
            let (first, words) = (usize::from(u16_at(header, 0)), usize::from(u16_at(header, 2)));
            let end = first + words;
            if first < next || words == 0 || end > WORDS {
                return None;
            }
            next = end + 1;
            at += SEGMENT_HEADER_LEN + words * WORD_LEN;
        }
        (at == bytes.len() && at <= BODY_LEN_MAX).then_some(Self { bytes })
    }

    /// As it is sent.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its segments: where in the page each belongs, in bytes, and what.
    pub fn segments(&self) -> impl Iterator<Item = (usize, &'a [u8])> {
        let mut rest = self.bytes;
        core::iter::from_fn(move || {
            let (header, after) = rest.split_at_checked(SEGMENT_HEADER_LEN)?;
            let (offset, len) = (
                usize::from(u16_at(header, 0)) * WORD_LEN,
                usize::from(u16_at(header, 2)) * WORD_LEN,
            );
            let (words, after) = after.split_at(len);
            rest = after;
            Some((offset, words))
        })
    }

    /// Makes of the page that it is a difference to the one that was sent.
    pub fn apply(&self, page: &mut [u8; PAGE_LEN]) {
        for (offset, words) in self.segments() {
            page[offset..offset + words.len()].copy_from_slice(words);
        }
    }
}

/// Makes `old` equal to `new`, and says in `into` how. Returns the difference's length, or `None` if it is not shorter than
/// the page.
///
/// One pass, and no word of `old` is written that did not change. With integer instructions: vector ones are slow under
/// emulation.
pub fn bring_up_to_date(old: &mut [u8; PAGE_LEN], new: &[u8; PAGE_LEN], into: &mut [u8]) -> Option<usize> {
    let room = into.len().min(BODY_LEN_MAX);
    // Of the open segment: where its header is, and the word after its last.
    let (mut len, mut open) = (0, None::<(usize, usize)>);
    for line in (0..PAGE_LEN).step_by(LINE_LEN) {
        let (before, after) = (&mut old[line..line + LINE_LEN], &new[line..line + LINE_LEN]);
        let differ = (before.chunks_exact(WORD_LEN).zip(after.chunks_exact(WORD_LEN)))
            .fold(0, |all, (before, after)| {
                all | (u64_at(before, 0) ^ u64_at(after, 0))
            });
        if differ == 0 {
            continue;
        }
        let words = before
            .chunks_exact_mut(WORD_LEN)
            .zip(after.chunks_exact(WORD_LEN));
        for (index, (before, after)) in words.enumerate() {
            if before == after {
                continue;
            }
            before.copy_from_slice(after);
            let word = line / WORD_LEN + index;
            let header = match open {
                Some((header, end)) if end == word => header,
                _ => {
                    let header = len;
                    len += SEGMENT_HEADER_LEN;
                    header
                }
            };
            if len + WORD_LEN > room {
                // The page itself is shorter.
                old[line..].copy_from_slice(&new[line..]);
                return None;
            }
            into[len..len + WORD_LEN].copy_from_slice(after);
            len += WORD_LEN;
            if header + SEGMENT_HEADER_LEN + WORD_LEN == len {
                into[header..header + 2].copy_from_slice(&(word as u16).to_le_bytes());
            }
            let words = (len - header - SEGMENT_HEADER_LEN) / WORD_LEN;
            into[header + 2..header + 4].copy_from_slice(&(words as u16).to_le_bytes());
            open = Some((header, word + 1));
        }
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn page(seed: u8) -> [u8; PAGE_LEN] {
        core::array::from_fn(|index| (index as u8).wrapping_mul(31) ^ seed)
    }

    /// The segments of the words that differ, found word by word.
    fn expected(old: &[u8; PAGE_LEN], new: &[u8; PAGE_LEN]) -> Vec<(usize, Vec<u8>)> {
        let mut segments: Vec<(usize, Vec<u8>)> = Vec::new();
        for at in (0..PAGE_LEN).step_by(WORD_LEN) {
            let word = &new[at..at + WORD_LEN];
            if old[at..at + WORD_LEN] == *word {
                continue;
            }
            match segments.last_mut() {
                Some((offset, bytes)) if *offset + bytes.len() == at => bytes.extend_from_slice(word),
                _ => segments.push((at, word.to_vec())),
            }
        }
        segments
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_difference_makes_the_old_page_the_new_one(
            writes in prop::collection::vec((0..PAGE_LEN, 1_usize..600, any::<u8>()), 0..40),
        ) {
            let old = page(3);
            let mut new = old;
            for (at, len, byte) in writes {
                let end = (at + len).min(PAGE_LEN);
                new[at..end].fill(byte);
            }
            let (mut shadow, mut body) = (old, [0xee; PAGE_LEN]);
            let made = bring_up_to_date(&mut shadow, &new, &mut body);
            prop_assert!(shadow == new);
            let expected = expected(&old, &new);
            let len: usize = expected.iter().map(|(_, bytes)| SEGMENT_HEADER_LEN + bytes.len()).sum();
            prop_assert_eq!(made, (len <= BODY_LEN_MAX).then_some(len));
            if let Some(len) = made {
                let difference = Difference::new(&body[..len]).expect("what is made is sound");
                let segments: Vec<_> = difference.segments().map(|(at, bytes)| (at, bytes.to_vec())).collect();
                prop_assert_eq!(segments, expected);
                let mut spare = old;
                difference.apply(&mut spare);
                prop_assert!(spare == new);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_applied(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // Small numbers come further.
            bytes.iter_mut().skip(1).step_by(2).for_each(|byte| *byte %= 2);
            let mut target = page(1);
            if let Some(difference) = Difference::new(&bytes) {
                difference.apply(&mut target);
                prop_assert_eq!(difference.as_bytes(), &bytes[..]);
            }
        }
    }

    fn segment(first: u16, words: u16) -> Vec<u8> {
        let mut bytes = [first.to_le_bytes(), words.to_le_bytes()].concat();
        bytes.resize(SEGMENT_HEADER_LEN + usize::from(words) * WORD_LEN, 7);
        bytes
    }

    #[test]
    fn only_the_one_form_of_a_difference_is_sound() {
        let sound = [
            Vec::new(),
            segment(511, 1),
            segment(0, 511),
            [segment(0, 1), segment(2, 1)].concat(),
        ];
        for bytes in sound {
            assert!(Difference::new(&bytes).is_some(), "{bytes:?}");
        }
        let unsound = [
            segment(0, 0),
            segment(512, 1),
            segment(511, 2),
            segment(0, 512),
            segment(3, 1)[..11].to_vec(),
            segment(3, 1)[..3].to_vec(),
            [segment(0, 1), segment(1, 1)].concat(),
            [segment(2, 1), segment(0, 1)].concat(),
            [segment(2, 2), segment(3, 1)].concat(),
        ];
        for bytes in unsound {
            assert_eq!(Difference::new(&bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn what_did_not_change_is_an_empty_difference() {
        let (mut old, new, mut body) = (page(9), page(9), [0; PAGE_LEN]);
        assert_eq!(bring_up_to_date(&mut old, &new, &mut body), Some(0));
    }
}
