//! The data: keys and values, both any bytes, and when each expires.
//!
//! ```text
//! table      hash → slot         hashbrown, SipHash-1-3 with its seed in the store
//! slots      slot → entry        never move: SCAN walks them
//! deadlines  which slot is next  only slots that expire
//! entry      hash · key · value · place among the deadlines
//! ```
//! Every part lies in the memory that the store was made with, the hash's seed too: after a takeover each
//! key is found where it was. Deadlines are wall-clock times, which go on on any machine. The time is an
//! argument, in milliseconds since 1970; an expired key is never seen, whether or not it was cleared away.
//!
//! Changes are all or nothing: memory is reserved first, and what does not fit changes nothing.

mod deadlines;
mod slots;

use allocator_api2::collections::TryReserveError;
use allocator_api2::vec::Vec;
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use self::deadlines::{Deadlines, Place, Places};
use self::slots::{SlotIndex, Slots};
use crate::quota::block_bytes;
use crate::{BULK_LEN_MAX, Memory};

/// The store is as full as it may be, or memory is. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

impl From<TryReserveError> for OutOfMemory {
    fn from(_: TryReserveError) -> Self {
        OutOfMemory
    }
}

/// Why a value cannot be appended to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// The value would be longer than [`BULK_LEN_MAX`].
    TooLong,
    /// See [`OutOfMemory`].
    OutOfMemory,
}

/// When a key expires, in milliseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// As before; a new key never.
    Keep,
    /// Never.
    Never,
    /// After this moment.
    At(u64),
}

#[derive(Debug)]
struct Entry<A: Memory> {
    hash: u64,
    key: Vec<u8, A>,
    value: Vec<u8, A>,
    place: Place,
}

impl<A: Memory> Entry<A> {
    fn block_bytes(&self) -> usize {
        block_bytes(self.key.capacity()) + block_bytes(self.value.capacity())
    }
}

impl<A: Memory> Places for Slots<Entry<A>, A> {
    fn set_place(&mut self, slot: SlotIndex, place: Place) {
        self.get_mut(slot).place = place;
    }
}

/// A value to be.
#[derive(Clone, Copy)]
enum Content<'a> {
    /// These bytes.
    Copy(&'a [u8]),
    /// A block for so many bytes, which comes later.
    Later(usize),
}

/// A key that is there. Any change to the store may end it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found(SlotIndex);

/// Keys, values and deadlines.
#[derive(Debug)]
pub struct Store<A: Memory> {
    hasher: SipHasher13,
    table: HashTable<SlotIndex, A>,
    slots: Slots<Entry<A>, A>,
    deadlines: Deadlines<A>,
    /// Blocks of keys and values.
    content_bytes: usize,
    limit_bytes: usize,
    expired: u64,
}

