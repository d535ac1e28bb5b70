//! Which file holds what, and whose turn it is to write: the rules of the parent module, without I/O.

use super::super::{CheckpointId, Kind};
use super::{GROWTH_LEAST_BYTES, GROWTH_MAX};

/// What a writer may do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// It writes next, to this file from this byte on.
    Write { file: usize, offset: u64 },
    /// Others come first.
    Wait,
    /// A newer one is there: this one is not needed.
    Superseded,
    /// What it builds on was not written, and will not be.
    Gone,
}

/// One file, since this master writes it.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The generation in it; 0 if there is none of this master's.
    generation: u64,
    /// The newest increment that is written wholly.
    held: Option<u64>,
    /// Length of all that is.
    len_bytes: u64,
    /// Of it, the full checkpoint.
    full_bytes: u64,
    /// Somebody's turn.
    writing: bool,
    /// Writers whose turn has come, until they end.
    writers: usize,
    /// A write failed: nothing more is appended.
    broken: bool,
}

/// Both files.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    slots: [Slot; 2],
    /// The file that must not be touched: it holds the newest whole generation that is on the disk.
    valid: Option<usize>,
}

impl Ledger {
    /// Nothing is written yet, and `valid` holds what an earlier master has left.
    pub(super) fn new(valid: Option<usize>) -> Self {
        Self {
            slots: [Slot::default(); 2],
            valid,
        }
    }

    /// Whose turn it is, from the view of one whose turn has not come yet. If it is its own, it has begun.
    pub(super) fn turn(&mut self, id: CheckpointId, kind: Kind) -> Turn {
        if self.valid_generation() > id.generation {
            return Turn::Superseded;
        }
        let turn = match kind {
            Kind::Full => self.turn_of_full(id),
            Kind::Incremental { base } => self.turn_of_increment(id, base),
        };
        if let Turn::Write { file, .. } = turn {
            self.slots[file].writing = true;
            self.slots[file].writers += 1;
        }
        turn
    }

    fn turn_of_full(&mut self, id: CheckpointId) -> Turn {
        let file = self.valid.map_or(0, |valid| 1 - valid);
        let slot = &mut self.slots[file];
        if slot.writers > 0 {
            return Turn::Wait;
        }
        *slot = Slot {
            generation: id.generation,
            ..Slot::default()
        };
        Turn::Write { file, offset: 0 }
    }

    fn turn_of_increment(&self, id: CheckpointId, base: u64) -> Turn {
        let Some(file) = (self.slots.iter()).position(|slot| slot.generation == id.generation) else {
            // A newer one took its generation's place, and has come to nothing: nobody would say that this one is lost.
            let mut newer = self.slots.iter().filter(|slot| slot.generation > id.generation);
            return if newer.any(|slot| slot.writers == 0) {
                Turn::Gone
            } else {
                Turn::Wait
            };
        };
        let slot = &self.slots[file];
        match slot.held {
            _ if slot.broken => Turn::Gone,
            Some(held) if held >= id.increment => Turn::Superseded,
            Some(held) if held >= base && !slot.writing => Turn::Write {
                file,
                offset: slot.len_bytes,
            },
            _ => Turn::Wait,
        }
    }

    /// All of it is written, up to `end`.
    pub(super) fn sealed(&mut self, file: usize, id: CheckpointId, end: u64) {
        let slot = &mut self.slots[file];
        slot.writing = false;
        slot.held = Some(id.increment);
        slot.len_bytes = end;
        if id.increment == 0 {
            slot.full_bytes = end;
        }
    }

    /// What was written up to here is on the disk.
    pub(super) fn synced(&mut self, file: usize) {
        self.slots[file].writers -= 1;
        let slot = self.slots[file];
        if !slot.broken && slot.generation > self.valid_generation() {
            self.valid = Some(file);
        }
    }

    /// A writer ended before its checkpoint was safe.
    pub(super) fn dropped(&mut self, file: usize, id: CheckpointId, sealed: bool, failed: bool) {
        let slot = &mut self.slots[file];
        slot.writers -= 1;
        slot.broken |= failed;
        if !sealed {
            slot.writing = false;
            // Its increments will be told that they are lost.
            slot.broken |= id.increment == 0;
        }
    }

    /// The generation that is safe.
    fn valid_generation(&self) -> u64 {
        self.valid.map_or(0, |valid| self.slots[valid].generation)
    }

    /// Whether the newest generation has grown so much that a new one should begin.
    pub(super) fn is_grown(&self) -> bool {
        let newest = self.slots.iter().max_by_key(|slot| slot.generation);
        newest.is_some_and(|slot| {
            let full = slot.full_bytes.max(GROWTH_LEAST_BYTES);
            slot.held.is_some() && slot.len_bytes - slot.full_bytes > full * GROWTH_MAX
        })
    }
}
