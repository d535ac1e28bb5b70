//! The service stack: TCP and UDP for an application, all of it in checkpointable memory.
//!
//! The stack is smoltcp's, with its sockets, buffers, clock and queue of outgoing frames in a class of its own, so that a
//! checkpoint holds it as it stands between two calls. It does no I/O: frames and `now` go in, frames go out through the
//! [`CommitQueue`].
//!
//! ```text
//! root SERVICE ──> Service ┬─ Interface (addresses, ARP table)
//!  (class SERVICE_CLASS)   ├─ SocketSet ──> storage ──> receive and send buffers
//!                          ├─ entries: one a socket: what the application knows of it
//!                          ├─ ready ring: entries with news
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
//! smoltcp has no backlog: a SYN needs a socket in LISTEN. So one socket per listener is kept there, and when a SYN has taken
//! it, another takes its place before the next frame is looked at. smoltcp also gives a segment to the first socket
//! that accepts it; a repeated SYN must therefore not find the listener while its connection is open, or there would be two.
//!
//! A service may opt out of output commit when it [listens](Service::listen_with): its frames go out past the commit queue, and
//! its connections are reset at a takeover. All others go on.
//!
//! Deliberately absent: a second thread in one stack (its lock is the node's), fragments, IPv6, UDP sockets without a
//! descriptor.

mod config;
mod connection;
mod device;
mod entry;
mod listen;
mod output;
mod probe;
mod takeover;
mod udp;

use core::fmt;
use core::net::Ipv4Addr;

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use hs_core::platform::Instant;
use smoltcp::iface::{Interface, PollIngressSingleResult, PollResult, SocketSet, SocketStorage};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr};

pub use self::config::ServiceConfig;
pub use self::connection::ConnectionError;
use self::device::QueueDevice;
pub use self::entry::{ConnectionId, Event, News};
use self::entry::{Entry, Phase};
use self::listen::Listener;
pub use self::listen::{LISTENERS_MAX, ListenError};
use self::output::Output;
use self::probe::Syn;
pub use self::takeover::{Resumed, Unseen};
pub(crate) use self::udp::UNBOUND;
use self::udp::UdpSlot;
pub use self::udp::{UDP_SOCKETS_MAX, UdpError};
use crate::checksum;
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
    sockets: SocketSet<'static>,
    entries: &'static mut [Entry],
    listeners: [Option<Listener>; LISTENERS_MAX],
    ready: &'static mut [u16],
    ready_first: usize,
    ready_len: usize,
    udp: &'static mut [UdpSlot],
    /// The next port for a UDP socket that may have any.
    udp_any_port: u16,
    output: Output,
    /// The frames that were taken in last.
    recent: Recent,
    counters: Counters,
    /// When there is something to do; `None` as long as nobody has looked since the last change.
    due: Option<Due>,
}

/// When a stack that nobody touches has something to do.
#[derive(Clone, Copy, Debug)]
enum Due {
    At(Instant),
    Never,
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
        let bytes = |len| leak(len, allocator, |_| Ok(0u8));
        let withheld = CommitQueue::new(bytes(config.queue_len)?);
        let mut output = Output::new(withheld, CommitQueue::new(bytes(config.prompt_queue_len)?));
        let clock_us = now.as_micros() as i64;

        let mut interface_config =
            smoltcp::iface::Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        interface_config.random_seed = seed;
        let mut device = QueueDevice {
            received: None,
            output: &mut output,
            frame_len_max: config.frame_len_max,
        };
        let mut interface =
            Interface::new(interface_config, &mut device, StackInstant::from_micros(clock_us));
        let cidr = IpCidr::Ipv4(Ipv4Cidr::new(config.network.address, config.network.prefix_len));
        interface.update_ip_addrs(|addresses| {
            addresses.push(cidr).expect("an interface holds one address");
        });

