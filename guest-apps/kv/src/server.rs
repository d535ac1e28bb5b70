//! Looks after the clients: reads requests, has them run, sends the replies.
//!
//! One loop serves the clients in turn ([`Server::round`]), each with a bounded share of a round, so that a busy
//! one does not starve the others; those with nothing to do cost it nothing. What a client sends is read only as fast as it is worked off: a client
//! that does not take its replies is not read either, and TCP holds it back.
//!
//! ```text
//! connection ─> scratch ─> Request ─> command::run ─> Output ─> connection
//! ```
//! All of this but the scratch, half a request and half a reply included, lies in checkpointable memory. How much memory
//! requests and replies take together is bounded by two [`Quota`]s. A request or reply that does not fit waits
//! for others to finish theirs; after [`WAIT_MS`] it is refused. Whoever makes others wait by not taking its replies is
//! thrown out after [`STUCK_MS`]: it may answer TCP's probes for ever, so TCP never gives up on it.
//!
//! Datagrams are answered beside the connections ([`Server::answer`]).
//!
//! The server is free of I/O: a [`Transport`] carries the bytes, [`Datagrams`](hs_net::transport::Datagrams) the datagrams, and
//! the time is an argument.

mod client;
mod clock;
mod datagrams;

use allocator_api2::vec::Vec;
use core::cmp::min;
use hs_core::lines::{Lines, Links, SLOTS_MAX};
use hs_net::transport::{News, Transport};

use self::client::{Client, Next, Work};
pub use self::clock::Clock;
use crate::Memory;
use crate::command::{Database, Statistics, Surroundings};
use crate::options::Options;
use crate::quota::Quota;
use crate::store::{OutOfMemory, Store};

/// Memory for unfinished requests, in bytes.
pub const INPUT_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// Memory for replies on their way, in bytes.
pub const OUTPUT_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// How long a request or a reply waits for memory, in milliseconds.
pub const WAIT_MS: u64 = 30_000;

/// How long a client may hold unsent replies none of which go out while others wait for memory, in milliseconds. Less
/// than [`WAIT_MS`], so that those others are served and not refused.
pub const STUCK_MS: u64 = 5_000;

/// How soon a server in want of memory looks again, in milliseconds.
const WAIT_STEP_MS: u64 = 20;

/// Bytes read from a connection at once.
pub const SCRATCH_BYTES: usize = 16 * 1024;

/// Expired keys cleared away in one round.
const EXPIRE_PER_ROUND: usize = 200;

/// Work of one round, in bytes read or replied. Between rounds the network is looked after.
const WORK_PER_ROUND: usize = 512 * 1024;

/// What a round has done, and when the next is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Round {
    /// The data was changed: a checkpoint is due.
    pub changed: bool,
    /// There is more to do at once.
    pub busy: bool,
    /// There is something to do then, in milliseconds since 1970, even if no event comes.
    pub due_ms: Option<u64>,
}

impl Round {
    /// What both have done, and when the first of the two is due.
    #[must_use]
    pub fn and(self, other: Round) -> Round {
        Round {
            changed: self.changed || other.changed,
            busy: self.busy || other.busy,
            due_ms: self.due_ms.into_iter().chain(other.due_ms).min(),
        }
    }
}

/// What places for clients wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    /// A client.
    Free,
    /// Their client's turn.
    Turn,
    /// Their client to take its replies.
    Unsent,
}

const LINES: usize = 3;

impl From<Line> for usize {
    fn from(line: Line) -> usize {
        line as usize
    }
}

/// A place for a client.
#[derive(Debug)]
struct Place<A: Memory, C> {
    links: Links<LINES>,
    client: Option<Client<A, C>>,
}

impl<A: Memory, C> AsMut<Links<LINES>> for Place<A, C> {
    fn as_mut(&mut self) -> &mut Links<LINES> {
        &mut self.links
    }
}

/// The server with all its state. `C` names a connection.
#[derive(Debug)]
pub struct Server<A: Memory, C> {
    database: Database<A>,
    places: Vec<Place<A, C>, A>,
    lines: Lines<LINES>,
    /// The place of a connection's client, by the connection's index; [`NOWHERE`] if it has none.
    by_connection: Vec<u16, A>,
    next_id: u64,
    input: Quota,
    output: Quota,
    /// The newest time seen: it never goes back, even if another machine's clock is behind.
    clock_ms: u64,
}

/// No place.
const NOWHERE: u16 = u16::MAX;

