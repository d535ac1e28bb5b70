//! What the stack keeps of a socket beside smoltcp, and what the application is told of it.

use hs_core::lines::{Lines, Links};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::EthernetAddress;

use super::demux::Place;
use super::probe::End;

/// Names a connection for as long as the application knows it; never used again for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId {
    pub(super) slot: u16,
    pub(super) generation: u32,
}

impl ConnectionId {
    /// Which of the stack's sockets it has: below [`ServiceConfig::connections_max`](super::ServiceConfig) plus
    /// [`LISTENERS_MAX`](super::LISTENERS_MAX), so that it can be an index.
    pub fn slot(self) -> usize {
        usize::from(self.slot)
    }
}

/// A connection has news.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Which connection.
    pub connection: ConnectionId,
    /// What has happened since the last event for it; several things, perhaps.
    pub news: News,
}

/// What has happened to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// It is new.
    pub opened: bool,
    /// Bytes have arrived, or the peer has closed its half: read until nothing is left.
    pub readable: bool,
    /// There is room again after a [`send`](super::Service::send) that did not find enough: half of the buffer at least.
    pub writable: bool,
    /// It is gone: reset, timed out, or closed by both.
    pub closed: bool,
}

impl News {
    pub(super) fn any(self) -> bool {
        self.opened || self.readable || self.writable || self.closed
    }
}

/// The life of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// For anybody.
    Free,
    /// Its socket is a listener's.
    Listening,
    /// A SYN was answered.
    HalfOpen {
        /// Until this moment of the stack's clock it must be complete.
        until_us: i64,
    },
    /// The application's.
    Open,
    /// Ended, and the application is still to be told.
    Gone,
    /// The application has left it; the socket winds down.
    Closing {
        /// At this moment of the stack's clock it is reset.
        until_us: i64,
    },
}

/// What entries wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// To be a connection's.
    Free,
    /// To send, and to have their next moment noted.
    Send,
    /// To be looked at for news.
    Look,
    /// For the application to take their news.
    Ready,
    /// For stray segments of an old connection: whoever needs an entry may have them.
    TimeWait,
    /// For their client's machine to say where it is.
    Neighbour,
}

const LINES: usize = 6;

impl From<Line> for usize {
    fn from(line: Line) -> usize {
        line as usize
    }
}

/// The lines of entries.
pub(super) type EntryLines = Lines<LINES>;

/// What the stack keeps of a socket.
#[derive(Debug)]
pub(super) struct Entry {
    /// The socket, in a set of its own: smoltcp looks at each socket of a set that it is given.
    pub(super) sockets: SocketSet<'static>,
    handle: SocketHandle,
    pub(super) links: Links<LINES>,
    place: Place,
    generation: u32,
    pub(super) phase: Phase,
    /// The listener's port.
    pub(super) port: u16,
    /// The client, and where its frames come from.
    pub(super) peer: Option<(EthernetAddress, End)>,
    pub(super) news: News,
    /// Bytes in the receive buffer, and whether the peer had finished, when the application was last told.
    pub(super) unread: usize,
    pub(super) finished: bool,
    pub(super) wants_room: bool,
    /// It was counted against its listener's backlog.
    pub(super) counted: bool,
    /// It is of a service that opted out of output commit.
    pub(super) prompt: bool,
}

impl AsMut<Links<LINES>> for Entry {
    fn as_mut(&mut self) -> &mut Links<LINES> {
        &mut self.links
    }
}

impl AsRef<Place> for Entry {
    fn as_ref(&self) -> &Place {
        &self.place
    }
}

impl AsMut<Place> for Entry {
    fn as_mut(&mut self) -> &mut Place {
        &mut self.place
    }
}

impl Entry {
    /// With `socket` in `sockets`, which has room for this one.
    pub(super) fn new(mut sockets: SocketSet<'static>, socket: tcp::Socket<'static>) -> Self {
        Self {
            handle: sockets.add(socket),
            sockets,
            links: Links::new(),
            place: Place::new(),
            generation: 0,
            phase: Phase::Free,
            port: 0,
            peer: None,
            news: News::default(),
            unread: 0,
            finished: false,
            wants_room: false,
            counted: false,
            prompt: false,
        }
    }

    pub(super) fn socket(&self) -> &tcp::Socket<'static> {
        self.sockets.get(self.handle)
    }

    pub(super) fn socket_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// The moment at which its phase ends by itself, on the stack's clock.
    pub(super) fn phase_until_us(&self) -> Option<i64> {
        match self.phase {
            Phase::HalfOpen { until_us } => Some(until_us),
            Phase::Closing { until_us } => {
                (self.socket().state() != tcp::State::TimeWait).then_some(until_us)
            }
            Phase::Free | Phase::Listening | Phase::Open | Phase::Gone => None,
        }
    }

    /// Whether it only waits for stray segments of an old connection.
    pub(super) fn is_in_time_wait(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. }) && self.socket().state() == tcp::State::TimeWait
    }

    pub(super) fn id(&self, slot: u16) -> ConnectionId {
        ConnectionId {
            slot,
            generation: self.generation,
        }
    }

    /// Takes up a new life in `phase`.
    pub(super) fn begin(&mut self, phase: Phase) {
        self.generation = self.generation.wrapping_add(1);
        self.phase = phase;
        self.news = News::default();
        (self.unread, self.finished, self.wants_room) = (0, false, false);
        self.peer = None;
        self.prompt = false;
    }

    /// The application is done with it.
    pub(super) fn leave(&mut self, until_us: i64) {
        self.phase = Phase::Closing { until_us };
        self.news = News::default();
    }

    /// Whether it counts against its listener's backlog: the application does not know it yet.
    pub(super) fn is_in_backlog(&self) -> bool {
        matches!(self.phase, Phase::HalfOpen { .. }) || (self.phase == Phase::Open && self.news.opened)
    }
}