        let mut sockets = SocketSet::new(leak(slots + UDP_SOCKETS_MAX, allocator, |_| {
            Ok(SocketStorage::EMPTY)
        })?);
        let entries = leak(slots, allocator, |_| {
            let receive = tcp::SocketBuffer::new(bytes(config.receive_len)?);
            let send = tcp::SocketBuffer::new(bytes(config.send_len)?);
            let mut socket = tcp::Socket::new(receive, send);
            socket.set_nagle_enabled(false);
            socket.set_ack_delay(None);
            socket.set_keep_alive(Some(config.keep_alive.into()));
            socket.set_timeout(Some(config.timeout.into()));
            Ok(Entry::new(sockets.add(socket)))
        })?;
        let udp = udp::create(allocator, config, &mut sockets)?;
        let service = Self {
            magic: MAGIC,
            clock_offset_us: 0,
            clock_us,
            config: config.clone(),
            interface,
            sockets,
            entries,
            listeners: [None; LISTENERS_MAX],
            ready: leak(slots, allocator, |_| Ok(0))?,
            ready_first: 0,
            ready_len: 0,
            udp,
            udp_any_port: udp::ANY_PORT_FIRST,
            output,
            recent: Recent::new(),
            counters: Counters::default(),
            due: None,
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
        if !self.can_ingest() {
            // There is room again for what waits in sockets.
            self.due = None;
        }
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

    /// Whether a frame can be taken in: its answer must find room in the queue.
    pub fn can_ingest(&self) -> bool {
        self.output.has_room(self.config.frame_len_max)
    }

    /// Takes in a received frame. [`refresh`](Service::refresh) after the last one makes the events.
    pub fn ingest(&mut self, now: Instant, frame: &[u8]) {
        self.due = None;
        if !self.can_ingest() || !checksum::tcp_is_right(frame) {
            self.counters.dropped += 1;
            return;
        }
        self.recent.note(frame);
        let now = self.stack_time(now);
        match Syn::parse(frame) {
            None => self.ingest_segment(now, frame),
            Some(syn) => self.ingest_syn(now, frame, &syn),
        }
    }

    fn ingest_segment(&mut self, now: StackInstant, frame: &[u8]) {
        let frame_len_max = self.config.frame_len_max;
        let mut device = QueueDevice {
            received: Some(frame),
            output: &mut self.output,
            frame_len_max,
        };
        let result = self
            .interface
            .poll_ingress_single(now, &mut device, &mut self.sockets);
        debug_assert!(
            result != PollIngressSingleResult::None,
            "there was room and a frame"
        );
    }

    /// Lets the stack put what it has to say into the queue, as far as there is room.
    pub fn egress(&mut self, now: Instant) {
        self.due = None;
        let now = self.stack_time(now);
        self.interface.poll_maintenance(now);
        let frame_len_max = self.config.frame_len_max;
        loop {
            let queued = self.output.queued_frames();
            let mut device = QueueDevice {
                received: None,
                output: &mut self.output,
                frame_len_max,
            };
            let result = self.interface.poll_egress(now, &mut device, &mut self.sockets);
            // The queue bounds this: each round adds a frame or is the last.
            if result == PollResult::None || self.output.queued_frames() == queued {
                return;
            }
        }
    }

    /// Looks at all connections: makes events of what has changed, ends what has taken too long.
    pub fn refresh(&mut self, now: Instant) {
        self.due = None;
        let now_us = self.stack_time(now).total_micros();
        for slot in 0..self.entries.len() {
            self.refresh_entry(slot, now_us);
        }
        self.refresh_udp(now_us);
        self.arm();
    }

    fn refresh_entry(&mut self, slot: usize, now_us: i64) {
        let entry = &mut self.entries[slot];
        if matches!(entry.phase, Phase::Free | Phase::Listening) {
            return;
        }
        let socket = self.sockets.get_mut::<tcp::Socket>(entry.handle);
        let gone = socket.state() == tcp::State::Closed;
        // A socket that still has a reset to send is not free yet.
        let silent = gone && socket.remote_endpoint().is_none();
        match entry.phase {
            Phase::Free | Phase::Listening => {}
            Phase::HalfOpen { until_us } => match socket.state() {
                tcp::State::SynReceived if now_us < until_us => {}
                tcp::State::SynReceived => {
                    socket.abort();
                    entry.phase = Phase::Closing {
                        until_us: now_us + RESET_US,
                    };
                }
                // Reset by its client: smoltcp listens with it again.
                tcp::State::Listen => {
                    socket.close();
                    entry.phase = Phase::Free;
                }
                tcp::State::Closed if silent => entry.phase = Phase::Free,
                tcp::State::Closed => {
                    entry.phase = Phase::Closing {
                        until_us: now_us + RESET_US,
                    }
                }
                _ => {
                    entry.phase = Phase::Open;
                    entry.news.opened = true;
                    self.counters.opened += 1;
                }
            },
            Phase::Open => {}
            Phase::Closing { until_us } => {
                // Nobody reads it, but the peer's end of stream lies behind it.
                while socket.can_recv() && socket.recv(|bytes| (bytes.len(), ())).is_ok() {}
                if silent {
                    entry.phase = Phase::Free;
                } else if gone && now_us >= until_us {
                    // Nobody answers for the client's address: smoltcp would try for ever. Listening forgets it.
                    socket
                        .listen(FORGETTING_PORT)
                        .expect("a closed socket may listen");
                    socket.close();
                    entry.phase = Phase::Free;
                } else if !gone && now_us >= until_us && socket.state() != tcp::State::TimeWait {
                    socket.abort();
                    entry.phase = Phase::Closing {
                        until_us: now_us + RESET_US,
                    };
                }
            }
            Phase::Gone => {
                if !entry.news.closed {
                    entry.phase = match silent {
                        true => Phase::Free,
                        false => Phase::Closing {
                            until_us: now_us + RESET_US,
                        },
                    };
                }
            }
        }
        if entry.phase == Phase::Open {
            let unread = socket.recv_queue();
            let finished = !socket.may_recv();
            entry.news.readable |= unread > entry.unread || (finished && !entry.finished);
            (entry.unread, entry.finished) = (unread, finished);
            if entry.wants_room && socket.send_capacity() - socket.send_queue() >= socket.send_capacity() / 2
            {
                entry.wants_room = false;
                entry.news.writable = true;
            }
            if gone {
                entry.phase = Phase::Gone;
                entry.news.closed = true;
            }
        }
        self.mark_ready(slot);
    }

    fn mark_ready(&mut self, slot: usize) {
        let entry = &mut self.entries[slot];
        if entry.news.any() && !entry.in_ready {
            entry.in_ready = true;
            let at = (self.ready_first + self.ready_len) % self.ready.len();
            self.ready[at] = slot as u16;
            self.ready_len += 1;
        }
    }

    /// When [`egress`](Service::egress) and [`refresh`](Service::refresh) have something to do, if no frame arrives.
    /// A moment that is past means now.
    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        if self.is_idle(now) {
            return match self.due {
                Some(Due::At(at)) => Some(at),
                _ => None,
            };
        }
        let at = self.next_at(now);
        self.due = Some(at.map_or(Due::Never, Due::At));
        at
    }

