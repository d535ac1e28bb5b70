//! The settings of a service stack.

use core::time::Duration;

use hs_core::lines::SLOTS_MAX;
use hs_core::role::Network;
use smoltcp::iface::SocketStorage;

use super::entry::Entry;
use super::{demux, timers};

/// What a stack is made with. Sizes are for ever: everything is allocated at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceConfig {
    /// The service's address.
    pub network: Network,
    /// Connections at once.
    pub connections_max: usize,
    /// Receive buffer of a connection, in bytes.
    pub receive_len: usize,
    /// Send buffer of a connection, in bytes.
    pub send_len: usize,
    /// Each of the two buffers of a UDP socket, in bytes.
    pub udp_buffer_len: usize,
    /// Datagrams in each of the two.
    pub udp_datagrams_max: usize,
    /// The commit queue, in bytes, a multiple of 8.
    pub queue_len: usize,
    /// The queue of services that opted out, in bytes, a multiple of 8.
    pub prompt_queue_len: usize,
    /// Longest frame, with the 14 bytes of the Ethernet header; the same on both machines.
    pub frame_len_max: usize,
    /// A silent client is asked whether it lives after this.
    pub keep_alive: Duration,
    /// A client that says nothing for this long is dead.
    pub timeout: Duration,
    /// A connection that is not complete after this is dropped.
    pub half_open: Duration,
    /// A connection that the application has closed is reset after this.
    pub linger: Duration,
}

impl ServiceConfig {
    /// 128 connections with 16 KiB in and 32 KiB out each, behind `network`: about 6 MiB. A node has as many as its
    /// options say.
    pub fn new(network: Network) -> Self {
        Self {
            network,
            connections_max: 128,
            receive_len: 16 << 10,
            send_len: 32 << 10,
            udp_buffer_len: 8 << 10,
            udp_datagrams_max: 32,
            queue_len: 1 << 20,
            prompt_queue_len: 128 << 10,
            frame_len_max: 1514,
            keep_alive: Duration::from_secs(15),
            timeout: Duration::from_secs(60),
            half_open: Duration::from_secs(5),
            linger: Duration::from_secs(30),
        }
    }

    /// Sockets: one a connection, and one that listens while all are in use would have to refuse.
    pub(super) fn slots(&self) -> usize {
        self.connections_max.clamp(1, SLOTS_MAX - super::LISTENERS_MAX) + super::LISTENERS_MAX
    }

    /// Memory that a stack of these settings needs, with the rounding of a class's blocks to powers of two.
    pub fn memory_bytes(&self) -> usize {
        let buffers = self.receive_len.next_power_of_two() + self.send_len.next_power_of_two();
        // What is kept of a datagram is below 64 bytes.
        let udp_buffers =
            2 * (self.udp_buffer_len.next_power_of_two() + 64 * self.udp_datagrams_max.next_power_of_two());
        let slots = self.slots();
        let array = |len: usize, item_len: usize| (len * item_len).next_power_of_two();
        slots * buffers
            + array(slots, size_of::<SocketStorage<'_>>())
            + array(slots, size_of::<Entry>())
            + array(demux::buckets_len(slots), size_of::<u16>())
            + array(timers::tree_len(slots), size_of::<i64>())
            + super::UDP_SOCKETS_MAX * (udp_buffers + (2 << 10))
            + self.queue_len.next_power_of_two()
            + self.prompt_queue_len.next_power_of_two()
            + (256 << 10)
    }

    pub(super) fn half_open_us(&self) -> i64 {
        self.half_open.as_micros() as i64
    }

    pub(super) fn linger_us(&self) -> i64 {
        self.linger.as_micros() as i64
    }
}
