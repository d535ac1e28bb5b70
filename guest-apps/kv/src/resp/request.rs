//! Requests, taken in as they come.
//!
//! [`Request::feed`] takes bytes in pieces of any size and stops behind the first whole request. Only a
//! request that is not finished takes memory, and all of it is drawn from a [`Quota`] that the clients share:
//! ```text
//! arena   small arguments, end to end, and a line of words while it is typed
//! large   arguments from 16 KiB on, each in a block of its own, reserved whole when its length is known;
//!         a command may take the block for good instead of copying it
//! args    where each argument lies
//! ```
//! An argument that the quota cannot hold is not the end of the connection: if other clients hold memory,
//! the request waits ([`Progress::Stalled`]); else, or when told to, it is read to its end without being
//! kept ([`Progress::TooLarge`]) and can be answered with an error. A request that holds a large argument
//! already never waits for another, so requests cannot wait for each other.

use allocator_api2::vec::Vec;
use core::fmt;
use core::mem::{self, size_of};
use core::ops::Range;

use super::inline::Words;
use crate::number;
use crate::quota::{Quota, block_bytes};
use crate::{BULK_LEN_MAX, Memory};

/// Longest line, in bytes: words, or the header of an array or a bulk string.
pub const LINE_LEN_MAX: usize = 64 * 1024;

/// Most arguments of one request.
const ARGS_MAX: i64 = 1024 * 1024;

/// An argument from this length on has a block of its own.
const LARGE_BYTES: usize = 16 * 1024;

/// What the arena and the tables may keep between two requests, in bytes and entries.
const ARENA_KEPT_BYTES: usize = 1024;
const TABLE_KEPT: usize = 16;

/// Longest header that can be right: `*` and an integer.
const HEADER_LEN_MAX: usize = 1 + number::DECIMAL_LEN_MAX;

const ARGS_MAX_AND_ONE: i64 = ARGS_MAX + 1;
const BULK_MAX: i64 = BULK_LEN_MAX as i64;

/// Why a client's bytes are not a request. Its text is what follows `-ERR Protocol error: `.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// The number of arguments is none, or too large.
    ArrayLength,
    /// The length of an argument is none, or too large.
    BulkLength,
    /// This byte begins an argument, not a dollar sign.
    ExpectedBulk(u8),
    /// A header that does not end.
    ArrayHeaderTooLong,
    /// The same, of an argument.
    BulkHeaderTooLong,
    /// A line of words that does not end.
    LineTooLong,
    /// A line of words whose quotes do not match.
    UnbalancedQuotes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProtocolError::ArrayLength => "invalid multibulk length",
            ProtocolError::BulkLength => "invalid bulk length",
            ProtocolError::ExpectedBulk(byte) => {
                return write!(f, "expected '$', got '{}'", char::from(*byte));
            }
            ProtocolError::ArrayHeaderTooLong => "too big mbulk count string",
            ProtocolError::BulkHeaderTooLong => "too big bulk count string",
            ProtocolError::LineTooLong => "too big inline request",
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request",
        })
    }
}

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// All bytes are taken, and more are needed.
    More,
    /// The request is whole, with at least one argument.
    Ready,
    /// The request is whole, but did not fit into memory and was not kept.
    TooLarge,
    /// The next argument has to wait until another client gives memory back. Feed again then, or
    /// [`give_up`](Request::give_up).
    Stalled,
    /// The client does not speak the protocol. Nothing more is taken.
    Broken(ProtocolError),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Before the first byte.
    Start,
    /// In a line of words, of which so many bytes have come.
    Words { seen: usize },
    /// In the header of the array.
    ArrayHeader,
    /// In the header of an argument; so many are still to come, this one included.
    BulkHeader { left: u32 },
    /// An argument of this length is to be stored.
    Reserve { left: u32, len: usize },
    /// In an argument; so many of its bytes are still to come.
    Body { left: u32, missing: usize },
    /// In the two bytes behind an argument.
    Trailer { left: u32, missing: u8 },
    /// Whole.
    Complete,
    /// Refused.
    Broken(ProtocolError),
}

#[derive(Clone, Copy, Debug)]
enum Span {
    Arena { start: u32, len: u32 },
    Large { index: u32 },
}

/// The line before an array or an argument. It ends with a carriage return and one byte more.
#[derive(Clone, Copy, Debug)]
struct Header {
    start: [u8; HEADER_LEN_MAX],
    /// Bytes before the carriage return so far. If they are more than `start` holds, the header is wrong.
    seen: usize,
    ended: bool,
}

