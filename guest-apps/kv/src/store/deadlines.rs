//! Which key expires next: a binary heap whose entries know where in it they stand.
//!
//! Redis samples keys at random ten times a second to find expired ones. The heap names them exactly, costs
//! nothing while none is due, and tells an idle server how long it may sleep.

use allocator_api2::vec::Vec;
use core::mem::size_of;

use super::OutOfMemory;
use super::slots::SlotIndex;
use crate::Memory;

/// What an entry remembers of the heap: its place, or none.
pub(super) type Place = Option<u32>;

/// Where the owner keeps each slot's place.
pub(super) trait Places {
    /// The slot now stands there.
    fn set_place(&mut self, slot: SlotIndex, place: Place);
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at_ms: u64,
    slot: SlotIndex,
}

/// The deadlines of all slots that have one, in milliseconds since 1970.
#[derive(Debug)]
pub(super) struct Deadlines<A: Memory> {
    heap: Vec<Due, A>,
}

impl<A: Memory> Deadlines<A> {
    pub(super) const fn new(memory: A) -> Self {
        Self {
            heap: Vec::new_in(memory),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.heap.capacity() * size_of::<Due>()
    }

    /// The next to expire.
    pub(super) fn first(&self) -> Option<(u64, SlotIndex)> {
        self.heap.first().map(|due| (due.at_ms, due.slot))
    }

    pub(super) fn at_ms(&self, place: Place) -> Option<u64> {
        Some(self.heap[place? as usize].at_ms)
    }

    /// Makes sure that one more can be set.
    pub(super) fn reserve(&mut self) -> Result<(), OutOfMemory> {
        Ok(self.heap.try_reserve(1)?)
    }

    /// Gives `slot`, which stands at `place`, another deadline or its first. For the first there must be room.
    pub(super) fn set(&mut self, slot: SlotIndex, place: Place, at_ms: u64, places: &mut impl Places) {
        let at = match place {
            Some(at) => {
                self.heap[at as usize].at_ms = at_ms;
                at as usize
            }
            None => {
                assert!(self.heap.len() < self.heap.capacity(), "room was reserved");
                self.heap.push(Due { at_ms, slot });
                self.heap.len() - 1
            }
        };
        self.settle(at, places);
    }

    /// Takes away the deadline at `place`, if there is one.
    pub(super) fn remove(&mut self, place: Place, places: &mut impl Places) {
        let Some(at) = place else { return };
        let removed = self.heap.swap_remove(at as usize);
        places.set_place(removed.slot, None);
        if (at as usize) < self.heap.len() {
            self.settle(at as usize, places);
        } else if self.heap.is_empty() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.heap.allocator().clone());
    }

    /// Moves what stands at `at` up or down to where it belongs.
    fn settle(&mut self, mut at: usize, places: &mut impl Places) {
        while at > 0 && self.heap[at].at_ms < self.heap[(at - 1) / 2].at_ms {
            let parent = (at - 1) / 2;
            self.swap(at, parent, places);
            at = parent;
        }
        loop {
            let earliest = [2 * at + 1, 2 * at + 2]
                .into_iter()
                .filter(|&child| child < self.heap.len())
                .min_by_key(|&child| self.heap[child].at_ms);
            match earliest {
                Some(child) if self.heap[child].at_ms < self.heap[at].at_ms => {
                    self.swap(at, child, places);
                    at = child;
                }
                _ => break,
            }
        }
        places.set_place(self.heap[at].slot, Some(at as u32));
    }

    /// Swaps two places; the second one's former holder is told at once, the first one's by `settle`.
    fn swap(&mut self, moving: usize, other: usize, places: &mut impl Places) {
        self.heap.swap(moving, other);
        places.set_place(self.heap[moving].slot, Some(moving as u32));
    }

    /// Whether every parent is due before its children, and every place is known.
    #[cfg(test)]
    pub(super) fn assert_sound(&self, place_of: impl Fn(SlotIndex) -> Place) {
        for (at, due) in self.heap.iter().enumerate() {
            assert!(at == 0 || self.heap[(at - 1) / 2].at_ms <= due.at_ms);
            assert_eq!(place_of(due.slot), Some(at as u32));
        }
    }
}
