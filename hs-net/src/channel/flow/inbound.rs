//! The receiver's half.

use alloc::boxed::Box;
use core::time::Duration;

use hs_core::platform::Instant;

use super::{MessageBuffer, check_capacity};
use crate::channel::frame::{ACK_WORDS_MAX, Ack, Connection, Cumulative};

/// So many messages in order that arrived and were not acknowledged are acknowledged at once: half of the least that a sender
/// may have under way.
const UNTOLD_MAX: u64 = 4;
/// Fewer wait so long for an answer that carries the acknowledgement: well below a sender's least timeout.
pub const ACK_DELAY: Duration = Duration::from_millis(2);

#[derive(Debug)]
struct Arrived {
    buffer: MessageBuffer,
    present: bool,
}

/// What became of a message that came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It was new.
    New,
    /// It had arrived before.
    Duplicate,
    /// There is no room for it, or it is too long for any.
    Refused,
}

/// The receiver's half.
#[derive(Debug)]
pub struct Inbound {
    ring: Box<[Arrived]>,
    taken: u64,
    next: u64,
    /// One past the highest number that has arrived.
    end: u64,
    limit_told: u64,
    echo_us: u32,
    /// What the sender was told last of what has arrived.
    next_told: u64,
    ack_due: bool,
    /// When one is due that may wait for an answer.
    ack_by: Option<Instant>,
}

impl Inbound {
    /// A receiver for `capacity` messages (a power of two) of up to `message_len_max` bytes each.
    ///
    /// # Panics
    /// If the capacity is no power of two between [`CAPACITY_MIN`](super::CAPACITY_MIN) and
    /// [`CAPACITY_MAX`](super::CAPACITY_MAX).
    pub fn new(capacity: usize, message_len_max: usize) -> Self {
        check_capacity(capacity);
        let ring = (0..capacity)
            .map(|_| Arrived {
                buffer: MessageBuffer::new(message_len_max),
                present: false,
            })
            .collect();
        Self {
            ring,
            taken: 0,
            next: 0,
            end: 0,
            limit_told: 0,
            echo_us: 0,
            next_told: 0,
            ack_due: true,
            ack_by: None,
        }
    }

    /// Forgets everything: a new connection begins, and the sender is told of the room.
    pub fn reset(&mut self) {
        for slot in &mut self.ring {
            slot.present = false;
        }
        (self.taken, self.next, self.end) = (0, 0, 0);
        (self.limit_told, self.next_told) = (0, 0);
        (self.ack_due, self.ack_by) = (true, None);
    }

    fn at(&mut self, sequence: u64) -> &mut Arrived {
        let index = sequence as usize & (self.ring.len() - 1);
        &mut self.ring[index]
    }

    fn limit(&self) -> u64 {
        self.taken + self.ring.len() as u64
    }

    /// Takes in a message.
    pub fn on_data(&mut self, sequence: u64, sent_us: u32, message: &[u8], now: Instant) -> Arrival {
        self.echo_us = sent_us;
        let arrival = self.arrive(sequence, message);
        // Whatever is out of the ordinary the sender must hear of: it may have lost something.
        if arrival != Arrival::New || self.shows_gap() || self.next - self.next_told >= UNTOLD_MAX {
            self.ack_due = true;
        } else if self.ack_by.is_none() {
            self.ack_by = Some(now + ACK_DELAY);
        }
        arrival
    }

    fn arrive(&mut self, sequence: u64, message: &[u8]) -> Arrival {
        if sequence < self.next {
            return Arrival::Duplicate;
        }
        if sequence >= self.limit() {
            return Arrival::Refused;
        }
        let slot = self.at(sequence);
        if slot.present {
            return Arrival::Duplicate;
        }
        let Some(space) = slot.buffer.bytes.get_mut(..message.len()) else {
            return Arrival::Refused;
        };
        space.copy_from_slice(message);
        slot.buffer.len = message.len();
        slot.present = true;
        self.end = self.end.max(sequence + 1);
        while self.next < self.end && self.at(self.next).present {
            self.next += 1;
        }
        Arrival::New
    }

    /// The sender asks for an ack.
    pub fn on_probe(&mut self) {
        self.ack_due = true;
    }

    /// Messages in order that nobody has read.
    pub fn readable(&self) -> usize {
        (self.next - self.taken) as usize
    }

    /// Swaps the next message in order with the buffer that is handed in; `false` if there is none.
    pub fn take(&mut self, buffer: &mut MessageBuffer) -> bool {
        if self.taken == self.next {
            return false;
        }
        let slot = self.at(self.taken);
        core::mem::swap(&mut slot.buffer, buffer);
        slot.present = false;
        self.taken += 1;
        // A sender may be waiting for room: tell it, but not of each message.
        let step = (self.ring.len() as u64 / 4).max(1);
        self.ack_due |= self.limit() >= self.limit_told + step;
        true
    }

    /// Whether an ack is due.
    pub fn ack_due(&self) -> bool {
        self.ack_due
    }

    /// Whether messages are missing before one that has arrived.
    pub fn shows_gap(&self) -> bool {
        self.end > self.next
    }

    /// When an ack is due, if no answer carries it before.
    pub fn ack_by(&self) -> Option<Instant> {
        self.ack_by
    }

    /// An ack that has waited long enough is due.
    pub fn on_timer(&mut self, now: Instant) {
        self.ack_due |= self.ack_by.is_some_and(|at| at <= now);
    }

    /// What an answer says of what has arrived. That counts as the ack, unless there is more to show than an answer can.
    pub fn acknowledge(&mut self) -> Cumulative {
        if !self.shows_gap() {
            (self.ack_due, self.ack_by) = (false, None);
        }
        (self.limit_told, self.next_told) = (self.limit(), self.next);
        Cumulative {
            next: self.next,
            limit: self.limit_told,
            echo_us: self.echo_us,
        }
    }

    /// The ack that is due, if one is, counted as sent.
    pub fn ack(&mut self, connection: Connection) -> Option<Ack> {
        if !self.ack_due {
            return None;
        }
        (self.ack_due, self.ack_by) = (false, None);
        (self.limit_told, self.next_told) = (self.limit(), self.next);
        let mut bitmap = [0; ACK_WORDS_MAX];
        for sequence in self.next + 1..self.end {
            if self.at(sequence).present {
                let bit = (sequence - self.next - 1) as usize;
                bitmap[bit / 64] |= 1 << (bit % 64);
            }
        }
        Some(Ack {
            connection,
            next: self.next,
            limit: self.limit_told,
            echo_us: self.echo_us,
            bitmap,
        })
    }
}
