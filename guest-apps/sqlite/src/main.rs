//! The guest: joins the server with the kernel and the pair.
//!
//! The database's pages lie in one class, SQLite's heap and the clients in another, SQLite's variables in the checkpointed
//! section. One worker runs the event loop, on a stack as deep as SQLite's parser may need.
#![no_std]
#![no_main]

extern crate alloc;
// What SQLite needs of a C library.
extern crate tinyrlibc as _;

use alloc::boxed::Box as HeapBox;
use alloc::format;
use alloc::string::String;

use allocator_api2::boxed::Box;
use hs_core::class::{Class, ClassId};
use hs_core::platform::{Exit, Machine, Priority};
use hs_core::registry::thread::{self, Work};
use hs_net::node::{Node, node};
use hs_net::service::ConnectionId;
use hs_net::transport::NodeTransport;
use kernel::Guest;
use sqlite::engine::{self, Engine};
use sqlite::options::Options;
use sqlite::server::Server;
use sqlite::shell::Surroundings;

kernel::entry!(main);

/// The application's own number: nodes pair only with the same.
const APPLICATION: u64 = u64::from_be_bytes(*b"hs-sql\0\x01");

/// The database file.
const DATA: ClassId = ClassId(1);
/// SQLite's heap, the clients, and the server itself.
const HEAP: ClassId = ClassId(2);

/// What the classes begin with; they double as they need.
const DATA_BYTES: usize = 4 << 20;
const HEAP_BYTES: usize = 4 << 20;
/// Most that SQLite's heap holds: caches and results, beside the database.
const HEAP_BYTES_MAX: usize = 32 << 20;

/// SQLite's parser and its code generator call themselves, as deep as expressions are nested.
const STACK_BYTES: usize = 1 << 20;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 16;

fn main(guest: &'static Guest) -> ! {
    if let Err(error) = options(guest) {
        hs_net::node::refuse(guest, &error);
    }
    let pair = guest.options().pair.as_ref();
    hs_net::node::serve(guest, guest.memory(), pair, guest.nics(), APPLICATION, start)
}

fn options(guest: &Guest) -> Result<Options, String> {
    let words = guest.options().application.iter().map(String::as_str);
    Options::parse(words).map_err(|error| format!("{error}"))
}

/// Starts SQLite and makes the server, on a first master.
fn start(node: &'static Node) -> Result<(), String> {
    let options = options(kernel::guest())?;
    let data = Class::create(DATA, DATA_BYTES).map_err(|error| format!("{error}"))?;
    let heap = Class::create(HEAP, HEAP_BYTES).map_err(|error| format!("{error}"))?;
    let engine = Engine::start(heap, HEAP_BYTES_MAX, data, options.memory_bytes());
    let engine = engine.map_err(|error| format!("{error}"))?;
    let no_memory = || String::from("there is no memory for the server");
    let server = Server::new(engine, heap).map_err(|_| no_memory())?;
    let sqlite = Box::try_new_in(Sqlite { server }, heap).map_err(|_| no_memory())?;
    node.service()
        .listen_with(options.port, BACKLOG, options.commit)
        .map_err(|error| format!("{error}"))?;
    thread::register_state(Box::leak(sqlite)).map_err(|error| format!("{error}"))
}

/// The worker. It lies in a class.
struct Sqlite {
    server: Server<ConnectionId>,
}

impl Work for Sqlite {
    fn work(&'static mut self) {
        let body = HeapBox::new(move || self.serve());
        match kernel::thread::spawn("sqlite", Priority::Normal, STACK_BYTES, body) {
            Ok(thread) => thread.join(),
            Err(error) => {
                log::error!("sqlite cannot start: {error}");
                kernel::guest().exit(Exit::Refused)
            }
        }
    }
}

impl Sqlite {
    fn serve(&mut self) {
        let node = node();
        engine::set_breather(breathe);
        let mut transport = NodeTransport(node);
        let surroundings = Surroundings {
            machine: node.machine(),
            files: node.files().map(|files| files as _),
        };
        self.server.resume(&mut transport, surroundings);
        loop {
            let seen = node.look();
            let round = self.server.round(&mut transport, surroundings);
            node.keep(round.changed);
            if !round.busy {
                node.rest(seen, None);
            }
        }
    }
}

/// Looks after the network while SQLite is at work. No checkpoint can be taken from here, so what other clients were told in
/// this round waits until the statement has ended or has a row.
fn breathe() {
    let node = node();
    node.look();
    node.service().flush(node.machine().now());
}
