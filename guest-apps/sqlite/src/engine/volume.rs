//! The database file: pages in memory, and SQLite's five kinds of lock on it.
//!
//! Several connections share it as processes share a file on a disk. All are served by one thread, so a lock that is not to be
//! had is refused at once.

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;

/// Length of a piece of the file: a page of memory, so that what SQLite writes at once is modified at once.
const PIECE_BYTES: usize = 4096;

/// The lock that a connection holds on the file, as SQLite's `SQLITE_LOCK_*` have it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Lock {
    /// Neither reads nor writes.
    #[default]
    None,
    /// Reads; so may others.
    Shared,
    /// Will write, and is the only one; others may read, and begin to.
    Reserved,
    /// Waits for the readers to end; none may begin.
    Pending,
    /// Writes, alone.
    Exclusive,
}

/// The file is as long as it may be, or memory is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The file.
#[derive(Debug)]
pub struct Volume<A: Allocator + Clone> {
    pieces: Vec<Box<[u8; PIECE_BYTES], A>, A>,
    len_bytes: usize,
    len_bytes_max: usize,
    /// How often it was written to.
    writes: u64,
    readers: usize,
    is_reserved: bool,
    is_pending: bool,
    is_exclusive: bool,
}

impl<A: Allocator + Clone> Volume<A> {
    /// An empty file in `memory`, which may grow up to `len_bytes_max`.
    pub fn new(memory: A, len_bytes_max: usize) -> Self {
        Self {
            pieces: Vec::new_in(memory),
            len_bytes: 0,
            len_bytes_max,
            writes: 0,
            readers: 0,
            is_reserved: false,
            is_pending: false,
            is_exclusive: false,
        }
    }

    /// Its length in bytes.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Grows with each write: whoever compares knows whether the file was written to.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Copies what lies at `offset`; returns how many bytes there are, up to the end of the file.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> usize {
        let count = into.len().min(self.len_bytes.saturating_sub(offset));
        let mut done = 0;
        while done < count {
            let (piece, at) = ((offset + done) / PIECE_BYTES, (offset + done) % PIECE_BYTES);
            let part = (PIECE_BYTES - at).min(count - done);
            into[done..done + part].copy_from_slice(&self.pieces[piece][at..at + part]);
            done += part;
        }
        count
    }

    /// Writes at `offset`; the file becomes longer where needed, with zeroes before what is written.
    ///
    /// # Errors
    /// It is full; nothing was written.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Full> {
        let end = offset.checked_add(bytes.len()).ok_or(Full)?;
        if end > self.len_bytes_max {
            return Err(Full);
        }
        let memory = self.pieces.allocator().clone();
        let wanted = end.div_ceil(PIECE_BYTES);
        self.pieces
            .try_reserve(wanted.saturating_sub(self.pieces.len()))
            .map_err(|_| Full)?;
        while self.pieces.len() < wanted {
            let piece = Box::try_new_in([0; PIECE_BYTES], memory.clone()).map_err(|_| Full)?;
            self.pieces.push(piece);
        }
        self.writes += 1;
        self.len_bytes = self.len_bytes.max(end);
        let mut done = 0;
        while done < bytes.len() {
            let (piece, at) = ((offset + done) / PIECE_BYTES, (offset + done) % PIECE_BYTES);
            let part = (PIECE_BYTES - at).min(bytes.len() - done);
            self.pieces[piece][at..at + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
        Ok(())
    }

    /// Cuts the file off at `len_bytes`, if it is longer.
    pub fn truncate(&mut self, len_bytes: usize) {
        if len_bytes >= self.len_bytes {
            return;
        }
        self.writes += 1;
        self.len_bytes = len_bytes;
        self.pieces.truncate(len_bytes.div_ceil(PIECE_BYTES));
        // What it grows by later must be zero.
        if let Some(last) = self.pieces.last_mut()
            && !len_bytes.is_multiple_of(PIECE_BYTES)
        {
            last[len_bytes % PIECE_BYTES..].fill(0);
        }
    }

    /// Raises a lock from `held` to `wanted`. Returns what is held then: less than was wanted if another connection is in the way.
    pub fn lock(&mut self, held: Lock, wanted: Lock) -> Lock {
        if wanted <= held {
            return held;
        }
        match wanted {
            Lock::None => held,
            Lock::Shared => {
                if self.is_pending || self.is_exclusive {
                    return held;
                }
                self.readers += 1;
                Lock::Shared
            }
            Lock::Reserved | Lock::Pending | Lock::Exclusive => {
                if held == Lock::None || (held < Lock::Reserved && self.is_reserved) {
                    return held;
                }
                self.is_reserved = true;
                if wanted == Lock::Reserved {
                    return Lock::Reserved;
                }
                self.is_pending = true;
                if wanted == Lock::Pending || self.readers > 1 {
                    return Lock::Pending;
                }
                self.is_exclusive = true;
                Lock::Exclusive
            }
        }
    }

    /// Lowers a lock from `held` to `wanted`, which is `Shared` or `None`. Returns what is held then.
    pub fn unlock(&mut self, held: Lock, wanted: Lock) -> Lock {
        if wanted >= held {
            return held;
        }
        if held >= Lock::Reserved {
            (self.is_reserved, self.is_pending, self.is_exclusive) = (false, false, false);
        }
        if wanted == Lock::None {
            self.readers -= 1;
            return Lock::None;
        }
        Lock::Shared
    }

    /// Whether some connection will write.
    pub fn is_reserved(&self) -> bool {
        self.is_reserved
    }
}

#[cfg(test)]
#[path = "volume_tests.rs"]
mod tests;