impl Header {
    const EMPTY: Self = Self {
        start: [0; HEADER_LEN_MAX],
        seen: 0,
        ended: false,
    };

    /// How many bytes of `input` belong to the header, and whether it is complete.
    fn feed(&mut self, input: &[u8]) -> (usize, bool) {
        let mut used = 0;
        if !self.ended {
            let end = input.iter().position(|&byte| byte == b'\r');
            let line = &input[..end.unwrap_or(input.len())];
            for (to, from) in self.start.iter_mut().skip(self.seen).zip(line) {
                *to = *from;
            }
            self.seen += line.len();
            self.ended = end.is_some();
            used = line.len() + usize::from(self.ended);
        }
        let complete = self.ended && used < input.len();
        (used + usize::from(complete), complete)
    }

    fn first(&self) -> u8 {
        if self.seen == 0 { b'\r' } else { self.start[0] }
    }

    fn number(&self) -> Option<i64> {
        number::parse(self.start.get(1..self.seen)?)
    }
}

/// One request on its way in.
#[derive(Debug)]
pub struct Request<A: Memory> {
    state: State,
    header: Header,
    arena: Vec<u8, A>,
    args: Vec<Span, A>,
    large: Vec<Vec<u8, A>, A>,
    /// Where the blocks of large arguments come from.
    large_memory: A,
    /// Blocks that were taken out of `large`, and are still drawn.
    taken_bytes: usize,
    /// The arguments did not fit, and are being skipped.
    dropped: bool,
    /// What all this has drawn from the quota.
    drawn_bytes: usize,
}

/// Makes room for `additional` more elements, drawn from the quota.
fn grow<T, A: Memory>(
    vec: &mut Vec<T, A>,
    additional: usize,
    drawn_bytes: &mut usize,
    quota: &mut Quota,
) -> bool {
    let needed = vec.len() + additional;
    if needed <= vec.capacity() {
        return true;
    }
    let capacity = needed.next_power_of_two().max(8);
    let more_bytes = (capacity - vec.capacity()) * size_of::<T>();
    if !quota.take(more_bytes) {
        return false;
    }
    if vec.try_reserve_exact(capacity - vec.len()).is_err() {
        quota.give_back(more_bytes);
        return false;
    }
    *drawn_bytes += more_bytes;
    true
}

/// Empties `vec`, and gives its memory back if it is more than `kept` elements.
fn settle<T, A: Memory>(vec: &mut Vec<T, A>, kept: usize, drawn_bytes: &mut usize, quota: &mut Quota) {
    vec.clear();
    if vec.capacity() > kept {
        let bytes = vec.capacity() * size_of::<T>();
        *vec = Vec::new_in(vec.allocator().clone());
        *drawn_bytes -= bytes;
        quota.give_back(bytes);
    }
}

impl<A: Memory> Request<A> {
    /// Nothing yet. Takes no memory. Large arguments will lie in `large_memory`, everything else in `memory`.
    pub fn new(memory: A, large_memory: A) -> Self {
        Self {
            state: State::Start,
            header: Header::EMPTY,
            arena: Vec::new_in(memory.clone()),
            args: Vec::new_in(memory.clone()),
            large: Vec::new_in(memory),
            large_memory,
            taken_bytes: 0,
            dropped: false,
            drawn_bytes: 0,
        }
    }

