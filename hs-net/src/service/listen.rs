//! Listeners: one socket each in LISTEN, and SYNs that find the right one.

use core::fmt;

use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::IpAddress;

use super::Service;
use super::entry::{Entry, Phase};
use super::probe::Syn;
use crate::commit::Commit;

/// Most ports that a service listens on.
pub const LISTENERS_MAX: usize = 8;

/// Why a port is not listened on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenError {
    /// Port 0.
    NoPort,
    /// It is listened on already.
    InUse(u16),
    /// All [`LISTENERS_MAX`] listeners are in use.
    TooMany,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::NoPort => f.write_str("port 0 is no port to listen on"),
            ListenError::InUse(port) => write!(f, "port {port} is listened on already"),
            ListenError::TooMany => write!(f, "no more than {LISTENERS_MAX} ports can be listened on"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Listener {
    port: u16,
    backlog: usize,
    /// The descriptor that it belongs to, if to one.
    number: Option<u32>,
    /// The entry in LISTEN.
    armed: Option<u16>,
}

impl Service {
    /// Accepts connections to `port`, of which at most `backlog` may be half open or unknown to the application;
    /// further ones wait for their next attempt.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn listen(&mut self, port: u16, backlog: usize) -> Result<(), ListenError> {
        self.listen_for(None, port, backlog)
    }

    /// As [`listen`](Service::listen), for a service that may opt out of output commit with [`Commit::Async`]; the log says
    /// so then.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn listen_with(&mut self, port: u16, backlog: usize, commit: Commit) -> Result<(), ListenError> {
        self.listen_for(None, port, backlog)?;
        if commit == Commit::Async {
            let free = self.output.prompt_ports.iter_mut().find(|place| **place == 0);
            *free.ok_or(ListenError::TooMany)? = port;
            log::warn!("port {port}: what is answered does not wait for the spare, and may be lost");
        }
        Ok(())
    }

    /// As [`listen`](Service::listen), for descriptor `number`, if it is for one.
    pub(crate) fn listen_for(
        &mut self,
        number: Option<u32>,
        port: u16,
        backlog: usize,
    ) -> Result<(), ListenError> {
        self.due = None;
        if port == 0 {
            return Err(ListenError::NoPort);
        }
        if self
            .listeners
            .iter()
            .flatten()
            .any(|listener| listener.port == port)
        {
            return Err(ListenError::InUse(port));
        }
        let slot = self
            .listeners
            .iter_mut()
            .find(|slot| slot.is_none())
            .ok_or(ListenError::TooMany)?;
        *slot = Some(Listener {
            port,
            backlog: backlog.max(1),
            number,
            armed: None,
        });
        self.arm();
        Ok(())
    }

    /// No longer accepts what descriptor `number` listens for. Connections that there are go on.
    pub(crate) fn unlisten(&mut self, number: u32) {
        self.due = None;
        for index in 0..LISTENERS_MAX {
            if self.listeners[index].is_some_and(|listener| listener.number == Some(number)) {
                self.hide(index);
                let listener = self.listeners[index].take();
                let port = listener.map_or(0, |listener| listener.port);
                self.output
                    .prompt_ports
                    .iter_mut()
                    .filter(|place| **place == port)
                    .for_each(|place| *place = 0);
            }
        }
    }

    /// The port that descriptor `number` listens on, and its backlog.
    pub(crate) fn listens_on(&self, number: u32) -> Option<(u16, usize)> {
        let mut listeners = self.listeners.iter().flatten();
        let listener = listeners.find(|listener| listener.number == Some(number))?;
        Some((listener.port, listener.backlog))
    }

    /// Ends the listeners of all descriptors that are not to be `kept`.
    pub(crate) fn listeners_retain(&mut self, kept: impl Fn(u32) -> bool) {
        for index in 0..LISTENERS_MAX {
            let number = self.listeners[index].and_then(|listener| listener.number);
            if let Some(number) = number.filter(|number| !kept(*number)) {
                self.unlisten(number);
            }
        }
    }

    /// Whether some port is listened on.
    pub fn is_listening(&self) -> bool {
        self.listeners.iter().any(Option::is_some)
    }

    /// Gives a socket to every listener that has none, if there are any left.
    pub(super) fn arm(&mut self) {
        for index in 0..LISTENERS_MAX {
            let Some(Listener {
                port, armed: None, ..
            }) = self.listeners[index]
            else {
                continue;
            };
            let Some(slot) = self.free_entry() else { return };
            let entry = &mut self.entries[usize::from(slot)];
            let socket = self.sockets.get_mut::<tcp::Socket>(entry.handle);
            socket
                .listen(port)
                .expect("a free entry's socket is closed, and the port is not 0");
            entry.begin(Phase::Listening);
            if let Some(listener) = &mut self.listeners[index] {
                listener.armed = Some(slot);
            }
        }
    }

    /// An entry for a new connection: one that is free, or else one that only waits for stray segments of an old one.
    fn free_entry(&mut self) -> Option<u16> {
        let free = |entry: &Entry| entry.phase == Phase::Free;
        if let Some(slot) = self.entries.iter().position(free) {
            return Some(slot as u16);
        }
        let sockets = &self.sockets;
        let waiting = |entry: &Entry| {
            matches!(entry.phase, Phase::Closing { .. })
                && sockets.get::<tcp::Socket>(entry.handle).state() == tcp::State::TimeWait
        };
        let slot = self.entries.iter().position(waiting)?;
        self.entries[slot].phase = Phase::Free;
        Some(slot as u16)
    }

    pub(super) fn ingest_syn(&mut self, now: StackInstant, frame: &[u8], syn: &Syn) {
        let (port, ours) = (syn.local.1, syn.local.0 == self.config.network.address);
        let listener = self
            .listeners
            .iter()
            .position(|slot| slot.is_some_and(|listener| listener.port == port));
        let (Some(index), true) = (listener, ours) else {
            return self.ingest_segment(now, frame);
        };
        let twin = self.entry_of(syn);
        if let Some(slot) = twin {
            let entry = &mut self.entries[slot];
            let socket = self.sockets.get_mut::<tcp::Socket>(entry.handle);
            if socket.state() == tcp::State::TimeWait && matches!(entry.phase, Phase::Closing { .. }) {
                // Its client begins anew from the same port: listening forgets the old connection, closing ends that.
                socket.listen(port).expect("a socket in TIME-WAIT may listen");
                socket.close();
                entry.phase = Phase::Free;
            } else {
                self.hide(index);
                self.ingest_segment(now, frame);
                return self.arm();
            }
        }
        let backlog = self.listeners[index].map_or(0, |listener| listener.backlog);
        if self
            .entries
            .iter()
            .filter(|entry| entry.is_in_backlog(port))
            .count()
            >= backlog
        {
            self.counters.ignored += 1;
            return;
        }
        self.arm();
        let Some(slot) = self.listeners[index].and_then(|listener| listener.armed) else {
            self.counters.refused += 1;
            return self.ingest_segment(now, frame);
        };
        self.ingest_segment(now, frame);
        let entry = &mut self.entries[usize::from(slot)];
        if self.sockets.get::<tcp::Socket>(entry.handle).state() == tcp::State::SynReceived {
            entry.begin(Phase::HalfOpen {
                until_us: now.total_micros() + self.config.half_open_us(),
            });
            (entry.port, entry.peer) = (port, Some((syn.mac, syn.remote)));
            entry.prompt = self.output.prompt_ports.contains(&port);
            if let Some(listener) = &mut self.listeners[index] {
                listener.armed = None;
            }
            self.arm();
        }
    }

    /// The entry whose connection is the one that `syn` asks for.
    fn entry_of(&self, syn: &Syn) -> Option<usize> {
        let sockets = &self.sockets;
        self.entries.iter().position(|entry| {
            if matches!(entry.phase, Phase::Free | Phase::Listening) {
                return false;
            }
            let socket = sockets.get::<tcp::Socket>(entry.handle);
            let (remote, local) = (socket.remote_endpoint(), socket.local_endpoint());
            socket.state() != tcp::State::Closed
                && remote
                    .is_some_and(|end| (end.addr, end.port) == (IpAddress::Ipv4(syn.remote.0), syn.remote.1))
                && local.is_some_and(|end| end.port == syn.local.1)
        })
    }

    /// Takes the listener's socket out of LISTEN.
    fn hide(&mut self, index: usize) {
        if let Some(listener) = &mut self.listeners[index]
            && let Some(slot) = listener.armed.take()
        {
            let entry = &mut self.entries[usize::from(slot)];
            self.sockets.get_mut::<tcp::Socket>(entry.handle).close();
            entry.phase = Phase::Free;
        }
    }
}