impl<A: Memory, C: Copy + PartialEq> Server<A, C> {
    /// An empty server for `clients_max` clients at once, with its keys and values in `data` and everything else in
    /// `connections`. `random` has to be hard to guess.
    ///
    /// # Errors
    /// There is no memory for the table of clients.
    pub fn new(
        data: A,
        connections: A,
        options: Options,
        clients_max: usize,
        random: [u64; 4],
        now_ms: u64,
    ) -> Result<Self, OutOfMemory> {
        let [seed_0, seed_1, run_0, run_1] = random;
        let clients_max = clients_max.clamp(1, SLOTS_MAX);
        let by_connection = Vec::new_in(connections.clone());
        let mut places = Vec::new_in(connections);
        places.try_reserve_exact(clients_max)?;
        places.resize_with(clients_max, || Place {
            links: Links::new(),
            client: None,
        });
        let mut lines = Lines::new();
        for index in 0..clients_max as u16 {
            lines.join(Line::Free, &mut places, index);
        }
        Ok(Self {
            database: Database {
                store: Store::new(data, [seed_0, seed_1], options.memory_bytes()),
                statistics: Statistics::default(),
                options,
                clients: 0,
                clients_max,
                run_id: [run_0, run_1],
                created_ms: now_ms,
            },
            places,
            lines,
            by_connection,
            next_id: 1,
            input: Quota::new(INPUT_LIMIT_BYTES),
            output: Quota::new(OUTPUT_LIMIT_BYTES),
            clock_ms: now_ms,
        })
    }

    /// What was set when the server was made.
    pub fn options(&self) -> Options {
        self.database.options
    }

    /// The data and what belongs to it.
    pub fn database(&self) -> &Database<A> {
        &self.database
    }

    /// The newest time seen, in milliseconds since 1970: what a [`Clock`] goes on from.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// After a takeover: forgets the clients whose connections are no more, and takes up the others where they were.
    /// `now_ms` is a [`Clock`]'s.
    pub fn resume(&mut self, transport: &mut impl Transport<Connection = C>, now_ms: u64) {
        self.clock_ms = self.clock_ms.max(now_ms);
        for index in 0..self.places.len() as u16 {
            let Some(client) = &mut self.places[usize::from(index)].client else {
                continue;
            };
            if transport.is_open(client.connection) {
                client.resume(self.clock_ms);
                self.lines.join(Line::Turn, &mut self.places, index);
            } else {
                self.remove(transport, index);
            }
        }
    }

    /// Takes in what has happened and serves every client that has something to do. `scratch` is for input on its way,
    /// and need not be kept.
    pub fn round(
        &mut self,
        transport: &mut impl Transport<Connection = C>,
        surroundings: &dyn Surroundings,
        scratch: &mut [u8; SCRATCH_BYTES],
        now_ms: u64,
    ) -> Round {
        self.clock_ms = self.clock_ms.max(now_ms);
        let changes = self.database.statistics.changes;
        // Each connection has one event at most, until it is served.
        for _ in 0..2 * self.places.len() {
            let Some((connection, news)) = transport.next_event() else {
                break;
            };
            self.take_news(transport, connection, news);
        }
        let expired = self.database.store.expire_due(self.clock_ms, EXPIRE_PER_ROUND);

        let mut busy = expired == EXPIRE_PER_ROUND;
        let mut waiting = false;
        let mut work = Work(WORK_PER_ROUND);
        let last = self.lines.last(Line::Turn);
        while !work.is_spent()
            && let Some(index) = self.lines.leave(Line::Turn, &mut self.places)
        {
            let next = self.serve(index, &mut work, transport, surroundings, scratch);
            waiting |= next == Next::Wait;
            if next != Next::Sleep {
                self.lines.join(Line::Turn, &mut self.places, index);
            }
            busy |= next == Next::Again;
            if Some(index) == last {
                break;
            }
        }
        // Whoever finds the work spent begins the next round.
        busy |= work.is_spent() && !self.lines.is_empty(Line::Turn);
        if waiting {
            self.abort_stuck(transport);
        }

        let retry_ms = waiting.then_some(self.clock_ms + WAIT_STEP_MS);
        Round {
            changed: self.database.statistics.changes != changes,
            busy,
            due_ms: self
                .database
                .store
                .next_expiry_ms()
                .into_iter()
                .chain(retry_ms)
                .reduce(min),
        }
    }

