//! Looks after the clients, each with a session of its own.
//!
//! One loop serves all in turn: in a [round](Server::round) every session works for a bounded time and has sent what it says.
//! What is sent waits in the service stack until the spare has the state that it comes from; one checkpoint covers all clients
//! of a round.
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
}

/// What becomes of a client that was served.
enum Fate {
    /// There is more to do at once.
    Busy,
    /// It waits for its client.
    Waits,
    /// It is over, and everything is sent.
    Through,
}

/// The connection is no more, or cannot go on.
struct Gone;

impl<C: Copy> Client<C> {
    /// Has the session work for a turn, and sends what it says.
    fn serve(
        &mut self,
        engine: &Engine,
        transport: &mut impl Transport<Connection = C>,
        surroundings: Surroundings<'_>,
    ) -> Result<Fate, Gone> {
        let next = self.work(engine, transport, surroundings)?;
        let sent = self.send(transport)?;
        Ok(match next {
            Next::Leave if self.session.output().pending().is_empty() => Fate::Through,
            Next::More => Fate::Busy,
            Next::Room if sent > 0 => Fate::Busy,
            Next::Room | Next::Input | Next::Leave => Fate::Waits,
        })
    }

    fn work(
        &mut self,
        engine: &Engine,
        transport: &mut impl Transport<Connection = C>,
        surroundings: Surroundings<'_>,
    ) -> Result<Next, Gone> {
        let until = surroundings.machine.now() + TURN;
        let mut scratch = [0; INPUT_BYTES];
        loop {
            match self.session.work(engine, surroundings, until) {
                Next::Input if self.has_finished => return Ok(Next::Leave),
                Next::Input => {}
                next => return Ok(next),
            }
            let room = self.session.room();
            match transport.receive(self.connection, &mut scratch[..room]) {
                Ok(0) => return Ok(Next::Input),
                Ok(count) => self.session.feed(&scratch[..count]),
                Err(End::Finished) => self.has_finished = true,
                Err(End::Gone) => return Err(Gone),
            }
        }
    }

    /// Sends what finds room; returns how many bytes.
    fn send(&mut self, transport: &mut impl Transport<Connection = C>) -> Result<usize, Gone> {
        let output = self.session.output();
        if output.is_broken() {
            return Err(Gone);
        }
        let mut sent = 0;
        while !output.pending().is_empty() {
            match transport.send(self.connection, output.pending()) {
                Ok(0) => break,
                Ok(count) => {
                    output.advance(count);
                    sent += count;
                }
                Err(_) => return Err(Gone),
            }
        }
        Ok(sent)
    }
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

    /// After a takeover: rolls back what the clients had open whose connections are no more. The others go on where they were.
    pub fn resume(&mut self, transport: &mut impl Transport<Connection = C>, surroundings: Surroundings<'_>) {
        self.engine.reseed();
        for place in &mut self.clients {
            let gone = place.take_if(|client| !transport.is_open(client.connection));
            if let Some(client) = gone {
                client.session.end(&self.engine, None);
            }
            if let Some(client) = place {
                client.session.resume(&self.engine, surroundings);
            }
        }
    }

    /// Takes in what has happened, has every session work for a while, and sends what they say.
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

    /// Whether there is more to do for the client at once.
    fn serve(
        &mut self,
        index: usize,
        transport: &mut impl Transport<Connection = C>,
        surroundings: Surroundings<'_>,
    ) -> bool {
        let Some(client) = self.clients[index].as_mut() else {
            return false;
        };
        let connection = client.connection;
        match client.serve(&self.engine, transport, surroundings) {
            Ok(Fate::Busy) => return true,
            Ok(Fate::Waits) => return false,
            Ok(Fate::Through) => transport.close(connection),
            Err(Gone) => transport.abort(connection),
        }
        self.remove(index, surroundings);
        false
    }

    fn remove(&mut self, index: usize, surroundings: Surroundings<'_>) {
        if let Some(client) = self.clients[index].take() {
            client.session.end(&self.engine, Some(surroundings));
        }
    }
}

#[cfg(test)]
mod tests;