    /// Number of arguments, the command's name included.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Whether there is no argument yet.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// The argument at `index`, the name of the command being the first.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn arg(&self, index: usize) -> &[u8] {
        match self.args[index] {
            Span::Arena { start, len } => &self.arena[start as usize..][..len as usize],
            Span::Large { index } => &self.large[index as usize],
        }
    }

    /// The arguments from `first` on.
    pub fn args_from(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        (first..self.len()).map(|index| self.arg(index))
    }

    /// Takes bytes of `input` up to the end of the request, and says how many. After
    /// [`Ready`](Progress::Ready) and [`TooLarge`](Progress::TooLarge) comes [`finish`](Request::finish).
    pub fn feed(&mut self, input: &[u8], quota: &mut Quota) -> (usize, Progress) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Complete => {
                    return (
                        used,
                        if self.dropped {
                            Progress::TooLarge
                        } else {
                            Progress::Ready
                        },
                    );
                }
                State::Broken(error) => return (used, Progress::Broken(error)),
                State::Reserve { left, len } => {
                    if !self.reserve(left, len, quota) {
                        return (used, Progress::Stalled);
                    }
                }
                _ if rest.is_empty() => return (used, Progress::More),
                State::Start => {
                    self.state = match rest[0] {
                        b'*' => State::ArrayHeader,
                        _ => State::Words { seen: 0 },
                    };
                }
                State::Words { seen } => used += self.feed_words(seen, rest, quota),
                State::ArrayHeader | State::BulkHeader { .. } => used += self.feed_header(rest, quota),
                State::Body { left, missing } => used += self.feed_body(left, missing, rest),
                State::Trailer { left, missing } => {
                    let skipped = rest.len().min(usize::from(missing));
                    used += skipped;
                    self.state = match (missing - skipped as u8, left) {
                        (0, 1) => State::Complete,
                        (0, left) => State::BulkHeader { left: left - 1 },
                        (missing, left) => State::Trailer { left, missing },
                    };
                }
            }
        }
    }

    /// Whether it has not begun.
    pub fn is_idle(&self) -> bool {
        self.state == State::Start
    }

    /// Whether it cannot go on without more bytes. One that is whole, broken or waits for memory can.
    pub fn wants_input(&self) -> bool {
        !matches!(
            self.state,
            State::Complete | State::Broken(_) | State::Reserve { .. }
        )
    }

    /// Ends a request that was answered, so that the next can come.
    pub fn finish(&mut self, quota: &mut Quota) {
        self.clear(quota, ARENA_KEPT_BYTES, TABLE_KEPT);
        self.state = State::Start;
    }

    /// Gives all memory back, whatever the state.
    pub fn release(&mut self, quota: &mut Quota) {
        self.clear(quota, 0, 0);
        self.state = State::Start;
    }

    /// Waits no longer for memory: the rest of the request is skipped.
    pub fn give_up(&mut self, quota: &mut Quota) {
        if let State::Reserve { left, len } = self.state {
            self.drop_arguments(quota);
            self.state = State::Body { left, missing: len };
        }
    }

    /// Whether the argument at `index` has a block of its own.
    pub fn is_large(&self, index: usize) -> bool {
        matches!(self.args[index], Span::Large { .. })
    }

    /// Takes a large argument's block, as long as the class makes it, and leaves an empty argument.
    ///
    /// # Panics
    /// If the argument is not [large](Request::is_large).
    pub fn take_large(&mut self, index: usize) -> Vec<u8, A> {
        let Span::Large { index } = self.args[index] else {
            panic!("argument {index} has no block of its own")
        };
        let nothing = Vec::new_in(self.large_memory.clone());
        let block = mem::replace(&mut self.large[index as usize], nothing);
        self.taken_bytes += block_bytes(block.capacity());
        block
    }

    fn clear(&mut self, quota: &mut Quota, arena_kept: usize, table_kept: usize) {
        self.drawn_bytes -= self.taken_bytes;
        quota.give_back(mem::take(&mut self.taken_bytes));
        for vec in self.large.drain(..) {
            let bytes = block_bytes(vec.capacity());
            self.drawn_bytes -= bytes;
            quota.give_back(bytes);
        }
        settle(&mut self.arena, arena_kept, &mut self.drawn_bytes, quota);
        settle(&mut self.args, table_kept, &mut self.drawn_bytes, quota);
        settle(&mut self.large, table_kept, &mut self.drawn_bytes, quota);
        self.header = Header::EMPTY;
        self.dropped = false;
    }

    fn drop_arguments(&mut self, quota: &mut Quota) {
        self.clear(quota, 0, 0);
        self.dropped = true;
    }

    fn feed_words(&mut self, seen: usize, input: &[u8], quota: &mut Quota) -> usize {
        let end = input.iter().position(|&byte| byte == b'\n');
        let line = &input[..end.unwrap_or(input.len())];
        let seen = seen + line.len();
        if seen > LINE_LEN_MAX {
            self.state = State::Broken(ProtocolError::LineTooLong);
            return 0;
        }
        if !self.dropped {
            if grow(&mut self.arena, line.len(), &mut self.drawn_bytes, quota) {
                self.arena.extend_from_slice(line);
            } else {
                self.drop_arguments(quota);
            }
        }
        self.state = State::Words { seen };
        if end.is_some() {
            self.split_words(quota);
        }
        line.len() + usize::from(end.is_some())
    }

    fn split_words(&mut self, quota: &mut Quota) {
        let mut words = Words::new(&mut self.arena);
        loop {
            match words.next_word() {
                Ok(Some(Range { start, end })) => {
                    if !grow(&mut self.args, 1, &mut self.drawn_bytes, quota) {
                        self.drop_arguments(quota);
                        break;
                    }
                    self.args.push(Span::Arena {
                        start: start as u32,
                        len: (end - start) as u32,
                    });
                }
                Ok(None) => break,
                Err(_) => {
                    self.state = State::Broken(ProtocolError::UnbalancedQuotes);
                    return;
                }
            }
        }
        self.state = State::Complete;
        if self.args.is_empty() && !self.dropped {
            self.finish(quota);
        }
    }

    fn feed_header(&mut self, input: &[u8], quota: &mut Quota) -> usize {
        let (used, complete) = self.header.feed(input);
        if complete {
            self.state = match self.state {
                State::BulkHeader { left } => self.bulk_header(left),
                _ => self.array_header(quota),
            };
            self.header = Header::EMPTY;
        } else if self.header.seen > LINE_LEN_MAX {
            self.state = State::Broken(match self.state {
                State::BulkHeader { .. } => ProtocolError::BulkHeaderTooLong,
                _ => ProtocolError::ArrayHeaderTooLong,
            });
        }
        used
    }

    fn array_header(&mut self, quota: &mut Quota) -> State {
        match self.header.number() {
            None | Some(ARGS_MAX_AND_ONE..) => State::Broken(ProtocolError::ArrayLength),
            Some(count @ 1..) => {
                // The table grows with what comes, not with what is announced: only a hint is taken up front.
                let hint = count.min(TABLE_KEPT as i64) as usize;
                if !grow(&mut self.args, hint, &mut self.drawn_bytes, quota) {
                    self.drop_arguments(quota);
                }
                State::BulkHeader { left: count as u32 }
            }
            Some(_) => State::Start,
        }
    }

    fn bulk_header(&mut self, left: u32) -> State {
        match (self.header.first(), self.header.number()) {
            (b'$', Some(len @ 0..=BULK_MAX)) if self.dropped => State::Body {
                left,
                missing: len as usize,
            },
            (b'$', Some(len @ 0..=BULK_MAX)) => State::Reserve {
                left,
                len: len as usize,
            },
            (b'$', _) => State::Broken(ProtocolError::BulkLength),
            (other, _) => State::Broken(ProtocolError::ExpectedBulk(other)),
        }
    }

    /// Makes room for an argument; `false` if that has to wait.
    fn reserve(&mut self, left: u32, len: usize, quota: &mut Quota) -> bool {
        let table_fits = grow(&mut self.args, 1, &mut self.drawn_bytes, quota);
        let stored = table_fits
            && if len < LARGE_BYTES {
                self.reserve_small(len, quota)
            } else {
                self.reserve_large(len, quota)
            };
        if !stored {
            // Waiting helps only if others hold what is missing, and harms nobody only while this one holds little.
            let others_hold = quota.used_bytes() > self.drawn_bytes;
            if others_hold
                && self.large.is_empty()
                && block_bytes(len) <= quota.limit_bytes() - self.drawn_bytes
            {
                return false;
            }
            self.drop_arguments(quota);
        }
        self.state = State::Body { left, missing: len };
        true
    }

    fn reserve_small(&mut self, len: usize, quota: &mut Quota) -> bool {
        if !grow(&mut self.arena, len, &mut self.drawn_bytes, quota) {
            return false;
        }
        self.args.push(Span::Arena {
            start: self.arena.len() as u32,
            len: len as u32,
        });
        true
    }

    fn reserve_large(&mut self, len: usize, quota: &mut Quota) -> bool {
        let bytes = block_bytes(len);
        if !grow(&mut self.large, 1, &mut self.drawn_bytes, quota) || !quota.take(bytes) {
            return false;
        }
        let mut block = Vec::new_in(self.large_memory.clone());
        if block.try_reserve_exact(bytes).is_err() {
            quota.give_back(bytes);
            return false;
        }
        self.drawn_bytes += bytes;
        self.args.push(Span::Large {
            index: self.large.len() as u32,
        });
        self.large.push(block);
        true
    }

    fn feed_body(&mut self, left: u32, missing: usize, input: &[u8]) -> usize {
        let part = &input[..input.len().min(missing)];
        if !self.dropped {
            match self.args.last() {
                Some(Span::Large { index }) => self.large[*index as usize].extend_from_slice(part),
                _ => self.arena.extend_from_slice(part),
            }
        }
        self.state = if part.len() == missing {
            State::Trailer { left, missing: 2 }
        } else {
            State::Body {
                left,
                missing: missing - part.len(),
            }
        };
        part.len()
    }
}

#[cfg(test)]
mod tests;