/// Takes the whole block that the memory hands out anyway: a value that grows a little stays where it is.
fn copy_in<A: Memory>(bytes: &[u8], memory: &A) -> Result<Vec<u8, A>, OutOfMemory> {
    let mut copy = Vec::new_in(memory.clone());
    copy.try_reserve_exact(block_bytes(bytes.len()))?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

impl<A: Memory> Store<A> {
    /// An empty store in `memory` that will take no more than `limit_bytes` of it. `seed` must be hard to guess.
    pub fn new(memory: A, seed: [u64; 2], limit_bytes: usize) -> Self {
        Self {
            hasher: SipHasher13::new_with_keys(seed[0], seed[1]),
            table: HashTable::new_in(memory.clone()),
            slots: Slots::new(memory.clone()),
            deadlines: Deadlines::new(memory),
            content_bytes: 0,
            limit_bytes,
            expired: 0,
        }
    }

    /// Number of keys, those included that have expired and were not cleared away yet.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of keys that expire.
    pub fn expiring(&self) -> usize {
        self.deadlines.len()
    }

    /// Keys that have expired since the store was made.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Memory in use, in bytes, as the memory hands it out.
    pub fn used_bytes(&self) -> usize {
        self.content_bytes
            + self.slots.blocks_bytes()
            + self.table.allocation_size()
            + self.deadlines.capacity_bytes()
    }

    /// Memory that may be used, in bytes.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Looks for `key`. One that has expired is cleared away instead.
    pub fn find(&mut self, key: &[u8], now_ms: u64) -> Option<Found> {
        let slot = self.slot_of(self.hasher.hash(key), key)?;
        if self.is_expired(slot, now_ms) {
            self.remove_slot(slot);
            self.expired += 1;
            return None;
        }
        Some(Found(slot))
    }

    /// The value of a key just found.
    pub fn value(&self, found: Found) -> &[u8] {
        &self.slots.get(found.0).value
    }

    /// When a key just found expires, in milliseconds since 1970.
    pub fn deadline_ms(&self, found: Found) -> Option<u64> {
        self.deadlines.at_ms(self.slots.get(found.0).place)
    }

    /// The value of `key`, if it is there.
    pub fn get(&mut self, key: &[u8], now_ms: u64) -> Option<&[u8]> {
        let found = self.find(key, now_ms)?;
        Some(self.value(found))
    }

    /// Gives `key` a value.
    ///
    /// # Errors
    /// Nothing was changed, but for an expired `key` that is gone.
    pub fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry, now_ms: u64) -> Result<(), OutOfMemory> {
        self.put(key, Content::Copy(value), expiry, now_ms).map(drop)
    }

    /// Makes sure that `key` is there and that there is room for a value of `len` bytes, which [`adopt`](Store::adopt) has
    /// to put there next.
    ///
    /// # Errors
    /// Nothing was changed, but for an expired `key` that is gone.
    pub fn make_room(
        &mut self,
        key: &[u8],
        len: usize,
        expiry: Expiry,
        now_ms: u64,
    ) -> Result<Found, OutOfMemory> {
        self.put(key, Content::Later(len), expiry, now_ms)
    }

    fn put(
        &mut self,
        key: &[u8],
        content: Content<'_>,
        expiry: Expiry,
        now_ms: u64,
    ) -> Result<Found, OutOfMemory> {
        let found = self.find(key, now_ms);
        if let Expiry::At(_) = expiry {
            self.deadlines.reserve()?;
        }
        let slot = match (found, content) {
            (Some(Found(slot)), Content::Copy(value)) => {
                self.replace_value(slot, value)?;
                slot
            }
            (Some(Found(slot)), Content::Later(len)) => {
                let old_bytes = block_bytes(self.slots.get(slot).value.capacity());
                self.check_limit(block_bytes(len).saturating_sub(old_bytes))?;
                slot
            }
            (None, content) => {
                let (value, later) = match content {
                    Content::Copy(value) => (value, 0),
                    Content::Later(len) => (&[][..], len),
                };
                let entry = self.new_entry(key, value)?;
                self.check_limit(entry.block_bytes() + block_bytes(later) + self.slots.growth_bytes(1))?;
                self.reserve(1)?;
                self.insert(entry)
            }
        };
        self.set_expiry(slot, expiry);
        Ok(Found(slot))
    }

    /// Makes `value`, a whole block of [`memory`](Store::memory), the value of the key that room was made for.
    pub fn adopt(&mut self, found: Found, value: Vec<u8, A>) {
        self.content_bytes += block_bytes(value.capacity());
        let old = core::mem::replace(&mut self.slots.get_mut(found.0).value, value);
        self.content_bytes -= block_bytes(old.capacity());
    }

    /// Gives each key of `pairs` its value, for ever; of a key that comes twice, the later one. All or none.
    ///
    /// # Errors
    /// Nothing was changed, but for expired keys that are gone.
    pub fn set_all<'a>(
        &mut self,
        pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
        now_ms: u64,
    ) -> Result<(), OutOfMemory> {
        // What has expired goes first: once room is counted and reserved nothing may shrink.
        for (key, _) in pairs.clone() {
            self.find(key, now_ms);
        }
        let mut entries = Vec::new_in(self.memory());
        entries.try_reserve_exact(pairs.len())?;
        let mut bytes = self.slots.growth_bytes(pairs.len());
        for (key, value) in pairs {
            let entry = self.new_entry(key, value)?;
            bytes += entry.block_bytes();
            self.check_limit(bytes)?;
            entries.push(entry);
        }
        self.reserve(entries.len())?;
        for entry in entries {
            match self.slot_of(entry.hash, &entry.key) {
                Some(slot) => {
                    self.content_bytes += block_bytes(entry.value.capacity());
                    let place = self.slots.get(slot).place;
                    let old = core::mem::replace(&mut self.slots.get_mut(slot).value, entry.value);
                    self.content_bytes -= block_bytes(old.capacity());
                    self.deadlines.remove(place, &mut self.slots);
                }
                None => {
                    self.insert(entry);
                }
            }
        }
        Ok(())
    }

    /// Appends to the value of `key`, which is made if it is not there, and returns the new length.
    ///
    /// # Errors
    /// Nothing was changed, but for an expired `key` that is gone.
    pub fn append(&mut self, key: &[u8], suffix: &[u8], now_ms: u64) -> Result<usize, AppendError> {
        let Some(Found(slot)) = self.find(key, now_ms) else {
            self.set(key, suffix, Expiry::Never, now_ms)
                .map_err(|OutOfMemory| AppendError::OutOfMemory)?;
            return Ok(suffix.len());
        };
        let value = &self.slots.get(slot).value;
        let (old_bytes, len) = (block_bytes(value.capacity()), value.len() + suffix.len());
        if len > BULK_LEN_MAX {
            return Err(AppendError::TooLong);
        }
        let grown = block_bytes(len);
        if grown > old_bytes {
            self.check_limit(grown - old_bytes)
                .map_err(|OutOfMemory| AppendError::OutOfMemory)?;
        }
        let value = &mut self.slots.get_mut(slot).value;
        if len > value.capacity() {
            value
                .try_reserve_exact(grown - value.len())
                .map_err(|_| AppendError::OutOfMemory)?;
        }
        value.extend_from_slice(suffix);
        self.content_bytes += block_bytes(value.capacity());
        self.content_bytes -= old_bytes;
        Ok(len)
    }

    /// Changes when a key just found expires. [`Expiry::At`] a moment that has passed leaves it expired.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn expire(&mut self, found: Found, expiry: Expiry) -> Result<(), OutOfMemory> {
        if let Expiry::At(_) = expiry {
            self.deadlines.reserve()?;
        }
        self.set_expiry(found.0, expiry);
        Ok(())
    }

    /// Removes a key just found.
    pub fn remove(&mut self, found: Found) {
        self.remove_slot(found.0);
    }

    /// Removes every key.
    pub fn clear(&mut self) {
        let memory = self.memory();
        self.table = HashTable::new_in(memory);
        self.slots.clear();
        self.deadlines.clear();
        self.content_bytes = 0;
    }

    /// Clears away keys that have expired, at most `count_max`, and returns how many.
    pub fn expire_due(&mut self, now_ms: u64, count_max: usize) -> usize {
        for count in 0..count_max {
            match self.deadlines.first() {
                Some((at_ms, slot)) if at_ms < now_ms => self.remove_slot(slot),
                _ => return count,
            }
            self.expired += 1;
        }
        count_max
    }

    /// When [`expire_due`](Store::expire_due) next has something to do, in milliseconds since 1970.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(at_ms, _)| at_ms.saturating_add(1))
    }

    /// Walks over the keys, from `cursor` on: calls `with` for `count` keys or somewhat fewer and returns
    /// the cursor to go on with, or 0 at the end. Start with 0. A key that is there during the whole
    /// walk is met exactly once. Skips what has expired.
    pub fn scan(&self, cursor: u64, count: usize, now_ms: u64, mut with: impl FnMut(&[u8])) -> u64 {
        // Free slots cost too, but less: as Redis, look at ten times as many places as keys are asked for.
        let mut places_left = count.saturating_mul(10);
        let mut keys_left = count;
        let mut at = usize::try_from(cursor).unwrap_or(usize::MAX);
        while at < self.slots.end() && places_left > 0 && keys_left > 0 {
            if let Some(entry) = self.slots.at(at) {
                keys_left -= 1;
                if self
                    .deadlines
                    .at_ms(entry.place)
                    .is_none_or(|deadline| deadline >= now_ms)
                {
                    with(&entry.key);
                }
            }
            places_left -= 1;
            at += 1;
        }
        if at < self.slots.end() { at as u64 } else { 0 }
    }

    /// Where keys and values lie.
    pub fn memory(&self) -> A {
        self.table.allocator().clone()
    }

    fn slot_of(&self, hash: u64, key: &[u8]) -> Option<SlotIndex> {
        self.table
            .find(hash, |&slot| self.slots.get(slot).key == key)
            .copied()
    }

    fn is_expired(&self, slot: SlotIndex, now_ms: u64) -> bool {
        self.deadlines
            .at_ms(self.slots.get(slot).place)
            .is_some_and(|deadline| deadline < now_ms)
    }

    fn check_limit(&self, additional_bytes: usize) -> Result<(), OutOfMemory> {
        if additional_bytes > 0 && self.used_bytes().saturating_add(additional_bytes) > self.limit_bytes {
            return Err(OutOfMemory);
        }
        Ok(())
    }

    fn new_entry(&self, key: &[u8], value: &[u8]) -> Result<Entry<A>, OutOfMemory> {
        // Before the copies, so that a full store does not make its memory grow in vain.
        self.check_limit(block_bytes(key.len()) + block_bytes(value.len()))?;
        let memory = self.memory();
        Ok(Entry {
            hash: self.hasher.hash(key),
            key: copy_in(key, &memory)?,
            value: copy_in(value, &memory)?,
            place: None,
        })
    }

    fn reserve(&mut self, additional: usize) -> Result<(), OutOfMemory> {
        self.slots.reserve(additional)?;
        let slots = &self.slots;
        self.table
            .try_reserve(additional, |&slot| slots.get(slot).hash)
            .map_err(|_| OutOfMemory)
    }

    fn insert(&mut self, entry: Entry<A>) -> SlotIndex {
        self.content_bytes += entry.block_bytes();
        let hash = entry.hash;
        let slot = self.slots.insert(entry);
        let slots = &self.slots;
        self.table.insert_unique(hash, slot, |&slot| slots.get(slot).hash);
        slot
    }

    fn replace_value(&mut self, slot: SlotIndex, bytes: &[u8]) -> Result<(), OutOfMemory> {
        let old_bytes = block_bytes(self.slots.get(slot).value.capacity());
        let new_bytes = block_bytes(bytes.len());
        if new_bytes == old_bytes {
            let value = &mut self.slots.get_mut(slot).value;
            value.clear();
            value.extend_from_slice(bytes);
            return Ok(());
        }
        if new_bytes > old_bytes {
            self.check_limit(new_bytes - old_bytes)?;
        }
        self.slots.get_mut(slot).value = copy_in(bytes, &self.memory())?;
        self.content_bytes = self.content_bytes + new_bytes - old_bytes;
        Ok(())
    }

    fn set_expiry(&mut self, slot: SlotIndex, expiry: Expiry) {
        let place = self.slots.get(slot).place;
        match expiry {
            Expiry::Keep => {}
            Expiry::Never => self.deadlines.remove(place, &mut self.slots),
            Expiry::At(at_ms) => self.deadlines.set(slot, place, at_ms, &mut self.slots),
        }
    }

    fn remove_slot(&mut self, slot: SlotIndex) {
        let entry = self.slots.get(slot);
        let (hash, place) = (entry.hash, entry.place);
        self.content_bytes -= entry.block_bytes();
        self.deadlines.remove(place, &mut self.slots);
        if let Ok(occupied) = self.table.find_entry(hash, |&other| other == slot) {
            occupied.remove();
        }
        self.slots.remove(slot);
        if self.slots.len() == 0 {
            self.table = HashTable::new_in(self.memory());
        }
    }
}

#[cfg(test)]
mod tests;
