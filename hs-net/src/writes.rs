//! The write queue: changes of files that the application has made and that are not safe on the disk yet.
//!
//! To files it is what the [commit queue](crate::commit) is to frames. It lies in checkpointable memory, so that a checkpoint
//! holds the changes that its state has made. A change reaches the disk when the checkpoint that covers it is with the
//! spare, and is forgotten when the disk has it for certain:
//!
//! ```text
//!          head                                        tail
//!   on the  | may be on the disk   | not on the disk    | next change goes here
//!   disk    +--------+------+------+---------+----------+
//! bytes:  ..| header  path  bytes  | …       | skip | ..      a ring; a change never wraps around its end
//!           +--------+------+------+---------+----------+
//! ```
//!
//! **Again and again.** A change says what is to be where: these bytes at this offset, this length, this file there or gone.
//! So changes may be made a second time, in order and from the head on, whatever of them the disk has already, all, a part
//! or none: each byte is what the last change that is about it says. That is what a new master does with what it finds
//! in here, without knowing how far the dead one came.
//!
//! For this a file is an endless row of bytes, of which all behind its length are zeroes: a change of the length makes zeroes of
//! everything behind it, and a write behind the end leaves zeroes in the gap.
//!
//! How far changes may go is not noted here but by whoever has the disk ([`node::descriptors`](crate::node::descriptors)).
//! When the queue is empty it begins again at its first byte: a quiet application dirties the same page each time.

#[cfg(test)]
mod tests;

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use hs_core::class::outside_classes;
use hs_core::registry::descriptor::FilePath;

/// Before a path and bytes: kind, length of the path, length of the bytes, offset.
const HEADER_LEN: usize = 16;
/// Changes begin at multiples of this, so that there is room for a mark at the ring's end.
const ALIGN: usize = 8;
/// Most bytes that one change holds; longer writes are several.
const PIECE_LEN: usize = 32 << 10;

const CREATE: u8 = 1;
const WRITE: u8 = 2;
const SET_LEN: u8 = 3;
const REMOVE: u8 = 4;
/// In place of a kind: the rest of the ring is unused, the next change is at its start.
const SKIP: u8 = 0xff;

/// A place between two changes, counted from the queue's creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tail(u64);

/// A [`Tail`] and where it is in the ring. Void when the changes before it were forgotten and others came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    count: u64,
    at: usize,
}

impl Tail {
    /// Before the first change.
    pub const START: Tail = Tail(0);
}

impl Place {
    pub(crate) const START: Place = Place { count: 0, at: 0 };

    pub(crate) fn tail(self) -> Tail {
        Tail(self.count)
    }
}

/// What is to become of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// It is there, as long as it is or empty.
    Create,
    /// It has these bytes at this offset, and zeroes in the gap before them.
    Write {
        /// In bytes from its start.
        offset: u64,
        /// What is written.
        bytes: &'a [u8],
    },
    /// It is so many bytes long: what is behind is gone, what is new is zero.
    SetLen(u64),
    /// It is gone.
    Remove,
}

impl<'a> Change<'a> {
    /// How long a file of `len_bytes` is afterwards.
    pub fn len_after(&self, len_bytes: u64) -> u64 {
        match self {
            Change::Create => len_bytes,
            Change::Write { offset, bytes } => len_bytes.max(offset + bytes.len() as u64),
            Change::SetLen(len_bytes) => *len_bytes,
            Change::Remove => 0,
        }
    }

    /// Makes the change in `into`, which holds a file's bytes from `from` on.
    pub fn overlay(&self, from: u64, into: &mut [u8]) {
        let end = from + into.len() as u64;
        // Both are within `into`, or at its end.
        let place = |offset: u64| (offset.clamp(from, end) - from) as usize;
        match *self {
            Change::Create => {}
            Change::Write { offset, bytes } => {
                let written = place(offset)..place(offset + bytes.len() as u64);
                if !written.is_empty() {
                    let first = (from + written.start as u64 - offset) as usize;
                    let len = written.len();
                    into[written].copy_from_slice(&bytes[first..first + len]);
                }
            }
            Change::SetLen(len_bytes) => into[place(len_bytes)..].fill(0),
            Change::Remove => into.fill(0),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Change::Write { bytes, .. } => bytes.len(),
            Change::Create | Change::SetLen(_) | Change::Remove => 0,
        }
    }

    /// It as several, of at most `piece_len` bytes each.
    fn pieces(self, piece_len: usize) -> impl Iterator<Item = Change<'a>> {
        let count = self.data_len().div_ceil(piece_len).max(1);
        (0..count).map(move |index| match self {
            Change::Write { offset, bytes } => {
                let start = index * piece_len;
                Change::Write {
                    offset: offset + start as u64,
                    bytes: &bytes[start..bytes.len().min(start + piece_len)],
                }
            }
            other => other,
        })
    }
}

