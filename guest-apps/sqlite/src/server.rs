//! Looks after the clients, each with a session of its own.
//!
//! One loop serves all in turn: [`Server::round`] has every session work for a bounded time; [`Server::deliver`] sends what they
//! have said. Between the two, what was changed can be made safe: an answer that is delivered after its checkpoint is kept is
//! true on the spare as well. One checkpoint covers all clients of a round.
//!
//! The server is free of I/O: a [`Transport`] carries the bytes.

use core::time::Duration;

use allocator_api2::vec::Vec;
use hs_core::class::Class;
use hs_net::transport::{End, News, Transport};

use crate::engine::Engine;
use crate::shell::{INPUT_BYTES, Next, Session, Surroundings};

/// Clients at once.
pub const CLIENTS_MAX: usize = 32;

/// How long a session may work in one turn. A step of SQLite is never divided.
pub const TURN: Duration = Duration::from_millis(5);

/// What a round has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Round {
    /// The database was changed: a checkpoint is due.
    pub changed: bool,
    /// There is more to do at once.
    pub busy: bool,
}

#[derive(Debug)]
struct Client<C> {
    connection: C,
    session: Session,
    /// The client sends no more.
    has_finished: bool,
    /// Its session is over; what it has said is still to be sent.
    is_leaving: bool,
}

/// The server with all its state. `C` names a connection.
#[derive(Debug)]
pub struct Server<C> {
    // First what uses the engine.
    clients: Vec<Option<Client<C>>, Class>,
    engine: Engine,
    memory: Class,
    writes: u64,
}

/// There is no memory for the table of clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl<C: Copy + PartialEq> Server<C> {
    /// A server without clients, in `memory`.
    ///
    /// # Errors
    /// There is no memory for their table.
    pub fn new(engine: Engine, memory: Class) -> Result<Self, NoMemory> {
        let mut clients = Vec::new_in(memory);
        clients.try_reserve_exact(CLIENTS_MAX).map_err(|_| NoMemory)?;
        clients.resize_with(CLIENTS_MAX, || None);
        Ok(Self {
            clients,
            engine,
            memory,
            writes: 0,
        })
    }

    /// Clients that are there.
    pub fn clients(&self) -> usize {
        self.clients.iter().flatten().count()
    }

    /// After a takeover: rolls back what the clients had open whose connections are no more.
    pub fn resume(&mut self, transport: &mut impl Transport<Connection = C>) {
        self.engine.reseed();
        for client in &mut self.clients {
            let gone = client
                .take_if(|client| !transport.is_open(client.connection))
                .map(|client| client.session);
            if let Some(session) = gone {
                session.end(&self.engine, None);
            }
        }
    }

    /// Takes in what has happened, and has every session work for a while.
    pub fn round(
        &mut self,
        transport: &mut impl Transport<Connection = C>,
        surroundings: Surroundings<'_>,
    ) -> Round {
        // Each connection has one event at most, until it is served.
        for _ in 0..2 * CLIENTS_MAX {
            let Some((connection, news)) = transport.next_event() else {
                break;
            };
            self.take_news(transport, surroundings, connection, news);
        }
        let mut busy = false;
        for index in 0..CLIENTS_MAX {
            busy |= self.serve(index, transport, surroundings);
        }
        let writes = self.engine.volume(|volume| volume.writes());
        let changed = core::mem::replace(&mut self.writes, writes) != writes;
        Round { changed, busy }
    }

    /// Sends what the sessions have said. Whether one of them can go on now that could not.
    pub fn deliver(
        &mut self,
        transport: &mut impl Transport<Connection = C>,
        surroundings: Surroundings<'_>,
    ) -> bool {
        let mut busy = false;
        for index in 0..CLIENTS_MAX {
            let Some(client) = &mut self.clients[index] else {
                continue;
            };
            let output = client.session.output();
            let before = output.pending().len();
            let mut gone = output.is_broken();
            while !output.pending().is_empty() && !gone {
                match transport.send(client.connection, output.pending()) {
                    Ok(0) => break,
                    Ok(count) => output.advance(count),
                    Err(_) => gone = true,
                }
            }
            let left = output.pending().len();
            busy |= left < before;
            if gone {
                transport.abort(client.connection);
                self.remove(index, surroundings);
            } else if client.is_leaving && left == 0 {
                transport.close(client.connection);
                self.remove(index, surroundings);
            }
        }
        busy
    }

    fn take_news(
        &mut self,
        transport: &mut impl Transport<Connection = C>,
        surroundings: Surroundings<'_>,
        connection: C,
        news: News,
    ) {
        let known = self.clients.iter().position(|client| {
            client
                .as_ref()
                .is_some_and(|client| client.connection == connection)
        });
        match known {
            Some(index) if news.closed => self.remove(index, surroundings),
            None if news.opened && !news.closed => self.accept(transport, connection),
            _ => {}
        }
    }

    fn accept(&mut self, transport: &mut impl Transport<Connection = C>, connection: C) {
        let free = self.clients.iter_mut().find(|client| client.is_none());
        let refusal = match (free, Session::new(&self.engine, self.memory)) {
            (Some(place), Ok(session)) => {
                *place = Some(Client {
                    connection,
                    session,
                    has_finished: false,
                    is_leaving: false,
                });
                return;
            }
            (None, _) => "Error: too many clients\n",
            (_, Err(_)) => "Error: out of memory\n",
        };
        // As much of it as goes: the connection has just been opened, its buffer is empty.
        let _ = transport.send(connection, refusal.as_bytes());
        transport.close(connection);
    }

    /// Whether the client's session has more to do.
    fn serve(
        &mut self,
        index: usize,
        transport: &mut impl Transport<Connection = C>,
        surroundings: Surroundings<'_>,
    ) -> bool {
        let Some(client) = self.clients[index].as_mut().filter(|client| !client.is_leaving) else {
            return false;
        };
        let until = surroundings.machine.now() + TURN;
        let mut scratch = [0; INPUT_BYTES];
        loop {
            match client.session.work(&self.engine, surroundings, until) {
                Next::More => return true,
                Next::Room => return false,
                Next::Leave => {
                    client.is_leaving = true;
                    return false;
                }
                Next::Input if client.has_finished => {
                    client.is_leaving = true;
                    return false;
                }
                Next::Input => {}
            }
            let room = client.session.room();
            match transport.receive(client.connection, &mut scratch[..room]) {
                Ok(0) => return false,
                Ok(count) => client.session.feed(&scratch[..count]),
                Err(End::Finished) => client.has_finished = true,
                Err(End::Gone) => {
                    self.remove(index, surroundings);
                    return false;
                }
            }
        }
    }

    fn remove(&mut self, index: usize, surroundings: Surroundings<'_>) {
        if let Some(client) = self.clients[index].take() {
            client.session.end(&self.engine, Some(surroundings));
        }
    }
}

#[cfg(test)]
mod tests;
