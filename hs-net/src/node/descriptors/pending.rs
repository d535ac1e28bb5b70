//! Which changes of files wait, and how far they may go: the [write queue](crate::writes) and this machine's marks in it.
//!
//! ```text
//!   head            applied          released                 tail
//!    | synced soon    | may go         | waits for its          |
//!    |                |                | checkpoint             |
//! ```
//!
//! The marks are not checkpointed. After a takeover everything in the queue is covered by the checkpoint that holds it, hence
//! released, and of nothing is it known that the disk has it.
//!
//! No I/O, no waiting: it is a part of the [table](super::table), whose lock a checkpoint's pause holds.

use hs_core::class::{Class, ClassId};
use hs_core::registry::descriptor::FilePath;
use hs_core::roots::{Root, RootError, RootId};

use super::error::DescriptorError;
use crate::writes::{Batch, Change, Place, Room, Tail, WriteQueue};

/// The class of the write queue. Not for applications.
pub const FILES_CLASS: ClassId = ClassId(u32::MAX - 1);

const QUEUE: Root<WriteQueue> = Root::new(RootId::FILES);

/// Room for changes that wait, in bytes.
pub const QUEUE_LEN: usize = if cfg!(test) { 16 << 10 } else { 1 << 20 };

#[derive(Debug)]
pub(super) struct Pending {
    /// Made when the first file is to be written.
    queue: Option<&'static mut WriteQueue>,
    /// Changes before this may be made on the disk.
    released: Tail,
    /// Changes before this were made, if not synced.
    applied: Place,
    /// Changes wait for their checkpoint.
    withheld: bool,
}

impl Pending {
    pub(super) const fn new() -> Self {
        Self {
            queue: None,
            released: Tail::START,
            applied: Place::START,
            withheld: false,
        }
    }

    /// Takes up the queue that a restore has brought, if there is one.
    pub(super) fn adopt(&mut self) -> Result<(), RootError> {
        match QUEUE.take() {
            Ok(queue) => {
                self.released = queue.tail();
                self.applied = queue.head();
                self.queue = Some(queue);
                Ok(())
            }
            Err(RootError::Empty(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the queue, unless it is there.
    pub(super) fn begin(&mut self) -> Result<(), DescriptorError> {
        if self.queue.is_some() {
            return Ok(());
        }
        let class = Class::create(FILES_CLASS, WriteQueue::memory_bytes(QUEUE_LEN))
            .map_err(DescriptorError::NoQueue)?;
        let queue = WriteQueue::create(&class, QUEUE_LEN).ok_or(DescriptorError::NoMemory)?;
        let kept = QUEUE.keep(queue).and_then(|()| QUEUE.take());
        self.queue = Some(kept.expect("the queue lies in its class, and is nobody else's"));
        Ok(())
    }

    /// The end of the queue now: what a checkpoint covers that is taken now.
    pub(super) fn tail(&self) -> Tail {
        self.queue.as_ref().map_or(Tail::START, |queue| queue.tail())
    }

    pub(super) fn released(&self) -> Tail {
        self.released
    }

    /// What was released and is not on the disk for certain.
    pub(super) fn is_under_way(&self) -> bool {
        self.head() < self.released
    }

    /// Changes before this are on the disk for certain, and take no room.
    pub(super) fn head(&self) -> Tail {
        self.queue
            .as_ref()
            .map_or(Tail::START, |queue| queue.head().tail())
    }

    /// Whether nothing makes room by itself: all that is there waits for its checkpoint.
    pub(super) fn is_stuck(&self) -> bool {
        self.withheld && !self.is_under_way()
    }

    /// Changes before `tail` may be made on the disk.
    pub(super) fn release(&mut self, tail: Tail) {
        self.released = self.released.max(tail.min(self.tail()));
    }

    /// Whether changes wait from here on. If not, what waits does not any more.
    pub(super) fn withhold(&mut self, withheld: bool) {
        self.withheld = withheld;
        if !withheld {
            self.release(self.tail());
        }
    }

    pub(super) fn is_withheld(&self) -> bool {
        self.withheld
    }

    /// The changes that the disk may not show yet.
    fn unapplied(&self) -> impl Iterator<Item = (&str, Change<'_>)> {
        let queue = self.queue.as_deref();
        queue
            .into_iter()
            .flat_map(|queue| queue.changes(self.applied))
            .map(|(record, _)| (record.path, record.change))
    }

    fn unapplied_of(&self, path: &FilePath) -> impl Iterator<Item = Change<'_>> {
        let of = path.as_str();
        self.unapplied()
            .filter_map(move |(path, change)| (path == of).then_some(change))
    }

    /// Whether a change of this file may be lost with this machine.
    pub(super) fn holds(&self, path: &FilePath) -> bool {
        let queue = self.queue.as_deref();
        let mut changes = queue.into_iter().flat_map(|queue| queue.changes(queue.head()));
        changes.any(|(record, _)| record.path == path.as_str())
    }

    /// Whether the file is there, if what waits says so.
    pub(super) fn existence(&self, path: &FilePath) -> Option<bool> {
        self.unapplied_of(path)
            .last()
            .map(|change| change != Change::Remove)
    }

    /// How long the file is that has `len_bytes` on the disk.
    pub(super) fn len_bytes(&self, path: &FilePath, len_bytes: u64) -> u64 {
        self.unapplied_of(path)
            .fold(len_bytes, |len_bytes, change| change.len_after(len_bytes))
    }

    /// Brings `into`, which was read from the disk at `offset`, up to date.
    pub(super) fn overlay(&self, path: &FilePath, offset: u64, into: &mut [u8]) {
        self.unapplied_of(path)
            .for_each(|change| change.overlay(offset, into));
    }

    /// Appends a change, if there is room: it may be made at once where nothing is withheld.
    pub(super) fn push(&mut self, path: &FilePath, change: Change<'_>) -> Result<Room, DescriptorError> {
        self.begin()?;
        let Some(queue) = self.queue.as_mut() else {
            return Err(DescriptorError::NoMemory);
        };
        let room = queue.room(path, change);
        if room == Room::Enough {
            queue.push(path, change);
            if !self.withheld {
                self.release(self.tail());
            }
        }
        Ok(room)
    }

    /// Copies out changes that may be made and were not. Returns the place behind them, or `None` if there are none.
    pub(super) fn batch(&self, into: &mut Batch) -> Option<Place> {
        let queue = self.queue.as_ref()?;
        let end = into.fill(queue, self.applied, self.released);
        (end != self.applied).then_some(end)
    }

    /// How many changes were made in all.
    pub(super) fn applied(&self) -> Place {
        self.applied
    }

    /// Changes before `place` were made.
    pub(super) fn note_applied(&mut self, place: Place) {
        self.applied = place;
    }

    /// Whether what was made should be synced, so that there is room.
    pub(super) fn is_half_full(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.is_half_full())
    }

    /// Forgets the changes before `place`: they are synced.
    pub(super) fn forget(&mut self, place: Place) {
        let Some(queue) = self.queue.as_mut() else { return };
        queue.forget(place);
        // An empty queue has begun again at its start.
        if queue.head().tail() == self.applied.tail() {
            self.applied = queue.head();
        }
    }

    /// The queue, for the next node on the same memory.
    #[cfg(test)]
    pub(super) fn hand_over(&mut self) {
        if let Some(queue) = self.queue.take() {
            QUEUE.keep(queue).expect("the queue lies in its class");
        }
    }

    /// The queue, for tests that bring back what was in it.
    #[cfg(test)]
    pub(super) fn queue(&mut self) -> Option<&mut WriteQueue> {
        self.queue.as_deref_mut()
    }
}