/// A change and the file that it is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The file's path.
    pub path: &'a str,
    /// What is to become of it.
    pub change: Change<'a>,
}

impl<'a> Record<'a> {
    /// The record at the beginning of `bytes`, and how long it is there.
    fn read(bytes: &'a [u8]) -> (Self, usize) {
        let (header, rest) = bytes.split_at(HEADER_LEN);
        let (path_len, data_len) = (
            usize::from(header[1]),
            u32::from_le_bytes(*header[4..].first_chunk().expect("a header has 16 bytes")) as usize,
        );
        let offset = u64::from_le_bytes(*header[8..].first_chunk().expect("a header has 16 bytes"));
        let (path, rest) = rest.split_at(path_len);
        let change = match header[0] {
            CREATE => Change::Create,
            WRITE => Change::Write {
                offset,
                bytes: &rest[..data_len],
            },
            SET_LEN => Change::SetLen(offset),
            REMOVE => Change::Remove,
            kind => panic!("the write queue holds changes only, and {kind} is none"),
        };
        let path = core::str::from_utf8(path).expect("a path is of letters");
        (Self { path, change }, record_len(path_len, data_len))
    }

    fn write(&self, into: &mut [u8]) {
        let (kind, offset, data): (u8, u64, &[u8]) = match self.change {
            Change::Create => (CREATE, 0, &[]),
            Change::Write { offset, bytes } => (WRITE, offset, bytes),
            Change::SetLen(len_bytes) => (SET_LEN, len_bytes, &[]),
            Change::Remove => (REMOVE, 0, &[]),
        };
        let path = self.path.as_bytes();
        (into[0], into[1]) = (kind, path.len() as u8);
        into[4..8].copy_from_slice(&(data.len() as u32).to_le_bytes());
        into[8..HEADER_LEN].copy_from_slice(&offset.to_le_bytes());
        into[HEADER_LEN..HEADER_LEN + path.len()].copy_from_slice(path);
        into[HEADER_LEN + path.len()..][..data.len()].copy_from_slice(data);
    }
}

const fn record_len(path_len: usize, data_len: usize) -> usize {
    (HEADER_LEN + path_len + data_len).next_multiple_of(ALIGN)
}

/// Whether a change finds room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// It does.
    Enough,
    /// When others are forgotten.
    Later,
    /// Never: it is longer than the queue.
    Never,
}

/// Bytes, head, tail and used bytes of a queue.
#[cfg(test)]
pub(crate) type QueueImage = (alloc::vec::Vec<u8>, Place, Place, usize);

/// The queue.
#[derive(Debug)]
pub(crate) struct WriteQueue {
    ring: &'static mut [u8],
    head: Place,
    tail: Place,
    used: usize,
}

impl WriteQueue {
    /// An empty queue on `ring`.
    ///
    /// # Panics
    /// If the ring's length is no multiple of 8.
    pub(crate) fn new(ring: &'static mut [u8]) -> Self {
        assert!(ring.len().is_multiple_of(ALIGN), "a ring of {} bytes", ring.len());
        Self {
            ring,
            head: Place::START,
            tail: Place::START,
            used: 0,
        }
    }

