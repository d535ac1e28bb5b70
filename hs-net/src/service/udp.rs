//! UDP sockets of the service stack, each for a descriptor.
//!
//! They lie in the stack's class like everything else, with fixed buffers, and so a checkpoint holds them with the
//! datagrams that wait in them. Only the descriptor table opens them: it knows them by the descriptor's number, which
//! is how a restored table finds them again.
//!
//! smoltcp's sockets know no peer: what comes from elsewhere is dropped here when it is read. They keep a datagram until its
//! neighbour answers, and those behind it too; so what could never be sent is refused, and a socket whose datagrams
//! nobody has wanted for [`UNSENT_US`] loses what waits in it.
//!
//! Deliberately absent: broadcast and multicast, and datagrams longer than a frame.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use allocator_api2::alloc::Allocator;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::wire::{IpAddress, IpEndpoint, Ipv4Cidr};

use super::{Service, ServiceConfig, ServiceError, leak};

/// Most UDP sockets that are open at once.
pub const UDP_SOCKETS_MAX: usize = 16;

/// The name of a socket that is bound to no port.
pub(crate) const UNBOUND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// How long a socket's datagrams wait for somebody to answer for their address, in microseconds.
const UNSENT_US: i64 = 3_000_000;
/// Where ports that nobody asked for by name begin.
pub(super) const ANY_PORT_FIRST: u16 = 49_152;
/// Ethernet, IPv4 and UDP.
const HEADERS_LEN: usize = 14 + 20 + 8;

/// Why a UDP socket does not do what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UdpError {
    /// No such socket is open.
    NotOpen,
    /// All [`UDP_SOCKETS_MAX`] sockets are open.
    TooMany,
    /// Another socket is bound to the port.
    InUse(u16),
    /// Every port that is given out is in use.
    NoPortLeft,
    /// It is bound already, to this port.
    Bound(u16),
    /// It is connected to nobody, and none was named.
    NotConnected,
    /// Nobody of this address is on the service's network, or it is not one of a single machine, or port 0.
    Unreachable(SocketAddrV4),
    /// The datagram is longer than a frame has room for.
    TooLong {
        /// How many bytes it has.
        len_bytes: usize,
        /// How many it may have.
        max_bytes: usize,
    },
    /// Too many datagrams wait to be sent: some time later there is room again.
    NoRoom,
}

impl fmt::Display for UdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UdpError::NotOpen => f.write_str("no such UDP socket is open"),
            UdpError::TooMany => write!(f, "no more than {UDP_SOCKETS_MAX} UDP sockets can be open"),
            UdpError::InUse(port) => write!(f, "another socket is bound to UDP port {port}"),
            UdpError::NoPortLeft => write!(f, "no UDP port from {ANY_PORT_FIRST} on is free"),
            UdpError::Bound(port) => write!(f, "it is bound to UDP port {port} already"),
            UdpError::NotConnected => f.write_str("it is not connected: connect it, or name a receiver"),
            UdpError::Unreachable(address) => {
                write!(f, "{address} is no address of a machine on the service's network")
            }
            UdpError::TooLong { len_bytes, max_bytes } => {
                write!(f, "a datagram of {len_bytes} bytes is longer than {max_bytes}")
            }
            UdpError::NoRoom => f.write_str("its buffer is full of unsent datagrams: try again later"),
        }
    }
}

/// What the stack keeps of a UDP socket beside smoltcp.
#[derive(Debug)]
pub(super) struct UdpSlot {
    handle: SocketHandle,
    /// The descriptor's number, while it is open.
    number: Option<u32>,
    peer: Option<SocketAddrV4>,
    /// Since when, on the stack's clock, datagrams wait in it to be sent.
    unsent_since_us: Option<i64>,
}

/// Makes all UDP sockets that a stack will ever have.
pub(super) fn create<A: Allocator + Clone + 'static>(
    allocator: &A,
    config: &ServiceConfig,
    sockets: &mut SocketSet<'static>,
) -> Result<&'static mut [UdpSlot], ServiceError> {
    let buffer = || {
        let metadata = leak(config.udp_datagrams_max, allocator, |_| {
            Ok(udp::PacketMetadata::EMPTY)
        })?;
        let payload = leak(config.udp_buffer_len, allocator, |_| Ok(0u8))?;
        Ok(udp::PacketBuffer::new(metadata, payload))
    };
    leak(UDP_SOCKETS_MAX, allocator, |_| {
        Ok(UdpSlot {
            handle: sockets.add(udp::Socket::new(buffer()?, buffer()?)),
            number: None,
            peer: None,
            unsent_since_us: None,
        })
    })
}

