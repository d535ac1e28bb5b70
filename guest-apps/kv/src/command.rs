//! What requests mean: finds the command, checks it, runs it.
//!
//! The commands stand in one table, as [`Command`]s, with what `COMMAND` tells of them. Each is a function on a [`Call`]
//! that writes its reply and returns `Ok`, or a [`Refusal`]; a refusal takes back what was written and is
//! the reply instead.
//!
//! A call either has its whole effect and its whole reply, or neither: whatever can fail for want of memory
//! comes before the change. A little room for the reply is [reserved](REPLY_ROOM_BYTES) before the command
//! starts, so short replies cannot fail at all; a command with a long reply writes it first and changes the
//! data last. So a call that found no room for its reply may simply be run again later.

mod connection;
mod expiry;
mod info;
mod introspection;
mod keyspace;
mod refusal;
mod strings;
mod table;

use allocator_api2::vec::Vec;
use core::net::SocketAddr;

use hs_core::event::Status;
use hs_core::role::{Role, Term};

pub use self::refusal::Refusal;
pub use self::table::{Command, Flags, Group, Keys};
use crate::Memory;
use crate::options::Options;
use crate::quota::Quota;
use crate::resp::{Full, Output, Reply, Request};
use crate::store::{Found, OutOfMemory, Store};

/// Room for a reply, in bytes, that is there before a command starts. No refusal is longer.
pub const REPLY_ROOM_BYTES: usize = 1024;

/// Longest name that a client may give itself, in bytes.
const CLIENT_NAME_LEN_MAX: usize = 512;

/// What the server knows of the world around it when it is asked.
pub trait Surroundings {
    /// The pair, as this node sees it.
    fn pair(&self) -> Pair;
}

/// What `INFO hotspare` tells.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// This node's role.
    pub role: Role,
    /// The term it has it in.
    pub term: Term,
    /// Whether a spare holds the newest checkpoints.
    pub spare: bool,
    /// Checkpoints so far.
    pub status: Status,
    /// Identifies the build.
    pub build_id: [u8; 20],
}

/// Counters over the life of the data, on whatever machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Clients accepted.
    pub connections: u64,
    /// Clients refused because there were too many.
    pub rejected_connections: u64,
    /// Commands run.
    pub commands: u64,
    /// Error replies.
    pub errors: u64,
    /// Keys looked for and found.
    pub hits: u64,
    /// Keys looked for in vain.
    pub misses: u64,
    /// Bytes read from clients.
    pub input_bytes: u64,
    /// Bytes sent to clients.
    pub output_bytes: u64,
    /// Changes of the data.
    pub changes: u64,
}

/// The data and everything else that all clients share.
#[derive(Debug)]
pub struct Database<A: Memory> {
    /// The data.
    pub store: Store<A>,
    /// Counters.
    pub statistics: Statistics,
    /// Settings.
    pub options: Options,
    /// Clients connected now.
    pub clients: usize,
    /// Clients at once.
    pub clients_max: usize,
    /// Random, to tell one database from another.
    pub run_id: [u64; 2],
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
}

/// One client, as commands see it.
#[derive(Debug)]
pub struct Session<A: Memory> {
    /// Its number, counted from 1.
    pub id: u64,
    /// Where it comes from.
    pub address: SocketAddr,
    /// When it came, in milliseconds since 1970.
    pub connected_ms: u64,
    /// Its connection is to be closed once all replies are sent.
    pub closing: bool,
    /// It is one datagram, and no connection.
    is_datagram: bool,
    name: Vec<u8, A>,
    library_name: Vec<u8, A>,
    library_version: Vec<u8, A>,
}

impl<A: Memory> Session<A> {
    /// A client without a name.
    pub fn new(memory: &A, id: u64, address: SocketAddr, connected_ms: u64) -> Self {
        let unnamed = || Vec::new_in(memory.clone());
        Self {
            id,
            address,
            connected_ms,
            closing: false,
            is_datagram: false,
            name: unnamed(),
            library_name: unnamed(),
            library_version: unnamed(),
        }
    }

    /// What a datagram has in place of one: commands on the connection are refused.
    pub fn of_a_datagram(memory: &A, address: SocketAddr, now_ms: u64) -> Self {
        Self {
            is_datagram: true,
            ..Self::new(memory, 0, address, now_ms)
        }
    }
}

