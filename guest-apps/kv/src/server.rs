//! Looks after the clients: reads requests, has them run, sends the replies.
//!
//! One loop serves all clients in turn ([`Server::round`]), each with a bounded share of a round, so that a busy
//! one does not starve the others. What a client sends is read only as fast as it is worked off: a client
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
//! The server is free of I/O: a [`Transport`] carries the bytes, and the time is an argument.

mod client;
mod clock;

use allocator_api2::vec::Vec;
use core::cmp::min;
use hs_net::transport::{News, Transport};

use self::client::{Client, Next, Work};
pub use self::clock::Clock;
use crate::Memory;
use crate::command::{Database, Statistics, Surroundings};
use crate::options::Options;
use crate::quota::Quota;
use crate::store::{OutOfMemory, Store};

/// Clients at once.
pub const CLIENTS_MAX: usize = 128;

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

/// The server with all its state. `C` names a connection.
#[derive(Debug)]
pub struct Server<A: Memory, C> {
    database: Database<A>,
    clients: Vec<Option<Client<A, C>>, A>,
    /// Whose turn comes first.
    turn: usize,
    next_id: u64,
    input: Quota,
    output: Quota,
    /// The newest time seen: it never goes back, even if another machine's clock is behind.
    clock_ms: u64,
}

impl<A: Memory, C: Copy + PartialEq> Server<A, C> {
    /// An empty server with its keys and values in `data` and everything else in `connections`. `random` has to be
    /// hard to guess.
    ///
    /// # Errors
    /// There is no memory for the table of clients.
    pub fn new(
        data: A,
        connections: A,
        options: Options,
        random: [u64; 4],
        now_ms: u64,
    ) -> Result<Self, OutOfMemory> {
        let [seed_0, seed_1, run_0, run_1] = random;
        let mut clients = Vec::new_in(connections);
        clients.try_reserve_exact(CLIENTS_MAX)?;
        clients.resize_with(CLIENTS_MAX, || None);
        Ok(Self {
            database: Database {
                store: Store::new(data, [seed_0, seed_1], options.memory_bytes()),
                statistics: Statistics::default(),
                options,
                clients: 0,
                run_id: [run_0, run_1],
                created_ms: now_ms,
            },
            clients,
            turn: 0,
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
        for index in 0..self.clients.len() {
            let Some(client) = &mut self.clients[index] else {
                continue;
            };
            if transport.is_open(client.connection) {
                client.resume(self.clock_ms);
            } else {
                self.remove(index);
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
        for _ in 0..2 * CLIENTS_MAX {
            let Some((connection, news)) = transport.next_event() else {
                break;
            };
            self.take_news(transport, connection, news);
        }
        let expired = self.database.store.expire_due(self.clock_ms, EXPIRE_PER_ROUND);

        let mut busy = expired == EXPIRE_PER_ROUND;
        let mut waiting = false;
        let mut work = Work(WORK_PER_ROUND);
        // Whoever finds the work spent begins the next round.
        let mut next_turn = self.turn + 1;
        for turn in self.turn..self.turn + CLIENTS_MAX {
            let spent = work.is_spent();
            match self.serve(turn % CLIENTS_MAX, &mut work, transport, surroundings, scratch) {
                Next::Sleep => {}
                Next::Wait => waiting = true,
                Next::Again => {
                    if spent && next_turn == self.turn + 1 {
                        next_turn = turn;
                    }
                    busy = true;
                }
            }
        }
        self.turn = next_turn % CLIENTS_MAX;

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
        let known = self.clients.iter_mut().position(|client| {
            client
                .as_ref()
                .is_some_and(|client| client.connection == connection)
        });
        match known {
            Some(index) if news.closed => self.remove(index),
            Some(index) => {
                if let Some(client) = &mut self.clients[index] {
                    client.wake();
                }
            }
            None if news.opened && !news.closed => self.accept(transport, connection),
            None => {}
        }
    }

    fn accept(&mut self, transport: &mut impl Transport<Connection = C>, connection: C) {
        let Some(address) = transport.peer(connection) else {
            return;
        };
        let free = self.clients.iter().position(Option::is_none);
        if let Some(index) = free {
            let memory = self.clients.allocator().clone();
            let data = self.database.store.memory();
            let client = Client::new(&memory, &data, connection, self.next_id, address, self.clock_ms);
            self.next_id += 1;
            self.database.statistics.connections += 1;
            self.database.clients += 1;
            self.clients[index] = Some(client);
        } else {
            self.database.statistics.rejected_connections += 1;
            // As much of it as goes: the connection has just been opened, its buffer is empty.
            let _ = transport.send(connection, b"-ERR max number of clients reached\r\n");
            transport.close(connection);
        }
    }

    fn serve(
        &mut self,
        index: usize,
        work: &mut Work,
        transport: &mut impl Transport<Connection = C>,
        surroundings: &dyn Surroundings,
        scratch: &mut [u8; SCRATCH_BYTES],
    ) -> Next {
        let Some(client) = &mut self.clients[index] else {
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
            Ok(next) => next,
            Err(end) => {
                let connection = client.connection;
                match end {
                    client::Leave::Close => transport.close(connection),
                    client::Leave::Abort => transport.abort(connection),
                    client::Leave::Gone => {}
                }
                self.remove(index);
                Next::Sleep
            }
        }
    }

    /// Throws out the clients that keep memory from those that wait for it.
    fn abort_stuck(&mut self, transport: &mut impl Transport<Connection = C>) {
        for index in 0..self.clients.len() {
            if let Some(client) = &self.clients[index]
                && client.is_stuck(self.clock_ms)
            {
                transport.abort(client.connection);
                self.remove(index);
            }
        }
    }

    fn remove(&mut self, index: usize) {
        if let Some(mut client) = self.clients[index].take() {
            client.release(&mut self.input, &mut self.output);
            self.database.clients -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