impl Service {
    fn udp_slot(&mut self, number: u32) -> Result<(&mut UdpSlot, &mut udp::Socket<'static>), UdpError> {
        self.udp_touched = true;
        let slot = self
            .udp
            .iter_mut()
            .find(|slot| slot.number == Some(number))
            .ok_or(UdpError::NotOpen)?;
        let socket = self.udp_sockets.get_mut::<udp::Socket>(slot.handle);
        Ok((slot, socket))
    }

    /// Opens a socket for descriptor `number`, bound to no port and connected to nobody.
    pub(crate) fn udp_open(&mut self, number: u32) -> Result<(), UdpError> {
        debug_assert!(self.udp_name(number).is_err(), "a number names one socket");
        let slot = self
            .udp
            .iter_mut()
            .find(|slot| slot.number.is_none())
            .ok_or(UdpError::TooMany)?;
        slot.number = Some(number);
        slot.peer = None;
        slot.unsent_since_us = None;
        Ok(())
    }

    /// Binds to `port`, or to any free one for 0. Returns which.
    pub(crate) fn udp_bind(&mut self, number: u32, port: u16) -> Result<u16, UdpError> {
        let (_, socket) = self.udp_slot(number)?;
        if socket.is_open() {
            return Err(UdpError::Bound(socket.endpoint().port));
        }
        let port = match port {
            0 => self.any_udp_port().ok_or(UdpError::NoPortLeft)?,
            port if self.is_udp_port_used(port) => return Err(UdpError::InUse(port)),
            port => port,
        };
        let (_, socket) = self.udp_slot(number)?;
        socket
            .bind(port)
            .expect("the socket is not bound, and the port is not 0");
        Ok(port)
    }

    fn is_udp_port_used(&self, port: u16) -> bool {
        let mut ports = self
            .udp
            .iter()
            .map(|slot| self.udp_sockets.get::<udp::Socket>(slot.handle).endpoint().port);
        ports.any(|used| used == port)
    }

    /// The next free port of those that nobody asks for by name.
    fn any_udp_port(&mut self) -> Option<u16> {
        // One more than there are sockets: one of them is free.
        for _ in 0..=UDP_SOCKETS_MAX {
            let port = self.udp_any_port;
            self.udp_any_port = port.checked_add(1).unwrap_or(ANY_PORT_FIRST);
            if !self.is_udp_port_used(port) {
                return Some(port);
            }
        }
        None
    }

    /// Connects to `peer`, or to nobody: the datagrams of others are dropped from now on.
    pub(crate) fn udp_connect(&mut self, number: u32, peer: Option<SocketAddrV4>) -> Result<(), UdpError> {
        if let Some(peer) = peer {
            self.check_reachable(peer)?;
        }
        let (_, socket) = self.udp_slot(number)?;
        if peer.is_some() && !socket.is_open() {
            self.udp_bind(number, 0)?;
        }
        let (slot, _) = self.udp_slot(number)?;
        slot.peer = peer;
        Ok(())
    }

    fn check_reachable(&self, to: SocketAddrV4) -> Result<(), UdpError> {
        let network = &self.config.network;
        let cidr = Ipv4Cidr::new(network.address, network.prefix_len);
        let is_machine = cidr.contains_addr(to.ip()) && cidr.broadcast() != Some(*to.ip());
        match is_machine && *to.ip() != network.address && to.port() != 0 {
            true => Ok(()),
            false => Err(UdpError::Unreachable(to)),
        }
    }

    /// Queues a datagram to `to`, or to the peer. A socket that is not bound is bound to any port first.
    pub(crate) fn udp_send(
        &mut self,
        number: u32,
        to: Option<SocketAddrV4>,
        bytes: &[u8],
    ) -> Result<(), UdpError> {
        let max_bytes = self.config.udp_datagram_len_max();
        if bytes.len() > max_bytes {
            let len_bytes = bytes.len();
            return Err(UdpError::TooLong { len_bytes, max_bytes });
        }
        let (slot, socket) = self.udp_slot(number)?;
        let (to, is_bound) = (to.or(slot.peer).ok_or(UdpError::NotConnected)?, socket.is_open());
        self.check_reachable(to)?;
        if !is_bound {
            self.udp_bind(number, 0)?;
        }
        let clock_us = self.clock_us;
        let (slot, socket) = self.udp_slot(number)?;
        let to = IpEndpoint::new(IpAddress::Ipv4(*to.ip()), to.port());
        socket.send_slice(bytes, to).map_err(|_| UdpError::NoRoom)?;
        slot.unsent_since_us.get_or_insert(clock_us);
        Ok(())
    }

