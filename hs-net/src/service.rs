//! The service stack: TCP and UDP for an application, all of it in checkpointable memory.
//!
//! The stack is smoltcp's, with its sockets, buffers, clock and queue of outgoing frames in a class of its own, so that a
//! checkpoint holds it as it stands between two calls. It does no I/O: frames and `now` go in, frames go out through the
//! [`CommitQueue`].
//!
//! ```text
//! root SERVICE ──> Service ┬─ Interface (addresses, ARP table)
//!  (class SERVICE_CLASS)   ├─ entries: one a connection, with its socket ──> receive and send buffers
//!                          ├─ lines of entries: free, to send, to be looked at, with news
//!                          ├─ demux: which entry a segment is for
//!                          ├─ timers: when an entry has something to do by itself
//!                          ├─ UDP slots: one a socket of a descriptor
//!                          ├─ fingerprints of the last frames that were taken in
//!                          └─ CommitQueue ──> ring of frames; and one for services that opted out
//! ```
//!
//! Nothing in there points outside, and no call takes a pointer in. An application's loop is
//!
//! ```text
//! loop {
//!     poll; for each event { recv, work, send }; checkpoint if something changed; sleep until poll_at or a signal
//! }
//! ```
//!
//! smoltcp walks all sockets of a set for each frame, for each look for something to send, and for each question when there
//! will be. So each connection's socket is in a set of its own, a table finds it, and only those are visited that
//! something has happened to or whose time has come: what a segment costs does not depend on how many connections are open.
//!
//! smoltcp has no backlog: a SYN needs a socket in LISTEN. So one socket per listener is kept there, and when a SYN has taken
//! it, another takes its place before the next frame is looked at. A repeated SYN finds its connection in the table,
//! and never the listener.
//!
//! A service may opt out of output commit when it [listens](Service::listen_with): its frames go out past the commit queue, and
//! its connections are reset at a takeover. All others go on.
//!
//! Deliberately absent: a second thread in one stack (its lock is the node's), fragments, IPv6, UDP sockets without a
//! descriptor.

mod config;
mod connection;
mod demux;
mod device;
mod entry;
mod ingest;
mod listen;
mod occupied;
mod output;
mod probe;
mod rehearsal;
mod takeover;
mod timers;
mod udp;
mod visit;

use core::fmt;
use core::net::Ipv4Addr;

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use hs_core::platform::Instant;
use smoltcp::iface::{Interface, SocketSet, SocketStorage};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr};

pub use self::config::ServiceConfig;
pub use self::connection::ConnectionError;
use self::demux::Demux;
use self::device::QueueDevice;
pub use self::entry::{ConnectionId, Event, News};
use self::entry::{Entry, EntryLines, Line};
use self::listen::Listener;
pub use self::listen::{LISTENERS_MAX, ListenError};
use self::occupied::Occupied;
use self::output::Output;
pub(crate) use self::rehearsal::rehearse;
pub use self::takeover::{Resumed, Unseen};
use self::timers::{NEVER_US, Timers};
pub(crate) use self::udp::UNBOUND;
use self::udp::UdpSlot;
pub use self::udp::{UDP_SOCKETS_MAX, UdpError};
use crate::commit::{CommitQueue, Tail};
use crate::ingress::Recent;

const MAGIC: u64 = u64::from_le_bytes(*b"HsServ01");

/// How long a reset is tried to be sent, in microseconds: there may be nobody who answers for the client's address.
const RESET_US: i64 = 1_000_000;
/// Any port but 0: a socket that is to forget its client listens on it for a moment, between two frames.
const FORGETTING_PORT: u16 = 1;

/// Why a service stack could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceError {
    /// Its class has no memory left.
    OutOfMemory,
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not enough checkpointable memory for the service stack's sockets")
    }
}

/// How many of something there were since the stack was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Connections that were opened.
    pub opened: u64,
    /// SYNs refused because all sockets were in use.
    pub refused: u64,
    /// SYNs ignored because the backlog was full.
    pub ignored: u64,
    /// Received frames that were dropped because the commit queue was full or their checksum was wrong.
    pub dropped: u64,
    /// Times that a connection was looked at for something to send or for news.
    pub visits: u64,
}

/// The service stack.
pub struct Service {
    magic: u64,
    /// The stack's time is the machine's plus this.
    clock_offset_us: i64,
    /// The stack's newest time.
    clock_us: i64,
    config: ServiceConfig,
    interface: Interface,
    entries: &'static mut [Entry],
    lines: EntryLines,
    occupied: Occupied,
    demux: Demux,
    timers: Timers,
    listeners: [Option<Listener>; LISTENERS_MAX],
    udp: &'static mut [UdpSlot],
    udp_sockets: SocketSet<'static>,
    /// Something has happened to a UDP socket since they were last asked what they have to send.
    udp_touched: bool,
    /// When a UDP socket has something to do by itself, on the stack's clock.
    udp_due_us: i64,
    /// The next port for a UDP socket that may have any.
    udp_any_port: u16,
    output: Output,
    /// The frames that were taken in last.
    recent: Recent,
    counters: Counters,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("config", &self.config)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

fn leak<T, A: Allocator + Clone + 'static>(
    len: usize,
    allocator: &A,
    mut make: impl FnMut(usize) -> Result<T, ServiceError>,
) -> Result<&'static mut [T], ServiceError> {
    let mut items = Vec::new_in(allocator.clone());
    items
        .try_reserve_exact(len)
        .map_err(|_| ServiceError::OutOfMemory)?;
    for index in 0..len {
        items.push(make(index)?);
    }
    Ok(Box::leak(items.into_boxed_slice()))
}