/// A command on its way through.
pub struct Call<'a, A: Memory> {
    request: &'a Request<A>,
    reply: Reply<'a, A>,
    database: &'a mut Database<A>,
    session: &'a mut Session<A>,
    surroundings: &'a dyn Surroundings,
    now_ms: u64,
    /// A key whose value is the block of this argument.
    adoption: Option<(Found, usize)>,
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is answered.
    Answered,
    /// There was no room for its reply, and nothing was done: run it again when there is.
    NoRoom,
}

/// Runs `request`, which is whole and may lose its large arguments to the store, and writes its reply to `output`, whose memory comes from `quota`.
pub fn run<A: Memory>(
    request: &mut Request<A>,
    output: &mut Output<A>,
    quota: &mut Quota,
    database: &mut Database<A>,
    session: &mut Session<A>,
    surroundings: &dyn Surroundings,
    now_ms: u64,
) -> Outcome {
    let mut reply = Reply::new(output, quota);
    if reply.reserve(REPLY_ROOM_BYTES).is_err() {
        return Outcome::NoRoom;
    }
    let mark = reply.mark();
    let mut call = Call {
        request,
        reply,
        database,
        session,
        surroundings,
        now_ms,
        adoption: None,
    };
    let result = call.dispatch();
    let Call {
        mut reply, adoption, ..
    } = call;
    let refused = match result {
        Ok(()) => false,
        Err(Refusal::NoRoom) => {
            reply.take_back(mark);
            return Outcome::NoRoom;
        }
        Err(Refusal::Silence) => true,
        Err(refusal) => {
            reply.take_back(mark);
            if reply.error(refusal.with(request)).is_err() {
                return Outcome::NoRoom;
            }
            true
        }
    };
    if let Some((found, index)) = adoption {
        database.store.adopt(found, request.take_large(index));
    }
    database.statistics.commands += 1;
    database.statistics.errors += u64::from(refused);
    Outcome::Answered
}

impl<'a, A: Memory> Call<'a, A> {
    fn dispatch(&mut self) -> Result<(), Refusal> {
        let name = self.request.arg(0);
        let Some(command) = Command::<A>::find(Command::ALL, name) else {
            // A browser that was made to speak to this port: Redis cuts these off without a word.
            let is_browser = name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:");
            if is_browser && !self.session.is_datagram {
                self.session.closing = true;
                return Err(Refusal::Silence);
            }
            if self.database.options.crash && name.eq_ignore_ascii_case(b"crash") {
                panic!("a client ordered CRASH, and crash=on allows it");
            }
            return Err(Refusal::UnknownCommand);
        };
        let command = if self.request.len() > 1 && !command.subcommands.is_empty() {
            let subcommand = Command::find(command.subcommands, self.request.arg(1));
            subcommand.ok_or(Refusal::UnknownSubcommand(command.name))?
        } else {
            command
        };
        if !command.takes(self.request.len()) {
            return Err(Refusal::WrongArity(command.name));
        }
        if self.session.is_datagram && command.needs_connection() {
            return Err(Refusal::NeedsConnection(command.name));
        }
        (command.run)(self)
    }

    /// The argument at `index`, which the command's arity or a check of the number says is there.
    fn arg(&self, index: usize) -> &'a [u8] {
        self.request.arg(index)
    }

    fn args(&self) -> usize {
        self.request.len()
    }

    fn integer_arg(&self, index: usize) -> Result<i64, Refusal> {
        crate::number::parse(self.arg(index)).ok_or(Refusal::NotAnInteger)
    }

    /// Looks for a key that is to be read, and counts whether it is there.
    fn look_up(&mut self, key: &[u8]) -> Option<Found> {
        let found = self.database.store.find(key, self.now_ms);
        let statistics = &mut self.database.statistics;
        *(if found.is_some() {
            &mut statistics.hits
        } else {
            &mut statistics.misses
        }) += 1;
        found
    }

    /// Looks for a key that is to be changed.
    fn find(&mut self, key: &[u8]) -> Option<Found> {
        self.database.store.find(key, self.now_ms)
    }

    /// The data is changed: a checkpoint is due.
    fn changed(&mut self) {
        self.database.statistics.changes += 1;
    }

    fn reply_value(&mut self, found: Option<Found>) -> Result<(), Full> {
        self.reply
            .bulk_or_null(found.map(|found| self.database.store.value(found)))
    }
}

/// Puts `text` in place of what `kept` holds.
fn keep<A: Memory>(kept: &mut Vec<u8, A>, text: &[u8]) -> Result<(), OutOfMemory> {
    let mut copy = Vec::new_in(kept.allocator().clone());
    copy.try_reserve_exact(text.len())?;
    copy.extend_from_slice(text);
    *kept = copy;
    Ok(())
}
