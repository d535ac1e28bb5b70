//! When each slot has something to do next, by itself.
//!
//! A tree of the earliest: a leaf for each slot, and in each node above the earlier of the two below. Asking for the first is
//! one look, a change a walk to the root that ends where nothing changes.

use allocator_api2::alloc::Allocator;

use super::{ServiceError, leak};

/// A slot that has nothing to do by itself.
pub(super) const NEVER_US: i64 = i64::MAX;

/// The moments, on the stack's clock in microseconds.
#[derive(Debug)]
pub(super) struct Timers {
    /// The root is at 1, the children of `n` at `2 n` and `2 n + 1`; the leaves are the second half.
    tree: &'static mut [i64],
}

/// Length of the tree for so many slots.
pub(super) const fn tree_len(slots: usize) -> usize {
    2 * slots.next_power_of_two()
}

impl Timers {
    /// With nothing to do for any of `slots`.
    pub(super) fn create<A: Allocator + Clone + 'static>(
        allocator: &A,
        slots: usize,
    ) -> Result<Self, ServiceError> {
        let tree = leak(tree_len(slots), allocator, |_| Ok(NEVER_US))?;
        Ok(Self { tree })
    }

    fn leaf(&self, slot: u16) -> usize {
        self.tree.len() / 2 + usize::from(slot)
    }

    /// The moment that is noted for `slot`.
    #[cfg(test)]
    pub(super) fn of(&self, slot: u16) -> i64 {
        self.tree[self.leaf(slot)]
    }

    /// The earliest moment of all; [`NEVER_US`] if there is none.
    pub(super) fn first_us(&self) -> i64 {
        self.tree[1]
    }

    /// Notes that `slot` has something to do at `at_us`, unless it has something earlier: who comes at a moment that has
    /// been put off since finds nothing, and asks anew. A busy slot's moment moves with each segment; this way the tree does not.
    pub(super) fn advance(&mut self, slot: u16, at_us: i64) {
        if at_us < self.tree[self.leaf(slot)] {
            self.set(slot, at_us);
        }
    }

    /// Sets `slot`'s moment.
    pub(super) fn set(&mut self, slot: u16, at_us: i64) {
        let mut node = self.leaf(slot);
        self.tree[node] = at_us;
        while node > 1 {
            node /= 2;
            let earlier = self.tree[2 * node].min(self.tree[2 * node + 1]);
            if self.tree[node] == earlier {
                return;
            }
            self.tree[node] = earlier;
        }
    }

    /// A slot whose moment has come. It has none afterwards.
    pub(super) fn take_due(&mut self, now_us: i64) -> Option<u16> {
        let first_us = self.first_us();
        if first_us == NEVER_US || first_us > now_us {
            return None;
        }
        let leaves = self.tree.len() / 2;
        let mut node = 1;
        while node < leaves {
            node *= 2;
            if self.tree[node] != first_us {
                node += 1;
            }
        }
        let slot = (node - leaves) as u16;
        self.set(slot, NEVER_US);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use allocator_api2::alloc::Global;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(usize, i64),
        Advance(usize, i64),
        Never(usize),
        Take(i64),
    }

    fn step(slots: usize) -> impl Strategy<Value = Step> {
        let us = 0i64..100;
        prop_oneof![
            2 => (0..slots, us.clone()).prop_map(|(slot, at)| Step::Set(slot, at)),
            2 => (0..slots, us.clone()).prop_map(|(slot, at)| Step::Advance(slot, at)),
            1 => (0..slots).prop_map(Step::Never),
            2 => us.prop_map(Step::Take),
        ]
    }

    fn steps() -> impl Strategy<Value = (usize, Vec<Step>)> {
        (1usize..20).prop_flat_map(|slots| (Just(slots), prop::collection::vec(step(slots), 1..200)))
    }

    proptest! {
        /// Against a list of moments: the first is the least, and who is taken is one of the first.
        #[test]
        fn the_first_comes_first((slots, steps) in steps()) {
            let mut timers = Timers::create(&Global, slots).unwrap();
            let mut model = vec![NEVER_US; slots];
            for step in steps {
                match step {
                    Step::Set(slot, at_us) => {
                        timers.set(slot as u16, at_us);
                        model[slot] = at_us;
                    }
                    Step::Advance(slot, at_us) => {
                        timers.advance(slot as u16, at_us);
                        model[slot] = model[slot].min(at_us);
                    }
                    Step::Never(slot) => {
                        timers.set(slot as u16, NEVER_US);
                        model[slot] = NEVER_US;
                    }
                    Step::Take(now_us) => {
                        let first_us = model.iter().copied().min().unwrap();
                        match timers.take_due(now_us) {
                            None => prop_assert!(first_us > now_us),
                            Some(slot) => {
                                prop_assert!(first_us <= now_us);
                                prop_assert_eq!(model[usize::from(slot)], first_us);
                                model[usize::from(slot)] = NEVER_US;
                            }
                        }
                    }
                }
                prop_assert_eq!(timers.first_us(), model.iter().copied().min().unwrap());
            }
        }
    }
}
