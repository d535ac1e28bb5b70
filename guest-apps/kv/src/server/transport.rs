//! What the server needs of a network.

use core::net::SocketAddr;

/// Why nothing was received or sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The client has sent its last byte, and it was read.
    Finished,
    /// The connection is no more.
    Gone,
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