/// Independent numbers from one.
fn spread<const N: usize>(seed: u64) -> [u64; N] {
    let mut state = seed;
    [(); N].map(|()| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    })
}

impl Service {
    /// Makes a stack, with everything that it will ever need, in `allocator`'s memory, and never gives it back.
    ///
    /// # Errors
    /// The memory does not suffice: see [`ServiceConfig::memory_bytes`].
    pub fn create<A: Allocator + Clone + 'static>(
        allocator: &A,
        config: &ServiceConfig,
        mac: [u8; 6],
        seed: u64,
        now: Instant,
    ) -> Result<&'static mut Self, ServiceError> {
        let slots = config.slots();
        // Neither may tell of the other: whoever sees sequence numbers sees much of the interface's randomness.
        let [seed, hash_seed @ ..]: [u64; 3] = spread(seed);
        let bytes = |len| leak(len, allocator, |_| Ok(0u8));
        let withheld = CommitQueue::new(bytes(config.queue_len)?);
        let mut output = Output::new(withheld, CommitQueue::new(bytes(config.prompt_queue_len)?));
        let clock_us = now.as_micros() as i64;

        let mut interface_config =
            smoltcp::iface::Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        interface_config.random_seed = seed;
        let mut device = QueueDevice::new(None, &mut output, config.frame_len_max);
        let mut interface =
            Interface::new(interface_config, &mut device, StackInstant::from_micros(clock_us));
        let cidr = IpCidr::Ipv4(Ipv4Cidr::new(config.network.address, config.network.prefix_len));
        interface.update_ip_addrs(|addresses| {
            addresses.push(cidr).expect("an interface holds one address");
        });

        let mut storage = leak(slots, allocator, |_| Ok(SocketStorage::EMPTY))?.chunks_mut(1);
        let entries = leak(slots, allocator, |_| {
            let receive = tcp::SocketBuffer::new(bytes(config.receive_len)?);
            let send = tcp::SocketBuffer::new(bytes(config.send_len)?);
            let mut socket = tcp::Socket::new(receive, send);
            socket.set_nagle_enabled(false);
            socket.set_ack_delay(None);
            socket.set_keep_alive(Some(config.keep_alive.into()));
            socket.set_timeout(Some(config.timeout.into()));
            let storage = storage.next().expect("there is storage for each entry");
            Ok(Entry::new(SocketSet::new(storage), socket))
        })?;
        let mut lines = EntryLines::new();
        for slot in 0..slots as u16 {
            lines.join(Line::Free, entries, slot);
        }
        let mut udp_sockets = SocketSet::new(leak(UDP_SOCKETS_MAX, allocator, |_| Ok(SocketStorage::EMPTY))?);
        let udp = udp::create(allocator, config, &mut udp_sockets)?;
        let service = Self {
            magic: MAGIC,
            clock_offset_us: 0,
            clock_us,
            config: config.clone(),
            interface,
            entries,
            lines,
            occupied: Occupied::create(allocator, slots)?,
            demux: Demux::create(allocator, slots, hash_seed)?,
            timers: Timers::create(allocator, slots)?,
            listeners: [None; LISTENERS_MAX],
            udp,
            udp_sockets,
            udp_touched: false,
            udp_due_us: NEVER_US,
            udp_any_port: udp::ANY_PORT_FIRST,
            output,
            recent: Recent::new(),
            counters: Counters::default(),
        };
        Box::try_new_in(service, allocator.clone())
            .map(Box::leak)
            .map_err(|_| ServiceError::OutOfMemory)
    }

    /// Whether what lies here is a stack of this build.
    pub(crate) fn is_valid(&self) -> bool {
        self.magic == MAGIC
    }

    /// The settings that it was made with.
    pub fn config(&self) -> &ServiceConfig {
        &self.config
    }

    /// Counters since the stack was made, on whatever machine.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The next frame that may go out, in order.
    pub fn next_frame(&self) -> Option<&[u8]> {
        self.output.front()
    }

    /// Forgets the frame that [`next_frame`](Service::next_frame) showed: the card has it.
    pub fn forget_frame(&mut self) {
        self.output.pop();
    }

    /// The end of what was said so far.
    pub fn tail(&self) -> Tail {
        self.output.withheld.tail()
    }

    /// What was said before `tail` may go out.
    pub fn release(&mut self, tail: Tail) {
        self.output.withheld.release(tail);
    }

    /// Whatever was said may go out.
    pub fn release_all(&mut self) {
        self.output.withheld.release_all();
    }

    /// Whether something was said that neither may go out nor lies before `covered`.
    pub fn has_output_behind(&self, covered: Option<Tail>) -> bool {
        self.output.withheld.has_frames_behind(covered)
    }

    #[cfg(test)]
    fn queue(&mut self) -> &mut CommitQueue {
        &mut self.output.withheld
    }

    fn stack_time(&mut self, now: Instant) -> StackInstant {
        self.clock_us = self
            .clock_us
            .max((now.as_micros() as i64).saturating_add(self.clock_offset_us));
        StackInstant::from_micros(self.clock_us)
    }

    /// The service's address.
    pub fn address(&self) -> Ipv4Addr {
        self.config.network.address
    }
}

#[cfg(test)]
mod tests;
