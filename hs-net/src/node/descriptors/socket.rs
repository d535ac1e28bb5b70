//! What an application does with UDP sockets and TCP listeners. All calls take the service stack's lock.

use core::net::SocketAddrV4;

use super::Descriptors;
use super::error::DescriptorError;
use super::table::Open;
use crate::service::{Service, UNBOUND};

impl Descriptors {
    /// Notes what addresses a UDP socket has now, under the lock of `service`, under which they change.
    pub(super) fn note_addresses(&self, service: &Service, number: u32) {
        if let (Ok(local), Ok(peer)) = (service.udp_name(number), service.udp_peer(number)) {
            self.table().note_addresses(number, (local, peer));
        }
    }

    pub(super) fn expect_udp(&self, number: u32) -> Result<(), DescriptorError> {
        match self.table().open(number)? {
            Open::Udp { .. } => Ok(()),
            Open::Lost(error) => Err(DescriptorError::Lost(number, *error)),
            Open::Pending | Open::File(_) | Open::Listener => {
                let wanted = "a UDP socket";
                Err(DescriptorError::WrongKind { number, wanted })
            }
        }
    }

    /// Opens a UDP socket, bound to no port: [`bind`](Self::bind) it to be found, or just send.
    ///
    /// # Errors
    /// Too many sockets or descriptors are open.
    pub fn open_udp(&self) -> Result<u32, DescriptorError> {
        self.open_with(|number| {
            let opened = self.node.service().udp_open(number);
            opened.map_err(DescriptorError::Socket)?;
            Ok(Open::Udp {
                recorded: (UNBOUND, None),
            })
        })
    }

    /// Binds a UDP socket to `port` of the service's address, or to any free one for 0. Returns which.
    ///
    /// # Errors
    /// It is not open, not a UDP socket, bound already, or the port is in use.
    pub fn bind(&self, number: u32, port: u16) -> Result<u16, DescriptorError> {
        self.expect_udp(number)?;
        let mut service = self.node.service();
        let bound = service.udp_bind(number, port);
        self.note_addresses(&service, number);
        bound.map_err(|error| DescriptorError::Udp(number, error))
    }

    /// Connects a UDP socket to `peer`, or to nobody: only the peer's datagrams are received from now on, and
    /// [`send`](Self::send) sends to it.
    ///
    /// # Errors
    /// It is not open, not a UDP socket, or the peer is on another network.
    pub fn connect(&self, number: u32, peer: Option<SocketAddrV4>) -> Result<(), DescriptorError> {
        self.expect_udp(number)?;
        let mut service = self.node.service();
        let connected = service.udp_connect(number, peer);
        self.note_addresses(&service, number);
        connected.map_err(|error| DescriptorError::Udp(number, error))
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    /// It is not open, not a UDP socket, not connected, the datagram is too long, or there is no room for it now.
    pub fn send(&self, number: u32, bytes: &[u8]) -> Result<(), DescriptorError> {
        self.send_datagram(number, None, bytes)
    }

    /// Sends a datagram to `to`. A socket that is bound to no port is bound to any first.
    ///
    /// # Errors
    /// As [`send`](Self::send); or the receiver is on another network.
    pub fn send_to(&self, number: u32, to: SocketAddrV4, bytes: &[u8]) -> Result<(), DescriptorError> {
        self.send_datagram(number, Some(to), bytes)
    }

    fn send_datagram(
        &self,
        number: u32,
        to: Option<SocketAddrV4>,
        bytes: &[u8],
    ) -> Result<(), DescriptorError> {
        self.expect_udp(number)?;
        let mut service = self.node.service();
        let sent = service.udp_send(number, to, bytes);
        // It may have bound it.
        self.note_addresses(&service, number);
        sent.map_err(|error| DescriptorError::Udp(number, error))?;
        service.flush(self.node.machine().now());
        Ok(())
    }

    /// Takes the oldest datagram, as much of it as finds room in `into`, and returns how many bytes that is; `None` if there
    /// is none now. [`Node::signal`](crate::Node::signal) is raised when more have arrived.
    ///
    /// # Errors
    /// It is not open, or not a UDP socket.
    pub fn recv(&self, number: u32, into: &mut [u8]) -> Result<Option<usize>, DescriptorError> {
        Ok(self.recv_from(number, into)?.map(|(len_bytes, _)| len_bytes))
    }

    /// As [`recv`](Self::recv), and says who has sent it.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_from(
        &self,
        number: u32,
        into: &mut [u8],
    ) -> Result<Option<(usize, SocketAddrV4)>, DescriptorError> {
        self.expect_udp(number)?;
        let mut service = self.node.service();
        let received = match service.udp_recv(number, into) {
            Ok(None) => {
                service.poll(self.node.machine().now());
                service.udp_recv(number, into)
            }
            other => other,
        };
        received.map_err(|error| DescriptorError::Udp(number, error))
    }

    /// The address that a UDP socket is bound to; port 0 if to none. `getsockname`.
    ///
    /// # Errors
    /// It is not open, or not a UDP socket.
    pub fn name(&self, number: u32) -> Result<SocketAddrV4, DescriptorError> {
        self.expect_udp(number)?;
        let name = self.node.service().udp_name(number);
        name.map_err(|error| DescriptorError::Udp(number, error))
    }

    /// Whom a UDP socket is connected to. `getpeername`.
    ///
    /// # Errors
    /// It is not open, or not a UDP socket.
    pub fn peer(&self, number: u32) -> Result<Option<SocketAddrV4>, DescriptorError> {
        self.expect_udp(number)?;
        let peer = self.node.service().udp_peer(number);
        peer.map_err(|error| DescriptorError::Udp(number, error))
    }

    /// Accepts TCP connections to `port`, of which at most `backlog` may wait for the application. They are events of the
    /// service stack.
    ///
    /// # Errors
    /// The port is in use, or too many listeners or descriptors are open.
    pub fn listen(&self, port: u16, backlog: usize) -> Result<u32, DescriptorError> {
        self.open_with(|number| {
            let listening = self.node.service().listen_for(Some(number), port, backlog);
            listening.map_err(DescriptorError::Listen)?;
            Ok(Open::Listener)
        })
    }
}
