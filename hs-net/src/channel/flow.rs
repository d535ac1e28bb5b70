//! A reliable, ordered stream of messages over datagrams: one sender's half and one receiver's half.
//!
//! Both halves are rings of fixed buffers, allocated once; in steady state nothing is allocated, and both are
//! bounded. A message sits at the same place, its sequence number modulo the ring, on both machines:
//!
//! ```text
//! sender     acked ......... sent ......... tail                 acked + capacity
//!            | in flight,    | queued,      | free               |
//!            | lost or known | not yet sent |                    |
//!
//! receiver   taken ......... next ......................... taken + capacity = limit
//!            | in order,     | may arrive in any order           | refused
//!            | not yet read  |                                   |
//! ```
//!
//! The receiver acknowledges `next`, shows with a bitmap what has arrived beyond it, and allows up to `limit`:
//! a receiver whose reader is slow stops its sender. A datagram counts as lost when three later transmissions
//! are known to have arrived, or when nothing was heard for the retransmission timeout; that follows the measured round
//! trip from [`RTO_MIN`] up, because a TCP stack's second would stall the pair for a second.
//!
//! A few messages in order are not acknowledged at once: the answer to them is soon to come, and carries the acknowledgement; or
//! more of them come. A datagram less in each direction is a large part of a small checkpoint's time.
//!
//! A congestion window bounds what may be in flight: it halves on loss and grows back, so that a
//! link that drops under load is not loaded for ever. Deliberately absent: pacing and fairness; nobody else is on the
//! cluster link.

mod inbound;
mod outbound;

use alloc::boxed::Box;

pub use self::inbound::{ACK_DELAY, Arrival, Inbound};
pub use self::outbound::{AckRefused, Outbound, Outgoing, RTO_MAX, RTO_MIN};
use super::frame::ACK_WORDS_MAX;

/// Least and most messages in flight or waiting for a reader; the most is what an ack's bitmap can show.
pub const CAPACITY_MIN: usize = 16;
/// See [`CAPACITY_MIN`].
pub const CAPACITY_MAX: usize = ACK_WORDS_MAX * 64;

fn check_capacity(capacity: usize) {
    let fits = capacity.is_power_of_two() && (CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity);
    assert!(fits, "a ring of {capacity} messages");
}

/// A buffer for one message. Rings and their users swap these instead of copying.
#[derive(Debug)]
pub struct MessageBuffer {
    bytes: Box<[u8]>,
    len: usize,
}

impl MessageBuffer {
    /// An empty one for messages of up to `len_max` bytes.
    pub fn new(len_max: usize) -> Self {
        Self {
            bytes: alloc::vec![0; len_max].into_boxed_slice(),
            len: 0,
        }
    }

    /// The message.
    pub fn message(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// All of the buffer, to write a message to.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Says that the first `len` bytes are the message.
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn set_len(&mut self, len: usize) {
        assert!(
            len <= self.bytes.len(),
            "a message of {len} bytes in a buffer of {}",
            self.bytes.len()
        );
        self.len = len;
    }
}
