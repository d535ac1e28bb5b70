//! A network in memory, with buffers of a fixed length and events as the service stack makes them: only when there is
//! more to read than before, or room again after a send that found too little.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use super::{Datagrams, End, News, Transport};

#[derive(Debug, Default)]
struct Connection {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    client_finished: bool,
    wants_room: bool,
    closed_by_server: bool,
    gone: bool,
    unread: usize,
    news: News,
    in_events: bool,
}

/// Connections, named by the order in which they came.
#[derive(Debug)]
pub struct Loopback {
    buffer_len: usize,
    connections: Vec<Connection>,
    events: VecDeque<usize>,
}

impl Loopback {
    /// A network whose connections hold so many bytes each way.
    pub fn new(buffer_len: usize) -> Self {
        Self {
            buffer_len,
            connections: Vec::new(),
            events: VecDeque::new(),
        }
    }

    fn announce(&mut self, name: usize) {
        let connection = &mut self.connections[name];
        if !connection.in_events && !connection.closed_by_server {
            connection.in_events = true;
            self.events.push_back(name);
        }
    }

    /// Whether a connection has news.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// A client connects; the name of its connection.
    pub fn connect(&mut self) -> usize {
        let news = News {
            opened: true,
            closed: false,
        };
        self.connections.push(Connection {
            news,
            ..Connection::default()
        });
        self.announce(self.connections.len() - 1);
        self.connections.len() - 1
    }

    /// Bytes that the client can send now.
    pub fn room(&self, name: usize) -> usize {
        self.buffer_len - self.connections[name].to_server.len()
    }

    /// The client sends what finds room; returns how many bytes.
    pub fn client_send(&mut self, name: usize, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room(name));
        let connection = &mut self.connections[name];
        connection.to_server.extend(&bytes[..count]);
        if connection.to_server.len() > connection.unread {
            self.announce(name);
        }
        count
    }

    /// The client takes all that was sent to it.
    pub fn client_receive(&mut self, name: usize) -> Vec<u8> {
        let connection = &mut self.connections[name];
        let bytes = connection.to_client.drain(..).collect();
        if core::mem::take(&mut connection.wants_room) {
            self.announce(name);
        }
        bytes
    }

    /// The client sends no more.
    pub fn client_finish(&mut self, name: usize) {
        self.connections[name].client_finished = true;
        self.announce(name);
    }

    /// The connection is gone for the client, and the server hears of it.
    pub fn client_close(&mut self, name: usize) {
        let connection = &mut self.connections[name];
        if !connection.gone {
            connection.gone = true;
            connection.news.closed = true;
            self.announce(name);
        }
    }

    /// The connection disappears without a word.
    pub fn cut(&mut self, name: usize) {
        self.connections[name].gone = true;
    }

    /// Whether the server has closed it.
    pub fn is_closed(&self, name: usize) -> bool {
        self.connections[name].closed_by_server
    }
}

impl Transport for Loopback {
    type Connection = usize;

    fn next_event(&mut self) -> Option<(usize, News)> {
        let name = self.events.pop_front()?;
        let connection = &mut self.connections[name];
        connection.in_events = false;
        connection.unread = connection.to_server.len();
        Some((name, core::mem::take(&mut connection.news)))
    }

    fn index(&self, name: usize) -> usize {
        name
    }

    fn is_open(&mut self, name: usize) -> bool {
        !self.connections[name].gone
    }

    fn peer(&mut self, name: usize) -> Option<SocketAddr> {
        self.is_open(name)
            .then(|| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1000 + name as u16))
    }

    fn receive(&mut self, name: usize, into: &mut [u8]) -> Result<usize, End> {
        let connection = &mut self.connections[name];
        if connection.gone {
            return Err(End::Gone);
        }
        if connection.to_server.is_empty() && connection.client_finished {
            return Err(End::Finished);
        }
        let count = into.len().min(connection.to_server.len());
        for (to, from) in into.iter_mut().zip(connection.to_server.drain(..count)) {
            *to = from;
        }
        connection.unread = connection.to_server.len();
        Ok(count)
    }

    fn send(&mut self, name: usize, bytes: &[u8]) -> Result<usize, End> {
        let connection = &mut self.connections[name];
        if connection.gone {
            return Err(End::Gone);
        }
        let count = bytes.len().min(self.buffer_len - connection.to_client.len());
        connection.to_client.extend(&bytes[..count]);
        connection.wants_room |= count < bytes.len();
        Ok(count)
    }

    fn close(&mut self, name: usize) {
        self.connections[name].closed_by_server = true;
    }

    fn abort(&mut self, name: usize) {
        self.connections[name].to_client.clear();
        self.connections[name].closed_by_server = true;
    }
}

/// Datagrams in memory, each way in the order in which they were sent.
#[derive(Debug)]
pub struct DatagramLoopback {
    len_max: usize,
    to_server: VecDeque<(SocketAddrV4, Vec<u8>)>,
    to_clients: VecDeque<(SocketAddrV4, Vec<u8>)>,
}

impl DatagramLoopback {
    /// With nothing on its way. No datagram to a client is longer than `len_max` bytes.
    pub fn new(len_max: usize) -> Self {
        Self {
            len_max,
            to_server: VecDeque::new(),
            to_clients: VecDeque::new(),
        }
    }

    /// A client sends a datagram.
    pub fn client_send(&mut self, from: SocketAddrV4, bytes: &[u8]) {
        self.to_server.push_back((from, bytes.to_vec()));
    }

    /// The oldest datagram to a client, and to which.
    pub fn client_receive(&mut self) -> Option<(SocketAddrV4, Vec<u8>)> {
        self.to_clients.pop_front()
    }
}

impl Datagrams for DatagramLoopback {
    fn len_max(&self) -> usize {
        self.len_max
    }

    fn receive(&mut self, into: &mut [u8]) -> Option<(usize, SocketAddrV4)> {
        let (from, bytes) = self.to_server.pop_front()?;
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        Some((count, from))
    }

    fn send(&mut self, to: SocketAddrV4, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.len_max;
        if fits {
            self.to_clients.push_back((to, bytes.to_vec()));
        }
        fits
    }
}
