//! The sender's half.

use alloc::boxed::Box;
use core::time::Duration;

use hs_core::platform::Instant;

use super::{CAPACITY_MIN, MessageBuffer, check_capacity};
use crate::channel::frame::Ack;

/// Least time to wait for an acknowledgement.
pub const RTO_MIN: Duration = Duration::from_millis(5);
/// Longest, after any number of timeouts.
pub const RTO_MAX: Duration = Duration::from_millis(200);
/// How many later transmissions must have arrived before one counts as lost.
const REORDER: u64 = 3;
/// Congestion window to begin with, and the least, in datagrams.
const CONGESTION_START: u64 = 64;
const CONGESTION_MIN: u64 = 8;

/// Round trip and what follows from it.
#[derive(Debug)]
struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    timeouts: u32,
}

impl RoundTrip {
    const NEW: Self = Self {
        smoothed: None,
        variation: Duration::ZERO,
        timeouts: 0,
    };

    /// RFC 6298's estimator.
    fn sample(&mut self, rtt: Duration) {
        self.timeouts = 0;
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }

    fn timeout(&self) -> Duration {
        let base = match self.smoothed {
            Some(smoothed) => smoothed + self.variation * 4,
            None => RTO_MIN * 4,
        };
        (base.clamp(RTO_MIN, RTO_MAX) * (1 << self.timeouts.min(6))).min(RTO_MAX)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flight {
    Queued,
    Travelling,
    Lost,
    Arrived,
}

#[derive(Debug)]
struct Sent {
    buffer: MessageBuffer,
    flight: Flight,
    /// Counts transmissions over all messages: says which of two was sent later.
    order: u64,
}

/// Why an acknowledgement was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckRefused;

/// The sender's half.
#[derive(Debug)]
pub struct Outbound {
    ring: Box<[Sent]>,
    acked: u64,
    sent: u64,
    tail: u64,
    limit: u64,
    in_flight: u64,
    lost: u64,
    next_order: u64,
    arrived_order: u64,
    window: u64,
    window_credit: u64,
    slow_start_below: u64,
    /// Losses of transmissions before this one belong to a halving that has been done.
    recovery_order: u64,
    round_trip: RoundTrip,
    timer_from: Option<Instant>,
    retransmitted: u64,
}

/// What [`Outbound::transmit`] wants on the wire.
#[derive(Debug)]
pub enum Outgoing<'a> {
    /// This message under this number.
    Message(u64, &'a [u8]),
    /// A probe: nothing is in flight, and the receiver's last word was that it has no room.
    Probe,
}

impl Outbound {
    /// A sender for `capacity` messages (a power of two) of up to `message_len_max` bytes each.
    ///
    /// # Panics
    /// If the capacity is no power of two between [`CAPACITY_MIN`](super::CAPACITY_MIN) and
    /// [`CAPACITY_MAX`](super::CAPACITY_MAX).
    pub fn new(capacity: usize, message_len_max: usize) -> Self {
        check_capacity(capacity);
        let ring = (0..capacity)
            .map(|_| Sent {
                buffer: MessageBuffer::new(message_len_max),
                flight: Flight::Queued,
                order: 0,
            })
            .collect();
        let mut outbound = Self {
            ring,
            acked: 0,
            sent: 0,
            tail: 0,
            limit: 0,
            in_flight: 0,
            lost: 0,
            next_order: 0,
            arrived_order: 0,
            window: CONGESTION_START,
            window_credit: 0,
            slow_start_below: u64::MAX,
            recovery_order: 0,
            round_trip: RoundTrip::NEW,
            timer_from: None,
            retransmitted: 0,
        };
        outbound.reset();
        outbound
    }

    /// Forgets everything but the retransmission count: a new connection begins. Until the receiver has said how much
    /// room it has, it is taken to have the least that any has.
    pub fn reset(&mut self) {
        (self.acked, self.sent, self.tail) = (0, 0, 0);
        self.limit = CAPACITY_MIN as u64;
        (self.in_flight, self.lost, self.next_order, self.arrived_order) = (0, 0, 0, 0);
        (self.window, self.window_credit) = (CONGESTION_START, 0);
        (self.slow_start_below, self.recovery_order) = (u64::MAX, 0);
        self.round_trip = RoundTrip::NEW;
        self.timer_from = None;
    }

    fn capacity(&self) -> u64 {
        self.ring.len() as u64
    }

    fn at(&mut self, sequence: u64) -> &mut Sent {
        let index = sequence as usize & (self.ring.len() - 1);
        &mut self.ring[index]
    }

    /// Messages that can be queued now.
    pub fn room(&self) -> usize {
        (self.capacity() - (self.tail - self.acked)) as usize
    }

    /// Messages queued and not yet on the wire for the first time.
    pub fn unsent(&self) -> usize {
        (self.tail - self.sent) as usize
    }

    /// Whether windows allow another message on the wire now.
    pub fn may_transmit(&self) -> bool {
        self.in_flight < self.window && (self.lost > 0 || self.sent < self.tail.min(self.limit))
    }

    /// Messages sent again since the ring was made.
    pub fn retransmitted(&self) -> u64 {
        self.retransmitted
    }

    /// The smoothed round trip, once one was measured.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.smoothed
    }

    /// Queues the message in `buffer` and leaves a free buffer in its place; `false` if there is no room.
    pub fn queue(&mut self, buffer: &mut MessageBuffer) -> bool {
        if self.room() == 0 {
            return false;
        }
        let slot = self.at(self.tail);
        core::mem::swap(&mut slot.buffer, buffer);
        slot.flight = Flight::Queued;
        self.tail += 1;
        true
    }

    /// The next thing to send at `now`, counted as sent. Nothing, if window and receiver allow nothing.
    pub fn transmit(&mut self, now: Instant) -> Option<Outgoing<'_>> {
        let sequence = if self.in_flight >= self.window {
            return None;
        } else if self.lost > 0 {
            let lost = (self.acked..self.sent).find(|&sequence| self.at(sequence).flight == Flight::Lost);
            self.lost -= 1;
            self.retransmitted += 1;
            lost.expect("the number of lost messages is that of their marks")
        } else if self.sent < self.tail.min(self.limit) {
            self.sent += 1;
            self.sent - 1
        } else if self.probe_due(now) {
            self.timer_from = Some(now);
            self.round_trip.timeouts += 1;
            return Some(Outgoing::Probe);
        } else {
            if self.waits_for_room() && self.timer_from.is_none() {
                self.timer_from = Some(now);
            }
            return None;
        };
        let order = self.next_order;
        self.next_order += 1;
        self.in_flight += 1;
        if self.timer_from.is_none() || self.in_flight == 1 {
            self.timer_from = Some(now);
        }
        let slot = self.at(sequence);
        (slot.flight, slot.order) = (Flight::Travelling, order);
        Some(Outgoing::Message(sequence, slot.buffer.message()))
    }

