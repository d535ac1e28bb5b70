//! Places for entries that never move.
//!
//! An entry keeps its slot's number from the day it comes to the day it goes. So a walk over the numbers
//! meets every entry that is there all the time exactly once, whatever comes and goes meanwhile: that is
//! what `SCAN` promises. And a growing store copies nothing.
//!
//! ```text
//! blocks ─┬─> [slot 0 … N-1]     each block one allocation of at most 16 KiB
//!         ├─> [slot N … 2N-1]    free slots are a list through the slots themselves,
//!         └─> …                  the slot freed last is taken first
//! ```
//! Blocks are given back when the last entry goes.

use allocator_api2::vec::Vec;
use core::mem::size_of;

use super::OutOfMemory;
use crate::Memory;

/// The number of a slot.
pub(super) type SlotIndex = u32;

const BLOCK_BYTES: usize = 16 * 1024;

#[derive(Debug)]
enum Slot<T> {
    Taken(T),
    Free { next: Option<SlotIndex> },
}

#[derive(Debug)]
pub(super) struct Slots<T, A: Memory> {
    blocks: Vec<Vec<Slot<T>, A>, A>,
    free: Option<SlotIndex>,
    /// Slots in all blocks so far, taken or free.
    made: usize,
    taken: usize,
}

impl<T, A: Memory> Slots<T, A> {
    const PER_BLOCK: usize = BLOCK_BYTES / size_of::<Slot<T>>();

    pub(super) const fn new(memory: A) -> Self {
        Self {
            blocks: Vec::new_in(memory),
            free: None,
            made: 0,
            taken: 0,
        }
    }

    /// Numbers of all slots are below this.
    pub(super) fn end(&self) -> usize {
        self.made
    }

    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// Bytes of the blocks.
    pub(super) fn blocks_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// What the blocks would grow by for `additional` entries.
    pub(super) fn growth_bytes(&self, additional: usize) -> usize {
        let room = self.blocks.len() * Self::PER_BLOCK - self.taken;
        additional.saturating_sub(room).div_ceil(Self::PER_BLOCK) * BLOCK_BYTES
    }

    /// Makes sure that `additional` entries can be inserted.
    pub(super) fn reserve(&mut self, additional: usize) -> Result<(), OutOfMemory> {
        while self.blocks.len() * Self::PER_BLOCK - self.taken < additional {
            let mut block = Vec::new_in(self.blocks.allocator().clone());
            block.try_reserve_exact(Self::PER_BLOCK)?;
            self.blocks.try_reserve(1)?;
            if SlotIndex::try_from((self.blocks.len() + 1) * Self::PER_BLOCK).is_err() {
                return Err(OutOfMemory);
            }
            self.blocks.push(block);
        }
        Ok(())
    }

    /// Puts `entry` into a slot.
    ///
    /// # Panics
    /// If no room was reserved.
    pub(super) fn insert(&mut self, entry: T) -> SlotIndex {
        let index = match self.free {
            Some(index) => {
                let slot = self.slot_mut(index);
                let Slot::Free { next } = *slot else {
                    panic!("the free list holds only free slots")
                };
                *slot = Slot::Taken(entry);
                self.free = next;
                index
            }
            None => {
                let block = &mut self.blocks[self.made / Self::PER_BLOCK];
                assert!(block.len() < block.capacity(), "room was reserved");
                block.push(Slot::Taken(entry));
                self.made += 1;
                (self.made - 1) as SlotIndex
            }
        };
        self.taken += 1;
        index
    }

    /// Takes the entry out of its slot.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn remove(&mut self, index: SlotIndex) -> T {
        let free = Slot::Free { next: self.free };
        let Slot::Taken(entry) = core::mem::replace(self.slot_mut(index), free) else {
            panic!("slot {index} holds an entry")
        };
        self.free = Some(index);
        self.taken -= 1;
        if self.taken == 0 {
            self.clear();
        }
        entry
    }

    /// Drops everything and gives the blocks back.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.blocks.allocator().clone());
    }

    /// The entry at `index`, if there is one.
    pub(super) fn at(&self, index: usize) -> Option<&T> {
        match self
            .blocks
            .get(index / Self::PER_BLOCK)?
            .get(index % Self::PER_BLOCK)?
        {
            Slot::Taken(entry) => Some(entry),
            Slot::Free { .. } => None,
        }
    }

    /// The entry in a slot that is known to hold one.
    ///
    /// # Panics
    /// If it does not.
    pub(super) fn get(&self, index: SlotIndex) -> &T {
        self.at(index as usize).expect("the slot holds an entry")
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, index: SlotIndex) -> &mut T {
        match self.slot_mut(index) {
            Slot::Taken(entry) => entry,
            Slot::Free { .. } => panic!("slot {index} holds an entry"),
        }
    }

    fn slot_mut(&mut self, index: SlotIndex) -> &mut Slot<T> {
        let index = index as usize;
        &mut self.blocks[index / Self::PER_BLOCK][index % Self::PER_BLOCK]
    }
}