    /// Whether there is nothing to do at `now`: [`poll_at`](Service::poll_at) has found so, and nothing was done since. An
    /// idle service is asked often, and looking at all sockets is not free.
    pub fn is_idle(&self, now: Instant) -> bool {
        match self.due {
            None => false,
            Some(Due::Never) => true,
            Some(Due::At(at)) => now < at,
        }
    }

    fn next_at(&mut self, now: Instant) -> Option<Instant> {
        if self.ready_len > 0 {
            return Some(now);
        }
        let stack_now = self.stack_time(now);
        // Without room for a frame there is nothing to do until some are sent, and the card says when.
        let sockets_at = match self.can_ingest() {
            true => self
                .interface
                .poll_at(stack_now, &self.sockets)
                .map(|at| at.total_micros()),
            false => None,
        };
        let entries_at = self.entries.iter().filter_map(|entry| match entry.phase {
            Phase::HalfOpen { until_us } => Some(until_us),
            Phase::Closing { until_us } => {
                let socket = self.sockets.get::<tcp::Socket>(entry.handle);
                (socket.state() != tcp::State::TimeWait).then_some(until_us)
            }
            _ => None,
        });
        let at_us = entries_at.chain(sockets_at).chain(self.unsent_until_us()).min()?;
        Some(Instant::from_micros(at_us.saturating_sub(self.clock_offset_us).max(0) as u64).max(now))
    }

    /// The service's address.
    pub fn address(&self) -> Ipv4Addr {
        self.config.network.address
    }
}

#[cfg(test)]
mod tests;