    /// An empty queue of `len_bytes`, all of it in `allocator`'s memory; `None` if that does not suffice. It is never given back.
    pub(crate) fn create<A: Allocator + Clone + 'static>(
        allocator: &A,
        len_bytes: usize,
    ) -> Option<&'static mut Self> {
        let mut ring = Vec::new_in(allocator.clone());
        ring.try_reserve_exact(len_bytes).ok()?;
        ring.resize(len_bytes, 0);
        let queue = Self::new(Box::leak(ring.into_boxed_slice()));
        Some(Box::leak(Box::try_new_in(queue, allocator.clone()).ok()?))
    }

    /// What [`create`](Self::create) takes for a queue of `len_bytes`.
    pub(crate) const fn memory_bytes(len_bytes: usize) -> usize {
        len_bytes.next_power_of_two() + (4 << 10)
    }

    /// All of it, as a checkpoint has it.
    #[cfg(test)]
    pub(crate) fn image(&self) -> QueueImage {
        (self.ring.to_vec(), self.head, self.tail, self.used)
    }

    /// It is as it was, as after a restore.
    #[cfg(test)]
    pub(crate) fn restore(&mut self, (ring, head, tail, used): &QueueImage) {
        self.ring.copy_from_slice(ring);
        (self.head, self.tail, self.used) = (*head, *tail, *used);
    }

    fn piece_len(&self) -> usize {
        PIECE_LEN.min(self.ring.len() / 8)
    }

    /// The oldest change.
    pub(crate) fn head(&self) -> Place {
        self.head
    }

    /// The end of the queue now.
    pub(crate) fn tail(&self) -> Tail {
        self.tail.tail()
    }

    /// Whether more than half of it is in use.
    pub(crate) fn is_half_full(&self) -> bool {
        self.used > self.ring.len() / 2
    }

    /// Whether `change` of `path` finds room.
    pub(crate) fn room(&self, path: &FilePath, change: Change<'_>) -> Room {
        let path_len = path.as_str().len();
        let fits = |mut at: usize, mut used: usize| {
            change.pieces(self.piece_len()).all(|piece| {
                let needed = record_len(path_len, piece.data_len());
                let to_end = self.ring.len() - at;
                if needed > to_end {
                    (at, used) = (0, used + to_end);
                }
                (at, used) = ((at + needed) % self.ring.len(), used + needed);
                used <= self.ring.len()
            })
        };
        match (fits(self.tail.at, self.used), fits(0, 0)) {
            (true, _) => Room::Enough,
            (false, true) => Room::Later,
            (false, false) => Room::Never,
        }
    }

    /// Appends a change.
    ///
    /// # Panics
    /// If there is no [`room`](Self::room): ask first.
    pub(crate) fn push(&mut self, path: &FilePath, change: Change<'_>) {
        assert_eq!(
            self.room(path, change),
            Room::Enough,
            "the write queue has room when it is asked to take a change"
        );
        let path = path.as_str();
        for change in change.pieces(self.piece_len()) {
            let needed = record_len(path.len(), change.data_len());
            let to_end = self.ring.len() - self.tail.at;
            if needed > to_end {
                self.ring[self.tail.at] = SKIP;
                self.used += to_end;
                self.tail.at = 0;
            }
            let at = self.tail.at;
            Record { path, change }.write(&mut self.ring[at..at + needed]);
            self.tail.at = (at + needed) % self.ring.len();
            self.used += needed;
            self.tail.count += 1;
        }
    }

    /// The changes from `from` on, which lies between head and tail, in order; each with the place behind it.
    pub(crate) fn changes(&self, from: Place) -> impl Iterator<Item = (Record<'_>, Place)> {
        let mut at = from;
        core::iter::from_fn(move || {
            if at.count == self.tail.count {
                return None;
            }
            if self.ring[at.at] == SKIP {
                at.at = 0;
            }
            let (record, len) = Record::read(&self.ring[at.at..]);
            at = Place {
                count: at.count + 1,
                at: (at.at + len) % self.ring.len(),
            };
            Some((record, at))
        })
    }

    /// Forgets all changes before `to`: the disk has them.
    pub(crate) fn forget(&mut self, to: Place) {
        let Some(behind) = to.count.checked_sub(self.head.count).filter(|count| *count > 0) else {
            return;
        };
        let before = self.head.at;
        let in_between = (to.at + self.ring.len() - before) % self.ring.len();
        // From a full ring's start to its end is all of it, and not nothing.
        self.used -= match in_between {
            0 if behind > 0 => self.ring.len(),
            some => some,
        };
        self.head = to;
        if self.head.count == self.tail.count {
            (self.head.at, self.tail.at, self.used) = (0, 0, 0);
        }
    }
}

/// Changes copied out of the queue, to be made without its lock.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: alloc::vec::Vec<u8>,
    /// How many changes there were before.
    before: u64,
}

impl Batch {
    /// A batch is not longer than this, and each change is shorter.
    const LEN_MAX: usize = 2 * PIECE_LEN;

    /// Takes changes from `from` on, at most up to `to`. Returns the place behind them, which is `from` if there are none.
    pub(crate) fn fill(&mut self, queue: &WriteQueue, from: Place, to: Tail) -> Place {
        self.bytes.clear();
        // Once, and not in a class: whoever calls may be in the scope of one.
        outside_classes(|| self.bytes.reserve_exact(Self::LEN_MAX));
        self.before = from.count;
        let mut end = from;
        for (record, behind) in queue.changes(from) {
            let len = record_len(record.path.len(), record.change.data_len());
            let start = self.bytes.len();
            if behind.tail() > to || start + len > Self::LEN_MAX {
                break;
            }
            self.bytes.resize(start + len, 0);
            record.write(&mut self.bytes[start..]);
            end = behind;
        }
        end
    }

    /// What it holds; each with its own place.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (Tail, Record<'_>)> {
        let (mut rest, mut at) = (&self.bytes[..], self.before);
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (record, len) = Record::read(rest);
            rest = &rest[len..];
            at += 1;
            Some((Tail(at - 1), record))
        })
    }
}
