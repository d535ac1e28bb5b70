//! Listeners: one socket each in LISTEN, and a count of those that the application does not know yet.

use core::fmt;

use super::Service;
use super::entry::{Entry, Line, Phase};
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
    /// Connections that count against the backlog.
    waiting: usize,
}

#[cfg(test)]
impl Listener {
    /// The port, and how many count against its backlog.
    pub(super) fn backlog_of(&self) -> (u16, usize) {
        (self.port, self.waiting)
    }
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
            self.tell_who_opted_out();
        }
        Ok(())
    }

    /// Says in the log which services opted out of output commit: on each machine that serves.
    pub(crate) fn tell_who_opted_out(&self) {
        for port in self.output.prompt_ports.iter().filter(|port| **port != 0) {
            log::warn!("port {port}: what is answered does not wait for the spare, and may be lost");
        }
    }

    /// As [`listen`](Service::listen), for descriptor `number`, if it is for one.
    pub(crate) fn listen_for(
        &mut self,
        number: Option<u32>,
        port: u16,
        backlog: usize,
    ) -> Result<(), ListenError> {
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
        // Of an earlier listener, perhaps.
        let waits = |entry: &&Entry| entry.is_in_backlog() && entry.port == port;
        *slot = Some(Listener {
            port,
            backlog: backlog.max(1),
            number,
            armed: None,
            waiting: self.entries.iter().filter(waits).count(),
        });
        self.arm();
        Ok(())
    }

    /// No longer accepts what descriptor `number` listens for. Connections that there are go on.
    pub(crate) fn unlisten(&mut self, number: u32) {
        for index in 0..LISTENERS_MAX {
            if self.listeners[index].is_some_and(|listener| listener.number == Some(number)) {
                self.hide(index);
                let port = self.listeners[index].take().map_or(0, |listener| listener.port);
                let prompt = self.output.prompt_ports.iter_mut();
                prompt
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
            entry
                .socket_mut()
                .listen(port)
                .expect("a free entry's socket is closed, and the port is not 0");
            entry.begin(Phase::Listening);
            self.occupied.set(slot, true);
            if let Some(listener) = &mut self.listeners[index] {
                listener.armed = Some(slot);
            }
        }
    }

    /// An entry for a new connection: one that is free, or else one that only waits for stray segments of an old one.
    fn free_entry(&mut self) -> Option<u16> {
        if self.lines.is_empty(Line::Free) {
            // Who is in line may have begun anew since.
            while let Some(slot) = self.lines.leave(Line::TimeWait, self.entries) {
                if self.entries[usize::from(slot)].is_in_time_wait() {
                    self.vacate(slot);
                    break;
                }
            }
        }
        self.lines.leave(Line::Free, self.entries)
    }

    pub(super) fn listener_of(&self, port: u16) -> Option<usize> {
        let is_it = |slot: &Option<Listener>| slot.is_some_and(|listener| listener.port == port);
        self.listeners.iter().position(is_it)
    }

    pub(super) fn is_backlog_full(&self, index: usize) -> bool {
        self.listeners[index].is_none_or(|listener| listener.waiting >= listener.backlog)
    }

    /// The entry that listens for a listener.
    pub(super) fn armed(&self, index: usize) -> Option<u16> {
        self.listeners[index].and_then(|listener| listener.armed)
    }

    /// The listener's entry has become a connection.
    pub(super) fn disarm(&mut self, index: usize) {
        if let Some(listener) = &mut self.listeners[index] {
            listener.armed = None;
        }
    }

    /// Counts `slot` against its listener's backlog, or no longer.
    pub(super) fn count(&mut self, slot: u16) {
        let entry = &mut self.entries[usize::from(slot)];
        let waits = entry.is_in_backlog();
        if core::mem::replace(&mut entry.counted, waits) == waits {
            return;
        }
        let port = entry.port;
        for listener in self.listeners.iter_mut().flatten() {
            if listener.port == port {
                listener.waiting = match waits {
                    true => listener.waiting + 1,
                    false => listener.waiting.saturating_sub(1),
                };
            }
        }
    }

    /// Takes the listener's socket out of LISTEN.
    fn hide(&mut self, index: usize) {
        if let Some(listener) = &mut self.listeners[index]
            && let Some(slot) = listener.armed.take()
        {
            self.entries[usize::from(slot)].socket_mut().close();
            self.vacate(slot);
        }
    }
}
