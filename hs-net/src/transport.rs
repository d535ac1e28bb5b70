//! What an application's server needs of the network, so that it can be tested without one.
//!
//! A server that speaks through [`Transport`] runs on the pair's service stack ([`NodeTransport`]) and, in tests, on a
//! [`Loopback`] in memory.

mod loopback;

use core::net::{SocketAddr, SocketAddrV4};

pub use self::loopback::{DatagramLoopback, Loopback};
use crate::node::Node;
use crate::service::{ConnectionError, ConnectionId};

/// Why nothing was received or sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The client has sent its last byte, and it was read.
    Finished,
    /// The connection is no more.
    Gone,
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Finished => End::Finished,
            ConnectionError::Gone => End::Gone,
        }
    }
}

/// What has happened to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// It is new.
    pub opened: bool,
    /// It is gone; nothing can be done with it.
    pub closed: bool,
}

/// Connections that carry bytes. Whatever can be read or sent again is announced by an event; calls never wait.
pub trait Transport {
    /// Names a connection.
    type Connection: Copy + PartialEq;

    /// The next connection that something has happened to: it is new or gone, there are bytes to read or the end of
    /// them, or there is room to send after there was none.
    fn next_event(&mut self) -> Option<(Self::Connection, News)>;

    /// A small number that no other open connection has, to find what belongs to it.
    fn index(&self, connection: Self::Connection) -> usize;

    /// Whether the connection is there.
    fn is_open(&mut self, connection: Self::Connection) -> bool;

    /// Where the client is, if the connection is there.
    fn peer(&mut self, connection: Self::Connection) -> Option<SocketAddr>;

    /// Copies received bytes and returns how many; 0 if there are none now.
    ///
    /// # Errors
    /// There will be none.
    fn receive(&mut self, connection: Self::Connection, into: &mut [u8]) -> Result<usize, End>;

    /// Takes bytes to be sent and returns how many found room.
    ///
    /// # Errors
    /// The connection is gone.
    fn send(&mut self, connection: Self::Connection, bytes: &[u8]) -> Result<usize, End>;

    /// Closes the connection once everything is sent. No events come of it any more.
    fn close(&mut self, connection: Self::Connection);

    /// Resets the connection. No events come of it any more.
    fn abort(&mut self, connection: Self::Connection);
}

/// Datagrams that come and go. Calls never wait.
pub trait Datagrams {
    /// Longest datagram that can be sent, in bytes.
    fn len_max(&self) -> usize;

    /// Takes the oldest datagram, as much of it as finds room in `into`. Returns how many bytes that is, and who sent it;
    /// `None` if there is none now.
    fn receive(&mut self, into: &mut [u8]) -> Option<(usize, SocketAddrV4)>;

    /// Sends a datagram, and returns whether it went: if not it is lost, as any may be on its way.
    fn send(&mut self, to: SocketAddrV4, bytes: &[u8]) -> bool;
}

/// A node's UDP socket, by the number of its descriptor.
#[derive(Clone, Copy, Debug)]
pub struct NodeDatagrams {
    /// The node.
    pub node: &'static Node,
    /// The number.
    pub number: u32,
}

impl Datagrams for NodeDatagrams {
    fn len_max(&self) -> usize {
        self.node.service().config().udp_datagram_len_max()
    }

    fn receive(&mut self, into: &mut [u8]) -> Option<(usize, SocketAddrV4)> {
        // Most often there is none: that is found out without a look at the card.
        if !self.node.service().has_datagrams() {
            return None;
        }
        self.node
            .descriptors()
            .recv_from(self.number, into)
            .ok()
            .flatten()
    }

    fn send(&mut self, to: SocketAddrV4, bytes: &[u8]) -> bool {
        self.node.descriptors().send_to(self.number, to, bytes).is_ok()
    }
}

/// The service stack of a node. Its lock is taken for each call alone: whoever holds a lock runs before all others, and an
/// application's work must not run before heartbeats.
#[derive(Clone, Copy, Debug)]
pub struct NodeTransport(pub &'static Node);

impl Transport for NodeTransport {
    type Connection = ConnectionId;

    fn next_event(&mut self) -> Option<(ConnectionId, News)> {
        let event = self.0.service().next_event()?;
        let (opened, closed) = (event.news.opened, event.news.closed);
        Some((event.connection, News { opened, closed }))
    }

    fn index(&self, connection: ConnectionId) -> usize {
        connection.slot()
    }

    fn is_open(&mut self, connection: ConnectionId) -> bool {
        self.0.service().is_open(connection)
    }

    fn peer(&mut self, connection: ConnectionId) -> Option<SocketAddr> {
        self.0.service().peer(connection)
    }

    fn receive(&mut self, connection: ConnectionId, into: &mut [u8]) -> Result<usize, End> {
        Ok(self.0.service().recv(connection, into)?)
    }

    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) -> Result<usize, End> {
        Ok(self.0.service().send(connection, bytes)?)
    }

    fn close(&mut self, connection: ConnectionId) {
        self.0.service().close(connection);
    }

    fn abort(&mut self, connection: ConnectionId) {
        self.0.service().abort(connection);
    }
}
