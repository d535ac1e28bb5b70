//! Which slots are anybody's: for the few times that all connections are gone through, at a takeover above all. Entries are
//! large and far apart, and most are free.

use allocator_api2::alloc::Allocator;

use super::{ServiceError, leak};

/// A bit for each slot, in the stack's class.
#[derive(Debug)]
pub(super) struct Occupied {
    words: &'static mut [u64],
}

impl Occupied {
    /// All of `slots` are free.
    pub(super) fn create<A: Allocator + Clone + 'static>(
        allocator: &A,
        slots: usize,
    ) -> Result<Self, ServiceError> {
        let words = leak(slots.div_ceil(64), allocator, |_| Ok(0))?;
        Ok(Self { words })
    }

    pub(super) fn set(&mut self, slot: u16, occupied: bool) {
        let (word, bit) = (usize::from(slot) / 64, 1 << (slot % 64));
        match occupied {
            true => self.words[word] |= bit,
            false => self.words[word] &= !bit,
        }
    }

    /// The first slot that is not free, from `from` on.
    pub(super) fn next(&self, from: u16) -> Option<u16> {
        let first = usize::from(from) / 64;
        let word = |index: usize| match index == first {
            true => self.words[index] & (u64::MAX << (from % 64)),
            false => self.words[index],
        };
        let index = (first..self.words.len()).find(|index| word(*index) != 0)?;
        Some((index * 64) as u16 + word(index).trailing_zeros() as u16)
    }

    /// All slots that are not free.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> {
        core::iter::successors(self.next(0), |slot| self.next(slot.checked_add(1)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use allocator_api2::alloc::Global;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(slots in 1u16..200, steps in prop::collection::vec((any::<u16>(), any::<bool>()), 0..300)) {
            let mut occupied = Occupied::create(&Global, slots.into()).unwrap();
            let mut model = BTreeSet::new();
            for (slot, is) in steps {
                let slot = slot % slots;
                occupied.set(slot, is);
                match is {
                    true => model.insert(slot),
                    false => model.remove(&slot),
                };
                prop_assert_eq!(occupied.next(slot), model.range(slot..).next().copied());
            }
            prop_assert_eq!(occupied.iter().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
        }
    }
}