    fn waits_for_room(&self) -> bool {
        self.in_flight == 0 && self.lost == 0 && self.sent < self.tail && self.sent >= self.limit
    }

    fn probe_due(&self, now: Instant) -> bool {
        self.waits_for_room()
            && self
                .timer_from
                .is_some_and(|from| now >= from + self.round_trip.timeout())
    }

    /// When [`on_timer`](Outbound::on_timer) or [`transmit`](Outbound::transmit) has something to do, if nothing arrives.
    pub fn poll_at(&self) -> Option<Instant> {
        let waits = self.in_flight > 0 || self.waits_for_room();
        self.timer_from
            .filter(|_| waits)
            .map(|from| from + self.round_trip.timeout())
    }

    /// Declares everything in flight lost when the timeout has passed.
    pub fn on_timer(&mut self, now: Instant) {
        let Some(from) = self.timer_from else { return };
        if self.in_flight == 0 || now < from + self.round_trip.timeout() {
            return;
        }
        for sequence in self.acked..self.sent {
            let slot = self.at(sequence);
            if slot.flight == Flight::Travelling {
                slot.flight = Flight::Lost;
                self.lost += 1;
            }
        }
        self.in_flight = 0;
        self.slow_start_below = (self.window / 2).max(CONGESTION_MIN);
        self.window = CONGESTION_MIN;
        self.recovery_order = self.next_order;
        self.round_trip.timeouts += 1;
        self.timer_from = Some(now);
    }