    /// Takes the oldest datagram and copies what finds room in `into`. Returns how many bytes that were, and who sent it;
    /// `None` if there is no datagram.
    pub(crate) fn udp_recv(
        &mut self,
        number: u32,
        into: &mut [u8],
    ) -> Result<Option<(usize, SocketAddrV4)>, UdpError> {
        let (slot, socket) = self.udp_slot(number)?;
        // The buffer bounds this.
        while let Ok((bytes, metadata)) = socket.recv() {
            let IpAddress::Ipv4(address) = metadata.endpoint.addr;
            let from = SocketAddrV4::new(address, metadata.endpoint.port);
            if slot.peer.is_none_or(|peer| peer == from) {
                let len_bytes = bytes.len().min(into.len());
                into[..len_bytes].copy_from_slice(&bytes[..len_bytes]);
                return Ok(Some((len_bytes, from)));
            }
        }
        Ok(None)
    }

    /// The address that it is bound to: port 0 if to none.
    pub(crate) fn udp_name(&self, number: u32) -> Result<SocketAddrV4, UdpError> {
        let slot = self.udp.iter().find(|slot| slot.number == Some(number));
        let socket = self
            .udp_sockets
            .get::<udp::Socket>(slot.ok_or(UdpError::NotOpen)?.handle);
        Ok(match socket.endpoint().port {
            0 => UNBOUND,
            port => SocketAddrV4::new(self.address(), port),
        })
    }

    /// Whom it is connected to.
    pub(crate) fn udp_peer(&self, number: u32) -> Result<Option<SocketAddrV4>, UdpError> {
        let slot = self.udp.iter().find(|slot| slot.number == Some(number));
        Ok(slot.ok_or(UdpError::NotOpen)?.peer)
    }

    /// Closes it. What waits in it is thrown away.
    pub(crate) fn udp_close(&mut self, number: u32) -> Result<(), UdpError> {
        let (slot, socket) = self.udp_slot(number)?;
        socket.close();
        slot.number = None;
        Ok(())
    }

    /// Closes the sockets of all descriptors that are not to be `kept`.
    pub(crate) fn udp_retain(&mut self, kept: impl Fn(u32) -> bool) {
        for index in 0..self.udp.len() {
            if let Some(number) = self.udp[index].number.filter(|number| !kept(*number)) {
                self.udp_close(number).expect("a slot with a number is open");
            }
        }
    }

    /// Whether a datagram waits to be read.
    pub(crate) fn has_datagrams(&self) -> bool {
        let mut open = self.udp.iter().filter(|slot| slot.number.is_some());
        open.any(|slot| self.udp_sockets.get::<udp::Socket>(slot.handle).can_recv())
    }

    /// Throws away what nobody has wanted for too long.
    pub(super) fn refresh_udp(&mut self, now_us: i64) {
        for slot in self.udp.iter_mut() {
            let Some(since_us) = slot.unsent_since_us else {
                continue;
            };
            let socket = self.udp_sockets.get_mut::<udp::Socket>(slot.handle);
            if socket.send_queue() == 0 {
                slot.unsent_since_us = None;
            } else if now_us >= since_us.saturating_add(UNSENT_US) {
                let port = socket.endpoint().port;
                socket.close();
                socket
                    .bind(port)
                    .expect("a socket that has something to send was bound");
                slot.unsent_since_us = None;
            }
        }
    }

    /// When, on the stack's clock, the first of them is thrown away.
    pub(super) fn unsent_until_us(&self) -> Option<i64> {
        let since_us = self.udp.iter().filter_map(|slot| slot.unsent_since_us);
        since_us.min().map(|since_us| since_us.saturating_add(UNSENT_US))
    }

    /// A restored stack's clock has jumped ahead: what waits has as long as ever.
    pub(super) fn restart_udp(&mut self, now_us: i64) {
        for slot in self.udp.iter_mut() {
            slot.unsent_since_us = slot.unsent_since_us.map(|_| now_us);
        }
    }
}

impl ServiceConfig {
    /// Longest datagram of a UDP socket, in bytes.
    pub fn udp_datagram_len_max(&self) -> usize {
        self.frame_len_max
            .saturating_sub(HEADERS_LEN)
            .min(self.udp_buffer_len)
    }
}

#[cfg(test)]
mod tests;
