//! What an application does with connections.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use smoltcp::socket::tcp;
use smoltcp::wire::IpAddress;

use super::Service;
use super::entry::{ConnectionId, Entry, Event, Line, Phase};

/// Why nothing was received or sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionError {
    /// The peer has closed its half and all of it was read (receiving), or this side has closed its own (sending).
    Finished,
    /// The connection was reset, timed out or closed: the handle is of no more use.
    Gone,
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectionError::Finished => "this half of the connection is closed",
            ConnectionError::Gone => "the connection is gone",
        })
    }
}

impl Service {
    /// The next connection that has news, with all of its news. A connection whose news is `closed` is forgotten by this.
    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(slot) = self.lines.leave(Line::Ready, self.entries) {
            let entry = &mut self.entries[usize::from(slot)];
            let news = core::mem::take(&mut entry.news);
            let connection = entry.id(slot);
            if news.opened {
                self.count(slot);
            }
            if news.closed {
                self.touch(slot);
            }
            // The application may have left the connection meanwhile.
            if news.any() {
                return Some(Event { connection, news });
            }
        }
        None
    }

    /// The connections that are open, as far as the application has not closed them.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        let occupied = self
            .occupied
            .iter()
            .map(|slot| (slot, &self.entries[usize::from(slot)]));
        let open = occupied.filter(|(_, entry)| entry.phase == Phase::Open);
        open.map(|(slot, entry)| entry.id(slot))
    }

    fn open_entry(&mut self, connection: ConnectionId) -> Result<&mut Entry, ConnectionError> {
        self.entries
            .get_mut(connection.slot())
            .filter(|entry| entry.phase == Phase::Open && entry.id(connection.slot) == connection)
            .ok_or(ConnectionError::Gone)
    }

    /// Whether the connection is still there.
    pub fn is_open(&mut self, connection: ConnectionId) -> bool {
        self.open_entry(connection)
            .is_ok_and(|entry| entry.socket().state() != tcp::State::Closed)
    }

    /// The client's address, while the connection is there.
    pub fn peer(&mut self, connection: ConnectionId) -> Option<SocketAddr> {
        let end = self.open_entry(connection).ok()?.socket().remote_endpoint()?;
        let IpAddress::Ipv4(address) = end.addr;
        Some(SocketAddr::new(IpAddr::V4(address), end.port))
    }

    /// Copies received bytes into `into` and returns how many; 0 if there are none now.
    ///
    /// # Errors
    /// The peer has finished, or the connection is gone: see [`ConnectionError`].
    pub fn recv(&mut self, connection: ConnectionId, into: &mut [u8]) -> Result<usize, ConnectionError> {
        let entry = self.open_entry(connection)?;
        let socket = entry.socket_mut();
        let result = match socket.recv_slice(into) {
            Ok(received) => Ok(received),
            Err(tcp::RecvError::Finished) => Err(ConnectionError::Finished),
            Err(tcp::RecvError::InvalidState) if socket.state() == tcp::State::Closed => {
                Err(ConnectionError::Gone)
            }
            Err(tcp::RecvError::InvalidState) => Err(ConnectionError::Finished),
        };
        entry.unread = socket.recv_queue();
        if result.is_ok_and(|received| received > 0) {
            // The client may have to be told of the room.
            self.lines.join(Line::Send, self.entries, connection.slot);
        }
        result
    }

    /// Received bytes that wait to be read.
    pub fn recv_queue(&mut self, connection: ConnectionId) -> usize {
        self.open_entry(connection)
            .map_or(0, |entry| entry.socket().recv_queue())
    }

    /// Queues bytes to be sent and returns how many found room. If it was not all, an event says when there is room again.
    ///
    /// # Errors
    /// This side has closed, or the connection is gone: see [`ConnectionError`].
    pub fn send(&mut self, connection: ConnectionId, bytes: &[u8]) -> Result<usize, ConnectionError> {
        let entry = self.open_entry(connection)?;
        let mut sent = 0;
        // The ring's end may split it in two.
        while sent < bytes.len() {
            match entry.socket_mut().send_slice(&bytes[sent..]) {
                Ok(0) => {
                    entry.wants_room = true;
                    break;
                }
                Ok(count) => sent += count,
                Err(tcp::SendError::InvalidState) => return Err(ConnectionError::Gone),
            }
        }
        if sent > 0 {
            self.lines.join(Line::Send, self.entries, connection.slot);
        }
        Ok(sent)
    }

    /// Bytes that [`send`](Service::send) would take now; 0 also says that an event is wanted when there is room again.
    pub fn send_room(&mut self, connection: ConnectionId) -> usize {
        let Ok(entry) = self.open_entry(connection) else {
            return 0;
        };
        let socket = entry.socket();
        let room = if socket.may_send() {
            socket.send_capacity() - socket.send_queue()
        } else {
            0
        };
        entry.wants_room |= room == 0;
        room
    }

    /// Closes the connection once everything is sent. The application hears no more of it.
    pub fn close(&mut self, connection: ConnectionId) {
        let until_us = self.clock_us + self.config.linger_us();
        if let Ok(entry) = self.open_entry(connection) {
            entry.socket_mut().close();
            self.leave(connection, until_us);
        }
    }

    /// Resets the connection: the client sees an error. The application hears no more of it.
    pub fn abort(&mut self, connection: ConnectionId) {
        let until_us = self.clock_us + super::RESET_US;
        if let Ok(entry) = self.open_entry(connection) {
            entry.socket_mut().abort();
            self.leave(connection, until_us);
        }
    }

    fn leave(&mut self, connection: ConnectionId, until_us: i64) {
        self.entries[connection.slot()].leave(until_us);
        self.count(connection.slot);
        self.touch(connection.slot);
    }
}