    /// Takes in what the receiver says.
    ///
    /// # Errors
    /// It speaks of messages that were never sent; nothing is changed then.
    pub fn on_ack(&mut self, ack: &Ack, now: Instant) -> Result<(), AckRefused> {
        let last_shown = ack
            .bitmap
            .iter()
            .rposition(|&word| word != 0)
            .map(|word| word as u64 * 64 + 63 - u64::from(ack.bitmap[word].leading_zeros()));
        let shown_end = match last_shown {
            Some(bit) => ack.next.checked_add(bit + 2).ok_or(AckRefused)?,
            None => ack.next,
        };
        if shown_end > self.sent || ack.limit < ack.next {
            return Err(AckRefused);
        }
        let mut arrived = 0;
        for sequence in self.acked..ack.next {
            arrived += self.arrive(sequence);
        }
        if let Some(last) = last_shown {
            for bit in 0..=last {
                let sequence = ack.next + 1 + bit;
                if sequence >= self.acked && ack.bitmap[(bit / 64) as usize] >> (bit % 64) & 1 == 1 {
                    arrived += self.arrive(sequence);
                }
            }
        }
        self.acked = self.acked.max(ack.next);
        // No more than the ring: a limit that wraps around would allow everything for ever.
        let limit = ack.limit.min(self.acked + self.capacity());
        if limit > self.limit {
            self.limit = limit;
            self.round_trip.timeouts = 0;
        }
        if arrived > 0 {
            let rtt_us = (now.as_micros() as u32).wrapping_sub(ack.echo_us);
            // Half of the clock's low bits: what looks longer is a copy from before.
            if rtt_us < u32::MAX / 2 {
                self.round_trip.sample(Duration::from_micros(rtt_us.into()));
            }
            self.timer_from = (self.in_flight > 0).then_some(now);
            self.grow(arrived);
        }
        self.find_lost(shown_end);
        Ok(())
    }

    /// Counts `sequence` as arrived; 1 if that is news.
    fn arrive(&mut self, sequence: u64) -> u64 {
        let slot = self.at(sequence);
        let (flight, order) = (slot.flight, slot.order);
        slot.flight = Flight::Arrived;
        match flight {
            Flight::Travelling => self.in_flight -= 1,
            Flight::Lost => self.lost -= 1,
            Flight::Arrived => return 0,
            Flight::Queued => unreachable!("only messages that were sent are looked up here"),
        }
        self.arrived_order = self.arrived_order.max(order);
        1
    }

    fn grow(&mut self, arrived: u64) {
        if self.window < self.slow_start_below {
            self.window += arrived;
        } else {
            self.window_credit += arrived;
            if self.window_credit >= self.window {
                self.window_credit -= self.window;
                self.window += 1;
            }
        }
        self.window = self.window.min(self.capacity());
    }

    fn find_lost(&mut self, end: u64) {
        for sequence in self.acked..end {
            let arrived_order = self.arrived_order;
            let slot = self.at(sequence);
            if slot.flight == Flight::Travelling && slot.order + REORDER <= arrived_order {
                slot.flight = Flight::Lost;
                let order = slot.order;
                self.in_flight -= 1;
                self.lost += 1;
                if order >= self.recovery_order {
                    self.window = (self.window / 2).max(CONGESTION_MIN);
                    self.slow_start_below = self.window;
                    self.recovery_order = self.next_order;
                }
            }
        }
    }
}
