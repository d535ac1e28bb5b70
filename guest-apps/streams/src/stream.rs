//! One stream: where it stands, and what it does next.

use alloc::format;

use crc32fast::Hasher;
use hs_net::transport::{End, Transport};

use crate::{Order, OrderError, Pattern};

/// Bytes that a stream reads or makes at once. A multiple of 8, see [`Pattern::fill`].
pub const PIECE_BYTES: usize = 4096;
/// Longest first line.
const LINE_BYTES: usize = 64;
/// Pieces of one stream in a round, so that none starves the others.
const PIECES_PER_ROUND: usize = 16;

/// What is being done for a client.
#[derive(Debug)]
enum Task {
    /// Its first line is read.
    Order { line: [u8; LINE_BYTES], len: usize },
    /// Its bytes are counted.
    Sink { left_bytes: u64, count: u64, crc: u32 },
    /// Bytes are made for it.
    Source { left_bytes: u64, pattern: Pattern },
    /// Its bytes go back.
    Echo,
    /// All is done but for what is still to be sent.
    Farewell,
}

/// What a stream does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Nothing until an event comes.
    Sleep,
    /// Its share of the round is used up.
    Again,
    /// It is done: close it.
    Close,
    /// Its connection is no more.
    Gone,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    task: Task,
    /// What is to be sent: these bytes of it.
    out: [u8; PIECE_BYTES],
    out_begin: usize,
    out_end: usize,
}

impl Stream {
    pub(crate) fn new() -> Self {
        Self {
            task: Task::Order {
                line: [0; LINE_BYTES],
                len: 0,
            },
            out: [0; PIECE_BYTES],
            out_begin: 0,
            out_end: 0,
        }
    }

    /// Does its share of a round, and says whether anything was done and what comes next. `scratch` need not be kept.
    pub(crate) fn serve<T: Transport>(
        &mut self,
        transport: &mut T,
        connection: T::Connection,
        scratch: &mut [u8; PIECE_BYTES],
    ) -> (bool, Next) {
        let mut changed = false;
        for _ in 0..PIECES_PER_ROUND {
            if self.out_begin < self.out_end {
                let Ok(sent) = transport.send(connection, &self.out[self.out_begin..self.out_end]) else {
                    return (changed, Next::Gone);
                };
                self.out_begin += sent;
                changed |= sent > 0;
                if self.out_begin < self.out_end {
                    return (changed, Next::Sleep);
                }
            }
            match &mut self.task {
                Task::Farewell => return (changed, Next::Close),
                Task::Source { left_bytes: 0, .. } => self.task = Task::Farewell,
                Task::Sink { left_bytes: 0, .. } => self.report(),
                Task::Source { left_bytes, pattern } => {
                    let len = PIECE_BYTES.min(usize::try_from(*left_bytes).unwrap_or(PIECE_BYTES));
                    pattern.fill(&mut self.out[..len]);
                    *left_bytes -= len as u64;
                    (self.out_begin, self.out_end) = (0, len);
                }
                Task::Order { .. } | Task::Sink { .. } | Task::Echo => {
                    match transport.receive(connection, scratch) {
                        Ok(0) => return (changed, Next::Sleep),
                        Ok(len) => self.take(&scratch[..len]),
                        Err(End::Finished) => self.finish(),
                        Err(End::Gone) => return (changed, Next::Gone),
                    }
                }
            }
            changed = true;
        }
        (changed, Next::Again)
    }

    /// Takes what has arrived: at most a piece, and only when nothing waits to be sent.
    fn take(&mut self, mut bytes: &[u8]) {
        if let Task::Order { line, len } = &mut self.task {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            let Some(room) = line.get_mut(*len..*len + piece.len()) else {
                return self.refuse(OrderError);
            };
            room.copy_from_slice(piece);
            *len += piece.len();
            let Some(end) = end else { return };
            bytes = &bytes[end + 1..];
            match Order::parse(&line[..*len]) {
                Ok(order) => self.begin(order),
                Err(error) => return self.refuse(error),
            }
        }
        match &mut self.task {
            Task::Sink {
                left_bytes,
                count,
                crc,
            } => {
                // What is more than was announced is not counted.
                let len = bytes
                    .len()
                    .min(usize::try_from(*left_bytes).unwrap_or(usize::MAX));
                let mut hasher = Hasher::new_with_initial_len(*crc, *count);
                hasher.update(&bytes[..len]);
                *crc = hasher.finalize();
                *count += len as u64;
                *left_bytes -= len as u64;
            }
            Task::Echo => self.put(bytes),
            Task::Order { .. } | Task::Source { .. } | Task::Farewell => {}
        }
    }

    fn begin(&mut self, order: Order) {
        self.task = match order {
            Order::Sink { len_bytes } => Task::Sink {
                left_bytes: len_bytes,
                count: 0,
                crc: 0,
            },
            Order::Source { len_bytes, seed } => Task::Source {
                left_bytes: len_bytes,
                pattern: Pattern::new(seed),
            },
            Order::Echo => Task::Echo,
        };
    }

    /// The client sends no more.
    fn finish(&mut self) {
        match self.task {
            Task::Sink { .. } => self.report(),
            _ => self.task = Task::Farewell,
        }
    }

    /// Says what was counted.
    fn report(&mut self) {
        if let Task::Sink { count, crc, .. } = self.task {
            self.put(format!("{count} {crc:08x}\n").as_bytes());
            self.task = Task::Farewell;
        }
    }

    fn refuse(&mut self, error: OrderError) {
        self.put(format!("{error}\n").as_bytes());
        self.task = Task::Farewell;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out[..bytes.len()].copy_from_slice(bytes);
        (self.out_begin, self.out_end) = (0, bytes.len());
    }
}
