//! The replication channel: the reliable stream of one connection between the two nodes of a pair.
//!
//! Sans I/O: datagrams and `now` go in, datagrams come out. [`frame`] is the wire format, [`flow`] the reliability,
//! [`handshake`] how two nodes come to a connection. UDP and its addresses are [`wire`](crate::wire)'s business.

pub mod flow;
pub mod frame;
pub mod handshake;

use hs_core::platform::Instant;

use self::flow::{Arrival, Inbound, MessageBuffer, Outbound, Outgoing};
use self::frame::{Ack, Connection, DATA_HEADER_LEN, DATAGRAM_LEN_MIN, Data, Datagram};

/// Memory for messages in flight, in bytes and in each direction, before rounding down to a power of two of datagrams.
pub const WINDOW_BYTES: usize = 1 << 20;

/// Both directions of a connection. Its buffers outlive connections: [`open`](Channel::open) begins the next.
#[derive(Debug)]
pub struct Channel {
    connection: Connection,
    outbound: Outbound,
    inbound: Inbound,
    /// What this node's link carries, and what the peer's does too.
    message_len_own: usize,
    message_len_max: usize,
}

impl Channel {
    /// A channel on a link that carries datagrams of up to `datagram_len_max` bytes, closed.
    ///
    /// # Panics
    /// If the link carries less than [`DATAGRAM_LEN_MIN`].
    pub fn new(datagram_len_max: usize) -> Self {
        assert!(
            datagram_len_max >= DATAGRAM_LEN_MIN,
            "a link with datagrams of {datagram_len_max} bytes"
        );
        let message_len = datagram_len_max - DATA_HEADER_LEN;
        let fitting = (WINDOW_BYTES / datagram_len_max).clamp(flow::CAPACITY_MIN, flow::CAPACITY_MAX);
        let capacity = 1 << fitting.ilog2();
        Self {
            connection: Connection(0),
            outbound: Outbound::new(capacity, message_len),
            inbound: Inbound::new(capacity, message_len),
            message_len_own: message_len,
            message_len_max: message_len,
        }
    }

    /// Begins a new connection, to a peer whose link carries datagrams of up to `peer_datagram_len_max` bytes. What was
    /// in flight is forgotten.
    pub fn open(&mut self, connection: Connection, peer_datagram_len_max: usize) {
        self.connection = connection;
        self.outbound.reset();
        self.inbound.reset();
        self.message_len_max = self.message_len_own.min(peer_datagram_len_max - DATA_HEADER_LEN);
    }

    /// The connection that was opened last.
    pub fn connection(&self) -> Connection {
        self.connection
    }

    /// Longest message, in bytes.
    pub fn message_len_max(&self) -> usize {
        self.message_len_max
    }

    /// A buffer to swap messages with.
    pub fn message_buffer(&self) -> MessageBuffer {
        MessageBuffer::new(self.message_len_own)
    }

    /// Messages that can be queued now.
    pub fn room(&self) -> usize {
        self.outbound.room()
    }

    /// Messages queued and not yet on the wire.
    pub fn unsent(&self) -> usize {
        self.outbound.unsent()
    }

    /// Whether windows allow another message on the wire now.
    pub fn may_transmit(&self) -> bool {
        self.outbound.may_transmit()
    }

    /// Messages sent again, over all connections.
    pub fn retransmitted(&self) -> u64 {
        self.outbound.retransmitted()
    }

    /// Queues the message in `buffer`, and leaves a free buffer there; `false` if there is no room.
    ///
    /// # Panics
    /// If the message is longer than [`message_len_max`](Channel::message_len_max).
    pub fn queue(&mut self, buffer: &mut MessageBuffer) -> bool {
        assert!(
            buffer.message().len() <= self.message_len_max,
            "message too long for the link"
        );
        self.outbound.queue(buffer)
    }

    /// Messages that arrived in order and wait for [`take`](Channel::take).
    pub fn readable(&self) -> usize {
        self.inbound.readable()
    }

    /// Swaps the next message into `buffer`; `false` if none is there.
    pub fn take(&mut self, buffer: &mut MessageBuffer) -> bool {
        self.inbound.take(buffer)
    }

    /// Whether an acknowledgement waits to be sent.
    pub fn ack_due(&self) -> bool {
        self.inbound.ack_due()
    }

    /// A message came in, and an acknowledgement with it; `false` if it was refused.
    pub fn on_data(&mut self, data: &Data<'_>, now: Instant) -> bool {
        self.on_ack(&data.received.alone(data.connection), now)
            && self
                .inbound
                .on_data(data.sequence, data.sent_us, data.message, now)
                != Arrival::Refused
    }

    /// An acknowledgement came in; `false` if it was refused.
    pub fn on_ack(&mut self, ack: &Ack, now: Instant) -> bool {
        ack.connection == self.connection && self.outbound.on_ack(ack, now).is_ok()
    }

    /// The peer asks for an ack; `false` if it was refused.
    pub fn on_probe(&mut self, connection: Connection) -> bool {
        let known = connection == self.connection;
        if known {
            self.inbound.on_probe();
        }
        known
    }

    /// Writes the next datagram to send into `into` and returns its length, or nothing. An acknowledgement that shows what is
    /// missing comes first, and any other only if no message carries it.
    ///
    /// # Panics
    /// If `into` is shorter than a datagram on this link.
    pub fn transmit(&mut self, now: Instant, into: &mut [u8]) -> Option<usize> {
        self.outbound.on_timer(now);
        self.inbound.on_timer(now);
        if self.inbound.shows_gap()
            && let Some(ack) = self.inbound.ack(self.connection)
        {
            return Some(Datagram::Ack(ack).emit(into));
        }
        let datagram = match self.outbound.transmit(now) {
            Some(Outgoing::Message(sequence, message)) => Datagram::Data(Data {
                connection: self.connection,
                received: self.inbound.acknowledge(),
                sequence,
                sent_us: now.as_micros() as u32,
                message,
            }),
            Some(Outgoing::Probe) => Datagram::Probe(self.connection),
            None => Datagram::Ack(self.inbound.ack(self.connection)?),
        };
        Some(datagram.emit(into))
    }

    /// When [`transmit`](Channel::transmit) should be asked again, if nothing arrives and nothing is queued.
    pub fn poll_at(&self) -> Option<Instant> {
        [self.outbound.poll_at(), self.inbound.ack_by()]
            .into_iter()
            .flatten()
            .min()
    }
}

#[cfg(test)]
mod tests;