    fn take_news(&mut self, transport: &mut impl Transport<Connection = C>, connection: C, news: News) {
        match self.place_of(transport, connection) {
            Some(index) if news.closed => self.remove(transport, index),
            Some(index) => {
                if let Some(client) = &mut self.places[usize::from(index)].client {
                    client.wake();
                    self.lines.join(Line::Turn, &mut self.places, index);
                }
            }
            None if news.opened && !news.closed => self.accept(transport, connection),
            None => {}
        }
    }

    /// Where the client of `connection` is.
    fn place_of(&self, transport: &impl Transport<Connection = C>, connection: C) -> Option<u16> {
        let index = *self.by_connection.get(transport.index(connection))?;
        let client = self.places.get(usize::from(index))?.client.as_ref()?;
        (client.connection == connection).then_some(index)
    }

    /// Notes where the client of `connection` is, and returns whether there was memory for that.
    fn note_place(&mut self, transport: &impl Transport<Connection = C>, connection: C, index: u16) -> bool {
        let at = transport.index(connection);
        if at >= self.by_connection.len() {
            let missing = at + 1 - self.by_connection.len();
            if self.by_connection.try_reserve(missing).is_err() {
                return false;
            }
            self.by_connection.resize(at + 1, NOWHERE);
        }
        self.by_connection[at] = index;
        true
    }

    fn accept(&mut self, transport: &mut impl Transport<Connection = C>, connection: C) {
        let Some(address) = transport.peer(connection) else {
            return;
        };
        let free = self.lines.leave(Line::Free, &mut self.places);
        if let Some(index) = free
            && self.note_place(transport, connection, index)
        {
            let memory = self.places.allocator().clone();
            let data = self.database.store.memory();
            let client = Client::new(&memory, &data, connection, self.next_id, address, self.clock_ms);
            self.next_id += 1;
            self.database.statistics.connections += 1;
            self.database.clients += 1;
            self.places[usize::from(index)].client = Some(client);
            self.lines.join(Line::Turn, &mut self.places, index);
            return;
        }
        if let Some(index) = free {
            self.lines.jump(Line::Free, &mut self.places, index);
        }
        self.database.statistics.rejected_connections += 1;
        // As much of it as goes: the connection has just been opened, its buffer is empty.
        let _ = transport.send(connection, b"-ERR max number of clients reached\r\n");
        transport.close(connection);
    }

    fn serve(
        &mut self,
        index: u16,
        work: &mut Work,
        transport: &mut impl Transport<Connection = C>,
        surroundings: &dyn Surroundings,
        scratch: &mut [u8; SCRATCH_BYTES],
    ) -> Next {
        let Some(client) = &mut self.places[usize::from(index)].client else {
            return Next::Sleep;
        };
        let mut service = client::Service {
            database: &mut self.database,
            input: &mut self.input,
            output: &mut self.output,
            surroundings,
            now_ms: self.clock_ms,
            work: *work,
            scratch,
        };
        let next = client.serve(&mut service, transport);
        *work = service.work;
        match next {
            Ok(next) => {
                if client.has_unsent() {
                    self.lines.join(Line::Unsent, &mut self.places, index);
                }
                next
            }
            Err(end) => {
                let connection = client.connection;
                match end {
                    client::Leave::Close => transport.close(connection),
                    client::Leave::Abort => transport.abort(connection),
                    client::Leave::Gone => {}
                }
                self.remove(transport, index);
                Next::Sleep
            }
        }
    }

    /// Throws out the clients that keep memory from those that wait for it.
    fn abort_stuck(&mut self, transport: &mut impl Transport<Connection = C>) {
        let last = self.lines.last(Line::Unsent);
        while let Some(index) = self.lines.leave(Line::Unsent, &mut self.places) {
            // Who has sent all since, or has gone, is out of the line with that.
            if let Some(client) = &self.places[usize::from(index)].client
                && client.has_unsent()
            {
                if client.is_stuck(self.clock_ms) {
                    transport.abort(client.connection);
                    self.remove(transport, index);
                } else {
                    self.lines.join(Line::Unsent, &mut self.places, index);
                }
            }
            if Some(index) == last {
                return;
            }
        }
    }

    fn remove(&mut self, transport: &impl Transport<Connection = C>, index: u16) {
        if let Some(mut client) = self.places[usize::from(index)].client.take() {
            client.release(&mut self.input, &mut self.output);
            let noted = &mut self.by_connection[transport.index(client.connection)];
            if *noted == index {
                *noted = NOWHERE;
            }
            self.database.clients -= 1;
            self.lines.jump(Line::Free, &mut self.places, index);
        }
    }
}

#[cfg(test)]
mod tests;
